//! Handles for many threads.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
#[cfg(feature = "plan")]
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use allocator_api2::alloc::Allocator;
use bytemuck::Zeroable;
#[cfg(feature = "plan")]
use tenzor_plan::PlanFileError;
#[cfg(feature = "plan")]
use tenzor_trace::Event;

#[cfg(feature = "plan")]
use crate::allocator::TensorAllocator;
use crate::arena::{ArenaUsage, ComputeArena};
use crate::backing::{Backing, without_lock};
use crate::buffer::Buffer;
use crate::error::AllocError;
#[cfg(feature = "plan")]
use crate::planned::{PlannedAllocator, PlannedStats};
use crate::provider::{Provider, typed_requests};
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;

use super::counted::{Counted, InUse};
use super::forks::Listed;

/// A handle of an arena or a planned allocator, for many threads: each request and each free takes a lock. Clones are handles of the same allocator,
/// which lives as long as any of them, and as any buffer that owns one; a buffer may be freed in another thread than it was requested in.
///
/// The buffers of `alloc` and its kin borrow the handle; [`into_owned`](Buffer::into_owned) gives a buffer a handle of its own.
/// [`SharedAllocator::new`](super::SharedAllocator::new) takes a clone. For one thread, a [`Handle`](super::Handle) costs less.
///
/// *The lock* is one for the allocator, held for one request or free, which mostly is one addition; where memory is taken from the pool or the backing, also for that, and at the
/// end of a step while it is planned. Zeros are written and contents are copied without it. No closure and no call-back of the program's runs under it: neither steps nor what a
/// [`Budget`](crate::Budget) asks to free memory. A backing of one's own does; so it must not use what stands above it, nor wait for who does.
///
/// *Steps.* There is one at a time. One that a thread begins while another thread's runs is part of that, and what runs ends for all with its end. So
/// threads that each run steps of their own see one long step, whose requests come in another order each time, and which is hardly ever planned.
///
/// *Zeros.* A zeroed request is always written, also where the memory is known to be zero: who knows that would have to write the zeros under the lock where it is not.
///
/// *Plans.* A step is followed as long as its requests and frees come in the recorded order, whichever thread makes them. Threads that make them at the same
/// time make them in another order each time: such a step departs from its plan, or never gets one, and is served by the pool, correctly and at its price. So let one
/// thread at a time make them (others may compute), or give each thread a planned allocator of its own over the same pool.
///
/// *Forks.* A fork waits until nobody is inside, and the child finds the allocator whole, with everything in use that was.
///
/// ```
/// use tenzor_memory::{AllocError, Locked, PlannedAllocator};
///
/// let planned = Locked::new(PlannedAllocator::default());
/// let worker = planned.clone();
/// let stats = std::thread::spawn(move || {
///     for _ in 0..10 {
///         worker.step(|alloc| {
///             let hidden = alloc.alloc_filled(1000, 1.0_f32)?;
///             drop(alloc.alloc_filled(10, hidden.iter().sum::<f32>())?);
///             Ok::<(), AllocError>(())
///         })?;
///     }
///     Ok::<_, AllocError>(worker.stats())
/// });
/// assert_eq!(stats.join().unwrap()?.followed, 8);
/// # Ok::<(), AllocError>(())
/// ```
pub struct Locked<A> {
    alloc: Arc<Listed<Counted<A>>>,
    /// What every buffer is aligned to, at hand; 0 as long as nobody has asked.
    alignment: AtomicUsize,
}

/// A buffer that owns a handle of a [`Locked`] allocator.
pub type LockedBuffer<T, A> = Buffer<T, Locked<A>>;

impl<B: Backing> Locked<ComputeArena<B>> {
    typed_requests!("let alloc = tenzor_memory::Locked::new(tenzor_memory::ComputeArena::new());");

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// Reclaims everything, as [`ComputeArena::reset`], if nothing is in use.
    ///
    /// ```
    /// use tenzor_memory::{ComputeArena, Locked};
    ///
    /// let arena = Locked::new(ComputeArena::new());
    /// let buffer = arena.alloc_filled(1000, 1.0_f32)?.into_owned();
    /// assert_eq!(arena.reset().unwrap_err().buffers(), 1);
    /// std::thread::spawn(move || drop(buffer)).join().unwrap();
    /// assert!(arena.reset().is_ok());
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    ///
    /// # Errors
    /// [`InUse`] while a buffer of any thread is alive; then nothing has changed. A buffer that was forgotten counts as alive.
    pub fn reset(&self) -> Result<(), InUse> {
        without_lock(|| self.alloc.lock().reset())
    }

    /// Gives memory back until the arena holds at most so many bytes, as [`ComputeArena::shrink_to`], if nothing is in use. Returns how many bytes were given
    /// back.
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub fn shrink_to(&self, bytes: usize) -> Result<usize, InUse> {
        without_lock(|| self.alloc.lock().shrink_to(bytes))
    }

    /// How much is used.
    pub fn usage(&self) -> ArenaUsage {
        self.alloc.lock().alloc.usage()
    }
}

#[cfg(feature = "plan")]
impl<B: Backing> Locked<PlannedAllocator<B>> {
    typed_requests!("let alloc = tenzor_memory::Locked::new(tenzor_memory::PlannedAllocator::default());");

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// Runs a step, as [`PlannedAllocator::step`], without the lock. What any thread requests meanwhile is part of it, and so is a step that another thread runs
    /// meanwhile.
    pub fn step<'a, R>(&'a self, f: impl FnOnce(&'a Self) -> R) -> R {
        struct Ends<'a, B: Backing>(Option<&'a Locked<PlannedAllocator<B>>>);
        impl<B: Backing> Drop for Ends<'_, B> {
            fn drop(&mut self) {
                self.0.map(Locked::end_step);
            }
        }
        let _step = Ends(self.begin_step().then_some(self));
        f(self)
    }

    /// Begins a step, as [`PlannedAllocator::begin_step`]. Returns whether one began: not while one runs, whichever thread's. Who gets `false` is part of that one, and has
    /// no step to end.
    pub fn begin_step(&self) -> bool {
        PlannedAllocator::<B>::begin_by(|| self.alloc.lock().alloc.begin())
    }

    /// Ends the step that runs, as [`PlannedAllocator::end_step`]. Returns whether there was one.
    pub fn end_step(&self) -> bool {
        self.alloc.lock().alloc.end_step()
    }

    /// Plans a step of a recorded trace; see [`PlannedAllocator::plan_ahead`].
    pub fn plan_ahead(&self, step: &[Event]) -> bool {
        self.alloc.lock().alloc.plan_ahead(step)
    }

    /// The pool that serves what is not planned.
    pub fn upstream(&self) -> TensorAllocator<B> {
        self.alloc.lock().alloc.upstream().clone()
    }

    /// Writes its plans; see [`PlannedAllocator::save`].
    ///
    /// # Errors
    /// What the writer reports.
    pub fn save(&self, mut out: impl Write) -> io::Result<()> {
        let mut plans = Vec::new();
        // The program's writer is not for the lock.
        self.alloc.lock().alloc.save(&mut plans)?;
        out.write_all(&plans)
    }

    /// Takes over saved plans; see [`PlannedAllocator::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(&self, mut input: impl Read) -> Result<usize, PlanFileError> {
        let mut plans = Vec::new();
        input.read_to_end(&mut plans).map_err(PlanFileError::Unreadable)?;
        self.alloc.lock().alloc.load(&plans[..])
    }

    /// Forgets all plans; see [`PlannedAllocator::clear_plans`].
    pub fn clear_plans(&self) {
        self.alloc.lock().alloc.clear_plans();
    }

    /// What it did so far.
    pub fn stats(&self) -> PlannedStats {
        self.alloc.lock().alloc.stats()
    }
}

impl<A> Locked<A> {
    /// A handle of `alloc`, and a lock before it.
    pub fn new(alloc: A) -> Self {
        Self { alloc: Listed::new(Counted::new(alloc)), alignment: AtomicUsize::new(0) }
    }
}

impl<A: Default> Default for Locked<A> {
    fn default() -> Self {
        Self::new(A::default())
    }
}

impl<T, A> Buffer<T, &Locked<A>>
where
    Locked<A>: Allocator,
{
    /// The same buffer, with a handle of its own in place of the borrow: for structs, channels and other threads. Copies nothing; counts one
    /// reference, and uncounts it on drop.
    pub fn into_owned(self) -> LockedBuffer<T, A> {
        let (ptr, len, alignment, handle) = self.into_raw_parts();
        // SAFETY: the parts of a buffer; a block of the handle behind the borrow is one of its clones, which are handles of one allocator.
        unsafe { Buffer::from_raw_parts(ptr, len, alignment, handle.clone()) }
    }
}

impl<A> Clone for Locked<A> {
    fn clone(&self) -> Self {
        Self { alloc: Arc::clone(&self.alloc), alignment: AtomicUsize::new(self.alignment.load(Relaxed)) }
    }
}

impl<A> fmt::Debug for Locked<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The program's formatter is not for the lock.
        f.debug_struct("Locked").finish_non_exhaustive()
    }
}

// SAFETY: the promises are the allocator's, which lives as long as any handle, and is reached under its lock alone. It is borrowed mutably only where
// nothing of it is alive.
unsafe impl<A: Provider> Provider for Locked<A> {
    #[inline]
    fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let granted = without_lock(|| self.alloc.lock().request(layout, false))?;
        if zeroed {
            // SAFETY: so many bytes were granted, to this caller alone.
            unsafe { granted.write_bytes(0, layout.size()) };
        }
        Ok(granted)
    }

    #[inline]
    unsafe fn release(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.alloc.lock().release(ptr, layout) };
    }

    unsafe fn resize_in_place(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        // SAFETY: the caller's word, passed on.
        unsafe { self.alloc.lock().resize_in_place(ptr, old, new) }
    }

    unsafe fn stays(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        // SAFETY: the caller's word, passed on.
        unsafe { self.alloc.lock().stays(ptr, old, new) }
    }

    #[inline]
    fn alignment(&self) -> usize {
        if self.alignment.load(Relaxed) == 0 {
            self.alignment.store(self.alloc.lock().alignment(), Relaxed);
        }
        self.alignment.load(Relaxed)
    }

    fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
        self.alloc.lock().never_fits(requested, alignment)
    }
}
