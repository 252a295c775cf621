//! Transpositions in registers, against a loop.
//!
//! Unsafe code says that slots were initialised.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use crate::simd::{Level, Simd};
use crate::transpose::{Across, transpose};

fn check<T: Copy + PartialEq + std::fmt::Debug>(of: impl Fn(usize) -> T, other: T) {
    let from: Vec<T> = (0..6000).map(of).collect();
    for level in [Simd::Base, Simd::V3, Simd::V4].map(Level::at_most) {
        for (lines, len) in (0..21).flat_map(|lines| (0..37).map(move |len| (lines, len))) {
            for step in [0, 1, lines as isize, lines as isize + 3, 100, -1, -100_isize] {
                let first = if step < 0 { 5000 } else { 7 };
                for gap in [0, 5] {
                    let mut out = vec![MaybeUninit::new(other); lines * (len + gap)];
                    transpose(level, (&*from).into(), Across { first, step, lines, len }, &mut out, len + gap);
                    for (line, slots) in out.chunks((len + gap).max(1)).enumerate() {
                        for (i, slot) in slots.iter().enumerate() {
                            // SAFETY: it was so from the beginning.
                            let value = unsafe { slot.assume_init() };
                            let place = (first as isize + step * i as isize) as usize + line;
                            let expected = if i < len { from[place] } else { other };
                            assert_eq!(value, expected, "{lines} × {len}, {step}, {gap} at {level:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn transpositions_are_those_of_a_loop() {
    check(|i| i as f32, -1.0);
    check(|i| i as f64, -1.0);
    check(|i| i % 3 == 0, true);
    check(|i| [i as u16; 3], [0; 3]);
}

#[test]
#[should_panic(expected = "out of range")]
fn what_is_not_in_the_slice_is_not_read() {
    let mut out = [MaybeUninit::<f32>::uninit(); 64];
    transpose(
        Level::chosen(),
        (&[0.0; 100][..]).into(),
        Across { first: 0, step: 40, lines: 4, len: 16 },
        &mut out,
        16,
    );
}
