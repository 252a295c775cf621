//! Problems, files of problems and files of plans, against the planner's judge.
//!
//!     RUSTC_BOOTSTRAP=1 cargo fuzz run -s none plan -- -max_len=400
#![no_main]

use tenzor_memory::{PlannedAllocator, TensorAllocator};
use tenzor_plan::{BufferSpec, Planner, Problem, Status, read_csv, validate};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Ok((problem, _)) = read_csv(data) {
                check(&problem);
            }
        }
        1 => load(data),
        _ => check(&problem(data)),
    }
});

/// Some bytes for each buffer, small numbers most of the time.
fn problem(data: &[u8]) -> Problem {
    let mut problem = Problem::new();
    for bytes in data.chunks_exact(8) {
        let number = |index: usize| u64::from(bytes[index]);
        let (start, end) = (number(0), number(0) + number(1) % 32);
        let size = if number(2) == 255 { u64::MAX >> (number(3) % 64) } else { number(2) };
        let mut spec = BufferSpec::new(size, start..end);
        let features = number(4);
        if features & 1 != 0 {
            spec = spec.with_alignment(1 + number(5) % 16);
        }
        if features & 2 != 0 {
            spec = spec.with_gap(start + number(6) % 8..start + number(6) % 8 + number(7) % 8);
        }
        if features & 12 == 12 {
            let offset = number(6) * spec.alignment;
            spec = spec.with_offset(offset);
        }
        if features & 16 != 0 {
            spec = spec.with_alias(u32::from(bytes[7] % 4));
        }
        if features & 96 == 96 {
            spec = spec.with_space(u32::from(bytes[3] % 3));
        }
        if features & 128 != 0 {
            let _ = problem.set_capacity(spec.space, Some(4 * number(3)));
        }
        let _ = problem.push(spec);
    }
    problem
}

fn check(problem: &Problem) {
    let plan = Planner::new().with_effort(20_000).plan(problem);
    if plan.is_feasible() {
        assert_eq!(validate(problem, plan.offsets()), Ok(()));
    }
    for space in plan.spaces() {
        match space.status {
            Status::Optimal => assert_eq!(space.height, space.lower_bound),
            Status::Feasible { gap } => assert!(gap > 0.0 && space.height > space.lower_bound),
            Status::Unknown { bracket: (lower, height) } => assert!(lower <= height),
            Status::Infeasible { .. } => {}
        }
    }
}

/// A file of plans, with its name and checksum put right.
fn load(data: &[u8]) {
    let mut file = b"TNZPLAN1".to_vec();
    file.extend_from_slice(data);
    let sum = file.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    file.extend_from_slice(&sum.to_le_bytes());
    let planned = PlannedAllocator::new(TensorAllocator::new());
    if planned.load(&file[..]).is_ok() {
        let mut again = Vec::new();
        planned.save(&mut again).unwrap();
        // Some steps, which may follow the plan for a while.
        for _ in 0..2 {
            planned.step(|alloc| {
                let buffers: Vec<_> = data.iter().take(20).filter_map(|&size| alloc.alloc_filled(size.into(), size).ok()).collect();
                for buffer in &buffers {
                    assert!(buffer.iter().all(|&byte| usize::from(byte) == buffer.len()));
                }
            });
        }
    }
}
