//! The operating system: reserved addresses and the physical memory behind them. The only place with system calls.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};
use std::ptr::NonNull;

use bytemuck::Zeroable;

use crate::layout::blocks::PAGE;

/// A huge page in bytes.
pub(crate) const HUGE: usize = 2 << 20;

/// What the heap asks of the operating system. A trait, so that tests can refuse any call.
///
/// # Safety
/// Memory that `commit` and `purge` report done reads as zero, and stays valid until it is purged, moved or released.
pub(crate) unsafe trait Os {
    /// Reserves an inaccessible range of `bytes`, aligned to [`HUGE`].
    fn reserve(&self, bytes: usize) -> Option<NonNull<u8>>;

    /// Makes a part of a reserved range readable and writable. It takes physical memory only when it is touched.
    ///
    /// # Safety
    /// The range is reserved, page-aligned and not in use.
    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize) -> bool;

    /// Asks for huge pages where the range, whole units of [`HUGE`], is touched from now on.
    ///
    /// # Safety
    /// The range is committed.
    unsafe fn prefer_huge(&self, start: NonNull<u8>, bytes: usize);

    /// Copies the small pages of a whole unit of [`HUGE`] into one huge page, now. Returns whether all of it is resident then.
    ///
    /// # Safety
    /// The unit is committed.
    unsafe fn collapse(&self, start: NonNull<u8>) -> bool;

    /// Gives the physical memory back and keeps the addresses.
    ///
    /// # Safety
    /// The range is committed and page-aligned, and nobody needs its contents.
    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> bool;

    /// Moves the physical memory of one range to another, whose own is given back; the old range stays committed.
    ///
    /// # Safety
    /// Both ranges are committed, page-aligned and disjoint, and nobody needs the contents of `to`.
    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> bool;

    /// Ends a reservation.
    ///
    /// # Safety
    /// The range is the whole of a reservation, and nobody uses it any more.
    unsafe fn release(&self, start: NonNull<u8>, bytes: usize);

    /// How many bytes of addresses the process may have, if that is limited.
    fn address_limit(&self) -> Option<usize>;

    /// The system's own page size in bytes: what is purged is a multiple of it.
    fn page_size(&self) -> usize;
}

/// Linux.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Linux;

// SAFETY: private anonymous mappings are zero when they are first touched, and after MADV_DONTNEED.
unsafe impl Os for Linux {
    fn reserve(&self, bytes: usize) -> Option<NonNull<u8>> {
        let whole = bytes.checked_add(HUGE)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = start.cast::<u8>();
        let before = start.align_offset(HUGE);
        // SAFETY: what lies before and after the aligned part belongs to the mapping just made, and nobody knows of it.
        unsafe {
            if before > 0 {
                libc::munmap(start.cast(), before);
            }
            if before < HUGE {
                libc::munmap(start.add(before + bytes).cast(), HUGE - before);
            }
            NonNull::new(start.add(before))
        }
    }

    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the range is ours and holds nothing (the caller's word).
        unsafe { libc::mprotect(start.as_ptr().cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) == 0 }
    }

    unsafe fn prefer_huge(&self, start: NonNull<u8>, bytes: usize) {
        // A kernel without huge pages refuses; then the pages are small.
        // SAFETY: the range is ours (the caller's word), and advice changes no contents.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
    }

    unsafe fn collapse(&self, start: NonNull<u8>) -> bool {
        // SAFETY: the range is ours (the caller's word), and its contents stay.
        allows_huge() && unsafe { libc::madvise(start.as_ptr().cast(), HUGE, libc::MADV_COLLAPSE) == 0 }
    }

    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the range is ours, and nobody needs its contents (the caller's word).
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTNEED) == 0 }
    }

    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> bool {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        // SAFETY: both ranges are ours, and `to` holds nothing that is needed (the caller's word).
        let moved = unsafe { libc::mremap(from.as_ptr().cast(), bytes, bytes, flags, to.as_ptr()) };
        moved != libc::MAP_FAILED
    }

    unsafe fn release(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: the range is ours and unused (the caller's word).
        unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    }

    fn address_limit(&self) -> Option<usize> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a plain query into a local.
        let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
        if known && limit.rlim_cur != libc::RLIM_INFINITY { usize::try_from(limit.rlim_cur).ok() } else { None }
    }

    fn page_size(&self) -> usize {
        // SAFETY: a plain query.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).unwrap_or(PAGE).max(PAGE)
    }
}

/// Whether the machine's owner allows transparent huge pages at all: the kernel heeds that on a first touch only.
fn allows_huge() -> bool {
    let mut text = [0_u8; 64];
    // SAFETY: the path ends with a zero, and the text is as long as it says.
    unsafe {
        let file =
            libc::open(c"/sys/kernel/mm/transparent_hugepage/enabled".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return false;
        }
        libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
    }
    !text.windows(7).any(|part| part == b"[never]")
}

/// An array in reserved memory that grows in place and never moves; zero where it was not written.
///
/// An index past its end aborts: the heap's own bookkeeping would be wrong, and a panic needs an allocator.
#[derive(Debug)]
pub(crate) struct Table<T> {
    base: NonNull<T>,
    len: usize,
    capacity: usize,
    items: PhantomData<T>,
}

// SAFETY: the table owns its memory as a vector does.
unsafe impl<T: Send> Send for Table<T> {}

impl<T: Zeroable + Copy> Table<T> {
    pub(crate) const fn empty() -> Self {
        Self { base: NonNull::dangling(), len: 0, capacity: 0, items: PhantomData }
    }

    /// The bytes of address space for `capacity` items.
    pub(crate) const fn bytes(capacity: usize) -> usize {
        (capacity * size_of::<T>()).next_multiple_of(HUGE)
    }

    /// # Safety
    /// `base` starts [`bytes`](Self::bytes)`(capacity)` reserved bytes that are this table's from now on.
    pub(crate) unsafe fn new(base: NonNull<u8>, capacity: usize) -> Self {
        Self { base: base.cast(), len: 0, capacity, items: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes the table at least `len` items long, if there is memory.
    pub(crate) fn grow<O: Os>(&mut self, os: &O, len: usize) -> bool {
        if len <= self.len {
            return true;
        }
        if len > self.capacity {
            return false;
        }
        let page = os.page_size();
        let committed = (self.len * size_of::<T>()).next_multiple_of(page);
        let needed = (len * size_of::<T>()).next_multiple_of(page);
        if needed > committed {
            // SAFETY: both lie within the reserved range, and nothing is in use beyond `committed`.
            if !unsafe { os.commit(self.base.cast().byte_add(committed), needed - committed) } {
                return false;
            }
        }
        self.len = (needed / size_of::<T>()).min(self.capacity);
        true
    }

    #[inline]
    fn at(&self, index: usize) -> NonNull<T> {
        if index >= self.len {
            std::process::abort();
        }
        // SAFETY: the first `len` items are committed.
        unsafe { self.base.add(index) }
    }
}

impl<T: Zeroable + Copy> Index<u32> for Table<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        // SAFETY: `at` is within the table, whose bytes are zero or a `T`, and borrowed as the table is.
        unsafe { self.at(index as usize).as_ref() }
    }
}

impl<T: Zeroable + Copy> IndexMut<u32> for Table<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        // SAFETY: as above.
        unsafe { self.at(index as usize).as_mut() }
    }
}

/// Starts a detached thread that receives no signals. Returns whether there is one.
pub(crate) fn spawn(body: fn()) -> bool {
    extern "C" fn start(body: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: `spawn` passes a `fn()`.
        let body = unsafe { std::mem::transmute::<*mut libc::c_void, fn()>(body) };
        body();
        std::ptr::null_mut()
    }
    // SAFETY: all pointers are to locals that outlive the calls; an attribute that was set up is destroyed.
    unsafe {
        let mut attributes = std::mem::zeroed();
        if libc::pthread_attr_init(&raw mut attributes) != 0 {
            return false;
        }
        libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        // A thread inherits the mask of its maker.
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let mut thread = std::mem::zeroed();
        let failed = libc::pthread_create(&raw mut thread, &raw const attributes, start, body as *mut libc::c_void);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        libc::pthread_attr_destroy(&raw mut attributes);
        failed == 0
    }
}

/// Calls the functions around each fork of the process from now on.
pub(crate) fn at_fork(before: Option<Hook>, in_parent: Option<Hook>, in_child: Option<Hook>) {
    // SAFETY: the functions are valid for ever. Without memory for the registration, forks of a busy process may find the
    // heap locked; there is nobody to tell.
    unsafe { libc::pthread_atfork(before, in_parent, in_child) };
}

pub(crate) type Hook = unsafe extern "C" fn();

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
    // SAFETY: the call takes plain numbers, and touches no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// An environment variable. Nothing is allocated.
pub(crate) fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name ends with a zero. The text stays unless the program changes its environment at this very moment, which
    // is its own word not to do (`std::env::set_var` is unsafe for that).
    unsafe {
        let text = libc::getenv(name.as_ptr());
        (!text.is_null()).then(|| CStr::from_ptr(text))
    }
}

/// Writes to standard error. Nothing is allocated.
pub(crate) fn complain(text: &[u8]) {
    // SAFETY: the text is as long as it says. If it cannot be written, there is nobody else to tell.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}
