//! Variances and standard deviations: the mean first, and then that of the squares of what differs from it.

use crate::axes::Axes;
use crate::context::Context;
use crate::math::Element;
use crate::node::{Node, known};
use crate::nodes::{Binary, Reduce, Unary};
use crate::ops;
use crate::shape::{Shape, ShapeError, placed};
use crate::source::{Leaf, RowSlice};
use crate::terms::{Term, Terms};

use super::matmul::in_memory;
use super::reduce::{kept, listed, reduced, with_axes};

/// How far the elements along some axes are from their mean; see [`Expr::var`](crate::Expr::var) and [`Expr::std`](crate::Expr::std).
#[derive(Clone, Copy, Debug)]
pub struct Spread<X> {
    x: X,
    axes: u8,
    shape: Result<Shape, ShapeError>,
    /// What is taken off the number of elements.
    ddof: usize,
    /// Whether it is the root of the variance.
    is_root: bool,
}

impl<X: Node> Spread<X> {
    #[track_caller]
    pub(crate) fn new(x: X, axes: &Axes, is_root: bool) -> Self {
        let mut set = 0;
        let shape = placed(x.checked_shape().and_then(|shape| {
            set = axes.of(&shape, if is_root { &"std" } else { &"var" })?;
            Ok(shape.without(|axis| set & (1 << axis) != 0))
        }));
        Self { x, axes: set, shape, ddof: 0, is_root }
    }

    /// As [`Reduce::keep_dims`].
    pub fn keep_dims(self) -> Self {
        let kept = self.x.checked_shape().map(|shape| kept(&shape, self.axes));
        Self { shape: self.shape.and(kept), ..self }
    }

    /// Divides by so many fewer than there are elements: 1 for the estimate from a sample. Where there are no more than that, it divides by 0, as
    /// NumPy does.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0], [3])?;
    /// let mut variance = [0.0];
    /// eval_into(&x.var(..).ddof(1), &mut variance)?;
    /// assert_eq!(variance, [1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ddof(self, ddof: usize) -> Self {
        Self { ddof, ..self }
    }
}

impl<X: Node<Elem: Element>> Node for Spread<X> {
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
        let (name, kept) = (if self.is_root { "std" } else { "var" }, with_axes(&self.x.checked_shape(), &self.shape));
        let ddof = if self.ddof > 0 { format!(".ddof({})", self.ddof) } else { String::new() };
        terms.dear::<X::Elem>(format!("{name}({x}, {axes:?}){ddof}{kept}"))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let (from, own) = (*known(&self.x.checked_shape()), *known(&self.shape));
        let means = kept(&from, self.axes);
        // It is read twice.
        let withheld = context.withhold();
        let mut x = in_memory(&self.x, context, &from);
        let (block, strides) = reduced::<ops::Mean, _>(context, &mut x, &from, self.axes, &means, None);
        let mean = Leaf::placed(block, strides, &means, &from);
        let mut squares = Binary { op: ops::SquaredDifference, left: x, right: mean, place: () };
        let (block, strides) = reduced::<ops::Sum, _>(context, &mut squares, &from, self.axes, &own, Some(withheld));
        drop(squares);
        let count: usize =
            (0..from.rank()).filter(|axis| self.axes & (1 << axis) != 0).map(|axis| from[axis]).product();
        let divisor = X::Elem::from_count(count.saturating_sub(self.ddof));
        let id = block.id();
        let text = || if self.is_root { format!("sqrt((%{id} / {divisor}))") } else { format!("(%{id} / {divisor})") };
        let block = context.reuse(block, &own, text, |out| {
            for x in out {
                let variance = *x / divisor;
                *x = if self.is_root { variance.sqrt() } else { variance };
            }
        });
        Leaf::placed(block, strides, &own, to)
    }
}

impl<X: Node<Elem: Element>> Unary<ops::Sqrt, Reduce<ops::Sum, X>> {
    /// As [`Reduce::keep_dims`].
    pub fn keep_dims(self) -> Self {
        Self { x: self.x.keep_dims(), ..self }
    }
}
