// What threads have of their own, which needs the fence.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(unsafe_code)]

use std::sync::Arc;
use std::thread;

use super::*;

/// Gets so many buffers, puts them back, and returns how many of them lie in the thread's stock then.
fn stocked(pool: &BufferPool, size: usize, count: usize) -> usize {
    let layout = Layout::from_size_align(size, 64).unwrap();
    let buffers: Vec<_> = (0..count).map(|_| pool.get(layout).unwrap()).collect();
    // SAFETY: just got with this layout.
    buffers.into_iter().for_each(|ptr| unsafe { pool.put(ptr, layout) });
    let fit = pool.classes.fit(layout).unwrap();
    pool.lock().own().map_or(0, |(_, stock)| stock.len(&fit))
}

#[test]
fn what_is_used_now_takes_over_the_room_of_what_was_used_before() {
    let pool = BufferPool::new();
    for size in [520, 600, 700, 520] {
        assert_eq!(stocked(&pool, size, 1), 1, "{size} bytes");
    }
    assert_eq!(stocked(&pool, 65 << 10, 1), 0);
    let pool = BufferPool::with_config(PoolConfig::default().with_max_buffers_per_bucket(1000));
    assert_eq!(stocked(&pool, 60 << 10, 8), 4);
    assert_eq!(stocked(&pool, 40 << 10, 1), 1);
    assert_eq!(stocked(&pool, 1000, 8), 8);
}

#[test]
fn a_stock_that_ran_empty_is_filled_ahead() {
    let pool = BufferPool::with_config(PoolConfig::adaptive());
    let at_hand = stocked(&pool, 1000, 30);
    let layout = Layout::from_size_align(1000, 64).unwrap();
    let buffers: Vec<_> = (0..=at_hand).map(|_| pool.get(layout).unwrap()).collect();
    let next = pool.pop(layout);
    assert!(next.is_some(), "the next request takes the lock");
    // SAFETY: just got with this layout.
    buffers.into_iter().chain(next).for_each(|ptr| unsafe { pool.put(ptr, layout) });
}

#[test]
fn stocks_of_threads_that_ended_do_not_pile_up() {
    let pool = Arc::new(BufferPool::with_config(PoolConfig::adaptive()));
    // Enough for all, so that nobody misses.
    assert!(stocked(&pool, 320, 1100) > 0);
    let layout = Layout::from_size_align(320, 64).unwrap();
    for _ in 0..1000 {
        let pool_there = Arc::clone(&pool);
        let thread = thread::spawn(move || {
            let ptr = pool_there.get(layout).unwrap();
            // SAFETY: just got with this layout.
            unsafe { pool_there.put(ptr, layout) };
        });
        thread.join().unwrap();
        assert!(pool.state.lock().members.all.len() <= 3);
    }
    let stats = pool.stats();
    assert_eq!((stats.pool_misses, stats.pool_hits, stats.deallocations), (1100, 1000, 2100));
}
