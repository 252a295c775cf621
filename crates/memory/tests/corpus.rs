//! What the fuzzer found worth keeping (`fuzz/`), and as many random inputs.
#![allow(missing_docs, unsafe_code, clippy::expect_used, clippy::panic)]

mod common;

#[path = "common/operations.rs"]
mod operations;

use std::path::Path;

use common::ops;

#[test]
fn the_corpus_finds_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is part of the repository") {
        operations::run(&std::fs::read(entry.expect("readable").path()).expect("readable"));
        inputs += 1;
    }
    assert!(inputs > 0);
}

#[test]
fn random_operations_find_nothing() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut done = 0;
    while done < ops(30_000) {
        let input: Vec<u8> = (0..4 * random.usize(1..2000)).map(|_| random.u8(..)).collect();
        done += operations::run(&input);
    }
}
