//! Plans that are saved and loaded, damaged and forged ones too.

use fastrand::Rng;

use super::program::{Model, Op, cases, planned, renamed, script};

/// A file of plans for a step with a little of everything, and the step.
fn saved() -> (Vec<u8>, Vec<Op>) {
    let alloc = planned();
    let mut model = Model::new(&alloc);
    let ops = script(&mut Rng::with_seed(7), 12, true);
    for round in 0..3 {
        model.step(&renamed(&ops, round));
    }
    let mut file = Vec::new();
    alloc.save(&mut file).unwrap();
    model.finish();
    (file, ops)
}

/// The checksum of a file, put right.
fn resealed(mut file: Vec<u8>) -> Vec<u8> {
    let end = file.len() - 8;
    let fold = |sum: u64, &byte: &u8| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let sum = file[..end].iter().fold(0xcbf2_9ce4_8422_2325, fold);
    file[end..].copy_from_slice(&sum.to_le_bytes());
    file
}

#[test]
fn saved_plans_start_planned() {
    let (file, ops) = saved();
    let alloc = planned();
    assert_eq!(alloc.load(&file[..]).unwrap(), 1);
    assert_eq!(alloc.load(&file[..]).unwrap(), 0);
    let mut model = Model::new(&alloc);
    model.step(&ops);
    assert_eq!((alloc.stats().followed, alloc.stats().plans), (1, 1));
    model.finish();
    let mut again = Vec::new();
    alloc.save(&mut again).unwrap();
    assert_eq!(again, file);
}

#[test]
fn damaged_files_of_plans_are_refused() {
    let (file, _) = saved();
    for len in 0..file.len() {
        assert!(planned().load(&file[..len]).is_err());
    }
    let longer = [&file[..], &[0]].concat();
    assert!(planned().load(&longer[..]).is_err());
    for place in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[place] ^= 1 << bit;
            assert!(planned().load(&damaged[..]).is_err(), "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn saved_plans_place_what_is_freed_in_the_step_and_nothing_else() {
    let (file, _) = saved();
    let offsets = file.len() - 8 - 12 * 8..file.len() - 8;
    let (mut kept, mut freed) = (0, 0);
    for place in offsets.step_by(8) {
        let mut forged = file.clone();
        let offset = &mut forged[place..place + 8];
        if *offset == [255; 8] {
            // Far above the others.
            offset.copy_from_slice(&(1_u64 << 20).to_le_bytes());
            kept += 1;
        } else {
            offset.fill(255);
            freed += 1;
        }
        assert!(planned().load(&resealed(forged)[..]).is_err(), "the offset at byte {place}");
    }
    assert_eq!((kept, freed), (1, 11));
}

#[test]
fn forged_files_of_plans_never_make_buffers_overlap() {
    let (file, ops) = saved();
    let mut rng = Rng::with_seed(8);
    let mut accepted = 0;
    for case in 0..cases(20_000) {
        let mut forged = file.clone();
        for _ in 0..1 + case % 3 {
            // Among others, offsets that are those of another buffer.
            let place = 12 + rng.usize(..forged.len() - 20);
            match rng.u8(..3) {
                0 => forged[place] = rng.u8(..),
                1 => forged[place] = forged[12 + rng.usize(..file.len() - 20)],
                _ => {
                    let end = file.len() - 8;
                    let (to, from) = (end - 8 * rng.usize(1..13), end - 8 * rng.usize(1..13));
                    forged.copy_within(from..from + 8, to);
                }
            }
        }
        let alloc = planned();
        if alloc.load(&resealed(forged)[..]).is_ok() {
            accepted += 1;
            let mut model = Model::new(&alloc);
            for round in 0..3 {
                model.step(&renamed(&ops, round));
            }
            model.finish();
        }
    }
    assert!(accepted > 0);
}
