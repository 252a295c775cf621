//! Forks while everything else goes on, with handlers on both sides of the heap's own.

use std::ffi::CString;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tenzor_hostile::sys::{self, End};
use tenzor_hostile::{ensure, wrong};

use crate::block::Block;
use crate::heap;
use crate::traffic::{self, Amount, Crew, Numbers, Refusals, Traffic};

static HANDLED: AtomicUsize = AtomicUsize::new(0);
static SEED: AtomicU64 = AtomicU64::new(1);

/// A handler of a host's: it allocates, resizes, frees, and leaves with everything as it should be.
extern "C" fn handler() {
    let mut numbers = Numbers::new(SEED.fetch_add(1, SeqCst));
    for size in [40, 1000, 20_000, 100 << 10, 2 << 20] {
        let Some(mut block) = Block::new(size, 8, numbers.next()) else { wrong!("refused in a handler") };
        ensure!(block.resize(size + numbers.below(size)), "refused in a handler");
    }
    HANDLED.fetch_add(1, SeqCst);
}

fn register() {
    // SAFETY: the handler stays as long as the process does.
    if unsafe { libc::pthread_atfork(Some(handler), Some(handler), Some(handler)) } != 0 {
        wrong!("no handlers for forks");
    }
}

/// Handlers of someone who was there before the heap's first request, where `HOSTILE_EARLY` asks for them.
pub fn register_early() {
    if sys::variable(c"HOSTILE_EARLY").is_some() {
        register();
    }
}

/// The C library's own locks and memory, which forks take too.
fn c_library(over: &AtomicBool, number: usize) {
    let mut turn = 0;
    while !over.load(SeqCst) {
        turn += 1;
        if turn % 8 == 0 {
            // The machine may have fewer processors than there are threads here.
            std::thread::sleep(Duration::from_micros(50));
        }
        // SAFETY: each of these is given what it asks for and gives back what it took.
        unsafe {
            match number % 4 {
                0 => _ = libc::fflush(null_mut()),
                1 => {
                    let file = libc::fopen(c"/proc/self/limits".as_ptr(), c"r".as_ptr());
                    if !file.is_null() {
                        let (mut line, mut length) = (null_mut(), 0);
                        while libc::getline(&raw mut line, &raw mut length, file) > 0 {}
                        libc::free(line.cast());
                        libc::fclose(file);
                    }
                }
                2 => {
                    let file = libc::fopen(c"/proc/self/stat".as_ptr(), c"r".as_ptr());
                    if !file.is_null() {
                        libc::fclose(file);
                    }
                }
                _ => _ = libc::getpwnam(c"nobody".as_ptr()),
            }
        }
        let text = format!("{number} strings come and go, too");
        ensure!(CString::new(text).is_ok(), "a string was spoilt");
    }
}

/// What a child does: everything, and a child of its own.
fn child(traffic: &Traffic, seed: u64, depth: u32) -> i32 {
    traffic.check();
    heap::consistent();
    let mut own = Traffic::new(seed, Amount::LITTLE);
    own.round(Refusals::None);
    if seed.is_multiple_of(16) {
        // Threads of the child's.
        let crew = Crew::new(2);
        crew.start(0, Refusals::None);
        crew.wait();
        crew.end();
    }
    if depth > 0 {
        wait(sys::fork(20, || child(traffic, seed + 1, depth - 1)), "a child's child");
    }
    own.free();
    heap::trim();
    heap::consistent();
    traffic.check();
    0
}

fn wait(pid: std::io::Result<i32>, who: &str) {
    match pid.and_then(sys::wait) {
        Ok(End::Exit(0)) => {}
        Ok(End::Signal(libc::SIGALRM)) => wrong!("{who} hung"),
        Ok(end) => wrong!("{who} ended by {end:?}"),
        Err(error) => wrong!("no {who}: {error}"),
    }
}

/// Forks under `threads` threads, half of which do traffic, the others what the C library has.
pub fn forks(count: usize, threads: usize) {
    register();
    let over = AtomicBool::new(false);
    let mut traffic = Traffic::new(40, Amount::SOME);
    traffic.round(Refusals::None);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let over = &over;
            scope.spawn(move || {
                if number % 2 == 0 {
                    return c_library(over, number / 2);
                }
                let mut traffic = Traffic::new(number as u64 + 50, Amount::LITTLE);
                while !over.load(SeqCst) {
                    traffic.round(Refusals::None);
                    traffic.check();
                }
                traffic.free();
            });
        }
        for number in 0..count {
            let depth = u32::from(number % 10 == 0);
            // The fork itself may hang.
            sys::alarm(30);
            wait(sys::fork(20, || child(&traffic, number as u64, depth)), "a child");
            if number % 20 == 0 {
                traffic.round(Refusals::None);
            }
            heap::consistent();
        }
        over.store(true, SeqCst);
    });
    sys::alarm(0);
    ensure!(HANDLED.load(SeqCst) >= 2 * count, "handlers were not called");
    traffic::finish(traffic, Crew::new(2), 0);
}

/// Forks from several threads at once, and children of children of children.
pub fn forks_of_forks() {
    register();
    sys::alarm(60);
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let mut traffic = Traffic::new(number + 60, Amount::LITTLE);
                for turn in 0..15 {
                    traffic.round(Refusals::None);
                    wait(sys::fork(20, || child(&traffic, turn, 4)), "a child of a thread");
                }
                traffic.free();
            });
        }
    });
    sys::alarm(0);
    // A child that becomes another program at once, as shells do.
    let pid = sys::fork(20, || {
        // SAFETY: the arguments are C strings, ended by null.
        unsafe { libc::execl(c"/bin/true".as_ptr(), c"true".as_ptr(), null::<u8>()) };
        0
    });
    wait(pid, "a child that becomes `true`");
    traffic::finish(Traffic::new(64, Amount::SOME), Crew::new(2), 0);
}

/// Forks in a signal's handler, which interrupts whatever the only thread is doing. The children end at once, or come back from the
/// handler and go on.
pub fn in_a_signal() {
    static FORKS: AtomicUsize = AtomicUsize::new(0);
    static CHILD: AtomicBool = AtomicBool::new(false);
    extern "C" fn handler(_: i32) {
        let number = FORKS.fetch_add(1, SeqCst);
        // SAFETY: the child ends, or goes on as the parent would have; its timer is not inherited.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                if number.is_multiple_of(8) {
                    CHILD.store(true, SeqCst);
                    return;
                }
                libc::_exit(0);
            }
            let mut status = 0;
            libc::waitpid(child, &raw mut status, 0);
            ensure!(status == 0, "the child of a handler ended with {status:#x}");
        }
    }
    let often = libc::timeval { tv_sec: 0, tv_usec: 1000 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: all zeroes is a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler calls what may be called there.
    unsafe {
        libc::sigaction(libc::SIGALRM, &raw const action, null_mut());
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, null_mut());
    }
    let mut traffic = Traffic::new(80, Amount::SOME);
    while FORKS.load(SeqCst) < 400 {
        for size in [100 << 10, 1 << 20, 3 << 20] {
            ensure!(Block::new(size, 8, 1).is_some(), "refused");
        }
        if CHILD.load(SeqCst) {
            traffic.round(Refusals::None);
            traffic.free();
            heap::consistent();
            heap::trim();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
    }
    let never = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, ..timer };
    let never = libc::itimerval { it_value: never.it_interval, ..never };
    // SAFETY: no more alarms.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const never, null_mut()) };
    traffic::finish(traffic, Crew::new(0), 0);
}
