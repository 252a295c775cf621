//! Tensors: elements in memory, with a shape.

use std::fmt;

use tenzor_memory::{Allocator, Buffer};

use crate::context::Context;
use crate::error::EvalError;
use crate::fill::overwrite;
use crate::item::Item;
use crate::node::Node;
use crate::shape::{IntoShape, Shape, ShapeError, Strides};
use crate::simd::Mode;
use crate::source::{Leaf, LeafReader, RowSlice};

/// Elements in row-major order, the last axis's next to each other, in memory from the allocator `A`.
///
/// A reference to one is an expression, of which others are made.
///
/// ```
/// use tenzor_expr::{Tensor, eval};
/// use tenzor_memory::TensorAllocator;
///
/// let alloc = TensorAllocator::new();
/// let a = Tensor::from_slice_in(&[1.0_f32, 2.0, 3.0], [3], &alloc)?;
/// let b = eval(&(2.0 * &a - 1.0), &alloc)?;
/// assert_eq!(b.as_slice(), [1.0, 3.0, 5.0]);
/// alloc.free(b); // as dropping it
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tensor<T: Item, A: Allocator> {
    buffer: Buffer<T, A>,
    shape: Shape,
}

impl<T: Item, A: Allocator> Tensor<T, A> {
    /// The elements of a buffer in order, without copying.
    ///
    /// # Errors
    /// [`ShapeError`] if the shape has another number of elements.
    pub fn new(buffer: Buffer<T, A>, shape: impl IntoShape) -> Result<Self, ShapeError> {
        let shape = of_elements(shape, buffer.len())?;
        Ok(Self { buffer, shape })
    }

    /// As many elements as the shape has.
    pub(crate) fn of(buffer: Buffer<T, A>, shape: Shape) -> Self {
        Self { buffer, shape }
    }

    /// A copy of `elements`, in order.
    ///
    /// # Errors
    /// [`EvalError`] if the shape has another number of elements, or when the allocator refuses.
    pub fn from_slice_in(elements: &[T], shape: impl IntoShape, alloc: A) -> Result<Self, EvalError> {
        let shape = of_elements(shape, elements.len())?;
        Ok(Self { buffer: Buffer::from_slice_in(elements, alloc)?, shape })
    }

    /// The number of elements along each axis.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The elements in order.
    pub fn as_slice(&self) -> &[T] {
        &self.buffer
    }

    /// The elements in order, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.buffer
    }

    /// The elements, borrowed.
    pub fn view(&self) -> View<'_, T> {
        View { elements: &self.buffer, shape: self.shape, strides: Strides::row_major(&self.shape) }
    }

    /// The memory.
    pub fn into_buffer(self) -> Buffer<T, A> {
        self.buffer
    }
}

fn of_elements(shape: impl IntoShape, given: usize) -> Result<Shape, ShapeError> {
    let shape = shape.into_shape()?;
    if shape.elements() == given { Ok(shape) } else { Err(ShapeError::Elements { shape, given }) }
}

impl<T: Item, A: Allocator> From<Tensor<T, A>> for Buffer<T, A> {
    fn from(tensor: Tensor<T, A>) -> Self {
        tensor.buffer
    }
}

impl<T: Item, A: Allocator> fmt::Debug for Tensor<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl<T: Item, B: Allocator> Node for &Tensor<T, B> {
    type Elem = T;
    type Source<'e>
        = Leaf<'e, T>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, T>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        Ok(self.shape)
    }

    #[inline(always)]
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Leaf<'e, T> {
        Leaf::given(&self.buffer, Strides::row_major(&self.shape), &self.shape, to, context)
    }

    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<RowSlice<'_, T>> {
        (self.shape == *shape).then_some(RowSlice(&self.buffer))
    }
}

/// A tensor in somebody else's memory.
///
/// ```
/// use tenzor_expr::View;
///
/// let elements = [1.0_f32, 2.0, 3.0, 4.0];
/// let view = View::new(&elements, [2, 2])?;
/// assert_eq!(format!("{view:?}"), "f32[2, 2] [1.0, 2.0, 3.0, 4.0]");
/// # Ok::<(), tenzor_expr::ShapeError>(())
/// ```
#[derive(Clone, Copy)]
pub struct View<'t, T: Item> {
    elements: &'t [T],
    shape: Shape,
    strides: Strides,
}

impl<'t, T: Item> View<'t, T> {
    /// The elements of a slice in row-major order.
    ///
    /// # Errors
    /// [`ShapeError`] if the shape has another number of elements.
    pub fn new(elements: &'t [T], shape: impl IntoShape) -> Result<Self, ShapeError> {
        let shape = of_elements(shape, elements.len())?;
        Ok(Self { elements, shape, strides: Strides::row_major(&shape) })
    }

    /// The number of elements along each axis.
    pub fn shape(&self) -> Shape {
        self.shape
    }
}

impl<T: Item> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In the order of the shape, not of the memory.
        let mut elements = vec![T::default(); self.shape.elements()];
        overwrite(&mut elements, &LeafReader::new(self.elements, &self.strides), &self.shape, Mode::sequential());
        write!(f, "{}{} ", T::NAME, self.shape)?;
        f.debug_list().entries(elements).finish()
    }
}

impl<T: Item> Node for View<'_, T> {
    type Elem = T;
    type Source<'e>
        = Leaf<'e, T>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, T>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        Ok(self.shape)
    }

    #[inline(always)]
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Leaf<'e, T> {
        Leaf::given(self.elements, self.strides, &self.shape, to, context)
    }

    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<RowSlice<'_, T>> {
        (self.shape == *shape && self.strides.is_row_major(shape)).then_some(RowSlice(self.elements))
    }
}

/// The elements of an array in whatever order its axes are, without copying, as long as they fill a slice.
///
/// ```
/// # use tenzor_expr::{Expr, View, eval_into};
/// let array = ndarray::array![[1.0_f32, 2.0], [3.0, 4.0]];
/// let turned = View::try_from(array.t())?;
/// let mut result = [0.0; 4];
/// eval_into(&(turned * 10.0), &mut result)?;
/// assert_eq!(result, [10.0, 30.0, 20.0, 40.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "ndarray")]
impl<'t, T: Item, D: ndarray::Dimension> TryFrom<ndarray::ArrayView<'t, T, D>> for View<'t, T> {
    type Error = ShapeError;

    fn try_from(array: ndarray::ArrayView<'t, T, D>) -> Result<Self, ShapeError> {
        let shape = Shape::new(array.shape())?;
        if shape.elements() == 0 {
            return Self::new(&[], shape);
        }
        let mut strides = Strides::row_major(&shape);
        for (axis, &step) in array.strides().iter().enumerate() {
            strides.steps[axis] = step;
            // The slice starts with the lowest address, not with the first element.
            if step < 0 {
                strides.start += (shape[axis].saturating_sub(1)) * step.unsigned_abs();
            }
        }
        let elements = array.to_slice_memory_order().ok_or(ShapeError::Gaps { shape })?;
        Ok(Self { elements, shape, strides })
    }
}
