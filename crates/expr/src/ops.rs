//! The element-wise operations. Each is one entry of a table below, and nothing else.

use std::fmt::Debug;

use tenzor_memory::Allocator;

use crate::context::{Block, Context};
use crate::expr::Expr;
use crate::math::Element;
use crate::shape::{Shape, ShapeError, Strides};
use crate::source::{At, Item, Reader, Row, Source};

/// The operations on one value: documentation, method, type, its cost in additions or so, and what it does to `x`.
macro_rules! unary_table {
    ($use:ident) => {
        $use! {
            /// e to the power of each element.
            exp Exp [16] |x| x.exp();
            /// The natural logarithm; NaN below 0.
            ln Ln [16] |x| x.ln();
            /// The square root; NaN below 0.
            sqrt Sqrt [1] |x| x.sqrt();
            /// The hyperbolic tangent.
            tanh Tanh [16] |x| x.tanh();
            /// 1 / (1 + e^-x), from e^-|x|, which does not overflow.
            sigmoid Sigmoid [16] |x| { let e = (-x.abs()).exp(); (if x < T::ZERO { e } else { T::ONE }) / (T::ONE + e) };
            /// The larger of x and 0.
            relu Relu [1] |x| if x < T::ZERO { T::ZERO } else { x };
            /// x times the normal distribution's probability of less than x.
            gelu Gelu [16] |x| x.gelu();
            /// x · sigmoid(x).
            silu Silu [16] |x| { let e = (-x.abs()).exp(); (if x < T::ZERO { x * e } else { x }) / (T::ONE + e) };
            /// The absolute value.
            abs Abs [1] |x| x.abs();
            /// 1 / x.
            recip Recip [1] |x| T::ONE / x;
        }
    };
}

/// The operations on two values: documentation, method, type, cost, and what it does to `x` and `y`.
macro_rules! binary_table {
    ($use:ident) => {
        $use! {
            /// The larger of both; NaN if either is.
            maximum Maximum [1] |x, y| if x > y || x.is_nan() { x } else { y };
            /// The smaller of both; NaN if either is.
            minimum Minimum [1] |x, y| if x < y || x.is_nan() { x } else { y };
            /// Each element to the power of the other. As everywhere, `powf(1, NaN)` and `powf(NaN, 0)` are 1.
            powf Powf [64] |x, y| x.powf(y);
        }
    };
}

/// As above, for the operators of the language, with their signs.
macro_rules! operator_table {
    ($use:ident) => {
        $use! {
            add Add "+" |x, y| x + y;
            sub Sub "-" |x, y| x - y;
            mul Mul "*" |x, y| x * y;
            div Div "/" |x, y| x / y;
        }
    };
}

/// The comparisons: documentation, method, type, sign, and what is asked of `x` and `y`.
macro_rules! comparison_table {
    ($use:ident) => {
        $use! {
            /// Whether x is less than y.
            lt Less "<" |x, y| x < y;
            /// Whether x is at most y.
            le LessOrEqual "<=" |x, y| x <= y;
            /// Whether x is greater than y.
            gt Greater ">" |x, y| x > y;
            /// Whether x is at least y.
            ge GreaterOrEqual ">=" |x, y| x >= y;
            /// Whether both are equal.
            equals Equal "==" |x, y| x == y;
            /// Whether they differ.
            differs NotEqual "!=" |x, y| x != y;
        }
    };
}

pub(crate) use {binary_table, comparison_table, operator_table, unary_table};

/// What becomes of one value.
pub trait UnaryOp<T>: Copy + Send + Sync + Debug {
    /// As it stands in formulas.
    const NAME: &'static str;
    /// In additions or so.
    const COST: usize = 1;

    /// The result.
    fn apply(self, x: T) -> T;
}

/// What becomes of two values.
pub trait BinaryOp<T: Item>: Copy + Send + Sync + Debug {
    /// What the result is: a value, or whether something holds.
    type Output: Item;
    /// As it stands in formulas: a sign, or a name.
    const NAME: &'static str;
    /// In additions or so.
    const COST: usize = 1;

    /// The result.
    fn apply(self, x: T, y: T) -> Self::Output;

    /// The operand's memory for the result, where it can hold it.
    #[doc(hidden)]
    fn take_over<A: Allocator>(block: impl FnOnce() -> Option<Block<T, A>>) -> Option<Block<Self::Output, A>> {
        let _ = block;
        None
    }

    /// The operand's elements, where the result has taken over their memory.
    #[doc(hidden)]
    #[inline(always)]
    fn here(here: &[Self::Output]) -> &[T] {
        let _ = here;
        &[]
    }
}

/// Operations whose result can stand where an operand stood.
macro_rules! stays_in_place {
    () => {
        type Output = T;

        fn take_over<A: Allocator>(block: impl FnOnce() -> Option<Block<T, A>>) -> Option<Block<T, A>> {
            block()
        }

        #[inline(always)]
        fn here(here: &[T]) -> &[T] {
            here
        }
    };
}

macro_rules! define_unary {
    ($($(#[$doc:meta])* $method:ident $op:ident [$cost:literal] |$x:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl<T: Element> UnaryOp<T> for $op {
            const NAME: &'static str = stringify!($method);
            const COST: usize = $cost;

            #[inline(always)]
            fn apply(self, $x: T) -> T {
                $value
            }
        }
    )*};
}

macro_rules! define_binary {
    ($($(#[$doc:meta])* $method:ident $op:ident [$cost:literal] |$x:ident, $y:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl<T: Element> BinaryOp<T> for $op {
            stays_in_place!();

            const NAME: &'static str = stringify!($method);
            const COST: usize = $cost;

            #[inline(always)]
            fn apply(self, $x: T, $y: T) -> T {
                $value
            }
        }
    )*};
}

macro_rules! define_operators {
    ($($method:ident $op:ident $sign:literal |$x:ident, $y:ident| $value:expr;)*) => {$(
        #[doc = concat!("x ", $sign, " y")]
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl<T: Element> BinaryOp<T> for $op {
            stays_in_place!();

            const NAME: &'static str = $sign;

            #[inline(always)]
            fn apply(self, $x: T, $y: T) -> T {
                $value
            }
        }
    )*};
}

macro_rules! define_comparisons {
    ($($(#[$doc:meta])* $method:ident $op:ident $sign:literal |$x:ident, $y:ident| $holds:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl<T: Element> BinaryOp<T> for $op {
            type Output = bool;
            const NAME: &'static str = $sign;

            #[inline(always)]
            fn apply(self, $x: T, $y: T) -> bool {
                $holds
            }
        }
    )*};
}

unary_table!(define_unary);
binary_table!(define_binary);
operator_table!(define_operators);
comparison_table!(define_comparisons);

/// `-x`.
#[derive(Clone, Copy, Debug)]
pub struct Neg;

impl<T: Element> UnaryOp<T> for Neg {
    const NAME: &'static str = "-";

    #[inline(always)]
    fn apply(self, x: T) -> T {
        -x
    }
}

/// What can stand beside an expression of elements `T`: another expression, or a number.
pub trait Operand<T> {
    /// The expression that it is.
    type Expr: Expr<Elem = T>;

    /// As an expression.
    fn into_expr(self) -> Self::Expr;
}

impl<E: Expr> Operand<E::Elem> for E {
    type Expr = E;

    fn into_expr(self) -> E {
        self
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

/// One number, wherever it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Scalar<T>(pub T);

impl<T: Element> Expr for Scalar<T> {
    type Elem = T;
    type Source<'e, A: Allocator> = Self;
    type Row<'e> = Self;

    #[inline(always)]
    fn shape(&self) -> Result<Shape, ShapeError> {
        Ok(Shape::SCALAR)
    }

    #[inline(always)]
    fn as_row<'e>(&'e self, shape: &Shape) -> Option<Self>
    where
        Self: 'e,
    {
        let _ = shape;
        Some(*self)
    }

    #[inline(always)]
    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self
    where
        Self: 'e,
    {
        let _ = context;
        *self
    }
}

impl<T: Element, A: Allocator> Source<A> for Scalar<T> {
    type Item = T;
    type Reader<'s> = Self;

    fn reader(&self) -> Self {
        *self
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        let _ = change;
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl<T: Element> Reader for Scalar<T> {
    type Item = T;
    type Scratch = ();
    type Row<'r> = Self;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        let _ = holds;
        true
    }

    fn reads_here(&self) -> bool {
        false
    }

    fn is_sliced(&self, axis: usize) -> bool {
        let _ = axis;
        true
    }

    fn cost(&self) -> usize {
        0
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut (), here: &'r [T], at: &At, len: usize) -> Self {
        let _ = (scratch, here, at, len);
        *self
    }
}

impl<T: Element> Row for Scalar<T> {
    type Item = T;

    #[inline(always)]
    fn at(&self, i: usize) -> T {
        let _ = i;
        self.0
    }

    #[inline(always)]
    fn head(self, len: usize) -> Self {
        let _ = len;
        self
    }
}

/// An operation on each element of an expression.
#[derive(Clone, Copy, Debug)]
pub struct Unary<O, X> {
    pub(crate) op: O,
    pub(crate) x: X,
}

impl<O: UnaryOp<X::Elem>, X: Expr> Expr for Unary<O, X> {
    type Elem = X::Elem;
    type Source<'e, A: Allocator>
        = Unary<O, X::Source<'e, A>>
    where
        Self: 'e;
    type Row<'e>
        = Unary<O, X::Row<'e>>
    where
        Self: 'e;

    #[inline(always)]
    fn shape(&self) -> Result<Shape, ShapeError> {
        self.x.shape()
    }

    #[inline(always)]
    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        Unary { op: self.op, x: self.x.prepare(context) }
    }

    #[inline(always)]
    fn as_row<'e>(&'e self, shape: &Shape) -> Option<Self::Row<'e>>
    where
        Self: 'e,
    {
        Some(Unary { op: self.op, x: self.x.as_row(shape)? })
    }
}

impl<A: Allocator, O: UnaryOp<X::Item>, X: Source<A>> Source<A> for Unary<O, X> {
    type Item = X::Item;
    type Reader<'s>
        = Unary<O, X::Reader<'s>>
    where
        Self: 's;

    #[inline(always)]
    fn reader(&self) -> Self::Reader<'_> {
        Unary { op: self.op, x: self.x.reader() }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.x.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Block<X::Item, A>> {
        self.x.take_over(shape)
    }

    fn text(&self) -> String {
        format!("{}({})", O::NAME, self.x.text())
    }
}

impl<O: UnaryOp<X::Item>, X: Reader> Reader for Unary<O, X> {
    type Item = X::Item;
    type Scratch = X::Scratch;
    type Row<'r>
        = Unary<O, X::Row<'r>>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.x.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.x.reads_here()
    }

    fn is_sliced(&self, axis: usize) -> bool {
        self.x.is_sliced(axis)
    }

    fn cost(&self) -> usize {
        O::COST + self.x.cost()
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut X::Scratch, here: &'r [X::Item], at: &At, len: usize) -> Self::Row<'r> {
        Unary { op: self.op, x: self.x.row(scratch, here, at, len) }
    }
}

impl<O: UnaryOp<X::Item>, X: Row> Row for Unary<O, X> {
    type Item = X::Item;

    #[inline(always)]
    fn at(&self, i: usize) -> X::Item {
        self.op.apply(self.x.at(i))
    }

    #[inline(always)]
    fn head(self, len: usize) -> Self {
        Self { x: self.x.head(len), ..self }
    }
}

/// Two expressions whose shapes are stretched to a common one; the home of what the nodes with two operands share.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Pair<L, R> {
    pub(crate) left: L,
    pub(crate) right: R,
}

impl<L: Expr, R: Expr> Pair<L, R> {
    pub(crate) fn shape(&self, operation: &'static str) -> Result<Shape, ShapeError> {
        self.left.shape()?.broadcast(&self.right.shape()?, operation)
    }

    /// Both sources, for the shape `to`.
    #[inline(always)]
    pub(crate) fn prepare<'e, A: Allocator + Clone>(
        &'e self,
        context: &Context<A>,
        to: &Shape,
    ) -> Pair<L::Source<'e, A>, R::Source<'e, A>> {
        Pair { left: stretched(&self.left, context, to), right: stretched(&self.right, context, to) }
    }

    #[inline(always)]
    fn as_row<'e>(&'e self, shape: &Shape) -> Option<Pair<L::Row<'e>, R::Row<'e>>> {
        Some(Pair { left: self.left.as_row(shape)?, right: self.right.as_row(shape)? })
    }
}

/// The shape that was found when an expression was made. Only expressions that have one are prepared: `eval` asks for it first, and
/// whoever has a part without one has none.
#[inline(always)]
pub(crate) fn known(shape: &Result<Shape, ShapeError>) -> &Shape {
    shape.as_ref().unwrap_or(&Shape::SCALAR)
}

/// The source of an expression whose shape stretches to `to`.
#[inline(always)]
pub(crate) fn stretched<'e, E: Expr, A: Allocator + Clone>(
    expr: &'e E,
    context: &Context<A>,
    to: &Shape,
) -> E::Source<'e, A> {
    let mut source = expr.prepare(context);
    let from = expr.shape();
    let from = known(&from);
    if from != to {
        source.relayout(&mut |strides| strides.broadcast(from, to));
    }
    source
}

/// As sources.
impl<L, R> Pair<L, R> {
    fn relayout<A: Allocator>(&mut self, change: &mut dyn FnMut(&mut Strides))
    where
        L: Source<A>,
        R: Source<A>,
    {
        self.left.relayout(change);
        self.right.relayout(change);
    }

    #[inline(always)]
    fn reader<A: Allocator>(&self) -> Pair<L::Reader<'_>, R::Reader<'_>>
    where
        L: Source<A>,
        R: Source<A>,
    {
        Pair { left: self.left.reader(), right: self.right.reader() }
    }

    fn take_over<A: Allocator>(&mut self, shape: &Shape) -> Option<Block<L::Item, A>>
    where
        L: Source<A>,
        R: Source<A, Item = L::Item>,
    {
        self.left.take_over(shape).or_else(|| self.right.take_over(shape))
    }

    fn text<A: Allocator>(&self, name: &str) -> String
    where
        L: Source<A>,
        R: Source<A>,
    {
        let (left, right) = (self.left.text(), self.right.text());
        if name.starts_with(char::is_alphabetic) {
            format!("{name}({left}, {right})")
        } else {
            format!("({left} {name} {right})")
        }
    }
}

/// As readers.
impl<L: Reader, R: Reader<Item = L::Item>> Pair<L, R> {
    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.left.all(holds) && self.right.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.left.reads_here() || self.right.reads_here()
    }

    fn is_sliced(&self, axis: usize) -> bool {
        self.left.is_sliced(axis) && self.right.is_sliced(axis)
    }

    fn cost(&self) -> usize {
        self.left.cost() + self.right.cost()
    }

    #[inline(always)]
    fn row<'r>(
        &'r self,
        scratch: &'r mut (L::Scratch, R::Scratch),
        here: &'r [L::Item],
        at: &At,
        len: usize,
    ) -> Pair<L::Row<'r>, R::Row<'r>> {
        let left = self.left.row(&mut scratch.0, here, at, len);
        let right = self.right.row(&mut scratch.1, here, at, len);
        Pair { left, right }
    }
}

/// As rows.
impl<L: Row, R: Row> Pair<L, R> {
    #[inline(always)]
    fn head(self, len: usize) -> Self {
        Self { left: self.left.head(len), right: self.right.head(len) }
    }
}

/// An operation on the elements of two expressions. Comparisons are of `bool`s, for [`Expr::where_`].
#[derive(Clone, Copy, Debug)]
pub struct Binary<O, L, R> {
    pub(crate) op: O,
    pub(crate) pair: Pair<L, R>,
    pub(crate) shape: Result<Shape, ShapeError>,
}

impl<O: BinaryOp<L::Elem>, L: Expr, R: Expr<Elem = L::Elem>> Binary<O, L, R> {
    pub(crate) fn new(op: O, left: L, right: R) -> Self {
        let pair = Pair { left, right };
        Self { op, shape: pair.shape(O::NAME), pair }
    }
}

impl<O: BinaryOp<L::Elem>, L: Expr, R: Expr<Elem = L::Elem>> Expr for Binary<O, L, R> {
    type Elem = O::Output;
    type Source<'e, A: Allocator>
        = Zip<O, Pair<L::Source<'e, A>, R::Source<'e, A>>>
    where
        Self: 'e;
    type Row<'e>
        = Zip<O, Pair<L::Row<'e>, R::Row<'e>>>
    where
        Self: 'e;

    #[inline(always)]
    fn shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    #[inline(always)]
    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        Zip { op: self.op, pair: self.pair.prepare(context, known(&self.shape)) }
    }

    #[inline(always)]
    fn as_row<'e>(&'e self, shape: &Shape) -> Option<Self::Row<'e>>
    where
        Self: 'e,
    {
        Some(Zip { op: self.op, pair: self.pair.as_row(shape)? })
    }
}

/// A source, reader or row of two.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Zip<O, P> {
    op: O,
    pair: P,
}

impl<A: Allocator, O: BinaryOp<L::Item>, L: Source<A>, R: Source<A, Item = L::Item>> Source<A> for Zip<O, Pair<L, R>> {
    type Item = O::Output;
    type Reader<'s>
        = Zip<O, Pair<L::Reader<'s>, R::Reader<'s>>>
    where
        Self: 's;

    #[inline(always)]
    fn reader(&self) -> Self::Reader<'_> {
        Zip { op: self.op, pair: self.pair.reader() }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.pair.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Block<O::Output, A>> {
        O::take_over(|| self.pair.take_over(shape))
    }

    fn text(&self) -> String {
        self.pair.text(O::NAME)
    }
}

impl<O: BinaryOp<L::Item>, L: Reader, R: Reader<Item = L::Item>> Reader for Zip<O, Pair<L, R>> {
    type Item = O::Output;
    type Scratch = (L::Scratch, R::Scratch);
    type Row<'r>
        = Zip<O, Pair<L::Row<'r>, R::Row<'r>>>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.pair.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.pair.reads_here()
    }

    fn is_sliced(&self, axis: usize) -> bool {
        self.pair.is_sliced(axis)
    }

    fn cost(&self) -> usize {
        O::COST + self.pair.cost()
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut Self::Scratch, here: &'r [O::Output], at: &At, len: usize) -> Self::Row<'r> {
        Zip { op: self.op, pair: self.pair.row(scratch, O::here(here), at, len) }
    }
}

impl<O: BinaryOp<L::Item>, L: Row, R: Row<Item = L::Item>> Row for Zip<O, Pair<L, R>> {
    type Item = O::Output;

    #[inline(always)]
    fn at(&self, i: usize) -> O::Output {
        self.op.apply(self.pair.left.at(i), self.pair.right.at(i))
    }

    #[inline(always)]
    fn head(self, len: usize) -> Self {
        Self { pair: self.pair.head(len), ..self }
    }
}

/// One of two expressions' elements, as a third one says.
#[derive(Clone, Copy, Debug)]
pub struct Select<C, L, R> {
    pub(crate) condition: C,
    pub(crate) pair: Pair<L, R>,
    pub(crate) shape: Result<Shape, ShapeError>,
}

impl<C: Expr<Elem = bool>, L: Expr, R: Expr<Elem = L::Elem>> Select<C, L, R> {
    pub(crate) fn new(condition: C, left: L, right: R) -> Self {
        let pair = Pair { left, right };
        let shape = pair.shape("where").and_then(|shape| condition.shape()?.broadcast(&shape, "where"));
        Self { condition, pair, shape }
    }
}

impl<C: Expr<Elem = bool>, L: Expr, R: Expr<Elem = L::Elem>> Expr for Select<C, L, R> {
    type Elem = L::Elem;
    type Source<'e, A: Allocator>
        = Choose<C::Source<'e, A>, Pair<L::Source<'e, A>, R::Source<'e, A>>>
    where
        Self: 'e;
    type Row<'e>
        = Choose<C::Row<'e>, Pair<L::Row<'e>, R::Row<'e>>>
    where
        Self: 'e;

    #[inline(always)]
    fn shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    #[inline(always)]
    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        let shape = known(&self.shape);
        let condition = stretched(&self.condition, context, shape);
        Choose { condition, pair: self.pair.prepare(context, shape) }
    }

    #[inline(always)]
    fn as_row<'e>(&'e self, shape: &Shape) -> Option<Self::Row<'e>>
    where
        Self: 'e,
    {
        Some(Choose { condition: self.condition.as_row(shape)?, pair: self.pair.as_row(shape)? })
    }
}

/// A source, reader or row of a selection.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Choose<C, P> {
    condition: C,
    pair: P,
}

impl<A: Allocator, C: Source<A, Item = bool>, L: Source<A>, R: Source<A, Item = L::Item>> Source<A>
    for Choose<C, Pair<L, R>>
{
    type Item = L::Item;
    type Reader<'s>
        = Choose<C::Reader<'s>, Pair<L::Reader<'s>, R::Reader<'s>>>
    where
        Self: 's;

    #[inline(always)]
    fn reader(&self) -> Self::Reader<'_> {
        Choose { condition: self.condition.reader(), pair: self.pair.reader() }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.condition.relayout(change);
        self.pair.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Block<L::Item, A>> {
        self.pair.take_over(shape)
    }

    fn text(&self) -> String {
        format!("where({}, {}, {})", self.condition.text(), self.pair.left.text(), self.pair.right.text())
    }
}

impl<C: Reader<Item = bool>, L: Reader, R: Reader<Item = L::Item>> Reader for Choose<C, Pair<L, R>> {
    type Item = L::Item;
    type Scratch = (C::Scratch, (L::Scratch, R::Scratch));
    type Row<'r>
        = Choose<C::Row<'r>, Pair<L::Row<'r>, R::Row<'r>>>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.condition.all(holds) && self.pair.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.pair.reads_here()
    }

    fn is_sliced(&self, axis: usize) -> bool {
        self.condition.is_sliced(axis) && self.pair.is_sliced(axis)
    }

    fn cost(&self) -> usize {
        1 + self.condition.cost() + self.pair.cost()
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut Self::Scratch, here: &'r [L::Item], at: &At, len: usize) -> Self::Row<'r> {
        let condition = self.condition.row(&mut scratch.0, &[], at, len);
        Choose { condition, pair: self.pair.row(&mut scratch.1, here, at, len) }
    }
}

impl<C: Row<Item = bool>, L: Row, R: Row<Item = L::Item>> Row for Choose<C, Pair<L, R>> {
    type Item = L::Item;

    #[inline(always)]
    fn at(&self, i: usize) -> L::Item {
        let (left, right) = (self.pair.left.at(i), self.pair.right.at(i));
        if self.condition.at(i) { left } else { right }
    }

    #[inline(always)]
    fn head(self, len: usize) -> Self {
        Self { condition: self.condition.head(len), pair: self.pair.head(len) }
    }
}
