//! Forks of a process whose other threads are inside pools: the child finds each pool whole, with numbers that add up, and loses
//! only what those threads had in their hands.
#![allow(unsafe_code, missing_docs, clippy::expect_used, clippy::panic)]

mod common;
#[path = "global/process.rs"]
#[allow(dead_code)]
mod process;

use std::alloc::Layout;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};
use std::thread;

use common::ops;
use process::alone;
use tenzor_memory::{
    Backing, BufferPool, ComputeArena, Limited, PoolConfig, Refused, Stats, System, TensorAllocator, Tracking,
};

const THREADS: usize = 8;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 64).expect("a valid layout")
}

/// A buffer that is freed in another thread.
struct Travelling(NonNull<u8>);

// SAFETY: whoever has it is the only one to know of its memory.
unsafe impl Send for Travelling {}

impl Travelling {
    fn get<B: Backing>(pool: &BufferPool<B>, size: usize) -> Self {
        Self(pool.get(layout(size)).expect("memory"))
    }

    fn put<B: Backing>(self, pool: &BufferPool<B>, size: usize) {
        // SAFETY: got with this layout.
        unsafe { pool.put(self.0, layout(size)) };
    }
}

/// A buffer, and back again.
fn pair<B: Backing>(pool: &BufferPool<B>, size: usize) {
    Travelling::get(pool, size).put(pool, size);
}

/// Runs `body` in a forked child, which has to end well, and soon.
fn in_fork(body: impl FnOnce()) {
    let end = wait(fork(body));
    assert_eq!(end, 0, "the child's end");
}

fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child does what `body` does, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: plain calls; what belongs to the parent is left alone.
        unsafe {
            libc::alarm(20);
            let fine = catch_unwind(AssertUnwindSafe(body)).is_ok();
            libc::_exit(i32::from(!fine));
        }
    }
    assert!(child > 0, "no fork");
    child
}

fn wait(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: it is our child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

/// The numbers add up.
fn check(stats: &Stats) {
    assert!(stats.bytes_in_use <= stats.bytes_in_use_rounded, "{stats}");
    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes, stats.reserved_bytes, "{stats}");
    assert_eq!(stats.bytes_allocated.wrapping_sub(stats.bytes_freed), stats.bytes_in_use, "{stats}");
    let rows = |number: fn(&tenzor_memory::BucketStats) -> u64| stats.buckets.iter().map(number).sum::<u64>();
    assert_eq!(rows(|row| row.buffers_in_use), stats.allocations - stats.deallocations, "{stats}");
    assert_eq!(rows(|row| row.pooled_bytes as u64), stats.pooled_bytes as u64, "{stats}");
    assert_eq!(rows(|row| row.pooled_buffers as u64), stats.pooled_buffers as u64, "{stats}");
    assert!(stats.buckets.iter().all(|row| row.buffers_in_use < 1 << 40 && row.hits < 1 << 40), "{stats}");
    for row in &stats.buckets {
        assert_eq!(row.misses - row.released, row.buffers_in_use + row.pooled_buffers as u64, "{stats}");
    }
}

/// As [`check`], where nothing is on its way.
fn check_at_rest(stats: &Stats) {
    check(stats);
    assert_eq!(stats.overhead_bytes, 0, "{stats}");
}

/// A backing that holds requests and returns of one size up, until it is told to go on.
struct Gate {
    size: usize,
    holds: AtomicBool,
    there: AtomicUsize,
}

impl Gate {
    fn new(size: usize) -> Self {
        Self { size, holds: AtomicBool::new(false), there: AtomicUsize::new(0) }
    }

    fn pass(&self, layout: Layout) {
        if layout.size() == self.size && self.holds.load(SeqCst) {
            self.there.fetch_add(1, SeqCst);
            while self.holds.load(SeqCst) {
                thread::yield_now();
            }
        }
    }

    fn wait_for(&self, there: usize) {
        while self.there.load(SeqCst) < there {
            thread::yield_now();
        }
    }
}

// SAFETY: what is granted is granted by `System`.
unsafe impl Backing for Gate {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.pass(layout);
        System.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        self.pass(layout);
        // SAFETY: the caller's word, passed on.
        unsafe { System.give_back(block, layout) };
    }
}

fn gated() -> BufferPool<Gate> {
    BufferPool::with_config_in(PoolConfig::default().with_limit(Some(1 << 20)), Gate::new(512 << 10))
}

/// What comes of `then` while `first` is at the gate in another thread.
fn while_at_the_gate(pool: &BufferPool<Gate>, first: impl FnOnce() + Send, then: impl FnOnce()) {
    let gate = pool.backing();
    gate.holds.store(true, SeqCst);
    thread::scope(|scope| {
        scope.spawn(first);
        gate.wait_for(1);
        let result = catch_unwind(AssertUnwindSafe(then));
        gate.holds.store(false, SeqCst);
        result.unwrap_or_else(|panic| resume_unwind(panic));
    });
    check_at_rest(&pool.stats());
}

#[test]
fn what_another_thread_asks_the_backing_for_does_not_stand_in_the_childs_way() {
    let pool = gated();
    while_at_the_gate(
        &pool,
        || pair(&pool, 512 << 10),
        || {
            assert_eq!(pool.stats().overhead_bytes, 512 << 10);
            in_fork(|| {
                check_at_rest(&pool.stats());
                assert_eq!(pool.stats().reserved_bytes, 0);
                pair(&pool, 1 << 20);
                assert_eq!(pool.trim(0), 1 << 20);
                check_at_rest(&pool.stats());
            });
        },
    );
}

#[test]
fn what_another_thread_gives_back_is_gone_in_the_child() {
    let pool = gated();
    pair(&pool, 512 << 10);
    pair(&pool, 128 << 10);
    while_at_the_gate(
        &pool,
        || _ = pool.trim(0),
        || {
            in_fork(|| {
                check_at_rest(&pool.stats());
                pair(&pool, 1 << 20);
                check_at_rest(&pool.stats());
            });
        },
    );
}

/// A full pool of 32 buffers of 1 KiB, of which a larger one, which is in use, pushes out one after the other.
fn full<B: Backing>(backing: B) -> (BufferPool<B>, Travelling) {
    let config = PoolConfig::default().with_limit(Some(64 << 10)).with_max_pool_size(32 << 10);
    let pool = BufferPool::with_config_in(config.with_max_buffers_per_bucket(100), backing);
    let large = Travelling::get(&pool, 32 << 10);
    let small: Vec<_> = (0..32).map(|_| Travelling::get(&pool, 1 << 10)).collect();
    small.into_iter().for_each(|one| one.put(&pool, 1 << 10));
    (pool, large)
}

#[test]
fn what_waits_for_room_in_another_thread_is_gone_in_the_child() {
    let (pool, large) = full(Gate::new(1 << 10));
    while_at_the_gate(
        &pool,
        || large.put(&pool, 32 << 10),
        || {
            let stats = pool.stats();
            assert_eq!((stats.overhead_bytes, stats.pooled_bytes), (48 << 10, 16 << 10));
            check(&stats);
            in_fork(|| {
                check_at_rest(&pool.stats());
                assert_eq!(pool.stats().reserved_bytes, 16 << 10);
                pool.backing().holds.store(false, SeqCst);
                pair(&pool, 64 << 10);
                check_at_rest(&pool.stats());
            });
        },
    );
}

#[test]
fn the_child_has_what_lies_with_other_threads() {
    let pool = BufferPool::with_config(PoolConfig::adaptive());
    let (did, stay) = (AtomicBool::new(false), AtomicBool::new(true));
    thread::scope(|scope| {
        scope.spawn(|| {
            let all: Vec<_> = (0..4).map(|_| Travelling::get(&pool, 1000)).collect();
            all.into_iter().for_each(|one| one.put(&pool, 1000));
            // A hit that only the stock knows, freed elsewhere.
            let one = Travelling::get(&pool, 1000);
            thread::scope(|scope| {
                scope.spawn(|| one.put(&pool, 1000));
            });
            did.store(true, SeqCst);
            while stay.load(SeqCst) {
                thread::yield_now();
            }
        });
        while !did.load(SeqCst) {
            thread::yield_now();
        }
        in_fork(|| {
            let stats = pool.stats();
            check_at_rest(&stats);
            assert_eq!((stats.pooled_buffers, stats.bytes_in_use, stats.allocations), (4, 0, 5), "{stats}");
            let misses = stats.pool_misses;
            let all: Vec<_> = (0..4).map(|_| Travelling::get(&pool, 1000)).collect();
            assert_eq!(pool.stats().pool_misses, misses);
            all.into_iter().for_each(|one| one.put(&pool, 1000));
            assert_eq!(pool.trim(0), 4096);
            check_at_rest(&pool.stats());
        });
        stay.store(false, SeqCst);
    });
}

/// Pools of several kinds, one over another.
struct Pools {
    plain: BufferPool,
    limited: TensorAllocator<Limited<System>>,
    tight: BufferPool,
    adaptive: TensorAllocator,
    over: BufferPool<TensorAllocator>,
}

const LIMIT: usize = 4 << 20;

impl Pools {
    fn new() -> Self {
        let adaptive = TensorAllocator::with_config(PoolConfig::adaptive());
        let tight = PoolConfig::default().with_max_pool_size(256 << 10).with_max_buffers_per_bucket(5);
        Self {
            plain: BufferPool::new(),
            limited: TensorAllocator::with_config_in(
                PoolConfig::default().with_limit(Some(LIMIT)),
                Limited::new(System, 2 * LIMIT),
            ),
            tight: BufferPool::with_config(tight),
            over: BufferPool::with_config_in(tight, adaptive.clone()),
            adaptive,
        }
    }

    fn stats(&self) -> [Stats; 5] {
        [self.plain.stats(), self.limited.stats(), self.tight.stats(), self.adaptive.stats(), self.over.stats()]
    }

    /// Some requests and frees that succeed whatever else is going on, unless the limit refuses.
    fn use_all(&self, random: &mut fastrand::Rng) {
        let size = 1_usize << random.u32(6..17);
        pair(&self.plain, size);
        pair(&self.tight, 2 * size);
        pair(&self.over, size + 8);
        // Eight threads have a part each, and a part is left.
        let one = self.limited.alloc::<u8>(random.usize(1..200_000)).map(|buffer| buffer.init_with(|_| 7));
        drop(self.adaptive.alloc::<u8>(size).expect("memory"));
        drop(one);
    }

    fn keep_busy<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>, stop: &'scope AtomicBool) {
        for id in 0..THREADS {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(id as u64);
                let mut held = VecDeque::new();
                while !stop.load(Relaxed) {
                    self.use_all(&mut random);
                    held.push_back(Travelling::get(&self.plain, 640));
                    if held.len() > 5 {
                        held.pop_front().into_iter().for_each(|one| one.put(&self.plain, 640));
                    }
                    if random.u8(..) == 0 {
                        self.stats().iter().for_each(check);
                        self.tight.trim(1000);
                    }
                }
                held.into_iter().for_each(|one| one.put(&self.plain, 640));
            });
        }
    }

    /// What a child finds.
    fn are_whole(&self, random: &mut fastrand::Rng) {
        self.stats().iter().for_each(check_at_rest);
        (0..20).for_each(|_| self.use_all(random));
        self.stats().iter().for_each(check_at_rest);
        // What the other threads have in use stays there; all else is free.
        let free = LIMIT - self.limited.stats().bytes_in_use_rounded;
        // A power of two is a capacity.
        drop(self.limited.alloc::<u8>(1 << free.ilog2()).expect("the rest of the limit"));
        thread::scope(|scope| {
            scope.spawn(|| self.use_all(&mut fastrand::Rng::with_seed(1)));
        });
        for pool in [&self.plain, &self.tight] {
            pool.trim(0);
            assert_eq!(pool.stats().pooled_bytes, 0);
        }
        self.over.trim(0);
        self.adaptive.trim(0);
        self.limited.trim(0);
        self.stats().iter().for_each(check_at_rest);
    }
}

#[test]
fn three_hundred_forks_of_a_busy_process() {
    alone(|| {
        let pools = ManuallyDrop::new(Pools::new());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            pools.keep_busy(scope, &stop);
            let mut random = fastrand::Rng::with_seed(9);
            for i in 0..ops(3_000_000) / 10_000 {
                in_fork(|| {
                    pools.are_whole(&mut random);
                    if i % 3 == 0 {
                        // SAFETY: the child is its only user, and uses it no more.
                        drop(ManuallyDrop::into_inner(unsafe { std::ptr::read(&raw const pools) }));
                    }
                });
                pools.use_all(&mut random);
            }
            stop.store(true, Relaxed);
        });
        for stats in pools.stats() {
            check_at_rest(&stats);
        }
        assert_eq!((pools.plain.stats().bytes_in_use, pools.limited.stats().bytes_in_use), (0, 0));
        drop(ManuallyDrop::into_inner(pools));
    });
}

#[test]
fn a_ledger_is_whole_in_the_child() {
    alone(|| {
        let ledgers = [Tracking::new(System), Tracking::new(System)];
        let layout = layout(5 << 10);
        let turn = |ledger: &Tracking<System>| {
            let block = ledger.obtain(layout).expect("there is memory");
            // SAFETY: just obtained with this layout.
            unsafe { ledger.give_back(block, layout) };
        };
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for ledger in &ledgers {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        turn(ledger);
                    }
                });
            }
            for _ in 0..ops(3_000_000) / 30_000 {
                in_fork(|| {
                    for ledger in &ledgers {
                        // At most what the other thread had in its hand.
                        let (blocks, bytes) = (ledger.live_blocks(), ledger.live_bytes());
                        assert!(blocks <= 1 && bytes == blocks * layout.size(), "{blocks} blocks of {bytes} bytes");
                        turn(ledger);
                        assert_eq!((ledger.live_blocks(), ledger.faults().len()), (blocks, 0));
                    }
                });
            }
            stop.store(true, Relaxed);
        });
        assert!(ledgers.iter().all(Tracking::is_empty));
    });
}

static POOLS: OnceLock<Pools> = OnceLock::new();
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// What another library's handler may do: anything.
extern "C" fn handler() {
    CALLS.fetch_add(1, Relaxed);
    let Some(pools) = POOLS.get() else { return };
    let mut random = fastrand::Rng::with_seed(3);
    (0..3).for_each(|_| pools.use_all(&mut random));
    pools.stats().iter().for_each(check);
    pools.tight.trim(0);
    let own = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1 << 20)));
    let kept = own.alloc::<u8>(1000).expect("memory");
    drop(own.alloc::<u8>(1 << 19));
    drop(kept);
    check_at_rest(&own.stats());
}

/// What was registered before ours calls it, if anything.
static EARLIER: OnceLock<extern "C" fn()> = OnceLock::new();

/// Before all constructors: as those of a library that starts earlier.
#[used]
#[unsafe(link_section = ".preinit_array")]
static REGISTER: extern "C" fn() = {
    extern "C" fn earlier() {
        if let Some(handler) = EARLIER.get() {
            handler();
        }
    }
    extern "C" fn register() {
        handle_forks(earlier);
    }
    register
};

/// Called after ours before the fork, and before ours after it.
fn handle_forks_earlier(handler: extern "C" fn()) {
    assert!(EARLIER.set(handler).is_ok());
}

/// The other way about.
fn handle_forks(handler: extern "C" fn()) {
    // SAFETY: it stays for ever.
    unsafe {
        let handler = std::mem::transmute::<extern "C" fn(), unsafe extern "C" fn()>(handler);
        assert_eq!(libc::pthread_atfork(Some(handler), Some(handler), Some(handler)), 0);
    }
}

#[test]
fn handlers_around_forks_allocate_on_both_sides_of_ours() {
    alone(|| {
        handle_forks_earlier(handler);
        assert!(POOLS.set(Pools::new()).is_ok());
        handle_forks(handler);
        let (pools, times) = (POOLS.get().expect("just set"), ops(3_000_000) / 10_000);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let stop = &stop;
            scope.spawn(move || {
                thread::scope(|scope| {
                    pools.keep_busy(scope, stop);
                });
            });
            let mut random = fastrand::Rng::with_seed(5);
            for _ in 0..times {
                in_fork(|| pools.are_whole(&mut random));
            }
            stop.store(true, Relaxed);
        });
        assert_eq!(CALLS.load(Relaxed), times * 4);
        pools.stats().iter().for_each(check_at_rest);
    });
}

static GATED: OnceLock<BufferPool<Gate>> = OnceLock::new();
static GRANTED: Mutex<Vec<bool>> = Mutex::new(Vec::new());

/// Asks for more than is left while another thread asks for as much.
extern "C" fn greedy() {
    let pool = GATED.get().expect("set before");
    let got = pool.get(layout(768 << 10));
    GRANTED.lock().expect("no panics").push(got.is_ok());
    // SAFETY: got with this layout.
    got.into_iter().for_each(|ptr| unsafe { pool.put(ptr, layout(768 << 10)) });
    check(&pool.stats());
}

#[test]
fn handlers_do_not_wait_for_other_threads() {
    alone(|| {
        handle_forks_earlier(greedy);
        let pool = GATED.get_or_init(gated);
        while_at_the_gate(
            pool,
            || pair(pool, 512 << 10),
            || {
                in_fork(|| {
                    // The other thread stood in the way before the fork.
                    assert_eq!(*GRANTED.lock().expect("no panics"), [false, true]);
                    check_at_rest(&pool.stats());
                });
                assert_eq!(*GRANTED.lock().expect("no panics"), [false; 2]);
            },
        );
    });
}

/// Forks in the handler, once.
extern "C" fn forks() {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if !ONCE.swap(true, SeqCst) {
        let pools = POOLS.get().expect("set before");
        let ours = std::process::id();
        let child = fork(|| pools.use_all(&mut fastrand::Rng::with_seed(4)));
        assert_eq!(wait(child), 0, "the child of {ours}");
        pools.use_all(&mut fastrand::Rng::with_seed(4));
    }
}

#[test]
fn a_handler_may_fork() {
    alone(|| {
        assert!(POOLS.set(Pools::new()).is_ok());
        let pools = POOLS.get().expect("just set");
        handle_forks(forks);
        in_fork(|| pools.are_whole(&mut fastrand::Rng::with_seed(5)));
        thread::scope(|scope| {
            scope.spawn(|| pools.are_whole(&mut fastrand::Rng::with_seed(6)));
        });
    });
}

/// A backing that forks; the child goes on from there.
struct Forking {
    children: Mutex<Vec<libc::pid_t>>,
    forks: AtomicBool,
}

impl Forking {
    fn fork(&self) {
        if self.forks.swap(false, SeqCst) {
            // SAFETY: one thread, and the child ends where the test does.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            self.children.lock().expect("no panics").push(child);
        }
    }
}

// SAFETY: what is granted is granted by `System`.
unsafe impl Backing for Forking {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.fork();
        System.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        self.fork();
        // SAFETY: the caller's word, passed on.
        unsafe { System.give_back(block, layout) };
    }
}

#[test]
fn what_the_forking_thread_has_under_way_goes_on_in_both_processes() {
    alone(|| {
        let backing = Forking { children: Mutex::new(Vec::new()), forks: AtomicBool::new(true) };
        let (pool, large) = full(backing);
        let forks = || pool.backing().forks.store(true, SeqCst);
        let at_rest = |in_use: usize, pooled: usize| {
            let stats = pool.stats();
            check_at_rest(&stats);
            assert_eq!(
                (stats.bytes_in_use, stats.pooled_bytes, stats.reserved_bytes),
                (in_use, pooled, in_use + pooled)
            );
        };
        at_rest(32 << 10, 32 << 10);
        // It waits for the room of the others.
        forks();
        large.put(&pool, 32 << 10);
        at_rest(0, 32 << 10);
        forks();
        assert_eq!(pool.trim(0), 32 << 10);
        at_rest(0, 0);
        let children = pool.backing().children.lock().expect("no panics").clone();
        // Each of the eight processes waits for its own.
        let own = children.iter().rposition(|&child| child == 0).map_or(0, |at| at + 1);
        children[own..].iter().for_each(|&child| assert_eq!(wait(child), 0));
        if own > 0 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
    });
}

#[test]
fn what_stands_on_a_pool_goes_on_in_the_child() {
    let alloc = TensorAllocator::new();
    let mut arena = ComputeArena::new_in(&alloc);
    let buffer = arena.alloc_filled(1000, 3_u32).expect("memory");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                drop(alloc.alloc::<u8>(70_000));
                drop(alloc.alloc::<u8>(700));
            }
        });
        for _ in 0..20 {
            in_fork(|| {
                assert!(buffer.iter().all(|&value| value == 3));
                assert_eq!(arena.alloc_filled(100_000, 4_u32).expect("memory")[99_999], 4);
                check_at_rest(&alloc.stats());
            });
        }
        stop.store(true, Relaxed);
    });
    drop(buffer);
    arena.reset();
}
