//! candle's own tensors, whose memory comes back: a `Vec` is given to candle, and taken out of the tensor when that is done with.
//!
//!     cargo run --release --manifest-path bench/expressions/Cargo.toml --example recycled_tensors

use std::cell::RefCell;

use anyhow::{Result, bail};
use candle_core::{CpuStorage, CustomOp2, Device, InplaceOp1, Layout, Shape, Tensor};
use tenzor_memory::recycle::Vecs;

/// a * b + b, an operation of our own, whose result has memory that others had before.
struct Scaled<'a>(&'a Vecs);

impl CustomOp2 for Scaled<'_> {
    fn name(&self) -> &'static str {
        "scaled"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(a), CpuStorage::F32(b)) = (a, b) else { candle_core::bail!("floats are scaled") };
        let (Some(a_range), Some(b_range)) = (a_layout.contiguous_offsets(), b_layout.contiguous_offsets()) else {
            candle_core::bail!("what is scaled is contiguous")
        };
        let (a, b) = (&a[a_range.0..a_range.1], &b[b_range.0..b_range.1]);
        let mut result = self.0.take(a.len()).map_err(candle_core::Error::wrap)?;
        result.extend(a.iter().zip(b).map(|(a, b)| a * b + b));
        Ok((CpuStorage::F32(result), a_layout.shape().clone()))
    }
}

/// Leaves a tensor without elements.
struct TakeOut(RefCell<Vec<f32>>);

impl InplaceOp1 for TakeOut {
    fn name(&self) -> &'static str {
        "take out"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else { candle_core::bail!("floats are taken out") };
        self.0.replace(std::mem::take(values));
        Ok(())
    }
}

/// Takes the memory of a tensor that is done with. Whoever has a view of it, or a clone, is not done with it.
fn recycle(vecs: &Vecs, tensor: Tensor) -> Result<()> {
    let out = TakeOut(RefCell::default());
    tensor.inplace_op1(&out)?;
    vecs.give(out.0.into_inner());
    Ok(())
}

fn main() -> Result<()> {
    const ROUNDS: u64 = 100;
    let vecs = Vecs::new();
    let b = Tensor::full(0.5_f32, (64, 256), &Device::Cpu)?.contiguous()?;
    for round in 0..ROUNDS {
        let mut input = vecs.take(64 * 256)?;
        input.resize(64 * 256, round as f32);
        let a = Tensor::from_vec(input, (64, 256), &Device::Cpu)?;
        let scaled = a.apply_op2_no_bwd(&b, &Scaled(&vecs))?;
        // candle makes this one itself. It is kept as well, and serves a request of the next round.
        let sum = (&scaled + &a)?;
        if sum.get(63)?.get(255)?.to_scalar::<f32>()? != 1.5 * round as f32 + 0.5 {
            bail!("a wrong sum");
        }
        for tensor in [sum, scaled, a] {
            recycle(&vecs, tensor)?;
        }
    }
    let stats = vecs.stats();
    println!("{stats}");
    if (stats.pool_misses, stats.pool_hits) != (2, 2 * ROUNDS - 2) {
        bail!("memory was not reused");
    }
    Ok(())
}
