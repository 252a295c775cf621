//! Reductions of `bool`s: sums of ones and noughts, of which each result then is made.

use crate::axes::Axes;
use crate::context::Context;
use crate::item::Item;
use crate::math::Element;
use crate::node::{Node, known};
use crate::nodes::{Binary, Reduce, Scalar, Select};
use crate::ops::{self, BinaryOp};
use crate::settled::Settled;
use crate::shape::{Shape, ShapeError};
use crate::source::RowSlice;
use crate::terms::{Term, Terms};

use super::view::relabelled;

/// The sum of one number for each `true` and another for each `false`.
type Weighed<X, T> = Select<X, Scalar<T>, Scalar<T>>;

/// How many of an expression of `bool`s hold, or whether any or all do; see [`Expr::count`](crate::Expr::count), [`Expr::any`](crate::Expr::any) and
/// [`Expr::all`](crate::Expr::all).
#[derive(Clone, Copy, Debug)]
pub struct Tally<O, X, T>(Binary<O, Reduce<ops::Sum, Weighed<X, T>>, Scalar<T>>);

/// Of as many as memory can hold, no `f64` is rounded.
pub type Count<X> = Tally<ops::Count, X, f64>;
/// However many there are, a sum of positive numbers is never rounded to 0.
pub type Any<X> = Tally<ops::Greater, X, f32>;
/// As above, of those that do not hold.
pub type All<X> = Tally<ops::Equal, X, f32>;

impl<O, X: Node<Elem = bool>, T: Element> Tally<O, X, T> {
    #[track_caller]
    pub(crate) fn new(op: O, x: X, [yes, no]: [T; 2], axes: Axes) -> Self {
        let weighed = Select::new(x, Scalar(yes), Scalar(no));
        Self(Binary::new(op, Reduce::new(weighed, axes), Scalar(T::ZERO)))
    }

    /// As [`Reduce::keep_dims`].
    pub fn keep_dims(self) -> Self {
        Self(Binary { left: self.0.left.keep_dims(), ..self.0 })
    }
}

impl<O: BinaryOp<T, Output: Item>, X: Node<Elem = bool>, T: Element> Node for Tally<O, X, T> {
    type Elem = O::Output;
    type Source<'e>
        = Binary<O, Settled<'e, <Weighed<X, T> as Node>::Source<'e>>, Scalar<T>, ()>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, O::Output>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.0.checked_shape()
    }

    fn term(&self, terms: &mut Terms) -> Term {
        self.0.term(terms)
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let Binary { op, left: sum, right, place: _ } = &self.0;
        let (from, own) = (*known(&sum.x.checked_shape()), *known(&self.checked_shape()));
        let withheld = context.withhold();
        // Of each result's only one, the sum is that one.
        let left = match from.elements() == own.elements() {
            true => relabelled(context, sum.x.prepare(context, &from), (&from, &own), to),
            false => Settled::Moved(sum.prepare(context, to)),
        };
        context.offer(withheld);
        Binary { op: *op, left, right: *right, place: () }
    }
}
