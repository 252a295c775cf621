//! What becomes of idle memory, and of the thread that gives it back: there is one only once the program has two itself, and it is no burden.

use std::sync::{Barrier, mpsc};
use std::time::Duration;
use std::{fs, io, ptr, thread};

use tenzor_memory::{Background, HeapConfig, Origin, Pages};

use crate::GLOBAL;
use crate::block::Block;
use crate::case::{Case, case};
use crate::common::layout;
use crate::host::{
    MIB, decays_within, has_two_threads, purgers, refuse, slow_requests_give_it_back, small_request, status, threads,
    waste,
};
use crate::lives::use_the_allocator;
use crate::process::{resident, rollup, within};

fn a_program_with_one_thread_keeps_one() {
    assert_eq!(threads(), 1, "the test's own");
    waste();
    // SAFETY: a plain call, about the calling thread.
    let entered = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    let error = io::Error::last_os_error();
    // It may be forbidden, but not because there is a second thread.
    assert!(entered == 0 || error.raw_os_error() != Some(libc::EINVAL), "{error}");
    for _ in 0..20 {
        waste();
        thread::sleep(Duration::from_millis(20));
        assert_eq!(threads(), 1);
    }
    // Each look at what is resident is a request that could give something back.
    let level = resident();
    assert!(within(Duration::from_secs(30), || resident() + 90 * MIB < level), "{}", GLOBAL.stats());
    assert_eq!(threads(), 1);
}

fn a_small_request_now_and_then_gives_memory_back() {
    GLOBAL.configure(&decays_within(1000));
    waste();
    assert!(slow_requests_give_it_back(Duration::from_millis(500)), "{}", GLOBAL.stats());
    // A thread that was fast, and is slow now, notices.
    waste();
    let level = GLOBAL.stats().reserved_bytes;
    (0..1000).for_each(|_| small_request());
    for _ in 0..140 {
        thread::sleep(Duration::from_millis(60));
        small_request();
    }
    assert!(GLOBAL.stats().reserved_bytes + 90 * MIB < level, "{}", GLOBAL.stats());
    assert_eq!(threads(), 1);
}

/// Whether huge pages are wanted here, and the system makes one of small ones when it is asked to.
fn has_huge_pages() -> bool {
    let enabled = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    if enabled.is_empty() || enabled.contains("[never]") {
        return false;
    }
    let bytes = 4 * MIB;
    // SAFETY: a new mapping, and a huge page's range within it; nobody else knows of it.
    unsafe {
        let all = libc::PROT_READ | libc::PROT_WRITE;
        let start = libc::mmap(ptr::null_mut(), bytes, all, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        assert_ne!(start, libc::MAP_FAILED);
        start.cast::<u8>().write_bytes(1, bytes);
        let unit = start.map_addr(|addr| addr.next_multiple_of(2 * MIB));
        let made = libc::madvise(unit, 2 * MIB, libc::MADV_COLLAPSE) == 0;
        assert_eq!(libc::munmap(start, bytes), 0);
        made
    }
}

fn small_pages_come_onto_huge_ones_though_nothing_is_to_be_given_back() {
    let on_huge_pages = || rollup("AnonHugePages:");
    if !has_huge_pages() {
        println!("the system makes no huge pages: not tried");
        return;
    }
    GLOBAL.configure(&decays_within(400));
    thread::spawn(small_request).join().expect("no panic");
    // The first of its size: nobody knew that it would be filled.
    let block = Block::new(layout(64 * MIB, 64), 1);
    assert!(on_huge_pages() < 32 * MIB);
    let grew = within(Duration::from_secs(30), || {
        // More than a thread keeps.
        drop(Block::new(layout(MIB, 8), 1));
        on_huge_pages() > 48 * MIB
    });
    assert!(grew, "{} MiB are on huge pages", on_huge_pages() / MIB);
    assert!(purgers().is_empty(), "no thread is needed for that");
    drop(block);
}

/// More than a thread keeps for itself, but for what it freed last.
const LARGE: usize = 900_000;

fn large_blocks_that_threads_keep_go_back() {
    let is_kept = || Pages.footprint().cached_bytes >= LARGE;
    let use_one = || drop(Block::new(layout(LARGE, 8), 1));
    GLOBAL.configure(&decays_within(400));
    waste();
    use_one();
    assert!(is_kept());
    let goes_back = || {
        within(Duration::from_secs(30), || {
            (0..100).for_each(|_| small_request());
            !is_kept()
        })
    };
    assert!(goes_back(), "{}", Pages.footprint());
    // Another one sleeps, and its own requests do nothing for it.
    GLOBAL.configure(&decays_within(600_000));
    let together = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            together.wait();
            use_one();
            together.wait();
            together.wait();
        });
        together.wait();
        together.wait();
        assert!(is_kept());
        GLOBAL.configure(&decays_within(400));
        waste();
        assert!(goes_back(), "{}", Pages.footprint());
        GLOBAL.configure(&decays_within(600_000));
        // One was of no use, so a free goes by.
        (0..3).for_each(|_| use_one());
        assert!(is_kept());
        GLOBAL.trim();
        assert!(!is_kept(), "{}", Pages.footprint());
        together.wait();
    });
}

fn without_a_thread_memory_goes_back_in_calls() {
    has_two_threads();
    GLOBAL.configure(&decays_within(400));
    assert_eq!(GLOBAL.config().background.origin, Origin::Environment);
    waste();
    assert!(slow_requests_give_it_back(Duration::from_millis(200)), "{}", GLOBAL.stats());
    assert_eq!(threads(), 1);
    // The thread that left it idle sleeps; others do it.
    let (sleep, wake) = mpsc::channel::<()>();
    let level = GLOBAL.stats().reserved_bytes;
    let sleeper = thread::spawn(move || {
        waste();
        wake.recv().ok();
    });
    let back = within(Duration::from_secs(30), || GLOBAL.stats().reserved_bytes < level + 10 * MIB);
    drop(sleep);
    sleeper.join().expect("no panic");
    assert!(back && purgers().is_empty(), "{}", GLOBAL.stats());
}

fn a_thread_that_is_refused_is_not_missed() {
    has_two_threads();
    GLOBAL.configure(&decays_within(400));
    for (round, error) in [libc::EPERM, libc::EAGAIN, libc::ENOSYS].into_iter().enumerate() {
        refuse(&[libc::SYS_clone, libc::SYS_clone3], error);
        for _ in 0..3 {
            waste();
        }
        assert!(slow_requests_give_it_back(Duration::from_millis(200)), "round {round}: {}", GLOBAL.stats());
        assert_eq!(threads(), 1);
        use_the_allocator(round as u64);
    }
}

fn the_thread_is_there_once_the_program_has_a_second_one_and_is_no_burden() {
    GLOBAL.configure(&decays_within(2000));
    let allowed = status("", "Cpus_allowed_list");
    waste();
    assert_eq!(threads(), 1);
    has_two_threads();
    // Whoever starts it is pinned, has a name, and precedence over all ordinary threads if the system lets it.
    // SAFETY: plain calls about the calling thread; all zero is a set without processors.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
        libc::prctl(libc::PR_SET_NAME, c"important".as_ptr());
        let level = libc::sched_param { sched_priority: 1 };
        if libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const level) != 0 {
            println!("the system does not let this process have SCHED_FIFO: not tried");
        }
    }
    waste();
    assert!(within(Duration::from_secs(30), || !purgers().is_empty()), "there is none");
    thread::sleep(Duration::from_millis(100));
    let purger = purgers().pop().expect("it is there");
    assert_eq!(threads(), 2);
    assert_eq!(status(&purger, "Cpus_allowed_list"), allowed);
    let blocked = u64::from_str_radix(&status(&purger, "SigBlk"), 16).expect("a mask");
    // All but those of the C library's own, and the two that cannot be blocked.
    assert_eq!(!blocked & !(1 << 31 | 1 << 32 | 1 << 33) & !(1 << 8) & !(1 << 18), 0, "{blocked:x}");
    let stat = fs::read_to_string(format!("/proc/self/{purger}/stat")).expect("Linux tells");
    let policy = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(41 - 3));
    assert_eq!(policy, Some("0"), "SCHED_OTHER");
    let level = GLOBAL.stats().reserved_bytes;
    // It is seen without making a request that could give something back.
    thread::sleep(Duration::from_secs(6));
    assert!(GLOBAL.stats().reserved_bytes + 90 * MIB < level, "{}", GLOBAL.stats());
    assert!(within(Duration::from_secs(30), || threads() == 1), "it does not end");
}

fn the_thread_comes_and_goes_as_the_program_says() {
    GLOBAL.configure(&decays_within(300).with_background(true));
    waste();
    assert!(within(Duration::from_secs(30), || purgers().len() == 1), "there is none");
    GLOBAL.configure(&HeapConfig::new().with_background(false));
    assert!(within(Duration::from_secs(30), || purgers().is_empty()), "it stays");
    // Whoever looked for it was fast, and is slow now.
    assert!(slow_requests_give_it_back(Duration::from_millis(50)), "{}", GLOBAL.stats());
    for _ in 0..3 {
        GLOBAL.configure(&HeapConfig::new().with_background(Background::Always));
        waste();
        thread::sleep(Duration::from_millis(30));
        GLOBAL.configure(&HeapConfig::new().with_background(Background::Never));
        waste();
        assert!(purgers().len() <= 3);
    }
    GLOBAL.configure(&HeapConfig::new().with_background(Background::Auto));
    assert!(within(Duration::from_secs(30), || threads() == 1));
}

pub(crate) const CASES: &[Case] = &[
    case("a_program_with_one_thread_keeps_one", a_program_with_one_thread_keeps_one),
    case("a_small_request_now_and_then_gives_memory_back", a_small_request_now_and_then_gives_memory_back),
    Case {
        environment: &[("TENZOR_BACKGROUND", "0")],
        ..case("without_a_thread_memory_goes_back_in_calls", without_a_thread_memory_goes_back_in_calls)
    },
    case("large_blocks_that_threads_keep_go_back", large_blocks_that_threads_keep_go_back),
    case(
        "small_pages_come_onto_huge_ones_though_nothing_is_to_be_given_back",
        small_pages_come_onto_huge_ones_though_nothing_is_to_be_given_back,
    ),
    case("a_thread_that_is_refused_is_not_missed", a_thread_that_is_refused_is_not_missed),
    case("the_thread_is_no_burden", the_thread_is_there_once_the_program_has_a_second_one_and_is_no_burden),
    case("the_thread_comes_and_goes_as_the_program_says", the_thread_comes_and_goes_as_the_program_says),
];
