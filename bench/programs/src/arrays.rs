//! ndarray: expressions that make temporaries, and matrix algebra.

use std::hint::black_box;

use ndarray::{Array1, Array2, Axis};

use crate::measure::Program;
use crate::random::Random;

pub(crate) fn program(quick: bool) -> Program {
    let mut random = Random::new(1);
    let sizes: &[usize] = if quick { &[64 << 10] } else { &[256 << 10, 1 << 20, 4 << 20, 16 << 20] };
    let mut operands = |bytes: usize| -> [Array1<f32>; 4] {
        std::array::from_fn(|_| Array1::from_vec(random.floats(bytes / size_of::<f32>(), 1.0)))
    };
    let operands: Vec<_> = sizes.iter().map(|&bytes| operands(bytes)).collect();
    let side = if quick { 64 } else { 384 };
    let matrix = Array2::from_shape_fn((2 * side, side), |_| random.floats(1, 1.0)[0]);
    Program::new(quick, 2, 24, move || {
        for [a, b, c, d] in &operands {
            // Most bytes are moved at the large sizes; the small ones come more often, as in life.
            for _ in 0..((16 << 20) / (a.len() * size_of::<f32>())).isqrt() {
                black_box(&(a + b) * c - d);
                black_box((a - b).mapv(|x| x * x).sum());
                black_box(a.mapv(|x| x.max(0.0)) + &(c * d) * 0.5);
            }
        }
        black_box(regression(&matrix));
        Ok(())
    })
}

/// The covariance of the columns, normalised row by row, and carried on.
fn regression(matrix: &Array2<f32>) -> Array2<f32> {
    let mean = matrix.sum_axis(Axis(0)) / matrix.nrows() as f32;
    let centred = matrix - &mean;
    let covariance = centred.t().dot(&centred) / matrix.nrows() as f32;
    let exponents = (&covariance - covariance.fold(f32::MIN, |a, &b| a.max(b))).mapv(f32::exp);
    let weights = &exponents / &exponents.sum_axis(Axis(1)).insert_axis(Axis(1));
    centred.dot(&weights) + matrix
}
