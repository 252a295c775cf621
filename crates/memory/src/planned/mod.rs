//! `PlannedAllocator`: repeated steps, served from one block.
//!
//! A step is followed move by move: as long as requests and frees come in the planned order, what is alive is what the plan says is alive,
//! and the plan's offsets can be handed out as they are. That is one comparison and one addition. With the first departure the step is
//! **watched** to its end: what is alive in the block is kept in a list, and a request is served from the block only if nothing in the list
//! is in its way. A step that starts while something is alive in the block is watched from its beginning. So no two live buffers
//! overlap, whatever the program does. Where something stays alive, another block takes the place of the one it is in, which is **retired**:
//! it is given back when its last buffer is freed.
//!
//! Steps without a plan, and those that depart, are recorded. When two recordings agree, a plan is made of them.
#![allow(unsafe_code)]

mod block;
mod recording;
mod script;
mod state;
mod stats;

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::mem::{self, MaybeUninit};
use std::ptr::{self, NonNull};

use bytemuck::Zeroable;
use tenzor_plan::{ELSEWHERE, PlanFileError, Planner, read_plans, write_plans};
use tenzor_trace::Event;

use self::block::PlannedBlock;
use self::recording::{Recording, actions};
use self::script::{ANYTHING_ELSE, END, Expected, FREE, Script};
use self::state::{PLANS, Phase, Plans};
pub use self::stats::PlannedStats;
use crate::allocator::TensorAllocator;
use crate::backing::{Backing, System};
use crate::buffer::Buffer;
use crate::error::{AllocError, AllocErrorKind};
use crate::layout::dangling;
use crate::provider::{Provider, typed_requests};

/// The longest rest after a block was refused, in steps.
const LONGEST_REST: u64 = 1 << 10;

/// So many steps may begin with something alive in the block; with the next one, another block is taken.
const CROWDED: u32 = 8;

/// An allocator for steps that repeat: it records what a step requests, places all of it in one block, and serves the next steps from there.
///
/// The first rounds are served by the pool. When two rounds agree, what they requested and freed is planned, at the end of the second one:
/// then nothing is alive that would be in the way, the pool's memory can be given back before the block is taken, and the
/// same program gets the same addresses at each run, unless planning [ran out of time](Self::new). A buffer that outlives its step always
/// comes from the pool.
///
/// A step that departs from its plan is noticed at once. What does not fit beside what is alive is then served by the pool.
/// A buffer that outlives its step against the plan holds the block: after eight steps, another block is taken, and the first is given back once the
/// buffer is freed. Meanwhile there is no third block.
/// Steps of several shapes have a plan each.
///
/// In the block, a buffer is aligned to 64 bytes or, if that is more, as its request says. The typed requests say
/// [`PoolConfig::alignment`](crate::PoolConfig::alignment) or more.
///
/// A resize is a request, a copy and a free, also in a [step planned ahead](Self::plan_ahead): both buffers are alive for an instant.
/// [`Problem::from_events`](tenzor_plan::Problem::from_events), for whoever can resize in place, keeps the buffer where it is.
///
/// For one thread: it is not `Sync`, and neither it nor its buffers can be used by another one while it is borrowed.
///
/// ```compile_fail,E0277
/// fn shared_between_threads<T: Sync>() {}
/// shared_between_threads::<tenzor_memory::PlannedAllocator>();
/// ```
///
/// ```
/// use tenzor_memory::{PlannedAllocator, TensorAllocator};
///
/// let planned = PlannedAllocator::new(TensorAllocator::new());
/// for _ in 0..10 {
///     planned.step(|alloc| {
///         let hidden = alloc.alloc_filled(1000, 1.0_f32)?;
///         let output = alloc.alloc_filled(10, hidden.iter().sum::<f32>())?;
///         assert_eq!(output[9], 1000.0);
///         Ok::<(), tenzor_memory::AllocError>(())
///     })?;
/// }
/// let stats = planned.stats();
/// assert_eq!((stats.steps, stats.followed), (10, 8));
/// assert_eq!(stats.height, 4032 + 64);
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
pub struct PlannedAllocator<B: Backing = System> {
    pool: TensorAllocator<B>,
    /// What has to happen next. Points to a move of the active plan while a step is followed, else to [`ANYTHING_ELSE`].
    next: Cell<*const Expected>,
    /// That of the block in `state`; dangling without one.
    base: Cell<NonNull<u8>>,
    /// [`PoolConfig::zero_on_free`](crate::PoolConfig::zero_on_free), at hand.
    zero_on_free: bool,
    state: RefCell<Plans>,
}

impl<B: Backing> PlannedAllocator<B> {
    /// One without plans, over a pool. The block comes from the pool's backing and counts against its limit.
    ///
    /// A step is planned once, at its end, where the program waits for it: some 50 ms for 1000 requests; the search for a better plan ends
    /// after 250 ms. Where that is time enough, the same program gets the same plans. With [`with_planner`](Self::with_planner) you decide.
    pub fn new(upstream: TensorAllocator<B>) -> Self {
        Self {
            zero_on_free: upstream.config().zero_on_free,
            pool: upstream,
            next: Cell::new(&raw const ANYTHING_ELSE),
            base: Cell::new(NonNull::dangling()),
            state: RefCell::default(),
        }
    }

    /// As [`new`](Self::new), with a planner of one's own: less patient, more thorough, or the same at each run for steps of any size.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenzor_memory::{PlannedAllocator, TensorAllocator};
    /// use tenzor_plan::Planner;
    ///
    /// let quick = Planner::new().with_deadline(Duration::from_millis(5));
    /// let planned = PlannedAllocator::with_planner(TensorAllocator::new(), quick);
    /// for _ in 0..10 {
    ///     planned.step(|alloc| drop(alloc.alloc::<f32>(1000)));
    /// }
    /// assert_eq!(planned.stats().followed, 8);
    /// ```
    pub fn with_planner(upstream: TensorAllocator<B>, planner: Planner<'static>) -> Self {
        let planned = Self::new(upstream);
        planned.state.borrow_mut().planner = Some(planner);
        planned
    }

    /// Runs a step. It ends when `f` returns or unwinds. A step within a step is part of it. What `f` returns may be a buffer.
    ///
    /// ```
    /// use tenzor_memory::{AllocError, PlannedAllocator, TensorAllocator};
    ///
    /// let planned = PlannedAllocator::new(TensorAllocator::new());
    /// let sum = planned.step(|alloc| {
    ///     let (a, b) = (alloc.alloc_filled(1000, 1.0_f32)?, alloc.alloc_filled(1000, 2.0_f32)?);
    ///     let sum = alloc.alloc_from_fn(1000, |i| a[i] + b[i])?;
    ///     Ok::<_, AllocError>(sum)
    /// })?;
    /// assert_eq!(sum[999], 3.0);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn step<'a, R>(&'a self, f: impl FnOnce(&'a Self) -> R) -> R {
        let _step = self.enter();
        f(self)
    }

    /// Begins a step, for where a closure does not fit. It ends when what is returned is dropped.
    pub fn enter(&self) -> Step<'_, B> {
        Step { of: self.begin().then_some(self) }
    }

    /// Plans a step of a recorded trace, so that it is followed from its first round on. Returns whether there is a plan for it now; none
    /// is made while a step runs, and for a step that is too long.
    ///
    /// ```
    /// use tenzor_memory::{PlannedAllocator, TensorAllocator};
    /// use tenzor_trace::Trace;
    ///
    /// let csv = "op,id,size,align,thread,seq\na,0,4000,64,0,1\na,1,100,64,0,2\nf,0,0,0,0,3\nf,1,0,0,0,4\n";
    /// let trace = Trace::parse(csv.as_bytes())?;
    /// let planned = PlannedAllocator::new(TensorAllocator::new());
    /// for step in trace.steps() {
    ///     assert!(planned.plan_ahead(step));
    /// }
    /// planned.step(|alloc| {
    ///     let (weights, bias) = (alloc.alloc::<u8>(4000)?, alloc.alloc::<u8>(100)?);
    ///     drop(weights);
    ///     drop(bias);
    ///     Ok::<(), tenzor_memory::AllocError>(())
    /// })?;
    /// assert_eq!(planned.stats().followed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn plan_ahead(&self, step: &[Event]) -> bool {
        let actions = actions(step);
        let state = &mut *self.state.borrow_mut();
        if state.plans.iter().any(|script| script.plan.actions() == actions) {
            return true;
        }
        let may = matches!(state.phase, Phase::Outside) && !actions.is_empty();
        let before = state.stats.plans;
        if may && let Some(plan) = state.make(actions) {
            state.adopt(plan);
        }
        state.stats.plans > before
    }

    typed_requests!("let alloc = tenzor_memory::PlannedAllocator::new(tenzor_memory::TensorAllocator::new());");

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// The pool that serves what is not planned.
    pub fn upstream(&self) -> &TensorAllocator<B> {
        &self.pool
    }

    /// Writes its plans, so that another process can start with them.
    ///
    /// ```
    /// use tenzor_memory::{PlannedAllocator, TensorAllocator};
    ///
    /// # let step = |planned: &PlannedAllocator| planned.step(|alloc| drop(alloc.alloc::<f32>(1000)));
    /// let first = PlannedAllocator::new(TensorAllocator::new());
    /// step(&first);
    /// step(&first);
    /// let mut saved = Vec::new();
    /// first.save(&mut saved)?;
    ///
    /// let second = PlannedAllocator::new(TensorAllocator::new());
    /// assert_eq!(second.load(&saved[..])?, 1);
    /// step(&second);
    /// assert_eq!(second.stats().followed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What the writer reports.
    pub fn save(&self, out: impl Write) -> io::Result<()> {
        write_plans(self.state.borrow().plans.iter().map(|script| &script.plan), out)
    }

    /// Takes over saved plans, and returns how many. Steps are then planned from the first one on. Plans that are known already are left out,
    /// those beyond the eighth as well, and all of them while a step runs.
    ///
    /// # Errors
    /// [`PlanFileError`] if it is no file of plans; then nothing has changed. Memory safety does not depend on what is in the file.
    pub fn load(&self, input: impl Read) -> Result<usize, PlanFileError> {
        let plans = read_plans(input)?;
        let state = &mut *self.state.borrow_mut();
        let before = state.stats.plans;
        for plan in plans.into_iter().take(PLANS).rev() {
            let is_known = state.plans.iter().any(|known| known.plan.actions() == plan.actions());
            if !is_known && matches!(state.phase, Phase::Outside) {
                state.adopt(plan);
            }
        }
        Ok((state.stats.plans - before) as usize)
    }

    /// Forgets all plans and what was recorded, and gives the block back: now, or when nothing is alive in it any more.
    ///
    /// ```
    /// let planned = tenzor_memory::PlannedAllocator::default();
    /// for _ in 0..3 {
    ///     planned.step(|alloc| drop(alloc.alloc::<f32>(1000)));
    /// }
    /// planned.clear_plans();
    /// assert_eq!(planned.upstream().stats().reserved_bytes, 0);
    /// ```
    pub fn clear_plans(&self) {
        let state = &mut *self.state.borrow_mut();
        if let Phase::Following = state.phase {
            self.depart(state, state.position(self.next.get()));
        }
        state.plans.clear();
        state.seen.clear();
        self.set_block(state, None);
    }

    /// What it did so far.
    pub fn stats(&self) -> PlannedStats {
        self.state.borrow().stats
    }

    /// Returns whether this is a step of its own.
    fn begin(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        if !matches!(state.phase, Phase::Outside) {
            return false;
        }
        if !state.plans.is_empty() && self.has_block(state) {
            state.phase = Phase::Following;
            self.next.set(state.plans[0].moves.as_ptr());
        } else {
            state.phase = Phase::Watching(Recording::default());
        }
        true
    }

    fn end(&self) {
        let state = &mut *self.state.borrow_mut();
        state.stats.steps += 1;
        if let Phase::Following = state.phase {
            let done = state.position(self.next.replace(&raw const ANYTHING_ELSE));
            if state.goes_on(done, |next| next.size == END) {
                state.stats.followed += 1;
            } else {
                // It ended early.
                self.depart(state, done);
            }
        }
        if let Phase::Watching(recording) = mem::replace(&mut state.phase, Phase::Outside) {
            state.learn(recording);
        }
    }

    /// From now on the step, which followed the first plan for `done` moves, is watched.
    fn depart(&self, state: &mut Plans, done: usize) {
        self.next.set(&raw const ANYTHING_ELSE);
        state.stats.departed += 1;
        state.phase = Phase::Watching(state.recorded(done));
    }

    /// Sees to it that there is a block for all plans, and nothing alive in it. Plans for which there is no memory are given up: the pool goes
    /// on alone.
    fn has_block(&self, state: &mut Plans) -> bool {
        if state.block.as_ref().is_some_and(|block| !block.live.is_empty()) {
            state.crowded += 1;
            if state.crowded <= CROWDED || !state.retired.is_empty() || state.is_at_rest() {
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
                return true;
            }
            self.set_block(state, None);
            if let Some(block) = self.new_block(state) {
                self.set_block(state, Some(block));
                if state.stats.refused == refused {
                    state.rest = 0;
                }
                return true;
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
    fn set_block(&self, state: &mut Plans, block: Option<PlannedBlock>) {
        self.base.set(block.as_ref().map_or(NonNull::dangling(), |block| block.base));
        state.stats.height = block.as_ref().map_or(0, |block| block.layout.size());
        if let Some(old) = mem::replace(&mut state.block, block) {
            if old.live.is_empty() { self.give_back(old) } else { state.retired.push(old) }
        }
    }

    /// Gives a block back in which nothing is alive, or nothing that anybody can use any more.
    fn give_back(&self, PlannedBlock { base, layout, .. }: PlannedBlock) {
        debug_assert!(base.addr().get().is_multiple_of(layout.align()));
        // SAFETY: the block came from there with this layout.
        unsafe {
            if self.zero_on_free {
                // Something may have been forgotten.
                wipe(base, layout);
            }
            self.pool.release_apart(base, layout);
        }
    }

    /// A request that is not what comes next.
    #[cold]
    fn request_otherwise(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        let mut borrowed = self.state.borrow_mut();
        let state = &mut *borrowed;
        if let Phase::Following = state.phase {
            let done = state.position(self.next.get());
            if state.goes_on(done, |next| next.size == layout.size() && next.align == layout.align()) {
                if state.plans[0].moves[done].offset != ELSEWHERE {
                    self.next.set(&raw const state.plans[0].moves[done]);
                    drop(borrowed);
                    return self.request(layout, zeroed);
                }
                // It outlives the step, so the pool serves it.
                if let Ok(ptr) = self.pool.request(layout, zeroed) {
                    self.next.set(&raw const state.plans[0].moves[done + 1]);
                    return Ok(ptr);
                }
            }
            self.depart(state, done);
        }
        let place = match (&mut state.phase, state.plans.first()) {
            (Phase::Watching(recording), Some(script)) => recording.place(script, layout),
            _ => None,
        };
        let ptr = match state.block.as_mut().zip(place).filter(|(block, place)| block.has_room(*place, layout)) {
            Some((block, offset)) => {
                block.live.insert(offset, offset + layout.size());
                // SAFETY: it lies within the block.
                let ptr = unsafe { block.base.add(offset) };
                if zeroed {
                    // SAFETY: the buffer has so many bytes, and nobody else has it.
                    unsafe { ptr.write_bytes(0, layout.size()) };
                }
                ptr
            }
            None => self.request_elsewhere(state, layout, zeroed)?,
        };
        if let Phase::Watching(recording) = &mut state.phase {
            recording.requested(ptr.addr().get(), layout);
        }
        Ok(ptr)
    }

    /// A request to the pool, in whose way no block is left in which nothing is alive.
    fn request_elsewhere(&self, state: &mut Plans, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let first = self.pool.request(layout, zeroed);
        let is_idle = state.block.as_ref().is_some_and(|block| block.live.is_empty());
        match first {
            Err(refusal) if is_idle && refusal.kind() != AllocErrorKind::NeverFits => {
                self.set_block(state, None);
                self.pool.request(layout, zeroed)
            }
            first => first,
        }
    }

    /// A free that is not what comes next.
    ///
    /// # Safety
    /// As [`Provider::release`].
    #[cold]
    unsafe fn release_otherwise(&self, ptr: NonNull<u8>, layout: Layout) {
        debug_assert!(ptr.addr().get().is_multiple_of(layout.align()));
        if layout.size() == 0 {
            return;
        }
        let mut borrowed = self.state.borrow_mut();
        let state = &mut *borrowed;
        let offset = state.block.as_ref().and_then(|block| block.offset(ptr));
        let mut retired = state.retired.iter().enumerate();
        let retired = retired.find_map(|(index, block)| Some((index, block.offset(ptr)?)));
        debug_assert!(offset.is_none_or(|offset| state.has_in_block(offset, layout)));
        if self.zero_on_free && (offset.is_some() || retired.is_some()) {
            // SAFETY: as in `release`.
            unsafe { wipe(ptr, layout) };
        }
        if let Phase::Following = state.phase
            && let Some(offset) = offset
        {
            let done = state.position(self.next.get());
            if state.goes_on(done, |next| next.size == FREE && next.offset == offset) {
                self.next.set(&raw const state.plans[0].moves[done + 1]);
                return;
            }
            self.depart(state, done);
        }
        if let Phase::Watching(recording) = &mut state.phase {
            recording.freed(ptr.addr().get());
        }
        if let Some((block, offset)) = state.block.as_mut().zip(offset) {
            let end = block.live.remove(&offset);
            debug_assert!(end == Some(offset + layout.size()));
        } else if let Some((index, offset)) = retired {
            let block = &mut state.retired[index];
            let end = block.live.remove(&offset);
            debug_assert!(end == Some(offset + layout.size()));
            if block.live.is_empty() {
                self.give_back(state.retired.swap_remove(index));
            }
        } else {
            // SAFETY: it is not in a block, so it came from the pool; the rest is the caller's word.
            unsafe { self.pool.release(ptr, layout) };
        }
    }
}

/// A step that runs; see [`PlannedAllocator::enter`].
#[derive(Debug)]
pub struct Step<'a, B: Backing> {
    /// None for a step within another one.
    of: Option<&'a PlannedAllocator<B>>,
}

impl<B: Backing> Drop for Step<'_, B> {
    fn drop(&mut self) {
        if let Some(planned) = self.of {
            planned.end();
        }
    }
}

/// Overwrites what nobody uses any more.
///
/// # Safety
/// So many bytes there are the caller's.
#[cold]
unsafe fn wipe(ptr: NonNull<u8>, layout: Layout) {
    // SAFETY: the caller's word.
    unsafe { ptr.write_bytes(0, layout.size()) };
    // Keeps the writes from being seen as dead.
    black_box(ptr);
}

// SAFETY: what is granted comes from the pool, whose promises hold, or from the block: then it lies within it, aligned as the plan says, which
// is at least as asked. While a step is followed, what is alive in the block is exactly what the plan has alive after the moves
// made (nothing was when it began, and each request and free in the block was the next move), and no two buffers of a plan that are alive
// together overlap (`StepPlan::new`). While it is not, `live` has all that is alive in the block, and nothing is granted over it. Nothing is
// granted from retired blocks, which stay as long as something is alive in them.
unsafe impl<B: Backing> Provider for PlannedAllocator<B> {
    #[inline]
    fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let next = self.next.get();
        // SAFETY: it points to a move of a plan, which no request or free changes while a step is followed, or to `ANYTHING_ELSE`.
        let planned = unsafe { &*next };
        if planned.size != layout.size() || planned.align != layout.align() || planned.offset == ELSEWHERE {
            return self.request_otherwise(layout, zeroed);
        }
        // SAFETY: its size is that of a request, so it is not the last of the plan.
        self.next.set(unsafe { next.add(1) });
        debug_assert!(self.state.try_borrow().is_ok_and(|state| state.has_in_block(planned.offset, layout)));
        // SAFETY: the plan's offsets lie within the block.
        let ptr = unsafe { self.base.get().add(planned.offset) };
        if zeroed {
            // SAFETY: the buffer has so many bytes, and nobody else has it.
            unsafe { ptr.write_bytes(0, layout.size()) };
        }
        Ok(ptr)
    }

    #[inline]
    unsafe fn release(&self, ptr: NonNull<u8>, layout: Layout) {
        let next = self.next.get();
        // SAFETY: as in `request`.
        let planned = unsafe { &*next };
        // What has no size lies nowhere, at an address that may be the block's.
        let is_free = planned.size == FREE && layout.size() != 0;
        if is_free && ptr.addr().get() == self.base.get().addr().get().wrapping_add(planned.offset) {
            // SAFETY: it is a free, so it is not the last of the plan.
            self.next.set(unsafe { next.add(1) });
            debug_assert!(self.state.try_borrow().is_ok_and(|state| state.has_in_block(planned.offset, layout)));
            if self.zero_on_free {
                // SAFETY: it was granted with this layout, and the caller gives it up.
                unsafe { wipe(ptr, layout) };
            }
        } else {
            // SAFETY: the caller's word, passed on.
            unsafe { self.release_otherwise(ptr, layout) };
        }
    }

    unsafe fn resize(
        &self,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError> {
        debug_assert!(ptr.addr().get().is_multiple_of(old.align()));
        let moved = self.request(new, zeroed)?;
        // SAFETY: both have at least that many bytes, and are distinct, as the old one was not released; it is the caller's to release.
        unsafe {
            ptr::copy_nonoverlapping(ptr.as_ptr(), moved.as_ptr(), old.size().min(new.size()));
            self.release(ptr, old);
        }
        Ok(moved)
    }

    #[inline]
    fn alignment(&self) -> usize {
        self.pool.alignment()
    }

    fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
        self.pool.never_fits(requested, alignment)
    }
}

// SAFETY: the pool may move, and its buffers borrow it, and it is not `Sync`, so when it moves to another thread none is alive on this one; what it points to
// is its own: moves in plans that it owns, which lie on the heap, and the block.
unsafe impl<B: Backing> Send for PlannedAllocator<B> where TensorAllocator<B>: Send {}

impl<B: Backing> Drop for PlannedAllocator<B> {
    fn drop(&mut self) {
        let state = &mut *self.state.borrow_mut();
        let blocks = state.retired.drain(..).chain(state.block.take());
        blocks.for_each(|block| self.give_back(block));
    }
}

impl Default for PlannedAllocator {
    fn default() -> Self {
        Self::new(TensorAllocator::new())
    }
}

impl<B: Backing> fmt::Debug for PlannedAllocator<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedAllocator").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
