//! `TensorAllocator`: typed, owned buffers from a shared pool.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use allocator_api2::alloc::Allocator;
use bytemuck::Zeroable;

use crate::backing::{Backing, DefaultBacking, Grounds};
use crate::buffer::Buffer;
use crate::error::AllocError;
use crate::pool::{BufferPool, Found, Resized};
use crate::pool_config::PoolConfig;
use crate::provider::{Provider, typed_requests};
use crate::stats::Stats;

/// An allocator of tensors: freed buffers are kept by size class and handed out again, the last freed first.
///
/// It is a handle: clones share one pool, and the pool's memory goes back to the backing when the last handle is dropped.
/// All of it may be used from any thread at once; a buffer may be freed on another thread than it was allocated on.
///
/// The buffers of [`alloc`](Self::alloc) borrow the allocator, which costs nothing. Where a buffer has to outlive the
/// borrow, [`into_owned`](Buffer::into_owned) gives it a handle of its own.
///
/// ```
/// use tenzor_memory::TensorAllocator;
///
/// let alloc = TensorAllocator::new();
/// for _ in 0..1000 {
///     let buffer = alloc.alloc::<f32>(1024)?;
///     drop(buffer); // or alloc.free(buffer)
/// }
/// let stats = alloc.stats();
/// assert_eq!((stats.pool_misses, stats.pool_hits), (1, 999));
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Debug)]
pub struct TensorAllocator<B: Backing = DefaultBacking> {
    pool: Arc<BufferPool<B>>,
}

/// A buffer that borrows its [`TensorAllocator`].
pub type PoolBuffer<'a, T, B = DefaultBacking> = Buffer<T, &'a TensorAllocator<B>>;

/// A buffer that owns a handle of its [`TensorAllocator`], and can go anywhere. See [`Buffer::into_owned`].
pub type OwnedBuffer<T, B = DefaultBacking> = Buffer<T, TensorAllocator<B>>;

impl TensorAllocator {
    /// An allocator with the default configuration over the process's heap, or malloc where there is none.
    pub fn new() -> Self {
        Self::with_config(PoolConfig::default())
    }

    /// An allocator over the process's heap, or malloc where there is none.
    pub fn with_config(config: PoolConfig) -> Self {
        Self::with_config_in(config, DefaultBacking::default())
    }
}

impl<B: Backing> TensorAllocator<B> {
    /// An allocator with the default configuration over `backing`.
    pub fn new_in(backing: B) -> Self {
        Self::with_config_in(PoolConfig::default(), backing)
    }

    /// An allocator over `backing`. Odd values of `config` are normalised as [`PoolConfig`] tells.
    pub fn with_config_in(config: PoolConfig, backing: B) -> Self {
        let pool = Arc::new(BufferPool::with_config_in(config, backing));
        pool.answer_to_pressure();
        Self { pool }
    }

    typed_requests!("let alloc = tenzor_memory::TensorAllocator::new();");

    /// Frees a buffer: the same as dropping it. Whatever allocator it came from, it returns there.
    ///
    /// ```
    /// # let alloc = tenzor_memory::TensorAllocator::new();
    /// let buffer = alloc.alloc_filled(1024, 0.5_f32)?;
    /// alloc.free(buffer);
    /// assert_eq!(alloc.stats().bytes_in_use, 0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    #[inline]
    pub fn free<T, A: Allocator>(&self, buffer: impl Into<Buffer<T, A>>) {
        drop(buffer.into());
    }

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    ///
    /// A container grows and shrinks in place within a size class. To another class, a smaller one as well, it moves, and
    /// that needs both buffers for an instant. Where there is no room for both, one that shrinks stays where it is: `shrink_to_fit` is not refused at a limit.
    ///
    /// ```
    /// use tenzor_memory::allocator_api2::vec::Vec;
    ///
    /// let alloc = tenzor_memory::TensorAllocator::new();
    /// let mut losses = Vec::new_in(alloc.allocator());
    /// losses.extend([0.9, 0.5, 0.3]);
    /// ```
    pub fn allocator(&self) -> &Self {
        self
    }

    /// The statistics of this instant.
    pub fn stats(&self) -> Stats {
        self.pool.stats()
    }

    /// As [`stats`](Self::stats); the peaks are taken anew from now on, as for each phase of a program.
    ///
    /// ```
    /// let alloc = tenzor_memory::TensorAllocator::new();
    /// drop(alloc.alloc::<u8>(1 << 20)?);
    /// assert_eq!(alloc.take_peaks().peak_bytes_in_use, 1 << 20);
    /// drop(alloc.alloc::<u8>(1000)?);
    /// assert_eq!(alloc.stats().peak_bytes_in_use, 1000);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn take_peaks(&self) -> Stats {
        self.pool.take_peaks()
    }

    /// Gives the buffers that have been idle longest back to the backing until at most `keep_bytes` (rounded) are pooled.
    /// Returns how many bytes were released.
    ///
    /// ```
    /// let alloc = tenzor_memory::TensorAllocator::new();
    /// drop(alloc.alloc::<u8>(4096)?);
    /// drop(alloc.alloc::<u8>(1024)?);
    /// assert_eq!(alloc.trim(2048), 4096);
    /// alloc.clear_pool();
    /// assert_eq!(alloc.stats().pooled_bytes, 0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn trim(&self, keep_bytes: usize) -> usize {
        self.pool.trim(keep_bytes)
    }

    /// Gives everything pooled back to the backing.
    pub fn clear_pool(&self) {
        self.pool.clear();
    }

    /// The configuration in force, normalised.
    pub fn config(&self) -> &PoolConfig {
        self.pool.config()
    }

    /// Where misses go.
    pub fn backing(&self) -> &B {
        self.pool.backing()
    }

    /// See [`BufferPool::grounds`].
    pub(crate) fn name_grounds(&self, grounds: &mut Grounds) {
        self.pool.grounds(grounds);
    }

    /// See [`BufferPool::serve`].
    #[inline]
    pub(crate) fn serve(&self, request: Layout, zeroed: bool) -> Result<Found, AllocError> {
        self.pool.serve(request, zeroed)
    }

    /// See [`BufferPool::change`].
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn change(
        &self,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Result<(NonNull<u8>, Resized), AllocError> {
        // SAFETY: the caller's word, passed on.
        unsafe { self.pool.change(ptr, old, new, zeroed) }
    }

    /// See [`BufferPool::get_apart`].
    #[cfg(feature = "plan")]
    pub(crate) fn request_apart(&self, block: Layout) -> Result<NonNull<u8>, AllocError> {
        self.pool.get_apart(block)
    }

    /// See [`BufferPool::put_apart`].
    ///
    /// # Safety
    /// As there.
    #[cfg(feature = "plan")]
    pub(crate) unsafe fn release_apart(&self, ptr: NonNull<u8>, block: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.pool.put_apart(ptr, block) };
    }
}

impl<T, B: Backing> Buffer<T, &TensorAllocator<B>> {
    /// The same buffer, with a handle of its allocator in place of the borrow: for structs, channels and other threads.
    /// Copies nothing; counts one reference to the allocator, and uncounts it on drop.
    ///
    /// ```
    /// use tenzor_memory::{AllocError, OwnedBuffer, TensorAllocator};
    ///
    /// struct Layer {
    ///     weights: OwnedBuffer<f32>,
    /// }
    ///
    /// fn load() -> Result<Layer, AllocError> {
    ///     let alloc = TensorAllocator::new();
    ///     Ok(Layer { weights: alloc.alloc_filled(1000, 0.5)?.into_owned() })
    /// }
    ///
    /// let layer = load()?;
    /// let sum = std::thread::spawn(move || layer.weights.iter().sum::<f32>()).join();
    /// assert_eq!(sum.unwrap(), 500.0);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn into_owned(self) -> OwnedBuffer<T, B> {
        let (ptr, len, alignment, alloc) = self.into_raw_parts();
        // SAFETY: the parts of a buffer; a block of the allocator behind the borrow is one of its clones, which share a pool.
        unsafe { Buffer::from_raw_parts(ptr, len, alignment, alloc.clone()) }
    }
}

impl Default for TensorAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backing> Clone for TensorAllocator<B> {
    fn clone(&self) -> Self {
        Self { pool: Arc::clone(&self.pool) }
    }
}

// SAFETY: these are the promises of `BufferPool`, which lives as long as any clone of the handle.
unsafe impl<B: Backing> Provider for TensorAllocator<B> {
    #[inline]
    fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        if zeroed { self.pool.get_zeroed(layout) } else { self.pool.get(layout) }
    }

    #[inline]
    unsafe fn release(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.pool.put(ptr, layout) };
    }

    unsafe fn resize(
        &self,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the caller's word, passed on.
        unsafe { self.pool.resize(ptr, old, new, zeroed) }
    }

    unsafe fn stays(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        // SAFETY: the caller's word, passed on.
        unsafe { self.pool.stays(ptr, old, new) }
    }

    #[inline]
    fn alignment(&self) -> usize {
        self.pool.config().alignment
    }

    fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
        self.pool.never_fits(requested, alignment)
    }
}
