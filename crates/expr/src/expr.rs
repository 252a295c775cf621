//! `Expr`: what can be evaluated, and the vocabulary to say it.

use tenzor_memory::Allocator;

use crate::axes::{Axes, Axis, Index, Indices};
use crate::item::{self, Item};
use crate::math::Element;
use crate::node::Node;
use crate::nodes::{
    All, Any, Arg, Binary, Boxed, BroadcastTo, Cast, Concat, Count, CumSum, Current, Function, Function2, Gather,
    IndexAxis, LayerNorm, MatMul, Materialise, OneHot, Parts, Permute, Reduce, Relaid, Reshape, Scalar, Select, Slice,
    Softmax, Spread, Tally, Unary, Unsqueeze,
};
use crate::ops::{self, binary_table, comparison_table, function_table, operator_table, unary_table};
use crate::shape::{IntoShape, Shape, ShapeError};
use crate::tensor::{Owned, Tensor, View};

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $method:ident $op:ident [$cost:literal] |$x:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        fn $method(self) -> Unary<ops::$op, Self>
        where
            Self::Elem: Element,
        {
            Unary { op: ops::$op, x: self }
        }
    )*};
}

macro_rules! function_methods {
    ($($(#[$doc:meta])* $method:ident $op:ident [$cost:literal];)*) => {$(
        $(#[$doc])*
        fn $method(self) -> Function<ops::$op, Self>
        where
            Self::Elem: Element,
        {
            Function::new(ops::$op, self)
        }
    )*};
}

macro_rules! binary_methods {
    ($($(#[$doc:meta])* $method:ident $op:ident [$cost:literal] |$x:ident, $y:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[track_caller]
        fn $method<R: Operand<Self::Elem>>(self, other: R) -> Binary<ops::$op, Self, R::Expr>
        where
            Self::Elem: Element,
        {
            Binary::new(ops::$op, self, other.into_expr())
        }
    )*};
}

macro_rules! operator_methods {
    ($($method:ident $op:ident $sign:literal |$x:ident, $y:ident| $value:expr;)*) => {$(
        #[doc = concat!("`x ", $sign, " y`, for where the type is not known.")]
        #[track_caller]
        fn $method<R: Operand<Self::Elem>>(self, other: R) -> Binary<ops::$op, Self, R::Expr>
        where
            Self::Elem: Element,
        {
            Binary::new(ops::$op, self, other.into_expr())
        }
    )*};
}

macro_rules! comparison_methods {
    ($($(#[$doc:meta])* $method:ident $op:ident $sign:literal $bound:ident |$x:ident, $y:ident| $holds:expr;)*) => {$(
        $(#[$doc])*
        #[track_caller]
        fn $method<R: Operand<Self::Elem>>(self, other: R) -> Binary<ops::$op, Self, R::Expr>
        where
            Self::Elem: $bound,
        {
            Binary::new(ops::$op, self, other.into_expr())
        }
    )*};
}

/// Something to compute: `&Tensor`s and [`View`](crate::View)s, and whatever operators and the methods here make of them.
///
/// Making an expression computes nothing and allocates nothing; its type says what is to be done. Shapes are checked as it is made:
/// [`shape`](Self::shape) tells what came out, and [`eval`](crate::eval) refuses what has none; the error names the line of the operator or method that
/// failed. Where two expressions meet, their
/// shapes stretch as in NumPy. An expression that occurs twice in another is computed twice: evaluate it first.
///
/// ```
/// use tenzor_expr::{Expr, View, eval};
/// use tenzor_memory::TensorAllocator;
///
/// let alloc = TensorAllocator::new();
/// let x = View::new(&[-1.0_f32, 0.0, 2.0, 4.0], [2, 2])?;
/// let bias = View::new(&[0.5_f32, 0.25], [2])?;
/// let y = eval(&((x + bias) / 2.0).relu(), &alloc)?;
/// assert_eq!(y.as_slice(), [0.0, 0.125, 1.25, 2.125]);
///
/// let wrong = x + View::new(&[1.0_f32; 3], [3])?;
/// let error = wrong.shape().unwrap_err();
/// assert!(error.to_string().starts_with("+: the shapes [2, 2] and [3] do not go together, at "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Expr: Node + Sized {
    /// The shape of its value.
    ///
    /// # Errors
    /// [`ShapeError`] where shapes did not go together.
    #[inline(always)]
    fn shape(&self) -> Result<Shape, ShapeError> {
        self.checked_shape()
    }

    unary_table!(unary_methods);
    function_table!(function_methods);
    binary_table!(binary_methods);
    comparison_table!(comparison_methods);

    operator_table!(operator_methods);

    /// Each element to the power of the other, in all cases as C's `pow`: `powf(1, NaN)` and `powf(NaN, 0)` are 1.
    ///
    /// The powers -2, -1, -½, ½, 1, 2, 3 and 4, where they are given as numbers, are products, quotients and roots, and take
    /// little longer than these; [`square`](Self::square) and [`sqrt`](Self::sqrt) fuse as well.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 4.0, 9.0, -1.0], [4])?;
    /// let mut powers = [0.0; 4];
    /// eval_into(&x.powf(2.0), &mut powers)?;
    /// assert_eq!(powers, [1.0, 16.0, 81.0, 1.0]);
    /// eval_into(&x.powf(1.5), &mut powers)?;
    /// assert!(powers[..3] == [1.0, 8.0, 27.0] && powers[3].is_nan());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn powf<R: Operand<Self::Elem>>(self, exponent: R) -> Function2<ops::Powf, Self, R::Expr>
    where
        Self::Elem: Element,
    {
        Function2::new(ops::Powf, self, exponent.into_expr())
    }

    /// Each element to a whole power, by repeated multiplication: fewer than |n| products, of which each is rounded, and where n is negative, 1 divided by
    /// that. The power 0 is 1, also of NaN. The error is at most |n| units of the last place, where what 1 is divided by is neither too large
    /// nor too small; [`powf`](Self::powf) is more exact from 5 on.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, -2.0, 0.5], [3])?;
    /// let mut powers = [0.0; 3];
    /// eval_into(&x.powi(5), &mut powers)?;
    /// assert_eq!(powers, [1.0, -32.0, 0.03125]);
    /// eval_into(&x.powi(-3), &mut powers)?;
    /// assert_eq!(powers, [1.0, -0.125, 8.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn powi(self, n: i32) -> Function<ops::Powi, Self>
    where
        Self::Elem: Element,
    {
        Function::new(ops::Powi(n), self)
    }

    /// `-x`, for where the type is not known.
    fn neg(self) -> Unary<ops::Neg, Self>
    where
        Self::Elem: Element,
    {
        Unary { op: ops::Neg, x: self }
    }

    /// Where this is true the elements of `yes`, elsewhere those of `no`. One of them says of what type the elements are: of two numbers, one is a
    /// [`Scalar`]. For 1 and 0 there is [`cast`](Self::cast).
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into, nodes::Scalar};
    ///
    /// let x = View::new(&[-2.0_f32, 3.0], [2])?;
    /// let mut leaky = [0.0; 2];
    /// eval_into(&x.lt(0.0).where_(x * 0.1, x), &mut leaky)?;
    /// assert_eq!(leaky, [-0.2, 3.0]);
    /// eval_into(&x.lt(0.0).where_(0.0, x), &mut leaky)?;
    /// assert_eq!(leaky, [0.0, 3.0]);
    /// eval_into(&x.lt(0.0).where_(Scalar(-1.0_f32), 1.0), &mut leaky)?;
    /// assert_eq!(leaky, [-1.0, 1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn where_<L: Choice<R>, R>(self, yes: L, no: R) -> Select<Self, L::Yes, L::No>
    where
        Self: Expr<Elem = bool>,
    {
        let (yes, no) = yes.or(no);
        Select::new(self, yes, no)
    }

    /// Where both hold; also `x & y`.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[-2.0_f32, 0.5, 3.0], [3])?;
    /// let mut inside = [false; 3];
    /// eval_into(&(x.gt(0.0) & x.lt(1.0)), &mut inside)?;
    /// assert_eq!(inside, [false, true, false]);
    /// eval_into(&!(x.le(0.0) | x.ge(1.0)), &mut inside)?;
    /// assert_eq!(inside, [false, true, false]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn and<R: Operand<bool>>(self, other: R) -> Binary<ops::And, Self, R::Expr>
    where
        Self: Expr<Elem = bool>,
    {
        Binary::new(ops::And, self, other.into_expr())
    }

    /// Where one holds; also `x | y`.
    #[track_caller]
    fn or<R: Operand<bool>>(self, other: R) -> Binary<ops::Or, Self, R::Expr>
    where
        Self: Expr<Elem = bool>,
    {
        Binary::new(ops::Or, self, other.into_expr())
    }

    /// Where it does not hold; also `!x`.
    fn not(self) -> Unary<ops::Not, Self>
    where
        Self: Expr<Elem = bool>,
    {
        Unary { op: ops::Not, x: self }
    }

    /// What a function makes of each element. It runs in the loop of the operations around it, and has their vectors where it has no branches or calls.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[-2.0_f32, 3.0], [2])?;
    /// let mut result = [0.0; 2];
    /// eval_into(&(x.map(|x| x * x * x) + 1.0), &mut result)?;
    /// assert_eq!(result, [-7.0, 28.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// Where the function does.
    fn map<F>(self, function: F) -> Unary<ops::Map<F>, Self>
    where
        F: Fn(Self::Elem) -> Self::Elem + Copy + Send + Sync,
    {
        Unary { op: ops::Map(function), x: self }
    }

    /// What a function makes of each element and another expression's, as [`map`](Self::map).
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[3.0_f32, 5.0], [2])?;
    /// let mut result = [0.0; 2];
    /// eval_into(&x.zip_map(4.0, |x, y| x * x + y * y).sqrt(), &mut result)?;
    /// assert_eq!(result, [5.0, 41.0_f32.sqrt()]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn zip_map<R: Operand<Self::Elem>, F>(self, other: R, function: F) -> Binary<ops::Map<F>, Self, R::Expr>
    where
        F: Fn(Self::Elem, Self::Elem) -> Self::Elem + Copy + Send + Sync,
    {
        Binary::new(ops::Map(function), self, other.into_expr())
    }

    /// Elements of another type: the nearest value; 0 and 1 of `bool`s. Floats do not become indices.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[-2.0_f32, 3.0, 4.0], [3])?;
    /// let mut positive = [0.0_f64];
    /// eval_into(&x.gt(0.0).cast::<f64>().mean(..), &mut positive)?;
    /// assert_eq!(positive, [2.0 / 3.0]);
    /// // The share of indices that are those wanted.
    /// let (told, wanted) = (View::new(&[0_usize, 2, 1, 1], [4])?, View::new(&[0_usize, 2, 2, 1], [4])?);
    /// eval_into(&told.equals(wanted).cast::<f64>().mean(..), &mut positive)?;
    /// assert_eq!(positive, [0.75]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn cast<U: Item>(self) -> Cast<U, Self>
    where
        Self::Elem: item::Cast<U>,
    {
        Cast::new(self)
    }

    /// The matrix product over the last two axes; the axes before them stretch. As in NumPy, a vector is a row to the left, and a column to the
    /// right, and the result is without the axis that it has not.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let a = View::new(&[1.0_f32, 2.0, 3.0, 4.0], [2, 2])?;
    /// let mut product = [0.0; 4];
    /// eval_into(&a.matmul(a.transpose()), &mut product)?;
    /// assert_eq!(product, [5.0, 11.0, 11.0, 25.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn matmul<R: Expr<Elem = Self::Elem>>(self, other: R) -> MatMul<Self, R>
    where
        Self::Elem: Element,
    {
        MatMul::new(self, other)
    }

    /// The sum of the products of two vectors' elements, as exact as [`sum`](Self::sum). Neither stretches.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let (a, b) = (View::new(&[1.0_f32, 2.0], [2])?, View::new(&[3.0_f32, 4.0], [2])?);
    /// let mut product = [0.0];
    /// eval_into(&a.dot(b), &mut product)?;
    /// assert_eq!(product, [11.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn dot<R: Expr<Elem = Self::Elem>>(self, other: R) -> Reduce<ops::Sum, Binary<ops::Mul, Self, R>>
    where
        Self::Elem: Element,
    {
        Reduce::dot(self, other)
    }

    /// What is less than `low` becomes that, and what is then more than `high` becomes that, as in NumPy; NaN stays.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[-2.0_f32, 0.5, 3.0], [3])?;
    /// let mut clipped = [0.0; 3];
    /// eval_into(&x.clip(0.0, 1.0), &mut clipped)?;
    /// assert_eq!(clipped, [0.0, 0.5, 1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn clip<L: Operand<Self::Elem>, H: Operand<Self::Elem>>(
        self,
        low: L,
        high: H,
    ) -> Binary<ops::Minimum, Binary<ops::Maximum, Self, L::Expr>, H::Expr>
    where
        Self::Elem: Element,
    {
        self.maximum(low).minimum(high)
    }

    /// The last two axes exchanged. Nothing is moved.
    #[track_caller]
    fn transpose(self) -> Permute<Self> {
        Permute::transposing(self)
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]` of this, from the last where that is negative. Nothing is
    /// moved.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// let mut turned = [0.0; 6];
    /// eval_into(&x.permute([1, 0]), &mut turned)?;
    /// assert_eq!(turned, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn permute(self, order: impl Into<Axes>) -> Permute<Self> {
        Permute::new(self, &order.into())
    }

    /// The same elements in the same order under another shape. Nothing is moved, unless axes were exchanged or stretched before
    /// in a way that needs it.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// assert_eq!(x.reshape([3, 2]).shape()?[..], [3, 2]);
    /// assert!(x.reshape([4]).shape().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn reshape(self, shape: impl IntoShape) -> Reshape<Self> {
        Reshape::new(self, shape.into_shape())
    }

    /// The elements with indices within `range` along an axis. Negative bounds count from the end. Nothing is moved. A range that
    /// leaves the axis is an error, as in ndarray; NumPy would cut it. (Clippy takes `1..-1` for an empty range. Either its lint
    /// `reversed_empty_ranges` is allowed, or it is said in two steps: `1..`, then `..-1`.)
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// let mut last = [0.0; 4];
    /// eval_into(&x.slice(1, 1..3), &mut last)?;
    /// assert_eq!(last, [2.0, 3.0, 5.0, 6.0]);
    /// eval_into(&x.slice(-1, -2..), &mut last)?;
    /// assert_eq!(last, [2.0, 3.0, 5.0, 6.0]);
    /// assert_eq!(x.slice(1, ..4).shape().unwrap_err().kind.to_string(), "slice: ..4 is not within axis 1 of the shape [2, 3]");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn slice(self, axis: impl Into<Axis>, range: impl Into<Indices>) -> Slice<Self> {
        Slice::new(self, axis.into(), range.into(), 1, &"slice")
    }

    /// Every `step`-th of the elements with indices within `range` along an axis, from the first of them; backwards from the last where
    /// `step` is negative, as ndarray's `s![range; step]` (in NumPy, `1..4` by `-1` is `3:0:-1`). A step of 0 is an error. Nothing is
    /// moved.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0], [6])?;
    /// let mut three = [0.0; 3];
    /// eval_into(&x.stepped(0, .., 2), &mut three)?;
    /// assert_eq!(three, [0.0, 2.0, 4.0]);
    /// eval_into(&x.stepped(0, 1..4, -1), &mut three)?;
    /// assert_eq!(three, [3.0, 2.0, 1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn stepped(self, axis: impl Into<Axis>, range: impl Into<Indices>, step: isize) -> Slice<Self> {
        Slice::new(self, axis.into(), range.into(), step, &"stepped")
    }

    /// The elements in the opposite order along an axis. Nothing is moved.
    #[track_caller]
    fn flip(self, axis: impl Into<Axis>) -> Slice<Self> {
        Slice::new(self, axis.into(), (..).into(), -1, &"flip")
    }

    /// The elements with one index along an axis, without that axis. A negative index counts from the end. Nothing is moved.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// let mut column = [0.0; 2];
    /// eval_into(&x.index_axis(1, -1), &mut column)?;
    /// assert_eq!(column, [3.0, 6.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn index_axis(self, axis: impl Into<Axis>, index: impl Into<Index>) -> IndexAxis<Self> {
        IndexAxis::new(self, axis.into(), index.into())
    }

    /// Without an axis of size 1; an error where it has another size. Nothing is moved.
    #[track_caller]
    fn squeeze(self, axis: impl Into<Axis>) -> IndexAxis<Self> {
        IndexAxis::squeezing(self, axis.into())
    }

    /// With another axis, of size 1, which is `axis` of the result; -1 is behind the last. Nothing is moved.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0], [3])?;
    /// assert_eq!(x.unsqueeze(0).shape()?[..], [1, 3]);
    /// assert_eq!(x.unsqueeze(-1).shape()?[..], [3, 1]);
    /// assert_eq!((x.unsqueeze(-1) - x.unsqueeze(0)).shape()?[..], [3, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn unsqueeze(self, axis: impl Into<Axis>) -> Unsqueeze<Self> {
        Unsqueeze::new(self, axis.into())
    }

    /// Stretched to a shape, as where two expressions meet.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// let mut rows = [0.0; 6];
    /// eval_into(&x.slice(0, 1..2).broadcast_to([2, 3]), &mut rows)?;
    /// assert_eq!(rows, [4.0, 5.0, 6.0, 4.0, 5.0, 6.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn broadcast_to(self, shape: impl IntoShape) -> BroadcastTo<Self> {
        BroadcastTo::new(self, shape.into_shape())
    }

    /// The elements with some indices along an axis, as NumPy's `take`: the axes of the indices stand in the place of the axis. An index that the axis has not
    /// is found by the evaluation, which fails with [`EvalError::Index`](crate::EvalError::Index).
    ///
    /// ```
    /// use tenzor_expr::{EvalError, Expr, View, eval_into};
    ///
    /// let table = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2])?;
    /// let mut rows = [0.0; 4];
    /// eval_into(&table.gather(0, View::new(&[2_usize, 0], [2])?), &mut rows)?;
    /// assert_eq!(rows, [5.0, 6.0, 1.0, 2.0]);
    /// let wrong = eval_into(&table.gather(0, View::new(&[2_usize, 3], [2])?), &mut rows);
    /// assert_eq!(wrong, Err(EvalError::Index { index: 3, size: 3 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn gather<I: Expr<Elem = usize>>(self, axis: impl Into<Axis>, indices: I) -> Gather<Self, I> {
        Gather::new(self, axis.into(), indices)
    }

    /// Along a new last axis of `count` elements, 1 at each index and 0 elsewhere, of `f32` or `f64`. An index that is not less than `count` is found by
    /// the evaluation, which fails with [`EvalError::Index`](crate::EvalError::Index).
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let classes = View::new(&[2_usize, 0], [2])?;
    /// let mut rows = [0.0; 6];
    /// eval_into(&classes.one_hot::<f32>(3), &mut rows)?;
    /// assert_eq!(rows, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn one_hot<T: Element>(self, count: usize) -> OneHot<T, Self>
    where
        Self: Expr<Elem = usize>,
    {
        OneHot::new(self, count)
    }

    /// In memory, where each value is computed once, however often it is read, as where it is stretched. What is used twice is computed twice all the same,
    /// also by reference: [`eval`](crate::eval()) it first.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, explain};
    ///
    /// let (a, b) = (View::new(&[1.0_f32, 2.0], [2, 1])?, View::new(&[3.0_f32; 100], [100])?);
    /// let plan = explain(&((a * 2.0 + 1.0).materialise() * b))?;
    /// assert_eq!(plan.passes[0].formula, "((f32[2, 1] * 2) + 1)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn materialise(self) -> Materialise<Self> {
        Materialise(self)
    }

    /// Behind a pointer, with a type that says nothing but that of the elements: for expressions of different types in one variable, and for long ones,
    /// as every operation makes a type longer. Costs a request to the global allocator, and a call for some hundred elements.
    ///
    /// Boxes within boxes may be some thousands deep on the two MiB of stack that a thread has. The values of one in some dozens are materialised, as
    /// reading one from within the other takes stack; [`explain`](crate::explain) tells of which.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0], [3])?;
    /// let mut sum = x.boxed();
    /// for i in 0..100 {
    ///     sum = (sum + x * i as f32).boxed();
    /// }
    /// let mut result = [0.0; 3];
    /// eval_into(&sum, &mut result)?;
    /// assert_eq!(result, [4951.0, 9902.0, 14853.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn boxed<'x>(self) -> Boxed<'x, Self::Elem>
    where
        Self: 'x,
    {
        Boxed::new(self)
    }

    /// The sum along some axes: one by its number, several by an array, all by `..`; negative numbers count from the last. The axes
    /// vanish, but for [`keep_dims`](Reduce::keep_dims).
    ///
    /// They are added in blocks and the blocks in pairs, so that the error grows with the logarithm of their number, along whatever axis. Memory is
    /// read in its order, whatever views there are.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// let (mut rows, mut all) = ([0.0; 2], [0.0]);
    /// eval_into(&x.sum(1), &mut rows)?;
    /// eval_into(&x.sum(..), &mut all)?;
    /// assert_eq!((rows, all), ([6.0, 15.0], [21.0]));
    /// assert_eq!(x.sum([0, -1]).keep_dims().shape()?[..], [1, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn sum(self, axes: impl Into<Axes>) -> Reduce<ops::Sum, Self>
    where
        Self::Elem: Element,
    {
        Reduce::new(self, axes.into())
    }

    /// The mean along some axes, as [`sum`](Self::sum); NaN of no elements.
    #[track_caller]
    fn mean(self, axes: impl Into<Axes>) -> Reduce<ops::Mean, Self>
    where
        Self::Elem: Element,
    {
        Reduce::new(self, axes.into())
    }

    /// The product along some axes, as [`sum`](Self::sum). Where a product of some of them is 0 or ∞, it may be NaN, whatever that of all is.
    #[track_caller]
    fn prod(self, axes: impl Into<Axes>) -> Reduce<ops::Prod, Self>
    where
        Self::Elem: Element,
    {
        Reduce::new(self, axes.into())
    }

    /// The largest element along some axes; NaN if there is one. 0 is larger than -0.
    #[track_caller]
    fn max(self, axes: impl Into<Axes>) -> Reduce<ops::Max, Self>
    where
        Self::Elem: Element,
    {
        Reduce::new(self, axes.into())
    }

    /// The smallest element along some axes; NaN if there is one. -0 is smaller than 0.
    #[track_caller]
    fn min(self, axes: impl Into<Axes>) -> Reduce<ops::Min, Self>
    where
        Self::Elem: Element,
    {
        Reduce::new(self, axes.into())
    }

    /// The index of the largest element along an axis, the first of equals; NaN is the largest, as in NumPy. An error of no elements.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 5.0, 5.0, 7.0, 2.0, 0.0], [2, 3])?;
    /// let (mut rows, mut columns) = ([0; 2], [0; 3]);
    /// eval_into(&x.argmax(-1), &mut rows)?;
    /// eval_into(&x.argmax(0), &mut columns)?;
    /// assert_eq!((rows, columns), ([1, 0], [1, 0, 0]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn argmax(self, axis: impl Into<Axis>) -> Arg<ops::Max, Self>
    where
        Self::Elem: Element,
    {
        Arg::new(self, axis.into())
    }

    /// The index of the smallest element along an axis, as [`argmax`](Self::argmax); NaN is the smallest.
    #[track_caller]
    fn argmin(self, axis: impl Into<Axis>) -> Arg<ops::Min, Self>
    where
        Self::Elem: Element,
    {
        Arg::new(self, axis.into())
    }

    /// How many hold along some axes, as [`sum`](Self::sum).
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// let (mut counts, mut any, mut all) = ([0; 2], [false; 2], [true]);
    /// eval_into(&x.gt(1.5).count(1), &mut counts)?;
    /// eval_into(&x.gt(3.5).any(1), &mut any)?;
    /// eval_into(&x.gt(1.5).all(..), &mut all)?;
    /// assert_eq!((counts, any, all), ([2, 3], [false, true], [false]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn count(self, axes: impl Into<Axes>) -> Count<Self>
    where
        Self: Expr<Elem = bool>,
    {
        Tally::new(ops::Count, self, [1.0, 0.0], axes.into())
    }

    /// Whether any holds along some axes; of none, none does.
    #[track_caller]
    fn any(self, axes: impl Into<Axes>) -> Any<Self>
    where
        Self: Expr<Elem = bool>,
    {
        Tally::new(ops::Greater, self, [1.0, 0.0], axes.into())
    }

    /// Whether all hold along some axes; of none, all do.
    #[track_caller]
    fn all(self, axes: impl Into<Axes>) -> All<Self>
    where
        Self: Expr<Elem = bool>,
    {
        Tally::new(ops::Equal, self, [0.0, 1.0], axes.into())
    }

    /// The variance along some axes: the mean of the squares of what the elements differ from their mean by, which is computed first, and where its rounding may
    /// show, less what comes of that; so it is as exact as [`sum`](Self::sum), however large the mean is. [`ddof`](Spread::ddof) divides by fewer. NaN of no elements.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 3.0, 10001.0, 10005.0], [2, 2])?;
    /// let (mut variances, mut deviations) = ([0.0; 2], [0.0; 2]);
    /// eval_into(&x.var(1), &mut variances)?;
    /// eval_into(&x.std(1), &mut deviations)?;
    /// assert_eq!((variances, deviations), ([1.0, 4.0], [1.0, 2.0]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn var(self, axes: impl Into<Axes>) -> Spread<Self>
    where
        Self::Elem: Element,
    {
        Spread::new(self, &axes.into(), false)
    }

    /// The standard deviation along some axes: the root of [`var`](Self::var).
    #[track_caller]
    fn std(self, axes: impl Into<Axes>) -> Spread<Self>
    where
        Self::Elem: Element,
    {
        Spread::new(self, &axes.into(), true)
    }

    /// The root of the sum of squares along some axes: infinite where that sum is too large for the type, though the root were not.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[3.0_f32, 4.0], [2])?;
    /// let mut unit = [0.0; 2];
    /// eval_into(&(x / x.norm(0).keep_dims()), &mut unit)?;
    /// assert_eq!(unit, [0.6, 0.8]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn norm(self, axes: impl Into<Axes>) -> Unary<ops::Sqrt, Reduce<ops::Sum, Unary<ops::Square, Self>>>
    where
        Self::Elem: Element,
    {
        self.square().sum(axes).sqrt()
    }

    /// The sum of each element and all before it along an axis. They are added in short blocks, and what these come to with what is lost to rounding, so that
    /// the error does not grow with their number.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// let mut sums = [0.0; 6];
    /// eval_into(&x.cumsum(1), &mut sums)?;
    /// assert_eq!(sums, [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn cumsum(self, axis: impl Into<Axis>) -> CumSum<Self>
    where
        Self::Elem: Element,
    {
        CumSum::new(self, axis.into())
    }

    /// e to the power of each element, divided by the sum of these along an axis.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// let mut shares = [0.0; 6];
    /// eval_into(&(x * 0.0).softmax(0), &mut shares)?;
    /// assert_eq!(shares, [0.5; 6]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn softmax(self, axis: impl Into<Axis>) -> Softmax<Self>
    where
        Self::Elem: Element,
    {
        Softmax::new(self, axis.into())
    }

    /// Along the last axis, less the mean, divided by the square root of the variance plus `epsilon`.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// let mut normal = [0.0; 6];
    /// eval_into(&(x * 1e4).layer_norm(1e-5), &mut normal)?;
    /// assert!(normal[1] == 0.0 && (normal[2] - 1.5_f32.sqrt()).abs() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    fn layer_norm(self, epsilon: Self::Elem) -> LayerNorm<Self>
    where
        Self::Elem: Element,
    {
        LayerNorm::new(self, epsilon)
    }
}

impl<N: Node> Expr for N {}

/// What can stand beside an expression of elements `T`: another expression, or a number.
pub trait Operand<T> {
    /// The expression that it is.
    type Expr: Node<Elem = T>;

    /// As an expression.
    fn into_expr(self) -> Self::Expr;
}

impl<E: Node> Operand<E::Elem> for E {
    type Expr = E;

    fn into_expr(self) -> E {
        self
    }
}

impl<T: Item, B: Allocator> Operand<T> for Tensor<T, B> {
    type Expr = Owned<T, B>;

    fn into_expr(self) -> Owned<T, B> {
        Owned(self)
    }
}

impl Operand<f32> for f32 {
    type Expr = Scalar<f32>;

    fn into_expr(self) -> Scalar<f32> {
        Scalar(self)
    }
}

impl Operand<f64> for f64 {
    type Expr = Scalar<f64>;

    fn into_expr(self) -> Scalar<f64> {
        Scalar(self)
    }
}

impl Operand<usize> for usize {
    type Expr = Scalar<usize>;

    fn into_expr(self) -> Scalar<usize> {
        Scalar(self)
    }
}

/// What [`Expr::where_`] can choose between: two of which one says the type of the elements.
#[diagnostic::on_unimplemented(
    message = "of `{Self}` and `{R}`, neither says the type of the elements, or they differ",
    note = "two numbers have no type before they stand beside an expression: write `condition.cast::<f32>()` for 1 and 0, or `nodes::Scalar(1.0_f32)` for one"
)]
pub trait Choice<R> {
    /// The first as an expression.
    type Yes: Node;
    /// The second as an expression.
    type No: Node<Elem = <Self::Yes as Node>::Elem>;

    /// Both as expressions.
    fn or(self, no: R) -> (Self::Yes, Self::No);
}

impl<L: Node, R: Operand<L::Elem>> Choice<R> for L {
    type Yes = L;
    type No = R::Expr;

    fn or(self, no: R) -> (L, R::Expr) {
        (self, no.into_expr())
    }
}

impl<R: Node<Elem = f32>> Choice<R> for f32 {
    type Yes = Scalar<f32>;
    type No = R;

    fn or(self, no: R) -> (Scalar<f32>, R) {
        (Scalar(self), no)
    }
}

impl<R: Node<Elem = f64>> Choice<R> for f64 {
    type Yes = Scalar<f64>;
    type No = R;

    fn or(self, no: R) -> (Scalar<f64>, R) {
        (Scalar(self), no)
    }
}

/// The operators of the language, for every type of expression.
macro_rules! operators {
    ($($generics:tt $expr:ty;)*) => {$(
        operators!(@op $generics $expr, Add add);
        operators!(@op $generics $expr, Sub sub);
        operators!(@op $generics $expr, Mul mul);
        operators!(@op $generics $expr, Div div);
        operators!(@neg $generics $expr);
    )*};
    (@neg [$($generics:tt)*] $expr:ty) => {
        impl<$($generics)*> std::ops::Neg for $expr
        where
            $expr: Expr<Elem: Element>,
        {
            type Output = Unary<ops::Neg, Self>;

            fn neg(self) -> Self::Output {
                Expr::neg(self)
            }
        }
    };
    (@op [$($generics:tt)*] $expr:ty, $op:ident $method:ident) => {
        impl<$($generics)* Rhs> std::ops::$op<Rhs> for $expr
        where
            $expr: Expr<Elem: Element>,
            Rhs: Operand<<$expr as Node>::Elem>,
        {
            type Output = Binary<ops::$op, Self, Rhs::Expr>;

            #[track_caller]
            fn $method(self, other: Rhs) -> Self::Output {
                Expr::$method(self, other)
            }
        }

        operators!(@scalar f32 [$($generics)*] $expr, $op $method);
        operators!(@scalar f64 [$($generics)*] $expr, $op $method);
    };
    (@scalar $scalar:ident [$($generics:tt)*] $expr:ty, $op:ident $method:ident) => {
        impl<$($generics)*> std::ops::$op<$expr> for $scalar
        where
            $expr: Expr<Elem = $scalar>,
        {
            type Output = Binary<ops::$op, Scalar<$scalar>, $expr>;

            #[track_caller]
            fn $method(self, other: $expr) -> Self::Output {
                Expr::$method(Scalar(self), other)
            }
        }
    };
}

operators! {
    ['t, T: Item, B: Allocator,] &'t Tensor<T, B>;
    [T: Item, B: Allocator,] Owned<T, B>;
    ['r, 'x, T: Item,] &'r Boxed<'x, T>;
    [U: Item, X,] Cast<U, X>;
    ['t, T: Item,] View<'t, T>;
    [T,] Scalar<T>;
    [O, X,] Unary<O, X>;
    [O, X,] Function<O, X>;
    [O, L, R,] Function2<O, L, R>;
    [O, L, R,] Binary<O, L, R>;
    [C, L, R,] Select<C, L, R>;
    [V, X,] Relaid<V, X>;
    [X,] Reshape<X>;
    [O, X,] Reduce<O, X>;
    [X,] Softmax<X>;
    [X: Expr,] LayerNorm<X>;
    [L, R,] MatMul<L, R>;
    [X, I,] Gather<X, I>;
    [T, I,] OneHot<T, I>;
    [P: Parts,] Concat<P>;
    [X,] Spread<X>;
    [X,] CumSum<X>;
    [X,] Materialise<X>;
    [T: Item,] Current<T>;
    ['x, T: Item,] Boxed<'x, T>;
}

/// As above, for tensors that are not borrowed.
macro_rules! owned_operators {
    ($($op:ident $method:ident,)*) => {$(
        impl<T: Element, B: Allocator, R: Operand<T>> std::ops::$op<R> for Tensor<T, B> {
            type Output = Binary<ops::$op, Owned<T, B>, R::Expr>;

            #[track_caller]
            fn $method(self, other: R) -> Self::Output {
                Expr::$method(Owned(self), other)
            }
        }

        owned_operators!(@scalar f32 $op $method);
        owned_operators!(@scalar f64 $op $method);
    )*};
    (@scalar $scalar:ident $op:ident $method:ident) => {
        impl<B: Allocator> std::ops::$op<Tensor<$scalar, B>> for $scalar {
            type Output = Binary<ops::$op, Scalar<$scalar>, Owned<$scalar, B>>;

            #[track_caller]
            fn $method(self, other: Tensor<$scalar, B>) -> Self::Output {
                Expr::$method(Scalar(self), other)
            }
        }
    };
}

owned_operators! { Add add, Sub sub, Mul mul, Div div, }

impl<T: Element, B: Allocator> std::ops::Neg for Tensor<T, B> {
    type Output = Unary<ops::Neg, Owned<T, B>>;

    fn neg(self) -> Self::Output {
        Expr::neg(Owned(self))
    }
}

/// The connectives of the language, for the types of expressions of `bool`s.
macro_rules! connectives {
    ($($generics:tt $expr:ty;)*) => {$(
        connectives!(@op $generics $expr, BitAnd bitand And and);
        connectives!(@op $generics $expr, BitOr bitor Or or);
        connectives!(@not $generics $expr);
    )*};
    (@op [$($generics:tt)*] $expr:ty, $op:ident $method:ident $type:ident $made:ident) => {
        impl<$($generics)* Rhs: Operand<bool>> std::ops::$op<Rhs> for $expr
        where
            $expr: Node<Elem = bool>,
        {
            type Output = Binary<ops::$type, Self, Rhs::Expr>;

            #[track_caller]
            fn $method(self, other: Rhs) -> Self::Output {
                Expr::$made(self, other)
            }
        }
    };
    (@not [$($generics:tt)*] $expr:ty) => {
        impl<$($generics)*> std::ops::Not for $expr
        where
            $expr: Node<Elem = bool>,
        {
            type Output = Unary<ops::Not, Self>;

            fn not(self) -> Self::Output {
                Expr::not(self)
            }
        }
    };
}

connectives! {
    ['t, B: Allocator,] &'t Tensor<bool, B>;
    [B: Allocator,] Owned<bool, B>;
    ['r, 'x,] &'r Boxed<'x, bool>;
    [] Current<bool>;
    [X, I,] Gather<X, I>;
    [P: Parts,] Concat<P>;
    ['t,] View<'t, bool>;
    [O, X,] Unary<O, X>;
    [O, L, R,] Binary<O, L, R>;
    [C, L, R,] Select<C, L, R>;
    [V, X,] Relaid<V, X>;
    [X,] Reshape<X>;
    [O, X, T,] Tally<O, X, T>;
    [X,] Materialise<X>;
    ['x,] Boxed<'x, bool>;
}

/// As above, for tensors that are not borrowed.
macro_rules! owned_connectives {
    ($($op:ident $method:ident $type:ident $made:ident,)*) => {$(
        impl<B: Allocator, R: Operand<bool>> std::ops::$op<R> for Tensor<bool, B> {
            type Output = Binary<ops::$type, Owned<bool, B>, R::Expr>;

            #[track_caller]
            fn $method(self, other: R) -> Self::Output {
                Expr::$made(Owned(self), other)
            }
        }
    )*};
}

owned_connectives! { BitAnd bitand And and, BitOr bitor Or or, }

impl<B: Allocator> std::ops::Not for Tensor<bool, B> {
    type Output = Unary<ops::Not, Owned<bool, B>>;

    fn not(self) -> Self::Output {
        Expr::not(Owned(self))
    }
}
