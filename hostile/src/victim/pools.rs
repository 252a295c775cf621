//! Pools under the same treatment: forks while they are in use, and fences that are refused.

#[cfg(feature = "tenzor")]
mod on {
    use std::alloc::Layout;
    use std::ptr::NonNull;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use tenzor_hostile::sys::{self, End};
    use tenzor_hostile::{cannot, ensure, filter, wrong};
    use tenzor_memory::{Backing, BufferPool, Pages, PoolConfig, Refused, Stats, System, TensorAllocator};

    fn wait(pid: std::io::Result<i32>) {
        match pid.and_then(sys::wait) {
            Ok(End::Exit(0)) => {}
            Ok(End::Signal(libc::SIGALRM)) => wrong!("a child hung"),
            Ok(end) => wrong!("a child ended by {end:?}"),
            Err(error) => wrong!("no child: {error}"),
        }
    }

    /// The sum of law 4, and no number that went below zero.
    fn check(stats: &Stats) {
        let sum = stats.bytes_in_use_rounded.checked_add(stats.pooled_bytes);
        let sum = sum.and_then(|sum| sum.checked_add(stats.overhead_bytes));
        ensure!(sum == Some(stats.reserved_bytes), "in use + pooled + overhead is not reserved:\n{stats}");
        ensure!(stats.bytes_in_use_rounded >> 44 == 0, "in use went below zero:\n{stats}");
        ensure!(stats.deallocations <= stats.allocations, "more freed than allocated:\n{stats}");
        ensure!(stats.buckets.iter().all(|row| row.buffers_in_use >> 40 == 0), "a bucket went below zero:\n{stats}");
    }

    /// Requests of all sizes, with contents.
    fn use_it<B: Backing>(alloc: &TensorAllocator<B>, seed: u8, rounds: usize) {
        for round in 0..rounds {
            for size in [100, 5000, 200 << 10, 1 << 20, 3 << 20] {
                let Ok(buffer) = alloc.alloc_filled(size + round, seed) else { wrong!("{size} bytes were refused") };
                ensure!(buffer.iter().all(|&byte| byte == seed), "a buffer of {size} bytes changed");
                let Ok(zeroed) = alloc.alloc_zeroed::<u8>(size) else { wrong!("{size} bytes were refused") };
                ensure!(zeroed.iter().all(|&byte| byte == 0), "a zeroed buffer of {size} bytes is not");
            }
        }
    }

    fn forks_of<B: Backing + Send + Sync>(alloc: &TensorAllocator<B>, count: usize) {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for number in 0..4 {
                let over = &over;
                scope.spawn(move || {
                    while !over.load(SeqCst) {
                        use_it(alloc, number, 1);
                    }
                });
            }
            for number in 0..count {
                let child = || {
                    check(&alloc.stats());
                    use_it(alloc, 9, 2);
                    alloc.trim(0);
                    let stats = alloc.stats();
                    check(&stats);
                    ensure!(stats.pooled_bytes == 0, "trimmed, and {} bytes are pooled", stats.pooled_bytes);
                    0
                };
                wait(sys::fork(10, child));
                if number % 8 == 0 {
                    check(&alloc.stats());
                }
            }
            over.store(true, SeqCst);
        });
        let stats = alloc.stats();
        check(&stats);
        ensure!(stats.bytes_in_use == 0, "{} bytes in use at the end", stats.bytes_in_use);
    }

    pub fn forks(count: usize) {
        forks_of(&TensorAllocator::new(), count);
        forks_of(&TensorAllocator::new_in(Pages), count);
        forks_of(&TensorAllocator::with_config_in(PoolConfig::adaptive(), Pages), count);
        forks_of(&TensorAllocator::with_config(PoolConfig::default().with_limit(Some(64 << 20))), count);
    }

    static SLOW: AtomicBool = AtomicBool::new(false);
    static THERE: AtomicBool = AtomicBool::new(false);

    /// A backing at which one request takes its time.
    struct Slow;

    // SAFETY: `System` serves everything.
    unsafe impl Backing for Slow {
        fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
            if SLOW.load(SeqCst) && layout.size() == 512 << 10 {
                THERE.store(true, SeqCst);
                std::thread::sleep(Duration::from_secs(1));
            }
            System.obtain(layout)
        }

        unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: by the caller's promise, it came from `obtain`, which is `System`'s.
            unsafe { System.give_back(block, layout) }
        }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap_or_else(|_| wrong!("no layout of {size}"))
    }

    /// A fork while another thread's request is at the backing: in the child, nobody is on the way to anything.
    pub fn fork_while_asked() {
        let pool = Arc::new(BufferPool::with_config_in(PoolConfig::default().with_limit(Some(1 << 20)), Slow));
        SLOW.store(true, SeqCst);
        let there = Arc::clone(&pool);
        let thread = std::thread::spawn(move || {
            if let Ok(at) = there.get(layout(512 << 10)) {
                // SAFETY: just obtained, freed once.
                unsafe { there.put(at, layout(512 << 10)) };
            }
        });
        while !THERE.load(SeqCst) {
            std::thread::yield_now();
        }
        wait(sys::fork(10, || {
            let stats = pool.stats();
            check(&stats);
            ensure!(stats.reserved_bytes == 0, "{} bytes of nobody are reserved in the child", stats.reserved_bytes);
            ensure!(pool.get(layout(768 << 10)).is_ok(), "768 KiB of 1 MiB were refused in the child");
            check(&pool.stats());
            0
        }));
        ensure!(thread.join().is_ok(), "a thread panicked");
        check(&pool.stats());
    }

    /// What goes from one thread to another.
    struct Sent(NonNull<u8>);
    // SAFETY: a buffer of a pool may be freed on any thread.
    unsafe impl Send for Sent {}

    /// Another thread has a buffer in its stock whose hits only the stock has counted; the buffer is freed here. Then `body`.
    fn with_stock_elsewhere(body: impl FnOnce(&BufferPool)) {
        let pool = Arc::new(BufferPool::new());
        let (to_main, from_thread) = mpsc::channel::<Sent>();
        let (end, ended) = mpsc::channel::<()>();
        let there = Arc::clone(&pool);
        let thread = std::thread::spawn(move || {
            let Ok(at) = there.get(layout(1000)) else { wrong!("refused") };
            // SAFETY: just obtained, freed once.
            unsafe { there.put(at, layout(1000)) };
            let Ok(at) = there.get(layout(1000)) else { wrong!("refused") };
            let _ = to_main.send(Sent(at));
            let _ = ended.recv();
        });
        let Ok(Sent(at)) = from_thread.recv() else { wrong!("the thread is gone") };
        // SAFETY: the other thread gave it up.
        unsafe { pool.put(at, layout(1000)) };
        body(&pool);
        drop(end);
        ensure!(thread.join().is_ok(), "a thread panicked");
        check(&pool.stats());
        ensure!(pool.stats().bytes_in_use == 0, "{} bytes in use at the end", pool.stats().bytes_in_use);
    }

    pub fn fork_with_stock() {
        with_stock_elsewhere(|pool| {
            wait(sys::fork(10, || {
                let stats = pool.stats();
                check(&stats);
                ensure!(stats.bytes_in_use == 0, "{} bytes are in use in the child", stats.bytes_in_use);
                pool.trim(0);
                check(&pool.stats());
                0
            }));
        });
    }

    /// The system's fence is refused after the first pool was made.
    pub fn no_fence() {
        with_stock_elsewhere(|pool| {
            if let Err(error) = filter::install("membarrier=EPERM") {
                cannot!("no filter: {error}");
            }
            check(&pool.stats());
            pool.trim(0);
            check(&pool.stats());
        });
    }

    /// Pools on each backing, in whatever surroundings.
    pub fn traffic() {
        let pools = (TensorAllocator::new(), TensorAllocator::new_in(Pages));
        std::thread::scope(|scope| {
            for number in 0..3 {
                let pools = &pools;
                let body = move || {
                    use_it(&pools.0, number, 20);
                    use_it(&pools.1, number, 20);
                };
                // Where no thread can be had, this one does it.
                if std::thread::Builder::new().spawn_scoped(scope, body).is_err() {
                    body();
                }
            }
        });
        pools.0.trim(0);
        pools.1.trim(0);
        check(&pools.0.stats());
        check(&pools.1.stats());
    }
}

#[cfg(not(feature = "tenzor"))]
mod on {
    use crate::only_with_tenzor;

    pub fn forks(_: usize) {
        only_with_tenzor()
    }

    pub fn fork_while_asked() {
        only_with_tenzor()
    }

    pub fn fork_with_stock() {
        only_with_tenzor()
    }

    pub fn no_fence() {
        only_with_tenzor()
    }

    pub fn traffic() {
        only_with_tenzor()
    }
}

pub use on::{fork_while_asked, fork_with_stock, forks, no_fence, traffic};
