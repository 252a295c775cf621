//! Any allocator behind a pointer.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use allocator_api2::alloc::{AllocError as Unit, Allocator};

/// An allocator behind a pointer, whichever it is: for structs that are not to be generic in it. Clones are the same allocator.
///
/// A request or a free costs one virtual call beside what it costs by itself, some two nanoseconds; `bench/RESULTS.md` has figures. A buffer that owns a clone counts one reference more, and
/// uncounts it at its end. Growing in place and known zeros stay what they are; the reason of a refusal is in the [`AllocError`](crate::AllocError) of
/// whoever asked.
///
/// ```
/// use std::sync::Arc;
/// use tenzor_memory::{AllocError, Buffer, ComputeArena, Locked, SharedAllocator, TensorAllocator};
///
/// #[derive(Clone)]
/// struct Tensor {
///     storage: Arc<Buffer<f32, SharedAllocator>>,
///     shape: Vec<usize>,
/// }
///
/// fn zeros(shape: &[usize], alloc: &SharedAllocator) -> Result<Tensor, AllocError> {
///     let storage = Arc::new(Buffer::zeroed_in(shape.iter().product(), alloc.clone())?);
///     Ok(Tensor { storage, shape: shape.to_vec() })
/// }
///
/// let pool = SharedAllocator::new(TensorAllocator::new());
/// let scratch = SharedAllocator::new(Locked::new(ComputeArena::new()));
/// for alloc in [pool, scratch] {
///     let tensor = zeros(&[16, 64], &alloc)?;
///     let there = std::thread::spawn(move || tensor.storage.iter().sum::<f32>()).join();
///     assert_eq!(there.unwrap(), 0.0);
/// }
/// # Ok::<(), AllocError>(())
/// ```
#[derive(Clone)]
pub struct SharedAllocator(Arc<dyn Allocator + Send + Sync>);

impl SharedAllocator {
    /// Puts `alloc` behind a pointer.
    pub fn new(alloc: impl Allocator + Send + Sync + 'static) -> Self {
        Self(Arc::new(alloc))
    }
}

impl fmt::Debug for SharedAllocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedAllocator").finish_non_exhaustive()
    }
}

macro_rules! implement_shared {
    ($version:ident, $error:expr) => {
        // SAFETY: everything is passed on, to one allocator that lives as long as any clone of the pointer, and stays where it is.
        unsafe impl $version::alloc::Allocator for SharedAllocator {
            #[inline]
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                self.0.allocate(layout).map_err($error)
            }

            #[inline]
            fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                self.0.allocate_zeroed(layout).map_err($error)
            }

            #[inline]
            unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's word, passed on.
                unsafe { self.0.deallocate(ptr, layout) };
            }

            unsafe fn grow(
                &self,
                ptr: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                // SAFETY: the caller's word, passed on.
                unsafe { self.0.grow(ptr, old, new) }.map_err($error)
            }

            unsafe fn grow_zeroed(
                &self,
                ptr: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                // SAFETY: the caller's word, passed on.
                unsafe { self.0.grow_zeroed(ptr, old, new) }.map_err($error)
            }

            unsafe fn shrink(
                &self,
                ptr: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                // SAFETY: the caller's word, passed on.
                unsafe { self.0.shrink(ptr, old, new) }.map_err($error)
            }
        }
    };
}

implement_shared!(allocator_api2, |Unit| Unit);
#[cfg(feature = "allocator-api2-04")]
implement_shared!(allocator_api2_04, |Unit| allocator_api2_04::alloc::AllocError);
