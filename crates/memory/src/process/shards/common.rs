//! How much memory all shards together may keep: whoever takes more from the system has the one give back that has most to spare.

use std::ptr;

use super::{Inside, all, are_many};
use crate::heap::Budget;
use crate::heap::classes::PAGE;
use crate::process::errands::pursue;
use crate::sync::Lock;
use crate::sync::atomic::Ordering::Relaxed;

/// How much may be resident in all shards.
pub(super) static COMMON: Lock<Budget> = Lock::new(Budget::new());

/// A request took memory from the system. Where more is resident in all shards than shall be, the one that has most to spare gives some
/// back.
pub(in crate::process) fn balance(inside: Inside) {
    if !are_many() {
        return;
    }
    inside.publish();
    let mine = inside.shard;
    drop(inside);
    let (mut in_use, mut resident, mut richest) = (0, 0, (0, mine));
    for shard in all() {
        let (used, had) = (shard.in_use.load(Relaxed), shard.resident.load(Relaxed));
        (in_use, resident) = (in_use + used, resident + had);
        // Others wait while theirs goes back: they are to have much more.
        let idle = had.saturating_sub(used) / if ptr::eq(shard, mine) { 1 } else { 2 };
        if idle > richest.0 {
            richest = (idle, shard);
        }
    }
    let allowed = {
        let mut common = COMMON.lock();
        common.see(in_use);
        common.pages()
    };
    let excess = resident.saturating_sub(allowed);
    if excess == 0 {
        return;
    }
    let Some(rich) = richest.1.enter() else { return };
    let mut goal = rich.heap.evict(excess);
    pursue(rich, &mut goal).publish();
    COMMON.lock().learn(goal.gone());
}

/// Bytes in use in all shards, in whole pages, more or less.
pub(in crate::process) fn in_use() -> usize {
    all().map(|shard| shard.in_use.load(Relaxed) as usize).sum::<usize>() * PAGE
}

#[cfg(tenzor_serial)]
pub(in crate::process) fn common_held() -> (u64, u64) {
    COMMON.held()
}

/// Time has passed.
pub(in crate::process) fn tick() {
    if are_many() {
        COMMON.lock().tick();
    }
}
