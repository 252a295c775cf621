//! Views of ndarray's arrays.
#![cfg(feature = "ndarray")]
#![allow(missing_docs)]

use std::error::Error;

use ndarray::{Array2, Axis, s};
use tenzor_expr::{Expr, ShapeError, View, eval, eval_into};
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

#[test]
fn gaps_are_refused_and_nothing_is_nothing() -> Result {
    let array = Array2::<f32>::zeros((3, 4));
    let error = View::try_from(array.slice(s![.., 1..3])).err().ok_or("no error")?;
    assert!(matches!(error, ShapeError::Gaps { shape } if shape[..] == [3, 2]));
    for empty in [array.slice(s![0..0, ..]), array.slice(s![.., 1..1])] {
        eval_into(&View::try_from(empty)?.exp(), &mut [])?;
    }
    Ok(())
}
