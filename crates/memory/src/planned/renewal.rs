//! Which block is in use, and when another takes its place.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::mem;
use std::ptr::NonNull;

use super::PlannedAllocator;
use super::block::PlannedBlock;
use super::script::Script;
use super::serving::wipe;
use super::state::Plans;
use super::tuning::{CROWDED_STEPS, LONGEST_REST};
use crate::backing::Backing;

impl<B: Backing> PlannedAllocator<B> {
    /// Whether a step that begins now can be followed from its first request. Where a block was given up, none is taken before that request tells
    /// which plan it is for.
    pub(super) fn is_ready(&self, state: &mut Plans) -> bool {
        if state.is_thrifty && state.is_idle() {
            state.plans.first().is_some_and(|script| state.suffices(script))
        } else {
            !state.plans.is_empty() && self.has_block(state)
        }
    }

    /// Where a block was given up: sees to it that there is one for the plan that begins with this request, the first of the step. Returns
    /// whether it can be followed.
    pub(super) fn begins_thriftily(&self, state: &mut Plans, request: Layout) -> bool {
        let begins = |script: &Script| {
            script.moves.first().is_some_and(|first| first.size == request.size() && first.align == request.align())
        };
        while state.is_thrifty
            && state.is_idle()
            && let Some(index) = state.plans.iter().position(begins)
        {
            state.plans[..=index].rotate_right(1);
            if self.has_block(state) {
                return true;
            }
        }
        false
    }

    /// Sees to it that there is a block for all plans, or for the first alone, and nothing alive in it. Plans for which there is no memory are given
    /// up: the pool goes on alone.
    pub(super) fn has_block(&self, state: &mut Plans) -> bool {
        if state.block.as_ref().is_some_and(|block| !block.live.is_empty()) {
            state.crowded += 1;
            if state.crowded <= CROWDED_STEPS || !state.retired.is_empty() || state.is_at_rest() {
                return false;
            }
            let Some(block) = self.new_block(state) else { return false };
            self.set_block(state, Some(block));
            return true;
        }
        state.crowded = 0;
        let refused = state.stats.refused;
        let suffices = |(PlannedBlock { layout, .. }, needed): (&_, Layout)| {
            layout.size() >= needed.size() && layout.align() >= needed.align()
        };
        loop {
            if state.block.as_ref().zip(state.needed()).is_some_and(suffices) {
                state.is_thrifty = !state.plans.iter().all(|script| state.suffices(script));
                return true;
            }
            self.set_block(state, None);
            if let Some(block) = self.new_block(state) {
                self.set_block(state, Some(block));
                if state.stats.refused == refused {
                    state.rest = 0;
                }
                continue;
            }
            if state.is_thrifty {
                state.plans.remove(0);
                return false;
            }
            // An alignment can cost as much again.
            let taken = |script: &Script| script.plan.height().saturating_add(script.plan.align());
            let most = state.plans.iter().map(taken).max();
            state.plans.retain(|script| Some(taken(script)) != most);
            if state.plans.is_empty() {
                return false;
            }
        }
    }

    /// Puts the block aside, if nothing is alive in it.
    pub(super) fn put_aside(&self, state: &mut Plans) {
        if let Some(PlannedBlock { base, layout, live }) = &state.block
            && live.is_empty()
        {
            // SAFETY: it came from the pool with this layout; nothing is alive in it, and it is taken back before something is placed there.
            unsafe { self.home.put(*base, *layout) };
            state.is_aside = true;
        }
    }

    /// Takes the block back, or forgets it, if it is not there any more.
    pub(super) fn take_back(&self, state: &mut Plans) {
        if mem::replace(&mut state.is_aside, false) && !self.home.take() {
            state.block = None;
            state.is_thrifty = true;
            self.set_block(state, None);
        }
    }

    fn new_block(&self, state: &mut Plans) -> Option<PlannedBlock> {
        // What served the steps until now is not needed beside the block.
        self.pool.clear_pool();
        let new =
            |layout| Some(PlannedBlock { base: self.pool.request_apart(layout).ok()?, layout, live: BTreeMap::new() });
        let block = state.needed().and_then(new);
        if block.is_none() {
            state.stats.refused += 1;
            if !state.is_at_rest() {
                state.rest = (2 * state.rest).clamp(1, LONGEST_REST);
                state.rested = state.stats.steps + state.rest;
            }
        }
        block
    }

    /// Puts a block, or none, in the place of the one there is, which is given back as soon as nothing is alive in it.
    pub(super) fn set_block(&self, state: &mut Plans, block: Option<PlannedBlock>) {
        self.base.set(block.as_ref().map_or(NonNull::dangling(), |block| block.base));
        state.stats.height = block.as_ref().map_or(0, |block| block.layout.size());
        if let Some(old) = mem::replace(&mut state.block, block) {
            if old.live.is_empty() { self.give_back(old) } else { state.retired.push(old) }
        }
    }

    /// Gives a block back in which nothing is alive, or nothing that anybody can use any more.
    pub(super) fn give_back(&self, PlannedBlock { base, layout, .. }: PlannedBlock) {
        debug_assert!(base.addr().get().is_multiple_of(layout.align()));
        // SAFETY: the block came from there with this layout.
        unsafe {
            if self.zero_on_free {
                // Something may have been forgotten.
                wipe(base, layout.size());
            }
            self.pool.release_apart(base, layout);
        }
    }
}
