//! Tensors: elements in memory, with a shape.
//!
//! Unsafe code says that places are those of elements, which strides led to.
#![allow(unsafe_code)]

use std::fmt;

use tenzor_memory::{Allocator, Buffer};

use crate::context::Context;
use crate::elements::Elements;
use crate::error::EvalError;
use crate::fill::{Rows, overwrite};
use crate::item::Item;
use crate::math::Element;
use crate::node::Node;
use crate::shape::{IntoShape, Shape, ShapeError, ShapeErrorKind, Strides};
use crate::simd::Mode;
use crate::source::{Leaf, LeafReader, RowSlice};
use crate::terms::{Term, Terms};

/// Elements in row-major order, the last axis's next to each other, in memory from the allocator `A`.
///
/// A reference to one is an expression, of which others are made; operators take one by value as well, which then goes with the expression.
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

    /// Zeros, or `false`. The allocator may know of memory that is zero already.
    ///
    /// ```
    /// use tenzor_expr::Tensor;
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let nothing = Tensor::<f32, _>::zeros_in([2, 2], &alloc)?;
    /// let counted = Tensor::<f64, _>::arange_in(4, &alloc)?.into_shape([2, 2])?;
    /// let lower = Tensor::from_fn_in([2, 2], |i| i % 2 <= i / 2, &alloc)?;
    /// assert_eq!(nothing.as_slice(), [0.0; 4]);
    /// assert_eq!(counted.get(&[1, 0]), Some(&2.0));
    /// assert_eq!(lower.as_slice(), [true, false, true, true]);
    /// # Ok::<(), tenzor_expr::EvalError>(())
    /// ```
    ///
    /// # Errors
    /// [`EvalError`] if there is no such shape, or when the allocator refuses. The same holds for the constructors below.
    pub fn zeros_in(shape: impl IntoShape, alloc: A) -> Result<Self, EvalError> {
        let shape = shape.into_shape()?;
        Ok(Self { buffer: Buffer::zeroed_in(shape.elements(), alloc)?, shape })
    }

    /// Ones.
    ///
    /// # Errors
    /// As [`zeros_in`](Self::zeros_in).
    pub fn ones_in(shape: impl IntoShape, alloc: A) -> Result<Self, EvalError>
    where
        T: Element,
    {
        Self::full_in(shape, T::ONE, alloc)
    }

    /// `value` for each element.
    ///
    /// # Errors
    /// As [`zeros_in`](Self::zeros_in).
    pub fn full_in(shape: impl IntoShape, value: T, alloc: A) -> Result<Self, EvalError> {
        let shape = shape.into_shape()?;
        Ok(Self { buffer: Buffer::filled_in(shape.elements(), value, alloc)?, shape })
    }

    /// `element(0), element(1), …`: each element by its number in order.
    ///
    /// # Errors
    /// As [`zeros_in`](Self::zeros_in).
    pub fn from_fn_in(shape: impl IntoShape, element: impl FnMut(usize) -> T, alloc: A) -> Result<Self, EvalError> {
        let shape = shape.into_shape()?;
        Ok(Self { buffer: Buffer::from_fn_in(shape.elements(), element, alloc)?, shape })
    }

    /// The numbers from 0 up to `count`, which is not among them, along one axis. Others are made of them: `0.5 * &counted + 1.0`.
    ///
    /// # Errors
    /// As [`zeros_in`](Self::zeros_in).
    pub fn arange_in(count: usize, alloc: A) -> Result<Self, EvalError>
    where
        T: Element,
    {
        Self::from_fn_in([count], T::from_count, alloc)
    }

    /// A copy in memory from the same allocator.
    ///
    /// # Errors
    /// [`EvalError`] when the allocator refuses.
    pub fn try_clone(&self) -> Result<Self, EvalError>
    where
        A: Clone,
    {
        let buffer = Buffer::from_slice_in(&self.buffer, self.buffer.allocator().clone())?;
        Ok(Self { buffer, shape: self.shape })
    }

    /// The same elements in the same order under another shape, without copying.
    ///
    /// # Errors
    /// [`ShapeError`] if that has another number of elements.
    pub fn into_shape(self, shape: impl IntoShape) -> Result<Self, ShapeError> {
        Self::new(self.buffer, shape)
    }

    /// The number of elements along each axis.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The only element.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval};
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let x = View::new(&[1.0_f32, 2.0, 3.0], [3])?;
    /// assert_eq!(eval(&x.sum(..), &TensorAllocator::new())?.item()?, 6.0);
    /// assert_eq!(x.item().unwrap_err().to_string(), "the shape [3] has 3 elements, not 1");
    /// # Ok::<(), tenzor_expr::EvalError>(())
    /// ```
    ///
    /// # Errors
    /// [`ShapeError`] if there are none or several.
    pub fn item(&self) -> Result<T, ShapeError> {
        self.view().item()
    }

    /// The element at an index along each axis; `None` where there is none, or with another number of indices than there are axes.
    pub fn get(&self, index: &[usize]) -> Option<&T> {
        self.view().get(index)
    }

    /// As [`get`](Self::get), to be changed.
    pub fn get_mut(&mut self, index: &[usize]) -> Option<&mut T> {
        let place = Strides::row_major(&self.shape).find(&self.shape, index)?;
        self.buffer.get_mut(place)
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
        View { elements: Elements::from(&*self.buffer), shape: self.shape, strides: Strides::row_major(&self.shape) }
    }

    /// The allocator that the memory came from.
    pub fn allocator(&self) -> &A {
        self.buffer.allocator()
    }

    /// The memory.
    pub fn into_buffer(self) -> Buffer<T, A> {
        self.buffer
    }
}

fn of_elements(shape: impl IntoShape, given: usize) -> Result<Shape, ShapeError> {
    let shape = shape.into_shape()?;
    if shape.elements() == given { Ok(shape) } else { Err(ShapeErrorKind::Elements { shape, given }.into()) }
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

    fn term(&self, terms: &mut Terms) -> Term {
        terms.tensor(self.buffer.as_ptr(), &self.shape, &Strides::row_major(&self.shape))
    }

    #[inline(always)]
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Leaf<'e, T> {
        Leaf::given(Elements::from(&*self.buffer), Strides::row_major(&self.shape), &self.shape, to, context)
    }

    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<RowSlice<'_, T>> {
        (self.shape == *shape).then(|| RowSlice::from(&*self.buffer))
    }
}

/// A tensor that goes with the expression it stands in: what operators make of one that is not borrowed.
#[derive(Debug)]
pub struct Owned<T: Item, B: Allocator>(pub(crate) Tensor<T, B>);

impl<T: Item, B: Allocator> Node for Owned<T, B> {
    type Elem = T;
    type Source<'e>
        = Leaf<'e, T>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, T>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        Ok(self.0.shape)
    }

    fn term(&self, terms: &mut Terms) -> Term {
        (&self.0).term(terms)
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Leaf<'e, T> {
        Leaf::given(Elements::from(&*self.0.buffer), Strides::row_major(&self.0.shape), &self.0.shape, to, context)
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
    pub(crate) elements: Elements<'t, T>,
    pub(crate) shape: Shape,
    pub(crate) strides: Strides,
}

impl<'t, T: Item> View<'t, T> {
    /// The elements of a slice in row-major order.
    ///
    /// # Errors
    /// [`ShapeError`] if the shape has another number of elements.
    pub fn new(elements: &'t [T], shape: impl IntoShape) -> Result<Self, ShapeError> {
        let shape = of_elements(shape, elements.len())?;
        Ok(Self { elements: elements.into(), shape, strides: Strides::row_major(&shape) })
    }

    /// The elements of a slice from the one at `start` on, the next along each axis being `strides[axis]` further: none for a stride of 0, and
    /// before it where that is negative.
    ///
    /// ```
    /// use tenzor_expr::View;
    ///
    /// let elements = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    /// let view = View::with_strides(&elements, [2, 2], &[-3, 2], 3)?;
    /// assert_eq!(view.to_vec(), [4.0, 6.0, 1.0, 3.0]);
    /// # Ok::<(), tenzor_expr::ShapeError>(())
    /// ```
    ///
    /// # Errors
    /// [`ShapeError`] if some element would lie beyond the slice, or there is not one stride for each axis.
    pub fn with_strides(
        elements: &'t [T],
        shape: impl IntoShape,
        strides: &[isize],
        start: usize,
    ) -> Result<Self, ShapeError> {
        let shape = shape.into_shape()?;
        let strides = Strides::within(&shape, strides, start, elements.len())
            .ok_or(ShapeErrorKind::Strides { shape, given: elements.len() })?;
        Ok(Self { elements: elements.into(), shape, strides })
    }

    /// The number of elements along each axis.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The only element.
    ///
    /// # Errors
    /// [`ShapeError`] if there are none or several.
    pub fn item(&self) -> Result<T, ShapeError> {
        let error = ShapeErrorKind::Elements { shape: self.shape, given: 1 };
        if self.shape.elements() == 1 {
            // SAFETY: the only element is where the strides start.
            Ok(*unsafe { self.elements.at(self.strides.start) })
        } else {
            Err(error.into())
        }
    }

    /// The element at an index along each axis; `None` where there is none, or with another number of indices than there are axes.
    pub fn get(&self, index: &[usize]) -> Option<&'t T> {
        let place = self.strides.find(&self.shape, index)?;
        // SAFETY: the strides led there.
        Some(unsafe { self.elements.at(place) })
    }

    /// The elements, where they lie in the order of the shape, without gaps. The places may go on behind them.
    #[inline(always)]
    pub(crate) fn in_order(&self) -> Option<&'t [T]> {
        let is_row = self.strides.is_row_major(&self.shape);
        // SAFETY: these are the elements.
        is_row.then(|| unsafe { self.elements.range(0, self.shape.elements()) })
    }

    /// A copy of the elements, in the order of the shape.
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = vec![T::default(); self.shape.elements()];
        overwrite(
            &mut elements,
            &LeafReader::new(self.elements, &self.strides),
            &self.shape,
            &Rows::default(),
            Mode::sequential(),
        );
        elements
    }
}

impl<T: Item> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} ", T::NAME, self.shape)?;
        f.debug_list().entries(self.to_vec()).finish()
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

    fn term(&self, terms: &mut Terms) -> Term {
        terms.tensor(self.elements.as_ptr(), &self.shape, &self.strides)
    }

    #[inline(always)]
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Leaf<'e, T> {
        Leaf::given(self.elements, self.strides, &self.shape, to, context)
    }

    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<RowSlice<'_, T>> {
        if self.shape == *shape { self.in_order().map(RowSlice::from) } else { None }
    }
}
