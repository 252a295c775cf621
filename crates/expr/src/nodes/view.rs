//! Views: the same elements, found in another way. The leaves below change their steps; nothing is moved where that suffices.

use crate::axes::{Axes, Axis, Index, Indices};
use crate::context::Context;
use crate::node::{Node, known, materialise};
use crate::settled::Settled;
use crate::shape::{MAX_RANK, Operation, Shape, ShapeError, ShapeErrorKind, Strides, placed};
use crate::source::{Leaf, Reader, RowSlice, Source};
use crate::terms::{Term, Terms};

/// The same elements, found by other steps.
#[derive(Clone, Copy, Debug)]
pub struct Relaid<V, X> {
    x: X,
    view: V,
    shape: Result<Shape, ShapeError>,
}

/// How a view changes the steps below it.
pub trait Relayout: Copy {
    /// Those of one leaf.
    fn apply(&self, strides: &mut Strides);

    /// As it stands in formulas, of a term, with the shape that comes of it.
    fn text(&self, x: Term, shape: &Shape) -> String;
}

impl<V: Relayout, X: Node> Node for Relaid<V, X> {
    type Elem = X::Elem;
    type Source<'e>
        = X::Source<'e>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let x = self.x.term(terms);
        terms.plain::<X::Elem>(self.view.text(x, known(&self.shape)))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let (from, shape) = (*known(&self.x.checked_shape()), known(&self.shape));
        let mut strides = Strides::row_major(&from);
        self.view.apply(&mut strides);
        let is_in_order = from.elements() == shape.elements() && strides.is_row_major(shape);
        let withheld = (!is_in_order).then(|| context.withhold());
        let mut source = self.x.prepare(context, &from);
        if let Some(withheld) = withheld {
            context.offer(withheld);
        }
        source.relayout(&mut |strides| {
            self.view.apply(strides);
            *strides = strides.stretched(shape, to);
        });
        source
    }
}

/// Axes in another order; see [`Expr::permute`](crate::Expr::permute).
pub type Permute<X> = Relaid<Order, X>;

/// Which axis stands in the place of each.
#[derive(Clone, Copy, Debug)]
pub struct Order([usize; MAX_RANK]);

impl Relayout for Order {
    fn apply(&self, strides: &mut Strides) {
        strides.permute(&self.0);
    }

    fn text(&self, x: Term, shape: &Shape) -> String {
        format!("permute({x}, {:?})", &self.0[..shape.rank()])
    }
}

impl<X: Node> Permute<X> {
    #[track_caller]
    pub(crate) fn new(x: X, order: &Axes) -> Self {
        let mut axes = [0, 1, 2, 3, 4, 5];
        let shape = placed(x.checked_shape().and_then(|shape| {
            axes = order.order(&shape, &"permute")?;
            Ok(shape.permuted(&axes[..shape.rank()]))
        }));
        Self { x, view: Order(axes), shape }
    }

    #[track_caller]
    pub(crate) fn transposing(x: X) -> Self {
        let mut order = [0, 1, 2, 3, 4, 5];
        let shape = placed(x.checked_shape().and_then(|shape| match shape.rank() {
            0 | 1 => Err(ShapeErrorKind::Axis { operation: &"transpose", shape, axis: -2 }.into()),
            rank => {
                order.swap(rank - 2, rank - 1);
                Ok(shape.permuted(&order[..rank]))
            }
        }));
        Self { x, view: Order(order), shape }
    }
}

/// Some indices of an axis; see [`Expr::slice`](crate::Expr::slice) and [`Expr::stepped`](crate::Expr::stepped).
pub type Slice<X> = Relaid<Walk, X>;

/// From an index of an axis on, by steps.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    axis: usize,
    first: usize,
    step: isize,
}

impl Relayout for Walk {
    fn apply(&self, strides: &mut Strides) {
        strides.skip(self.axis, self.first);
        strides.steps[self.axis] *= self.step;
    }

    fn text(&self, x: Term, shape: &Shape) -> String {
        let Self { axis, first, step } = self;
        match step {
            1 => format!("slice({x}, {axis}, {first}..{})", first + shape[*axis]),
            _ => format!("stepped({x}, {axis}, {} from {first} by {step})", shape[*axis]),
        }
    }
}

impl<X: Node> Slice<X> {
    #[track_caller]
    pub(crate) fn new(x: X, axis: Axis, range: Indices, step: isize, operation: Operation) -> Self {
        let mut view = Walk { axis: 0, first: 0, step: 1 };
        let shape = placed(x.checked_shape().and_then(|shape| {
            let (axis, range) = range.of(axis, &shape, operation)?;
            if step == 0 {
                return Err(ShapeErrorKind::Step { operation, shape }.into());
            }
            let count = range.len().div_ceil(step.unsigned_abs());
            let first = if step < 0 { range.end.saturating_sub(1) } else { range.start };
            // Steps that nobody takes may be too long to be multiplied.
            view = Walk { axis, first, step: if count > 1 { step } else { 1 } };
            Ok(shape.with_size(axis, count))
        }));
        Self { x, view, shape }
    }
}

/// One index of an axis; see [`Expr::index_axis`](crate::Expr::index_axis).
pub type IndexAxis<X> = Relaid<One, X>;

/// An index of an axis, which vanishes.
#[derive(Clone, Copy, Debug)]
pub struct One {
    axis: usize,
    index: usize,
}

impl Relayout for One {
    fn apply(&self, strides: &mut Strides) {
        strides.skip(self.axis, self.index);
        strides.remove(self.axis);
    }

    fn text(&self, x: Term, _: &Shape) -> String {
        format!("index_axis({x}, {}, {})", self.axis, self.index)
    }
}

impl<X: Node> IndexAxis<X> {
    #[track_caller]
    pub(crate) fn new(x: X, axis: Axis, index: Index) -> Self {
        let mut view = One { axis: 0, index: 0 };
        let shape = placed(x.checked_shape().and_then(|shape| {
            let (axis, index) = index.of(axis, &shape)?;
            view = One { axis, index };
            Ok(shape.without(|other| other == axis))
        }));
        Self { x, view, shape }
    }

    #[track_caller]
    pub(crate) fn squeezing(x: X, axis: Axis) -> Self {
        let mut view = One { axis: 0, index: 0 };
        let shape = placed(x.checked_shape().and_then(|shape| {
            let axis = axis.of(&shape, &"squeeze")?;
            view = One { axis, index: 0 };
            match shape[axis] {
                1 => Ok(shape.without(|other| other == axis)),
                _ => Err(ShapeErrorKind::Mismatch {
                    operation: &"squeeze",
                    left: shape,
                    right: shape.with_size(axis, 1),
                }
                .into()),
            }
        }));
        Self { x, view, shape }
    }
}

/// Another axis; see [`Expr::unsqueeze`](crate::Expr::unsqueeze).
pub type Unsqueeze<X> = Relaid<Insert, X>;

/// Before an axis, another one.
#[derive(Clone, Copy, Debug)]
pub struct Insert(usize);

impl Relayout for Insert {
    fn apply(&self, strides: &mut Strides) {
        strides.insert(self.0);
    }

    fn text(&self, x: Term, _: &Shape) -> String {
        format!("unsqueeze({x}, {})", self.0)
    }
}

impl<X: Node> Unsqueeze<X> {
    #[track_caller]
    pub(crate) fn new(x: X, axis: Axis) -> Self {
        let mut view = Insert(0);
        let shape = placed(x.checked_shape().and_then(|shape| {
            view = Insert(axis.between(&shape, &"unsqueeze")?);
            shape.inserted(view.0)
        }));
        Self { x, view, shape }
    }
}

/// Stretched to a shape; see [`Expr::broadcast_to`](crate::Expr::broadcast_to).
pub type BroadcastTo<X> = Relaid<Stretch, X>;

/// From one shape to another.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    from: Shape,
    to: Shape,
}

impl Relayout for Stretch {
    fn apply(&self, strides: &mut Strides) {
        strides.broadcast(&self.from, &self.to);
    }

    fn text(&self, x: Term, shape: &Shape) -> String {
        format!("broadcast_to({x}, {shape})")
    }
}

impl<X: Node> BroadcastTo<X> {
    #[track_caller]
    pub(crate) fn new(x: X, to: Result<Shape, ShapeError>) -> Self {
        let mut view = Stretch { from: Shape::SCALAR, to: Shape::SCALAR };
        let shape = placed(to.and_then(|to| {
            let from = x.checked_shape()?;
            view = Stretch { from, to };
            let stretched = from.broadcast(&to, &"broadcast_to")?;
            let mismatch = ShapeErrorKind::Mismatch { operation: &"broadcast_to", left: from, right: to };
            if stretched == to { Ok(to) } else { Err(mismatch.into()) }
        }));
        Self { x, view, shape }
    }
}

/// The same elements under another shape; see [`Expr::reshape`](crate::Expr::reshape).
#[derive(Clone, Copy, Debug)]
pub struct Reshape<X> {
    x: X,
    shape: Result<Shape, ShapeError>,
}

impl<X: Node> Reshape<X> {
    #[track_caller]
    pub(crate) fn new(x: X, to: Result<Shape, ShapeError>) -> Self {
        let shape = placed(to.and_then(|to| {
            let from = x.checked_shape()?;
            let mismatch = ShapeErrorKind::Mismatch { operation: &"reshape", left: from, right: to };
            if from.elements() == to.elements() { Ok(to) } else { Err(mismatch.into()) }
        }));
        Self { x, shape }
    }
}

impl<X: Node> Node for Reshape<X> {
    type Elem = X::Elem;
    type Source<'e>
        = Settled<'e, X::Source<'e>>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let x = self.x.term(terms);
        terms.plain::<X::Elem>(format!("reshape({x}, {})", known(&self.shape)))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let (from, own) = (*known(&self.x.checked_shape()), *known(&self.shape));
        relabelled(context, self.x.prepare(context, &from), (&from, &own), to)
    }
}

/// The elements of one shape in the order of another, stretched to a third one.
pub(super) fn relabelled<'e, S: Source>(
    context: &'e Context<'e>,
    mut source: S,
    (from, own): (&Shape, &Shape),
    to: &Shape,
) -> Settled<'e, S> {
    if source.reader().all(&mut |strides| strides.reshaped(from, own).is_some()) {
        let reshaped = |strides: &Strides| strides.reshaped(from, own).unwrap_or(*strides);
        source.relayout(&mut |strides| *strides = reshaped(strides).stretched(own, to));
        return Settled::As(source);
    }
    Settled::Moved(Leaf::own(materialise(context, source, from), own, to))
}

/// In memory, whatever else would be done; see [`Expr::materialise`](crate::Expr::materialise).
#[derive(Clone, Copy, Debug)]
pub struct Materialise<X>(pub(crate) X);

impl<X: Node> Node for Materialise<X> {
    type Elem = X::Elem;
    type Source<'e>
        = Leaf<'e, X::Elem>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.0.checked_shape()
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let x = self.0.term(terms);
        terms.dear::<X::Elem>(format!("materialise({x})"))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let own = *known(&self.checked_shape());
        Leaf::own(materialise(context, self.0.prepare(context, &own), &own), &own, to)
    }
}
