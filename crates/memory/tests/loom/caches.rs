//! Caches of threads: blocks that travel, counts that are read meanwhile, and what others call in.

use std::ptr::NonNull;

use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::cache::{self, Cache, Kept};
use crate::cells::{Cell, model, read, write};
use crate::classes;
use crate::heap::Heap;
use crate::os::{self, NoOs};
use crate::sync::atomic::Ordering::Relaxed;

/// The class of the largest blocks: four fill a stack.
const CLASS: usize = classes::CLASSES - 1;
const SIZE: usize = 10;

const RUN: classes::Run = classes::Run { size: 70_000, pages: 18, align: 1, coloured: false };

/// Never used itself, so that its atomics are not made yet.
static TEMPLATE: Cache = Cache::barren();

/// On the heap from the start: loom's threads have small stacks.
fn cache() -> Box<Cache> {
    let mut cache = Box::new_uninit();
    // SAFETY: one cache is copied, and the original never used nor dropped.
    let cache: Box<Cache> = unsafe {
        std::ptr::copy_nonoverlapping(&raw const TEMPLATE, cache.as_mut_ptr(), 1);
        cache.assume_init()
    };
    cache.begin();
    cache.taken.store(true, Relaxed);
    // What other threads read is made now: loom takes the making for a write.
    cache.settle();
    cache.held(CLASS);
    cache.call_in(true);
    cache.shut();
    cache.take_out(0, 64, |_| ());
    drop(cache.enter());
    cache
}

type Shared = Mutex<Heap<NoOs>>;

/// As `process` does it.
fn obtain(cache: &Cache, heap: &Shared) -> NonNull<u8> {
    cache.pop(CLASS, SIZE).unwrap_or_else(|| {
        let _at_leases = cache.enter();
        // It was not empty, but shut.
        if let Some(block) = cache.pop(CLASS, SIZE) {
            return block;
        }
        let mut heap = heap.lock().expect("no panics");
        let block = cache.refill(CLASS, |wanted, take| heap.obtain_blocks(CLASS, wanted, take)).expect("enough blocks");
        cache.served(Some(CLASS), SIZE);
        block
    })
}

fn give_back(cache: &Cache, heap: &Shared, block: NonNull<u8>) {
    if !cache.push(CLASS, SIZE, block) {
        let _at_leases = cache.enter();
        let mut heap = heap.lock().expect("no panics");
        cache.overflow(CLASS, block, |class, block| cache::give_back(&mut heap, class, block));
        cache.freed(Some(CLASS), SIZE);
    }
}

fn drain(cache: &Cache, heap: &Shared) {
    let _at_leases = cache.enter();
    let mut heap = heap.lock().expect("no panics");
    cache.drain(|class, block| cache::give_back(&mut heap, class, block));
}

fn in_use(cache: &Cache) -> isize {
    let mut tally = cache::Tally::new();
    cache.add_to(&mut tally);
    tally.allocated.wrapping_sub(tally.freed).cast_signed()
}

fn heap_of(cells: &[Cell]) -> Shared {
    let free = cells.iter().map(|cell| NonNull::from(cell).cast()).collect();
    Mutex::new(Heap { free, os: std::marker::PhantomData })
}

#[test]
fn blocks_travel_between_threads_and_are_nobody_elses() {
    model(3, || {
        let cells: Arc<Vec<Cell>> = Arc::new((0..8).map(|_| Cell::new(0)).collect());
        let heap = Arc::new(heap_of(&cells));
        let threads: Vec<_> = (1..=2)
            .map(|me| {
                let (heap, cells) = (heap.clone(), cells.clone());
                thread::spawn(move || {
                    let cache = cache();
                    let block = obtain(&cache, &heap);
                    write(block, me);
                    assert_eq!(read(block), me, "somebody else wrote here");
                    give_back(&cache, &heap, block);
                    // More than the stack has a lease for.
                    let blocks = [(); 3].map(|()| obtain(&cache, &heap));
                    for (block, value) in blocks.into_iter().zip(10 * me..) {
                        write(block, value);
                    }
                    for (block, value) in blocks.into_iter().zip(10 * me..) {
                        assert_eq!(read(block), value, "somebody else wrote here");
                        give_back(&cache, &heap, block);
                    }
                    drain(&cache, &heap);
                    assert_eq!(in_use(&cache), 0);
                    drop(cells);
                })
            })
            .collect();
        let cache = cache();
        let block = obtain(&cache, &heap);
        write(block, 3);
        give_back(&cache, &heap, block);
        drain(&cache, &heap);
        for thread in threads {
            thread.join().expect("no panics");
        }
        assert_eq!(heap.lock().expect("no panics").free.len(), 8, "a block was lost or doubled");
    });
}

#[test]
fn a_snapshot_errs_by_what_is_under_way_and_is_exact_at_rest() {
    model(3, || {
        let cells: Arc<Vec<Cell>> = Arc::new((0..4).map(|_| Cell::new(0)).collect());
        let heap = Arc::new(heap_of(&cells));
        let caches: Vec<_> = (0..2).map(|_| Arc::new(cache())).collect();
        let threads: Vec<_> = caches
            .iter()
            .map(|cache| {
                let (cache, heap) = (cache.clone(), heap.clone());
                thread::spawn(move || {
                    let first = obtain(&cache, &heap);
                    give_back(&cache, &heap, first);
                    let second = obtain(&cache, &heap);
                    give_back(&cache, &heap, second);
                    obtain(&cache, &heap);
                })
            })
            .collect();
        for cache in &caches {
            assert!(cache.held(CLASS) <= 2, "more blocks than there can be");
            let in_use = in_use(cache);
            assert!((-2 * SIZE as isize..=3 * SIZE as isize).contains(&in_use), "{in_use} bytes in use");
        }
        for thread in threads {
            thread.join().expect("no panics");
        }
        for cache in &caches {
            assert_eq!(in_use(cache), SIZE as isize);
            assert_eq!(cache.settle(), (SIZE as isize, SIZE as isize), "in use now, and at most");
        }
    });
}

/// As `process` does it, with a run.
fn obtain_run(cache: &Cache, heap: &Shared) -> NonNull<u8> {
    cache.pop_run(classes::CLASSES, RUN).unwrap_or_else(|| {
        let _at_leases = cache.enter();
        cache.give_runs(|kind, run| cache::give_back(&mut heap.lock().expect("no panics"), kind, run));
        let run = heap.lock().expect("no panics").free.pop().expect("enough runs");
        cache.served(None, RUN.size);
        run
    })
}

fn give_back_run(cache: &Cache, heap: &Shared, run: NonNull<u8>) {
    let kind = classes::CLASSES;
    if !((cache.has_room(kind) || cache.make_room(kind)) && cache.push_run(kind, RUN, run)) {
        heap.lock().expect("no panics").free.push(run);
        cache.freed(None, RUN.size);
    }
}

/// As below, of runs.
#[test]
fn a_run_that_is_kept_is_one_threads_at_a_time() {
    model(2, || {
        let cells: Arc<Vec<Cell>> = Arc::new((0..3).map(|_| Cell::new(0)).collect());
        let heap = Arc::new(heap_of(&cells));
        let cache = Arc::new(cache());
        let run = obtain_run(&cache, &heap);
        give_back_run(&cache, &heap, run);
        assert!(cache.keeps_runs());
        let owner = {
            let (cache, heap) = (cache.clone(), heap.clone());
            thread::spawn(move || {
                let runs = [1, 2].map(|value| {
                    let run = obtain_run(&cache, &heap);
                    write(run, value);
                    run
                });
                for (run, value) in runs.into_iter().zip(1..) {
                    assert_eq!(read(run), value, "somebody else wrote here");
                    give_back_run(&cache, &heap, run);
                }
            })
        };
        cache.call_in(false);
        os::fence_threads();
        cache.shut();
        os::fence_threads();
        let mut runs = Vec::new();
        cache.take_out(0, 64, |one| runs.push(one));
        for one in runs {
            let Kept::Block(kind, run) = one else { panic!("it has no parcels") };
            write(run, 3);
            assert_eq!(read(run), 3, "somebody else wrote here");
            cache::give_back(&mut heap.lock().expect("no panics"), kind, run);
        }
        owner.join().expect("no panics");
        drain(&cache, &heap);
        assert_eq!(in_use(&cache), 0);
        assert_eq!(heap.lock().expect("no panics").free.len(), 3, "a run was lost or doubled");
    });
}

/// A thread that requests and frees, and another that calls in what it has: no block is lost, doubled or two threads' at once, and
/// counters are exact in the end.
#[test]
fn what_is_called_in_is_one_threads_at_a_time() {
    model(2, || {
        let cells: Arc<Vec<Cell>> = Arc::new((0..4).map(|_| Cell::new(0)).collect());
        let heap = Arc::new(heap_of(&cells));
        let cache = Arc::new(cache());
        // It has a lease, and a block.
        let block = obtain(&cache, &heap);
        give_back(&cache, &heap, block);
        let owner = {
            let (cache, heap) = (cache.clone(), heap.clone());
            thread::spawn(move || {
                let first = obtain(&cache, &heap);
                write(first, 1);
                assert_eq!(read(first), 1, "somebody else wrote here");
                give_back(&cache, &heap, first);
                let second = obtain(&cache, &heap);
                write(second, 2);
                second
            })
        };
        cache.call_in(false);
        os::fence_threads();
        cache.shut();
        os::fence_threads();
        let mut blocks = Vec::new();
        cache.take_out(0, 64, |one| blocks.push(one));
        for one in blocks {
            let Kept::Block(class, block) = one else { panic!("it has no parcels") };
            write(block, 3);
            assert_eq!(read(block), 3, "somebody else wrote here");
            cache::give_back(&mut heap.lock().expect("no panics"), class, block);
        }
        let block = owner.join().expect("no panics");
        assert_eq!(read(block), 2, "somebody else wrote here");
        assert_eq!(in_use(&cache), SIZE as isize);
        assert!(
            cache.push(CLASS, SIZE, block) || {
                give_back(&cache, &heap, block);
                true
            }
        );
        drain(&cache, &heap);
        assert_eq!(in_use(&cache), 0);
        assert_eq!(heap.lock().expect("no panics").free.len(), 4, "a block was lost or doubled");
    });
}
