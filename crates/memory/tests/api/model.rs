//! The pool against a naive model of it: after every operation, the same addresses, the same statistics, the same blocks
//! held from the backing, and in every buffer the bytes that its owner wrote.

use std::alloc::Layout;
use std::collections::{BTreeMap, HashMap};
use std::ptr::NonNull;

use crate::common::{bucket, capacity, layout, ops, random_size};
use tenzor_memory::{AllocErrorKind, BufferPool, PoolConfig, Stats, System, Tracking};

const LARGEST: usize = 100_000;

/// A free buffer of the model.
#[derive(Clone, Copy, Debug)]
struct Idle {
    address: usize,
    capacity: usize,
    align: usize,
}

/// The obvious pool: a list of free buffers in the order they were freed, and sums.
struct Model {
    config: PoolConfig,
    idle: Vec<Idle>,
    expect: Stats,
    by_bucket: HashMap<usize, [u64; 4]>,
    /// What those buffers are, by their addresses, that shrank and stayed.
    roomy: HashMap<usize, (usize, usize)>,
    /// The most that was in use (rounded) in each of the last ticks, and now.
    peaks: Vec<usize>,
}

/// Frees in a tick, and how many ticks an adaptive pool remembers.
const TICK: u64 = 4096;
const TICKS: usize = 4;

const HITS: usize = 0;
const MISSES: usize = 1;
const FREES: usize = 2;
const RELEASED: usize = 3;

impl Model {
    fn new(config: PoolConfig) -> Self {
        let (by_bucket, roomy) = (HashMap::new(), HashMap::new());
        Self { config, idle: Vec::new(), expect: Stats::default(), by_bucket, roomy, peaks: vec![0] }
    }

    /// The capacity and the alignment of a buffer.
    fn block(&self, address: usize, request: Layout) -> (usize, usize) {
        let said = (self.capacity(request.size()), request.align().max(self.config.alignment));
        self.roomy.get(&address).copied().unwrap_or(said)
    }

    fn capacity(&self, size: usize) -> usize {
        let capacity = capacity(size, self.config.classes_per_bucket);
        // Below a limit, nothing is rounded to more than a multiple of 64.
        if self.config.limit.is_some() { capacity.min(size.next_multiple_of(64)) } else { capacity }
    }

    fn count(&mut self, bucket: usize, what: usize) {
        self.by_bucket.entry(bucket).or_default()[what] += 1;
    }

    fn pooled(&self) -> usize {
        self.idle.iter().map(|idle| idle.capacity).sum()
    }

    /// Whether `more` bytes beside all that is held are more than the recent steps needed.
    fn exceeds(&self, more: usize) -> bool {
        let in_use = self.expect.bytes_in_use_rounded;
        let peak = self.peaks.iter().rev().take(TICKS).fold(in_use, |peak, &other| peak.max(other));
        self.config.adaptive && self.pooled() + in_use + more > peak + peak / 16
    }

    fn release(&mut self, index: usize) {
        let idle = self.idle.remove(index);
        self.expect.reserved_bytes -= idle.capacity;
        self.count(bucket(idle.capacity), RELEASED);
    }

    /// What a request must give: `Ok(Some(address))` of a pooled buffer, `Ok(None)` for one from the backing.
    fn get(&mut self, request: Layout) -> Result<Option<usize>, AllocErrorKind> {
        let capacity = self.capacity(request.size());
        let align = request.align().max(self.config.alignment);
        let same = |idle: &Idle| idle.capacity == capacity && idle.align == align;
        let found = self.idle.iter().rposition(same).map(|newest| self.idle.remove(newest));
        if found.is_none()
            && let Some(limit) = self.config.limit
        {
            let refused = if capacity > limit {
                Some(AllocErrorKind::NeverFits)
            } else if self.expect.bytes_in_use_rounded + capacity > limit {
                Some(AllocErrorKind::OverLimit)
            } else {
                None
            };
            if let Some(kind) = refused {
                self.expect.failures += 1;
                return Err(kind);
            }
            while self.expect.reserved_bytes + capacity > limit {
                self.release(0);
            }
        }
        while found.is_none() && !self.idle.is_empty() && self.exceeds(capacity) {
            self.release(0);
        }
        if found.is_none() {
            self.expect.reserved_bytes += capacity;
            self.expect.peak_reserved_bytes = self.expect.peak_reserved_bytes.max(self.expect.reserved_bytes);
        }
        self.count(bucket(capacity), if found.is_some() { HITS } else { MISSES });
        self.expect.bytes_in_use_rounded += capacity;
        if let Some(peak) = self.peaks.last_mut() {
            *peak = self.expect.bytes_in_use_rounded.max(*peak);
        }
        self.handed_out(request.size());
        Ok(found.map(|idle| idle.address))
    }

    fn handed_out(&mut self, bytes: usize) {
        self.expect.bytes_allocated += bytes;
        self.expect.bytes_in_use += bytes;
        self.expect.peak_bytes_in_use = self.expect.peak_bytes_in_use.max(self.expect.bytes_in_use);
    }

    fn put(&mut self, address: usize, request: Layout) {
        let (capacity, align) = self.block(address, request);
        self.roomy.remove(&address);
        let mine = bucket(capacity);
        self.count(mine, FREES);
        self.expect.bytes_freed += request.size();
        self.expect.bytes_in_use -= request.size();
        self.expect.bytes_in_use_rounded -= capacity;
        if self.by_bucket.values().map(|counts| counts[FREES]).sum::<u64>().is_multiple_of(TICK) {
            self.peaks.push(self.expect.bytes_in_use_rounded);
        }
        self.idle.push(Idle { address, capacity, align });
        if capacity > self.config.max_pool_size || self.config.max_buffers_per_bucket == 0 {
            self.release(self.idle.len() - 1);
        }
        while self.idle.iter().filter(|idle| bucket(idle.capacity) == mine).count() > self.config.max_buffers_per_bucket
        {
            let oldest = self.idle.iter().position(|idle| bucket(idle.capacity) == mine);
            self.release(oldest.expect("the bucket is not empty"));
        }
        while self.pooled() > self.config.max_pool_size || (!self.idle.is_empty() && self.exceeds(0)) {
            self.release(0);
        }
    }

    fn trim(&mut self, keep: usize) -> usize {
        let before = self.pooled();
        while self.pooled() > keep {
            self.release(0);
        }
        before - self.pooled()
    }

    fn check(&mut self, stats: &Stats) {
        let sum = |what: usize| self.by_bucket.values().map(|counts| counts[what]).sum::<u64>();
        self.expect.pool_hits = sum(HITS);
        self.expect.pool_misses = sum(MISSES);
        self.expect.allocations = sum(HITS) + sum(MISSES);
        self.expect.deallocations = sum(FREES);
        self.expect.released = sum(RELEASED);
        self.expect.pooled_bytes = self.pooled();
        self.expect.pooled_buffers = self.idle.len();
        self.expect.buckets.clone_from(&stats.buckets);
        assert_eq!(*stats, self.expect);
        for row in &stats.buckets {
            let counts = self.by_bucket[&row.bucket];
            assert_eq!([row.hits, row.misses, row.released], [counts[HITS], counts[MISSES], counts[RELEASED]]);
            assert_eq!(row.buffers_in_use, counts[HITS] + counts[MISSES] - counts[FREES]);
            let kept = self.idle.iter().filter(|idle| bucket(idle.capacity) == row.bucket);
            assert_eq!(row.pooled_buffers, kept.clone().count());
            assert_eq!(row.pooled_bytes, kept.map(|idle| idle.capacity).sum::<usize>());
        }
        assert!(stats.buckets.is_sorted_by_key(|row| row.bucket));
    }
}

/// A live buffer, and the byte that its owner filled it with.
struct Live {
    ptr: NonNull<u8>,
    layout: Layout,
    byte: u8,
}

/// The first and last bytes of a buffer: those that a neighbour would hit.
fn edges(live: &Live) -> (usize, usize) {
    let edge = live.layout.size().min(32);
    (edge, live.layout.size() - edge)
}

fn fill(live: &Live) {
    let (edge, last) = edges(live);
    // SAFETY: both stretches lie within the live buffer.
    unsafe {
        live.ptr.write_bytes(live.byte, edge);
        live.ptr.add(last).write_bytes(live.byte, edge);
    }
}

fn verify(live: &Live, upto: usize) {
    let (edge, last) = edges(live);
    for offset in (0..edge).chain(last..last + edge).filter(|&offset| offset < upto) {
        // SAFETY: within the live buffer, and written by `fill`.
        assert_eq!(unsafe { live.ptr.add(offset).read() }, live.byte, "byte {offset} of {:?}", live.layout);
    }
}

/// A pool and its model at work.
struct Run<'a> {
    rng: fastrand::Rng,
    pool: BufferPool<&'a Tracking<System>>,
    model: Model,
    live: Vec<Live>,
    sizes: Vec<usize>,
    operation: usize,
    /// The statistics are compared after each so many operations: in between, the thread keeps some of them to itself.
    pace: usize,
}

impl<'a> Run<'a> {
    fn new(config: PoolConfig, seed: u64, pace: usize, ledger: &'a Tracking<System>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pool = BufferPool::with_config_in(config, ledger);
        let model = Model::new(*pool.config());
        let sizes = (0..12).map(|_| random_size(&mut rng, LARGEST)).collect();
        Self { rng, pool, model, live: Vec::new(), sizes, operation: 0, pace }
    }

    fn step(&mut self) {
        let Self { rng, pool, model, live, sizes, .. } = self;
        let config = *pool.config();
        let random_layout = |rng: &mut fastrand::Rng| {
            let size = if rng.u8(..) < 200 { sizes[rng.usize(..sizes.len())] } else { random_size(rng, LARGEST) };
            layout(size, if rng.u8(..) < 230 { 1 << rng.u32(0..=6) } else { 1 << rng.u32(7..=13) })
        };
        let case = rng.u8(..);
        if live.is_empty() || (case < 110 && live.len() < 60) {
            let request = random_layout(rng);
            let zeroed = rng.bool();
            let expected = model.get(request);
            let got = if zeroed { pool.get_zeroed(request) } else { pool.get(request) };
            match (got, expected) {
                (Ok(ptr), Ok(address)) => {
                    assert!(ptr.addr().get().is_multiple_of(request.align().max(config.alignment)));
                    if let Some(address) = address {
                        assert_eq!(ptr.addr().get(), address, "the buffer freed last");
                    }
                    let new = Live { ptr, layout: request, byte: rng.u8(1..) };
                    if zeroed {
                        // SAFETY: the pool granted that many zeroed bytes.
                        let bytes = unsafe { std::slice::from_raw_parts(ptr.as_ptr(), request.size()) };
                        assert!(bytes.iter().all(|&byte| byte == 0));
                    }
                    fill(&new);
                    live.push(new);
                }
                (Err(error), Err(kind)) => {
                    assert_eq!((error.kind(), error.limit()), (kind, config.limit));
                    assert_eq!((error.requested(), error.alignment()), (request.size(), request.align()));
                    assert_eq!((error.in_use(), error.pooled()), (model.expect.bytes_in_use_rounded, model.pooled()));
                }
                (got, expected) => panic!("{request:?}: {got:?} where the model has {expected:?}"),
            }
        } else if case < 225 {
            let old = live.swap_remove(rng.usize(..live.len()));
            verify(&old, usize::MAX);
            model.put(old.ptr.addr().get(), old.layout);
            // SAFETY: the buffer is live and came from the pool with this layout.
            unsafe { pool.put(old.ptr, old.layout) };
        } else if case < 250 {
            let index = rng.usize(..live.len());
            let request = random_layout(rng);
            let (old, zeroed) = (&live[index], rng.bool());
            let (old_size, new_size) = (old.layout.size(), request.size());
            let address = old.ptr.addr().get();
            let block = model.block(address, old.layout);
            let same = (model.capacity(new_size), request.align().max(config.alignment));
            let in_place = block == same && !model.roomy.contains_key(&address);
            let mut expected = if in_place { Ok(Some(address)) } else { model.get(request) };
            let stays = expected.is_err() && new_size <= block.0 && same.1 <= block.1;
            if stays {
                model.expect.failures -= 1;
                model.roomy.insert(address, block);
                expected = Ok(Some(address));
            }
            let in_place = in_place || stays;
            // SAFETY: the buffer is live and came from the pool with this layout.
            let got = unsafe { pool.resize(old.ptr, old.layout, request, zeroed) };
            if let (Ok(ptr), Ok(address)) = (got, expected) {
                address.inspect(|&address| assert_eq!(ptr.addr().get(), address));
                let moved = Live { ptr, layout: request, byte: old.byte };
                verify(&Live { layout: old.layout, ..moved }, new_size.min(edges(old).0));
                if zeroed && new_size > old_size {
                    // SAFETY: the pool granted that many bytes, those beyond the old size zeroed.
                    let grown = unsafe { std::slice::from_raw_parts(ptr.as_ptr().add(old_size), new_size - old_size) };
                    assert!(grown.iter().all(|&byte| byte == 0));
                }
                if in_place {
                    model.expect.bytes_in_use -= old_size.saturating_sub(new_size);
                    model.expect.bytes_freed += old_size.saturating_sub(new_size);
                    model.handed_out(new_size.saturating_sub(old_size));
                } else {
                    model.put(old.ptr.addr().get(), old.layout);
                }
                fill(&moved);
                live[index] = moved;
            } else {
                assert_eq!(got.map_err(|error| error.kind()).map(drop), expected.map(drop));
            }
        } else if case < 254 {
            let keep = rng.usize(..=2 * config.max_pool_size.min(usize::MAX / 2));
            assert_eq!(pool.trim(keep), model.trim(keep));
        } else {
            pool.clear();
            model.trim(0);
        }
        self.operation += 1;
        if !self.operation.is_multiple_of(self.pace) {
            return;
        }
        let stats = pool.stats();
        model.check(&stats);
        assert!(stats.bytes_in_use <= stats.bytes_in_use_rounded && stats.bytes_in_use_rounded <= stats.reserved_bytes);
        assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes, stats.reserved_bytes);
        assert!(stats.pooled_bytes <= config.max_pool_size);
        assert!(stats.buckets.iter().all(|row| row.pooled_buffers <= config.max_buffers_per_bucket));
        assert!(config.limit.is_none_or(|limit| stats.reserved_bytes <= limit));
        assert_eq!(pool.backing().live_bytes(), stats.reserved_bytes);
        if self.operation.is_multiple_of(500) {
            let mut expected: BTreeMap<usize, Layout> = BTreeMap::new();
            expected.extend(model.idle.iter().map(|idle| (idle.address, layout(idle.capacity, idle.align))));
            expected.extend(live.iter().map(|live| {
                let address = live.ptr.addr().get();
                let (capacity, align) = model.block(address, live.layout);
                (address, layout(capacity, align))
            }));
            assert_eq!(pool.backing().blocks(), expected.into_iter().collect::<Vec<_>>());
            let blocks = pool.backing().blocks();
            assert!(blocks.windows(2).all(|pair| pair[0].0 + pair[0].1.size() <= pair[1].0), "blocks overlap");
        }
    }

    fn end(self) {
        let Self { pool, live, .. } = self;
        let ledger = *pool.backing();
        for live in live {
            verify(&live, usize::MAX);
            // SAFETY: the buffer is live and came from the pool with this layout.
            unsafe { pool.put(live.ptr, live.layout) };
        }
        assert_eq!(pool.stats().bytes_in_use, 0);
        drop(pool);
        assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
    }
}

fn run(config: PoolConfig, seed: u64, operations: usize, pace: usize) {
    let ledger = Tracking::new(System);
    let mut run = Run::new(config, seed, pace, &ledger);
    (0..operations).for_each(|_| run.step());
    run.end();
}

fn configs() -> [PoolConfig; 13] {
    let base = PoolConfig::default();
    [
        base,
        base.with_classes_per_bucket(1),
        base.with_classes_per_bucket(4).with_max_pool_size(256 << 10),
        base.with_max_pool_size(64 << 10).with_max_buffers_per_bucket(2),
        base.with_max_pool_size(usize::MAX).with_max_buffers_per_bucket(usize::MAX).with_classes_per_bucket(64),
        base.with_limit(Some(2 << 20)),
        base.with_limit(Some(300 << 10)).with_max_pool_size(1 << 20).with_max_buffers_per_bucket(40),
        base.with_zero_on_free(true).with_max_pool_size(1 << 20),
        base.with_alignment(4096).with_classes_per_bucket(2),
        PoolConfig::adaptive(),
        base.with_adaptive(true).with_max_buffers_per_bucket(100),
        base.with_max_buffers_per_bucket(0),
        base.with_max_pool_size(0),
    ]
}

#[test]
fn the_pool_does_what_the_model_does() {
    let configs = configs();
    let operations = ops(1_000_000) / configs.len() / 2 + 1;
    for (seed, config) in configs.into_iter().enumerate() {
        run(config, seed as u64, operations, 1);
        run(config, seed as u64 + 100, operations, 50);
    }
}

/// However many pools a thread uses in turns, each does what it does alone; some come and some go meanwhile.
#[test]
fn a_hundred_pools_in_turns_do_what_their_models_do() {
    let configs = configs();
    let ledgers: Vec<_> = (0..200).map(|_| Tracking::new(System)).collect();
    let mut runs: Vec<_> = Vec::new();
    let mut to_come = ledgers.iter().enumerate();
    for round in 0..ops(1_000_000) / 400 {
        if runs.len() < 100 {
            runs.extend(to_come.next().map(|(seed, ledger)| {
                Run::new(configs[seed % configs.len()], seed as u64, if seed % 2 == 0 { 1 } else { 50 }, ledger)
            }));
        } else if round % 20 == 0 {
            runs.swap_remove(round % 100).end();
        }
        runs.iter_mut().for_each(Run::step);
    }
    runs.into_iter().for_each(Run::end);
}

#[test]
fn a_full_pool_stays_under_its_cap_while_4000_sizes_pass() {
    let cap = 1 << 20;
    let config =
        PoolConfig::default().with_max_pool_size(cap).with_max_buffers_per_bucket(64).with_classes_per_bucket(64);
    let ledger = Tracking::new(System);
    let pool = BufferPool::with_config_in(config, &ledger);
    for size in (0..4000).map(|i| 64 + 97 * i) {
        let layout = layout(size, 64);
        let ptr = pool.get(layout).expect("memory");
        // SAFETY: just got with this layout.
        unsafe { pool.put(ptr, layout) };
        assert!(pool.stats().pooled_bytes <= cap);
        assert_eq!(ledger.live_bytes(), pool.stats().reserved_bytes);
    }
    let stats = pool.stats();
    assert!(stats.pooled_bytes > cap / 2 && stats.released > 100, "{stats}");
}
