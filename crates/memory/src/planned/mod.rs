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
mod renewal;
mod script;
mod serving;
mod state;
mod stats;
mod tuning;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read, Write};
use std::mem::{self, MaybeUninit};
use std::ptr::NonNull;

use bytemuck::Zeroable;
use tenzor_plan::{PlanFileError, Planner, read_plans, write_plans};
use tenzor_trace::Event;

use self::block::Apart;
use self::recording::{Recording, actions};
use self::script::{ANYTHING_ELSE, END, Expected};
use self::state::{Phase, Plans};
pub use self::stats::PlannedStats;
use self::tuning::PLANS_KEPT;
use crate::allocator::TensorAllocator;
use crate::backing::{Backing, DefaultBacking, Standby, without_lock};
use crate::buffer::Buffer;
use crate::error::AllocError;
use crate::provider::{Provider, typed_requests};

/// An allocator for steps that repeat: it records what a step requests, places all of it in one block, and serves the next steps from there.
///
/// The first rounds are served by the pool. When two rounds agree, what they requested and freed is planned, at the end of the second one:
/// then nothing is alive that would be in the way, the pool's memory can be given back before the block is taken, and the
/// same program gets the same addresses at each run, unless planning [ran out of time](Self::new). A buffer that outlives its step always
/// comes from the pool.
///
/// A step that departs from its plan is noticed at once. What does not fit beside what is alive is then served by the pool.
/// Between two steps, the block is kept for the next one, and counts as kept in the pool's statistics; others who need the memory can have it
/// given back, and then a step that begins takes what its own plan needs: a small one no large block. See [`Budget`](crate::Budget), and [`TensorAllocator::trim`].
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
/// For one thread: it is not `Sync`, and neither it nor its buffers can be used by another one while it is borrowed. A struct can own it together with
/// its buffers by a [`Handle`](crate::Handle), and threads can share it by [`Locked`](crate::Locked).
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
pub struct PlannedAllocator<B: Backing = DefaultBacking> {
    pool: TensorAllocator<B>,
    /// Where the block is between two steps, if nothing is alive in it.
    home: Standby<Apart<B>>,
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
            home: Standby::new(Apart(upstream.clone())),
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
        Step { of: self.begin_step().then_some(self) }
    }

    /// Begins a step, for where neither a closure nor a guard fits: it ends with [`end_step`](Self::end_step). Returns whether one began; within a
    /// step none does, and what follows is part of that one.
    ///
    /// ```
    /// use tenzor_memory::{AllocError, Handle, HandleBuffer, PlannedAllocator};
    ///
    /// struct Decoder {
    ///     alloc: Handle<PlannedAllocator>,
    ///     hidden: Option<HandleBuffer<f32, PlannedAllocator>>,
    /// }
    ///
    /// impl Decoder {
    ///     fn on_begin(&mut self) -> Result<(), AllocError> {
    ///         self.alloc.begin_step();
    ///         self.hidden = Some(self.alloc.alloc_filled(1000, 1.0)?.into_owned());
    ///         Ok(())
    ///     }
    ///
    ///     fn on_end(&mut self) {
    ///         self.hidden = None;
    ///         self.alloc.end_step();
    ///     }
    /// }
    ///
    /// let mut decoder = Decoder { alloc: Handle::default(), hidden: None };
    /// for _ in 0..10 {
    ///     decoder.on_begin()?;
    ///     decoder.on_end();
    /// }
    /// assert_eq!(decoder.alloc.stats().followed, 8);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn begin_step(&self) -> bool {
        Self::begin_by(|| self.begin())
    }

    /// Begins a step by [`begin`](Self::begin), under a lock as may be. Where there was no room for the block, whoever can make some is asked, for
    /// the steps to come.
    pub(crate) fn begin_by(begin: impl Fn() -> Result<bool, bool>) -> bool {
        let has_begun = Cell::new(false);
        _ = without_lock(|| {
            let begun = begin();
            has_begun.set(has_begun.get() || begun.unwrap_or_else(|own| own));
            begun
        });
        has_begun.get()
    }

    /// Returns whether this is a step of its own; as an error, if there was no room for the block.
    pub(crate) fn begin(&self) -> Result<bool, bool> {
        let state = &mut *self.state.borrow_mut();
        if !matches!(state.phase, Phase::Outside) {
            return Ok(false);
        }
        let refused = state.stats.refused;
        self.take_back(state);
        if self.is_ready(state) {
            state.phase = Phase::Following;
            self.next.set(state.plans[0].moves.as_ptr());
        } else {
            state.phase = Phase::Watching(Recording::default());
        }
        if state.stats.refused == refused { Ok(true) } else { Err(true) }
    }

    /// Ends the step that runs, however it began. Returns whether there was one: without one, nothing happens. A closure or a guard whose step was ended
    /// within it ends the one that runs then, if any.
    pub fn end_step(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        if let Phase::Outside = state.phase {
            return false;
        }
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
        self.put_aside(state);
        true
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
        for plan in plans.into_iter().take(PLANS_KEPT).rev() {
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
        let _giving = self.home.giving_back();
        self.take_back(state);
        self.set_block(state, None);
        state.is_thrifty = false;
    }

    /// What it did so far.
    pub fn stats(&self) -> PlannedStats {
        self.state.borrow().stats
    }

    /// From now on the step, which followed the first plan for `done` moves, is watched.
    fn depart(&self, state: &mut Plans, done: usize) {
        self.next.set(&raw const ANYTHING_ELSE);
        state.stats.departed += 1;
        state.phase = Phase::Watching(state.recorded(done));
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
            planned.end_step();
        }
    }
}

// SAFETY: the pool may move, and its buffers borrow it, and it is not `Sync`, so when it moves to another thread none is alive on this one; what it points to
// is its own: moves in plans that it owns, which lie on the heap, and the block.
unsafe impl<B: Backing> Send for PlannedAllocator<B> where TensorAllocator<B>: Send {}

impl<B: Backing> Drop for PlannedAllocator<B> {
    fn drop(&mut self) {
        let state = &mut *self.state.borrow_mut();
        let _giving = self.home.giving_back();
        self.take_back(state);
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
