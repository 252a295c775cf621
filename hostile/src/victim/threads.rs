//! Threads: small ones, many, and those that the heap starts for itself.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tenzor_hostile::sys;
use tenzor_hostile::{cannot, ensure, wrong};

use crate::block::Block;
use crate::heap;
use crate::traffic::{self, Amount, Crew, Numbers, Traffic};

const MIB: usize = 1 << 20;

/// Starts a thread of the system's own kind with the least stack there is; std's need more.
fn small_thread(body: extern "C" fn(*mut c_void) -> *mut c_void) -> Option<libc::pthread_t> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = 0;
    // SAFETY: the attributes are made before they are used; the body takes nothing.
    let result = unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), libc::PTHREAD_STACK_MIN);
        let result = libc::pthread_create(&raw mut thread, attributes.as_ptr(), body, null_mut());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        result
    };
    (result == 0).then_some(thread)
}

fn join(thread: libc::pthread_t) {
    // SAFETY: started by `small_thread`, joined once.
    unsafe { libc::pthread_join(thread, null_mut()) };
}

/// First requests, of each kind, on stacks of 16 KiB.
pub fn stacks() {
    extern "C" fn body(_: *mut c_void) -> *mut c_void {
        for size in [24, 1000, 70_000, 5 * MIB] {
            let Some(mut block) = Block::new(size, 8, size as u64) else { wrong!("{size} bytes were refused") };
            ensure!(block.resize(2 * size), "{size} bytes could not grow");
            drop(block);
            drop(Block::zeroed(size, 1));
        }
        null_mut()
    }
    // Some at a time, and one by one.
    for count in [1, 1, 1, 50, 50] {
        let threads: Vec<_> = (0..count).filter_map(|_| small_thread(body)).collect();
        ensure!(threads.len() == count, "no threads with the least stack");
        threads.into_iter().for_each(join);
    }
    traffic::finish(Traffic::new(30, Amount::SOME), Crew::new(2), 0);
}

static STARTED: AtomicUsize = AtomicUsize::new(0);
/// The two ends of a pipe: threads wait at the first until the second is closed, which costs nobody any time.
static GATE: [AtomicI32; 2] = [AtomicI32::new(-1), AtomicI32::new(-1)];

/// So many threads alive at once, each of which makes a few requests: how long their start takes, and what stays after their end.
pub fn many(count: usize) {
    extern "C" fn body(_: *mut c_void) -> *mut c_void {
        let blocks = [40, 200, 1000, 3000].map(|size| Block::new(size, 8, size as u64));
        STARTED.fetch_add(1, SeqCst);
        let mut byte = 0_u8;
        // SAFETY: one byte at most is read into one; none ever comes.
        unsafe { libc::read(GATE[0].load(SeqCst), (&raw mut byte).cast(), 1) };
        drop(blocks);
        null_mut()
    }
    let mut ends = [-1; 2];
    // SAFETY: two descriptors are written.
    ensure!(unsafe { libc::pipe(ends.as_mut_ptr()) } == 0, "no pipe");
    GATE[0].store(ends[0], SeqCst);
    GATE[1].store(ends[1], SeqCst);
    let mut threads = Vec::with_capacity(count);
    let start = Instant::now();
    for number in 0..count {
        match small_thread(body) {
            Some(thread) => threads.push(thread),
            None => cannot!("the system starts no more than {number} threads"),
        }
    }
    while STARTED.load(SeqCst) < count {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("start={}", start.elapsed().as_micros());
    // SAFETY: the descriptor is this program's, and closed once.
    unsafe { libc::close(GATE[1].load(SeqCst)) };
    threads.into_iter().for_each(join);
    // What the threads had decays, as all that is free does.
    let mut least = sys::status("VmRSS");
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(100));
        drop(Block::new(100, 8, 1));
        least = least.min(sys::status("VmRSS"));
    }
    println!("resident={least}");
    traffic::finish(Traffic::new(31, Amount::SOME), Crew::new(1), 0);
}

/// Names of the process's threads but the first, with their numbers.
fn others() -> Vec<(String, i32)> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let own = std::process::id() as i32;
    tasks
        .flatten()
        .filter_map(|task| {
            let number: i32 = task.file_name().to_str()?.parse().ok()?;
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            (number != own).then(|| (name.trim().to_owned(), number))
        })
        .collect()
}

fn fill_and_free(bytes: usize) {
    let blocks: Vec<Block> = (0..bytes / MIB)
        .map(|number| Block::new(MIB, 64, number as u64).unwrap_or_else(|| wrong!("a MiB was refused")))
        .collect();
    blocks.iter().for_each(Block::soil);
}

/// A program with one thread keeps one, whatever it frees and however long it waits; what is freed goes back all the same, with one
/// small request now and then. `kill`: in a sandbox that kills on `clone`.
pub fn single(word: &str) {
    if word == "kill" && tenzor_hostile::filter::install("clone=KILL").is_err() {
        cannot!("no filter");
    }
    fill_and_free(100 * MIB);
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(10));
        let others = others();
        ensure!(others.is_empty(), "a program with one thread has {others:?} too");
    }
    let mut traffic = Traffic::new(32, Amount::MUCH);
    traffic.round(traffic::Refusals::None);
    traffic.free();
    fill_and_free(400 * MIB);
    let mut least = u64::MAX;
    // The decay is set to 500 ms from outside.
    for _ in 0..16 {
        std::thread::sleep(Duration::from_millis(250));
        drop(std::hint::black_box(Block::new(100, 8, 1)));
        drop(std::hint::black_box(Block::new(100 << 10, 8, 1)));
        least = least.min(sys::status("VmRSS"));
        let others = others();
        ensure!(others.is_empty(), "a program with one thread has {others:?} too");
    }
    println!("resident={least}");
    ensure!(least < 100 << 20, "400 MiB were freed 4 seconds ago, and {} MiB are resident", least >> 20);
    heap::consistent();
}

/// A tool with one thread frees a large file and enters a sandbox.
pub fn unshare() {
    fill_and_free(100 * MIB);
    if let Err(error) = sys::unshare_user() {
        wrong!("unshare: {error}");
    }
    traffic::finish(Traffic::new(33, Amount::SOME), Crew::new(0), 0);
}

/// A program with several threads frees much and then idles (`idle`), or makes a small request now and then (`calls`), or frees it
/// where no thread can be started any more (`refused`), or has one thread and idles (`alone`): whether a thread is started, and what goes
/// back.
pub fn idle(word: &str) {
    let crew = Crew::new(if word == "alone" { 0 } else { 2 });
    let mut traffic = Traffic::new(34, Amount::SOME);
    traffic::round(&mut traffic, &crew, 0, traffic::Refusals::None);
    traffic.free();
    if word == "refused" && tenzor_hostile::filter::install("clone=EAGAIN").is_err() {
        cannot!("no filter");
    }
    fill_and_free(400 * MIB);
    let mut purger = false;
    for _ in 0..16 {
        std::thread::sleep(Duration::from_millis(250));
        if word == "calls" || word == "refused" {
            drop(std::hint::black_box(Block::new(100, 8, 1)));
            drop(std::hint::black_box(Block::new(100 << 10, 8, 1)));
        }
        purger |= others().iter().any(|(name, _)| name == "tenzor-purge");
    }
    let resident = sys::status("VmRSS");
    println!("resident={resident}");
    println!("purger={}", u8::from(purger));
    crew.end();
    heap::consistent();
}

/// What the heap's thread is: by name, policy, affinity and signals, though the thread that starts it has other ones.
pub fn guest() {
    // At the heap's first request the process may run anywhere; the thread that frees is bound to one processor.
    // SAFETY: sets are plain bits, read and written here.
    let (mut all, mut one) = unsafe { (std::mem::zeroed::<libc::cpu_set_t>(), std::mem::zeroed::<libc::cpu_set_t>()) };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: as above.
    let first = unsafe {
        libc::sched_getaffinity(0, size, &raw mut all);
        (0..1024).find(|&cpu| libc::CPU_ISSET(cpu, &all))
    };
    let Some(first) = first else { cannot!("no affinity to be read") };
    // SAFETY: as above.
    unsafe { libc::CPU_SET(first, &mut one) };
    let crew = Crew::new(1);
    let mut numbers = Numbers::new(1);
    let freer = std::thread::Builder::new().name("of-the-host".into()).spawn(move || {
        let lowest = libc::sched_param { sched_priority: 1 };
        // SAFETY: only this thread's own scheduling changes.
        let fifo = unsafe {
            libc::sched_setaffinity(0, size, &raw const one);
            libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) == 0
        };
        fill_and_free(400 * MIB + numbers.below(2));
        std::thread::sleep(Duration::from_millis(100));
        fifo
    });
    let mut purger = None;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(10));
        purger = purger.or_else(|| others().into_iter().find(|(name, _)| name == "tenzor-purge"));
        if purger.is_some() {
            break;
        }
    }
    let names = others();
    let Some((_, number)) = purger else { wrong!("no thread is called tenzor-purge; there are {names:?}") };
    // SAFETY: asks only.
    let policy = unsafe { libc::sched_getscheduler(number) };
    ensure!(policy == libc::SCHED_OTHER, "the thread's policy is {policy}");
    // SAFETY: `one` is written.
    let same = unsafe {
        libc::sched_getaffinity(number, size, &raw mut one);
        libc::CPU_EQUAL(&one, &all)
    };
    ensure!(same, "the thread runs where the one runs that started it");
    let mut buffer = [0; 4096];
    let status = sys::read(&format!("/proc/self/task/{number}/status"), &mut buffer).unwrap_or("");
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).map_or("", str::trim);
    let blocked = u64::from_str_radix(blocked, 16).unwrap_or(0);
    // All but KILL and STOP, and the two that the C library keeps for itself.
    let may_stay: u64 = 1 << 8 | 1 << 18 | 1 << 31 | 1 << 32;
    ensure!(blocked | may_stay == u64::MAX, "the thread takes signals: {blocked:#x} are blocked");
    match freer.map(|thread| thread.join()) {
        Ok(Ok(true)) => {}
        _ => println!("the policy could not be set"),
    }
    crew.end();
    heap::consistent();
}
