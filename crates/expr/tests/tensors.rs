//! Making tensors, looking into them, and what they look like.
#![allow(missing_docs, clippy::unwrap_used)]

use std::error::Error;

use tenzor_expr::{EvalError, Expr, Shape, ShapeErrorKind, Tensor, View, eval};
use tenzor_memory::{PoolConfig, TensorAllocator};

type Result = std::result::Result<(), Box<dyn Error>>;

#[test]
fn tensors_are_made_and_looked_into() -> Result {
    let alloc = TensorAllocator::new();
    assert_eq!(Tensor::<bool, _>::zeros_in([2], &alloc)?.as_slice(), [false; 2]);
    assert_eq!(Tensor::<f32, _>::ones_in([3], &alloc)?.as_slice(), [1.0; 3]);
    assert_eq!(Tensor::full_in([2, 1], true, &alloc)?.as_slice(), [true; 2]);
    assert_eq!(Tensor::<f64, _>::arange_in(0, &alloc)?.shape()[..], [0]);
    assert_eq!(Tensor::full_in(Shape::SCALAR, 3.0, &alloc)?.item()?, 3.0);
    let mut x = Tensor::<f64, _>::arange_in(6, &alloc)?.into_shape([2, 3])?;
    let copy = x.try_clone()?;
    *x.get_mut(&[1, 2]).unwrap() = 9.0;
    assert_eq!((x.get(&[1, 2]), copy.get(&[1, 2]), copy.shape()), (Some(&9.0), Some(&5.0), x.shape()));
    for wrong in [&[][..], &[1], &[2, 0], &[0, 3], &[0, 0, 0], &[usize::MAX, usize::MAX]] {
        assert_eq!((x.get(wrong), x.view().get(wrong)), (None, None));
        assert_eq!(x.get_mut(wrong), None);
    }
    assert_eq!(x.item(), Err(ShapeErrorKind::Elements { shape: x.shape(), given: 1 }.into()));
    assert_eq!(Tensor::<f64, _>::zeros_in([0, 1], &alloc)?.item().ok(), None);
    assert_eq!(x.into_shape([4]).unwrap_err().to_string(), "the shape [4] has 4 elements, not 6");

    let huge = Tensor::<f64, _>::zeros_in([usize::MAX, 2], &alloc).unwrap_err();
    assert_eq!(huge, EvalError::Shape(ShapeErrorKind::TooLarge.into()));
    let small = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1 << 20)));
    assert!(matches!(Tensor::<f64, _>::ones_in([1 << 20], &small), Err(EvalError::Alloc(_))));
    Ok(())
}

#[test]
fn strides_are_checked_against_the_slice() -> Result {
    let alloc = TensorAllocator::new();
    let memory: Vec<f64> = (0..24).map(f64::from).collect();
    let mut random = fastrand::Rng::with_seed(5);
    let mut refused = 0;
    for _ in 0..5000 {
        let rank = random.usize(..4);
        let shape: Vec<usize> = (0..rank).map(|_| random.usize(1..4)).collect();
        let strides: Vec<isize> = (0..rank).map(|_| random.isize(-7..8)).collect();
        let start = random.usize(..24);
        let count: usize = shape.iter().product();
        let places = (0..count).map(|mut linear| {
            shape.iter().zip(&strides).rev().fold(start.cast_signed(), |place, (&size, &stride)| {
                let i = linear % size;
                linear /= size;
                place + i.cast_signed() * stride
            })
        });
        let places: Vec<isize> = places.collect();
        let is_within = places.iter().all(|place| (0..24).contains(place));
        let view = View::with_strides(&memory, &shape[..], &strides, start);
        assert_eq!(view.is_ok(), is_within, "{shape:?} {strides:?} {start}");
        let Ok(view) = view else {
            refused += 1;
            continue;
        };
        let expected: Vec<f64> = places.iter().map(|&place| place as f64).collect();
        assert_eq!(view.to_vec(), expected);
        assert_eq!(eval(&(view + 0.0), &alloc)?.as_slice(), expected);
        assert_eq!(eval(&view.reshape([count]), &alloc)?.as_slice(), expected);
        assert_eq!(eval(&view.sum(..), &alloc)?.item()?, expected.iter().sum());
        if rank >= 2 {
            let copy = eval(&view, &alloc)?;
            let product = eval(&view.matmul(view.transpose()), &alloc)?;
            assert_eq!(product.as_slice(), eval(&copy.matmul(copy.transpose()), &alloc)?.as_slice());
        }
    }
    assert!(refused > 1000);

    // In order, and shorter than the slice.
    let head = View::with_strides(&memory, [2, 2], &[2, 1], 0)?;
    assert_eq!(eval(&head, &alloc)?.as_slice(), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(eval(&(head * head), &alloc)?.as_slice(), [0.0, 1.0, 4.0, 9.0]);

    let fails = |shape: &[usize], strides: &[isize], start| {
        let shape = Shape::new(shape).unwrap();
        let error = View::with_strides(&memory, shape, strides, start).err();
        assert_eq!(error, Some(ShapeErrorKind::Strides { shape, given: 24 }.into()));
    };
    fails(&[2], &[], 0);
    fails(&[], &[1], 0);
    fails(&[], &[], 24);
    fails(&[2], &[isize::MAX], 1);
    fails(&[3], &[isize::MAX], 0);
    fails(&[3, 3], &[isize::MIN, isize::MIN], 0);
    fails(&[1], &[1], usize::MAX);
    assert!(View::<f64>::with_strides(&[], [0, 3], &[isize::MAX, 1], usize::MAX)?.to_vec().is_empty());
    assert_eq!(View::with_strides(&memory, [1, 2], &[isize::MIN, -1], 3)?.to_vec(), [3.0, 2.0]);
    Ok(())
}

/// What NumPy 2 prints for the same elements; but `true` and `false`.
#[test]
fn tensors_look_as_in_numpy() -> Result {
    fn text(elements: &[f64], shape: &[usize]) -> String {
        View::new(elements, shape).unwrap().to_string()
    }

    assert_eq!(text(&[1.0, 2.0, 3.0], &[3]), "[1. 2. 3.]");
    assert_eq!(text(&[1.0, -2.5, 3.25], &[3]), "[ 1.   -2.5   3.25]");
    assert_eq!(text(&[0.1, 1.0 / 3.0], &[2]), "[0.1        0.33333333]");
    assert_eq!(text(&[0.0, -0.0], &[2]), "[ 0. -0.]");
    assert_eq!(text(&[f64::NAN, 1.0, f64::INFINITY], &[3]), "[nan  1. inf]");
    assert_eq!(text(&[f64::NAN, 1.25, f64::NEG_INFINITY], &[3]), "[ nan 1.25 -inf]");
    assert_eq!(text(&[f64::NAN, f64::INFINITY], &[2]), "[nan inf]");
    assert_eq!(text(&[1e-10, 1.5], &[2]), "[1.0e-10 1.5e+00]");
    assert_eq!(text(&[1e10, 2e10], &[2]), "[1.e+10 2.e+10]");
    assert_eq!(text(&[1e100, -1.0, f64::NAN], &[3]), "[ 1.e+100 -1.e+000      nan]");
    assert_eq!(text(&[0.001, 1.0 / 3.0], &[2]), "[0.001      0.33333333]");
    assert_eq!(text(&[0.00001, 1.0 / 3.0], &[2]), "[1.00000000e-05 3.33333333e-01]");
    assert_eq!(text(&[1.0, 1000.0], &[2]), "[   1. 1000.]");
    assert_eq!(text(&[1.0, 1001.0], &[2]), "[1.000e+00 1.001e+03]");
    assert_eq!(text(&[], &[0]), "[]");
    assert_eq!(text(&[], &[2, 0, 3]), "[]");
    assert_eq!(text(&[1.0], &[]), "1.0");
    assert_eq!(text(&[1.0, 2.0, 3.0, 10.0], &[2, 2]), "[[ 1.  2.]\n [ 3. 10.]]");
    let eight: Vec<f64> = (0..8).map(f64::from).collect();
    assert_eq!(text(&eight, &[2, 2, 2]), "[[[0. 1.]\n  [2. 3.]]\n\n [[4. 5.]\n  [6. 7.]]]");
    assert_eq!(text(&eight[..2], &[1, 1, 1, 2]), "[[[[0. 1.]]]]");
    assert_eq!(text(&eight[..4], &[2, 1, 1, 2]), "[[[[0. 1.]]]\n\n\n [[[2. 3.]]]]");

    let floats = View::new(&[0.1_f32, 0.2, 1e-4], [3])?;
    assert_eq!(floats.to_string(), "[1.e-01 2.e-01 1.e-04]");
    assert_eq!(View::new(&[0.1_f32, 1.0 / 3.0], [2])?.to_string(), "[0.1        0.33333334]");
    assert_eq!(View::new(&[true, false, true], [3])?.to_string(), "[ true false  true]");
    // What is cut or has more digits than the shortest is what it is.
    let far = View::new(&[2.351_466_1e11_f32, 7.804_546e-7], [2])?;
    assert_eq!(format!("{far:.9}"), "[2.3514661e+11 7.8045463e-07]");
    let third = View::new(&[1.0 / 3.0, 20.0], [2])?;
    assert_eq!(format!("{third:.3}"), "[ 0.333 20.   ]");
    assert_eq!(format!("{third:.0}"), "[ 0. 20.]");
    assert_eq!(format!("{:.2}", View::new(&[1.0 / 3.0], [])?), "0.33");
    assert_eq!(format!("{:.2}", View::new(&[true], [])?), "true");
    assert_eq!(format!("{:.2}", View::new(&[1e-9 / 3.0], [1])?), "[3.33e-10]");
    // Of the shape, not of the memory.
    let turned = View::with_strides(&eight, [2, 2], &[-1, -4], 7)?;
    assert_eq!(turned.to_string(), "[[7. 3.]\n [6. 2.]]");
    Ok(())
}

#[test]
fn long_lines_are_broken_and_large_tensors_shown_in_part() -> Result {
    let alloc = TensorAllocator::new();
    let counted = |count| Tensor::<f64, _>::arange_in(count, &alloc);
    let lines = "\
[ 0.  1.  2.  3.  4.  5.  6.  7.  8.  9. 10. 11. 12. 13. 14. 15. 16. 17.
 18. 19. 20. 21. 22. 23. 24. 25. 26. 27. 28. 29.]";
    assert_eq!(counted(30)?.to_string(), lines);
    assert_eq!(counted(1001)?.to_string(), "[   0.    1.    2. ...  998.  999. 1000.]");
    let text = counted(1000)?.to_string();
    assert!(
        text.starts_with("[  0.   1.")
            && text.ends_with(" 999.]")
            && !text.contains("...")
            && text.lines().count() == 72
    );
    let square = "\
[[  10.   11.   12. ...   47.   48.   49.]
 [  50.   51.   52. ...   87.   88.   89.]
 [  90.   91.   92. ...  127.  128.  129.]
 ...
 [1490. 1491. 1492. ... 1527. 1528. 1529.]
 [1530. 1531. 1532. ... 1567. 1568. 1569.]
 [1570. 1571. 1572. ... 1607. 1608. 1609.]]";
    let tens = |count| Tensor::from_fn_in([count], |i| 10.0 + i as f64, &alloc);
    assert_eq!(tens(1600)?.into_shape([40, 40])?.to_string(), square);
    let cube = "\
[[[  10.   11.]
  [  12.   13.]]

 [[  14.   15.]
  [  16.   17.]]

 [[  18.   19.]
  [  20.   21.]]

 ...

 [[1198. 1199.]
  [1200. 1201.]]

 [[1202. 1203.]
  [1204. 1205.]]

 [[1206. 1207.]
  [1208. 1209.]]]";
    assert_eq!(tens(1200)?.into_shape([300, 2, 2])?.to_string(), cube);
    // As long as it takes to print what is shown.
    let one = [1.0_f32];
    let huge = View::with_strides(&one, [1 << 40], &[0], 0)?;
    assert_eq!(huge.to_string(), "[1. 1. 1. ... 1. 1. 1.]");
    Ok(())
}
