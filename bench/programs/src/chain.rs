//! `max(a * b + c, 0) * d - e`, operation by operation, as an eager tensor library evaluates it.

#![allow(unsafe_code)]

use std::hint::black_box;
use std::mem::MaybeUninit;

use anyhow::Result;

use crate::map;
use crate::measure::Program;
use crate::random::Random;

/// Arrays of `bytes` each: results in buffers from the allocator, or by turns in two that were there before.
pub(crate) fn program(bytes: usize, quick: bool, preallocated: bool) -> Result<Program> {
    let bytes = if quick { 64 << 10 } else { bytes };
    let count = bytes / size_of::<f32>();
    // As much arithmetic at every size, but some steps in any case.
    let steps = ((1 << 30) / bytes).max(4);
    let warm_up = (steps / 8).max(1);
    let mut random = Random::new(1);
    let [a, b, c, d, e] = std::array::from_fn(|_| random.floats(count, 1.0));
    if !preallocated {
        return Ok(Program::new(quick, warm_up, steps, move || {
            let t = fresh(multiply, &a, &b);
            let t = fresh(add, t, &c);
            let t = fresh(relu, t, &[]);
            let t = fresh(multiply, t, &d);
            black_box(fresh(subtract, t, &e));
            Ok(())
        }));
    }
    let [x, y, mapped @ ..] = map::buffers::<7>(bytes)?;
    let mut inputs = [a, b, c, d, e].into_iter();
    let [a, b, c, d, e] = mapped.map(|buffer| &*buffer.write_copy_of_slice(&inputs.next().unwrap_or_default()));
    Ok(Program::new(quick, warm_up, steps, move || {
        let t = multiply(x, a, b);
        let t = add(y, t, c);
        let t = relu(x, t, &[]);
        let t = multiply(y, t, d);
        black_box(subtract(x, t, e));
        Ok(())
    }))
}

/// The result of an operation in a new buffer. The first operand is freed if it is owned: nobody else needs it.
fn fresh(operation: Operation, left: impl AsRef<[f32]>, right: &[f32]) -> Vec<f32> {
    let count = left.as_ref().len();
    let mut result = Vec::with_capacity(count);
    operation(&mut result.spare_capacity_mut()[..count], left.as_ref(), right);
    // SAFETY: an operation initialises as many elements as it is given.
    unsafe { result.set_len(count) };
    result
}

/// Initialises its first argument, and returns it.
type Operation = for<'a> fn(&'a mut [MaybeUninit<f32>], &[f32], &[f32]) -> &'a [f32];

macro_rules! operation {
    ($name:ident, |$left:ident, $right:ident| $value:expr) => {
        // Never inlined, so that all contenders run the same instructions.
        #[inline(never)]
        fn $name<'a>(result: &'a mut [MaybeUninit<f32>], left: &[f32], right: &[f32]) -> &'a [f32] {
            for ((result, &$left), &$right) in result.iter_mut().zip(left).zip(right) {
                result.write($value);
            }
            // SAFETY: all elements were written: the operands are as long as the result.
            unsafe { result.assume_init_ref() }
        }
    };
}

operation!(multiply, |left, right| left * right);
operation!(add, |left, right| left + right);
operation!(subtract, |left, right| left - right);

#[inline(never)]
fn relu<'a>(result: &'a mut [MaybeUninit<f32>], operand: &[f32], _: &[f32]) -> &'a [f32] {
    for (result, &operand) in result.iter_mut().zip(operand) {
        result.write(operand.max(0.0));
    }
    // SAFETY: all elements were written: the operand is as long as the result.
    unsafe { result.assume_init_ref() }
}
