//! Long expressions: sixty operators in one type, and two hundred in boxes.

use tenzor_expr::{Eval, EvalError, Expr, Tensor, View, eval, eval_into, explain, explain_into};
use tenzor_memory::{PoolConfig, TensorAllocator};

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

/// On a thread with the stack that threads have.
fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> std::thread::Result<T> {
    match std::thread::Builder::new().stack_size(2 << 20).spawn(run) {
        Ok(thread) => thread.join(),
        Err(error) => Err(Box::new(error)),
    }
}

#[test]
fn boxes_within_boxes_fit_on_the_stack_of_a_thread() {
    for levels in [500, 5000] {
        let last = on_a_thread(move || {
            let values = [1.0_f32; COUNT];
            let x = View::new(&values, [COUNT]).unwrap();
            let mut sum = x.boxed();
            for i in 0..levels {
                sum = (sum + x * (i % 2) as f32).boxed();
            }
            let mut output = [0.0; COUNT];
            eval_into(&sum, &mut output).unwrap();
            output[COUNT - 1]
        })
        .unwrap();
        assert_eq!(last, 1.0 + (levels / 2) as f32);
    }
}

/// Each has some tiles: of functions, of what is turned, of a condition.
#[test]
fn boxes_of_many_tiles_fit_as_well() {
    let (result, expected) = on_a_thread(|| {
        let values: Vec<f64> = (0..40 * 40).map(|i| f64::from(i) / 1600.0).collect();
        let x = View::new(&values, [40, 40]).unwrap();
        let alloc = TensorAllocator::new();
        let mut nested = x.boxed();
        let mut stepwise = eval(&x, &alloc).unwrap();
        for _ in 0..200 {
            nested = {
                let y = nested.transpose().tanh() + x.transpose() * 0.5;
                x.lt(0.5).where_(y, x.exp()).boxed()
            };
            let y = stepwise.transpose().tanh() + x.transpose() * 0.5;
            stepwise = eval(&x.lt(0.5).where_(y, x.exp()), &alloc).unwrap();
        }
        (eval(&nested, &alloc).unwrap().as_slice().to_vec(), stepwise.as_slice().to_vec())
    })
    .unwrap();
    assert_eq!(result, expected);
}

/// What is put into memory on the way is explained, and no text is longer than it.
#[test]
fn nested_boxes_are_explained() {
    let (plan, allocations, peak) = on_a_thread(|| {
        let (column, row) = ([1.0_f32; COUNT], [2.0_f32; 8]);
        let (column, row) = (View::new(&column, [COUNT, 1]).unwrap(), View::new(&row, [8]).unwrap());
        let mut sum = column.boxed();
        for _ in 0..1000 {
            sum = (sum + column).boxed();
        }
        let expr = sum * row;
        let alloc = TensorAllocator::new();
        let result = eval(&expr, &alloc).unwrap();
        assert_eq!(result.as_slice(), [2002.0; 8 * COUNT]);
        let stats = alloc.stats();
        (explain(&expr).unwrap(), stats.allocations as usize, stats.peak_bytes_in_use)
    })
    .unwrap();
    assert_eq!((plan.requests(), plan.peak_bytes), (allocations, peak));
    assert!((10..100).contains(&plan.passes.len()), "{plan}");
    // Nothing is stretched before it has to be, and each takes over the one before.
    let last = plan.passes.len() - 1;
    assert!(plan.passes[..last].iter().all(|pass| pass.shape[..] == [COUNT, 1]), "{plan}");
    assert!(plan.passes[1..last].iter().all(|pass| pass.in_place.is_some()), "{plan}");
    assert!(plan.passes.iter().all(|pass| pass.formula.len() < 5000), "{plan}");
}

#[test]
fn nested_boxes_are_written_in_place_or_refused_as_others() {
    let config = PoolConfig::default().with_limit(Some(3 * 8 * COUNT));
    let alloc = TensorAllocator::with_config(config);
    let mut w = Tensor::from_fn_in([COUNT], |i| i as f64, &alloc).unwrap();
    // What a box is made of is read before anything is written.
    w.update(|w| (0..300).fold(w.boxed(), |sum, _| (sum + w.flip(0)).boxed())).unwrap();
    let expected: Vec<f64> = (0..COUNT).map(|i| (i + 300 * (COUNT - 1 - i)) as f64).collect();
    assert_eq!(w.as_slice(), expected);
    let before = alloc.stats().bytes_in_use;
    let w = &w;
    let mut output = vec![0.0; COUNT];
    let sum = (0..300).fold(w.boxed(), |sum, _| (sum + w).boxed());
    Eval::new(&alloc).eval_into(&sum, &mut output).unwrap();
    assert!(output.iter().zip(w.as_slice()).all(|(&sum, &w)| sum == 301.0 * w));
    assert!(explain_into(&sum).unwrap().passes.iter().all(|pass| pass.bytes == 0));
    let large = w.unsqueeze(0).broadcast_to([4, COUNT]);
    let refused = (0..300).fold(large.boxed(), |sum, _| (sum + w).boxed());
    assert!(matches!(eval(&refused, &alloc), Err(EvalError::Alloc(_))));
    assert_eq!(alloc.stats().bytes_in_use, before);
}
