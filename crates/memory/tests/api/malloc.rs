//! Blocks by their address alone.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use tenzor_memory::malloc;

use crate::common::ops;

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

struct Live {
    block: NonNull<u8>,
    layout: Layout,
    stamp: u8,
}

// SAFETY: a block is whoever's has it.
unsafe impl Send for Live {}

impl Live {
    fn new(layout: Layout, stamp: u8) -> Self {
        let zeroed = stamp.is_multiple_of(3);
        let block = if zeroed { malloc::alloc_zeroed(layout) } else { malloc::alloc(layout) }.unwrap();
        assert!(block.addr().get().is_multiple_of(layout.align()));
        // SAFETY: the block was just granted.
        let bytes = unsafe { std::slice::from_raw_parts_mut(block.as_ptr(), layout.size()) };
        assert!(!zeroed || bytes.iter().all(|&byte| byte == 0));
        bytes.fill(stamp);
        let live = Self { block, layout, stamp };
        live.look();
        live
    }

    fn look(&self) {
        let size = malloc::size(self.block).unwrap();
        assert!(size >= self.layout.size());
        assert!(size == self.layout.size() || size <= 64 << 10, "{size} bytes for {:?}", self.layout);
        assert_eq!(Some(size), malloc::would_be(self.layout));
        // SAFETY: the block is live.
        let bytes = unsafe { std::slice::from_raw_parts(self.block.as_ptr(), self.layout.size()) };
        assert!(bytes.iter().all(|&byte| byte == self.stamp));
    }

    fn resize(&mut self, size: usize) {
        let new = layout(size, 16);
        // SAFETY: the block is this one's.
        self.block = unsafe { malloc::realloc(self.block, new) }.unwrap().unwrap();
        // SAFETY: so many bytes are there; those beyond the old size are set.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.block.as_ptr(), size) };
        assert!(bytes.iter().take(self.layout.size()).all(|&byte| byte == self.stamp));
        bytes.fill(self.stamp);
        self.layout = new;
    }

    fn free(self) {
        self.look();
        // SAFETY: it is this one's, and used no more.
        unsafe { malloc::free(self.block) }.unwrap();
    }
}

fn any(random: &mut fastrand::Rng) -> Layout {
    let power = random.u32(0..22);
    let size = random.usize(0..1 << power);
    layout(size, if random.u8(0..8) == 0 { 1 << random.u32(0..17) } else { 16 })
}

/// Threads request, resize, and free what is theirs and others'.
#[test]
fn law_1_blocks_by_address_alone() {
    let rounds = ops(1_000_000) / 50;
    let (send, receive) = mpsc::channel::<Live>();
    thread::scope(|scope| {
        for seed in 0..4 {
            let send = send.clone();
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut live: Vec<Live> = Vec::new();
                for _ in 0..rounds {
                    match random.u8(0..10) {
                        0..5 => live.push(Live::new(any(&mut random), random.u8(..))),
                        5..7 if !live.is_empty() => {
                            let at = random.usize(..live.len());
                            live[at].resize(1 + any(&mut random).size());
                        }
                        7 if !live.is_empty() => send.send(live.swap_remove(random.usize(..live.len()))).unwrap(),
                        _ if live.len() > 50 => live.swap_remove(random.usize(..live.len())).free(),
                        _ => {}
                    }
                }
                live.into_iter().for_each(Live::free);
            });
        }
        drop(send);
        receive.iter().for_each(Live::free);
    });
}

#[test]
fn an_address_within_a_block_is_none() {
    for size in [16, 100, 1000, 6000, 8192, 20_000, 65_536, 100_000, 1 << 20, 5 << 20] {
        let live = Live::new(layout(size, 16), 1);
        for off in [1, 8, 24, 4096, size / 2 + 1, size - 1].into_iter().filter(|&off| off < size) {
            let inside = live.block.map_addr(|addr| addr.saturating_add(off));
            let is_block = off.is_multiple_of(malloc::would_be(live.layout).unwrap());
            let stray = malloc::size(inside).unwrap_err();
            assert!(!is_block && stray.is_ours(), "{off} bytes into {size}: {stray}");
            // SAFETY: nothing happens.
            assert_eq!(unsafe { malloc::free(inside) }, Err(stray));
        }
        live.free();
    }
}

#[test]
fn what_is_not_the_heaps_is_stray() {
    static STATIC: u64 = 0;
    let local = 0_u64;
    let other = Box::new(0_u64);
    for address in [NonNull::from(&STATIC).cast(), NonNull::from(&local).cast(), NonNull::from(&*other).cast()] {
        let stray = malloc::size(address).unwrap_err();
        assert!(!stray.is_ours());
    }
    assert!(!malloc::size(NonNull::dangling()).unwrap_err().is_ours());
}

#[test]
fn a_run_is_not_freed_twice() {
    let Live { block, .. } = Live::new(layout(100_000, 16), 1);
    // SAFETY: it is ours; the second time, nothing happens.
    unsafe {
        assert!(malloc::free(block).is_ok());
        let stray = malloc::free(block).unwrap_err();
        assert!(stray.is_ours(), "{stray}");
    }
}

#[test]
fn no_size_has_an_address_of_its_own() {
    let all: Vec<_> = (0..100).map(|_| malloc::alloc(layout(0, 16)).unwrap()).collect();
    let different: std::collections::BTreeSet<_> = all.iter().map(|block| block.addr()).collect();
    assert_eq!(different.len(), all.len());
    // SAFETY: they are ours.
    all.into_iter().for_each(|block| unsafe { malloc::free(block) }.unwrap());
    assert_eq!(malloc::would_be(layout(usize::MAX / 2, 1)), None);
}
