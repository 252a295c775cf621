//! Long expressions: sixty operators in one type, and two hundred in boxes.

use tenzor_expr::{Expr, View, eval, eval_into};
use tenzor_memory::TensorAllocator;

/// An expression of twenty operators more.
macro_rules! twenty {
    ($e:expr, $x:expr) => {
        $e + $x - 0.25 + $x - 0.5 + $x - 0.75 + $x - 1.0 + $x - 1.25 + $x - 1.5 + $x - 1.75 + $x - 2.0 + $x - 2.25 + $x
            - 2.5
    };
}

const COUNT: usize = 1000;

/// As above, of one value.
fn later(value: f32, x: f32) -> f32 {
    (1..=10).fold(value, |value, i| value + x - i as f32 * 0.25)
}

#[test]
fn sixty_operators_are_one_loop() {
    let values: Vec<f32> = (0..COUNT).map(|i| i as f32 / 16.0).collect();
    let x = View::new(&values, [COUNT]).unwrap();
    let expr = twenty!(twenty!(twenty!(x, x), x), x);
    let alloc = TensorAllocator::new();
    let result = eval(&expr, &alloc).unwrap();
    let expected: Vec<f32> = values.iter().map(|&x| later(later(later(x, x), x), x)).collect();
    assert_eq!(result.as_slice(), expected);
    let mut output = [0.0; COUNT];
    eval_into(&expr, &mut output).unwrap();
    assert_eq!(output[..], expected);
}

#[test]
fn two_hundred_operators_are_boxed() {
    let values: Vec<f32> = (0..COUNT).map(|i| i as f32 / 16.0).collect();
    let x = View::new(&values, [COUNT]).unwrap();
    let (mut expr, mut expected) = (x.boxed(), values.clone());
    for _ in 0..10 {
        expr = twenty!(expr, x).boxed();
        for (value, &x) in expected.iter_mut().zip(&values) {
            *value = later(*value, x);
        }
    }
    let alloc = TensorAllocator::new();
    assert_eq!(eval(&expr, &alloc).unwrap().as_slice(), expected);
    assert_eq!(alloc.stats().allocations, 1);
}

#[test]
fn boxes_within_boxes_fit_on_the_stack_of_a_thread() {
    let run = || {
        let values = [1.0_f32; COUNT];
        let x = View::new(&values, [COUNT]).unwrap();
        let mut expr = x.boxed();
        for _ in 0..200 {
            expr = (expr + x).boxed();
        }
        let mut output = [0.0; COUNT];
        eval_into(&expr, &mut output).unwrap();
        output[COUNT - 1]
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap();
    assert_eq!(thread.join().unwrap(), 201.0);
}
