//! What is told of an allocator: numbers, and JSON.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::fmt::Write;

use serde::Serialize;
use tenzor_memory::{ArenaUsage, PlannedStats, Stats};
use tenzor_table::{Counts, Cut, is_there_room};

use crate::allocator::{Kind, tenzor_allocator};
use crate::heap;

/// How steps went.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct tenzor_plan_stats {
    /// Steps that ended.
    pub steps: u64,
    /// Those among them that went as planned from the first request to the last free.
    pub followed: u64,
    /// Those that began as planned, and departed from the plan.
    pub departed: u64,
    /// Plans made.
    pub plans: u64,
    /// The block's size in bytes.
    pub height: usize,
    /// Blocks that were refused.
    pub refused: u64,
}

impl From<PlannedStats> for tenzor_plan_stats {
    fn from(stats: PlannedStats) -> Self {
        let PlannedStats { steps, followed, departed, plans, height, refused, .. } = stats;
        Self { steps, followed, departed, plans, height, refused }
    }
}

#[derive(Serialize)]
struct Json {
    allocator: &'static str,
    stats: Stats,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<tenzor_plan_stats>,
}

/// An arena's usage in the terms of statistics.
fn of_arena(usage: &ArenaUsage) -> Stats {
    let mut stats = Stats::default();
    stats.allocations = usage.allocations as u64;
    (stats.bytes_in_use, stats.peak_bytes_in_use) = (usage.bytes_in_use, usage.peak_bytes_in_use);
    stats.bytes_in_use_rounded = usage.bytes_in_use;
    (stats.pooled_bytes, stats.overhead_bytes) = (usage.pooled_bytes, usage.overhead_bytes);
    (stats.reserved_bytes, stats.peak_reserved_bytes) = (usage.reserved_bytes, usage.peak_reserved_bytes);
    stats
}

fn stats(allocator: &tenzor_allocator, takes_peaks: bool) -> Json {
    let mut json = Json { allocator: "heap", stats: Stats::default(), blocks: None, plan: None };
    match &allocator.kind {
        Kind::Heap => json.stats = heap::stats(takes_peaks),
        Kind::Pool(pool) => {
            json.allocator = "pool";
            json.stats = if takes_peaks { pool.take_peaks() } else { pool.stats() };
        }
        Kind::Arena(arena) => {
            // SAFETY: *One thread*.
            let usage = unsafe { &*arena.get() }.usage();
            json.allocator = "arena";
            json.blocks = Some(usage.blocks);
            json.stats = of_arena(&usage);
            json.stats.failures = allocator.failures.get();
        }
        Kind::Planned(planned) => {
            json.allocator = "planned";
            json.stats = if takes_peaks { planned.upstream().take_peaks() } else { planned.upstream().stats() };
            json.plan = Some(planned.stats().into());
        }
    }
    json
}

/// Writes the statistics of an allocator: of a planned one, those of its pool, which serves its block and what is not planned; of an arena, what was requested
/// since the last reset, freed or not, of which nothing else is counted but what was refused. With `take_peaks`, the peaks are taken anew then, but for an arena's. Returns whether there is such an allocator.
///
/// # Safety
/// `allocator` and `stats` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_stats_of(
    allocator: *const tenzor_allocator,
    take_peaks: bool,
    stats: *mut Counts,
) -> bool {
    // SAFETY: the caller's word.
    let (Some(allocator), Some(to)) = (unsafe { (allocator.as_ref(), stats.as_mut()) }) else { return false };
    *to = Counts::from(&self::stats(allocator, take_peaks).stats);
    true
}

/// Writes how the steps of a planned allocator went. Returns whether it is one.
///
/// # Safety
/// `allocator` and `stats` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_plan_stats_of(
    allocator: *const tenzor_allocator,
    stats: *mut tenzor_plan_stats,
) -> bool {
    // SAFETY: the caller's word.
    let (Some(allocator), Some(to)) = (unsafe { (allocator.as_ref(), stats.as_mut()) }) else { return false };
    let Kind::Planned(planned) = &allocator.kind else { return false };
    *to = planned.stats().into();
    true
}

/// Writes the statistics of an allocator as JSON that ends with a zero, as much as there is room for, with a row for each size class. Returns the bytes of
/// all of it, without the zero; 0 if there is no such allocator, or no memory.
///
/// # Safety
/// `allocator` is null or valid; so many bytes may be written at `text`, which may be null if `room` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_stats_json(
    allocator: *const tenzor_allocator,
    text: *mut c_char,
    room: usize,
) -> usize {
    // SAFETY: the caller's word.
    let Some(allocator) = (unsafe { allocator.as_ref() }).filter(|_| is_there_room()) else { return 0 };
    let json = serde_json::to_string(&stats(allocator, false)).unwrap_or_default();
    let room = if text.is_null() { 0 } else { room };
    // SAFETY: the caller's word; the last byte is for the zero.
    unsafe {
        let mut to = Cut::new(text.cast(), room.saturating_sub(1));
        // It never fails.
        _ = to.write_str(&json);
        if room > 0 {
            text.add(json.len().min(room - 1)).write(0);
        }
    }
    json.len()
}
