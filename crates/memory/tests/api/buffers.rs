//! What a buffer becomes, what becomes a buffer, and that nobody loses memory or elements on the way.

use std::alloc::Layout;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use tenzor_memory::allocator_api2::alloc::{AllocError, Allocator, Global};
use tenzor_memory::allocator_api2::{boxed::Box, vec::Vec as AllocVec};
use tenzor_memory::{
    AllocErrorKind, Buffer, ComputeArena, ConvertError, ConvertErrorKind, Foreign, IntoIter, Part, PoolConfig, System,
    TensorAllocator, Tracking,
};

/// The process's malloc, which notes whether what is freed or resized was granted so.
#[derive(Default)]
struct Ledger {
    live: std::cell::RefCell<std::collections::HashMap<usize, Layout>>,
    /// Whether it refuses everything.
    refuses: Cell<bool>,
}

// SAFETY: that of `Global`.
unsafe impl Allocator for Ledger {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if self.refuses.get() {
            return Err(AllocError);
        }
        let block = Global.allocate(layout)?;
        if layout.size() > 0 {
            self.live.borrow_mut().insert(block.cast::<u8>().addr().get(), layout);
        }
        Ok(block)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
        if layout.size() > 0 {
            assert_eq!(self.live.borrow_mut().remove(&ptr.addr().get()), Some(layout));
        }
        // SAFETY: the caller's word, which was checked.
        unsafe { Global.deallocate(ptr, layout) };
    }
}

/// Counts the values alive.
#[derive(Debug)]
struct Counted<'a>(&'a Cell<isize>, usize);

impl<'a> Counted<'a> {
    fn new(alive: &'a Cell<isize>, number: usize) -> Self {
        alive.set(alive.get() + 1);
        Self(alive, number)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
        assert_ne!(self.1, usize::MAX, "the last one");
    }
}

fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

#[test]
fn a_cast_keeps_the_bytes_or_gives_the_buffer_back() {
    let ledger = Ledger::default();
    for len in [0, 1, 3, 4, 11, 12, 24, 100] {
        let bytes = Buffer::from_fn_in(len, |i| i as u8, &ledger).expect("memory");
        let address = bytes.as_ptr();
        match bytes.cast::<[u32; 3]>() {
            Ok(triples) => {
                assert!(len % 12 == 0 && triples.len() == len / 12);
                assert_eq!((triples.as_ptr().addr(), triples.alignment()), (address.addr(), 64));
                let bytes = triples.cast::<u8>().expect("bytes fit all");
                assert!(bytes.iter().copied().eq((0..len).map(|i| i as u8)));
            }
            Err(error) => {
                assert_eq!(error.kind(), ConvertErrorKind::Size { bytes: len, element: 12 });
                assert_eq!((error.into_inner().as_ptr(), len % 12 != 0), (address, true));
            }
        }
    }
    // Values as large stay as many, and of no size there are as many.
    assert_eq!(Buffer::filled_in(3, -1.0_f32, &ledger).expect("memory").cast::<u32>().expect("fits")[2], 0xBF80_0000);
    assert_eq!(Buffer::filled_in(7, (), &ledger).expect("memory").cast::<[u64; 0]>().expect("no size").len(), 7);
    assert_eq!(Buffer::filled_in(7, (), &ledger).expect("memory").cast::<u8>().expect("no bytes").len(), 0);
    assert_eq!(Buffer::filled_in(0, 1_u8, &ledger).expect("memory").cast::<()>().expect("no bytes").len(), 0);
    let error = Buffer::filled_in(1, 1_u8, &ledger).expect("memory").cast::<()>().expect_err("bytes are lost");
    assert_eq!(error.kind(), ConvertErrorKind::Size { bytes: 1, element: 0 });
    drop(error);
    assert_eq!(ledger.live.borrow().len(), 0);
}

#[test]
fn a_cast_asks_for_the_alignment_that_is_known() {
    let ledger = Ledger::default();
    let mut bytes = AllocVec::with_capacity_in(16, &ledger);
    bytes.resize(16, 1_u8);
    let bytes = Buffer::try_from(bytes).expect("full");
    assert_eq!(bytes.alignment(), 1);
    let error = bytes.cast::<u64>().expect_err("it may lie anywhere");
    assert_eq!(error.kind(), ConvertErrorKind::Alignment { alignment: 1, element: align_of::<u64>() });
    assert_eq!(error.into_inner().cast::<[u8; 8]>().expect("aligned to 1")[1], [1; 8]);
    assert_eq!(ledger.live.borrow().len(), 0);
}

#[test]
fn clones_are_of_the_same_allocator_and_alignment() {
    let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(8192)));
    let page = alloc.alloc_aligned::<u8>(4096, 4096).expect("memory").init_filled(7);
    let copy = page.try_clone().expect("memory");
    assert_eq!((&copy, copy.alignment(), copy.as_ptr().addr() % 4096), (&page, 4096, 0));
    assert_ne!(copy.as_ptr(), page.as_ptr());
    assert_eq!(page.try_clone().expect_err("over the limit").requested(), 4096);
    // A panic in the midst returns the memory.
    let alive = Cell::new(0);
    struct Few<'a>(Counted<'a>);
    impl Clone for Few<'_> {
        fn clone(&self) -> Self {
            assert!(self.0.0.get() < 15, "enough");
            Self(Counted::new(self.0.0, 0))
        }
    }
    let ledger = Ledger::default();
    let few = Buffer::from_fn_in(10, |i| Few(Counted::new(&alive, i)), &ledger).expect("memory");
    assert!(panics(|| drop(few.try_clone())));
    assert_eq!((alive.get(), ledger.live.borrow().len()), (10, 1));
}

#[test]
fn containers_and_buffers_become_each_other() {
    let ledger = Ledger::default();
    let alive = Cell::new(0);
    for (len, capacity) in [(0, 0), (0, 10), (1, 1), (7, 10), (10, 10), (100, 1000)] {
        let mut vec = AllocVec::with_capacity_in(capacity, &ledger);
        vec.extend((0..len).map(|i| Counted::new(&alive, i)));
        let buffer = Buffer::try_from(vec).expect("memory");
        assert_eq!((buffer.len(), buffer.alignment()), (len, align_of::<Counted<'_>>()));
        assert_eq!(ledger.live.borrow().len(), usize::from(len > 0));
        let mut vec = buffer.into_vec().expect("memory");
        assert_eq!(vec.capacity(), len);
        vec.push(Counted::new(&alive, len));
        let boxed = vec.into_boxed_slice();
        let buffer = Buffer::from(boxed);
        assert!(buffer.iter().map(|counted| counted.1).eq(0..=len));
        let boxed: Box<[_], _> = buffer.into_boxed_slice().expect("memory");
        assert_eq!((boxed.len(), alive.get()), (len + 1, len as isize + 1));
    }
    // From alignment 64 to that of the elements.
    let vec = Buffer::from_fn_in(10, |i| Counted::new(&alive, i), &ledger).expect("memory").into_vec().expect("memory");
    assert_eq!((vec.len(), alive.get()), (10, 10));
    drop(vec);
    let empty = Buffer::<u64, _>::from_slice_in(&[], &ledger).expect("memory").into_vec().expect("memory");
    assert_eq!((empty.len(), empty.capacity()), (0, 0));
    let units = Buffer::filled_in(5, (), &ledger).expect("memory").into_vec().expect("memory");
    assert_eq!(Buffer::try_from(units).expect("no size").len(), 5);
    assert_eq!((alive.get(), ledger.live.borrow().len()), (0, 0));
}

#[test]
fn a_refused_conversion_gives_back_what_was_given() {
    let ledger = Ledger::default();
    let buffer = Buffer::filled_in(10, 1.5_f32, &ledger).expect("memory");
    let mut vec = AllocVec::with_capacity_in(20, &ledger);
    vec.resize(10, 2.5_f32);
    ledger.refuses.set(true);
    let error: ConvertError<_> = buffer.into_vec().expect_err("refused");
    let ConvertErrorKind::Refused(why) = error.kind() else { panic!("{error}") };
    assert_eq!((why.requested(), why.alignment(), why.kind()), (40, 4, AllocErrorKind::BackingRefused));
    assert_eq!(std::error::Error::source(&error).expect("the refusal").to_string(), why.to_string());
    assert_eq!(error.into_inner(), [1.5; 10]);
    let vec = Buffer::try_from(vec).expect_err("refused").into_inner();
    assert_eq!((vec.len(), vec.capacity(), vec[9]), (10, 20, 2.5));
    drop(vec);
    assert_eq!(ledger.live.borrow().len(), 0);
}

#[test]
fn pools_and_arenas_leave_the_elements_where_they_are() {
    fn stays<A: Allocator + Copy>(buffer: Buffer<f32, A>) {
        let address = buffer.as_ptr();
        let vec = buffer.into_vec().expect("in place");
        assert_eq!(vec.as_ptr(), address);
        let boxed = Buffer::try_from(vec).expect("in place").into_boxed_slice().expect("in place");
        assert_eq!(boxed.as_ptr(), address);
        assert_eq!(Buffer::from(boxed).as_ptr(), address);
    }
    let ledger = Tracking::new(System);
    let alloc = TensorAllocator::new_in(&ledger);
    stays(alloc.alloc_filled(1000, 1.0).expect("memory"));
    stays(ComputeArena::new().alloc_filled(1000, 1.0).expect("memory"));
    // What is aligned to more than the pool's buffers is of another class.
    let page = alloc.alloc_zeroed_aligned::<f32>(1024, 4096).expect("memory");
    assert_eq!(*page.into_vec().expect("memory"), [0.0; 1024]);
    assert_eq!(alloc.stats().bytes_in_use, 0);
    drop(alloc);
    assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
}

#[test]
fn a_part_is_within_its_buffer_or_none() {
    use std::ops::Bound::{Excluded, Unbounded};

    let ledger = Ledger::default();
    let numbers = || Buffer::from_fn_in(10, |i| i, &ledger).expect("memory");
    let mut part: Part<_, _> = numbers().into_part(2..5).expect("within");
    part[0] = 20;
    assert_eq!((&*part, part.range(), part.buffer().len()), (&[20, 3, 4][..], 2..5, 10));
    assert_eq!(part.into_buffer()[..4], [0, 1, 20, 3]);
    assert_eq!(*numbers().into_part(..).expect("all"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(*numbers().into_part(8..=9).expect("the end"), [8, 9]);
    assert_eq!(*numbers().into_part((Excluded(7), Unbounded)).expect("the end"), [8, 9]);
    assert_eq!(numbers().into_part(10..).expect("empty").len(), 0);
    #[allow(clippy::reversed_empty_ranges)]
    let beyond = [5..4, 0..11, 11..11, usize::MAX..0, 0..usize::MAX];
    for range in beyond {
        let error = numbers().into_part(range).expect_err("beyond");
        assert_eq!(error.kind(), ConvertErrorKind::Range { len: 10 });
        assert_eq!(error.into_inner().len(), 10);
    }
    assert!(numbers().into_part(0..=usize::MAX).is_err());
    assert!(numbers().into_part((Excluded(usize::MAX), Unbounded)).is_err());
    assert_eq!(ledger.live.borrow().len(), 0);
}

#[test]
fn elements_by_value_are_dropped_once() {
    let ledger = Ledger::default();
    let alive = Cell::new(0);
    let numbered = |len, last| {
        let number = move |i| if i == last { usize::MAX } else { i };
        Buffer::from_fn_in(len, |i| Counted::new(&alive, number(i)), &ledger).expect("memory")
    };
    let mut values: IntoIter<_, _> = numbered(10, 10).into_iter();
    assert_eq!((values.len(), values.as_slice().len(), alive.get()), (10, 10, 10));
    assert_eq!((values.next().map(|value| value.1), values.next_back().map(|value| value.1)), (Some(0), Some(9)));
    assert_eq!((values.len(), alive.get()), (8, 8));
    assert_eq!(values.nth(2).map(|value| value.1), Some(3));
    drop(values);
    assert_eq!((alive.get(), ledger.live.borrow().len()), (0, 0));
    for value in numbered(5, 5) {
        assert_eq!(alive.get(), 5 - value.1 as isize);
    }
    let mut all = numbered(3, 3).into_iter();
    assert_eq!((all.by_ref().count(), all.next().is_none(), all.as_slice().len()), (3, true, 0));
    drop(all);
    // A panic of the first one dropped keeps neither the others nor the memory.
    let mut values = numbered(10, 4).into_iter();
    assert_eq!(values.nth(3).map(|value| value.1), Some(3));
    assert!(panics(|| drop(values)));
    assert_eq!((alive.get(), ledger.live.borrow().len()), (0, 0));
    let mut units = Buffer::filled_in(3, (), &ledger).expect("memory").into_iter();
    assert_eq!((units.next(), units.len()), (Some(()), 2));
    let shared = Buffer::from_slice_in(&[1, 2, 3], Global).expect("memory").into_iter();
    assert_eq!(std::thread::spawn(move || shared.sum::<i32>()).join().expect("a sum"), 6);
}

/// An iterator that says what it likes of its length.
struct Says<I>(I, usize);

impl<I: Iterator> Iterator for Says<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, None)
    }
}

macro_rules! collects {
    ($alloc:expr) => {{
        let alloc = $alloc;
        for len in [0, 1, 7, 8, 9, 100, 5000] {
            for says in [0, 1, len / 2, len, len + 1, 2 * len, 10_000] {
                let buffer = alloc.alloc_from_iter(Says(0..len, says)).expect("memory");
                assert!(buffer.iter().copied().eq(0..len), "{len} of which it says {says}");
                assert!(buffer.alignment() == 64 && buffer.as_ptr().addr().is_multiple_of(64));
            }
        }
        let mut calls = 0;
        let twice_over = std::iter::from_fn(|| {
            calls += 1;
            (calls != 5).then_some(calls)
        });
        assert_eq!(*alloc.alloc_from_iter(twice_over).expect("memory"), [1, 2, 3, 4]);
        assert_eq!(alloc.alloc_from_iter([(); 9]).expect("no size").len(), 9);
        let names = alloc.alloc_from_vec(vec![String::from("a"), String::from("b")]).expect("memory");
        assert_eq!(*names, ["a", "b"]);
        assert_eq!(alloc.alloc_from_vec(vec![(); 9]).expect("no size").len(), 9);
        assert_eq!(alloc.alloc_from_vec(Vec::<u8>::with_capacity(9)).expect("empty").len(), 0);
        let error = alloc.alloc_from_iter(0_u64..).expect_err("no end");
        assert_eq!((error.kind(), error.requested()), (AllocErrorKind::NeverFits, usize::MAX));
        let page = alloc.alloc_zeroed_aligned::<u64>(10, 4096).expect("memory");
        assert_eq!((page.as_ptr().addr() % 4096, page.alignment(), &*page), (0, 4096, &[0; 10][..]));
        let error = alloc.alloc_zeroed_aligned::<u64>(10, 3).expect_err("no power of two");
        assert_eq!((error.kind(), error.alignment()), (AllocErrorKind::NeverFits, 3));
    }};
}

#[test]
fn every_provider_collects_iterators() {
    let ledger = Tracking::new(System);
    let alloc = TensorAllocator::new_in(&ledger);
    collects!(&alloc);
    assert_eq!(alloc.stats().bytes_in_use, 0);
    let arena = ComputeArena::new_in(&ledger);
    collects!(&arena);
    arena.scope(|scope| collects!(scope));
    #[cfg(feature = "plan")]
    {
        let planned = tenzor_memory::PlannedAllocator::new(alloc.clone());
        for _ in 0..5 {
            planned.step(|alloc| collects!(alloc));
        }
    }
    drop((alloc, arena));
    assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
}

#[test]
fn a_collection_that_ends_early_leaves_nothing() {
    let alive = Cell::new(0);
    let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(4096)));
    assert!(panics(|| {
        let endless = (0..).map(|i| {
            assert!(i < 50, "enough");
            Counted::new(&alive, i)
        });
        drop(alloc.alloc_from_iter(Says(endless, 0)));
    }));
    assert_eq!((alive.get(), alloc.stats().bytes_in_use), (0, 0));
    let many = Says((0..1000).map(|i| Counted::new(&alive, i)), 0);
    let error = alloc.alloc_from_iter(many).expect_err("over the limit");
    assert_eq!((error.limit(), alive.get(), alloc.stats().bytes_in_use), (Some(4096), 0, 0));
    let vec = (0..1000).map(|i| Counted::new(&alive, i)).collect();
    assert!(alloc.alloc_from_vec::<Counted<'_>>(vec).is_err());
    assert_eq!((alive.get(), alloc.stats().bytes_in_use), (0, 0));
    // The elements panic when they are dropped, as the next one is refused: the memory is returned all the same.
    let many = Says((0..1000).map(|i| Counted::new(&alive, if i == 3 { usize::MAX } else { i })), 0);
    assert!(panics(|| drop(alloc.alloc_from_iter(many))));
    assert_eq!((alive.get(), alloc.stats().bytes_in_use), (0, 0));
}

#[test]
fn foreign_memory_is_freed_once_after_its_elements() {
    let (alive, freed) = (Cell::new(0), Cell::new(0));
    let lend = |len: usize| {
        let mut theirs: Vec<_> = (0..len).map(|i| Counted::new(&alive, i)).collect();
        let ptr = NonNull::new(theirs.as_mut_ptr()).expect("a vector points somewhere");
        // SAFETY: they are the buffer's from now on.
        unsafe { theirs.set_len(0) };
        let free = || {
            assert_eq!(alive.get(), 0, "the elements go first");
            freed.set(freed.get() + 1);
            drop(theirs);
        };
        // SAFETY: so many values, in memory that stays until it is called.
        unsafe { Buffer::from_foreign(ptr, len, free) }
    };
    drop(lend(10));
    assert_eq!(freed.replace(0), 1);
    drop(lend(0));
    assert_eq!(freed.replace(0), 1);
    assert_eq!(lend(10).into_iter().map(|value| value.1).sum::<usize>(), 45);
    assert_eq!(freed.replace(0), 1);
    let part = lend(10).into_part(2..4).expect("within");
    assert_eq!((part.len(), freed.get()), (2, 0));
    drop(part);
    assert_eq!(freed.replace(0), 1);
    let vec = lend(3).into_vec().expect("it is aligned as it has to be");
    assert_eq!((vec.len(), freed.get()), (3, 0));
    drop(vec);
    assert_eq!(freed.replace(0), 1);
    // It grants nothing: what would have to grow is refused.
    let mut vec = lend(3).into_vec().expect("as before");
    assert!(vec.try_reserve(1).is_err());
    drop(vec);
    assert_eq!(freed.replace(0), 1);
    let boxed: Buffer<u8, Foreign<std::boxed::Box<dyn FnOnce() + Send>>> = {
        let mut theirs = vec![1_u8, 2, 3];
        let ptr = NonNull::new(theirs.as_mut_ptr()).expect("a vector points somewhere");
        // SAFETY: three values, in memory that stays until it is called.
        unsafe { Buffer::from_foreign(ptr, 3, std::boxed::Box::new(move || drop(theirs))) }
    };
    assert_eq!(std::thread::spawn(move || boxed.iter().sum::<u8>()).join().expect("a sum"), 6);
}

#[cfg(feature = "rayon")]
#[test]
fn rayon_writes_parts() {
    use rayon::prelude::*;

    let alloc = TensorAllocator::new();
    for (len, chunk) in [(0, 1), (1, 0), (10_000, 7), (10_000, 10_000), (10_000, usize::MAX), (100, 0)] {
        let buffer = alloc.alloc::<u64>(len).expect("memory").init_parts(|slots| {
            let (_, rest) = slots.split_at(0);
            rest.par_chunks(chunk).for_each(|part| _ = part.fill_with(|i| i as u64));
        });
        assert!(buffer.expect("all are written").iter().copied().eq(0..len as u64));
    }
    let buffer = alloc.alloc::<u64>(1000).expect("memory");
    let partly = buffer.init_parts(|slots| slots.par_chunks(9).skip(1).for_each(|part| _ = part.fill_with(|_| 1)));
    partly.expect_err("the first part was not written");
    // Parts of a part know where they are.
    let buffer = alloc.alloc::<u64>(1000).expect("memory").init_parts(|slots| {
        let (left, right) = slots.split_at(300);
        left.par_chunks(7).for_each(|part| _ = part.fill_with(|i| i as u64));
        right.par_chunks(7).for_each(|part| _ = part.fill_with(|i| i as u64));
    });
    assert!(buffer.expect("all are written").iter().copied().eq(0..1000));
}
