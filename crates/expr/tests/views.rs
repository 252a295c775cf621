//! Axes, ranges and steps as users give them, against indexing by hand.
#![allow(missing_docs, clippy::unwrap_used, clippy::reversed_empty_ranges)]

use std::error::Error;

use tenzor_expr::{Expr, Shape, ShapeError, ShapeErrorKind, View, eval};
use tenzor_memory::TensorAllocator;

type Result = std::result::Result<(), Box<dyn Error>>;

fn elements(count: usize) -> Vec<f64> {
    (0..count).map(|i| i as f64).collect()
}

fn indices(shape: &[usize], mut linear: usize) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (i, &size) in at.iter_mut().zip(shape).rev() {
        *i = linear % size;
        linear /= size;
    }
    at
}

fn linear(shape: &[usize], at: &[usize]) -> usize {
    shape.iter().zip(at).fold(0, |linear, (&size, &i)| linear * size + i)
}

/// Each element is its place in memory, so that the expected ones are the places that `from` leads to.
fn check(
    name: &str,
    expr: impl Expr<Elem = f64>,
    shape: &[usize],
    to: &[usize],
    from: impl Fn(&[usize]) -> Vec<usize>,
) {
    let alloc = TensorAllocator::new();
    let result = eval(&expr, &alloc).unwrap();
    assert_eq!(result.shape()[..], *to, "{name} of {shape:?}");
    let expected: Vec<f64> = (0..to.iter().product()).map(|i| linear(shape, &from(&indices(to, i))) as f64).collect();
    assert_eq!(result.as_slice(), expected, "{name} of {shape:?}");
}

#[test]
fn ranges_steps_and_indices_find_what_indexing_finds() -> Result {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..3000 {
        let rank = random.usize(1..5);
        let shape: Vec<usize> = (0..rank).map(|_| random.usize(..7)).collect();
        let memory = elements(shape.iter().product());
        let x = View::new(&memory, &shape[..])?;
        let axis = random.usize(..rank);
        let size = shape[axis];
        let other = axis.cast_signed() - rank.cast_signed();
        let start = random.usize(..=size);
        let end = random.usize(start..=size);
        let with = |size| {
            let mut to = shape.clone();
            to[axis] = size;
            to
        };
        let along = |f: &dyn Fn(usize) -> usize| {
            let f = (0..=size).map(f).collect::<Vec<_>>();
            move |at: &[usize]| {
                let mut at = at.to_vec();
                at[axis] = f[at[axis]];
                at
            }
        };
        let shifted = along(&|i| start + i);
        check("slice", x.slice(axis, start..end), &shape, &with(end - start), &shifted);
        check("from", x.slice(axis, start..), &shape, &with(size - start), &shifted);
        check("to", x.slice(axis, ..end), &shape, &with(end), along(&|i| i));
        check("all", x.slice(other, ..), &shape, &shape, along(&|i| i));
        let back = |i: usize| i.cast_signed() - size.cast_signed();
        if start < size && end < size {
            check("negative", x.slice(other, back(start)..back(end)), &shape, &with(end - start), &shifted);
            check("inclusive", x.slice(other, start..=end), &shape, &with(end - start + 1), &shifted);
            check("both", x.slice(other, back(start)..=back(end)), &shape, &with(end - start + 1), &shifted);
        }
        let step = random.usize(1..5);
        let taken: Vec<usize> = (start..end).step_by(step).collect();
        let stepped = along(&|i| taken.get(i).copied().unwrap_or(0));
        check("stepped", x.stepped(axis, start..end, step.cast_signed()), &shape, &with(taken.len()), stepped);
        let taken: Vec<usize> = (start..end).rev().step_by(step).collect();
        let stepped = along(&|i| taken.get(i).copied().unwrap_or(0));
        check("back", x.stepped(axis, start..end, -step.cast_signed()), &shape, &with(taken.len()), stepped);
        check("flip", x.flip(other), &shape, &shape, along(&|i| size.wrapping_sub(1 + i)));

        let index = random.usize(..size.max(1));
        if size > 0 {
            let mut to = shape.clone();
            to.remove(axis);
            let from = |at: &[usize]| [&at[..axis], &[index], &at[axis..]].concat();
            check("index", x.index_axis(axis, index), &shape, &to, from);
            check("index", x.index_axis(other, back(index)), &shape, &to, from);
        }
        let mut to = shape.clone();
        to.insert(axis, 1);
        let from = |at: &[usize]| [&at[..axis], &at[axis + 1..]].concat();
        check("unsqueeze", x.unsqueeze(axis), &shape, &to, from);
        check("squeeze", x.unsqueeze(other - 1).squeeze(other - 1), &shape, &shape, <[usize]>::to_vec);
        let order: Vec<isize> = (0..rank.cast_signed()).map(|axis| -1 - axis).collect();
        let to: Vec<usize> = shape.iter().rev().copied().collect();
        check("reversed", x.permute(&order), &shape, &to, |at| at.iter().rev().copied().collect());
    }
    Ok(())
}

/// What follows a view with negative steps reads it as what it is.
#[test]
fn backwards_views_are_reshaped_reduced_and_multiplied() -> Result {
    let alloc = TensorAllocator::new();
    let memory = elements(24);
    let x = View::new(&memory, [2, 3, 4])?;
    // Both as one run, and as something that has to be moved.
    let turned = x.flip(0).flip(1).flip(2);
    let expected: Vec<f64> = memory.iter().rev().copied().collect();
    assert_eq!(eval(&turned.reshape([4, 6]), &alloc)?.as_slice(), expected);
    assert_eq!(eval(&turned.reshape([24]).stepped(0, .., -1), &alloc)?.as_slice(), memory);
    let partly = x.flip(1);
    let copy = eval(&partly, &alloc)?;
    assert_eq!(eval(&partly.reshape([6, 4]), &alloc)?.as_slice(), copy.as_slice());
    assert_eq!(eval(&partly.reshape([24]), &alloc)?.as_slice(), copy.as_slice());
    for axis in -3..3 {
        for flipped in [x.flip(axis), x.stepped(axis, .., -2), x.stepped(axis, .., 2)] {
            let copy = eval(&flipped, &alloc)?;
            for along in 0..3 {
                assert_eq!(eval(&flipped.sum(along), &alloc)?.as_slice(), eval(&copy.sum(along), &alloc)?.as_slice());
                assert_eq!(
                    eval(&flipped.softmax(along), &alloc)?.as_slice(),
                    eval(&copy.softmax(along), &alloc)?.as_slice()
                );
            }
            let product = eval(&flipped.matmul(flipped.transpose()), &alloc)?;
            assert_eq!(product.as_slice(), eval(&copy.matmul(copy.transpose()), &alloc)?.as_slice());
            let product = eval(&flipped.transpose().matmul(flipped.flip(-1)), &alloc)?;
            assert_eq!(product.as_slice(), eval(&copy.transpose().matmul(copy.flip(-1)), &alloc)?.as_slice());
        }
    }
    Ok(())
}

#[test]
fn what_is_not_there_is_named_as_it_was_given() -> Result {
    let memory = elements(6);
    let x = View::new(&memory, [2, 3])?;
    let shape = Shape::new(&[2, 3])?;
    let axis = |operation, axis| Some(ShapeErrorKind::Axis { operation, shape, axis }.into());
    assert_eq!(x.sum(2).shape().err(), axis(&"sum", 2));
    assert_eq!(x.sum(-3).shape().err(), axis(&"sum", -3));
    assert_eq!(x.sum([0, 1, -1]).shape().err(), axis(&"sum", -1));
    assert_eq!(x.sum([1, 1]).shape().err(), axis(&"sum", 1));
    assert_eq!(x.sum([0, 1, 2, 3, 4, 5, 6, 7, 8]).shape().err(), axis(&"sum", 2));
    assert_eq!(x.mean(usize::MAX).shape().err(), axis(&"mean", isize::MAX));
    assert_eq!(x.max(isize::MIN).shape().err(), axis(&"max", isize::MIN));
    assert_eq!(x.softmax(-3).shape().err(), axis(&"softmax", -3));
    assert_eq!(x.permute([0, -2]).shape().err(), axis(&"permute", -2));
    assert_eq!(x.permute([0, 2]).shape().err(), axis(&"permute", 2));
    assert_eq!(x.permute(-1).shape().unwrap_err().kind.to_string(), "permute: 1 axes are not all of the shape [2, 3]");
    assert_eq!(x.slice(2, ..).shape().err(), axis(&"slice", 2));
    assert_eq!(x.flip(-3).shape().err(), axis(&"flip", -3));
    assert_eq!(x.index_axis(2, 0).shape().err(), axis(&"index_axis", 2));
    assert_eq!(x.squeeze(-3).shape().err(), axis(&"squeeze", -3));
    assert_eq!(x.unsqueeze(3).shape().err(), axis(&"unsqueeze", 3));
    assert_eq!(x.unsqueeze(-4).shape().err(), axis(&"unsqueeze", -4));

    let said = |result: std::result::Result<Shape, ShapeError>| result.unwrap_err().kind.to_string();
    assert_eq!(said(x.sum([1, -1]).shape()), "sum: axis -1 of the shape [2, 3] is named twice");
    assert_eq!(said(x.sum([1, -3]).shape()), "sum: the shape [2, 3] has no axis -3");
    assert_eq!(said(x.unsqueeze(3).shape()), "unsqueeze: the shape [2, 3] has no axis 3");
    assert_eq!(said(x.index_axis(0, 0).transpose().shape()), "transpose: the shape [3] has no axis -2");
    assert_eq!(
        said(x.index_axis(-1, -4).shape()),
        "index_axis: there is no index -4 along axis -1 of the shape [2, 3]"
    );
    assert_eq!(said(x.index_axis(0, 2).shape()), "index_axis: there is no index 2 along axis 0 of the shape [2, 3]");
    assert_eq!(said(x.slice(-1, 2..-2).shape()), "slice: 2..-2 is not within axis -1 of the shape [2, 3]");
    assert_eq!(said(x.slice(1, ..=3).shape()), "slice: ..=3 is not within axis 1 of the shape [2, 3]");
    assert_eq!(said(x.slice(1, -4..).shape()), "slice: -4.. is not within axis 1 of the shape [2, 3]");
    for wrong in [x.slice(1, ..=usize::MAX), x.slice(1, isize::MIN..), x.slice(1, isize::MAX..isize::MIN)] {
        assert!(matches!(wrong.shape().unwrap_err().kind, ShapeErrorKind::Range { .. }));
    }
    assert_eq!(said(x.stepped(1, .., 0).shape()), "stepped: a step of 0 leads nowhere in the shape [2, 3]");
    assert_eq!(said(x.squeeze(1).shape()), "squeeze: the shapes [2, 3] and [2, 1] do not go together");
    let six = x.unsqueeze(0).unsqueeze(0).unsqueeze(0).unsqueeze(0);
    assert_eq!(said(six.unsqueeze(-1).shape()), "7 axes are more than 6");
    Ok(())
}

/// No step is too long to be taken once.
#[test]
fn steps_may_be_as_long_as_numbers_are() -> Result {
    let alloc = TensorAllocator::new();
    let memory = elements(6);
    let x = View::new(&memory, [2, 3])?;
    for (step, column) in [(isize::MAX, 0.0), (isize::MIN, 2.0), (3, 0.0), (-3, 2.0)] {
        let taken = x.stepped(1, .., step).stepped(1, .., step);
        assert_eq!(eval(&taken, &alloc)?.as_slice(), [column, column + 3.0]);
        assert_eq!(eval(&taken.reshape([2]).flip(0), &alloc)?.as_slice(), [column + 3.0, column]);
    }
    Ok(())
}
