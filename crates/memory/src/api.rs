//! The public allocation interfaces of the crate's allocators, over the one set of calls that is `Provider`: the std-style
//! `Allocator` of each version in use, and `Backing`, so that they stack.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use crate::allocator::TensorAllocator;
use crate::arena::{ComputeArena, Scope};
use crate::backing::{Backing, Grounds, Refused};
use crate::handles::{Handle, Locked, Scoped};
#[cfg(feature = "plan")]
use crate::planned::PlannedAllocator;
use crate::provider::Provider;

macro_rules! implement_allocator {
    ($version:ident, $($allocator:ty),*) => {$(
        // SAFETY: the promises of `Provider` are those of `Allocator`, where the implementor is a handle (its clones are the
        // same provider, and nothing borrows it mutably) or a reference. The granted length is exactly the requested one, so a block fits exactly the layout it was
        // last requested with, and the provider is told that very layout.
        unsafe impl<B: Backing> $version::alloc::Allocator for $allocator {
            #[inline]
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                Ok(NonNull::slice_from_raw_parts(self.request(layout, false)?, layout.size()))
            }

            #[inline]
            fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                Ok(NonNull::slice_from_raw_parts(self.request(layout, true)?, layout.size()))
            }

            #[inline]
            unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's word, passed on.
                unsafe { self.release(ptr, layout) };
            }

            unsafe fn grow(
                &self,
                ptr: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                debug_assert!(new.size() >= old.size());
                // SAFETY: the caller's word, passed on.
                let grown = unsafe { self.resize(ptr, old, new, false) }?;
                Ok(NonNull::slice_from_raw_parts(grown, new.size()))
            }

            unsafe fn grow_zeroed(
                &self,
                ptr: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                debug_assert!(new.size() >= old.size());
                // SAFETY: the caller's word, passed on.
                let grown = unsafe { self.resize(ptr, old, new, true) }?;
                Ok(NonNull::slice_from_raw_parts(grown, new.size()))
            }

            unsafe fn shrink(
                &self,
                ptr: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $version::alloc::AllocError> {
                debug_assert!(new.size() <= old.size());
                // SAFETY: the caller's word, passed on.
                let shrunk = unsafe { self.resize(ptr, old, new, false) }?;
                Ok(NonNull::slice_from_raw_parts(shrunk, new.size()))
            }
        }
    )*};
}

macro_rules! implement_all {
    ($version:ident) => {
        implement_allocator!($version, TensorAllocator<B>, Scoped<B>, &ComputeArena<B>, &Scope<'_, B>);
        implement_allocator!($version, Handle<ComputeArena<B>>, Locked<ComputeArena<B>>);
        #[cfg(feature = "plan")]
        implement_allocator!($version, &PlannedAllocator<B>, Handle<PlannedAllocator<B>>, Locked<PlannedAllocator<B>>);
    };
}

implement_all!(allocator_api2);
#[cfg(feature = "allocator-api2-04")]
implement_all!(allocator_api2_04);

macro_rules! implement_backing {
    ($backing:ty $(, |$this:ident, $grounds:ident| $names:expr)?) => {
        // SAFETY: the promises of `Provider` are those of `Backing`, for the same implementors as above. No method unwinds,
        // as no backing below them does.
        unsafe impl<B: Backing> Backing for $backing {
            fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
                Ok(self.request(layout, false)?)
            }

            fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
                Ok(self.request(layout, true)?)
            }

            unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's word, passed on.
                unsafe { self.release(block, layout) };
            }

            $(fn grounds(&self, $grounds: &mut Grounds) {
                let $this = self;
                $names;
            })?
        }
    };
}

implement_backing!(TensorAllocator<B>, |this, grounds| this.name_grounds(grounds));
implement_backing!(Scoped<B>, |this, grounds| this.name_grounds(grounds));
implement_backing!(&ComputeArena<B>);
implement_backing!(&Scope<'_, B>);
#[cfg(feature = "plan")]
implement_backing!(&PlannedAllocator<B>);
