//! The hit path on one thread: allocate and free one buffer again and again, through `TensorAllocator` and its peers; and a step of a thousand
//! such pairs, by the pool and as planned.
//!
//! One process, one pair after the other; none of the contenders is the process's global allocator.
#![allow(unsafe_code, missing_docs)]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tenzor::memory::PlannedAllocator;
use tenzor::memory::{AllocError, Allocator, Buffer, ComputeArena, Handle, Locked, SharedAllocator, TensorAllocator};

const SIZES: [usize; 5] = [64, 1 << 10, 4 << 10, 64 << 10, 1 << 20];

fn pair(allocator: &impl GlobalAlloc, layout: Layout) {
    // SAFETY: the layout is not zero-sized; the block is freed with the layout it was allocated with.
    unsafe {
        let block = allocator.alloc(black_box(layout));
        allocator.dealloc(black_box(block), layout);
    }
}

fn hit_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("hit path");
    for size in SIZES {
        let layout = Layout::array::<u8>(size).and_then(|layout| layout.align_to(64)).unwrap_or(Layout::new::<u8>());
        let alloc = TensorAllocator::new();
        group.bench_with_input(BenchmarkId::new("tenzor", size), &size, |b, &size| {
            b.iter(|| drop(black_box(alloc.alloc::<u8>(black_box(size)))));
        });
        group.bench_with_input(BenchmarkId::new("mimalloc", size), &layout, |b, &layout| {
            b.iter(|| pair(&mimalloc::MiMalloc, layout));
        });
        group.bench_with_input(BenchmarkId::new("malloc", size), &layout, |b, &layout| {
            b.iter(|| pair(&std::alloc::System, layout));
        });
        let mut arena = ComputeArena::with_capacity(64 << 20);
        group.bench_with_input(BenchmarkId::new("arena", size), &size, |b, &size| {
            b.iter(|| {
                if arena.usage().pooled_bytes < size {
                    arena.reset();
                }
                drop(black_box(arena.alloc::<u8>(black_box(size))));
            });
        });
    }
    group.finish();
}

/// Uses a buffer's address, as a program does; the buffer itself stays in registers.
fn touch<T, A: Allocator>(buffer: Result<Buffer<T, A>, AllocError>) {
    if let Ok(buffer) = buffer {
        black_box(buffer.as_ptr());
    }
}

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("step of 1000 pairs");
    for size in SIZES {
        let pool = TensorAllocator::new();
        group.bench_with_input(BenchmarkId::new("pool", size), &size, |b, &size| {
            b.iter(|| (0..1000).for_each(|_| touch(pool.alloc::<u8>(black_box(size)))));
        });
        let planned = PlannedAllocator::new(TensorAllocator::new());
        group.bench_with_input(BenchmarkId::new("planned", size), &size, |b, &size| {
            b.iter(|| {
                planned.step(|alloc| (0..1000).for_each(|_| touch(alloc.alloc::<u8>(black_box(size)))));
            });
        });
        assert!(planned.stats().steps < planned.stats().followed + 3);
    }
    group.finish();
}

/// A thousand pairs of what an allocator is behind: a pointer, a handle, a lock. Arenas are reset and steps begun and ended once for all of them.
fn handles(c: &mut Criterion) {
    fn pairs(alloc: impl Allocator) {
        let layout = Layout::from_size_align(4 << 10, 64).unwrap_or(Layout::new::<u8>());
        for _ in 0..1000 {
            if let Ok(block) = alloc.allocate(black_box(layout)) {
                // SAFETY: just granted with this layout.
                unsafe { alloc.deallocate(black_box(block.cast()), layout) };
            }
        }
    }

    let mut group = c.benchmark_group("handles, 1000 pairs");
    let pool = TensorAllocator::new();
    group.bench_function("pool", |b| b.iter(|| pairs(&pool)));
    let shared = SharedAllocator::new(pool.clone());
    group.bench_function("pool, shared", |b| b.iter(|| pairs(&shared)));

    let mut arena = ComputeArena::with_capacity(8 << 20);
    group.bench_function("arena", |b| {
        b.iter(|| {
            arena.reset();
            pairs(&arena);
        });
    });
    let handle = Handle::new(ComputeArena::with_capacity(8 << 20));
    group.bench_function("arena, handle", |b| b.iter(|| handle.reset().map(|()| pairs(&handle))));
    let locked = Locked::new(ComputeArena::with_capacity(8 << 20));
    group.bench_function("arena, locked", |b| b.iter(|| locked.reset().map(|()| pairs(&locked))));

    let handle = Handle::new(PlannedAllocator::new(pool.clone()));
    group.bench_function("planned", |b| b.iter(|| PlannedAllocator::step(&handle, pairs)));
    group.bench_function("planned, handle", |b| b.iter(|| handle.step(pairs)));
    let locked = Locked::new(PlannedAllocator::new(pool.clone()));
    group.bench_function("planned, locked", |b| b.iter(|| locked.step(pairs)));
    let shared = SharedAllocator::new(locked.clone());
    group.bench_function("planned, locked and shared", |b| b.iter(|| locked.step(|_| pairs(&shared))));
    group.finish();
}

criterion_group!(benches, hit_path, step, handles);
criterion_main!(benches);
