//! What the heap does to the process that it is a guest of: threads, their stacks and ends, forks, standard error, settings.
//!
//! Each case is a process of its own, which has one thread until it wants more: this program runs itself.
#![allow(unsafe_code, missing_docs, dead_code, clippy::expect_used, clippy::panic)]

#[path = "global/block.rs"]
mod block;
mod common;
#[allow(unused_imports)]
#[path = "global/forks.rs"]
mod forks;
#[allow(unused_imports)]
#[path = "global/lives.rs"]
mod lives;
#[path = "global/process.rs"]
mod process;
#[path = "global/traffic.rs"]
mod traffic;

use std::alloc::GlobalAlloc;
use std::ffi::CStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::{Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs, io, panic, ptr, thread};

use tenzor_memory::{Background, HeapConfig, Origin, TenzorMalloc};

use block::{Block, any_layout};
use common::{layout, ops};
use forks::forked;
use lives::use_the_allocator;
use process::{resident, rollup, told, within};
use traffic::Exchange;

#[global_allocator]
static GLOBAL: TenzorMalloc = TenzorMalloc::new();

/// What a process does, in which environment, and how it ends.
struct Case {
    name: &'static str,
    environment: &'static [(&'static str, &'static str)],
    body: fn(),
    end: fn(&Output),
}

const fn case(name: &'static str, body: fn()) -> Case {
    Case { name, environment: &[], body, end: succeeds }
}

fn succeeds(end: &Output) {
    assert!(end.status.success() && String::from_utf8_lossy(&end.stdout).contains("to the end"), "{}", told(end));
}

const PATIENCE: Duration = Duration::from_secs(180);

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == "--case"
    {
        let case = CASES.iter().find(|case| case.name == name).expect("a case");
        (case.body)();
        println!("to the end");
        return;
    }
    let wanted = wanted(&arguments);
    let cases: Vec<&Case> = CASES.iter().filter(|case| wanted(case.name)).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // They wait most of the time.
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    let line = judge(case).unwrap_or_else(|| {
                        failed.fetch_add(1, Relaxed);
                        "FAILED".to_owned()
                    });
                    println!("case {} ... {line}", case.name);
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "cases failed");
}

/// So many cases run at the same time.
const AT_ONCE: usize = 3;

/// As the harness of tests does: names that contain one of the words are run, and none that contains a word after `--skip`. All are called
/// `guest::…`.
fn wanted(arguments: &[String]) -> impl Fn(&str) -> bool {
    let (mut words, mut skipped) = (vec![], vec![]);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--skip" => skipped.extend(arguments.next()),
            flag if flag.starts_with('-') => {}
            _ => words.push(argument),
        }
    }
    move |name| {
        let name = format!("guest::{name}");
        let contains = |word: &&String| name.contains(word.as_str());
        (words.is_empty() || words.iter().any(&contains)) && !skipped.iter().any(&contains)
    }
}

/// Runs a case in a process of its own; what is to be said of it, or nothing if it failed.
fn judge(case: &Case) -> Option<String> {
    let mut command = Command::new(env::current_exe().expect("this program"));
    let start = Instant::now();
    let end = run(command.args(["--case", case.name]).envs(case.environment.iter().copied()));
    panic::catch_unwind(|| (case.end)(&end)).ok()?;
    let said = String::from_utf8_lossy(&end.stdout);
    let untried: String =
        said.lines().filter(|line| line.ends_with("not tried")).map(|line| format!("{line} ... ")).collect();
    Some(format!("{untried}ok, {:.1} s", start.elapsed().as_secs_f64()))
}

fn run(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().expect("it runs still");
            panic!("it hangs: {}", told(&child.wait_with_output().expect("its output")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

const MIB: usize = 1 << 20;

/// Frees 100 MiB.
fn waste() {
    drop((0..100).map(|i| Block::new(layout(MIB, 8), i)).collect::<Vec<_>>());
}

fn decays_within(decay: u64) -> HeapConfig {
    HeapConfig::new().with_decay(Duration::from_millis(decay))
}

/// What the system says of the process, or of one of its threads.
fn status(thread: &str, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/self/{thread}/status")).expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.trim_start_matches(':').trim().to_owned()
}

fn threads() -> usize {
    status("", "Threads").parse().expect("a number")
}

/// The threads that are the heap's.
fn purgers() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux tells").flatten();
    let threads = tasks.map(|task| format!("task/{}", task.file_name().display()));
    threads.filter(|thread| status(thread, "Name") == "tenzor-purge").collect()
}

/// From now on the system refuses some calls.
fn refuse(calls: &[libc::c_long], error: i32) {
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![instruction(0x20, 0, 0, 0)];
    for &call in calls {
        filter.push(instruction(0x15, 0, 1, call as u32));
        filter.push(instruction(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32));
    }
    filter.push(instruction(0x06, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is as long as it says, and outlives the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

fn has_two_threads() {
    thread::spawn(|| use_the_allocator(1)).join().expect("no panic");
}

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
    assert!(within(Duration::from_secs(20), || resident() + 90 * MIB < level), "{}", GLOBAL.stats());
    assert_eq!(threads(), 1);
}

/// A hit of the thread's cache, if it made one before.
fn small_request() {
    drop(Block::new(layout(40, 8), 1));
}

/// Small requests at a slow pace, each a hit of the thread's cache; returns whether they gave the wasted memory back.
fn slow_requests_give_it_back(pause: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < 20 * pause || start.elapsed() < Duration::from_secs(6) {
        thread::sleep(pause);
        small_request();
    }
    GLOBAL.stats().pooled_bytes < 10 * MIB
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
    let grew = within(Duration::from_secs(20), || {
        drop(Block::new(layout(100_000, 8), 1));
        on_huge_pages() > 48 * MIB
    });
    assert!(grew, "{} MiB are on huge pages", on_huge_pages() / MIB);
    assert!(purgers().is_empty(), "no thread is needed for that");
    drop(block);
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
    let back = within(Duration::from_secs(10), || GLOBAL.stats().reserved_bytes < level + 10 * MIB);
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
    assert!(within(Duration::from_secs(2), || !purgers().is_empty()), "there is none");
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
    assert!(within(Duration::from_secs(10), || threads() == 1), "it does not end");
}

fn the_thread_comes_and_goes_as_the_program_says() {
    GLOBAL.configure(&decays_within(300).with_background(true));
    waste();
    assert!(within(Duration::from_secs(1), || purgers().len() == 1), "there is none");
    GLOBAL.configure(&HeapConfig::new().with_background(false));
    assert!(within(Duration::from_secs(3), || purgers().is_empty()), "it stays");
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
    assert!(within(Duration::from_secs(5), || threads() == 1));
}

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
        assert!(within(Duration::from_secs(10), || threads() == 1));
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

/// Before all constructors, the heap's own included, what some cases need. The environment is not in place yet, but passed.
#[used]
#[unsafe(link_section = ".preinit_array")]
static FIRST: extern "C" fn(i32, *const *const libc::c_char, *const *const libc::c_char) = {
    extern "C" fn first(_: i32, _: *const *const libc::c_char, mut variables: *const *const libc::c_char) {
        // SAFETY: the array ends with a null, each text with a zero. The functions are there for ever.
        unsafe {
            while !(*variables).is_null() {
                match CStr::from_ptr(*variables).to_bytes() {
                    // So these run while the thread that forks holds the heap's lock, before it in the parent and in the child.
                    b"TENZOR_TEST=handlers" => {
                        libc::pthread_atfork(Some(handler), Some(handler), Some(handler));
                    }
                    // Here it waits for who waits for the heap.
                    b"TENZOR_TEST=a lock" => {
                        libc::pthread_atfork(Some(take_outer), Some(leave_outer), Some(leave_outer));
                    }
                    b"TENZOR_TEST=no keys" => {
                        let mut key = 0;
                        while libc::pthread_key_create(&raw mut key, None) == 0 {
                            LAST_KEY.store(key, Relaxed);
                        }
                    }
                    _ => {}
                }
                variables = variables.add(1);
            }
        }
    }
    first
};

static LAST_KEY: AtomicU32 = AtomicU32::new(0);
static HANDLED: AtomicUsize = AtomicUsize::new(0);
static KEPT: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// Uses the allocator in every way.
unsafe extern "C" fn handler() {
    let number = HANDLED.fetch_add(1, Relaxed);
    use_the_allocator(number as u64);
    // Freed by a later one, on another side of the lock.
    let mut kept = KEPT.lock().expect("no panic");
    let block = Block::new(any_layout(&mut fastrand::Rng::with_seed(number as u64), 300 << 10), number as u64);
    kept.push(block);
    if kept.len() > 4 {
        kept.remove(0);
    }
    let stats = GLOBAL.stats();
    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes, stats.reserved_bytes);
    if number.is_multiple_of(16) {
        GLOBAL.trim();
    }
    if number.is_multiple_of(8) {
        // It may have to wait until the fork is over.
        thread::spawn(move || use_the_allocator(number as u64));
    }
}

fn handlers_around_forks_may_use_the_allocator() {
    // SAFETY: the function is there for ever.
    assert_eq!(unsafe { libc::pthread_atfork(Some(handler), Some(handler), Some(handler)) }, 0);
    let exchange = Exchange::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for id in 0..8 {
            let (exchange, done) = (&exchange, &done);
            scope.spawn(move || {
                // SAFETY: a plain call; it is about the calling thread.
                unsafe { libc::nice(10) };
                while !done.load(Relaxed) {
                    traffic::work(id, 1000, 100 << 10, exchange);
                }
            });
        }
        for _ in 0..(ops(10_000_000) / 20_000).clamp(20, 500) {
            let before = HANDLED.load(Relaxed);
            forked(|| {
                assert_eq!(HANDLED.load(Relaxed) - before, 4, "two before the fork and two in the child");
                use_the_allocator(1);
                thread::spawn(|| use_the_allocator(2)).join().expect("no panic");
                GLOBAL.trim();
            });
            assert_eq!(HANDLED.load(Relaxed) - before, 4);
        }
        done.store(true, Relaxed);
    });
}

/// A library's lock, held while the process forks.
static OUTER: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn take_outer() {
    while OUTER.compare_exchange(false, true, Acquire, Relaxed).is_err() {
        thread::yield_now();
    }
}

unsafe extern "C" fn leave_outer() {
    OUTER.store(false, Release);
}

/// Does something under the library's lock.
fn under_outer(body: impl FnOnce()) {
    // SAFETY: plain functions.
    unsafe { take_outer() };
    body();
    // SAFETY: as above.
    unsafe { leave_outer() };
}

fn a_fork_waits_for_who_waits_for_the_heap() {
    let exchange = Exchange::new();
    let done = AtomicBool::new(false);
    let in_use = GLOBAL.stats().bytes_in_use;
    thread::scope(|scope| {
        for id in 0..4 {
            let (exchange, done) = (&exchange, &done);
            scope.spawn(move || {
                for round in 0.. {
                    if done.load(Relaxed) {
                        break;
                    }
                    under_outer(|| match (id, round % 8) {
                        // Its end is waited for.
                        (0, 0) => thread::spawn(move || use_the_allocator(round)).join().expect("no panic"),
                        (1, _) => {
                            let mut block = Block::zeroed(layout(40 * MIB, 8), round);
                            block.resize(50 * MIB);
                        }
                        _ => traffic::work(id, 20, 300 << 10, exchange),
                    });
                    thread::sleep(Duration::from_micros(100));
                }
            });
        }
        for round in 0..(ops(10_000_000) / 500_000).clamp(5, 20) as u64 {
            forked(|| {
                use_the_allocator(round);
                under_outer(|| thread::spawn(|| use_the_allocator(2)).join().expect("no panic"));
            });
        }
        done.store(true, Relaxed);
    });
    drop(exchange);
    let stats = GLOBAL.stats();
    assert!(stats.bytes_in_use.abs_diff(in_use) < 20_000, "{stats}");
    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes, stats.reserved_bytes, "{stats}");
}

fn a_forks_child_counts_what_it_has() {
    let (to_main, blocks) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        // Hits of a cache that nobody has settled.
        drop((0..50).map(|i| Block::new(layout(500, 8), i)).collect::<Vec<_>>());
        to_main.send((0..20).map(|i| Block::new(layout(500, 8), i)).collect::<Vec<_>>()).expect("a receiver");
        wait.recv().ok();
    });
    let blocks = blocks.recv().expect("a sender");
    let before = GLOBAL.stats();
    forked(move || {
        let now = GLOBAL.stats();
        assert!(now.bytes_in_use.abs_diff(before.bytes_in_use) < 10_000, "{before}\n{now}");
        drop(blocks); // Freed here, where nobody has allocated them.
        let then = GLOBAL.stats();
        assert!(now.bytes_in_use - then.bytes_in_use >= 20 * 500, "{now}\n{then}");
        assert_eq!(then.bytes_in_use_rounded + then.pooled_bytes, then.reserved_bytes);
        assert!(then.buckets.iter().all(|row| row.buffers_in_use < 1 << 40), "{then}");
        let cached: usize = then.buckets.iter().map(|row| row.pooled_bytes).sum();
        assert!(cached < 320 << 10, "what other threads had cached is not: {then}");
        // Single-threaded again.
        waste();
        assert_eq!(threads(), 1);
    });
    drop(go_on);
    thread.join().expect("no panic");
}

fn a_child_without_a_purge_thread_gives_memory_back_itself() {
    has_two_threads();
    GLOBAL.configure(&decays_within(1000));
    waste();
    assert!(within(Duration::from_secs(1), || !purgers().is_empty()), "there is none");
    forked(|| {
        assert!(slow_requests_give_it_back(Duration::from_millis(500)), "{}", GLOBAL.stats());
        assert_eq!(threads(), 1);
    });
}

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

/// What the heap said on standard error.
fn lines(end: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&end.stderr);
    text.lines().filter(|line| line.starts_with("tenzor: ")).map(str::to_owned).collect()
}

/// Frees a block twice, and ends by that.
fn misuse() {
    let layout = layout(100_000, 8);
    // SAFETY: none for the second free. That is the point.
    unsafe {
        let block = GLOBAL.alloc(layout);
        GLOBAL.dealloc(block, layout);
        GLOBAL.dealloc(block, layout);
    }
}

/// It had so many lines to say, the last of them on its misuse.
fn ends_by_misuse(end: &Output, said: usize) {
    assert_eq!(end.status.signal(), Some(libc::SIGABRT), "{}", told(end));
    assert_eq!(lines(end).len(), said, "{}", told(end));
}

/// Where standard error was, there is another file.
fn misuse_behind_standard_errors_back() {
    let path = c"/proc/self/fd/1";
    let out = fs::metadata("/proc/self/fd/1").expect("Linux tells").ino();
    // SAFETY: the path ends with a zero; the number of standard error becomes another file's.
    unsafe {
        libc::close(2);
        assert_eq!(libc::open(path.as_ptr(), libc::O_WRONLY), 2, "{}", io::Error::last_os_error());
    }
    assert_eq!(fs::metadata("/proc/self/fd/2").expect("Linux tells").ino(), out);
    misuse();
}

/// Standard error is a pipe whose reader is gone: that raises a signal for who writes, and ends the process.
fn misuse_that_nobody_reads_of() {
    if env::var("TENZOR_TEST").is_ok_and(|word| word == "unread") {
        // SAFETY: the default is what a program has that is not written in Rust.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        misuse();
    }
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--case", "a_line_raises_no_signal"]).env("TENZOR_TEST", "unread").stderr(writer);
    let mut child = command.stdin(Stdio::null()).spawn().expect("it starts");
    drop((reader, command));
    assert_eq!(child.wait().expect("a child").signal(), Some(libc::SIGABRT));
}

/// A copy of this program that runs with its file's privileges is started with a limit in its environment.
fn privileged_programs_heed_no_environment() {
    if env::var("TENZOR_TEST").is_ok_and(|word| word == "privileged") {
        // SAFETY: a plain query.
        if unsafe { libc::getauxval(libc::AT_SECURE) } == 0 {
            println!("the system does not heed the bit: not tried");
            return;
        }
        assert_eq!(GLOBAL.config().limit.origin, Origin::Default);
        assert!(Block::try_new(layout(100 * MIB, 8), 1).is_some());
        return;
    }
    let nobody = 65534;
    let copy = env::temp_dir().join(format!("tenzor-test-{}", std::process::id()));
    let made = fs::copy(env::current_exe().expect("this program"), &copy)
        .and_then(|_| std::os::unix::fs::chown(&copy, Some(nobody), Some(nobody)))
        .and_then(|()| fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)))
        .and_then(|()| fs::metadata(&copy));
    if made.is_ok_and(|made| made.uid() == nobody && made.mode() & 0o4000 != 0) {
        let mut command = Command::new(&copy);
        command.args(["--case", "privileged_programs_heed_no_environment"]);
        let end = run(command.env("TENZOR_TEST", "privileged").env("TENZOR_LIMIT", "40M"));
        fs::remove_file(&copy).expect("it is there");
        print!("{}", String::from_utf8_lossy(&end.stdout));
        succeeds(&end);
    } else {
        fs::remove_file(&copy).ok();
        println!("this user cannot make a set-uid program of another's: not tried");
    }
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

const CASES: &[Case] = &[
    case("a_program_with_one_thread_keeps_one", a_program_with_one_thread_keeps_one),
    case("a_small_request_now_and_then_gives_memory_back", a_small_request_now_and_then_gives_memory_back),
    Case {
        environment: &[("TENZOR_BACKGROUND", "0")],
        ..case("without_a_thread_memory_goes_back_in_calls", without_a_thread_memory_goes_back_in_calls)
    },
    case(
        "small_pages_come_onto_huge_ones_though_nothing_is_to_be_given_back",
        small_pages_come_onto_huge_ones_though_nothing_is_to_be_given_back,
    ),
    case("a_thread_that_is_refused_is_not_missed", a_thread_that_is_refused_is_not_missed),
    case("the_thread_is_no_burden", the_thread_is_there_once_the_program_has_a_second_one_and_is_no_burden),
    case("the_thread_comes_and_goes_as_the_program_says", the_thread_comes_and_goes_as_the_program_says),
    case("requests_work_on_a_stack_of_16_kib", requests_work_on_a_stack_of_16_kib),
    case("threads_that_were_many_at_once_leave_nothing_behind", threads_that_were_many_at_once_leave_nothing_behind),
    Case {
        environment: &[("TENZOR_TEST", "handlers")],
        ..case("handlers_around_forks_may_use_the_allocator", handlers_around_forks_may_use_the_allocator)
    },
    Case {
        environment: &[("TENZOR_TEST", "a lock")],
        ..case("a_fork_waits_for_who_waits_for_the_heap", a_fork_waits_for_who_waits_for_the_heap)
    },
    case("a_forks_child_counts_what_it_has", a_forks_child_counts_what_it_has),
    case(
        "a_child_without_a_purge_thread_gives_memory_back_itself",
        a_child_without_a_purge_thread_gives_memory_back_itself,
    ),
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
    Case { end: |end| ends_by_misuse(end, 1), ..case("misuse_has_a_line", misuse) },
    Case {
        environment: &[("TENZOR_LIMIT", "much")],
        end: |end| ends_by_misuse(end, 2),
        ..case("settings_that_make_no_sense_have_one", misuse)
    },
    Case {
        environment: &[("TENZOR_LIMIT", "much"), ("TENZOR_QUIET", "1")],
        end: |end| ends_by_misuse(end, 1),
        ..case("a_quiet_heap_says_what_is_fatal", misuse)
    },
    Case {
        end: |end| {
            ends_by_misuse(end, 0);
            assert_eq!(end.stdout, b"", "that is not standard error");
        },
        ..case("what_is_not_standard_error_any_more_gets_no_line", misuse_behind_standard_errors_back)
    },
    case("a_line_raises_no_signal", misuse_that_nobody_reads_of),
    case("privileged_programs_heed_no_environment", privileged_programs_heed_no_environment),
    case(
        "a_block_that_is_resized_within_its_class_stays_counted",
        a_block_that_a_thread_resizes_within_its_class_stays_counted,
    ),
];
