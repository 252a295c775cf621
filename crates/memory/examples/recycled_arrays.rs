//! A chain of ndarray's own results, whose memory comes back: after the first round no array goes to the global allocator.
//!
//!     cargo run --release -p tenzor-memory --example recycled_arrays

use std::error::Error;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use tenzor_memory::recycle::Vecs;

/// An array of zeros, an ordinary one of ndarray's, in memory that others had before.
fn zeros(vecs: &Vecs, (rows, columns): (usize, usize)) -> Result<Array2<f32>, Box<dyn Error>> {
    let mut values = vecs.take(rows * columns)?;
    values.resize(rows * columns, 0.0);
    Ok(Array2::from_shape_vec((rows, columns), values)?)
}

/// Takes an array that is done with, wherever its memory came from.
fn recycle(vecs: &Vecs, array: Array2<f32>) {
    vecs.give(array.into_raw_vec_and_offset().0);
}

/// relu(x · w + b)
fn layer(
    vecs: &Vecs,
    x: ArrayView2<f32>,
    w: ArrayView2<f32>,
    b: ArrayView2<f32>,
) -> Result<Array2<f32>, Box<dyn Error>> {
    let mut y = zeros(vecs, (x.nrows(), w.ncols()))?;
    general_mat_mul(1.0, &x, &w, 0.0, &mut y);
    y += &b;
    y.mapv_inplace(|value| value.max(0.0));
    Ok(y)
}

fn main() -> Result<(), Box<dyn Error>> {
    const ROUNDS: u64 = 100;
    let vecs = Vecs::new();
    let x = Array2::from_elem((64, 256), 0.5_f32);
    let w = Array2::from_elem((256, 256), 0.01_f32);
    let b = Array2::from_elem((1, 256), 1.0_f32);
    for _ in 0..ROUNDS {
        let hidden = layer(&vecs, x.view(), w.view(), b.view())?;
        let output = layer(&vecs, hidden.view(), w.view(), b.view())?;
        // ndarray makes this one itself. It is kept as well, and serves a request of the next round.
        let difference = &output - &hidden;
        assert!((difference[[63, 255]] - 4.5568).abs() < 1e-3);
        for array in [hidden, output, difference] {
            recycle(&vecs, array);
        }
    }
    let stats = vecs.stats();
    assert_eq!((stats.pool_misses, stats.pool_hits), (2, 2 * ROUNDS - 2));
    println!("{stats}");
    Ok(())
}
