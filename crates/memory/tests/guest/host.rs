//! The host: what it does to the heap, and what it sees of itself.

use std::time::{Duration, Instant};
use std::{fs, thread};

use tenzor_memory::HeapConfig;

use crate::GLOBAL;
use crate::block::Block;
use crate::common::layout;
use crate::lives::use_the_allocator;

pub(crate) const MIB: usize = 1 << 20;

/// Frees 100 MiB.
pub(crate) fn waste() {
    drop((0..100).map(|i| Block::new(layout(MIB, 8), i)).collect::<Vec<_>>());
}

pub(crate) fn decays_within(decay: u64) -> HeapConfig {
    HeapConfig::new().with_decay(Duration::from_millis(decay))
}

/// What the system says of the process, or of one of its threads.
pub(crate) fn status(thread: &str, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/self/{thread}/status")).expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.trim_start_matches(':').trim().to_owned()
}

pub(crate) fn threads() -> usize {
    status("", "Threads").parse().expect("a number")
}

/// The threads that are the heap's.
pub(crate) fn purgers() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux tells").flatten();
    let threads = tasks.map(|task| format!("task/{}", task.file_name().display()));
    threads.filter(|thread| status(thread, "Name") == "tenzor-purge").collect()
}

/// From now on the system refuses some calls.
pub(crate) fn refuse(calls: &[libc::c_long], error: i32) {
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

pub(crate) fn has_two_threads() {
    thread::spawn(|| use_the_allocator(1)).join().expect("no panic");
}

/// A hit of the thread's cache, if it made one before.
pub(crate) fn small_request() {
    drop(Block::new(layout(40, 8), 1));
}

/// Small requests at a slow pace, each a hit of the thread's cache; returns whether they gave the wasted memory back.
pub(crate) fn slow_requests_give_it_back(pause: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < 20 * pause || start.elapsed() < Duration::from_secs(6) {
        thread::sleep(pause);
        small_request();
    }
    GLOBAL.stats().pooled_bytes < 10 * MIB
}
