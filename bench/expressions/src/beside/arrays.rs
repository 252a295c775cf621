//! ndarray's cases: with `Zip` where it makes one loop of many, on rayon's threads where there is enough to do.

use anyhow::{Context, Result};
use ndarray::{Array, Array1, Array2, ArrayD, ArrayView, Axis, Dimension, Ix1, Ix2, Ix3, Ix4, IxDyn, Zip, s};

use super::{Case, Clock, Input};

/// From how many elements on threads are woken.
const MANY: usize = 1 << 16;

pub(super) fn time(case: &Case, clock: &Clock, threads: usize) -> Result<()> {
    let input = |input: &Input| {
        let elements = (0..input.elements()).map(input.values()).collect();
        Ok(ArrayD::from_shape_vec(IxDyn(&input.shape), elements)?)
    };
    let arrays = case.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
    let parallel = threads > 1 && arrays[0].len() >= MANY;
    macro_rules! input {
        ($i:literal, $dimension:ty) => {
            arrays[$i].view().into_dimensionality::<$dimension>()?
        };
    }
    macro_rules! time {
        ($value:expr) => {
            clock.time(|| Ok($value), |value| Ok(value.iter().copied().collect()))
        };
    }
    macro_rules! zip {
        ($first:expr $(, $other:expr)*; $of:expr) => {{
            time!({
                let zip = Zip::from($first)$(.and($other))*;
                if parallel { zip.par_map_collect($of) } else { zip.map_collect($of) }
            })
        }};
    }
    macro_rules! map {
        ($of:expr) => {{
            let a = input!(0, Ix1);
            zip!(a; $of)
        }};
    }
    match case.operation.as_str() {
        "a*b + c - a/2" => {
            let (a, b, c) = (input!(0, Ix1), input!(1, Ix1), input!(2, Ix1));
            zip!(a, b, c; |a, b, c| a * b + c - a / 2.0)
        }
        "exp(a)*exp(-b) + 1/(1 + exp(c))" => {
            let (a, b, c) = (input!(0, Ix1), input!(1, Ix1), input!(2, Ix1));
            zip!(a, b, c; |a, b, c| a.exp() * (-b).exp() + 1.0 / (1.0 + c.exp()))
        }
        "where(a < b, a, c)" => {
            let (a, b, c) = (input!(0, Ix1), input!(1, Ix1), input!(2, Ix1));
            zip!(a, b, c; |&a, &b, &c| if a < b { a } else { c })
        }
        "exp" => map!(|x| x.exp()),
        "ln" => map!(|x| x.ln()),
        "tanh" => map!(|x| x.tanh()),
        "sigmoid" => map!(|x| 1.0 / (1.0 + (-x).exp())),
        "silu" => map!(|x| x / (1.0 + (-x).exp())),
        "x**2" => map!(|x| x * x),
        "x**1.5" => map!(|x| x.powf(1.5)),
        "stencil" => {
            let x = input!(0, Ix2);
            let (up, down) = (x.slice(s![..-2, 1..-1]), x.slice(s![2.., 1..-1]));
            let (left, right) = (x.slice(s![1..-1, ..-2]), x.slice(s![1..-1, 2..]));
            let middle = x.slice(s![1..-1, 1..-1]);
            zip!(middle, up, down, left, right; |m, u, d, l, r| m + 0.1 * (u + d + l + r - 4.0 * m))
        }
        "a + b" => {
            let a = input!(0, Ix2);
            match arrays[1].broadcast(a.dim()) {
                Some(b) => zip!(a, b; |a, b| a + b),
                None => time!(&a + &input!(1, Ix1)),
            }
        }
        "a * exp(b)" => {
            let a = input!(0, Ix2);
            time!(&a * &arrays[1].mapv(f32::exp).broadcast(a.dim()).context("another shape")?)
        }
        "a + b.T" => {
            let (a, b) = (input!(0, Ix2), input!(1, Ix2));
            zip!(a, b.t(); |a, b| a + b)
        }
        "sum" => {
            let a = input!(0, Ix1);
            time!(Array1::from_elem(1, a.sum()))
        }
        "sum of a.T" => {
            let a = input!(0, Ix2);
            time!(Array1::from_elem(1, a.t().sum()))
        }
        "sum 0" => {
            let a = input!(0, Ix2);
            time!(a.sum_axis(Axis(0)))
        }
        "sum 1" if arrays[0].ndim() == 3 => {
            let a = input!(0, Ix3);
            time!(a.sum_axis(Axis(1)))
        }
        "sum 1" => {
            let a = input!(0, Ix2);
            time!(a.sum_axis(Axis(1)))
        }
        "sum 0 of a.T" => {
            let a = input!(0, Ix2);
            time!(a.t().sum_axis(Axis(0)))
        }
        "sum 1 of a.T" => {
            let a = input!(0, Ix2);
            time!(a.t().sum_axis(Axis(1)))
        }
        "max 1" => {
            let a = input!(0, Ix2);
            time!(a.map_axis(Axis(1), |row| row.fold(f32::NEG_INFINITY, |most, &x| most.max(x))))
        }
        "softmax rows" => {
            let a = input!(0, Ix2);
            time!(softmax(&a, Axis(1)))
        }
        "softmax columns" => {
            let a = input!(0, Ix2);
            time!(softmax(&a, Axis(0)))
        }
        "layer_norm" => {
            let a = input!(0, Ix2);
            time!({
                let columns = a.ncols() as f32;
                let mut value = &a - &(a.sum_axis(Axis(1)) / columns).insert_axis(Axis(1));
                for mut row in value.rows_mut() {
                    let spread = (row.dot(&row) / columns + 1e-5).sqrt();
                    row /= spread;
                }
                value
            })
        }
        "copy of a.T" => {
            let a = input!(0, Ix2);
            time!(packed(&a.t()))
        }
        "permute 0213" => {
            let a = input!(0, Ix4).permuted_axes([0, 2, 1, 3]);
            time!(packed(&a))
        }
        "permute 021" => {
            let a = input!(0, Ix3).permuted_axes([0, 2, 1]);
            time!(packed(&a))
        }
        "permute 102" => {
            let a = input!(0, Ix3).permuted_axes([1, 0, 2]);
            time!(packed(&a))
        }
        "matmul" if arrays[0].ndim() == 2 => {
            let (a, b) = (input!(0, Ix2), input!(1, Ix2));
            time!(a.dot(&b))
        }
        _ => Ok(()),
    }
}

/// A copy, its elements in order.
fn packed<D: Dimension>(x: &ArrayView<'_, f32, D>) -> Array<f32, D> {
    x.as_standard_layout().into_owned()
}

fn softmax(x: &ArrayView<'_, f32, Ix2>, axis: Axis) -> Array2<f32> {
    let most = x.fold_axis(axis, f32::NEG_INFINITY, |most, x| most.max(*x)).insert_axis(axis);
    let mut value = x - &most;
    value.mapv_inplace(f32::exp);
    value /= &value.sum_axis(axis).insert_axis(axis);
    value
}
