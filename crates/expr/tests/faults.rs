//! Page faults of a repeated evaluation. Alone in its process, as faults are counted for all of it.
#![allow(missing_docs)]

use std::error::Error;

use tenzor_expr::{Expr, Tensor, eval};
use tenzor_memory::{PoolConfig, TensorAllocator};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[test]
fn the_second_round_and_later_ones_meet_none() -> Result {
    for mib in [1, 4, 16, 64] {
        let n = mib << 18;
        let alloc = TensorAllocator::with_config(PoolConfig::default().with_max_pool_size(1 << 30));
        let a = Tensor::new(alloc.alloc_filled(n, 2.0_f32)?, [n])?;
        let expr = (&a * 3.0 - 1.0).sqrt() + &a;
        drop(eval(&expr, &alloc)?);
        let mut rounds = Vec::new();
        for _ in 0..10 {
            let before = faults()?;
            drop(eval(&expr, &alloc)?);
            rounds.push(faults()? - before);
        }
        // A thread that is woken for the first time touches its stack.
        assert!(rounds.iter().filter(|&&faults| faults == 0).count() >= 7, "{mib} MiB: {rounds:?}");
    }
    Ok(())
}

/// The page faults of this process so far that needed no disk.
fn faults() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().ok_or("no fields")?;
    Ok(fields.split_whitespace().nth(7).ok_or("too few fields")?.parse()?)
}
