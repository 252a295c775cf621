//! Linux. It stands in one file, as each call is right only with what is known from the others: whether advice is acted upon, whether moves
//! are true, whether memory is locked.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8};

use super::{Errno, HUGE, Map, Move, Os, PAGE, Purge, calls, complain_once};

const ACCESS: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// Linux 6.1; not every C library names it.
const MADV_COLLAPSE: libc::c_int = 25;

/// How many mappings a process may have where that is not told.
const MAPPINGS: usize = 65_530;

/// Requests of fewer bytes are never beyond the whole machine.
const VAST: usize = 1 << 30;

/// Linux. What it was found to do is known to all of the process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Linux;

/// A page that shows whether advice to give memory back is acted upon.
static PROBE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// How memory is given back: by advice, until that was seen to fail; then by mapping anew.
static ADVICE_FAILS: AtomicBool = AtomicBool::new(false);

/// A new mapping was resident at once.
static LOCKED: AtomicBool = AtomicBool::new(false);

/// Whether huge pages may be had, and whether moves do what they say: not asked yet, yes, no.
static HUGE_PAGES: AtomicU8 = AtomicU8::new(UNKNOWN);
static MOVES: AtomicU8 = AtomicU8::new(UNKNOWN);

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// Asks once.
fn known(answer: &AtomicU8, ask: impl FnOnce() -> bool) -> bool {
    if answer.load(Relaxed) == UNKNOWN {
        answer.store(if ask() { YES } else { NO }, Relaxed);
    }
    answer.load(Relaxed) == YES
}

// SAFETY: private anonymous mappings are zero when they are first touched, and MAP_FIXED_NOREPLACE replaces nothing. Whether memory that was
// given back is gone is looked at each time; where `mremap` loses its target, that is taken back without replacing
// anything, or reported as lost; a source of several mappings, which may move in part, is not moved.
unsafe impl Os for Linux {
    fn map(&self, start: NonNull<u8>, bytes: usize) -> Map {
        let _errno = Errno::kept();
        match map_at(start, bytes) {
            Ok(()) => {
                // SAFETY: the range was just mapped, and nobody knows of it.
                unsafe { unlock(start, bytes) };
                Map::Done
            }
            Err(libc::EEXIST | ELSEWHERE) => Map::Taken,
            Err(_) => Map::Refused,
        }
    }

    fn map_anywhere(&self, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        let _errno = Errno::kept();
        debug_assert!(align.is_power_of_two());
        // The system aligns to its pages.
        let spare = if align <= PAGE { 0 } else { align };
        let whole = bytes.checked_add(spare)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = changes(|| unsafe { calls::mmap(std::ptr::null_mut(), whole, ACCESS, PRIVATE, -1, 0) });
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = start.cast::<u8>();
        let before = start.align_offset(align);
        debug_assert!(before <= spare);
        // SAFETY: what lies before and after the aligned part belongs to the mapping just made, and nobody knows of it; what cannot
        // be unmapped stays unused.
        unsafe {
            if before > 0 {
                calls::munmap(start.cast(), before);
            }
            if before < spare {
                calls::munmap(start.add(before + bytes).cast(), spare - before);
            }
            let start = NonNull::new(start.add(before))?;
            unlock(start, bytes);
            Some(start)
        }
    }

    unsafe fn unmap(&self, start: NonNull<u8>, bytes: usize) -> bool {
        let _errno = Errno::kept();
        debug_assert!(are_pages(start, bytes));
        // SAFETY: the range is ours and unused (the caller's word).
        changes(|| unsafe { calls::munmap(start.as_ptr().cast(), bytes) == 0 })
    }

    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> Purge {
        let _errno = Errno::kept();
        debug_assert!(are_pages(start, bytes));
        if !ADVICE_FAILS.load(Relaxed) {
            // Emulators act on some ranges and not on others: none of it may be resident still. Where that is not told, the word of
            // another page has to do. Small pages that came onto a huge one meanwhile are resident again.
            let drops = |_| {
                // SAFETY: the range is ours, and nobody needs its contents (the caller's word).
                let dropped = unsafe { drop_pages(start, bytes) };
                dropped && self.resident(start, bytes).map_or_else(advice_zeroes, |bytes| bytes == 0)
            };
            if (0..2).any(drops) {
                return Purge::Zero;
            }
            ADVICE_FAILS.store(true, Relaxed);
        }
        // SAFETY: as above: what is replaced is ours.
        let anew = unsafe { calls::mmap(start.as_ptr().cast(), bytes, ACCESS, PRIVATE | libc::MAP_FIXED, -1, 0) };
        if anew == start.as_ptr().cast() {
            // SAFETY: the range was just mapped.
            unsafe { unlock(start, bytes) };
            return Purge::Zero;
        }
        match errno() {
            // A filter's words: the call was not made.
            libc::EPERM | libc::EACCES | libc::ENOSYS => {
                static SAID: AtomicBool = AtomicBool::new(false);
                complain_once(
                    &SAID,
                    format_args!("the system takes no memory back: what was used once stays resident"),
                );
                Purge::Kept
            }
            _ if map_at(start, bytes).is_ok() => Purge::Zero,
            _ => Purge::Lost,
        }
    }

    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Move {
        let _errno = Errno::kept();
        debug_assert!(are_pages(from, bytes) && are_pages(to, bytes));
        debug_assert!(from.addr().get().abs_diff(to.addr().get()) >= bytes, "they overlap");
        // SAFETY: the range is ours (the caller's word).
        if !known(&MOVES, moves_are_true) || unsafe { !is_one_mapping(from, bytes) } {
            return Move::Kept;
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        // SAFETY: both ranges are ours, and `to` holds nothing that is needed (the caller's word).
        let moved = changes(|| unsafe { calls::mremap(from.as_ptr().cast(), bytes, bytes, flags, to.as_ptr()) });
        if moved != libc::MAP_FAILED {
            return Move::Done;
        }
        match errno() {
            // A filter's words: the call was not made.
            libc::EPERM | libc::EACCES | libc::ENOSYS => Move::Kept,
            // Otherwise the target may have been unmapped first. If it was not, or is another's by now, it cannot be told from that.
            _ => match map_at(to, bytes) {
                Ok(()) => Move::Emptied,
                Err(_) => Move::Lost,
            },
        }
    }

    unsafe fn advise(&self, start: NonNull<u8>, bytes: usize, huge: bool) {
        let _errno = Errno::kept();
        debug_assert!((start.addr().get() | bytes).is_multiple_of(HUGE));
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // A kernel without huge pages refuses; then the pages are small.
        // SAFETY: the range is ours (the caller's word), and advice changes no contents.
        changes(|| unsafe { calls::madvise(start.as_ptr().cast(), bytes, advice) });
    }

    fn collapse(&self, start: NonNull<u8>) -> bool {
        let _errno = Errno::kept();
        // SAFETY: contents stay, whoever's they are.
        allows_huge() && unsafe { calls::madvise(start.as_ptr().cast(), HUGE, MADV_COLLAPSE) == 0 }
    }

    fn resident(&self, start: NonNull<u8>, bytes: usize) -> Option<usize> {
        let _errno = Errno::kept();
        let page = self.page_size();
        let mut pages = [0_u8; HUGE / PAGE];
        let mut resident = 0;
        for at in (0..bytes).step_by(pages.len() * page) {
            let part = (bytes - at).min(pages.len() * page);
            let address = start.as_ptr().wrapping_add(at).cast();
            let pages = &mut pages[..part.div_ceil(page)];
            if !look(address, part, pages) {
                return None;
            }
            resident += pages.iter().filter(|&byte| byte & 1 != 0).count() * page;
        }
        Some(resident)
    }

    fn address_limit(&self) -> Option<usize> {
        let _errno = Errno::kept();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a plain query into a local.
        let known = unsafe { calls::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
        if known && limit.rlim_cur != libc::RLIM_INFINITY { usize::try_from(limit.rlim_cur).ok() } else { None }
    }

    fn is_beyond(&self, bytes: usize) -> bool {
        let _errno = Errno::kept();
        if bytes < VAST {
            return false;
        }
        if self.address_limit().is_some_and(|limit| bytes > limit) {
            return true;
        }
        // SAFETY: all zero is a value of the type, and the call is a plain query into it.
        let (known, machine) = unsafe {
            let mut machine: libc::sysinfo = std::mem::zeroed();
            (calls::sysinfo(&raw mut machine) == 0, machine)
        };
        let all = machine.totalram.saturating_add(machine.totalswap);
        let all = usize::try_from(all).unwrap_or(usize::MAX).saturating_mul(machine.mem_unit as usize);
        // Where all is granted, as far as there are addresses, malloc gets it, too.
        known && bytes > all && number(c"/proc/sys/vm/overcommit_memory") != Some(1)
    }

    fn is_locked(&self) -> bool {
        LOCKED.load(Relaxed)
    }

    fn max_mappings(&self) -> usize {
        number(c"/proc/sys/vm/max_map_count").unwrap_or(MAPPINGS)
    }

    fn page_size(&self) -> usize {
        // SAFETY: a plain query.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).unwrap_or(PAGE).max(PAGE)
    }
}

/// Whether a range consists of some whole pages.
fn are_pages(start: NonNull<u8>, bytes: usize) -> bool {
    bytes > 0 && (start.addr().get() | bytes).is_multiple_of(PAGE)
}

fn errno() -> i32 {
    // SAFETY: the calling thread's own.
    unsafe { *libc::__errno_location() }
}

/// Makes a call that changes the process's mappings, which is one thread's at a time.
#[inline]
fn changes<T>(call: impl FnOnce() -> T) -> T {
    #[cfg(tenzor_serial)]
    return super::serial::call(call);
    #[cfg(not(tenzor_serial))]
    call()
}

/// No error of the system's: it took the place for a hint.
const ELSEWHERE: i32 = -1;

/// Maps memory where nothing lies; the error otherwise, `EEXIST` or `ELSEWHERE` if something does.
fn map_at(start: NonNull<u8>, bytes: usize) -> Result<(), i32> {
    debug_assert!(are_pages(start, bytes));
    // SAFETY: nothing that exists is replaced. Kernels before 4.17 do not know the flag, and take the address for a hint.
    let map = |flag| changes(|| unsafe { calls::mmap(start.as_ptr().cast(), bytes, ACCESS, PRIVATE | flag, -1, 0) });
    let mut mapped = map(libc::MAP_FIXED_NOREPLACE);
    if mapped == libc::MAP_FAILED && errno() != libc::EEXIST {
        // A filter may refuse the flag alone.
        mapped = map(0);
    }
    if mapped == libc::MAP_FAILED {
        return Err(errno());
    }
    if mapped != start.as_ptr().cast() {
        // SAFETY: it was just mapped, and nobody knows of it.
        unsafe { calls::munmap(mapped, bytes) };
        return Err(ELSEWHERE);
    }
    Ok(())
}

impl Linux {
    /// Addresses at or behind `wish` at which the system would map so many bytes, but for a part of a page, or elsewhere as few as `least`;
    /// nothing is mapped there. Who watches over addresses, as sanitizers do, is asked as well.
    pub(crate) fn addresses(wish: usize, bytes: usize, least: usize) -> Option<(usize, usize)> {
        let _errno = Errno::kept();
        let bytes = bytes / PAGE * PAGE;
        let probe = |at: usize, bytes: usize| {
            let at = std::ptr::without_provenance_mut(at);
            // SAFETY: nothing that exists is replaced; what is mapped goes at once, and nobody knows of it.
            unsafe {
                let found = calls::try_mmap(at, bytes, libc::PROT_NONE, PRIVATE | libc::MAP_NORESERVE, -1, 0);
                (found != libc::MAP_FAILED && calls::try_munmap(found, bytes) == 0).then(|| found.addr())
            }
        };
        let is_free = |at| probe(at, PAGE) == Some(at);
        if bytes >= least && is_free(wish) && is_free(wish + bytes - PAGE) {
            return Some((wish, bytes));
        }
        let found = probe(0, least + HUGE)?.next_multiple_of(HUGE);
        Some((found, least))
    }
}

/// Under `mlockall`, all of a new mapping is resident at once. It shall be when it is touched.
///
/// # Safety
/// The range was just mapped: nobody needs its contents.
unsafe fn unlock(start: NonNull<u8>, bytes: usize) {
    let size = Linux.page_size();
    let last = start.as_ptr().wrapping_add(bytes.saturating_sub(size)).cast();
    let mut page = 0_u8;
    // SAFETY: the system looks at the range, and writes a byte; it is ours, so that advice and locks on it are.
    unsafe {
        if calls::mincore(last, size, (&raw mut page).cast()) == 0 && page & 1 != 0 {
            LOCKED.store(true, Relaxed);
            calls::munlock(start.as_ptr().cast(), bytes);
            calls::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTNEED);
            calls::syscall(libc::SYS_mlock2, [start.addr().get(), bytes, libc::MLOCK_ONFAULT as usize, 0]);
        }
    }
}

/// Advises the system to give pages back, locked or not; whether it says that it did.
///
/// # Safety
/// The range is ours, and nobody needs its contents.
unsafe fn drop_pages(start: NonNull<u8>, bytes: usize) -> bool {
    debug_assert!(are_pages(start, bytes));
    let at = start.as_ptr().cast();
    // SAFETY: the caller's word. Locked pages are refused.
    unsafe {
        calls::madvise(at, bytes, libc::MADV_DONTNEED) == 0
            || (calls::munlock(at, bytes) == 0 && calls::madvise(at, bytes, libc::MADV_DONTNEED) == 0)
    }
}

/// Asks which pages of a range are resident: those whose bytes are odd then. `pages` has a byte for each. Returns whether it was told.
fn look(at: *mut libc::c_void, bytes: usize, pages: &mut [u8]) -> bool {
    debug_assert!(pages.len() >= bytes.div_ceil(Linux.page_size()));
    // Whoever says that it looked, and did not, has seen nothing go.
    pages.fill(1);
    // SAFETY: the system writes a byte a page, of which there are as many; it only looks at the addresses.
    unsafe { calls::mincore(at, bytes, pages.as_mut_ptr().cast()) == 0 }
}

/// Ranges of fewer bytes are not looked at before they are written; nor are fewer pages left out.
const SPARSE: usize = 1 << 20;
const GAP: usize = 64 << 10;

/// Makes a range read as zero: what is resident of it is written, and the rest, which may be swapped out, is given back. So what was never
/// touched takes no memory.
///
/// # Safety
/// The range is the caller's alone.
pub(crate) unsafe fn clear(start: NonNull<u8>, bytes: usize) {
    let write = |from: usize, to: usize| {
        debug_assert!(from <= to && to <= bytes);
        // SAFETY: within the range, as all that follows.
        unsafe { start.add(from).write_bytes(0, to - from) };
    };
    let at = |from: usize| start.as_ptr().wrapping_add(from).cast();
    let drop = |from: usize, to: usize| {
        debug_assert!(from < to && to <= bytes);
        // SAFETY: what is there is to be zero.
        unsafe { calls::madvise(at(from), to - from, libc::MADV_DONTNEED) == 0 }
    };
    let page = Linux.page_size();
    let first = start.align_offset(page);
    if bytes < SPARSE || ADVICE_FAILS.load(Relaxed) {
        return write(0, bytes);
    }
    let _errno = Errno::kept();
    let end = bytes - (bytes - first) % page;
    write(0, first);
    write(end, bytes);
    let mut pages = [0_u8; HUGE / PAGE];
    for mut from in (first..end).step_by(pages.len() * page) {
        let part = (end - from).min(pages.len() * page);
        let pages = &mut pages[..part / page];
        if !look(at(from), part, pages) {
            return write(from, end);
        }
        for alike in pages.chunk_by(|one, next| (one ^ next) & 1 == 0) {
            let to = from + alike.len() * page;
            let is_absent = alike[0] & 1 == 0 && to - from >= GAP;
            if !is_absent || !drop(from, to) {
                write(from, to);
            }
            from = to;
        }
    }
}

/// Whether a page that was written and given back is zero: some systems, and filters of sandboxes, say that they did what they
/// did not. Called by one thread at a time, as the heap is.
fn advice_zeroes() -> bool {
    let mut probe = PROBE.load(Relaxed);
    if probe.is_null() {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let page = unsafe { calls::mmap(std::ptr::null_mut(), PAGE, ACCESS, PRIVATE, -1, 0) };
        if page == libc::MAP_FAILED {
            return false;
        }
        probe = page.cast();
        PROBE.store(probe, Relaxed);
    }
    let Some(page) = NonNull::new(probe) else { return false };
    // SAFETY: the page is ours, and used here only.
    unsafe {
        probe.write_volatile(1);
        drop_pages(page, PAGE) && probe.read_volatile() == 0
    }
}

/// Whether a range is one mapping, and so moves as a whole or not at all: since Linux 6.17 several move one after the other, and some
/// may have when one is refused; before, the target is unmapped and then the move refused. To grow it where it stands by a page
/// is refused for either reason, with another error.
///
/// # Safety
/// The range is ours.
unsafe fn is_one_mapping(start: NonNull<u8>, bytes: usize) -> bool {
    debug_assert!(are_pages(start, bytes));
    // SAFETY: without MREMAP_MAYMOVE nothing moves; what it grew by is ours, and taken away again.
    unsafe {
        let grown = calls::mremap(start.as_ptr().cast(), bytes, bytes + PAGE, 0, std::ptr::null_mut::<u8>());
        if grown == libc::MAP_FAILED {
            return errno() == libc::ENOMEM;
        }
        calls::munmap(start.add(bytes).as_ptr().cast(), PAGE) == 0
    }
}

/// Whether a page that is moved is where it shall be, leaves zero behind in a place that stays mapped, and can be given back from its new
/// place; emulators of Linux fail in one or the other. They also take a fixed place for a hint, which no Linux does that can move.
fn moves_are_true() -> bool {
    let page = Linux.page_size();
    let Some(from) = Linux.map_anywhere(2 * page, PAGE) else { return false };
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: both pages were just mapped, and nobody knows of them. Where the call does something else, they are not used after it.
    unsafe {
        let to = from.add(page);
        from.write_volatile(1);
        let moved = calls::mremap(from.as_ptr().cast(), page, page, flags, to.as_ptr());
        if moved != to.as_ptr().cast() || map_at(from, page) != Err(libc::EEXIST) {
            return false;
        }
        let there = (from.read_volatile(), to.read_volatile()) == (0, 1);
        let gone = ADVICE_FAILS.load(Relaxed) || (drop_pages(to, page) && to.read_volatile() == 0);
        calls::munmap(from.as_ptr().cast(), 2 * page);
        there && gone
    }
}

/// Whether the machine's owner allows transparent huge pages at all: the kernel heeds that on a first touch only.
fn allows_huge() -> bool {
    known(&HUGE_PAGES, || {
        let mut text = [0_u8; 64];
        let text = read(c"/sys/kernel/mm/transparent_hugepage/enabled", &mut text);
        text.is_some_and(|text| !text.windows(7).any(|part| part == b"[never]"))
    })
}

/// The number that a file consists of.
fn number(path: &CStr) -> Option<usize> {
    let mut text = [0_u8; 64];
    str::from_utf8(read(path, &mut text)?).ok()?.trim().parse().ok()
}

/// The start of a file, if it can be read. Nothing is allocated.
pub(super) fn read<'a>(path: &CStr, text: &'a mut [u8]) -> Option<&'a [u8]> {
    let _errno = Errno::kept();
    // SAFETY: the path ends with a zero, and the text is as long as it says.
    let length = unsafe {
        let file = calls::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return None;
        }
        let length = calls::read(file, text.as_mut_ptr().cast(), text.len());
        calls::close(file);
        length
    };
    text.get(..usize::try_from(length).ok()?)
}

/// Whether the system would never grant malloc so much at once. See [`Os::is_beyond`].
pub(crate) fn is_beyond(bytes: usize) -> bool {
    Linux.is_beyond(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_free_are_had_where_they_are_wished_for() {
        let bytes = 1 << 28;
        // Others may map something there meanwhile.
        let had = (0..8).any(|_| {
            let (wish, _) = Linux::addresses(0, 0, bytes).unwrap();
            Linux::addresses(wish, bytes + PAGE / 2 + 1, HUGE) == Some((wish, bytes))
        });
        assert!(had);
    }

    #[test]
    fn what_fails_is_not_seen_in_the_programs_errno() {
        let nowhere = NonNull::<u8>::dangling().with_addr((1 << 46).try_into().unwrap());
        // More than there are addresses, whatever the system promises.
        let far = 1 << 50;
        let unwelcome = |call: &dyn Fn()| {
            // SAFETY: the calling thread's own.
            unsafe { *libc::__errno_location() = 4711 };
            call();
            assert_eq!(errno(), 4711);
        };
        unwelcome(&|| assert_eq!(Linux.map(nowhere, far), Map::Refused));
        unwelcome(&|| assert_eq!(Linux.map_anywhere(far, PAGE), None));
        unwelcome(&|| assert_eq!(Linux::addresses(0, far, far), None));
        unwelcome(&|| assert!(Linux.resident(nowhere, PAGE).is_none_or(|bytes| bytes == 0)));
        unwelcome(&|| assert!(!Linux.collapse(nowhere)));
        unwelcome(&|| assert_eq!(read(c"/nowhere", &mut [0; 8]), None));
        // SAFETY: nothing lies there.
        unwelcome(&|| unsafe { Linux.advise(nowhere, HUGE, true) });
    }

    #[test]
    fn what_is_cleared_is_zero_and_what_was_not_touched_stays_so() {
        let bytes = 16 << 20;
        for (offset, every) in [(0, 1 << 20), (5, 3 << 20), (5000, PAGE), (64, 2 * PAGE)] {
            let whole = Linux.map_anywhere(bytes, HUGE).unwrap();
            // SAFETY: just mapped.
            unsafe { Linux.advise(whole, bytes, false) };
            for at in (0..bytes).step_by(every) {
                // SAFETY: within the mapping.
                unsafe { whole.add(at).write(1) };
            }
            let before = Linux.resident(whole, bytes).unwrap();
            // SAFETY: within the mapping, which is the test's.
            unsafe { clear(whole.add(offset), bytes - 2 * offset) };
            let after = Linux.resident(whole, bytes).unwrap();
            assert!(every < GAP || after <= before + 2 * PAGE, "{before} bytes were resident, now {after}");
            // SAFETY: within the mapping.
            let all = unsafe { std::slice::from_raw_parts(whole.as_ptr(), bytes) };
            assert!(all[offset..bytes - offset].iter().all(|byte| *byte == 0));
            assert!(all[..offset].iter().step_by(every).all(|byte| *byte == 1), "what is before it stays");
            // SAFETY: nobody uses it any more.
            unsafe { Linux.unmap(whole, bytes) };
        }
    }
}
