//! Terms that are written alike have the same values: every operation of every operation of some tensors.

use std::collections::HashMap;
use std::rc::Rc;

use tenzor_memory::allocator_api2::alloc::Global;

use crate::eval;
use crate::expr::Expr;
use crate::node::Node;
use crate::nodes::{Boxed, Scalar, concat, stack};
use crate::tensor::View;
use crate::terms::Terms;

type Made = Boxed<'static, f64>;
type Make = Rc<dyn Fn() -> Made>;

static MEMORY: [f64; 9] = [0.3, 1.1, 0.7, 2.3, 0.2, 1.9, 0.6, 1.3, 3.1];
static INDICES: [usize; 4] = [1, 0, 0, 1];

fn leaves() -> Vec<Make> {
    let view = |shape: &[usize], strides: &[isize], start| {
        let view = View::with_strides(&MEMORY, shape, strides, start).unwrap();
        Rc::new(move || view.boxed()) as Make
    };
    vec![
        view(&[2, 3], &[3, 1], 0),
        view(&[2, 3], &[3, 1], 3),
        view(&[2, 3], &[1, 2], 0),
        view(&[3, 2], &[2, 1], 0),
        view(&[2, 2], &[2, 1], 0),
        view(&[3], &[1], 1),
        Rc::new(|| Scalar(2.0).boxed()),
        Rc::new(|| Scalar(0.1_f32).cast::<f64>().boxed()),
        Rc::new(|| Scalar(0.1).boxed()),
    ]
}

macro_rules! functions {
    (|$x:ident| $($made:expr;)*) => {
        vec![$(|$x: Made| -> Made { $made.boxed() }),*]
    };
    (|$x:ident, $y:ident| $($made:expr;)*) => {
        vec![$(|$x: Made, $y: Made| -> Made { $made.boxed() }),*]
    };
}

fn of_one() -> Vec<fn(Made) -> Made> {
    functions! { |x|
        -x; x.exp(); x.sqrt(); x.square(); x.powi(3); x.powi(5); x.powf(2.0); x.powf(1.5); x.cast::<f32>().cast::<f64>();
        x.map(|x| x + 1.0); x.map(|x| x * 3.0); x.gt(1.0).cast::<f64>(); x.gt(1.0).where_(2.0, Scalar(0.5)); x.materialise();
        x.sum(0); x.sum(1); x.sum(..); x.sum(0).keep_dims(); x.mean(0); x.prod(-1); x.max(0); x.min(0).keep_dims();
        x.var(0); x.var(0).ddof(1); x.std(0); x.std(0).keep_dims(); x.norm(0); x.softmax(0); x.softmax(1); x.cumsum(0); x.cumsum(1);
        x.layer_norm(1e-5); x.layer_norm(0.1); x.argmax(0).one_hot(3); x.argmin(0).one_hot(3); x.argmax(0).one_hot(4);
        x.argmax(1).keep_dims().one_hot(3); x.gt(1.0).count(0).one_hot(4); x.lt(1.0).any(0).cast::<f64>(); x.lt(1.0).all(0).cast::<f64>();
        x.transpose(); x.permute([0, 1]); x.permute([1, 0]); x.reshape([6]); x.reshape([3, 2]); x.reshape([1, 6]); x.slice(0, ..1);
        x.slice(0, 1..2); x.slice(1, ..1); x.slice(1, ..2); x.slice(1, 1..); x.stepped(1, .., 2); x.stepped(1, .., -2); x.flip(0); x.flip(1);
        x.index_axis(0, 0); x.index_axis(0, 1); x.index_axis(1, 0); x.unsqueeze(0); x.unsqueeze(1); x.unsqueeze(2);
        x.broadcast_to([2, 2, 3]); x.broadcast_to([3, 3]); x.gather(0, View::new(&INDICES, [4]).unwrap()); x.gather(0, View::new(&INDICES, [2, 2]).unwrap());
        x.gather(1, View::new(&INDICES, [4]).unwrap()); x.gather(0, View::new(&INDICES[1..3], [2]).unwrap());
    }
}

fn of_two() -> Vec<fn(Made, Made) -> Made> {
    functions! { |x, y|
        x + y; x - y; x * y; x / y; x.maximum(y); x.powf(y); x.zip_map(y, |x, y| x * 2.0 + y); x.matmul(y); x.dot(y);
        concat([x, y], 0); concat([x, y], 1); stack([x, y], 0); stack([x, y], -1); x.lt(y).where_(1.0, Scalar(0.0));
    }
}

/// What operations make of some expressions, and of these and others.
fn made_of(some: &[Make], others: &[Make]) -> Vec<Make> {
    let mut made: Vec<Make> = Vec::new();
    for x in some {
        for make in of_one() {
            let x = Rc::clone(x);
            made.push(Rc::new(move || make(x())));
        }
        for (make, y) in of_two().into_iter().flat_map(|make| others.iter().map(move |y| (make, y))) {
            let ((x, y), (other_x, other_y)) = ((Rc::clone(x), Rc::clone(y)), (Rc::clone(x), Rc::clone(y)));
            made.push(Rc::new(move || make(x(), y())));
            made.push(Rc::new(move || make(other_y(), other_x())));
        }
    }
    made.retain(|make| make().shape().is_ok());
    made
}

#[test]
fn terms_that_are_written_alike_have_the_same_values() {
    let leaves = leaves();
    let once = made_of(&leaves, &leaves);
    let twice = made_of(&once, &leaves);
    let (mut terms, mut values, mut kept) = (Terms::default(), HashMap::new(), Vec::new());
    let mut same = 0;
    for make in leaves.iter().chain(&once).chain(&twice) {
        // They are all kept, so that no other node has the address of one.
        kept.push(make());
        let Some(node) = kept.last() else { continue };
        let term = node.term(&mut terms);
        // Unless there is no such index.
        let Ok(result) = eval(node, Global) else { continue };
        let value = (result.shape(), result.as_slice().iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        match values.get(&term.to_string()) {
            Some(other) if *other == value => same += 1,
            Some(other) => panic!("{} has both {other:?} and {value:?}", terms.formula(&term.to_string())),
            None => drop(values.insert(term.to_string(), value)),
        }
    }
    // The same tensors, and the same numbers, by different ways.
    assert!(values.len() > 10_000 && same > 100, "{} terms, {same} written alike", values.len());
}
