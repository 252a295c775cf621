//! What comes onto huge pages, and when.
#![allow(unsafe_code)]

use super::*;

#[test]
fn what_grew_by_small_pages_comes_onto_huge_ones_once() {
    for forked in [false, true] {
        let mut heap = Heap::new(Faulty::default());
        heap.set_policy(HugePages::Always);
        let layout = Layout::from_size_align(32 << 10, 64).unwrap();
        // Five units and a half on the small side.
        let blocks: Vec<_> = (0..11 << 5).map(|_| filled(&mut heap, layout)).collect();
        assert_eq!(heap.pages.whole(), 0, "there is no budget for the rest of a huge page");
        if forked {
            heap.keep_shared();
        }
        heap.tick();
        while heap.promote() {}
        // Where the system cannot do it, it was asked.
        let asked = heap.pages.space().os().0.collapsed.get();
        assert_eq!(asked, if forked { 0 } else { 5 });
        assert!([0, asked].contains(&heap.pages.whole()));
        while heap.promote() {}
        assert_eq!(heap.pages.space().os().0.collapsed.get(), asked, "asked again");
        heap.check();
        for block in blocks {
            heap.give_back(block, layout);
        }
        heap.pages.space().release();
    }
}

#[test]
fn units_are_promoted_whenever_they_fill() {
    let mut heap = Heap::new(Faulty::default());
    heap.set_policy(HugePages::Always);
    let layout = Layout::from_size_align(128 << 10, 64).unwrap();
    let mut promoted = 0;
    for _ in 0..4 {
        // A unit at a time, and a block of the next.
        for _ in 0..17 {
            filled(&mut heap, layout);
        }
        while heap.promote() {}
        let before = std::mem::replace(&mut promoted, heap.pages.space().os().0.collapsed.get());
        assert!(promoted > before, "nothing was promoted");
        // What is huge, or refused to be, is left alone.
        while heap.promote() {}
        assert_eq!(heap.pages.space().os().0.collapsed.get(), promoted);
    }
    heap.pages.space().release();
}

#[test]
fn what_fills_the_larger_part_of_a_unit_has_it_on_a_huge_page_at_once() {
    let mut heap = Heap::new(Faulty::default());
    heap.set_policy(HugePages::Always);
    let layout = Layout::from_size_align(4 << 20, 64).unwrap();
    // Each takes two units and a page.
    heap.obtain(layout).unwrap();
    assert_eq!(heap.pages.space().os().0.collapsed.get(), 0);
    heap.obtain(layout).unwrap();
    assert_eq!(heap.pages.space().os().0.collapsed.get(), 1);
    heap.check();
    heap.pages.space().release();
}

#[test]
fn sparse_blocks_get_no_huge_pages_and_dense_ones_do() {
    let layout = Layout::from_size_align(4 << 20, 64).unwrap();
    for dense in [false, true] {
        let mut heap = Heap::new(Linux);
        let blocks: Vec<_> = (0..16)
            .map(|_| {
                let block = heap.obtain(layout).unwrap().start;
                // SAFETY: just granted.
                unsafe { block.write_bytes(1, if dense { layout.size() } else { 100 }) };
                block
            })
            .collect();
        let whole = heap.pages.whole();
        assert_eq!(whole > 10, dense, "{whole} units are whole");
        heap.tick();
        while heap.promote() {}
        if !dense {
            assert_eq!(heap.pages.whole(), 0);
        }
        blocks.into_iter().for_each(|block| heap.give_back(block, layout));
        heap.pages.space().release();
    }
}

#[test]
fn law_12_a_unit_of_which_a_part_was_lost_is_no_huge_page_any_more_and_no_target() {
    for policy in [HugePages::Always, HugePages::Never] {
        let os = Faulty::new(0, Manner::Lose, 0);
        let mut heap = Heap::new(os.clone());
        heap.set_policy(policy);
        let layout = Layout::from_size_align(300 << 10, 64).unwrap();
        let mut blocks: Vec<_> = (0..200).map(|_| filled(&mut heap, layout)).collect();
        for (number, &block) in blocks.iter().enumerate() {
            if number % 2 == 0 {
                heap.give_back(block, layout);
            }
        }
        os.0.every.set(5);
        heap.trim_all();
        os.0.every.set(0);
        heap.check();
        assert!(os.0.others.borrow().len() > 5, "parts were lost");
        for (number, &block) in blocks.iter().enumerate() {
            if number % 2 != 0 {
                heap.give_back(block, layout);
            }
        }
        heap.trim_all();
        heap.check();
        // Now the rest is used again, also where memory has to come from elsewhere.
        for megabytes in [0, 40, 80] {
            let spare = Layout::from_size_align((megabytes << 20) + (100 << 10), 64).unwrap();
            let spare_block = filled(&mut heap, spare);
            heap.give_back(spare_block, spare);
            blocks = (0..150).map(|_| filled(&mut heap, layout)).collect();
            heap.check();
            os.check_others();
            blocks.iter().for_each(|&block| heap.give_back(block, layout));
        }
        heap.trim_all();
        heap.check();
        heap.pages.space().release();
        os.release_others();
    }
}
