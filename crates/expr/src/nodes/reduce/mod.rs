//! Reductions: sums, means, products and extremes along axes, in one pass over what they are of, which is never materialised.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

mod order;
mod revise;
mod work;

use std::marker::PhantomData;

use crate::block::Block;
use crate::context::{Context, Withheld};
use crate::math::Element;
use crate::node::{Node, known};
use crate::nodes::Binary;
use crate::ops::{Mul, Reduction, Sum};
use crate::shape::{Axes, MAX_RANK, Shape, ShapeError, ShapeErrorKind, Strides, placed};
use crate::source::{Leaf, RowSlice, Source};
use crate::terms::{Term, Terms};

pub(super) use order::Order;
use order::{Crossing, is_in};
pub(super) use revise::{Revision, revise};
use work::Work;

/// A reduction along some axes; see [`Expr::sum`](crate::Expr::sum).
#[derive(Clone, Copy, Debug)]
pub struct Reduce<O, X> {
    pub(super) x: X,
    /// A bit for each axis.
    axes: u8,
    shape: Result<Shape, ShapeError>,
    op: PhantomData<O>,
}

impl<O: Reduction<X::Elem>, X: Node> Reduce<O, X> {
    #[track_caller]
    pub(crate) fn new(x: X, axes: Axes) -> Self {
        let mut set = 0;
        let shape = placed(x.checked_shape().and_then(|shape| {
            set = axes.of(&shape, &O::NAME)?;
            if O::OF_NONE.is_none() && shape.iter().enumerate().any(|(axis, &size)| size == 0 && is_in(set, axis)) {
                return Err(ShapeErrorKind::Empty { operation: &O::NAME, shape }.into());
            }
            Ok(shape.without(|axis| is_in(set, axis)))
        }));
        Self { x, axes: set, shape, op: PhantomData }
    }

    /// Keeps the axes, with size 1, so that the result stretches to what it was made of.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 3.0, 2.0, 8.0], [2, 2])?;
    /// let mut centred = [0.0; 4];
    /// eval_into(&(x - x.mean(1).keep_dims()), &mut centred)?;
    /// assert_eq!(centred, [-1.0, 1.0, -3.0, 3.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_dims(self) -> Self {
        let kept = self.x.checked_shape().map(|shape| kept(&shape, self.axes));
        Self { shape: self.shape.and(kept), ..self }
    }
}

impl<L: Node, R: Node<Elem = L::Elem>> Reduce<Sum, Binary<Mul, L, R>>
where
    L::Elem: Element,
{
    /// The sum of the products of two vectors' elements.
    #[track_caller]
    pub(crate) fn dot(left: L, right: R) -> Self {
        let shape = placed(left.checked_shape().and_then(|left| {
            let right = right.checked_shape()?;
            let goes = left.rank() == 1 && left == right;
            if goes {
                Ok(Shape::SCALAR)
            } else {
                Err(ShapeErrorKind::Mismatch { operation: &"dot", left, right }.into())
            }
        }));
        Self { shape, ..Self::new(Binary::new(Mul, left, right), (..).into()) }
    }
}

/// The numbers of some axes.
pub(super) fn listed(axes: u8) -> Vec<usize> {
    (0..MAX_RANK).filter(|&axis| is_in(axes, axis)).collect()
}

/// What formulas say of a result that keeps the axes of what it is of.
pub(super) fn with_axes(from: &Result<Shape, ShapeError>, own: &Result<Shape, ShapeError>) -> &'static str {
    let (from, own) = (known(from).rank(), known(own).rank());
    if from == own && from > 0 { ".keep_dims()" } else { "" }
}

/// How many values become one.
pub(super) fn count(shape: &Shape, axes: u8) -> usize {
    (0..shape.rank()).filter(|&axis| is_in(axes, axis)).map(|axis| shape[axis]).product()
}

/// The shape with a size of 1 along some axes.
pub(super) fn kept(shape: &Shape, axes: u8) -> Shape {
    (0..shape.rank()).filter(|&axis| is_in(axes, axis)).fold(*shape, |shape, axis| shape.with_size(axis, 1))
}

impl<O: Reduction<X::Elem>, X: Node<Elem: Element>> Node for Reduce<O, X> {
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
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let (x, axes) = (self.x.term(terms), listed(self.axes));
        let kept = with_axes(&self.x.checked_shape(), &self.shape);
        terms.dear::<X::Elem>(format!("{}({x}, {axes:?}){kept}", O::NAME))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let (from, own) = (*known(&self.x.checked_shape()), *known(&self.shape));
        let withheld = context.withhold();
        let mut source = self.x.prepare(context, &from);
        let (block, strides) = reduced::<O, _>(context, &mut source, &from, self.axes, &own, Some(withheld));
        Leaf::placed(block, strides, &own, to)
    }
}

/// What comes of the values of a source, in a block of its own, and where there. The block may be the output, if that is offered again.
pub(super) fn reduced<'e, O: Reduction<S::Item>, S: Source<Item: Element>>(
    context: &'e Context<'e>,
    source: &mut S,
    from: &Shape,
    set: u8,
    own: &Shape,
    withheld: Option<Withheld>,
) -> (Block<'e, S::Item>, Strides) {
    reduced_of::<O, S>(context, source, from, set, own, withheld, Some(count(from, set)))
}

/// `of`: see [`Work::new`].
fn reduced_of<'e, O: Reduction<S::Item>, S: Source<Item: Element>>(
    context: &'e Context<'e>,
    source: &mut S,
    from: &Shape,
    set: u8,
    own: &Shape,
    withheld: Option<Withheld>,
    of: Option<usize>,
) -> (Block<'e, S::Item>, Strides) {
    let crossing = Crossing::new(from, &source.reader());
    if let Some(Crossing { inner, other, .. }) = crossing
        && is_in(set, inner)
        && is_in(set, other)
    {
        // Along all axes but one first: rows are then added to rows, and lie across memory for one of them only.
        let first = set & !(1 << inner);
        let middle = kept(from, first);
        let (block, strides) = reduced_of::<O, _>(context, source, from, first, &middle, None, None);
        let mut middle_source = Leaf::placed(block, strides, &middle, &middle);
        return reduced_of::<O, _>(context, &mut middle_source, &middle, set, own, withheld, of);
    }
    let order = Order::of(from, set, &source.reader(), crossing, Some(O::FOLD));
    source.relayout(&mut |strides| strides.permute(&order.axes[..from.rank()]));
    let text = || format!("{}({}, {:?})", O::NAME, source.text(), listed(set));
    let strides = order.strides(from, own, set);
    if let Some(withheld) = withheld.filter(|_| strides.is_row_major(own)) {
        context.offer(withheld);
    }
    let write = |slots: &mut [_]| Work::<_, O>::new(&source.reader(), &order, of, context.mode).write(slots);
    // SAFETY: it writes to all.
    let block = unsafe { context.produce(own, text, write) };
    // Back to where they were, for who reads them again.
    let mut back = [0; MAX_RANK];
    for (place, &axis) in order.axes.iter().enumerate() {
        back[axis] = place;
    }
    source.relayout(&mut |strides| strides.permute(&back[..from.rank()]));
    (block, strides)
}
