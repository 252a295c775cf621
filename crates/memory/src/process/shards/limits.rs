//! The limits that are set for the process, and what each shard has of them.

use super::opening::OPENING;
use super::{FIRST, Inside, all, are_many};
use crate::heap::classes::PAGE;
use crate::heap_config::HeapSettings;
use crate::os;
use crate::sync::BREATH;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicUsize};

/// What may be in use and free in all shards, in bytes.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static IDLE_LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// There is one home for all: what is limited is counted in one place.
pub(super) static IS_LIMITED: AtomicBool = AtomicBool::new(false);

/// Whether there is a limit of what may be in use, or idle.
#[inline]
pub(in crate::process) fn is_limited() -> bool {
    IS_LIMITED.load(Relaxed)
}

/// Before the first request is served.
pub(in crate::process) fn begin(settings: &HeapSettings) {
    let [limit, idle] = limits(settings);
    remember_limits(limit, idle);
    let heap = &mut FIRST.state.lock().heap;
    heap.set_limits(limit, idle);
    heap.set_policy(settings.huge_pages.value);
}

/// Heeds other settings from now on.
pub(in crate::process) fn heed(settings: &HeapSettings) {
    let [limit, idle] = limits(settings);
    remember_limits(limit, idle);
    renew_limits();
    // Who opens one meanwhile would have the policy of before.
    while OPENING.swap(true, Acquire) {
        os::sleep(BREATH);
    }
    all().for_each(|shard| shard.lock().heap.set_policy(settings.huge_pages.value));
    OPENING.store(false, Release);
}

/// The most bytes that may be in use, and resident but free.
fn limits(settings: &HeapSettings) -> [usize; 2] {
    [settings.limit, settings.idle_limit].map(|limit| limit.value.unwrap_or(usize::MAX))
}

fn remember_limits(in_use: usize, idle: usize) {
    LIMIT.store(in_use, Relaxed);
    IDLE_LIMIT.store(idle, Relaxed);
    IS_LIMITED.store(in_use.min(idle) != usize::MAX, Relaxed);
}

/// What others have in use is not the first shard's to give.
pub(in crate::process) fn renew_limits() {
    let (mut in_use, idle) = (LIMIT.load(Relaxed), IDLE_LIMIT.load(Relaxed));
    let is_limited = IS_LIMITED.load(Relaxed);
    for shard in all().skip(1) {
        let Some(mut inside) = shard.enter() else { return };
        if is_limited {
            let used = inside.heap.pages_in_use() as usize * PAGE;
            inside.heap.set_limits(used, 0);
            in_use = in_use.saturating_sub(used);
        } else {
            inside.heap.set_limits(usize::MAX, usize::MAX);
        }
    }
    if let Some(mut inside) = FIRST.enter() {
        inside.heap.set_limits(in_use, idle);
    }
}

/// As [`renew_limits`], on the way, if there are any.
pub(in crate::process) fn with_limits_renewed(inside: Inside) -> Option<Inside> {
    if !are_many() || !IS_LIMITED.load(Relaxed) {
        return Some(inside);
    }
    let shard = inside.shard;
    drop(inside);
    renew_limits();
    shard.enter()
}

/// The most bytes that may be in use.
pub(in crate::process) fn limit() -> Option<usize> {
    Some(LIMIT.load(Relaxed)).filter(|&limit| limit != usize::MAX)
}

/// Whether so many bytes cannot be had, whatever is freed.
pub(in crate::process) fn is_beyond(bytes: usize) -> bool {
    bytes > LIMIT.load(Relaxed)
}
