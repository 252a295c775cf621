//! Every operation against what NumPy computed: `numpy/fixtures.json`, which `numpy/fixtures.py` makes.
//!
//! Elementary functions agree within 4 ulp (a sum of two of them, or a quotient, has the ulps of both), sums and products within the
//! rounding errors of as many operations.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use tenzor_expr::{Element, Expr, ShapeErrorKind, Tensor, View, eval};
use tenzor_memory::TensorAllocator;

#[derive(Deserialize)]
struct Precision {
    inputs: BTreeMap<String, Case>,
    outputs: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    shape: Vec<usize>,
    values: Vec<String>,
}

struct Array<T> {
    shape: Vec<usize>,
    values: Vec<T>,
}

impl<T: Element> Array<T> {
    fn view(&self) -> View<'_, T> {
        View::new(&self.values, &self.shape[..]).unwrap()
    }
}

/// What a test needs to know of a type of numbers.
trait Number: Element + std::str::FromStr<Err: Debug> {
    /// The distance of two numbers, in units of the last place of the larger one.
    fn ulps(a: Self, b: Self) -> f64;
}

macro_rules! numbers {
    ($($type:ident)*) => {$(
        impl Number for $type {
            fn ulps(a: Self, b: Self) -> f64 {
                if a == b || a.is_nan() && b.is_nan() {
                    return 0.0;
                }
                let scale = a.abs().max(b.abs()).max($type::MIN_POSITIVE);
                f64::from((a - b).abs() / (scale.next_up() - scale))
            }
        }
    )*};
}

numbers!(f32 f64);

fn arrays<T: Number>(cases: &BTreeMap<String, Case>) -> BTreeMap<&str, Array<T>> {
    let array = |case: &Case| Array {
        shape: case.shape.clone(),
        values: case.values.iter().map(|text| text.parse().unwrap()).collect(),
    };
    cases.iter().map(|(name, case)| (&name[..], array(case))).collect()
}

struct Check<'f, T> {
    wanted: BTreeMap<&'f str, Array<T>>,
    alloc: TensorAllocator,
}

impl<T: Number> Check<'_, T> {
    /// Compares, within some ulps of the largest number of the result where it is a sum, or of each.
    #[track_caller]
    fn is(&mut self, name: &str, expr: impl Expr<Elem = T>, ulps: f64, of_sum: bool) {
        let wanted = self.wanted.remove(name).unwrap();
        let result: Tensor<T, _> = eval(&expr, &self.alloc).unwrap();
        assert_eq!(result.shape()[..], wanted.shape, "{} {name}", T::NAME);
        let finite = wanted.values.iter().map(|x| x.abs()).filter(|&x| x < T::MOST);
        let most = finite.fold(T::ONE, |most, x| if x > most { x } else { most });
        for (&a, &b) in result.as_slice().iter().zip(&wanted.values) {
            let apart = T::ulps(a, b);
            // Where terms cancel, the error is one of the largest number.
            let distance = if of_sum && apart > 0.0 { T::ulps(a + most - b, most) } else { apart };
            assert!(distance <= ulps, "{} {name}: {a}, not {b}: {distance} ulp", T::NAME);
        }
    }
}

fn check<T: Number>(precision: &Precision) {
    let inputs = arrays::<T>(&precision.inputs);
    let mut check = Check { wanted: arrays(&precision.outputs), alloc: TensorAllocator::new() };
    let get = |name: &str| inputs[name].view();
    let (wide, positive, m, o, row) = (get("wide"), get("positive"), get("matrix"), get("other"), get("row"));
    let (column, one, cube, tall, none) = (get("column"), get("one"), get("cube"), get("tall"), get("none"));
    let number = |x: f64| tenzor_expr::nodes::Scalar(T::from_f64(x));

    check.is("exp", wide.exp(), 4.0, false);
    check.is("ln", positive.ln(), 4.0, false);
    check.is("sqrt", positive.sqrt(), 0.0, false);
    check.is("tanh", wide.tanh(), 4.0, false);
    check.is("sigmoid", wide.sigmoid(), 4.0, false);
    check.is("relu", wide.relu(), 0.0, false);
    check.is("gelu", wide.gelu(), 8.0, true);
    check.is("silu", wide.silu(), 4.0, false);
    check.is("abs", wide.abs(), 0.0, false);
    check.is("recip", wide.recip(), 0.0, false);
    check.is("neg", -wide, 0.0, false);
    check.is("powf", positive.powf(number(1.7)), 4.0, false);
    check.is("add", m + o, 0.0, false);
    check.is("sub_row", m - row, 0.0, false);
    check.is("mul_column", m * column, 0.0, false);
    check.is("div_outer", column / row, 0.0, false);
    check.is("rsub", number(1.5) - m, 0.0, false);
    check.is("rdiv", number(2.0) / m, 0.0, false);
    check.is("stretch_one", m + one, 0.0, false);
    check.is("maximum", m.maximum(row), 0.0, false);
    check.is("minimum", column.minimum(m), 0.0, false);
    check.is("where", m.lt(row).where_(m, o * number(2.0)), 0.0, false);
    check.is("chain", m * o + row - m / number(2.0), 0.0, false);
    check.is("none_add", none + m.slice(0, 0..1).slice(1, 0..3), 0.0, false);
    check.is("transpose_add", tall.transpose().slice(1, 0..5) + m.transpose().slice(0, 0..6), 0.0, false);
    check.is("permute", cube.permute([2, 0, 1]) * number(3.0), 0.0, false);
    check.is("reshape_permuted", cube.permute([1, 0, 2]).reshape([6, 4]) + number(1.0), 0.0, false);
    check.is("slice", m.slice(0, 1..4).slice(1, 2..6) * o.slice(0, 1..4).slice(1, 2..6), 0.0, false);
    check.is("sum_all", m.sum(..), 8.0, true);
    check.is("sum_0", m.sum(0), 8.0, true);
    check.is("sum_1_keep", m.sum(1).keep_dims(), 8.0, true);
    check.is("sum_0_2", cube.sum([0, 2]), 8.0, true);
    check.is("sum_1", cube.sum(1), 4.0, true);
    check.is("sum_long", get("long").sum(1), 16.0, true);
    check.is("sum_fused", (m * o).sum(1), 8.0, true);
    check.is("mean", cube.mean([0, 1]), 8.0, true);
    check.is("max", cube.max(2), 0.0, false);
    check.is("min", cube.min([0, 1]), 0.0, false);
    check.is("prod", cube.prod(1), 4.0, true);
    check.is("sum_none", none.sum(0), 0.0, false);
    check.is("max_no_rows", get("no_columns").max(0), 0.0, false);
    check.is("matmul", m.matmul(tall), 8.0, true);
    check.is("matmul_transposed", m.transpose().matmul(o), 8.0, true);
    check.is("matmul_batch", get("batch").matmul(get("batch_right")), 8.0, true);
    check.is("matmul_none", get("no_columns").matmul(none), 0.0, false);
    check.is("linear_relu", (m.matmul(tall) + tall.slice(0, 0..1)).relu(), 8.0, true);
    check.is("softmax_last", cube.softmax(2), 8.0, false);
    check.is("softmax_first", cube.softmax(0), 8.0, false);
    check.is("layer_norm", cube.layer_norm(T::from_f64(1e-5)), 16.0, true);
    assert!(check.wanted.is_empty(), "nothing compares {:?}", check.wanted.keys());

    for axis in 0..2 {
        assert!(eval(&none.softmax(axis), &check.alloc).is_ok_and(|result| result.as_slice().is_empty()));
    }
    assert!(eval(&get("no_columns").layer_norm(T::ONE), &check.alloc).is_ok_and(|result| result.as_slice().is_empty()));

    // NumPy raises here.
    let error = none.max(0).shape().unwrap_err();
    assert_eq!(error.kind, ShapeErrorKind::Empty { operation: &"max", shape: none.shape() });
}

#[test]
fn results_agree_with_numpy() {
    let both: BTreeMap<String, Precision> = serde_json::from_str(include_str!("numpy/fixtures.json")).unwrap();
    check::<f32>(&both["float32"]);
    check::<f64>(&both["float64"]);
}
