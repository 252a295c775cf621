//! Views of ndarray's arrays.
#![cfg(feature = "ndarray")]
#![allow(missing_docs)]

use std::error::Error;

use ndarray::{Array2, ArrayD, ArrayView, ArrayView1, ArrayView2, ArrayViewMut2, Axis, Ix5, s};
use tenzor_expr::{Expr, Tensor, View, eval, eval_into};
use tenzor_memory::TensorAllocator;

type Result = std::result::Result<(), Box<dyn Error>>;

#[test]
fn arrays_in_any_order_are_read_where_they_are() -> Result {
    let alloc = TensorAllocator::new();
    let array = Array2::from_shape_fn((5, 7), |(i, j)| (i * 7 + j) as f64);
    let mut reversed = array.view();
    reversed.invert_axis(Axis(0));
    reversed.invert_axis(Axis(1));
    for view in [array.view(), reversed, array.slice(s![1..4, ..])] {
        for view in [view, view.reversed_axes()] {
            let ours = View::try_from(view)?;
            let expected: Vec<f64> = view.iter().copied().collect();
            assert_eq!(eval(&(ours + 0.0), &alloc)?.as_slice(), expected);
            assert!(format!("{ours:?}").ends_with(&format!("{expected:?}")));
            let product = view.dot(&view.t());
            let expected: Vec<f64> = product.iter().copied().collect();
            assert_eq!(eval(&ours.matmul(ours.transpose()), &alloc)?.as_slice(), expected);
        }
    }
    Ok(())
}

/// Repeated, backwards and exchanged axes in all combinations, to views and back.
#[test]
fn views_and_arrays_are_each_other() -> Result {
    let array = ArrayD::from_shape_fn(vec![2, 1, 3, 4], |at| (at[0] * 100 + at[2] * 10 + at[3]) as f64);
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..500 {
        let mut part = array.view();
        for axis in 0..4 {
            match random.u8(..4) {
                0 => part.invert_axis(Axis(axis)),
                1 if part.len_of(Axis(axis)) > 1 => part.slice_axis_inplace(Axis(axis), (1..).into()),
                2 => part.slice_axis_inplace(Axis(axis), ndarray::Slice::new(0, None, 2)),
                _ => {}
            }
        }
        if random.bool() {
            part.slice_axis_inplace(Axis(random.usize(..4)), (..1).into());
        }
        let mut order = [0, 1, 2, 3];
        random.shuffle(&mut order);
        let part = part.permuted_axes(&order[..]);
        let sizes: Vec<usize> = part.shape().iter().map(|&n| if n == 1 { random.usize(1..4) } else { n }).collect();
        let stretched = part.broadcast([&[random.usize(1..3)][..], &sizes].concat()).ok_or("no broadcast")?;
        let expected: Vec<f64> = stretched.iter().copied().collect();
        let view = View::try_from(stretched.view())?;
        assert_eq!(view.to_vec(), expected);
        let back: ArrayView<'_, f64, Ix5> = view.try_into()?;
        assert_eq!(back.into_dyn(), stretched);
        let back: Option<ArrayView1<'_, f64>> = view.try_into().ok();
        assert!(back.is_none());
    }
    Ok(())
}

#[test]
fn repeated_elements_need_no_memory() -> Result {
    let alloc = TensorAllocator::new();
    let row = ndarray::array![1.0_f32, 2.0, 3.0];
    let view = View::try_from(row.broadcast((2, 3)).ok_or("no broadcast")?)?;
    assert_eq!(eval(&view.sum(0), &alloc)?.as_slice(), [2.0, 4.0, 6.0]);
    let one = ndarray::arr0(5.0_f32);
    let view = View::try_from(one.broadcast((2, 2)).ok_or("no broadcast")?)?;
    assert_eq!(eval(&view.matmul(view), &alloc)?.as_slice(), [50.0; 4]);
    assert_eq!(View::try_from(&one)?.item()?, 5.0);
    let back: ndarray::ArrayView0<'_, f32> = View::try_from(&one)?.try_into()?;
    assert_eq!(back, one.view());
    Ok(())
}

#[test]
fn tensors_are_arrays() -> Result {
    let alloc = TensorAllocator::new();
    let mut tensor = Tensor::<f64, _>::arange_in(6, &alloc)?.into_shape([2, 3])?;
    let array: ArrayView2<'_, f64> = (&tensor).try_into()?;
    assert_eq!(array, ndarray::array![[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
    let error = ArrayView1::try_from(&tensor).err().ok_or("no error")?;
    assert_eq!(error.to_string(), "ndarray: 1 axes are not all of the shape [2, 3]");
    ArrayViewMut2::try_from(&mut tensor)?.swap_axes(0, 1);
    ArrayViewMut2::try_from(&mut tensor)?.row_mut(0).assign(&ndarray::array![7.0, 8.0, 9.0]);
    assert_eq!(tensor.as_slice(), [7.0, 8.0, 9.0, 3.0, 4.0, 5.0]);
    for shape in [[0, 3], [3, 0], [0, 0]] {
        let mut none = Tensor::<bool, _>::zeros_in(shape, &alloc)?;
        assert_eq!(ArrayView2::try_from(&none)?.shape(), shape);
        assert_eq!(ArrayViewMut2::try_from(&mut none)?.shape(), shape);
    }
    Ok(())
}

/// Parts with whatever lies between their elements, in every way in which leaves are read, and back to arrays.
#[test]
fn parts_with_gaps_are_read_where_they_are() -> Result {
    let alloc = TensorAllocator::new();
    let array = Array2::from_shape_fn((70, 90), |(i, j)| ((i * 90 + j) % 97) as f32);
    let parts = [
        array.slice(s![.., 1..3]),
        array.slice(s![.., ..1]),
        array.slice(s![3..69;2, ..]),
        array.slice(s![.., ..;2]),
        array.slice(s![..;-2, ..;-3]),
        array.slice(s![1..2, 5..80]),
        array.slice(s![.., 20..88]),
    ];
    for part in parts.into_iter().flat_map(|part| [part, part.reversed_axes()]) {
        let view = View::try_from(part)?;
        let expected: Vec<f32> = part.iter().copied().collect();
        assert_eq!(view.to_vec(), expected);
        assert_eq!(ArrayView2::try_from(view)?, part);
        assert_eq!(eval(&view, &alloc)?.as_slice(), expected);
        assert_eq!(eval(&(view * 2.0 + view), &alloc)?.as_slice(), (&part * 3.0).iter().copied().collect::<Vec<_>>());
        assert_eq!(eval(&view.transpose(), &alloc)?.as_slice(), part.t().iter().copied().collect::<Vec<_>>());
        assert_eq!(eval(&view.sum(..), &alloc)?.item()?, part.sum());
        for axis in [0, 1] {
            assert_eq!(eval(&view.sum(axis), &alloc)?.as_slice(), part.sum_axis(Axis(axis)).to_vec());
            assert_eq!(eval(&view.flip(axis).max(axis), &alloc)?.shape()[..], [part.shape()[1 - axis]]);
            let (first, last) = (part.index_axis(Axis(axis), 0), part.index_axis(Axis(axis), part.shape()[axis] - 1));
            let indices = [part.shape()[axis] - 1, 0];
            let taken = eval(&view.gather(axis, View::new(&indices, [2])?), &alloc)?;
            let expected = ndarray::stack(Axis(axis), &[last, first])?;
            assert_eq!(taken.as_slice(), expected.iter().copied().collect::<Vec<_>>());
        }
        let product: Vec<f32> = part.t().dot(&part).iter().copied().collect();
        assert_eq!(eval(&view.transpose().matmul(view), &alloc)?.as_slice(), product);
        assert_eq!(view.get(&[0, 0]), part.first());
    }
    assert_eq!(View::try_from(array.slice(s![3..4, 5..6]))?.item()?, array[[3, 5]]);
    assert_eq!(View::try_from(array.diag())?.to_vec(), array.diag().to_vec());
    let mut halves = array.clone();
    // What lies between is somebody else's.
    let (mut left, right) = halves.multi_slice_mut((s![.., ..;2], s![.., 1..;2]));
    let view = View::try_from(right.view())?;
    left.fill(-1.0);
    assert_eq!(view.to_vec(), array.slice(s![.., 1..;2]).iter().copied().collect::<Vec<_>>());
    assert_eq!(left[[0, 0]], -1.0);
    Ok(())
}

#[test]
fn nothing_is_nothing() -> Result {
    let array = Array2::<f32>::zeros((3, 4));
    for empty in [array.slice(s![0..0, ..]), array.slice(s![.., 1..1])] {
        eval_into(&View::try_from(empty)?.exp(), &mut [])?;
    }
    Ok(())
}
