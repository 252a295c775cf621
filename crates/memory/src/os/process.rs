//! What of the process is used besides its addresses: threads, their ends, handlers around forks, fences, the environment, clocks, and
//! the library's own place in memory.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::linux::read;
use super::{Linux, Os, PAGE, calls};

/// The name of the thread that the heap may start.
const NAME: &CStr = c"tenzor-purge";

/// Its stack: what it calls needs some KiB of it.
const STACK: usize = 128 << 10;

/// Starts a detached thread that is as little of a burden as a thread can be: it receives no signals, runs where the process was
/// allowed to run when [`remember_processors`] was called, and as an ordinary one, whatever the caller's privileges are. Returns whether
/// there is one. It takes memory, from the C library.
pub(crate) fn spawn(body: fn()) -> bool {
    extern "C" fn start(body: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: both are about the calling thread; the name ends with a zero, and the set is as large as said. Where they are
        // refused, the thread has its maker's.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
            if let Some((set, bytes)) = PROCESSORS.get() {
                calls::syscall(libc::SYS_sched_setaffinity, [0, *bytes, set.as_ptr().addr(), 0]);
            }
        }
        // SAFETY: `spawn` passes a `fn()`.
        let body = unsafe { std::mem::transmute::<*mut libc::c_void, fn()>(body) };
        body();
        ptr::null_mut()
    }
    let _errno = Errno::kept();
    // SAFETY: all pointers are to locals that outlive the calls; an attribute that was set up is destroyed.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        // A thread inherits the mask of its maker.
        if libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) != 0 {
            return false;
        }
        // A library with many thread-locals needs a larger stack; a sandbox may refuse to look at schedules.
        let started = [(true, true), (true, false), (false, false)].into_iter().any(|(ordinary, small)| {
            let mut attributes = std::mem::zeroed();
            if libc::pthread_attr_init(&raw mut attributes) != 0 {
                return false;
            }
            libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
            if small {
                libc::pthread_attr_setstacksize(&raw mut attributes, STACK);
            }
            if ordinary {
                let level: libc::sched_param = std::mem::zeroed();
                libc::pthread_attr_setinheritsched(&raw mut attributes, libc::PTHREAD_EXPLICIT_SCHED);
                libc::pthread_attr_setschedpolicy(&raw mut attributes, libc::SCHED_OTHER);
                libc::pthread_attr_setschedparam(&raw mut attributes, &raw const level);
            }
            let mut thread = std::mem::zeroed();
            let failed = libc::pthread_create(&raw mut thread, &raw const attributes, start, body as *mut libc::c_void);
            libc::pthread_attr_destroy(&raw mut attributes);
            failed == 0
        });
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        started
    }
}

/// The processors on which the process may run, as the kernel writes it: a bit for each of 8192, and how many bytes of it count.
static PROCESSORS: OnceLock<([u64; 128], usize)> = OnceLock::new();

/// A thread that is started from now on may run where the calling thread may now.
pub(crate) fn remember_processors() {
    PROCESSORS.get_or_init(|| {
        let mut set = [0_u64; 128];
        // SAFETY: the set is as large as said. Without an answer, no byte of it counts, and setting that is refused.
        let bytes = unsafe {
            calls::syscall(libc::SYS_sched_getaffinity, [0, size_of_val(&set), set.as_mut_ptr().expose_provenance(), 0])
        };
        let bytes = usize::try_from(bytes).unwrap_or(0);
        debug_assert!(bytes <= size_of_val(&set));
        (set, bytes)
    });
}

/// How many processors these are: at least one.
pub(crate) fn processors() -> usize {
    let count =
        |(set, bytes): &([u64; 128], usize)| set.iter().take(bytes / 8).map(|word| word.count_ones() as usize).sum();
    PROCESSORS.get().map_or(1, count).max(1)
}

/// Waits.
pub(crate) fn sleep(time: Duration) {
    let _errno = Errno::kept();
    calls::sleep(time);
}

/// The half of a number that the system looks at: the lower one.
fn half(at: &AtomicUsize) -> *const u32 {
    let lower = if cfg!(target_endian = "big") { size_of::<usize>() / size_of::<u32>() - 1 } else { 0 };
    ptr::from_ref(at).cast::<u32>().wrapping_add(lower)
}

const WAIT: usize = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
const WAKE: usize = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;

/// Sleeps while `at` is `value`, as far as the lower 32 bits tell, until it is woken, or at most for so long; sometimes for no reason less.
/// Returns whether it was not the time.
pub(crate) fn wait_while(at: &AtomicUsize, value: usize, at_most: Option<Duration>) -> bool {
    let at_most = at_most.map(|time| libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let at_most = at_most.as_ref().map_or(ptr::null(), ptr::from_ref);
    let _errno = Errno::kept();
    // SAFETY: the system looks at the number, which is borrowed, and at the time, a local.
    unsafe {
        calls::syscall(
            libc::SYS_futex,
            [half(at).expose_provenance(), WAIT, value as u32 as usize, at_most.expose_provenance()],
        ) == 0
            || *libc::__errno_location() != libc::ETIMEDOUT
    }
}

/// Wakes one of those who sleep at a number.
pub(crate) fn wake_one(at: &AtomicUsize) {
    let _errno = Errno::kept();
    // SAFETY: the address says who is meant; nothing is read or written there.
    unsafe { calls::syscall(libc::SYS_futex, [half(at).expose_provenance(), WAKE, 1, 0]) };
}

/// Nanoseconds since some instant, as exact as a tick of the kernel. It costs no system call where there is a way around one.
pub(crate) fn clock() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a query into a local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// What tells that a thread ends: a key of the C library, not a thread-local of Rust's, whose destructors may take memory, or may not
/// exist where a library is unloaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends(libc::pthread_key_t);

impl Ends {
    /// `None` if the process has no more of them.
    pub(crate) fn seen_by(ended: unsafe extern "C" fn(*mut libc::c_void)) -> Option<Self> {
        let mut key = 0;
        // SAFETY: the key is written to a local; the function is valid for ever, as the library stays loaded.
        (unsafe { libc::pthread_key_create(&raw mut key, Some(ended)) } == 0).then_some(Self(key))
    }

    /// The function is called with `value`, which is not null, when the calling thread ends. Returns whether it will be.
    pub(crate) fn watch<T>(self, value: &'static T) -> bool {
        // SAFETY: the key was made, and is never deleted.
        unsafe { libc::pthread_setspecific(self.0, ptr::from_ref(value).cast()) == 0 }
    }
}

/// Calls the functions around each fork of the process from now on.
pub(crate) fn at_fork(before: Option<Hook>, in_parent: Option<Hook>, in_child: Option<Hook>) {
    // SAFETY: the functions are valid for ever. Without memory for the registration, forks of a busy process may find the
    // heap locked; there is nobody to tell.
    unsafe { libc::pthread_atfork(before, in_parent, in_child) };
}

pub(crate) type Hook = unsafe extern "C" fn();

/// Keeps the library that this is compiled into in memory until the process ends, as the system knows functions of it. There is nothing
/// to do where that is the program itself. Returns whether it stays.
///
/// It asks the dynamic loader, which has a lock: not to be called under one that others need while they load a library.
#[cfg(target_env = "gnu")]
pub(crate) fn stay_loaded() -> bool {
    /// Has `dladdr1` tell the loader's entry.
    const RTLD_DL_LINKMAP: libc::c_int = 2;
    /// The beginning of the loader's entry for a library.
    #[repr(C)]
    struct LinkMap {
        offset: usize,
        name: *const libc::c_char,
    }
    if cfg!(any(tenzor_shared, tenzor_static)) {
        // It is linked so, and this may be called in the midst of what the loader does; or there is no loader.
        return true;
    }
    let here = stay_loaded as fn() -> bool;
    // SAFETY: the address is one of this library; what is written goes to locals; the loader's entries are as laid out above (they
    // are part of the C library's interface), and this one stays as long as we are here.
    unsafe {
        let mut place: libc::Dl_info = std::mem::zeroed();
        let mut entry: *mut libc::c_void = ptr::null_mut();
        if libc::dladdr1(here as *const libc::c_void, &raw mut place, &raw mut entry, RTLD_DL_LINKMAP) == 0 {
            // A static program has no loader.
            return true;
        }
        let name = entry.cast::<LinkMap>().as_ref().map_or(ptr::null(), |entry| entry.name);
        if name.is_null() || *name == 0 {
            return true;
        }
        !libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE).is_null()
    }
}

/// Other C libraries than glibc never unload anything.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn stay_loaded() -> bool {
    true
}

/// Whether [`fence_threads`] can be used from now on.
pub(crate) fn can_fence_threads() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// What every thread of the process stored so far is visible to all that the caller loads from now on, as if each had passed a full
/// fence. About a microsecond. Returns whether it was done.
pub(crate) fn fence_threads() -> bool {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

fn membarrier(command: libc::c_int) -> bool {
    let _errno = Errno::kept();
    // SAFETY: the call takes plain numbers, and touches no memory.
    unsafe { calls::syscall(libc::SYS_membarrier, [command as usize, 0, 0, 0]) == 0 }
}

/// Whether the environment can be read: very early in a process's life it is not there yet.
pub(crate) fn has_environment() -> bool {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: the C library's variable, which is read once.
    unsafe { !(&raw const environ).read().is_null() }
}

/// An environment variable. Nothing is allocated. A program with privileges that its caller has not heeds none: they are the caller's.
pub(crate) fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name ends with a zero. The text stays unless the program changes its environment at this very moment, which
    // is its own word not to do (`std::env::set_var` is unsafe for that).
    unsafe {
        if libc::getauxval(libc::AT_SECURE) != 0 {
            return None;
        }
        let text = libc::getenv(name.as_ptr());
        (!text.is_null()).then(|| CStr::from_ptr(text))
    }
}

/// Keeps the program's `errno` over system calls that it does not know of.
pub(crate) struct Errno(libc::c_int);

impl Errno {
    pub(crate) fn kept() -> Self {
        // SAFETY: the thread's own number, which is there as long as the thread.
        Self(unsafe { *libc::__errno_location() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

/// How many bytes of physical memory the process has: exactly, or where that is not told, more or less. `None` if neither is.
pub(crate) fn resident() -> Option<usize> {
    let mut text = [0_u8; PAGE];
    let exactly = read(c"/proc/self/smaps_rollup", &mut text).and_then(|text| {
        let rest = str::from_utf8(text).ok()?.split_once("\nRss:")?.1;
        Some(rest.split_ascii_whitespace().next()?.parse::<usize>().ok()? << 10)
    });
    exactly.or_else(|| {
        let pages = str::from_utf8(read(c"/proc/self/statm", &mut text)?).ok()?.split_ascii_whitespace().nth(1)?;
        Some(pages.parse::<usize>().ok()? * Linux.page_size())
    })
}
