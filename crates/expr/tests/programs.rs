//! Programs in a small language of a stack, many of them random, against what NumPy computed of them: `numpy/programs.json`, which
//! `numpy/programs.py` makes. It tells what the words mean.
//!
//! Each operation is boxed, so that one interpreter makes them all, and each program is evaluated in every way there is.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::str::FromStr;

use serde::Deserialize;
use tenzor_expr::nodes::{Boxed, Scalar};
use tenzor_expr::{Axes, Element, Eval, Expr, Indices, Item, Simd, Tensor, View, concat, eval, explain, stack};
use tenzor_memory::TensorAllocator;

#[derive(Deserialize)]
struct Fixture {
    leaves: BTreeMap<String, (Vec<usize>, Vec<isize>, usize, usize)>,
    odd: Vec<String>,
    indices: BTreeMap<String, (Vec<usize>, Vec<usize>)>,
    exact: Vec<Exact>,
    close: Vec<(String, Vec<usize>, String, f64)>,
}

/// A program, the shape of its value, some of the elements, and those of `f32` where they are not these rounded.
#[derive(Deserialize)]
#[serde(untagged)]
enum Exact {
    Same(String, Vec<usize>, String),
    Other(String, Vec<usize>, String, String),
}

trait Number: Element + FromStr<Err: Debug> {
    const IS_NARROW: bool;

    fn wide(self) -> f64;
    fn narrowed(x: Boxed<'_, Self>) -> Boxed<'_, Self>;
    fn of(x: Boxed<'_, bool>) -> Boxed<'_, Self>;
}

macro_rules! number {
    ($type:ident $other:ident $is_narrow:literal) => {
        impl Number for $type {
            const IS_NARROW: bool = $is_narrow;

            fn wide(self) -> f64 {
                self.into()
            }

            fn narrowed(x: Boxed<'_, $type>) -> Boxed<'_, $type> {
                x.cast::<$other>().cast::<$type>().boxed()
            }

            fn of(x: Boxed<'_, bool>) -> Boxed<'_, $type> {
                x.cast::<$type>().boxed()
            }
        }
    };
}

number!(f32 f64 true);
number!(f64 f32 false);

/// The leaves of all programs.
struct Leaves<'x, T: Item> {
    numbers: BTreeMap<&'x str, View<'x, T>>,
    indices: BTreeMap<&'x str, View<'x, usize>>,
}

enum Value<'x, T: Item> {
    Numbers(Boxed<'x, T>),
    Truths(Boxed<'x, bool>),
    Indices(Boxed<'x, usize>),
}

use Value::{Indices as Places, Numbers, Truths};

/// The same of every type of elements.
macro_rules! each {
    ($value:expr, $x:ident => $do:expr) => {
        match $value {
            Numbers($x) => Numbers($do.boxed()),
            Truths($x) => Truths($do.boxed()),
            Places($x) => Places($do.boxed()),
        }
    };
}

struct Stack<'x, T: Item>(Vec<Value<'x, T>>);

impl<'x, T: Number> Stack<'x, T> {
    fn pop(&mut self) -> Value<'x, T> {
        self.0.pop().unwrap()
    }

    fn numbers(&mut self) -> Boxed<'x, T> {
        let Numbers(x) = self.pop() else { panic!("no numbers") };
        x
    }

    fn truths(&mut self) -> Boxed<'x, bool> {
        let Truths(x) = self.pop() else { panic!("no truths") };
        x
    }

    fn indices(&mut self) -> Boxed<'x, usize> {
        let Places(x) = self.pop() else { panic!("no indices") };
        x
    }

    /// What is told behind the colon, of all types of elements.
    fn view(&mut self, name: &str, told: &str) -> Option<Value<'x, T>> {
        let whole = || -> Vec<isize> { told.split(',').map(|word| word.parse().unwrap()).collect() };
        let sizes = || -> Vec<usize> { told.split(',').map(|word| word.parse().unwrap()).collect() };
        let axis = || whole()[0];
        let range = || -> (isize, Indices, isize) {
            let words: Vec<Option<isize>> = told.split(',').map(|word| word.parse().ok()).collect();
            let range = match (words[1], words[2]) {
                (Some(start), Some(end)) => (start..end).into(),
                (Some(start), None) => (start..).into(),
                (None, Some(end)) => (..end).into(),
                (None, None) => (..).into(),
            };
            (words[0].unwrap(), range, words.get(3).copied().flatten().unwrap_or(1))
        };
        Some(match name {
            "transpose" => each!(self.pop(), x => x.transpose()),
            "permute" => each!(self.pop(), x => x.permute(&whole())),
            "reshape" => each!(self.pop(), x => x.reshape(&sizes()[..])),
            "broadcast" => each!(self.pop(), x => x.broadcast_to(&sizes()[..])),
            "slice" | "stepped" => {
                let (axis, range, step) = range();
                each!(self.pop(), x => x.stepped(axis, range, step))
            }
            "flip" => each!(self.pop(), x => x.flip(axis())),
            "index" => each!(self.pop(), x => x.index_axis(axis(), whole()[1])),
            "squeeze" => each!(self.pop(), x => x.squeeze(axis())),
            "unsqueeze" => each!(self.pop(), x => x.unsqueeze(axis())),
            "materialise" => each!(self.pop(), x => x.materialise()),
            "gather" => {
                let indices = self.indices();
                each!(self.pop(), x => x.gather(axis(), indices))
            }
            "concat" | "stack" => {
                let parts = self.0.split_off(self.0.len() - whole()[1].unsigned_abs());
                let joined = |x, y| Some(if name == "concat" { x } else { y });
                macro_rules! joined {
                    ($kind:ident) => {{
                        let parts = parts.into_iter().map(|part| match part {
                            $kind(x) => x,
                            _ => panic!("of different types"),
                        });
                        let parts: Vec<_> = parts.collect();
                        let is_stack = joined(false, true)?;
                        $kind(if is_stack { stack(parts, axis()).boxed() } else { concat(parts, axis()).boxed() })
                    }};
                }
                match &parts[0] {
                    Numbers(_) => joined!(Numbers),
                    Truths(_) => joined!(Truths),
                    Places(_) => joined!(Places),
                }
            }
            _ => return None,
        })
    }

    /// Reductions; those whose name ends with `k` keep their axes.
    fn reduction(&mut self, name: &str, told: &str) -> Option<Value<'x, T>> {
        let keeps = name.ends_with('k');
        let whole: Vec<isize> = told.split(',').filter_map(|word| word.parse().ok()).collect();
        let axes: Axes = if told == "*" { (..).into() } else { (&whole).into() };
        macro_rules! kept {
            ($kind:ident, $x:expr) => {{
                let x = $x;
                $kind(if keeps { x.keep_dims().boxed() } else { x.boxed() })
            }};
        }
        Some(match name.strip_suffix('k').unwrap_or(name) {
            "sum" => kept!(Numbers, self.numbers().sum(axes)),
            "mean" => kept!(Numbers, self.numbers().mean(axes)),
            "prod" => kept!(Numbers, self.numbers().prod(axes)),
            "max" => kept!(Numbers, self.numbers().max(axes)),
            "min" => kept!(Numbers, self.numbers().min(axes)),
            "var" => kept!(Numbers, self.numbers().var(axes)),
            "std" => kept!(Numbers, self.numbers().std(axes)),
            "var1" => kept!(Numbers, self.numbers().var(axes).ddof(1)),
            "std1" => kept!(Numbers, self.numbers().std(axes).ddof(1)),
            "norm" => kept!(Numbers, self.numbers().norm(axes)),
            "argmax" => kept!(Places, self.numbers().argmax(whole[0])),
            "argmin" => kept!(Places, self.numbers().argmin(whole[0])),
            "count" => kept!(Places, self.truths().count(axes)),
            "any" => kept!(Truths, self.truths().any(axes)),
            "all" => kept!(Truths, self.truths().all(axes)),
            _ => return None,
        })
    }

    fn unary(&mut self, name: &str, told: &str) -> Option<Value<'x, T>> {
        let number = |text: &str| Scalar(text.parse::<T>().unwrap());
        let whole = || told.parse::<i32>().unwrap();
        macro_rules! methods {
            ($($method:ident)*) => {
                match name {
                    $(stringify!($method) => self.numbers().$method().boxed(),)*
                    "map" => self.numbers().map(|x| x * x + T::ONE).boxed(),
                    "powf" => self.numbers().powf(number(told)).boxed(),
                    "powi" => self.numbers().powi(whole()).boxed(),
                    "clip" => {
                        let (low, high) = told.split_once(',').unwrap();
                        self.numbers().clip(number(low), number(high)).boxed()
                    }
                    "narrow" => T::narrowed(self.numbers()),
                    "softmax" => self.numbers().softmax(whole()).boxed(),
                    "cumsum" => self.numbers().cumsum(whole()).boxed(),
                    "layer_norm" => self.numbers().layer_norm(number("1e-5").0).boxed(),
                    "one_hot" => self.indices().one_hot::<T>(told.parse().unwrap()).boxed(),
                    "cast" => T::of(self.truths()),
                    "not" => return Some(Truths((!self.truths()).boxed())),
                    _ => return None,
                }
            };
        }
        Some(Numbers(methods!(neg exp ln sqrt square tanh abs rsqrt recip relu sigmoid silu gelu)))
    }

    fn binary(&mut self, name: &str) -> Value<'x, T> {
        if let "and" | "or" = name {
            let (y, x) = (self.truths(), self.truths());
            return Truths(if name == "and" { (x & y).boxed() } else { (x | y).boxed() });
        }
        let (y, x) = (self.numbers(), self.numbers());
        Numbers(match name {
            "add" => (x + y).boxed(),
            "sub" => (x - y).boxed(),
            "mul" => (x * y).boxed(),
            "div" => (x / y).boxed(),
            "pow" => x.powf(y).boxed(),
            "maximum" => x.maximum(y).boxed(),
            "minimum" => x.minimum(y).boxed(),
            "zip_map" => x.zip_map(y, |x, y| x * y + x).boxed(),
            "matmul" => x.matmul(y).boxed(),
            "dot" => x.dot(y).boxed(),
            "where" => self.truths().where_(x, y).boxed(),
            _ => {
                return Truths(match name {
                    "lt" => x.lt(y).boxed(),
                    "le" => x.le(y).boxed(),
                    "gt" => x.gt(y).boxed(),
                    "ge" => x.ge(y).boxed(),
                    "equals" => x.equals(y).boxed(),
                    "differs" => x.differs(y).boxed(),
                    _ => panic!("what is {name}?"),
                });
            }
        })
    }
}

impl<'x, T: Number> Leaves<'x, T> {
    /// The value of a program; one leaf may be something else.
    fn run(&self, program: &str, other: Option<(&str, &dyn Fn() -> Boxed<'x, T>)>) -> Value<'x, T> {
        let mut stack = Stack(Vec::new());
        for word in program.split(' ') {
            let (name, told) = word.split_once(':').unwrap_or((word, ""));
            let value = if let Some(number) = word.strip_prefix('#') {
                Numbers(Scalar(number.parse::<T>().unwrap()).boxed())
            } else if let Some((_, other)) = other.filter(|(other, _)| *other == name) {
                Numbers(other())
            } else if let Some(leaf) = self.numbers.get(name) {
                Numbers((*leaf).boxed())
            } else if let Some(leaf) = self.indices.get(name) {
                Places((*leaf).boxed())
            } else {
                let value = stack.view(name, told).or_else(|| stack.reduction(name, told));
                value.or_else(|| stack.unary(name, told)).unwrap_or_else(|| stack.binary(name))
            };
            stack.0.push(value);
        }
        stack.pop()
    }

    /// What becomes of each leaf, where it is a whole tensor that the value stretches to, when it is updated to the value.
    fn update(&self, program: &str, x: &Boxed<'x, T>) -> String {
        let alloc = TensorAllocator::new();
        let mut fault = String::new();
        for (&name, &leaf) in &self.numbers {
            let shape = leaf.shape();
            if !program.split(' ').any(|word| word == name) || x.broadcast_to(shape).shape().is_err() {
                continue;
            }
            let copy = eval(&leaf, &alloc).unwrap();
            let mut updated = copy.try_clone().unwrap();
            // Of the same order in memory, which sums depend on.
            let leaves: &Leaves<'_, T> = self;
            let Numbers(x) = leaves.run(program, Some((name, &|| (&copy).boxed()))) else { panic!("no numbers") };
            let wanted = eval(&x.broadcast_to(shape), &alloc).unwrap();
            let result = updated.update(|current| {
                let Numbers(x) = leaves.run(program, Some((name, &|| current.boxed()))) else { panic!("no numbers") };
                x
            });
            if result.is_err() || !is_same(updated.as_slice(), wanted.as_slice()) {
                write!(fault, "{result:?}, update of {name}: {updated:?}, not {wanted:?}; ").unwrap();
            }
        }
        fault
    }
}

/// No number is the same as no number.
fn is_same<U: PartialOrd>(x: &[U], y: &[U]) -> bool {
    x.iter().zip(y).all(|(x, y)| x == y || x.partial_cmp(x).or(y.partial_cmp(y)).is_none())
}

/// The elements of an expression, which are the same however they are computed.
fn values<U: Item + PartialOrd>(expr: &Boxed<'_, U>, wanted: &[usize], fault: &mut String) -> Vec<U> {
    let alloc = TensorAllocator::new();
    let result = match eval(expr, &alloc) {
        Ok(result) if result.shape()[..] == *wanted => result,
        other => {
            write!(fault, "not of the shape {wanted:?}: {:?}", other.map(|result| result.shape())).unwrap();
            return Vec::new();
        }
    };
    let (plan, stats) = (explain(expr).unwrap(), alloc.stats());
    if (stats.allocations as usize, stats.peak_bytes_in_use) != (plan.requests(), plan.peak_bytes) {
        write!(fault, "{stats:?}, not what was explained: {plan}").unwrap();
    }
    let values = result.as_slice().to_vec();
    let mut into = vec![U::default(); values.len()];
    Eval::new(&alloc).eval_into(expr, &mut into).unwrap();
    if !is_same(&into, &values) {
        write!(fault, "eval_into: {into:?}, not {values:?}").unwrap();
    }
    let mut assigned: Tensor<U, _> = Tensor::full_in(wanted, U::default(), &alloc).unwrap();
    assigned.assign(expr).unwrap();
    if !is_same(assigned.as_slice(), &values) {
        write!(fault, "assign: {assigned:?}, not {values:?}").unwrap();
    }
    let alone = Eval::new(&alloc).sequential().eval(&expr.materialise()).unwrap();
    if !is_same(alone.as_slice(), &values) {
        write!(fault, "materialise: {alone:?}, not {values:?}").unwrap();
    }
    values
}

/// How far an element may be from another one, or else whether its sign has to be that of the other as well.
type Tolerance = Option<f64>;

fn compare<T: Number>(
    leaves: &Leaves<'_, T>,
    program: &str,
    shape: &[usize],
    wanted: &str,
    apart: Tolerance,
) -> String {
    let mut fault = String::new();
    let wide: Vec<f64> = match leaves.run(program, None) {
        Numbers(x) => {
            let values = values(&x, shape, &mut fault);
            if fault.is_empty() {
                fault += &in_others(&x, &values);
                fault += &leaves.update(program, &x);
            }
            values.into_iter().map(T::wide).collect()
        }
        Truths(x) => {
            let values = values(&x, shape, &mut fault);
            let count = eval(&x.count(..), TensorAllocator::new()).unwrap();
            if count.as_slice()[0] != values.iter().filter(|&&x| x).count() {
                write!(fault, "count: {count:?}").unwrap();
            }
            values.into_iter().map(|x| u8::from(x).into()).collect()
        }
        Places(x) => values(&x, shape, &mut fault).into_iter().map(|x| x as f64).collect(),
    };
    let wanted: Vec<f64> = wanted.split_whitespace().map(|text| text.parse::<T>().unwrap().wide()).collect();
    let some = wide.iter().step_by(wide.len() / 24 + 1);
    let most = wanted.iter().filter(|x| x.is_finite()).fold(1.0, |most: f64, x| most.max(x.abs()));
    for (i, (&x, &y)) in some.zip(&wanted).enumerate() {
        let is_close = match apart {
            None => x == y && x.is_sign_negative() == y.is_sign_negative(),
            Some(apart) => {
                let rounding = 32.0 * apart * T::EPSILON.wide() / f64::from(f32::EPSILON);
                x == y || (x - y).abs() <= rounding + 64.0 * T::EPSILON.wide() * most
            }
        };
        if !(is_close || x.is_nan() && y.is_nan()) {
            write!(fault, "{x}, not {y}, at place {i}; ").unwrap();
        }
    }
    fault
}

/// The values within a sum and an update, and with other vectors.
fn in_others<T: Number>(x: &Boxed<'_, T>, values: &[T]) -> String {
    let mut fault = String::new();
    let alloc = TensorAllocator::new();
    let wide: Vec<f64> = values.iter().map(|&x| x.wide()).collect();
    let is_close =
        |x: f64, y: f64, of: f64| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= T::EPSILON.wide() * of;
    let sum = eval(&x.sum(..), &alloc).unwrap().as_slice()[0].wide();
    let most = wide.iter().map(|x| x.abs()).sum::<f64>();
    // A sum of what is nearly infinite may be.
    if !is_close(sum, wide.iter().sum(), (32 + wide.len()) as f64 * most) && most < T::MOST.wide() / 8.0 {
        write!(fault, "sum: {sum}, not {}; ", wide.iter().sum::<f64>()).unwrap();
    }
    let shape = x.shape().unwrap();
    let mut changed: Tensor<T, _> = Tensor::full_in(shape, T::ONE, &alloc).unwrap();
    changed.update(|one| x * one).unwrap();
    if !is_same(changed.as_slice(), values) {
        write!(fault, "update: {changed:?}, not {values:?}; ").unwrap();
    }
    let base = Eval::new(&alloc).simd(Simd::Base).eval(x).unwrap();
    let most = wide.iter().filter(|x| x.is_finite()).fold(1.0, |most: f64, x| most.max(x.abs()));
    if !base.as_slice().iter().zip(&wide).all(|(&x, &y)| is_close(x.wide(), y, 1e5 * most)) {
        write!(fault, "base: {base:?}, not {values:?}; ").unwrap();
    }
    fault
}

fn check<T: Number>(fixture: &Fixture) -> Vec<String> {
    let most = fixture.leaves.values().map(|&(.., count)| count).max().unwrap();
    let memory: Vec<T> = (0..most).map(|i| T::from_f64(((7 * i % 33) as f64 - 16.0) / 8.0)).collect();
    let odd: Vec<T> = fixture.odd.iter().map(|text| text.parse().unwrap()).collect();
    let leaf = |(shape, steps, start, count): &(Vec<usize>, Vec<isize>, usize, usize)| {
        View::with_strides(&memory[..*count], &shape[..], steps, *start).unwrap()
    };
    let mut leaves = Leaves {
        numbers: fixture.leaves.iter().map(|(name, place)| (&name[..], leaf(place))).collect(),
        indices: fixture
            .indices
            .iter()
            .map(|(name, (shape, values))| (&name[..], View::new(values, &shape[..]).unwrap()))
            .collect(),
    };
    leaves.numbers.insert("odd", View::new(&odd, [odd.len()]).unwrap());
    let mut faults = Vec::new();
    let mut note = |program: &str, fault: String| {
        if !fault.is_empty() {
            faults.push(format!("{} {program}: {fault}", T::NAME));
        }
    };
    for exact in &fixture.exact {
        let (program, shape, wanted) = match exact {
            Exact::Other(program, shape, _, narrow) if T::IS_NARROW => (program, shape, narrow),
            Exact::Same(program, shape, wanted) | Exact::Other(program, shape, wanted, _) => (program, shape, wanted),
        };
        note(program, compare(&leaves, program, shape, wanted, None));
    }
    for (program, shape, wanted, apart) in &fixture.close {
        note(program, compare(&leaves, program, shape, wanted, Some(*apart)));
    }
    faults
}

#[test]
fn programs_have_the_values_that_numpy_gives_them() {
    let fixture: Fixture = serde_json::from_str(include_str!("numpy/programs.json")).unwrap();
    let faults = [check::<f32>(&fixture), check::<f64>(&fixture)].concat();
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        fixture.close.len() + fixture.exact.len(),
        faults.join("\n")
    );
}
