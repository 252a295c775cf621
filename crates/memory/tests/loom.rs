//! What threads have of their own, under loom: every interleaving of what they share. `ci/loom` runs it.
//!
//! The files are compiled here once more, over atomics that loom watches and a heap behind loom's lock.
#![cfg(loom)]
#![allow(missing_docs, unsafe_code, unreachable_pub, dead_code, clippy::expect_used)]

#[path = "../src/biased.rs"]
mod biased;

#[path = "../src/process/cache/mod.rs"]
mod cache;

#[path = "../src/process/parcels.rs"]
mod parcels;

#[path = "../src/heap/parcel.rs"]
mod parcel;

#[path = "../src/heap/classes.rs"]
mod classes;

/// Nobody has more than a share of its own.
mod pot {
    pub(crate) enum Answer {
        Portion(usize),
        Empty,
        Overdrawn(usize),
    }

    pub(crate) fn ask() -> Answer {
        Answer::Empty
    }

    pub(crate) fn give_back(_: usize) {}

    pub(crate) fn tell(_: usize) {}

    pub(crate) fn tell_less(_: usize) {}
}

/// Nothing is served aside.
mod aside {
    /// # Safety
    /// None is needed.
    pub(crate) unsafe fn take_back(_: std::ptr::NonNull<u8>) -> bool {
        false
    }
}

mod os {
    pub(crate) const PAGE: usize = 4096;

    pub trait Os {}
    pub struct NoOs;
    impl Os for NoOs {}

    pub(crate) fn sleep(_: std::time::Duration) {
        loom::thread::yield_now();
    }

    pub(crate) fn die(what: std::fmt::Arguments<'_>) -> ! {
        panic!("{what}");
    }

    thread_local! {
        /// loom's threads are all on one of the system's.
        pub(crate) static REFUSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    /// With [`store_load_fence`](crate::sync::store_load_fence) a full fence as well, it is what the system's is with a nothing.
    pub(crate) fn fence_threads() -> bool {
        let granted = !REFUSED.get();
        if granted {
            loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
        }
        granted
    }
}

/// Free blocks of the one class in use.
mod heap {
    use std::marker::PhantomData;
    use std::ptr::NonNull;

    pub(crate) use crate::{classes, parcel};

    #[derive(Default)]
    pub struct Heap<O> {
        pub free: Vec<NonNull<u8>>,
        pub os: PhantomData<O>,
    }

    // SAFETY: the blocks belong to whoever takes them.
    unsafe impl<O> Send for Heap<O> {}

    impl<O> Heap<O> {
        pub fn obtain_blocks(&mut self, _: usize, wanted: usize, take: impl FnMut(NonNull<u8>)) {
            let left = self.free.len().saturating_sub(wanted);
            self.free.drain(left..).for_each(take);
        }

        /// # Safety
        /// None is needed: what is freed is only kept.
        pub unsafe fn give_back_block(&mut self, _: usize, block: NonNull<u8>) -> bool {
            self.free.push(block);
            true
        }

        pub fn holding(&mut self, _: NonNull<u8>) -> &'static str {
            "no block"
        }
    }
}

/// loom's atomics, made when they are first used: those of std can be made in a constant.
mod sync {
    pub(crate) use loom::thread::yield_now as pause;

    pub(crate) const BREATH: std::time::Duration = std::time::Duration::ZERO;

    thread_local! {
        /// loom's threads are all on one of the system's.
        pub(crate) static FENCED: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
    }

    pub(crate) fn store_load_fence() {
        if FENCED.get() {
            loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
        }
    }

    pub mod atomic {
        pub use loom::sync::atomic::{Ordering, fence};

        macro_rules! atomics {
            ($($name:ident $(<$t:ident>)?: $value:ty),*) => {$(
                pub struct $name $(<$t>)? {
                    first: $value,
                    atomic: std::sync::OnceLock<loom::sync::atomic::$name $(<$t>)?>,
                }

                impl $(<$t>)? std::fmt::Debug for $name $(<$t>)? {
                    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(stringify!($name))
                    }
                }

                // SAFETY: loom's atomics are; the first value is only copied.
                unsafe impl $(<$t>)? Sync for $name $(<$t>)? {}
                // SAFETY: likewise.
                unsafe impl $(<$t>)? Send for $name $(<$t>)? {}

                impl $(<$t>)? $name $(<$t>)? {
                    pub const fn new(first: $value) -> Self {
                        Self { first, atomic: std::sync::OnceLock::new() }
                    }

                    fn atomic(&self) -> &loom::sync::atomic::$name $(<$t>)? {
                        self.atomic.get_or_init(|| loom::sync::atomic::$name::new(self.first))
                    }

                    pub fn load(&self, order: Ordering) -> $value {
                        self.atomic().load(order)
                    }

                    pub fn store(&self, value: $value, order: Ordering) {
                        self.atomic().store(value, order);
                    }

                    pub fn compare_exchange(
                        &self,
                        from: $value,
                        to: $value,
                        then: Ordering,
                        otherwise: Ordering,
                    ) -> Result<$value, $value> {
                        self.atomic().compare_exchange(from, to, then, otherwise)
                    }

                    pub fn swap(&self, value: $value, order: Ordering) -> $value {
                        self.atomic().swap(value, order)
                    }
                }
            )*};
        }

        atomics!(
            AtomicBool: bool,
            AtomicIsize: isize,
            AtomicI32: i32,
            AtomicU32: u32,
            AtomicU64: u64,
            AtomicUsize: usize,
            AtomicPtr<T>: *mut T
        );

        impl AtomicU64 {
            pub fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
                self.atomic().fetch_or(bits, order)
            }
        }
    }
}

use std::ptr::NonNull;

use biased::{Biased, shut_out};
use cache::{Cache, Kept};
use heap::Heap;
use loom::sync::{Arc, Mutex};
use loom::thread;
use os::NoOs;
use parcel::{Parcel, bits};
use sync::atomic::Ordering::Relaxed;

/// The class of the largest blocks: four fill a stack.
const CLASS: usize = classes::CLASSES - 1;
const SIZE: usize = 10;

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

/// A block as loom sees it: two threads that use it at once, or one without knowing of the other's writes, are found.
type Cell = loom::cell::UnsafeCell<u64>;

fn write(block: NonNull<u8>, value: u64) {
    // SAFETY: the block is a cell that lives until the model ends; loom checks that it is used by one thread at a time.
    unsafe { block.cast::<Cell>().as_ref() }.with_mut(|cell| unsafe { *cell = value });
}

fn read(block: NonNull<u8>) -> u64 {
    // SAFETY: as above.
    unsafe { block.cast::<Cell>().as_ref() }.with(|cell| unsafe { *cell })
}

fn heap_of(cells: &[Cell]) -> Shared {
    let free = cells.iter().map(|cell| NonNull::from(cell).cast()).collect();
    Mutex::new(Heap { free, os: std::marker::PhantomData })
}

fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(body);
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

/// What went back to the heap of a parcel, as `heap` takes it under its lock.
fn give_pages(parcel: &Parcel, gone: &Mutex<u64>, these: impl FnOnce() -> u64) {
    let mut gone = gone.lock().expect("no panics");
    let these = these();
    let these = these | if parcel.is_abandoned() { parcel.take_noted() } else { 0 };
    assert_eq!(*gone & these, 0, "these went back before");
    *gone |= these;
}

/// An owner that leaves its parcel, while two others free blocks of it.
#[test]
fn what_others_free_while_an_owner_leaves_goes_back_once() {
    model(3, || {
        let shared = Arc::new((Parcel::none(), Mutex::new(0_u64)));
        let parcel = &shared.0;
        parcel.begin(std::ptr::dangling_mut(), 6);
        assert_eq!([(); 2].map(|()| parcel.grant(2)), [Some(0), Some(2)]);
        parcel.has_free();
        let others: Vec<_> = [0, 2]
            .map(|first| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (parcel, gone) = &*shared;
                    // As `shards` does it.
                    let noted = !parcel.is_abandoned() && parcel.note(bits(first, 2));
                    if noted && parcel.is_abandoned() {
                        give_pages(parcel, gone, || 0);
                    } else if !noted {
                        assert!(parcel.note(bits(first, 2)), "it is in use");
                        give_pages(parcel, gone, || 0);
                    }
                })
            })
            .into();
        parcel.collect();
        let first = parcel.grant(2);
        assert!(first.is_some(), "two pages were free");
        if let Some(first) = first {
            parcel.take_back(first, 2);
        }
        parcel.collect();
        give_pages(parcel, &shared.1, || {
            let free = parcel.take_out();
            parcel.abandon();
            free
        });
        for thread in others {
            thread.join().expect("no panics");
        }
        assert_eq!(*shared.1.lock().expect("no panics"), bits(0, 6), "pages were lost");
    });
}

/// An owner that comes and goes, and others that shut it out under a lock: the value is never two threads' at once, and no
/// change is lost. Where the fence is refused, others have the value only when the owner has left it.
fn an_owner_and_others(others: usize, preemptions: usize) {
    model(preemptions, move || {
        let value = Arc::new((Mutex::new(()), Biased::new(Cell::new(0))));
        // Its atomics are made now: loom takes the making for a write.
        value.1.has_left();
        // SAFETY: this thread is the owner.
        unsafe { value.1.enter(|_| None::<()>) };
        let visitors: Vec<_> = (0..others)
            .map(|_| {
                let value = value.clone();
                thread::spawn(move || {
                    let lock = value.0.lock().expect("no panics");
                    // SAFETY: we hold the lock, and are not the owner.
                    let out = unsafe { shut_out(std::iter::once(&value.1)) };
                    assert!(out || os::REFUSED.get());
                    let visits = out || value.1.has_left();
                    if visits {
                        // SAFETY: as above, and the owner is out.
                        unsafe { value.1.locked() }.with_mut(|sum| unsafe { *sum += 1 });
                    }
                    if out {
                        // SAFETY: as above.
                        unsafe { value.1.let_in() };
                    }
                    drop(lock);
                    u64::from(visits)
                })
            })
            .collect();
        for _ in 0..2 {
            // SAFETY: this thread is the owner.
            let entered = unsafe { value.1.enter(|cell| Some(cell.with_mut(|sum| *sum += 1))) };
            if entered.is_none() {
                let lock = value.0.lock().expect("no panics");
                // SAFETY: the owner, with the lock.
                unsafe { value.1.locked() }.with_mut(|sum| unsafe { *sum += 1 });
                if os::REFUSED.get() {
                    // SAFETY: likewise.
                    unsafe { value.1.leave() };
                }
                drop(lock);
            }
        }
        let visits: u64 = visitors.into_iter().map(|visitor| visitor.join().expect("no panics")).sum();
        // SAFETY: nobody else is left.
        assert_eq!(unsafe { value.1.locked() }.with(|sum| unsafe { *sum }), 2 + visits);
    });
}

#[test]
fn a_value_whose_owner_left_is_one_threads_at_a_time() {
    os::REFUSED.set(true);
    an_owner_and_others(1, 5);
    an_owner_and_others(2, 3);
}

#[test]
fn a_biased_value_is_one_threads_at_a_time() {
    an_owner_and_others(1, 5);
    an_owner_and_others(2, 3);
}

#[test]
#[should_panic(expected = "Concurrent write accesses")]
fn without_its_fence_a_biased_value_is_two_threads_at_once() {
    sync::FENCED.set(false);
    an_owner_and_others(1, 5);
}
