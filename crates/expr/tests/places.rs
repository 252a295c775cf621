//! A shape error says where in the program the operation is called that failed.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::panic::Location;

use tenzor_expr::nodes::Scalar;
use tenzor_expr::{Eval, EvalError, Expr, ShapeError, Tensor, View, concat, eval, eval_into, stack};
use tenzor_memory::TensorAllocator;

/// Whether an expression fails in the line in which this is called, and says so.
#[track_caller]
fn here(expr: impl Expr) {
    told(expr.shape());
}

#[track_caller]
fn told<T>(result: Result<T, impl Into<EvalError>>) {
    let EvalError::Shape(error) = result.err().unwrap().into() else { panic!("no error of shapes") };
    let caller = Location::caller();
    let place = error.place.unwrap_or_else(|| panic!("{error} says no place"));
    assert_eq!((place.file(), place.line()), (caller.file(), caller.line()), "{error}");
    assert_eq!(error.to_string(), format!("{}, at {}:{}:{}", error.kind, place.file(), place.line(), place.column()));
}

#[test]
fn each_operator_is_named_by_its_place() {
    let alloc = TensorAllocator::new();
    let (a, b) = (&Tensor::<f32, _>::ones_in([2, 3], &alloc).unwrap(), &Tensor::zeros_in([4], &alloc).unwrap());
    let owned = || Tensor::<f32, _>::ones_in([4], &alloc).unwrap();
    here(a * b);
    here(a + b);
    here(b - a);
    here(b / a);
    here(a * 2.0 * b);
    here(2.0 * a - b);
    here((2.0 + a) / (b / 2.0));
    here(a * owned());
    here(owned() * a);
    here(2.0 * owned() + a);
    here(-a.exp() * -b.exp());
    here(a.boxed() + b);
    here(a.view() + b.view());
    here(Scalar(2.0) * a + b);
    here(a.gt(0.0) & b.gt(0.0));
    here(a.gt(0.0) | b.gt(0.0));
}

#[test]
fn of_several_that_of_the_first_that_fails() {
    let (a, b) = (View::new(&[1.0_f32; 6], [2, 3]).unwrap(), View::new(&[1.0_f32; 4], [4]).unwrap());
    let line = line!() + 3;
    let sums = |x: View<'static, f32>, y: View<'static, f32>| {
        let first = x * x * 2.0 + x;
        let second = x * x * y * x;
        (first + second).exp().sum(1) + first
    };
    let expr = sums(a, b);
    let error = expr.shape().unwrap_err();
    assert_eq!(error.place.unwrap().line(), line);
    let text = error.to_string();
    assert!(text.starts_with("*: the shapes [2, 3] and [4] do not go together, at "), "{text}");
    assert!(text.contains(&format!("places.rs:{line}:")), "{text}");

    // Of those in one line the column tells, and the shapes do where one begins with another.
    let column = |expr: Result<_, ShapeError>| expr.unwrap_err().place.unwrap().column();
    let columns = [(a, a, b), (a, b, a)].map(|(x, y, z)| column((x * y + z * x).shape()));
    assert!(columns[0] > columns[1], "{columns:?}");
}

#[test]
fn methods_and_functions_are_named_by_their_places() {
    let (a, b) = (View::new(&[1.0_f32; 6], [2, 3]).unwrap(), View::new(&[1.0_f32; 4], [4]).unwrap());
    let (none, number) = (a.slice(0, ..0), a.sum(..));
    let indices = View::new(&[0_usize; 4], [4]).unwrap();
    here(a.maximum(b));
    here(a.add(b));
    here(a.lt(b));
    here(a.powf(b));
    here(a.gt(0.0).where_(b, 0.0));
    here(a.gt(0.0).where_(a, b));
    here(a.gt(0.0).and(b.gt(0.0)));
    here(a.gt(0.0).or(b.gt(0.0)));
    here(a.zip_map(b, |x, y| x + y));
    here(a.matmul(b));
    here(b.dot(b.slice(0, 1..)));
    here(a.clip(b, 1.0));
    here(a.clip(0.0, b));
    here(number.transpose());
    here(a.permute([0, 0]));
    here(a.reshape([4]));
    here(a.reshape([0; 7]));
    here(a.slice(1, 2..5));
    here(a.stepped(1, .., 0));
    here(a.flip(2));
    here(a.index_axis(0, 2));
    here(a.squeeze(0));
    here(a.unsqueeze(4));
    here(a.broadcast_to([3, 3]));
    here(a.gather(2, indices));
    here(indices.unsqueeze(0).unsqueeze(0).unsqueeze(0).unsqueeze(0).unsqueeze(0).one_hot::<f32>(2));
    here(a.sum(2));
    here(a.mean(2).keep_dims());
    here(a.prod(2));
    here(none.max(0));
    here(none.min(..));
    here(none.argmax(0).keep_dims());
    here(a.argmin(2));
    here(a.gt(0.0).count(2));
    here(a.gt(0.0).any(2));
    here(a.gt(0.0).all(2).keep_dims());
    here(a.var(2).ddof(1));
    here(a.std(2).keep_dims());
    here(a.norm(2));
    here(a.cumsum(2));
    here(a.softmax(2));
    here(number.layer_norm(1e-5));
    here(concat([b, b], 1));
    here(concat([a.slice(1, ..), a.slice(1, 1..)], 0));
    here(stack([a.slice(0, ..1), a.slice(0, ..2)], 0));
    // What is made of what failed says where that was, though it may fail as well.
    let line = line!() + 1;
    let wrong = a.slice(1, 2..5);
    let place = |expr: Result<_, ShapeError>| expr.unwrap_err().place.unwrap().line();
    assert_eq!(place((wrong.exp() * b).softmax(7).shape()), line);
    assert_eq!(place(stack([wrong], 9).shape()), line);
    assert_eq!(place(wrong.matmul(b).boxed().reshape([5]).materialise().cast::<f64>().sum(7).shape()), line);
    assert_eq!(place((b * wrong).shape()), line);
}

#[test]
fn whatever_evaluates_passes_it_on() {
    let alloc = TensorAllocator::new();
    let (a, b) = (View::new(&[1.0_f32; 6], [2, 3]).unwrap(), View::new(&[1.0_f32; 4], [4]).unwrap());
    let (mut w, mut output) = (Tensor::<f32, _>::ones_in([2, 3], &alloc).unwrap(), [0.0; 6]);
    told(eval(&((a - 1.0) * b.exp()), &alloc));
    told(eval_into(&(a * b).sum(1), &mut output));
    told(Eval::new(&alloc).eval(&(a + b).softmax(0)));
    told(w.assign(a.matmul(b)));
    told(w.update(|w| w - w * b));
    told(tenzor_expr::explain(&(a * b).relu()));
    told(tenzor_expr::explain_into(&concat([a.boxed(), (a * b).boxed()], 0)));
    // Their own as well.
    told(eval_into(&a, &mut output[..5]));
    told(Eval::new(&alloc).eval_into(&a.exp(), &mut output[..5]));
    told(w.assign(b));
    told(w.assign(b.unsqueeze(-1)));
    told(w.update(|_| b.reshape([2, 2, 1])));
    told(Eval::new(&alloc).sequential().assign(&mut w, a.reshape([6, 1])));
    told(Eval::new(&alloc).sequential().update(&mut w, |w| w.unsqueeze(0)));

    assert_eq!(View::new(&[1.0_f32; 6], [5]).unwrap_err().place, None);
    // Wherever they are, errors are equal that say the same.
    assert_eq!((a * b).shape(), (a * b).shape());
    assert_ne!((a * b).shape(), (b * a).shape());
    // Clippy tells everyone who returns an error of more that it is too large.
    assert!(size_of::<ShapeError>() < 128 && size_of::<EvalError>() < 128);
}
