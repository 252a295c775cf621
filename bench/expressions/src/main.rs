//! The same expressions by hand, in tenzor, ndarray and candle: prints tables of times relative to the first contender.
//!
//!     cargo run --release --manifest-path bench/expressions/Cargo.toml [chain|long|libraries|products|layers]
//!
//! NumPy, numexpr and PyTorch, and many more cases, are in what `bench/expressions/beside` does.
//!
//! All in one process, whose allocator is Tenzor's for everybody, in turns; medians. `RAYON_NUM_THREADS=1` keeps libraries on one thread.

mod beside;
mod layers;

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use tenzor_expr::{Eval, Expr, Simd, Tensor, eval};
use tenzor_memory::{PoolConfig, TensorAllocator, TenzorMalloc};

#[global_allocator]
static GLOBAL: TenzorMalloc = TenzorMalloc::new();

type Matrix<'a> = Tensor<f32, &'a TensorAllocator>;

/// Something to be timed.
type Contender<'c> = Box<dyn FnMut() -> Result<()> + 'c>;

/// Prints the contenders' median times: the first's, and those of the others in relation to it.
fn compare(what: &str, mut contenders: Vec<Contender<'_>>) -> Result<()> {
    const ROUNDS: usize = 9;
    contenders[0]()?;
    // As often as makes some dozens of milliseconds.
    let start = Instant::now();
    contenders[0]()?;
    let repeats = (3e-2 / start.elapsed().as_secs_f64()).clamp(2.0, 10_000.0) as u32;
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..=ROUNDS {
        for (run, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..repeats {
                run()?;
            }
            // The first round is for caches and pools.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() / f64::from(repeats));
            }
        }
    }
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect();
    let others: Vec<String> = medians[1..].iter().map(|time| format!("{:.2}", time / medians[0])).collect();
    println!("| {what} | {:.1} µs | {} |", medians[0] * 1e6, others.join(" | "));
    Ok(())
}

fn matrix<'a>(alloc: &'a TensorAllocator, shape: &[usize], scale: f32) -> Result<Matrix<'a>> {
    let value = |i: usize| ((i * 7919) % 1009) as f32 / 1009.0 * scale - scale / 2.0;
    Ok(Tensor::new(alloc.alloc_from_fn(shape.iter().product(), value)?, shape)?)
}

/// What a programmer would write, over buffers made beforehand.
#[inline(never)]
fn by_hand(a: &[f32], b: &[f32], c: &[f32], d: &mut [f32]) {
    let n = d.len();
    let (a, b, c) = (&a[..n], &b[..n], &c[..n]);
    for i in 0..n {
        d[i] = a[i] * b[i] + c[i] - a[i] / 2.0;
    }
}

/// `a·b + c − a/2` against a loop.
fn chain(alloc: &TensorAllocator) -> Result<()> {
    println!("\n| a·b + c − a/2 | by hand | eval, one thread | eval | eval_into, one thread |\n|---|---|---|---|---|");
    for kib in [16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144] {
        let n = kib * 256;
        let (a, b, c) = (matrix(alloc, &[n], 1.0)?, matrix(alloc, &[n], 2.0)?, matrix(alloc, &[n], 3.0)?);
        let (mut by, mut into) = (vec![0.0; n], vec![0.0; n]);
        let expr = &a * &b + &c - &a / 2.0;
        let alone = Eval::new(alloc).sequential();
        compare(
            &format!("{kib} KiB"),
            vec![
                Box::new(|| Ok(by_hand(a.as_slice(), b.as_slice(), c.as_slice(), black_box(&mut by)))),
                Box::new(|| Ok(drop(black_box(alone.eval(&expr)?)))),
                Box::new(|| Ok(drop(black_box(eval(&expr, alloc)?)))),
                Box::new(|| Ok(alone.eval_into(&expr, black_box(&mut into))?)),
            ],
        )?;
    }
    Ok(())
}

/// Longer expressions, each way: none may lose what another has.
fn long(alloc: &TensorAllocator) -> Result<()> {
    println!(
        "\n| 256 KiB, one thread | eval_into | eval | its sum | eval, AVX2 | eval, base |\n|---|---|---|---|---|---|"
    );
    let n = 64 << 10;
    let (x, y, z) = (matrix(alloc, &[n], 2.0)?, matrix(alloc, &[n], 3.0)?, matrix(alloc, &[n], 4.0)?);
    let mut into = vec![0.0; n];
    macro_rules! rows {
        ($($expr:expr;)*) => {$({
            let expr = $expr;
            let alone = Eval::new(alloc).sequential();
            let [narrow, base] = [Simd::V3, Simd::Base].map(|simd| alone.clone().simd(simd));
            let sum = expr.sum(..);
            compare(
                &format!("`{}`", stringify!($expr)),
                vec![
                    Box::new(|| Ok(alone.eval_into(&expr, black_box(&mut into))?)),
                    Box::new(|| Ok(drop(black_box(alone.eval(&expr)?)))),
                    Box::new(|| Ok(drop(black_box(alone.eval(&sum)?)))),
                    Box::new(|| Ok(drop(black_box(narrow.eval(&expr)?)))),
                    Box::new(|| Ok(drop(black_box(base.eval(&expr)?)))),
                ],
            )?;
        })*};
    }
    let (x, y, z) = (x.view(), y.view(), z.view());
    rows! {
        x.exp();
        x.ln();
        x.tanh();
        x.sigmoid();
        x.gelu();
        x.silu();
        x.exp() + x.sigmoid();
        (-x).exp() * x + x.sigmoid();
        x.gelu() * x.silu();
        x + y + z + x + y + z + x + y;
        x * y + z * x + y * z + x * x + y * y + z * z + x * y + z * x + y * z + x * x + y * y + z * z;
    }
    Ok(())
}

/// The same against libraries that compute one operation after the other.
fn libraries(alloc: &TensorAllocator) -> Result<()> {
    println!("\n| a·b + c − a/2 | tenzor | candle | ndarray |\n|---|---|---|---|");
    for kib in [1024, 4096, 16_384, 65_536] {
        let n = kib * 256;
        let (a, b, c) = (matrix(alloc, &[n], 1.0)?, matrix(alloc, &[n], 2.0)?, matrix(alloc, &[n], 3.0)?);
        let candle = |x: &Matrix<'_>| candle_core::Tensor::from_slice(x.as_slice(), (n,), &candle_core::Device::Cpu);
        let (ca, cb, cc) = (candle(&a)?, candle(&b)?, candle(&c)?);
        let array = |x: &Matrix<'_>| ndarray::Array1::from(x.as_slice().to_vec());
        let (na, nb, nc) = (array(&a), array(&b), array(&c));
        let expr = &a * &b + &c - &a / 2.0;
        compare(
            &format!("{kib} KiB"),
            vec![
                Box::new(|| Ok(drop(black_box(eval(&expr, alloc)?)))),
                Box::new(|| Ok(drop(black_box((((&ca * &cb)? + &cc)? - (&ca / 2.0)?)?)))),
                Box::new(|| Ok(drop(black_box(&na * &nb + &nc - &na / 2.0)))),
            ],
        )?;
    }
    Ok(())
}

/// Matrix products against the crate that computes them.
#[allow(unsafe_code)]
fn products(alloc: &TensorAllocator) -> Result<()> {
    println!("\n| product | gemm | eval |\n|---|---|---|");
    for (m, k, n) in
        [(64, 512, 2048), (64, 2048, 512), (128, 768, 768), (128, 768, 3072), (256, 256, 256), (1024, 1024, 1024)]
    {
        let (a, b) = (matrix(alloc, &[m, k], 1.0)?, matrix(alloc, &[k, n], 1.0)?);
        let mut out = vec![0.0_f32; m * n];
        let expr = a.matmul(&b);
        let direct = || {
            let (left, right) = (a.as_slice().as_ptr(), b.as_slice().as_ptr());
            let (lhs, rhs) = (k.cast_signed(), n.cast_signed());
            let threads = gemm::Parallelism::Rayon(0);
            // SAFETY: the matrices are as large as is said, row by row, and `out` is nobody else's.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    out.as_mut_ptr(),
                    1,
                    rhs,
                    false,
                    left,
                    1,
                    lhs,
                    right,
                    1,
                    rhs,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    threads,
                );
            }
            black_box(&out);
            Ok(())
        };
        let ours = || Ok(drop(black_box(eval(&expr, alloc)?)));
        compare(&format!("{m} × {k} × {n}"), vec![Box::new(direct), Box::new(ours)])?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next();
    if wanted.as_deref() == Some("beside") {
        return beside::run(arguments);
    }
    let alloc = TensorAllocator::with_config(PoolConfig::default().with_max_pool_size(4 << 30));
    let tables: [(&str, fn(&TensorAllocator) -> Result<()>); 5] =
        [("chain", chain), ("long", long), ("libraries", libraries), ("products", products), ("layers", layers::run)];
    for (name, table) in tables {
        if wanted.as_deref().is_none_or(|wanted| wanted == name) {
            table(&alloc)?;
        }
    }
    Ok(())
}
