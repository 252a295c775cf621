//! Tensors that are written to: with other values, or with what becomes of those that they have.
//!
//! Unsafe code writes to the memory that was read before.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use tenzor_memory::Allocator;

use crate::block::Output;
use crate::context::Context;
use crate::error::EvalError;
use crate::eval::{Eval, write_to};
use crate::expr::Expr;
use crate::fill::{Rows, overwrite};
use crate::item::Item;
use crate::node::materialise;
use crate::nodes::Current;
use crate::shape::{Operation, Shape, ShapeError, ShapeErrorKind, placed};
use crate::source::{InPlace, Source};
use crate::tensor::Tensor;

impl<T: Item, A: Allocator> Tensor<T, A> {
    /// Writes the value of an expression, stretched to this shape, over the elements. What has to be materialised on the way comes from this tensor's
    /// allocator.
    ///
    /// ```
    /// use tenzor_expr::{Expr, Tensor, nodes::Scalar};
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let x = Tensor::from_slice_in(&[1.0_f32, 2.0, 3.0, 4.0], [2, 2], &alloc)?;
    /// let mut sums = Tensor::zeros_in([2], &alloc)?;
    /// sums.assign(x.sum(0))?;
    /// assert_eq!(sums.as_slice(), [4.0, 6.0]);
    /// sums.assign(Scalar(0.5))?;
    /// assert_eq!(sums.as_slice(), [0.5, 0.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`EvalError`] if the expression has no shape or another one, before anything is written, and when the allocator refuses: the elements
    /// are then what they were, or anything.
    #[track_caller]
    pub fn assign<E: Expr<Elem = T>>(&mut self, expr: E) -> Result<(), EvalError>
    where
        A: Clone,
    {
        Eval::new(self.allocator().clone()).assign(self, expr)
    }

    /// Writes what becomes of the elements in their place: `change` is given their [current](Current) values, as an expression, and says what is made of
    /// them. Element-wise changes need no other memory; where a value depends on others than its own, as in a product or a sum of these, the new
    /// ones are materialised first.
    ///
    /// ```
    /// use tenzor_expr::{Expr, Tensor};
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let mut w = Tensor::from_slice_in(&[1.0_f32, 2.0, 3.0], [3], &alloc)?;
    /// let gradient = Tensor::from_slice_in(&[10.0_f32, 0.0, -10.0], [3], &alloc)?;
    /// w.update(|w| w - 0.1 * &gradient)?;
    /// assert_eq!(w.as_slice(), [0.0, 2.0, 4.0]);
    /// w.update(|w| w / w.sum(..))?;
    /// assert_eq!(alloc.stats().pool_misses, 3); // both tensors, and the sum
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`EvalError`] if the expression has no shape or another one, and when the allocator refuses. The elements are then what they were.
    ///
    /// # Panics
    /// Where a function does that [`map`](Expr::map) was given. The elements are then what they were, new ones, or anything.
    #[track_caller]
    pub fn update<E: Expr<Elem = T>>(&mut self, change: impl FnOnce(Current<T>) -> E) -> Result<(), EvalError>
    where
        A: Clone,
    {
        Eval::new(self.allocator().clone()).update(self, change)
    }
}

impl<A: Allocator + Clone> Eval<A> {
    /// See [`Tensor::assign`](crate::Tensor::assign).
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn assign<T: Item, B: Allocator, E: Expr<Elem = T>>(
        &self,
        tensor: &mut Tensor<T, B>,
        expr: E,
    ) -> Result<(), EvalError> {
        let shape = tensor.shape();
        stretches(&expr, &shape, &"assign")?;
        let context = self.context().into(Output::new(tensor.as_mut_slice()));
        write_to(&context, &expr, &shape);
        context.check()
    }

    /// See [`Tensor::update`](crate::Tensor::update).
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn update<T: Item, B: Allocator, E: Expr<Elem = T>>(
        &self,
        tensor: &mut Tensor<T, B>,
        change: impl FnOnce(Current<T>) -> E,
    ) -> Result<(), EvalError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (number, shape) = (NUMBER.fetch_add(1, Ordering::Relaxed), tensor.shape());
        let expr = change(Current { number, shape, element: PhantomData });
        stretches(&expr, &shape, &"update")?;
        let context = self.context().updating(Output::new(tensor.as_mut_slice()), number);
        update(&context, &expr, &shape)
    }
}

/// Whether an expression stretches to a shape.
#[track_caller]
fn stretches<E: Expr>(expr: &E, to: &Shape, operation: Operation) -> Result<(), ShapeError> {
    let shape = expr.shape()?;
    let mismatch = ShapeErrorKind::Mismatch { operation, left: *to, right: shape };
    let stretched = placed(to.broadcast(&shape, operation))?;
    if stretched == *to { Ok(()) } else { Err(ShapeError::here(mismatch)) }
}

/// Writes the values of an expression, stretched to the shape of the tensor that the context updates, over that tensor's.
pub(crate) fn update<'e, E: Expr>(context: &'e Context<'e>, expr: &'e E, shape: &Shape) -> Result<(), EvalError> {
    let mut source = expr.prepare(context, shape);
    context.check()?;
    if source.in_place(shape, InPlace::Could) {
        source.in_place(shape, InPlace::Now);
        // SAFETY: what was read on the way is in blocks, and all leaves that are left read in place.
        if let Some(values) = unsafe { context.current_mut() } {
            overwrite(values, &source.reader(), shape, &Rows::default(), context.mode);
        }
        return Ok(());
    }
    // Read in another order than it is written, or to decide what is.
    let block = materialise(context, source, shape);
    context.check()?;
    // SAFETY: the source is gone.
    if let Some(values) = unsafe { context.current_mut::<E::Elem>() } {
        values.copy_from_slice(block.as_slice());
    }
    Ok(())
}
