//! Threads of the host: small stacks, many at once, ends that cannot be seen, and what they count.

use std::alloc::GlobalAlloc;
use std::sync::Barrier;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::{ptr, thread};

use crate::GLOBAL;
use crate::block::Block;
use crate::case::{Case, case, succeeds};
use crate::common::{layout, ops};
use crate::host::{MIB, has_two_threads, threads, waste};
use crate::lives::use_the_allocator;
use crate::process::{told, within};
use crate::stderr::lines;

/// Runs a function on a thread with a stack of so many bytes.
fn on_a_stack_of(bytes: usize, body: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void) {
    // SAFETY: all pointers are to locals that outlive the calls; the thread is joined once.
    unsafe {
        let (mut attributes, mut thread) = (std::mem::zeroed(), std::mem::zeroed());
        assert_eq!(libc::pthread_attr_init(&raw mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstacksize(&raw mut attributes, bytes), 0);
        assert_eq!(libc::pthread_create(&raw mut thread, &raw const attributes, body, ptr::null_mut()), 0);
        assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
    }
}

fn requests_work_on_a_stack_of_16_kib() {
    /// Each kind of request, plainly: the harness's own blocks would take more of the stack than the heap.
    extern "C" fn body(_: *mut libc::c_void) -> *mut libc::c_void {
        for size in [10, 1000, 40_000, 100_000, 20 * MIB] {
            let (before, after) = (layout(size, 8), layout(size + 1, 8));
            // SAFETY: a block is freed with the layout that it has.
            unsafe {
                let block = GLOBAL.alloc(before);
                let block = GLOBAL.realloc(block, before, size + 1);
                let block = GLOBAL.realloc(block, after, 3 * size);
                let zeroed = GLOBAL.alloc_zeroed(before);
                assert!(!block.is_null() && !zeroed.is_null());
                block.write_bytes(1, 3 * size);
                GLOBAL.dealloc(zeroed, before);
                GLOBAL.dealloc(block, layout(3 * size, 8));
            }
        }
        GLOBAL.trim();
        ptr::null_mut()
    }
    for _ in 0..20 {
        on_a_stack_of(libc::PTHREAD_STACK_MIN, body);
    }
}

fn threads_that_were_many_at_once_leave_nothing_behind() {
    let many = ops(1000).min(1000);
    let wave = || {
        let all = Barrier::new(many + 1);
        thread::scope(|scope| {
            for id in 0..many {
                let (all, builder) = (&all, thread::Builder::new().stack_size(64 << 10));
                let body = move || {
                    drop((0..20).map(|i| Block::new(layout(10 << (i % 8), 8), id as u64)).collect::<Vec<_>>());
                    all.wait();
                };
                builder.spawn_scoped(scope, body).expect("a thread");
            }
            all.wait();
        });
        // A scope ends before its threads have.
        assert!(within(Duration::from_secs(30), || threads() == 1));
        GLOBAL.trim();
        (GLOBAL.stats().reserved_bytes, GLOBAL.stats().bytes_in_use)
    };
    has_two_threads();
    GLOBAL.trim();
    let (level, in_use) = (GLOBAL.stats().reserved_bytes, GLOBAL.stats().bytes_in_use);
    let (reserved, still) = wave();
    // Eight spare caches, and blocks of the standard library's in slabs of their own.
    assert!(reserved < level + 2 * MIB, "{level} bytes were reserved, now it is {reserved}");
    assert!(still < in_use + MIB);
    assert!(wave().0 < level + 2 * MIB);
}

pub(crate) static LAST_KEY: AtomicU32 = AtomicU32::new(0);

fn threads_are_served_though_their_ends_cannot_be_seen() {
    // The standard library needs one itself.
    // SAFETY: it was made, and nobody uses it.
    assert_eq!(unsafe { libc::pthread_key_delete(LAST_KEY.load(Relaxed)) }, 0);
    for _ in 0..10 {
        let thread = thread::spawn(|| use_the_allocator(1));
        use_the_allocator(2);
        thread.join().expect("no panic");
    }
    waste();
    GLOBAL.trim();
    let stats = GLOBAL.stats();
    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes, stats.reserved_bytes);
}

fn a_block_that_a_thread_resizes_within_its_class_stays_counted() {
    // Statistics take memory themselves.
    let counts = || {
        let stats = GLOBAL.stats();
        (stats.bytes_in_use, stats.bytes_allocated, stats.peak_bytes_in_use)
    };
    // So much that a peak of today's is one of all times.
    let kept = Block::new(layout(MIB, 8), 1);
    counts();
    let before = counts();
    let own = counts().1 - before.1;
    let resize = |block: *mut u8, old: usize, new: usize| {
        // SAFETY: the block has the old layout.
        let same = unsafe { GLOBAL.realloc(block, layout(old, 8), new) };
        assert_eq!(same, block, "in place");
    };
    // SAFETY: no size is zero; a block is freed with the layout that it has.
    unsafe {
        let block = GLOBAL.alloc(layout(900, 8));
        resize(block, 900, 1000);
        let now = counts();
        assert_eq!((now.0 - before.0, now.1 - before.1), (1000, 1000 + 2 * own));
        resize(block, 1000, 901);
        let now = counts();
        assert_eq!((now.0 - before.0, now.1 - before.1), (901, 1000 + 3 * own));
        GLOBAL.dealloc(block, layout(901, 8));
    }
    assert_eq!(counts().0, before.0);
    assert!(kept.is_intact());
}

pub(crate) const CASES: &[Case] = &[
    case("requests_work_on_a_stack_of_16_kib", requests_work_on_a_stack_of_16_kib),
    case("threads_that_were_many_at_once_leave_nothing_behind", threads_that_were_many_at_once_leave_nothing_behind),
    Case {
        environment: &[("TENZOR_TEST", "no keys")],
        end: |end| {
            succeeds(end);
            assert_eq!(lines(end).len(), 1, "{}", told(end));
        },
        ..case(
            "threads_are_served_though_their_ends_cannot_be_seen",
            threads_are_served_though_their_ends_cannot_be_seen,
        )
    },
    case(
        "a_block_that_is_resized_within_its_class_stays_counted",
        a_block_that_a_thread_resizes_within_its_class_stays_counted,
    ),
];
