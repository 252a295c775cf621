//! Where the process's resident memory is.

use std::fmt;
use std::ptr::NonNull;

use super::shards::{self, Shard};
use super::{snapshot, threads};
use crate::bytes::Bytes;
use crate::heap::classes::PAGE;
use crate::os::{self, HUGE, Linux, Os};
use crate::pressure::HEAP;

/// Where the process's resident memory is: who holds how much of the heap's, and what is not the heap's. All fields count bytes.
///
/// What lies in the heap counts once, and each byte of it in one row, as the heap's books have it: whole blocks, whole pages. What of that is not resident is
/// [`untouched_bytes`](Self::untouched_bytes). So the rows add up to the memory that the heap has of the system, and [`other_bytes`](Self::other_bytes) is the rest: programs,
/// stacks, files, other allocators. It is shown as a table:
///
/// ```
/// use tenzor_memory::Pages;
///
/// let footprint = Pages.footprint();
/// let books = footprint.in_use_bytes
///     + footprint.pooled_bytes
///     + footprint.idle_bytes
///     + footprint.cached_bytes
///     + footprint.free_bytes
///     + footprint.table_bytes;
/// assert_eq!(books.checked_add_signed(-footprint.untouched_bytes), Some(footprint.heap_bytes()));
/// if let (Some(all), Some(others)) = (footprint.resident_bytes, footprint.other_bytes()) {
///     assert_eq!(footprint.heap_bytes() + others, all);
/// }
/// println!("{footprint}");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Footprint {
    /// Blocks in use, rounded, without what the next two keep.
    pub in_use_bytes: usize,
    /// Kept by pools over the heap.
    pub pooled_bytes: usize,
    /// Kept by planned allocators between two steps, and arenas that were reset, over the heap or over such pools.
    pub idle_bytes: usize,
    /// At hand for single threads: free blocks in their caches, free pages of their parcels.
    pub cached_bytes: usize,
    /// Free in the heap: ranges of pages, blocks of slabs.
    pub free_bytes: usize,
    /// Counted in the rows above or below, and not resident: never touched, or swapped out. It is less than 0 where the system made more resident than anybody
    /// touched, and 0 where it does not tell.
    pub untouched_bytes: isize,
    /// The heap's own: its tables, and what threads' caches are noted in.
    pub table_bytes: usize,
    /// All of the process's resident memory, if the system tells.
    pub resident_bytes: Option<usize>,
}

impl Footprint {
    /// What of the heap is resident: the sum of all rows.
    pub fn heap_bytes(&self) -> usize {
        self.rows().fold(0_isize, |sum, (_, bytes)| sum.saturating_add(bytes)).max(0).cast_unsigned()
    }

    /// What is resident and not the heap's. Where pages of the heap were read and never written, they share one page of zeros, which is nobody's memory, and
    /// this is less by as much.
    pub fn other_bytes(&self) -> Option<usize> {
        Some(self.resident_bytes?.saturating_sub(self.heap_bytes()))
    }

    fn rows(&self) -> impl Iterator<Item = (&'static str, isize)> {
        let bytes = |bytes| isize::try_from(bytes).unwrap_or(isize::MAX);
        [
            ("in use", bytes(self.in_use_bytes)),
            ("kept by pools", bytes(self.pooled_bytes)),
            ("kept by idle plans and arenas", bytes(self.idle_bytes)),
            ("kept for threads", bytes(self.cached_bytes)),
            ("free in the heap", bytes(self.free_bytes)),
            ("tables of the heap", bytes(self.table_bytes)),
            ("of these, never touched", self.untouched_bytes.saturating_neg()),
        ]
        .into_iter()
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, bytes: isize| {
            let sign = if bytes < 0 { "−" } else { "" };
            writeln!(f, "{name:<30} {:>12}", format!("{sign}{}", Bytes(bytes.unsigned_abs())))
        };
        self.rows().try_for_each(|(name, bytes)| row(name, bytes))?;
        let bytes = |bytes: usize| isize::try_from(bytes).unwrap_or(isize::MAX);
        match self.resident_bytes.zip(self.other_bytes()) {
            Some((all, others)) => {
                row("not the heap's", bytes(others))?;
                row("resident memory", bytes(all))
            }
            None => row("resident memory of the heap", bytes(self.heap_bytes())),
        }
    }
}

/// Of this instant.
pub(crate) fn footprint() -> Footprint {
    let counted = snapshot();
    let (reserved, rounded, cached) = (counted.reserved(), counted.in_use_rounded(), counted.held_by_threads());
    let caches = threads::bytes_of_caches();
    let kept = HEAP.settled();
    // What of these changed meanwhile is in one row at most.
    let idle_bytes = kept.blocks.min(rounded);
    let pooled_bytes = kept.pools.min(rounded - idle_bytes);
    let free_bytes = reserved.saturating_sub(rounded + cached + caches);
    let resident = shards::all().filter_map(resident_of).reduce(|sum, more| sum + more);
    let books = rounded + cached + free_bytes + caches;
    Footprint {
        in_use_bytes: rounded - idle_bytes - pooled_bytes,
        pooled_bytes,
        idle_bytes,
        cached_bytes: cached,
        free_bytes,
        untouched_bytes: resident.map_or(0, |resident| books.wrapping_sub(resident).cast_signed()),
        table_bytes: caches + shards::all().map(tables_of).sum::<usize>(),
        resident_bytes: os::resident(),
    }
}

/// How many bytes of a shard's pages are resident; `None` if that is not told.
fn resident_of(shard: &'static Shard) -> Option<usize> {
    /// Units that are looked up under one hold of the lock.
    const SURVEYED: usize = 64;
    let (mut all, mut next) = (None, 0);
    while let Some((start, first, mapped)) = shard.enter()?.heap.survey::<SURVEYED>(next) {
        for (unit, pages) in mapped.into_iter().enumerate().filter(|(_, pages)| *pages > 0) {
            let at = start.map_addr(|address| address.saturating_add(unit * HUGE));
            // What was unmapped meanwhile is not resident any more.
            if let Some(bytes) = Linux.resident(at, pages as usize * PAGE) {
                *all.get_or_insert(0) += bytes;
            }
        }
        next = first + SURVEYED as u32;
    }
    all
}

/// How many bytes of a shard's tables are resident, or all where that is not told.
fn tables_of(shard: &'static Shard) -> usize {
    let tables = shard.enter().map(|mut inside| inside.heap.table_mappings());
    let resident = |(start, bytes): (NonNull<u8>, usize)| Linux.resident(start, bytes).unwrap_or(bytes);
    tables.into_iter().flatten().chain(shard.mapping()).map(resident).sum()
}
