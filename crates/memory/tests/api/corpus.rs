//! What the fuzzer found worth keeping (`fuzz/`), and random inputs.

#[path = "../common/operations.rs"]
mod operations;

use std::path::Path;

use crate::common::ops;

/// The bytes of each input; shorter ones end with operations that do nothing, which are `7, 0, 0, 2`.
const INPUT: usize = 320;

#[test]
fn the_corpus_finds_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is part of the repository") {
        let bytes = std::fs::read(entry.expect("readable").path()).expect("readable");
        for input in bytes.chunks(INPUT) {
            operations::run(input);
            inputs += 1;
        }
    }
    assert!(inputs > 100);
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
