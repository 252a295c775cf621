//! What `explain` tells of what is computed more than once.
#![allow(clippy::unwrap_used)]

use tenzor_expr::{Expr, Tensor, View, concat, eval, explain, explain_into, stack};
use tenzor_memory::TensorAllocator;

/// The repeats of an expression.
fn repeats(expr: &impl Expr) -> Vec<(String, usize)> {
    let told: Vec<_> =
        explain(expr).unwrap().repeated.into_iter().map(|repeat| (repeat.formula, repeat.times)).collect();
    let into = explain_into(expr).unwrap().repeated.into_iter();
    assert_eq!(into.map(|repeat| (repeat.formula, repeat.times)).collect::<Vec<_>>(), told);
    told
}

#[track_caller]
fn twice(expr: &impl Expr, formula: &str) {
    assert_eq!(repeats(expr), [(formula.to_owned(), 2)]);
}

#[track_caller]
fn nothing(expr: &impl Expr) {
    assert_eq!(repeats(expr), []);
}

const ELEMENTS: &[f32] = &[0.5; 9];

fn square() -> View<'static, f32> {
    View::new(ELEMENTS, [3, 3]).unwrap()
}

#[test]
fn what_stands_twice_is_told() {
    let alloc = TensorAllocator::new();
    let x = &Tensor::<f32, _>::ones_in([2, 3], &alloc).unwrap();
    let y = &Tensor::<f32, _>::ones_in([2, 3], &alloc).unwrap();
    let index = View::new(&[1_usize], [1]).unwrap();
    let plan = explain(&((x * 2.0).exp() * y + (x * 2.0).exp())).unwrap();
    assert_eq!(
        plan.to_string(),
        "%1 = ((exp((f32[2, 3] * 2)) * f32[2, 3]#2) + exp((f32[2, 3] * 2))): f32[2, 3], 24 bytes
exp((f32[2, 3] * 2)) is computed 2 times: evaluate it first, and use the tensor
peak: 24 bytes, result: 24 bytes"
    );

    twice(&(x.exp() - x.exp()), "exp(f32[2, 3])");
    twice(&(x.powi(3) - x.powi(3)), "powi(f32[2, 3], 3)");
    twice(&(x.powf(y) - x.powf(y)), "powf(f32[2, 3], f32[2, 3]#2)");
    twice(&(x.sum(0) / (1.0 + x.sum(0))), "sum(f32[2, 3], [0])");
    twice(&(x.max(1).keep_dims() - x / x.max(-1).keep_dims()), "max(f32[2, 3], [1]).keep_dims()");
    twice(&(x.gt(0.5).any(..) | x.gt(0.5).any(..)), "(sum(where((f32[2, 3] > 0.5), 1, 0), [0, 1]) > 0)");
    twice(&stack([x.argmin(0), x.argmin(0)], 0), "argmin(f32[2, 3], 0)");
    twice(&(x.std(..) * y / x.std(..)), "std(f32[2, 3], [0, 1])");
    twice(&(x.softmax(0) - x.softmax(0)), "softmax(f32[2, 3], 0)");
    twice(&(x.layer_norm(1e-5) - x.layer_norm(1e-5)), "layer_norm(f32[2, 3], 0.00001)");
    twice(&(x.cumsum(1) - x.cumsum(-1)), "cumsum(f32[2, 3], 1)");
    let product = || x.matmul(y.transpose());
    twice(&(product() - product().transpose()), "matmul(f32[2, 3], permute(f32[2, 3]#2, [1, 0]))");
    twice(&(x.gather(0, index) - x.gather(0, index)), "gather(f32[2, 3], 0, usize[1])");
    twice(&concat([index.one_hot::<f32>(3), index.one_hot(3)], 0), "one_hot(usize[1], 3)");
    twice(&(stack([x, y], 0) - stack([x, y], 0)), "stack([f32[2, 3], f32[2, 3]#2], 0)");
    twice(&((x * 2.0).materialise() - (x * 2.0).materialise()), "materialise((f32[2, 3] * 2))");
    // By whatever way the tensor comes in, and whatever type the expression has.
    twice(&(x.exp() - x.view().exp().boxed()), "exp(f32[2, 3])");
    twice(&(x.reshape([6]).exp().sum(..) - x.reshape([6]).exp()), "exp(reshape(f32[2, 3], [6]))");
}

#[test]
fn a_reference_is_computed_again() {
    let x = square();
    let product = x.matmul(x).materialise();
    let expr = (&product).sub((&product).transpose());
    assert_eq!(explain(&expr).unwrap().passes.iter().filter(|pass| pass.formula.starts_with("matmul")).count(), 2);
    twice(&expr, "materialise(matmul(f32[3, 3], f32[3, 3]))");
    let tensor = eval(&product, TensorAllocator::new()).unwrap();
    nothing(&(&tensor - tensor.transpose()));
}

#[test]
fn what_only_looks_alike_is_not() {
    let alloc = TensorAllocator::new();
    let (x, y) = (square(), Tensor::<f32, _>::ones_in([3, 3], &alloc).unwrap());
    let z = y.try_clone().unwrap();
    nothing(&(y.exp() - z.exp()));
    nothing(&(x.exp() - x.transpose().exp()));
    nothing(&(x.exp() - x.permute([1, 0]).exp()));
    nothing(&(x.slice(0, ..2).exp() - x.slice(0, 1..).exp()));
    nothing(&(x.slice(0, ..1).exp() - x.slice(0, ..2).exp()));
    nothing(&(x.exp() - x.flip(0).exp()));
    nothing(&(x.stepped(0, .., 2).exp() - x.slice(0, 1..).exp()));
    nothing(&(x.index_axis(0, 1).exp() - x.index_axis(1, 1).exp()));
    nothing(&(x.index_axis(0, 1).exp() - x.index_axis(0, 2).exp()));
    nothing(&(x.sum(0) - x.sum(1)));
    nothing(&(x.sum(0) - x.mean(0)));
    nothing(&(x.sum(0) - x.sum(0).keep_dims()));
    nothing(&(x.var(0) - x.var(0).ddof(1)));
    nothing(&(x.var(0) - x.std(0)));
    nothing(&(x.softmax(0) - x.softmax(1)));
    nothing(&(x.layer_norm(1e-5) - x.layer_norm(1e-6)));
    nothing(&((x * 2.0).exp() - (x * 3.0).exp()));
    nothing(&((x * 0.0).exp() - (x * -0.0).exp()));
    nothing(&(x.powi(3) - x.powi(5)));
    nothing(&(x.matmul(x) - x.matmul(x.transpose())));
    nothing(&((x - &y).exp() - (&y - x).exp()));
    nothing(&(concat([x, x], 0).sum(..) - concat([x, x], 1).sum(..)));
    nothing(&(x.unsqueeze(0).sum(-1) - x.unsqueeze(1).sum(-1)));
    // The same memory, by other steps, from another place, or under another shape.
    let view = |shape, strides, start| View::with_strides(ELEMENTS, shape, strides, start).unwrap();
    nothing(&(x.exp() - view([3, 3], &[1, 3], 0).exp()));
    nothing(&(view([2, 3], &[3, 1], 0).exp() - view([2, 3], &[3, 1], 3).exp()));
    nothing(&(x.exp() - View::new(ELEMENTS, [1, 3, 3]).unwrap().exp()));
    // Another type.
    nothing(&(x.sum(..).cast::<f64>() - x.cast::<f64>().sum(..)));
    // Numbers that are written alike.
    let (narrow, wide) = (tenzor_expr::nodes::Scalar(0.1_f32).exp(), tenzor_expr::nodes::Scalar(0.1_f64).exp());
    nothing(&(narrow.cast::<f64>() - wide.cast::<f64>()));
}

#[test]
fn a_function_is_that_of_its_node_alone() {
    let x = square();
    nothing(&(x.map(|x| x + 1.0) - x.map(|x| x + 2.0)));
    let adding = |y: f32| move |x: f32| x + y;
    nothing(&(x.map(adding(1.0)) - x.map(adding(2.0))));
    nothing(&(x.map(adding(1.0)).sum(0) - x.map(adding(2.0)).sum(0)));
    nothing(&(x.zip_map(x, |x, y| x + y) - x.zip_map(x, |x, y| x - y)));
    let twofold = |x: f32| x * 2.0;
    nothing(&(x.map(twofold).map(twofold) - x.map(twofold).exp()));
    let mapped = x.map(|x| x + 1.0);
    twice(&(&mapped).sub((&mapped).transpose()), "map(f32[3, 3])");
    let other = x.zip_map(&mapped, |x, y| x + y).boxed();
    assert_eq!(repeats(&(&other + &other * mapped)), [("zip_map(f32[3, 3], map(f32[3, 3]))".to_owned(), 2)]);
}

#[test]
fn what_is_computed_once_is_not_told() {
    let x = square();
    let row = View::new(&[1.0_f32; 3], [3]).unwrap();
    nothing(&(x * row.exp()));
    nothing(&(x - x.mean(1).keep_dims()));
    nothing(&(x.exp().broadcast_to([5, 3, 3]) + row));
    nothing(&(x.matmul(x) + x * x + x.sqrt()));
    // Plain arithmetic costs less than the memory for it.
    nothing(&((x * 2.0 + 1.0) / (x * 2.0 + 1.0)));
    nothing(&(x.powf(2.0) - x.powf(2.0)));
    nothing(&(x.transpose().sqrt() - x.transpose().sqrt()));
    nothing(&(x.slice(0, ..0).relu() + x.slice(0, ..0).relu()));
    assert!(explain(&(x * row)).unwrap().repeated.is_empty());
}

#[test]
fn of_repeats_within_repeats_the_largest_are_told() {
    let x = square();
    let inner = || (x * 2.0).exp();
    let outer = || inner().sum(0).exp();
    twice(&(outer() - outer()), "exp(sum(exp((f32[3, 3] * 2)), [0]))");
    twice(&(inner() * 2.0 + x - (inner() * 2.0 + x)), "((exp((f32[3, 3] * 2)) * 2) + f32[3, 3])");
    // A part that stands elsewhere as well would be computed again.
    let expected = [("exp((f32[3, 3] * 2))".to_owned(), 3), ("exp(sum(exp((f32[3, 3] * 2)), [0]))".to_owned(), 2)];
    assert_eq!(repeats(&(outer() - outer() * inner())), expected);
    assert_eq!(repeats(&(inner() + inner() * inner() - inner())), [(expected[0].0.clone(), 4)]);
    let quotient = || inner() / inner();
    let expected =
        [("exp((f32[3, 3] * 2))".to_owned(), 4), ("(exp((f32[3, 3] * 2)) / exp((f32[3, 3] * 2)))".to_owned(), 2)];
    assert_eq!(repeats(&(quotient() - quotient())), expected);

    // However long it is.
    let mut sum = x.exp().boxed();
    for _ in 0..500 {
        sum = (sum + x.exp()).boxed();
    }
    assert_eq!(repeats(&sum), [("exp(f32[3, 3])".to_owned(), 501)]);
}

/// Tensors have the same names in all formulas.
#[test]
fn tensors_are_told_apart() {
    let alloc = TensorAllocator::new();
    let x = square();
    let (y, z) =
        (Tensor::<f32, _>::ones_in([3, 3], &alloc).unwrap(), Tensor::<f64, _>::ones_in([3, 3], &alloc).unwrap());
    let plan = explain(&(x * &y - x / (&y + z.cast::<f32>()))).unwrap();
    assert_eq!(plan.passes[0].formula, "((f32[3, 3] * f32[3, 3]#2) - (f32[3, 3] / (f32[3, 3]#2 + f32(f64[3, 3]))))");
    let turned = View::with_strides(ELEMENTS, [3, 3], &[1, 3], 0).unwrap();
    let plan = explain(&(turned.matmul(x) - x.matmul(turned).tanh() - x.matmul(turned).tanh())).unwrap();
    assert_eq!(plan.passes[0].formula, "matmul(f32[3, 3], f32[3, 3]#2)");
    assert_eq!(plan.passes[1].formula, "matmul(f32[3, 3]#2, f32[3, 3])");
    assert_eq!(plan.repeated[0].formula, "tanh(matmul(f32[3, 3]#2, f32[3, 3]))");
}
