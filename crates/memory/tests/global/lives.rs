//! Allocation wherever a program may allocate: before `main`, while threads end, at exit, and in threads without number.

use std::cell::RefCell;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::block::{Block, any_layout};
use crate::common::layout;
use crate::process::in_child;
use crate::traffic::{self, Exchange};

/// Larger than all classes.
const LARGEST: usize = 80 << 10;

static BEFORE_MAIN: Mutex<Vec<Block>> = Mutex::new(Vec::new());

#[used]
#[unsafe(link_section = ".init_array")]
static INITIALISE: extern "C" fn() = {
    extern "C" fn initialise() {
        let mut blocks = BEFORE_MAIN.lock().expect("nobody else is there");
        blocks.extend((0..100).map(|i| Block::new(layout(1 + i * 97, 8), i as u64)));
    }
    initialise
};

#[test]
fn blocks_from_before_main_live_on() {
    let blocks = std::mem::take(&mut *BEFORE_MAIN.lock().expect("no panic"));
    assert_eq!(blocks.len(), 100);
    drop(blocks); // Each looks at its contents.
}

/// Allocates, resizes and frees.
pub(crate) fn use_the_allocator(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut blocks: Vec<_> = (0..30).map(|i| Block::new(any_layout(&mut rng, LARGEST), i)).collect();
    for block in blocks.iter_mut().step_by(3) {
        block.resize(any_layout(&mut rng, LARGEST).size());
    }
}

/// Uses the allocator when its thread ends, and frees what that allocated.
struct Last(RefCell<Vec<Block>>);

static ENDED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Last {
    fn drop(&mut self) {
        use_the_allocator(1);
        self.0.borrow_mut().clear();
        use_the_allocator(2);
        ENDED.fetch_add(1, Relaxed);
    }
}

thread_local! {
    static EARLY: Last = const { Last(RefCell::new(Vec::new())) };
    static LATE: Last = const { Last(RefCell::new(Vec::new())) };
}

pub(crate) static EXCHANGE: Exchange = Exchange::new();

extern "C" fn life(seed: *mut libc::c_void) -> *mut libc::c_void {
    // Registered before the thread's first request, so it is destroyed after the thread's cache.
    EARLY.with(|early| assert!(early.0.borrow().is_empty()));
    traffic::work(seed.addr() as u64, 50, 20 << 10, &EXCHANGE);
    // Registered after it, so it is destroyed before.
    for last in [&LATE, &EARLY] {
        last.with(|last| last.0.borrow_mut().extend((0..20).map(|i| Block::new(layout(1 + 50 * i, 8), i as u64))));
    }
    ptr::null_mut()
}

/// So many threads that allocate from their first step to their last. They are not of the standard library, where one would
/// allocate before we could.
pub(crate) fn wave(threads: usize) {
    // SAFETY: a number or a pointer, neither of which is looked at before it was written.
    let mut wave: Vec<libc::pthread_t> = vec![unsafe { std::mem::zeroed() }; threads];
    for (seed, thread) in wave.iter_mut().enumerate() {
        // SAFETY: the function is one for threads, and takes any pointer for a number.
        let failed = unsafe { libc::pthread_create(thread, ptr::null(), life, ptr::without_provenance_mut(seed)) };
        assert_eq!(failed, 0, "a thread");
    }
    for thread in wave {
        // SAFETY: it was created just now, and is joined once.
        assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
    }
}

#[test]
fn threads_allocate_to_their_end() {
    let before = ENDED.load(Relaxed);
    (0..20).for_each(|_| wave(8));
    assert_eq!(ENDED.load(Relaxed) - before, 2 * 20 * 8, "destructors ran");
}

#[test]
fn the_allocator_works_at_exit() {
    static KEPT: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    extern "C" fn at_exit() {
        KEPT.lock().expect("no panic").clear();
        use_the_allocator(2);
        // SAFETY: ends the process.
        unsafe { libc::_exit(7) };
    }
    let end = in_child(
        0,
        |_| (),
        || {
            KEPT.lock().expect("no panic").extend((0..1000).map(|i| Block::new(layout(1 + 50 * i, 8), i as u64)));
            // SAFETY: the function is there for ever.
            assert_eq!(unsafe { libc::atexit(at_exit) }, 0);
        },
    );
    assert!(end.is_none_or(|output| output.status.code() == Some(7)));
}
