//! `Vec`s that are kept, under a global allocator that knows with which layout each block was granted, and ends the process where it comes back with another.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use tenzor_memory::recycle::Vecs;
use tenzor_memory::{AllocErrorKind, Budget, PoolConfig, Stats, TensorAllocator};

use common::{bucket, capacity, ops, random_size};

/// The layout of each block stands before it.
struct Exact;

thread_local! {
    /// From which size on this thread is refused.
    static REFUSED_FROM: Cell<usize> = const { Cell::new(usize::MAX) };
    static BLOCKS_LIVE: Cell<isize> = const { Cell::new(0) };
}

impl Exact {
    /// The block around the block, and where in it that begins.
    fn around(layout: Layout) -> Option<(Layout, usize)> {
        Layout::new::<Layout>().extend(layout).ok()
    }
}

// SAFETY: blocks of the system's, from where theirs begin.
unsafe impl GlobalAlloc for Exact {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((whole, start)) = Exact::around(layout).filter(|_| layout.size() < REFUSED_FROM.get()) else {
            return std::ptr::null_mut();
        };
        // SAFETY: the size is that of a `Layout` at least.
        let block = unsafe { System.alloc(whole) };
        if block.is_null() {
            return block;
        }
        BLOCKS_LIVE.set(BLOCKS_LIVE.get() + 1);
        // SAFETY: the block begins with room for a `Layout`, which ends before `start`.
        unsafe {
            block.add(start - size_of::<Layout>()).cast::<Layout>().write_unaligned(layout);
            block.add(start)
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: it stands before each block.
        let granted = unsafe { ptr.sub(size_of::<Layout>()).cast::<Layout>().read_unaligned() };
        let around = Exact::around(layout).filter(|_| granted == layout);
        let Some((whole, start)) = around else { std::process::abort() };
        BLOCKS_LIVE.set(BLOCKS_LIVE.get() - 1);
        // SAFETY: it was granted so. What it held is made unlike what anybody wrote.
        unsafe {
            ptr.write_bytes(0xDD, layout.size());
            System.dealloc(ptr.sub(start), whole);
        }
    }
}

#[global_allocator]
static GLOBAL: Exact = Exact;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; 64]);

/// Aligned to more than a page.
#[derive(Clone, Copy)]
#[repr(align(16384))]
struct Huge(#[allow(dead_code)] [u8; 16384]);

/// A `Vec` of one of several types.
trait Any {
    fn bytes(&self) -> usize;
    fn address(&self) -> usize;
    fn give(self: Box<Self>, vecs: &Vecs);
}

impl<T: 'static> Any for Vec<T> {
    fn bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }

    fn address(&self) -> usize {
        self.as_ptr().addr()
    }

    fn give(self: Box<Self>, vecs: &Vecs) {
        vecs.give(*self);
    }
}

/// What is kept, by the obvious rules: in one list, what came first is first.
struct Model {
    kept: Vec<Block>,
    config: PoolConfig,
    hits: u64,
    misses: u64,
    given: u64,
    released: u64,
    bytes_out: usize,
    bytes_back: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    address: usize,
    bytes: usize,
    align: usize,
}

impl Model {
    fn kept_bytes(&self) -> usize {
        self.kept.iter().map(|block| block.bytes).sum()
    }

    fn give(&mut self, block: Block) {
        if block.bytes == 0 {
            return;
        }
        self.given += 1;
        self.bytes_back += block.bytes;
        let most = self.config.max_pool_size.min(self.config.limit.unwrap_or(usize::MAX));
        if block.bytes > most || self.config.max_buffers_per_bucket == 0 {
            self.released += 1;
            return;
        }
        let same = |kept: &Block| bucket(kept.bytes) == bucket(block.bytes);
        while self.kept.iter().filter(|kept| same(kept)).count() >= self.config.max_buffers_per_bucket {
            let first = self.kept.iter().position(same).unwrap();
            self.kept.remove(first);
            self.released += 1;
        }
        while self.kept_bytes() + block.bytes > most {
            self.kept.remove(0);
            self.released += 1;
        }
        self.kept.push(block);
    }

    /// What serves the request, if something does.
    fn take(&mut self, bytes: usize, size: usize, align: usize) -> Option<Block> {
        let most = 2 * capacity(bytes, self.config.classes_per_bucket);
        let fits = |kept: &&Block| {
            kept.align == align && kept.bytes.is_multiple_of(size) && kept.bytes >= bytes && kept.bytes < most
        };
        let least = self.kept.iter().filter(fits).map(|kept| kept.bytes).min()?;
        let last = self.kept.iter().rposition(|kept| fits(&kept) && kept.bytes == least).unwrap();
        Some(self.kept.remove(last))
    }

    fn trim(&mut self, keep: usize) -> usize {
        let before = self.kept_bytes();
        while self.kept_bytes() > keep {
            self.kept.remove(0);
            self.released += 1;
        }
        before - self.kept_bytes()
    }

    fn check(&self, stats: &Stats) {
        assert_eq!((stats.pool_hits, stats.pool_misses, stats.released), (self.hits, self.misses, self.released));
        assert_eq!((stats.allocations, stats.deallocations), (self.hits + self.misses, self.given));
        assert_eq!((stats.bytes_allocated, stats.bytes_freed), (self.bytes_out, self.bytes_back));
        assert_eq!((stats.pooled_bytes, stats.pooled_buffers), (self.kept_bytes(), self.kept.len()));
        assert_eq!(
            (stats.reserved_bytes, stats.bytes_in_use_rounded, stats.overhead_bytes),
            (stats.pooled_bytes, 0, 0)
        );
        assert!(stats.pooled_bytes <= stats.peak_reserved_bytes);
        assert!(stats.pooled_bytes <= self.config.max_pool_size);
        for row in &stats.buckets {
            let kept = self.kept.iter().filter(|kept| bucket(kept.bytes) == row.bucket);
            let (buffers, bytes) = kept.fold((0, 0), |(buffers, bytes), kept| (buffers + 1, bytes + kept.bytes));
            assert_eq!((row.pooled_buffers, row.pooled_bytes), (buffers, bytes));
            assert!(row.pooled_buffers <= self.config.max_buffers_per_bucket);
        }
        assert_eq!(stats.buckets.iter().map(|row| row.hits).sum::<u64>(), stats.pool_hits);
    }

    /// Takes a `Vec` and looks that it is the one expected.
    fn request<T: 'static>(&mut self, vecs: &Vecs, count: usize) -> Box<dyn Any> {
        let mut vec = vecs.take::<T>(count).expect("memory");
        assert!(vec.is_empty() && vec.capacity() >= count && vec.as_ptr().is_aligned());
        let (bytes, size) = (count * size_of::<T>(), size_of::<T>());
        if bytes > 0 {
            match self.take(bytes, size, align_of::<T>()) {
                Some(block) => {
                    self.hits += 1;
                    assert_eq!((vec.as_ptr().addr(), vec.capacity() * size), (block.address, block.bytes));
                }
                None => {
                    self.misses += 1;
                    let rounded = capacity(bytes, self.config.classes_per_bucket);
                    assert_eq!(vec.capacity(), rounded / size, "{count} of {size} bytes");
                }
            }
            self.bytes_out += vec.capacity() * size;
            // All of it can be written.
            // SAFETY: that many bytes are the vector's.
            unsafe { vec.as_mut_ptr().cast::<u8>().write_bytes(0xAB, vec.capacity() * size) };
        }
        Box::new(vec)
    }
}

macro_rules! one_of {
    ($rng:expr, $call:ident!($($args:tt)*)) => {
        match $rng.u8(..12) {
            0 => $call!(u8, $($args)*),
            1 => $call!(u16, $($args)*),
            2 | 3 => $call!(f32, $($args)*),
            4 => $call!(u32, $($args)*),
            5 => $call!(f64, $($args)*),
            6 => $call!([u8; 3], $($args)*),
            7 => $call!([f32; 3], $($args)*),
            8 => $call!([u64; 5], $($args)*),
            9 => $call!(Line, $($args)*),
            10 => $call!(Huge, $($args)*),
            _ => $call!((), $($args)*),
        }
    };
}

#[test]
fn whatever_is_given_and_taken_the_shelf_is_the_model() {
    let configs = [
        PoolConfig::default(),
        PoolConfig::default().with_max_pool_size(100_000).with_max_buffers_per_bucket(3).with_classes_per_bucket(1),
        PoolConfig::default().with_limit(Some(50_000)).with_max_buffers_per_bucket(usize::MAX).with_zero_on_free(true),
        PoolConfig::default().with_max_buffers_per_bucket(0),
        PoolConfig::default().with_max_pool_size(0),
        PoolConfig::adaptive(),
    ];
    for (seed, config) in configs.into_iter().enumerate() {
        let blocks = BLOCKS_LIVE.get();
        let mut rng = fastrand::Rng::with_seed(seed as u64);
        let vecs = Vecs::with_config(config);
        let config = *vecs.config();
        let mut model =
            Model { kept: vec![], config, hits: 0, misses: 0, given: 0, released: 0, bytes_out: 0, bytes_back: 0 };
        let mut alive: Vec<(Box<dyn Any>, usize)> = vec![];
        for _ in 0..ops(30_000) {
            match rng.u8(..20) {
                0..9 => {
                    let bytes = random_size(&mut rng, 100_000);
                    macro_rules! request {
                        ($type:ty, $model:expr) => {{
                            let count = bytes / size_of::<$type>().max(1);
                            ($model.request::<$type>(&vecs, count), align_of::<$type>())
                        }};
                    }
                    alive.push(one_of!(rng, request!(model)));
                }
                // One that was made elsewhere.
                9 => {
                    let bytes = random_size(&mut rng, 100_000);
                    macro_rules! made {
                        ($type:ty,) => {
                            (
                                Box::new(Vec::<$type>::with_capacity(bytes / size_of::<$type>().max(1)))
                                    as Box<dyn Any>,
                                align_of::<$type>(),
                            )
                        };
                    }
                    alive.push(one_of!(rng, made!()));
                }
                10..19 if !alive.is_empty() => {
                    let (vec, align) = alive.swap_remove(rng.usize(..alive.len()));
                    let block = Block { address: vec.address(), bytes: vec.bytes(), align };
                    vec.give(&vecs);
                    model.give(block);
                }
                19 if rng.u8(..20) == 0 => {
                    let keep = random_size(&mut rng, 100_000);
                    assert_eq!(vecs.trim(keep), model.trim(keep));
                }
                _ => {}
            }
            if rng.u8(..10) == 0 {
                model.check(&vecs.stats());
            }
        }
        model.check(&vecs.stats());
        assert_eq!(config.max_buffers_per_bucket > 0 && config.max_pool_size > 0, model.hits > 0);
        // What is alive stays, what is kept goes back.
        drop(vecs.clone());
        assert_eq!(vecs.stats().pooled_buffers, model.kept.len());
        drop((vecs, alive, model));
        // The list of all shelves may have grown, and remembers this one until the next is made.
        assert!(BLOCKS_LIVE.get() <= blocks + 2);
    }
}

#[test]
fn a_vec_of_one_type_becomes_one_of_another_where_both_have_the_same_layout() {
    let vecs = Vecs::new();
    let given = |bytes: usize| {
        vecs.clear();
        vecs.give(Vec::<f32>::with_capacity(bytes / 4));
    };
    let hits = |taken: usize| {
        let hits = vecs.stats().pool_hits;
        assert!(taken > 0);
        hits
    };
    given(1200);
    assert_eq!(hits(vecs.take::<u32>(300).unwrap().capacity()), 1);
    given(1200);
    assert_eq!(hits(vecs.take::<[f32; 3]>(100).unwrap().capacity()), 2);
    // Other alignments, larger or smaller; no whole number of elements.
    given(1200);
    assert_eq!(hits(vecs.take::<u64>(150).unwrap().capacity()), 2);
    assert_eq!(hits(vecs.take::<u8>(1200).unwrap().capacity()), 2);
    assert_eq!(hits(vecs.take::<[f32; 7]>(40).unwrap().capacity()), 2);
    // Too small, and more than twice as large.
    assert_eq!(hits(vecs.take::<f32>(301).unwrap().capacity()), 2);
    assert_eq!(hits(vecs.take::<f32>(128).unwrap().capacity()), 2);
    assert_eq!(hits(vecs.take::<f32>(160).unwrap().capacity()), 3);
}

#[test]
fn what_has_no_bytes_is_neither_kept_nor_counted() {
    let vecs = Vecs::new();
    vecs.give(Vec::<f32>::new());
    vecs.give(vec![(); 1000]);
    vecs.give(Vec::<[u64; 0]>::with_capacity(10));
    assert_eq!(vecs.take::<()>(usize::MAX).unwrap().capacity(), usize::MAX);
    assert_eq!(vecs.take::<f32>(0).unwrap().capacity(), 0);
    assert_eq!(vecs.take::<[u64; 0]>(7).unwrap().len(), 0);
    assert_eq!(vecs.stats(), Stats::default());
}

/// Says when it is dropped, and panics if it is the one.
struct Dropped<'a>(&'a Cell<usize>, bool);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        assert!(!self.1, "the one");
    }
}

#[test]
fn elements_are_dropped_when_their_vec_is_given() {
    let (vecs, dropped) = (Vecs::new(), Cell::new(0));
    vecs.give((0..10).map(|_| Dropped(&dropped, false)).collect());
    assert_eq!((dropped.replace(0), vecs.stats().pooled_buffers), (10, 1));
    // The elements of what is kept were another's; none is seen again.
    let vec = vecs.take::<Dropped<'_>>(10).unwrap();
    assert_eq!((vec.len(), vecs.stats().pool_hits), (0, 1));
    drop(vec);
    assert_eq!(dropped.get(), 0);
    // One that panics: the others are dropped, the memory goes back, and the shelf goes on.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let blocks = BLOCKS_LIVE.get();
    let given = catch_unwind(AssertUnwindSafe(|| {
        vecs.give((0..10).map(|i| Dropped(&dropped, i == 3)).collect());
    }));
    drop(given.expect_err("the one panics"));
    assert_eq!(BLOCKS_LIVE.get(), blocks);
    std::panic::set_hook(hook);
    assert_eq!((dropped.get(), vecs.stats().pooled_buffers, vecs.stats().deallocations), (10, 0, 1));
    vecs.give(vec![1_u8; 100]);
    assert_eq!(vecs.stats().pooled_bytes, 100);
}

#[test]
fn what_cannot_be_is_refused_and_what_is_kept_gives_way() {
    let vecs = Vecs::new();
    let error = vecs.take::<u64>(usize::MAX).unwrap_err();
    assert_eq!((error.kind(), error.requested()), (AllocErrorKind::NeverFits, usize::MAX));
    let error = vecs.take::<u8>(isize::MAX as usize).unwrap_err();
    assert_eq!(
        (error.kind(), error.requested(), error.alignment()),
        (AllocErrorKind::NeverFits, isize::MAX as usize, 1)
    );
    vecs.give(vec![0_u8; 100]);
    REFUSED_FROM.set(1 << 20);
    let refused = vecs.take::<f32>(1 << 20);
    REFUSED_FROM.set(usize::MAX);
    let error = refused.unwrap_err();
    assert_eq!((error.kind(), error.requested(), error.alignment()), (AllocErrorKind::BackingRefused, 4 << 20, 4));
    let stats = vecs.stats();
    assert_eq!((stats.failures, stats.pooled_buffers, stats.allocations), (3, 0, 0));
    // What is asked exactly may be there where its class is not.
    REFUSED_FROM.set((1 << 20) + 2);
    let exact = vecs.take::<u8>((1 << 20) + 1);
    REFUSED_FROM.set(usize::MAX);
    assert_eq!(exact.unwrap().capacity(), (1 << 20) + 1);
}

/// Whatever is given, taken and requested: no budget is exceeded, what is kept counts in it, and nothing is refused for what is kept.
#[test]
fn law_13_what_is_kept_counts_in_a_budget_and_gives_way_there() {
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut gave_way, mut kept) = (0, 0);
    for _ in 0..ops(200_000) / 2000 {
        let root = Budget::new_in("root", 1 << 20, tenzor_memory::System);
        let tenants = ["first", "second"].map(|name| root.within(name, 800 << 10));
        let config = PoolConfig::default().with_max_pool_size([200 << 10, usize::MAX][rng.usize(..2)]);
        let vecs = tenants.each_ref().map(|tenant| Vecs::with_budget(config, tenant.clone()));
        let pool =
            TensorAllocator::with_config_in(PoolConfig::default().with_classes_per_bucket(64), tenants[0].clone());
        let mut live = Vec::new();
        for _ in 0..2000 {
            let which = rng.usize(..2);
            match rng.u8(..) {
                0..100 => vecs[which].give(vec![1_u8; random_size(&mut rng, 300 << 10)]),
                100..180 => drop(vecs[which].take::<u8>(random_size(&mut rng, 300 << 10)).unwrap()),
                180..220 => {
                    let before = vecs.each_ref().map(|vecs| vecs.stats().pooled_bytes);
                    let bytes = random_size(&mut rng, 300 << 10);
                    let in_use = pool.stats().bytes_in_use_rounded;
                    match pool.alloc_filled(bytes, 1_u8) {
                        Ok(buffer) => live.push(buffer),
                        Err(error) => {
                            assert!(in_use + bytes / 64 * 65 + 64 > 800 << 10, "{error}\n{}", root.usage());
                        }
                    }
                    let after = vecs.each_ref().map(|vecs| vecs.stats().pooled_bytes);
                    gave_way += u32::from(after[0] < before[0]) + 2 * u32::from(after[1] < before[1]);
                }
                220..250 => drop((!live.is_empty()).then(|| live.swap_remove(rng.usize(..live.len())))),
                _ => _ = vecs[which].trim(rng.usize(..100_000)),
            }
            let stats = vecs.each_ref().map(Vecs::stats);
            let (usage, reserved) = (root.usage(), pool.stats().reserved_bytes);
            assert_eq!(usage.within[0].granted, stats[0].pooled_bytes + reserved);
            assert_eq!(usage.within[1].granted, stats[1].pooled_bytes);
            assert_eq!(usage.granted, usage.within[0].granted + usage.within[1].granted);
            assert!(usage.granted <= usage.limit && usage.within.iter().all(|of| of.granted <= of.limit));
            assert!(usage.within[1].kept == usage.within[1].granted);
            kept += stats[0].pooled_bytes + stats[1].pooled_bytes;
        }
        drop(live);
        drop((pool, vecs));
        assert_eq!(root.usage().granted, 0);
    }
    assert!(gave_way > 10 && kept > 0, "{gave_way} {kept}");
}

#[test]
fn zeros_take_the_place_of_what_was_said_to_be_secret() {
    let vecs = Vecs::with_config(PoolConfig::default().with_zero_on_free(true));
    vecs.give(vec![7_u8; 1000]);
    let mut vec = vecs.take::<u8>(1000).unwrap();
    assert_eq!(vecs.stats().pool_hits, 1);
    // SAFETY: `give` wrote each of them.
    unsafe { vec.set_len(1000) };
    assert_eq!(vec, [0; 1000]);
}

#[test]
fn an_adaptive_shelf_has_the_default_caps() {
    let config = *Vecs::with_config(PoolConfig::adaptive()).config();
    assert_eq!(config, PoolConfig::default());
    let own = PoolConfig::adaptive().with_max_pool_size(1000);
    assert_eq!(*Vecs::with_config(own).config(), PoolConfig::default().with_max_pool_size(1000));
}

#[test]
fn eight_threads_give_and_take() {
    let config = PoolConfig::default().with_max_pool_size(1 << 20).with_max_buffers_per_bucket(4);
    let vecs = Vecs::with_config(config);
    let handed_over = Mutex::new(Vec::<Vec<u32>>::new());
    let addresses = Mutex::new(HashSet::new());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..8_u32)
            .map(|id| {
                let (vecs, handed_over, addresses) = (vecs.clone(), &handed_over, &addresses);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(id.into());
                    for _ in 0..ops(200_000) / 8 {
                        let count = random_size(&mut rng, 10_000);
                        let mut vec = vecs.take::<u32>(count).unwrap();
                        assert!(addresses.lock().unwrap().insert(vec.as_ptr().addr()), "nobody else has it");
                        vec.resize(count, id);
                        assert!(vec.iter().all(|&value| value == id));
                        let other = {
                            let mut others = handed_over.lock().unwrap();
                            others.push(vec);
                            let one = rng.usize(..others.len());
                            others.swap_remove(one)
                        };
                        assert!(other.iter().all(|value| *value == other[0]));
                        addresses.lock().unwrap().remove(&other.as_ptr().addr());
                        if rng.u8(..8) == 0 {
                            drop(other)
                        } else {
                            vecs.give(other)
                        }
                        if rng.u16(..) == 0 {
                            vecs.clear();
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let stats = vecs.stats();
                assert!(stats.pooled_bytes <= 1 << 20 && stats.buckets.iter().all(|row| row.pooled_buffers <= 4));
                thread::yield_now();
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Relaxed);
    });
    let stats = vecs.stats();
    assert_eq!(stats.allocations, (ops(200_000) / 8 * 8) as u64);
    assert!(stats.pool_hits > stats.pool_misses, "{stats}");
    assert_eq!(stats.released + stats.pooled_buffers as u64 + stats.pool_hits, stats.deallocations);
}

#[cfg(unix)]
#[test]
fn a_child_finds_every_shelf_whole() {
    let vecs = Vecs::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    vecs.give(vecs.take::<u8>(1000).unwrap());
                }
            });
        }
        for _ in 0..ops(20_000) / 100 {
            // SAFETY: the child uses the shelf, requests memory of malloc, which forks keep whole, and ends.
            match unsafe { libc::fork() } {
                0 => {
                    vecs.give(vecs.take::<u8>(1000).unwrap());
                    let kept = vecs.stats().pooled_buffers;
                    vecs.clear();
                    drop(Vecs::new());
                    // SAFETY: it ends the process at once.
                    unsafe { libc::_exit(if (1..=8).contains(&kept) { 42 } else { 1 }) };
                }
                child => {
                    let mut status = 0;
                    // SAFETY: it is our child, and `status` a place to write to.
                    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42, "{status:x}");
                }
            }
        }
        done.store(true, Relaxed);
    });
    vecs.give(vec![1_u8]);
    assert_eq!(vecs.take::<u8>(1).unwrap().capacity(), 1);
}
