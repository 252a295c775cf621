//! One table of the process's memory: its rows say who holds what, and add up to what the system says.

use std::sync::Barrier;
use std::{fs, thread};

use tenzor_memory::{Bytes, ComputeArena, Footprint, HeapConfig, Pages, PlannedAllocator, PoolConfig, TensorAllocator};

use crate::GLOBAL;
use crate::common::{ops, random_size};
use crate::process::{alone, alone_each, resident, rollup};

const MIB: usize = 1 << 20;

/// Bytes that blocks and pages have, by the heap's books.
fn books(footprint: &Footprint) -> usize {
    footprint.in_use_bytes
        + footprint.pooled_bytes
        + footprint.idle_bytes
        + footprint.cached_bytes
        + footprint.free_bytes
}

/// What of the process's memory is neither the heap's nor a file's: stacks, variables, other allocators.
fn others(footprint: &Footprint) -> usize {
    rollup("Anonymous:") - footprint.heap_bytes()
}

/// Whether a block of so many bytes makes the difference: it has a page more where it is to begin elsewhere in its page than others, and the test
/// itself needs a little.
fn differ_by(more: usize, less: usize, bytes: usize) -> bool {
    (bytes..bytes + (16 << 10)).contains(&(more - less))
}

/// What of the heap's addresses is resident, by what the system says of each mapping: they are where nothing else is, 4 TiB at most from the place of small
/// blocks on.
fn resident_heap() -> usize {
    let first = (&raw const *Box::new(0_u8)).addr() - (64 << 20);
    let mappings = fs::read_to_string("/proc/self/smaps").expect("Linux tells");
    let mut is_heap = false;
    let mut all = 0;
    for line in mappings.lines() {
        let mut words = line.split_ascii_whitespace();
        let head = words.next().unwrap_or_default();
        if let Some((start, _)) = head.split_once('-') {
            is_heap = (first..first + (4 << 40)).contains(&usize::from_str_radix(start, 16).expect("an address"));
        } else if head == "Rss:" && is_heap {
            all += words.next().and_then(|kib| kib.parse::<usize>().ok()).expect("a number") << 10;
        }
    }
    all
}

/// Looks, and checks what is so at any time. The looks of others, and variables that are touched first, are a few pages.
fn look(known: usize) -> Footprint {
    let footprint = GLOBAL.footprint();
    let (all, told) = (resident(), footprint.resident_bytes.expect("Linux tells"));
    assert!(all.abs_diff(told) < 256 << 10, "{all} bytes are resident, {told} are told");
    assert_eq!(footprint.heap_bytes() + footprint.other_bytes().expect("Linux tells"), told);
    let others = others(&footprint);
    assert!(others.abs_diff(known) < 256 << 10, "{} were others', now {}\n{footprint}", Bytes(known), Bytes(others));
    // Of tables, not all lie there.
    let (heap, tables) = (resident_heap(), footprint.table_bytes);
    let told = footprint.heap_bytes() - tables..footprint.heap_bytes() + (256 << 10);
    assert!(told.contains(&heap) && tables < 2 * MIB, "{}\n{footprint}", Bytes(heap));
    footprint
}

/// Looks for the first time: all that a look needs was touched before. Nothing goes back by time from now on.
fn first_look() -> usize {
    GLOBAL.configure(&HeapConfig::new().with_decay(None));
    (0..2).for_each(|_| _ = (others(&GLOBAL.footprint()), GLOBAL.footprint().to_string(), resident()));
    others(&GLOBAL.footprint())
}

#[test]
fn law_4_what_is_freed_goes_from_row_to_row_and_nothing_is_lost() {
    alone(|| {
        let others = first_look();
        let look = || look(others);
        let before = look();

        let tensor = vec![1_u8; 100 * MIB];
        let touched = look();
        assert!(differ_by(touched.in_use_bytes, before.in_use_bytes, 100 * MIB), "{before}{touched}");
        assert!(touched.heap_bytes() - before.heap_bytes() >= 99 * MIB);

        let sparse: Vec<u8> = Vec::with_capacity(1024 * MIB);
        let untouched = look();
        assert!(differ_by(untouched.in_use_bytes, touched.in_use_bytes, 1024 * MIB), "{touched}{untouched}");
        // Pages of what was there before may have been touched since.
        let grew = (untouched.untouched_bytes - touched.untouched_bytes).cast_unsigned();
        assert!(grew.abs_diff(1024 * MIB) < 256 << 10, "{touched}{untouched}");
        assert!(untouched.heap_bytes().abs_diff(touched.heap_bytes()) < MIB, "tables, at most");
        drop(sparse);

        let config = PoolConfig::default().with_max_pool_size(usize::MAX);
        let pool = TensorAllocator::with_config_in(config, Pages);
        let buffer = pool.alloc_filled(40 * MIB, 1_u8).expect("memory");
        let held = look();
        drop(buffer);
        let pooled = look();
        assert_eq!(pooled.pooled_bytes - held.pooled_bytes, 40 * MIB);
        assert!(differ_by(held.in_use_bytes, pooled.in_use_bytes, 40 * MIB), "{held}{pooled}");
        assert_eq!(books(&held), books(&pooled));

        let mut arena = ComputeArena::new_in(Pages);
        drop(arena.alloc_filled(10 * MIB, 1_u8).expect("memory"));
        let held = look();
        arena.reset();
        let reset = look();
        assert_eq!(reset.idle_bytes - held.idle_bytes, arena.usage().reserved_bytes);
        assert_eq!((books(&reset), reset.pooled_bytes), (books(&held), held.pooled_bytes));

        // What a plan keeps of a pool is not the pool's, too.
        let planned = PlannedAllocator::new(pool.clone());
        let step = || {
            planned.step(|alloc| {
                drop((alloc.alloc_filled(MIB, 1_u8).expect("memory"), alloc.alloc_filled(MIB, 1_u8).expect("memory")))
            });
        };
        (0..4).for_each(|_| step());
        let idle = look();
        assert_eq!(idle.idle_bytes, arena.usage().reserved_bytes + 2 * MIB);
        assert_eq!(idle.idle_bytes - arena.usage().reserved_bytes, pool.stats().kept_above_bytes);
        assert_eq!(idle.pooled_bytes, pool.stats().pooled_bytes - pool.stats().kept_above_bytes);

        drop(tensor);
        let free = look();
        assert!(differ_by(free.free_bytes, idle.free_bytes, 100 * MIB), "{idle}{free}");
        assert_eq!(books(&free), books(&idle));

        let given = GLOBAL.trim();
        let trimmed = look();
        assert!(given >= 140 * MIB && books(&free) - books(&trimmed) == given, "{given}: {trimmed}");
        assert_eq!((trimmed.pooled_bytes, trimmed.idle_bytes), (0, 0));
        assert!(trimmed.cached_bytes + trimmed.free_bytes < MIB, "{trimmed}");
        assert!(trimmed.heap_bytes() <= before.heap_bytes() + MIB, "{trimmed}");
    });
}

#[test]
fn law_4_what_threads_have_at_hand_is_a_row_and_goes_back_when_they_end() {
    alone(|| {
        const THREADS: usize = 4;
        let others = first_look();
        let (there, go_on) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        let before = look(others);
        let with_threads = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (there, go_on) = (&there, &go_on);
                    scope.spawn(move || {
                        // Of slabs, and of parcels.
                        for size in [100, 16 << 10] {
                            let blocks: Vec<_> = (0..20).map(|_| vec![1_u8; size]).collect();
                            drop(blocks);
                        }
                        there.wait();
                        go_on.wait();
                    })
                })
                .collect();
            there.wait();
            // Stacks are others'.
            let footprint = GLOBAL.footprint();
            go_on.wait();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            footprint
        });
        let after = look(others);
        assert!(with_threads.cached_bytes >= before.cached_bytes + THREADS * 20 * (16 << 10), "{with_threads}");
        assert!(after.cached_bytes < before.cached_bytes + (64 << 10), "{after}");
        assert!(with_threads.table_bytes > before.table_bytes);
        assert!(books(&after) + after.table_bytes >= books(&with_threads) + with_threads.table_bytes, "{after}");
    });
}

#[test]
fn law_4_the_rows_add_up_whatever_is_done() {
    alone_each(0..3, |case| {
        let others = first_look();
        let mut rng = fastrand::Rng::with_seed(case);
        let pools = [PoolConfig::default(), PoolConfig::default().with_max_pool_size(1 << 30)]
            .map(|config| TensorAllocator::with_config_in(config, Pages));
        let mut arenas = [(); 2].map(|()| ComputeArena::new_in(Pages));
        let mut live: Vec<Vec<u8>> = Vec::new();
        let mut buffers = Vec::new();
        for round in 0..ops(2_000) {
            let size = random_size(&mut rng, 8 * MIB).max(1);
            match rng.u32(0..10) {
                0..3 if live.len() < 60 => live.push(vec![1; size]),
                3 => live.push(Vec::with_capacity(size)),
                4..6 if buffers.len() < 30 => {
                    let pool = &pools[rng.usize(0..pools.len())];
                    buffers.push(pool.alloc_filled(size, 1_u8).expect("memory").into_owned());
                }
                6 if !buffers.is_empty() => drop(buffers.swap_remove(rng.usize(0..buffers.len()))),
                7 => {
                    let arena = &mut arenas[rng.usize(0..2)];
                    arena.reset();
                    if rng.bool() {
                        drop(arena.alloc_filled(size, 1_u8).expect("memory"));
                    }
                }
                8 if rng.u8(..) == 0 => _ = GLOBAL.trim(),
                _ if !live.is_empty() => drop(live.swap_remove(rng.usize(0..live.len()))),
                _ => {}
            }
            if round % 50 == 0 {
                let footprint = look(others);
                let in_use: usize =
                    live.iter().map(Vec::capacity).chain(buffers.iter().map(|buffer| buffer.len())).sum();
                assert!(footprint.in_use_bytes >= in_use, "{in_use} bytes are in use\n{footprint}");
                let pooled: usize = pools.iter().map(|pool| pool.stats().pooled_bytes).sum();
                assert_eq!(footprint.pooled_bytes, pooled, "{footprint}");
                let reserved: usize = arenas.iter().map(|arena| arena.usage().reserved_bytes).sum();
                assert!(footprint.idle_bytes <= reserved, "{footprint}");
                let stats = GLOBAL.stats();
                assert_eq!(footprint.pooled_bytes + footprint.idle_bytes, stats.kept_above_bytes, "{footprint}");
                let rows = footprint.cached_bytes + footprint.free_bytes;
                let pooled = stats.pooled_bytes - stats.kept_above_bytes;
                assert!(rows <= pooled && pooled - rows <= footprint.table_bytes, "{footprint}\n{stats}");
            }
        }
    });
}

#[test]
fn what_is_pooled_in_the_heap_is_not_said_to_be_buffers() {
    alone(|| {
        GLOBAL.configure(&HeapConfig::new().with_decay(None));
        drop(vec![1_u8; 82 * MIB]);
        let stats = GLOBAL.stats();
        let told = stats.to_string();
        let free = stats.pooled_bytes - stats.buckets.iter().map(|row| row.pooled_bytes).sum::<usize>();
        assert!(free >= 82 * MIB && told.contains(&format!("{} in free ranges", Bytes(free))), "{told}");
        let pool = TensorAllocator::with_config_in(PoolConfig::default().with_max_pool_size(usize::MAX), Pages);
        drop(pool.alloc_filled(40 * MIB, 1_u8).expect("memory"));
        assert!(GLOBAL.stats().to_string().contains(", 40 MiB kept above, "), "{}", GLOBAL.stats());
        assert!(!pool.stats().to_string().contains("free ranges"), "{}", pool.stats());
    });
}
