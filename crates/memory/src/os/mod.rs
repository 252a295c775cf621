//! The operating system: the one door to it. Addresses and the physical memory behind them (`linux`), and what else of the process is
//! used (`process`). The only place with system calls.
//!
//! A call that fails may have done nothing, a part of its work, or have lost what was there. What can be true afterwards is said here,
//! call by call, and returned as a value: who calls never guesses.
//!
//! Whatever fails, the program's `errno` stays as it was: it does not know of these calls.
#![allow(unsafe_code)]

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod calls;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod linux;
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod other;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod process;
#[cfg(tenzor_serial)]
pub(crate) mod serial;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod stderr;

use std::ptr::NonNull;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) use self::linux::{Linux, clear, is_beyond};
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(crate) use self::other::{
    at_fork, can_fence_threads, clock, fence_threads, is_beyond, sleep, wait_while, wake_one,
};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) use self::process::{
    Ends, Errno, Hook, at_fork, can_fence_threads, clock, environment, fence_threads, has_environment, processors,
    remember_processors, resident, sleep, spawn, stay_loaded, wait_while, wake_one,
};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) use self::stderr::{be_quiet, complain, complain_once, die, remember_standard_error};

/// The grain of the heap's bookkeeping in bytes: the page of x86-64, and a divisor of every other page size.
pub(crate) const PAGE: usize = 4096;

/// A huge page in bytes.
pub(crate) const HUGE: usize = 2 << 20;

/// What became of a wish to have memory at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    /// All of the range is there: readable, writable, zero, and nobody else's.
    Done,
    /// Something lies there, the program's or another's. It was not touched, and nothing was mapped.
    Taken,
    /// The system has no memory, or no addresses. Nothing was mapped.
    Refused,
}

/// What became of pages that nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purge {
    /// They read as zero, and take no memory until they are written again.
    Zero,
    /// Each of them is as before or zero; whether any memory was given back is not known.
    Kept,
    /// Nothing may be mapped there any more, and others may come to map something: the range is not the caller's any more.
    Lost,
}

/// What became of memory that was to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// It is at the target; the source reads as zero and takes no memory.
    Done,
    /// Both ranges are as before.
    Kept,
    /// The source is as before, the target's memory is gone. It was mapped anew: it is zero.
    Emptied,
    /// The source is as before. At the target nothing may be mapped any more, and others may come to map something there: it is not
    /// the caller's any more.
    Lost,
}

/// What the heap asks of the operating system. A trait, so that tests can do each of the things that a system may do.
///
/// # Safety
/// What is reported is so; memory that is reported as mapped, purged or moved stays valid until it is unmapped, purged or moved. A call
/// touches nothing outside of the ranges it is given; within them, nothing that others mapped.
pub(crate) unsafe trait Os: Clone {
    /// Maps memory at a place where the caller has none. Nothing that lies there is replaced.
    fn map(&self, start: NonNull<u8>, bytes: usize) -> Map;

    /// Maps memory at a place of the system's choice, aligned to a power of two; `None` if there is none, and then nothing is mapped.
    fn map_anywhere(&self, bytes: usize, align: usize) -> Option<NonNull<u8>>;

    /// Ends a mapping. If it returns `false`, each page may be mapped still, or not: the range is not the caller's any more.
    ///
    /// # Safety
    /// The range is mapped by the caller, page-aligned, and nobody uses it any more.
    unsafe fn unmap(&self, start: NonNull<u8>, bytes: usize) -> bool;

    /// Gives the physical memory of a range back and keeps the addresses.
    ///
    /// # Safety
    /// The range is mapped by the caller, page-aligned, and nobody needs its contents.
    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> Purge;

    /// Moves the physical memory of one range to another, whose own is given back; the old range stays mapped.
    ///
    /// # Safety
    /// Both ranges are mapped by the caller, page-aligned and disjoint; nobody needs the contents of `to`, and nobody writes to `from`
    /// meanwhile.
    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Move;

    /// Asks for huge pages where the range, whole units of [`HUGE`], is touched from now on, or for none. May have no effect, or on a
    /// part only.
    ///
    /// # Safety
    /// The range is mapped by the caller.
    unsafe fn advise(&self, start: NonNull<u8>, bytes: usize, huge: bool);

    /// Copies the small pages of a whole unit of [`HUGE`] into one huge page, now. Returns whether it is known that all of it is
    /// resident then. Contents stay as they are whatever happens, and whatever lies there.
    fn collapse(&self, start: NonNull<u8>) -> bool;

    /// How many bytes of a range are resident; `None` if that is not told.
    fn resident(&self, start: NonNull<u8>, bytes: usize) -> Option<usize>;

    /// How many bytes of addresses the process may have, if that is limited.
    fn address_limit(&self) -> Option<usize>;

    /// Whether the system would never grant malloc so much at once, whatever else is freed.
    fn is_beyond(&self, bytes: usize) -> bool;

    /// Whether the process locks its memory: then what is resident counts at once.
    fn is_locked(&self) -> bool;

    /// How many mappings the process may have.
    fn max_mappings(&self) -> usize;

    /// The system's own page size in bytes: what is purged is a multiple of it.
    fn page_size(&self) -> usize;
}
