//! Variances and standard deviations: the mean first, and then that of the squares of what differs from it.
//!
//! The mean is rounded. Where that may show, as in numbers that differ little from each other, the square of what it is off by is taken off: the mean of
//! what differs from it, in a pass of its own.
//!
//! Unsafe code says that of a block all places are elements.
#![allow(unsafe_code)]

use crate::axes::Axes;
use crate::context::Context;
use crate::math::{Element, Fold};
use crate::node::{Node, known};
use crate::nodes::{Binary, Reduce, Unary};
use crate::ops;
use crate::shape::{Shape, ShapeError, Strides, placed};
use crate::simd::Mode;
use crate::source::{Leaf, RowSlice, Source};
use crate::terms::{Term, Terms};

use super::matmul::in_memory;
use super::reduce::{Order, Revision, count, kept, listed, reduced, revise, with_axes};

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
        let (means_strides, mean) = (strides, Leaf::placed(block, strides, &means, &from));
        let mut squares = Binary { op: ops::SquaredDifference, left: x, right: mean, place: () };
        let (block, strides) = reduced::<ops::Sum, _>(context, &mut squares, &from, self.axes, &own, Some(withheld));
        let divisor = X::Elem::from_count(count(&from, self.axes).saturating_sub(self.ddof));
        let id = block.id();
        let text = || if self.is_root { format!("sqrt((%{id} / {divisor}))") } else { format!("(%{id} / {divisor})") };
        let block = context.reuse(block, &own, text, |out| {
            correct(squares, &from, self.axes, &means_strides, context.mode, out);
            for x in out {
                let variance = *x / divisor;
                *x = if self.is_root { variance.sqrt() } else { variance };
            }
        });
        Leaf::placed(block, strides, &own, to)
    }
}

/// By how many roundings of its own a mean may be off, squared.
const OFF: f64 = 256.0;

/// Takes off sums of squares what they have too much, as means are rounded: those of the values along some axes, and where they lie.
fn correct<S: Source<Item: Element>>(
    squares: Binary<ops::SquaredDifference, S, Leaf<'_, S::Item>, ()>,
    from: &Shape,
    axes: u8,
    means_strides: &Strides,
    mode: Mode,
    sums: &mut [S::Item],
) {
    let mut differences = Binary { op: ops::Sub, left: squares.left, right: squares.right, place: () };
    let order = Order::new(from, axes, &differences.reader(), Some(Fold::Add));
    differences.relayout(&mut |strides| strides.permute(&order.axes[..from.rank()]));
    let number = S::Item::from_count(count(from, axes));
    let rounding = S::Item::from_f64(OFF) * S::Item::EPSILON * number;
    // They are in the order of the sums, unless there are more of them than of the values, before these are stretched. Then all may be off.
    let means = differences.right.reader().data;
    // SAFETY: of a block, all are elements.
    let means = unsafe { means.range(0, means.len()) };
    let is_parallel = order.strides(from, &kept(from, axes), axes) == *means_strides;
    let off = Off { means: if is_parallel { means } else { &[] }, rounding, number };
    revise(&differences.reader(), &order, mode, sums, &off);
}

/// What sums of squares have too much.
struct Off<'m, T> {
    /// The means, as far as they are known.
    means: &'m [T],
    /// The square of what one may be off by, for each of its own, and as often as there are values.
    rounding: T,
    number: T,
}

impl<T: Element> Revision<T> for Off<'_, T> {
    fn is_any_doubtful(&self, first: usize, sums: &[T]) -> bool {
        self.means.get(first..first + sums.len()).is_none_or(|means| {
            let is_off = |(&mean, &sum): (&T, &T)| self.rounding * mean * mean > sum;
            means.iter().zip(sums).fold(false, |any, both| any | is_off(both))
        })
    }

    fn revised(&self, number: usize, sum: T, off: T) -> T {
        let is_off = self.is_any_doubtful(number, &[sum]);
        if is_off { (sum - off * (off / self.number)).maximum(T::ZERO) } else { sum }
    }
}

impl<X: Node<Elem: Element>> Unary<ops::Sqrt, Reduce<ops::Sum, X>> {
    /// As [`Reduce::keep_dims`].
    pub fn keep_dims(self) -> Self {
        Self { x: self.x.keep_dims(), ..self }
    }
}
