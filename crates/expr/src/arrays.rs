//! Arrays of the crate `ndarray` as views, and the other way round, without copying.
//!
//! Unsafe code hands over where elements lie, as there may be other things between them.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use ndarray::{ArrayBase, ArrayView, ArrayViewMut, Axis, Data, Dimension, IxDyn, ShapeBuilder};
use tenzor_memory::Allocator;

use crate::elements::Elements;
use crate::item::Item;
use crate::shape::{Shape, ShapeError, ShapeErrorKind, Strides};
use crate::tensor::{Tensor, View};

/// The elements of an array without copying: in whatever order its axes are, backwards along some, repeated along others (as
/// `ndarray`'s `broadcast` does), with whatever lies between them.
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
impl<'t, T: Item, D: Dimension> TryFrom<ArrayView<'t, T, D>> for View<'t, T> {
    type Error = ShapeError;

    fn try_from(array: ArrayView<'t, T, D>) -> Result<Self, ShapeError> {
        let shape = Shape::new(array.shape())?;
        if shape.elements() == 0 {
            return Self::new(&[], shape);
        }
        let mut strides = Strides::default();
        let mut last = 0;
        for (axis, (&size, &step)) in shape.iter().zip(array.strides()).enumerate().filter(|(_, (size, _))| **size > 1)
        {
            strides.steps[axis] = step;
            let span = (size - 1) * step.unsigned_abs();
            // The places start with the lowest address, not with the first element.
            if step < 0 {
                strides.start += span;
            } else {
                last += span;
            }
        }
        let last = strides.start + last;
        // SAFETY: an array's elements are in one allocation, the lowest so far before the first.
        let first = unsafe { NonNull::from(&array[D::zeros(array.ndim())]).sub(strides.start) };
        // SAFETY: as above, up to the highest; they live and are not written to as long as the array is borrowed, and the strides are the array's.
        Ok(Self { elements: unsafe { Elements::new(first, last + 1) }, shape, strides })
    }
}

/// As of its [`ArrayView`].
impl<'t, T: Item, S: Data<Elem = T>, D: Dimension> TryFrom<&'t ArrayBase<S, D>> for View<'t, T> {
    type Error = ShapeError;

    fn try_from(array: &'t ArrayBase<S, D>) -> Result<Self, ShapeError> {
        array.view().try_into()
    }
}

/// The elements of any view without copying. An error unless it has as many axes as the array's type.
///
/// ```
/// # use tenzor_expr::View;
/// let view = View::with_strides(&[1.0_f32, 2.0, 3.0, 4.0], [2, 2], &[-2, 1], 2)?;
/// let array: ndarray::ArrayView2<f32> = view.try_into()?;
/// assert_eq!(array, ndarray::array![[3.0, 4.0], [1.0, 2.0]]);
/// # Ok::<(), tenzor_expr::ShapeError>(())
/// ```
impl<'t, T: Item, D: Dimension> TryFrom<View<'t, T>> for ArrayView<'t, T, D> {
    type Error = ShapeError;

    fn try_from(view: View<'t, T>) -> Result<Self, ShapeError> {
        let View { elements, shape, strides } = view;
        let mut first = strides.start;
        let mut steps = [0; crate::MAX_RANK];
        // ndarray's steps in memory go forwards only, and are turned afterwards.
        let is_backwards = |axis: usize| strides.steps[axis] < 0 && shape[axis] > 1;
        for axis in 0..shape.rank() {
            steps[axis] = strides.steps[axis].unsigned_abs();
            if is_backwards(axis) {
                first -= (shape[axis] - 1) * steps[axis];
            }
        }
        let array = if shape.elements() == 0 {
            ArrayView::from_shape(IxDyn(&shape), &[])
        } else {
            let steps = IxDyn(&steps[..shape.rank()]);
            // SAFETY: from the lowest on, the steps lead to the view's elements, which live and are not written to as long as it is there.
            Ok(unsafe { ArrayView::from_shape_ptr(IxDyn(&shape).strides(steps), elements.as_ptr().add(first)) })
        };
        let mut array = array.map_err(|_| ShapeErrorKind::Strides { shape, given: elements.len() })?;
        for axis in (0..shape.rank()).filter(|&axis| is_backwards(axis)) {
            array.invert_axis(Axis(axis));
        }
        array.into_dimensionality().map_err(|_| rank::<D>(shape))
    }
}

/// The elements of a tensor without copying. An error unless it has as many axes as the array's type.
impl<'t, T: Item, A: Allocator, D: Dimension> TryFrom<&'t Tensor<T, A>> for ArrayView<'t, T, D> {
    type Error = ShapeError;

    fn try_from(tensor: &'t Tensor<T, A>) -> Result<Self, ShapeError> {
        tensor.view().try_into()
    }
}

/// The elements of a tensor without copying, to be changed. An error unless it has as many axes as the array's type.
///
/// ```
/// # use tenzor_expr::Tensor;
/// # let alloc = tenzor_memory::TensorAllocator::new();
/// let mut tensor = Tensor::<f64, _>::arange_in(6, &alloc)?.into_shape([2, 3])?;
/// let mut array: ndarray::ArrayViewMut2<f64> = (&mut tensor).try_into()?;
/// array.column_mut(1).fill(9.0);
/// assert_eq!(tensor.as_slice(), [0.0, 9.0, 2.0, 3.0, 9.0, 5.0]);
/// # Ok::<(), tenzor_expr::EvalError>(())
/// ```
impl<'t, T: Item, A: Allocator, D: Dimension> TryFrom<&'t mut Tensor<T, A>> for ArrayViewMut<'t, T, D> {
    type Error = ShapeError;

    fn try_from(tensor: &'t mut Tensor<T, A>) -> Result<Self, ShapeError> {
        let shape = tensor.shape();
        let elements = tensor.as_mut_slice();
        let given = elements.len();
        let array = ArrayViewMut::from_shape(IxDyn(&shape), elements);
        array.map_err(|_| ShapeErrorKind::Strides { shape, given })?.into_dimensionality().map_err(|_| rank::<D>(shape))
    }
}

fn rank<D: Dimension>(shape: Shape) -> ShapeError {
    ShapeErrorKind::Order { operation: &"ndarray", shape, given: D::NDIM.unwrap_or_default() }.into()
}
