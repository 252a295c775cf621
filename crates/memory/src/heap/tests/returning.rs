//! What goes back to the system, what stays mapped, and how many mappings that takes.
#![allow(unsafe_code)]

use std::collections::VecDeque;

use super::*;
use crate::os::HUGE;

#[test]
fn what_is_free_and_was_touched_by_others_is_trimmed() {
    let mut heap = Heap::new(Faulty::default());
    let layout = Layout::from_size_align(200 << 10, 64).unwrap();
    let blocks: Vec<_> = (0..100).map(|_| filled(&mut heap, layout)).collect();
    // In each unit is one that stays.
    let (kept, free): (Vec<_>, Vec<_>) = blocks.iter().enumerate().partition(|(number, _)| number % 8 == 0);
    free.iter().for_each(|&(_, &block)| heap.give_back(block, layout));
    heap.trim_all();
    for (_, block) in &free {
        // As `mlockall` does.
        // SAFETY: mapped by the heap, and free.
        unsafe { block.write(1) };
    }
    heap.trim_all();
    assert!(free.iter().all(|&(_, &block)| Linux.resident(block, PAGE) == Some(0)));
    heap.check();
    kept.iter().for_each(|&(_, &block)| heap.give_back(block, layout));
    heap.trim_all();
    heap.pages.space().release();
}

#[test]
fn what_was_trimmed_in_parts_gives_its_addresses_back_when_it_has_joined() {
    let whole = (0..8).any(|_| {
        let os = Faulty::default();
        let mut heap = Heap::new(os.clone());
        let layout = Layout::from_size_align(500 << 10, 64).unwrap();
        let blocks: Vec<_> = (0..400).map(|_| filled(&mut heap, layout)).collect();
        let mapped = os.0.mapped.get();
        assert!(mapped > 180 << 20);
        for rest in 0..2 {
            blocks.iter().skip(rest).step_by(2).for_each(|&block| heap.give_back(block, layout));
            heap.trim_all();
            heap.check();
        }
        let left = os.0.mapped.get();
        heap.pages.space().release();
        // Beside what others have, some units stay.
        assert!(os.0.met.get() || left < 6 << 20, "{left} of {mapped} bytes are mapped");
        !os.0.met.get()
    });
    assert!(whole, "others were everywhere");
}

#[test]
fn law_16_what_time_gives_back_is_unmapped_in_pieces() {
    let os = Faulty::default();
    let mut heap = Heap::new(os.clone());
    let layout = Layout::from_size_align(200 << 20, 64).unwrap();
    let kept = heap.obtain(Layout::from_size_align(1 << 20, 64).unwrap()).unwrap();
    let block = filled(&mut heap, layout);
    let mapped = os.0.mapped.get();
    heap.give_back(block, layout);
    (0..10).for_each(|_| heap.tick());
    while heap.pursue(heap.decay()).1 {}
    heap.check();
    assert_eq!(os.0.unmapped_inside.get(), 0, "unmapped while the lock was held");
    assert!(os.0.mapped.get() <= mapped - (150 << 20), "{} bytes are mapped still", os.0.mapped.get());
    // And it is there again, zero, where it is asked for.
    let Granted { start, dirty } = heap.obtain(layout).unwrap();
    // SAFETY: just granted.
    let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), layout.size()) };
    assert!(bytes[dirty.end..].iter().step_by(997).all(|&byte| byte == 0));
    heap.give_back(start, layout);
    heap.give_back(kept.start, Layout::from_size_align(1 << 20, 64).unwrap());
    heap.pages.space().release();
}

#[test]
fn law_15_no_more_mappings_are_taken_than_a_share() {
    let os = Faulty::default();
    os.0.mappings.set(400);
    let mut heap = Heap::new(os.clone());
    let mut random = fastrand::Rng::with_seed(1);
    let mut live = VecDeque::new();
    for operation in 0..3000 {
        let layout = Layout::from_size_align(random.usize(1 << 20..=1 << 25), 64).unwrap();
        if live.len() == 24 {
            let (block, layout) = live.remove(random.usize(0..live.len())).unwrap();
            heap.give_back(block, layout);
        }
        live.push_back((heap.obtain(layout).unwrap().start, layout));
        if operation % 500 == 499 {
            live.drain(..12).for_each(|(block, layout)| heap.give_back(block, layout));
            heap.trim_all();
        }
        assert!(heap.pages.space().mappings() <= 100, "{} mappings", heap.pages.space().mappings());
    }
    assert!(os.0.moved.get() > 20, "nothing was moved");
    heap.check();
    live.drain(..).for_each(|(block, layout)| heap.give_back(block, layout));
    heap.pages.space().release();
}

#[test]
fn a_place_that_the_system_chose_and_took_back_may_be_chosen_again() {
    let os = Faulty::default();
    os.0.closed.set(true);
    let mut heap = Heap::new(os);
    let layout = Layout::from_size_align(1 << 20, 64).unwrap();
    for round in 0..4 {
        let blocks: Vec<_> = (0..100 + 30 * round).map(|_| filled(&mut heap, layout)).collect();
        heap.check();
        for rest in [round % 2, 1 - round % 2] {
            blocks.iter().skip(rest).step_by(2).for_each(|&block| heap.give_back(block, layout));
            heap.trim_all();
            heap.check();
        }
        assert!(heap.pages.space().mappings() < 40, "its addresses went back");
    }
    heap.pages.space().release();
}

#[test]
fn law_12_what_an_errand_lost_is_not_used_before_it_is_back() {
    let os = Faulty::new(0, Manner::Vanish, 0);
    os.0.closed.set(true);
    let mut heap = Heap::new(os.clone());
    let [unit, small] = [HUGE, HUGE / 2].map(|bytes| Layout::from_size_align(bytes, PAGE).unwrap());
    let blocks: Vec<_> = (0..16).map(|_| filled(&mut heap, small)).collect();
    blocks.iter().for_each(|&block| heap.give_back(block, small));
    let mut goal = heap.trim();
    let mut returns = Vec::new();
    while let Some(errand) = heap.errand(&mut goal) {
        os.0.every.set(1);
        let with = os.make(errand);
        os.0.every.set(0);
        returns.push(with);
    }
    assert!(!returns.is_empty());
    // The system has few addresses left: what it gives now is what was lost just now.
    let mut live = Vec::new();
    for _ in 0..40 {
        os.0.most.set(os.0.mapped.get() + 2 * HUGE);
        live.extend(heap.obtain(unit).map(|granted| granted.start));
    }
    for with in returns {
        heap.returned(&mut goal, with);
    }
    heap.check();
    live.into_iter().for_each(|block| heap.give_back(block, unit));
    heap.check();
    heap.trim_all();
    heap.pages.space().release();
}

#[test]
fn no_addresses_are_kept_for_which_there_are_no_tables() {
    let os = Faulty::default();
    os.0.closed.set(true);
    let mut heap = Heap::new(os.clone());
    let layout = Layout::from_size_align(1 << 20, PAGE).unwrap();
    let mut live = vec![filled(&mut heap, layout)];
    // Now and then tables can be had no more, just as addresses were.
    for every in (2..8).cycle().take(600) {
        os.0.every.set(every);
        live.extend(heap.obtain(layout).map(|granted| granted.start));
        os.0.every.set(0);
    }
    let (mapped, used) = (os.0.mapped.get(), live.len() << 20);
    assert!(mapped < 4 * used + (64 << 20), "{} MiB are mapped for {} MiB", mapped >> 20, used >> 20);
    live.into_iter().for_each(|block| heap.give_back(block, layout));
    heap.check();
    heap.trim_all();
    heap.pages.space().release();
}

#[test]
fn what_is_beside_a_unit_that_is_mapped_alone_joins_it() {
    // The process's other threads map memory as well, and may have taken the place.
    assert!((0..8).any(|_| two_units_join()), "two units more are mapped, and used");
}

/// Whether all that may be mapped is used, where two units come one after the other.
fn two_units_join() -> bool {
    let os = Faulty::default();
    let mut heap = Heap::new(os.clone());
    // Where all that is mapped is locked, no more is mapped than is needed. Tables come in pieces for 64 units; this is the last one of a piece.
    os.0.locked.set(true);
    let [before, small] = [62 * HUGE, HUGE / 8].map(|bytes| Layout::from_size_align(bytes, PAGE).unwrap());
    let first = heap.obtain(before).unwrap().start;
    // What is mapped, but for tables.
    let blocks_bytes = || os.0.mapped.get() - os.0.left.borrow().iter().map(|(_, bytes)| bytes).sum::<usize>();
    let begun = blocks_bytes();
    // And a piece of tables, which may be needed.
    os.0.most.set(os.0.mapped.get() + 2 * HUGE + HUGE / 4);
    let blocks: Vec<_> = std::iter::from_fn(|| heap.obtain(small)).map(|granted| granted.start).collect();
    let more = blocks_bytes() - begun;
    for &block in blocks.iter().rev() {
        heap.give_back(block, small);
        heap.check();
    }
    heap.give_back(first, before);
    heap.check();
    heap.trim_all();
    heap.pages.space().release();
    more >= 2 * HUGE && blocks.len() > 8
}

#[test]
fn what_is_mapped_serves_to_its_last_page() {
    // Where a heap of another test was in the way, another one is made.
    assert!((0..8).any(|_| serves_to_its_last_page()));
}

/// Returns whether nobody was in the way.
fn serves_to_its_last_page() -> bool {
    let os = Faulty::default();
    let mut heap = Heap::new(os.clone());
    // A unit on the small side, and three units on the other.
    let begun = [1, 1 << 20].map(|size| {
        let layout = Layout::from_size_align(size, 1).unwrap();
        let block = heap.obtain(layout).unwrap().start;
        heap.give_back(block, layout);
        let unit = heap.pages.space().page(block).unwrap() / UNIT;
        heap.pages.space().mapped(unit) as usize * PAGE
    });
    if os.0.met.get() {
        heap.trim_all();
        heap.pages.space().release();
        return false;
    }
    assert!(begun.iter().all(|&bytes| bytes < HUGE), "{begun:?}");
    os.0.most.set(os.0.mapped.get() + 4 * HUGE - begun[0] - begun[1]);
    for _ in 0..2 {
        let live: Vec<Live> = [6, 2]
            .map(|mib| Layout::from_size_align(mib << 20, 4096).unwrap())
            .map(|layout| Live { block: heap.obtain(layout).unwrap().start, layout, stamp: layout.size() as u64 })
            .into();
        assert!(heap.obtain(Layout::from_size_align(1, 1).unwrap()).is_none());
        heap.check();
        live.iter().for_each(write);
        for gone in live {
            verify(&gone, gone.layout.size());
            heap.give_back(gone.block, gone.layout);
            heap.check();
        }
        heap.trim_all();
    }
    heap.pages.space().release();
    true
}
