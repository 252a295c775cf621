//! An allocator behind a pointer is that allocator.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use tenzor_memory::allocator_api2::alloc::{AllocError as Unit, Global};
use tenzor_memory::allocator_api2::vec::Vec as SharedVec;
use tenzor_memory::{
    AllocError, AllocErrorKind, Allocator, Buffer, ComputeArena, Locked, PoolConfig, SharedAllocator, System,
    TensorAllocator,
};

#[test]
fn law_6_handles_for_threads_go_to_threads_and_the_others_stay() {
    fn any_thread<T: Send + Sync + Clone + 'static>() {}
    any_thread::<SharedAllocator>();
    any_thread::<Locked<ComputeArena>>();
    any_thread::<Arc<Buffer<u8, SharedAllocator>>>();
    any_thread::<Arc<Buffer<f32, Locked<ComputeArena>>>>();
    #[cfg(feature = "plan")]
    any_thread::<Locked<tenzor_memory::PlannedAllocator>>();
}

/// `Global`, which notes how often each method is called.
#[derive(Clone, Default)]
struct Noting(Arc<[AtomicUsize; 6]>);

impl Noting {
    fn note(&self, method: usize) {
        self.0[method].fetch_add(1, SeqCst);
    }
}

// SAFETY: everything is passed on.
unsafe impl Allocator for Noting {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, Unit> {
        self.note(0);
        Global.allocate(layout)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, Unit> {
        self.note(1);
        Global.allocate_zeroed(layout)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
        self.note(2);
        // SAFETY: the caller's word, passed on.
        unsafe { Global.deallocate(ptr, layout) };
    }

    unsafe fn grow(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, Unit> {
        self.note(3);
        // SAFETY: the caller's word, passed on.
        unsafe { Global.grow(ptr, old, new) }
    }

    unsafe fn grow_zeroed(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, Unit> {
        self.note(4);
        // SAFETY: the caller's word, passed on.
        unsafe { Global.grow_zeroed(ptr, old, new) }
    }

    unsafe fn shrink(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, Unit> {
        self.note(5);
        // SAFETY: the caller's word, passed on.
        unsafe { Global.shrink(ptr, old, new) }
    }
}

#[test]
fn every_request_is_passed_on_as_it_is() {
    let noting = Noting::default();
    let shared = SharedAllocator::new(noting.clone());
    let layout = |size| Layout::from_size_align(size, 8).unwrap();
    let calls = || noting.0.each_ref().map(|calls| calls.load(SeqCst));
    // SAFETY: each block is that of the last layout.
    unsafe {
        let block = shared.allocate(layout(10)).unwrap().cast();
        let block = shared.grow(block, layout(10), layout(20)).unwrap().cast();
        let block = shared.grow_zeroed(block, layout(20), layout(30)).unwrap().cast::<u8>();
        assert_eq!(block.add(29).read(), 0);
        let block = shared.shrink(block, layout(30), layout(5)).unwrap().cast();
        shared.deallocate(block, layout(5));
        let block = shared.allocate_zeroed(layout(10)).unwrap().cast::<u8>();
        assert_eq!(block.read(), 0);
        shared.deallocate(block, layout(10));
    }
    assert_eq!(calls(), [1, 1, 2, 1, 1, 1]);
    #[cfg(feature = "allocator-api2-04")]
    {
        use tenzor_memory::allocator_api2_04::alloc::Allocator as Newest;
        // SAFETY: as above.
        unsafe {
            let block = Newest::allocate(&shared, layout(10)).unwrap().cast();
            let block = Newest::grow(&shared, block, layout(10), layout(20)).unwrap().cast();
            let block = Newest::grow_zeroed(&shared, block, layout(20), layout(30)).unwrap().cast();
            let block = Newest::shrink(&shared, block, layout(30), layout(5)).unwrap().cast();
            Newest::deallocate(&shared, block, layout(5));
        }
        assert_eq!(calls(), [2, 1, 3, 2, 2, 2]);
    }
}

#[test]
fn law_14_reasons_come_through_the_pointer() {
    let pool = TensorAllocator::with_config_in(PoolConfig::default().with_limit(Some(1 << 20)), System);
    let shared = SharedAllocator::new(pool);
    let _held = Buffer::<u8, _>::zeroed_in(896 << 10, shared.clone()).unwrap();
    let error = Buffer::<u8, _>::zeroed_in(400_000, shared.clone()).unwrap_err();
    assert_eq!((error.kind(), error.limit(), error.in_use()), (AllocErrorKind::OverLimit, Some(1 << 20), 896 << 10));
    let mut bytes: SharedVec<u8, _> = SharedVec::new_in(shared);
    assert!(bytes.try_reserve_exact(400_000).is_err());
    assert_eq!(AllocError::last().and_then(|error| error.limit()), Some(1 << 20));
}

#[test]
fn buffers_outlive_every_pointer_but_their_own() {
    let pool = TensorAllocator::new();
    let shared = SharedAllocator::new(pool.clone());
    let buffers: Vec<_> = (1..100).map(|i| Buffer::filled_in(i, i, shared.clone()).unwrap()).collect();
    drop(shared);
    let freed = thread::spawn(move || buffers.iter().map(|buffer| buffer.iter().sum::<usize>()).sum::<usize>()).join();
    assert_eq!(freed.unwrap(), (1..100).map(|i| i * i).sum::<usize>());
    assert_eq!(pool.stats().bytes_in_use, 0);
}
