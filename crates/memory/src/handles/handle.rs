//! Handles for one thread.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::RefCell;
use std::mem::MaybeUninit;
#[cfg(feature = "plan")]
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

use allocator_api2::alloc::Allocator;
use bytemuck::Zeroable;

use super::counted::{Counted, InUse};
use crate::arena::{ArenaUsage, ComputeArena, Scope};
use crate::backing::Backing;
use crate::buffer::Buffer;
use crate::error::AllocError;
use crate::layout::MIN_ALIGNMENT;
#[cfg(feature = "plan")]
use crate::planned::PlannedAllocator;
use crate::provider::{Provider, typed_requests};

/// A handle of an arena or a planned allocator, for one thread: a struct can own it together with its buffers. Clones are handles of the
/// same allocator, which lives as long as any of them, and as any buffer that owns one.
///
/// The buffers of `alloc` and its kin borrow the handle, which costs nothing; [`into_owned`](Buffer::into_owned) gives a buffer a handle of its own, at the
/// price of a reference count. `Buffer::zeroed_in(count, handle.clone())` and containers work as well.
///
/// Like `Rc`, it stays in its thread, and so do its buffers. [`Locked`](super::Locked) is the same for many threads.
///
/// ```
/// use tenzor_memory::{AllocError, ComputeArena, Handle, HandleBuffer};
///
/// struct Beam {
///     arena: Handle<ComputeArena>,
///     scores: Vec<HandleBuffer<f32, ComputeArena>>,
/// }
///
/// impl Beam {
///     fn begin(&mut self) -> Result<(), Box<dyn std::error::Error>> {
///         self.scores.clear();
///         self.arena.reset()?; // refused if any buffer were alive
///         for width in [100, 200] {
///             self.scores.push(self.arena.alloc_zeroed(width)?.into_owned());
///         }
///         Ok(())
///     }
/// }
///
/// let mut beam = Beam { arena: Handle::default(), scores: Vec::new() };
/// for _ in 0..10 {
///     beam.begin()?;
/// }
/// assert_eq!(beam.arena.usage().bytes_in_use, 1200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Handle<A>(Rc<RefCell<Counted<A>>>);

/// A buffer that owns a [`Handle`].
pub type HandleBuffer<T, A> = Buffer<T, Handle<A>>;

impl<A> Handle<A> {
    /// A handle of `alloc`.
    pub fn new(alloc: A) -> Self {
        Self(Rc::new(RefCell::new(Counted::new(alloc))))
    }
}

impl<B: Backing> Handle<ComputeArena<B>> {
    typed_requests!("let alloc = tenzor_memory::Handle::new(tenzor_memory::ComputeArena::new());");

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// Reclaims everything, as [`ComputeArena::reset`], if nothing is in use.
    ///
    /// # Errors
    /// [`InUse`] while a buffer is alive or a scope open; then nothing has changed. A buffer that was forgotten counts as alive.
    pub fn reset(&self) -> Result<(), InUse> {
        self.change(Counted::reset)
    }

    /// Gives memory back until the arena holds at most so many bytes, as [`ComputeArena::shrink_to`], if nothing is in use. Returns how many bytes were given
    /// back.
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub fn shrink_to(&self, bytes: usize) -> Result<usize, InUse> {
        self.change(|arena| arena.shrink_to(bytes))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Counted<ComputeArena<B>>) -> Result<R, InUse>) -> Result<R, InUse> {
        let mut arena = self.0.try_borrow_mut().map_err(|_| self.in_use())?;
        change(&mut arena)
    }

    fn in_use(&self) -> InUse {
        self.0.try_borrow().map_or(InUse { buffers: 0 }, |arena| arena.in_use())
    }

    /// Runs `f` with a scope, and reclaims all that was requested from it; see [`ComputeArena::scope`]. What is requested from handles meanwhile stays.
    ///
    /// ```
    /// use tenzor_memory::{ComputeArena, Handle};
    ///
    /// let arena = Handle::new(ComputeArena::new());
    /// let sum: f64 = arena.scope(|scratch| Ok(scratch.alloc_filled(1000, 0.5)?.iter().sum()))?;
    /// assert_eq!((sum, arena.usage().bytes_in_use), (500.0, 0));
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    ///
    /// # Errors
    /// Those of `f`; and [`AllocError`] for who comes from a backing that is called while the arena is reset.
    pub fn scope<R, E: From<AllocError>>(&self, f: impl FnOnce(&Scope<'_, B>) -> Result<R, E>) -> Result<R, E> {
        let arena = self.0.try_borrow().map_err(|_| AllocError::refused(Layout::new::<()>()))?;
        arena.alloc.scope(f)
    }

    /// How much is used. Nothing, for a backing that asks while the arena is reset.
    pub fn usage(&self) -> ArenaUsage {
        self.0.try_borrow().map(|arena| arena.alloc.usage()).unwrap_or_default()
    }
}

#[cfg(feature = "plan")]
impl<B: Backing> Handle<PlannedAllocator<B>> {
    typed_requests!("let alloc = tenzor_memory::Handle::new(tenzor_memory::PlannedAllocator::default());");

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// Runs a step, as [`PlannedAllocator::step`]; what it requests of any handle is part of it.
    ///
    /// ```
    /// use tenzor_memory::{AllocError, Handle, PlannedAllocator};
    ///
    /// let planned = Handle::new(PlannedAllocator::default());
    /// let mut last = None;
    /// for round in 0..10 {
    ///     planned.step(|alloc| {
    ///         let hidden = alloc.alloc_filled(1000, round as f32)?;
    ///         let sum = alloc.alloc_filled(1, hidden.iter().sum::<f32>())?;
    ///         last = Some(sum.into_owned());
    ///         Ok::<(), AllocError>(())
    ///     })?;
    /// }
    /// assert_eq!(last.unwrap()[0], 9000.0);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn step<'a, R>(&'a self, f: impl FnOnce(&'a Self) -> R) -> R {
        let _step = self.enter();
        f(self)
    }
}

#[cfg(feature = "plan")]
impl<B: Backing> Deref for Handle<PlannedAllocator<B>> {
    type Target = PlannedAllocator<B>;

    #[inline]
    fn deref(&self) -> &PlannedAllocator<B> {
        // SAFETY: it is borrowed mutably to be reset, and for nothing else; a planned allocator is never reset.
        let counted = unsafe { &*self.0.as_ptr() };
        &counted.alloc
    }
}

/// Looks at the allocator of a handle; `None` while it is reset, to who comes from its backing.
#[inline]
fn look<A: Provider, R>(handle: &Handle<A>, look: impl FnOnce(&Counted<A>) -> R) -> Option<R> {
    if A::IS_RESET {
        return handle.0.try_borrow().ok().map(|alloc| look(&alloc));
    }
    // SAFETY: it is borrowed mutably to be reset, and for nothing else.
    Some(look(unsafe { &*handle.0.as_ptr() }))
}

impl<T, A> Buffer<T, &Handle<A>>
where
    Handle<A>: Allocator,
{
    /// The same buffer, with a handle of its own in place of the borrow. Copies nothing; counts one reference, and uncounts it on drop.
    pub fn into_owned(self) -> HandleBuffer<T, A> {
        let (ptr, len, alignment, handle) = self.into_raw_parts();
        // SAFETY: the parts of a buffer; a block of the handle behind the borrow is one of its clones, which are handles of one allocator.
        unsafe { Buffer::from_raw_parts(ptr, len, alignment, handle.clone()) }
    }
}

impl<A> Clone for Handle<A> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<A: Default> Default for Handle<A> {
    fn default() -> Self {
        Self::new(A::default())
    }
}

// SAFETY: the promises are the allocator's, which lives as long as any handle. It is borrowed mutably only where nothing of it is alive, and nobody is inside.
unsafe impl<A: Provider> Provider for Handle<A> {
    #[inline]
    fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        look(self, |alloc| alloc.request(layout, zeroed)).unwrap_or_else(|| Err(AllocError::refused(layout)))
    }

    #[inline]
    unsafe fn release(&self, ptr: NonNull<u8>, layout: Layout) {
        // What is alive is not reset, so there is something to look at.
        // SAFETY: the caller's word, passed on.
        look(self, |alloc| unsafe { alloc.release(ptr, layout) });
    }

    unsafe fn resize_in_place(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        // SAFETY: the caller's word, passed on.
        look(self, |alloc| unsafe { alloc.resize_in_place(ptr, old, new) }).unwrap_or(false)
    }

    unsafe fn stays(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        // SAFETY: the caller's word, passed on.
        look(self, |alloc| unsafe { alloc.stays(ptr, old, new) }).unwrap_or(false)
    }

    #[inline]
    fn alignment(&self) -> usize {
        look(self, Provider::alignment).unwrap_or(MIN_ALIGNMENT)
    }

    fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
        let unknown = || AllocError::never_fits(requested, alignment);
        look(self, |alloc| alloc.never_fits(requested, alignment)).unwrap_or_else(unknown)
    }
}
