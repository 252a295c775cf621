//! `eval`: an expression becomes a tensor.
//!
//! Unsafe code gives the result the allocator that it came from.
#![allow(unsafe_code)]

use tenzor_memory::allocator_api2::alloc::Global;
use tenzor_memory::{Allocator, Buffer};

use crate::block::Output;
use crate::context::Context;
use crate::error::EvalError;
use crate::expr::Expr;
use crate::fill::{new_row, overwrite_row};
use crate::node::{materialise, produce, settle};
use crate::shape::{Shape, ShapeError, ShapeErrorKind};
use crate::simd::{Level, Mode, Simd};
use crate::source::Leaf;
use crate::tensor::Tensor;

/// The value of an expression, in memory from `alloc`, from which everything in between comes as well, but for the scratch memory of the crate
/// that computes matrix products.
///
/// Element-wise operations run in one pass over memory. What has to be materialised on the way is freed as soon as its last reader is
/// done, or becomes the result where it can. [`explain`](crate::explain) tells what would happen.
///
/// ```
/// use tenzor_expr::{Expr, Tensor, eval};
/// use tenzor_memory::TensorAllocator;
///
/// let alloc = TensorAllocator::new();
/// let a = Tensor::from_slice_in(&[1.0_f32, 2.0, 3.0, 4.0], [2, 2], &alloc)?;
/// for _ in 0..1000 {
///     let result = eval(&(&a * 2.0 + &a).sum(1), alloc.allocator())?;
///     assert_eq!(result.as_slice(), [9.0, 21.0]);
/// }
/// assert_eq!(alloc.stats().pool_misses, 2); // `a`, and the first result
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EvalError`] if the expression has no shape, before anything is allocated, and when the allocator refuses.
pub fn eval<E: Expr, A: Allocator + Clone>(expr: &E, alloc: A) -> Result<Tensor<E::Elem, A>, EvalError> {
    Eval::new(alloc).eval(expr)
}

/// Writes the value of an expression to `output`, its elements in order. What has to be materialised on the way comes from
/// the process's allocator; see [`Eval::eval_into`] for another.
///
/// ```
/// use tenzor_expr::{Expr, View, eval_into};
///
/// let a = View::new(&[1.0_f64, 4.0, 9.0], [3])?;
/// let mut roots = [0.0; 3];
/// eval_into(&a.sqrt(), &mut roots)?;
/// assert_eq!(roots, [1.0, 2.0, 3.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`eval`], and if `output` has not as many elements as the expression.
#[track_caller]
pub fn eval_into<E: Expr>(expr: &E, output: &mut [E::Elem]) -> Result<(), EvalError> {
    Eval::new(Global).eval_into(expr, output)
}

/// How expressions are evaluated.
///
/// Large work is split between the threads of rayon's pool, which changes nothing about the result: each element is computed in an
/// order that depends on shapes and on how tensors lie in memory only. Matrix products are the exception, as their crate promises nothing of the kind.
///
/// ```
/// use tenzor_expr::{Eval, Expr, View};
/// use tenzor_memory::TensorAllocator;
///
/// let alloc = TensorAllocator::new();
/// let a = View::new(&[1.0_f32, 2.0], [2])?;
/// let sum = Eval::new(&alloc).sequential().eval(&a.sum(..))?;
/// assert_eq!(sum.as_slice(), [3.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Eval<A> {
    alloc: A,
    mode: Mode,
}

impl<A: Allocator + Clone> Eval<A> {
    /// With memory from `alloc`, on all threads.
    pub fn new(alloc: A) -> Self {
        Self { alloc, mode: Mode { parallel: true, level: Level::chosen() } }
    }

    /// On the calling thread alone. Two evaluations of one expression over the same values are equal to the last bit.
    pub fn sequential(self) -> Self {
        Self { mode: Mode { parallel: false, ..self.mode }, ..self }
    }

    /// With the vectors of a level; where the processor has not got it, with the widest that it has. Without this, with those that the environment
    /// variable `TENZOR_SIMD` names (`base`, `v3`, `v4`), or the widest. Matrix products always use the widest.
    pub fn simd(self, simd: Simd) -> Self {
        Self { mode: Mode { level: Level::at_most(simd), ..self.mode }, ..self }
    }

    /// See [`eval`].
    ///
    /// # Errors
    /// As [`eval`].
    pub fn eval<E: Expr>(&self, expr: &E) -> Result<Tensor<E::Elem, A>, EvalError> {
        let shape = expr.shape()?;
        if let Some(row) = short(expr, &shape) {
            let buffer = Buffer::uninit_in(shape.elements(), self.alloc.clone())?;
            return Ok(Tensor::of(new_row(buffer, row, self.mode.level), shape));
        }
        let context = self.context();
        let block = materialise(&context, expr.prepare(&context, &shape), &shape);
        context.check()?;
        // SAFETY: a clone of the context's allocator.
        let buffer = unsafe { block.into_buffer(self.alloc.clone()) };
        Ok(Tensor::of(buffer.ok_or(EvalError::Unfinished)?, shape))
    }

    /// See [`eval_into`].
    ///
    /// # Errors
    /// As [`eval_into`].
    #[track_caller]
    pub fn eval_into<E: Expr>(&self, expr: &E, output: &mut [E::Elem]) -> Result<(), EvalError> {
        let shape = expr.shape()?;
        if output.len() != shape.elements() {
            return Err(ShapeError::here(ShapeErrorKind::Elements { shape, given: output.len() }).into());
        }
        if let Some(row) = short(expr, &shape) {
            overwrite_row(output, row, self.mode.level);
            return Ok(());
        }
        let context = self.context().into(Output::new(output));
        write_to(&context, expr, &shape);
        context.check()
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context::new(&self.alloc, self.mode)
    }
}

/// Writes the values of an expression to the context's output.
pub(crate) fn write_to<'e, E: Expr>(context: &'e Context<'e>, expr: &'e E, shape: &Shape) {
    let mut source = expr.prepare(context, shape);
    if context.reclaim() {
        // Nobody has it: all values are still to be computed, and there.
        produce(context, &source, shape);
        return;
    }
    let block = settle(context, &mut source, shape);
    drop(source);
    if !block.is_lent() && context.reclaim() {
        // It was read in another order than it is to be written.
        produce(context, &Leaf::own(block, shape, shape), shape);
    }
}

/// The most elements of a short expression: one that is computed in some microseconds, of which the general way would take a tenth for
/// itself. No thread is worth waking for one.
const SHORT: usize = 1 << 14;

/// The values of an expression, if they are few and all at hand.
#[inline(always)]
fn short<'e, E: Expr>(expr: &'e E, shape: &Shape) -> Option<E::Row<'e>> {
    if shape.elements() <= SHORT { expr.as_row(shape) } else { None }
}
