//! One suite for every backing, and for every allocator as a backing: what the trait promises, and nothing else.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::common::{layout, ops, random_size};
use tenzor_memory::allocator_api2::alloc::Global;
use tenzor_memory::{
    Backing, ComputeArena, Failing, Fault, FromAllocator, Limited, PoolConfig, System, TensorAllocator, Tracking,
};

struct Live {
    block: NonNull<u8>,
    layout: Layout,
    byte: u8,
}

impl Live {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the block is live and was written in full.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr(), self.layout.size()) }
    }
}

fn conforms(backing: impl Backing) {
    // Zero-sized layouts are granted, aligned, and cost nothing.
    for align in [1, 64, 4096] {
        for granted in [backing.obtain(layout(0, align)), backing.obtain_zeroed(layout(0, align))] {
            let block = granted.expect("nothing is always there");
            assert!(block.addr().get().is_multiple_of(align));
            // SAFETY: just granted with this layout.
            unsafe { backing.give_back(block, layout(0, align)) };
        }
    }
    // Blocks of all sizes and alignments live side by side: aligned, zeroed if asked, disjoint, and left alone.
    let mut rng = fastrand::Rng::with_seed(3);
    let mut live: Vec<Live> = Vec::new();
    for _ in 0..ops(3000) {
        if live.len() < 40 && rng.bool() {
            let layout = layout(random_size(&mut rng, 20_000), 1 << rng.u32(0..=12));
            let zeroed = rng.bool();
            let granted = if zeroed { backing.obtain_zeroed(layout) } else { backing.obtain(layout) };
            let new = Live { block: granted.expect("memory"), layout, byte: rng.u8(..) };
            assert!(new.block.addr().get().is_multiple_of(layout.align()));
            if zeroed {
                assert!(new.bytes().iter().all(|&byte| byte == 0));
            }
            // SAFETY: the block has that many bytes.
            unsafe { new.block.write_bytes(new.byte, layout.size()) };
            live.push(new);
        } else if !live.is_empty() {
            let old = live.swap_remove(rng.usize(..live.len()));
            assert!(old.bytes().iter().all(|&byte| byte == old.byte), "somebody else wrote here");
            // SAFETY: granted with this layout, and removed from the list.
            unsafe { backing.give_back(old.block, old.layout) };
        }
    }
    for old in live {
        assert!(old.bytes().iter().all(|&byte| byte == old.byte), "somebody else wrote here");
        // SAFETY: granted with this layout, and removed from the list.
        unsafe { backing.give_back(old.block, old.layout) };
    }
}

#[test]
fn every_backing_conforms() {
    conforms(System);
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    conforms(tenzor_memory::Pages);
    conforms(FromAllocator(Global));
    conforms(Limited::new(System, 1 << 30));
    conforms(Failing::every(System, 0));
    conforms(Box::new(System));
    conforms(Arc::new(System) as Arc<dyn Backing>);
    let ledger = Tracking::new(System);
    conforms(&ledger);
    assert!(ledger.is_empty() && ledger.faults().is_empty());
    let bump = bumpalo::Bump::new();
    conforms(FromAllocator(&bump));
}

#[test]
fn every_allocator_conforms_as_a_backing() {
    let ledger = Tracking::new(System);
    let small = PoolConfig::default().with_max_pool_size(64 << 10).with_max_buffers_per_bucket(2);
    conforms(TensorAllocator::new_in(&ledger));
    conforms(TensorAllocator::with_config_in(small, &ledger));
    conforms(TensorAllocator::with_config_in(small.with_zero_on_free(true), &ledger));
    conforms(&ComputeArena::new_in(&ledger));
    conforms(&ComputeArena::new_in(&ledger).checkpoint());
    // Pool over arena, arena over pool, pool over pool, and everything through the std-style interface.
    let arena = ComputeArena::new_in(&ledger);
    conforms(TensorAllocator::with_config_in(small, &arena));
    let pool = TensorAllocator::with_config_in(small, &ledger);
    conforms(&ComputeArena::new_in(&pool));
    conforms(&ComputeArena::new_in(pool.clone()));
    conforms(TensorAllocator::new_in(pool.clone()));
    conforms(FromAllocator(pool.allocator()));
    conforms(FromAllocator(arena.allocator()));
    conforms(TensorAllocator::new_in(FromAllocator(&arena)));
    assert_eq!(pool.stats().bytes_in_use, 0);
    drop((pool, arena));
    assert!(ledger.is_empty() && ledger.faults().is_empty());
}

#[test]
fn limited_refuses_exactly_what_is_over_its_limit() {
    let backing = Limited::new(System, 1000);
    let first = backing.obtain(layout(600, 1)).expect("within");
    assert!(backing.obtain(layout(401, 1)).is_err());
    assert!(backing.obtain_zeroed(layout(isize::MAX as usize, 1)).is_err());
    let second = backing.obtain_zeroed(layout(400, 1)).expect("exactly");
    assert_eq!(backing.granted(), 1000);
    // SAFETY: granted above with these layouts.
    unsafe {
        backing.give_back(first, layout(600, 1));
        backing.give_back(second, layout(400, 1));
    }
    assert_eq!(backing.granted(), 0);
    let stacked = Limited::new(Failing::from(System, 1), 1000);
    assert!(stacked.obtain(layout(10, 1)).is_err());
    assert_eq!(stacked.granted(), 0, "what the inner backing refused is not counted");
}

#[test]
fn failing_refuses_exactly_the_chosen_requests() {
    let outcome = |backing: Failing<Limited<System>>| -> String {
        let ask = |_| match backing.obtain(layout(8, 8)) {
            Ok(block) => {
                // SAFETY: just granted with this layout.
                unsafe { backing.give_back(block, layout(8, 8)) };
                '.'
            }
            Err(_) => 'x',
        };
        (0..7).map(ask).collect()
    };
    let inner = || Limited::new(System, 100);
    assert_eq!(outcome(Failing::every(inner(), 3)), "..x..x.");
    assert_eq!(outcome(Failing::every(inner(), 1)), "xxxxxxx");
    assert_eq!(outcome(Failing::every(inner(), 0)), ".......");
    assert_eq!(outcome(Failing::once(inner(), 3)), "..x....");
    assert_eq!(outcome(Failing::from(inner(), 3)), "..xxxxx");
}

/// The planted bugs: the ledger is a detector, and each thing it detects makes it speak.
#[test]
fn tracking_notices_every_wrong_return() {
    let ledger = Tracking::new(System);
    let block = ledger.obtain(layout(100, 64)).expect("memory");
    let address = block.addr().get();
    assert_eq!(ledger.blocks(), [(address, layout(100, 64))]);
    // SAFETY: each of these is the bug the ledger is there to catch; it keeps them from the inner backing, which sees one
    // right return only.
    unsafe {
        ledger.give_back(block, layout(101, 64));
        ledger.give_back(block, layout(100, 32));
        ledger.give_back(block.add(1), layout(100, 64));
        ledger.give_back(block, layout(100, 64));
        ledger.give_back(block, layout(100, 64));
    }
    let granted = layout(100, 64);
    assert_eq!(
        ledger.faults(),
        [
            Fault::WrongLayout { address, granted, returned: layout(101, 64) },
            Fault::WrongLayout { address, granted, returned: layout(100, 32) },
            Fault::NotLive { address: address + 1 },
            Fault::NotLive { address },
        ]
    );
    assert_eq!((ledger.live_blocks(), ledger.live_bytes(), ledger.peak_bytes(), ledger.grants()), (0, 0, 100, 1));
    // A leak stays in the ledger until it is mended.
    let leaked = ledger.obtain(layout(5, 1)).expect("memory");
    assert_eq!(ledger.blocks(), [(leaked.addr().get(), layout(5, 1))]);
    // SAFETY: granted above with this layout.
    unsafe { ledger.give_back(leaked, layout(5, 1)) };
    assert_eq!(ledger.live_blocks(), 0);
}
