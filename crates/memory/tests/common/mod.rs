//! What the tests share: the size of a run, and the slow, obvious rules that serve as oracles.
#![allow(dead_code)]

use std::alloc::Layout;

/// How many operations a randomised test makes: `TENZOR_TEST_OPS` where it is set (slow tools set it), else `default`.
pub(crate) fn ops(default: usize) -> usize {
    match std::env::var("TENZOR_TEST_OPS") {
        Ok(ops) => ops.parse().expect("TENZOR_TEST_OPS is a number"),
        Err(_) => default,
    }
}

/// The capacity of a request by counting up: bucket by bucket, step by step.
pub(crate) fn capacity(size: usize, classes_per_bucket: usize) -> usize {
    let mut base = 64;
    loop {
        for step in 0..classes_per_bucket {
            let capacity = base + step * base / classes_per_bucket;
            if capacity >= size {
                return capacity;
            }
        }
        base *= 2;
    }
}

/// The bucket that contains a capacity, by halving.
pub(crate) fn bucket(mut capacity: usize) -> usize {
    let mut bucket = 0;
    while capacity >= 128 {
        capacity /= 2;
        bucket += 1;
    }
    bucket
}

/// A random size, as likely between any two powers of two up to `max` as between any others.
pub(crate) fn random_size(rng: &mut fastrand::Rng, max: usize) -> usize {
    let bits = rng.u32(0..=max.ilog2());
    rng.usize(1 << bits..=((2 << bits) - 1).min(max))
}

pub(crate) fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a valid layout")
}
