//! Replays of a trace over one heap: one for time and page faults, one for memory.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tenzor::trace::{Event, Trace};

use crate::cycle;
use crate::sys::{Blocks, Heap, OutOfMemory, minor_faults, peak_resident, resident};

/// Steps that repeat are replayed until they took this long together, which steadies the median of short ones …
const TIMED: Duration = Duration::from_millis(100);
/// … or until there are this many.
const TIMED_STEPS: usize = 1000;

/// Looking at what a heap has reserved takes time, so only every so many-th request is followed by a look …
const LOOK_EVERY: usize = 64;
/// … and each of at least this many bytes.
const LOOK_FROM: usize = 64 << 10;

/// Medians over the steps of one replay.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) step_ns: f64,
    pub(crate) minor_faults_per_step: Option<f64>,
}

/// What one replay of the whole trace took; bytes are above those of the program itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Footprint {
    pub(crate) peak_reserved_bytes: Option<u64>,
    pub(crate) peak_resident_bytes: Option<u64>,
    /// In the steps.
    pub(crate) hit_rate: Option<f64>,
    pub(crate) hits_and_misses: Option<(u64, u64)>,
}

pub(crate) fn times<H: Heap>(trace: &Trace, mut heap: H) -> Result<Times, OutOfMemory> {
    heap.prepare(trace);
    let moves = cycle::moves(trace);
    let passes = TIMED_STEPS.div_ceil(trace.steps().len().max(1));
    let mut step_ns = Vec::with_capacity(passes * trace.steps().len());
    let mut faults = Vec::with_capacity(step_ns.capacity());
    let mut blocks = Blocks::new(heap, trace.slots());
    play(&mut blocks, trace.setup(), Part::Outside)?;
    if let Some(moves) = &moves {
        // The program's set-up has warmed up a malloc and a pool, but not an arena, which serves nothing but steps.
        for step in trace.steps() {
            blocks.begin_step();
            play(&mut blocks, step, Part::Step)?;
            blocks.end_step();
        }
        blocks.rename(moves);
    }
    let begin = Instant::now();
    for _ in 0..passes {
        for step in trace.steps() {
            let (faults_before, start) = (minor_faults(), Instant::now());
            blocks.begin_step();
            play(&mut blocks, step, Part::Step)?;
            blocks.end_step();
            step_ns.push(start.elapsed().as_nanos() as f64);
            let new_faults = minor_faults().zip(faults_before);
            faults.extend(new_faults.map(|(after, before)| (after - before) as f64));
        }
        match &moves {
            Some(moves) if begin.elapsed() < TIMED => blocks.rename(moves),
            _ => break,
        }
    }
    Ok(Times { step_ns: median(step_ns).unwrap_or(0.0), minor_faults_per_step: median(faults) })
}

pub(crate) fn footprint<H: Heap>(trace: &Trace, heap: H) -> Result<Footprint, OutOfMemory> {
    footprint_seen(trace, heap, Watch { every: LOOK_EVERY, ..Watch::default() })
}

fn footprint_seen<H: Heap>(trace: &Trace, mut heap: H, mut watch: Watch) -> Result<Footprint, OutOfMemory> {
    heap.prepare(trace);
    let mut blocks = Blocks::new(heap, trace.slots());
    let resident_before = resident();
    watch.play(&mut blocks, trace.setup(), Part::Outside)?;
    let traffic_before = blocks.heap().hits_and_misses();
    for step in trace.steps() {
        blocks.begin_step();
        watch.play(&mut blocks, step, Part::Step)?;
        blocks.end_step();
        watch.look(&blocks);
    }
    let traffic = blocks.heap().hits_and_misses().zip(traffic_before);
    let traffic = traffic.map(|(after, before)| (after.0 - before.0, after.1 - before.1));
    watch.play(&mut blocks, trace.tail(), Part::Outside)?;
    let resident = peak_resident().zip(resident_before);
    Ok(Footprint {
        peak_reserved_bytes: watch.peak_reserved.map(|bytes| bytes as u64),
        peak_resident_bytes: resident.map(|(peak, before)| peak.saturating_sub(before) as u64),
        hit_rate: traffic.map(|(hits, misses)| hits as f64 / (hits + misses).max(1) as f64),
        hits_and_misses: traffic,
    })
}

/// The part of a trace that an event is in: what is requested outside of the steps is not scratch, however short it lives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Outside,
    Step,
}

fn play<H: Heap>(blocks: &mut Blocks<H>, events: &[Event], part: Part) -> Result<(), OutOfMemory> {
    events.iter().try_for_each(|event| apply(blocks, event, part))
}

#[inline]
fn apply<H: Heap>(blocks: &mut Blocks<H>, event: &Event, part: Part) -> Result<(), OutOfMemory> {
    match *event {
        Event::Allocate { slot, layout, zeroed, escapes } => {
            blocks.take(slot, layout, zeroed, part == Part::Step && !escapes)
        }
        Event::Resize { slot, layout } => blocks.resize(slot, layout),
        Event::Free { slot } => {
            blocks.release(slot);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Looks at what a heap has reserved, now and then.
#[derive(Default)]
struct Watch {
    /// One of so many requests is followed by a look.
    every: usize,
    requests: usize,
    peak_reserved: Option<usize>,
}

impl Watch {
    fn play<H: Heap>(&mut self, blocks: &mut Blocks<H>, events: &[Event], part: Part) -> Result<(), OutOfMemory> {
        for event in events {
            apply(blocks, event, part)?;
            if let Event::Allocate { layout, .. } | Event::Resize { layout, .. } = event {
                self.requests += 1;
                if layout.size() >= LOOK_FROM || self.requests.is_multiple_of(self.every) {
                    self.look(blocks);
                }
            }
        }
        Ok(())
    }

    fn look<H: Heap>(&mut self, blocks: &Blocks<H>) {
        self.peak_reserved = self.peak_reserved.max(blocks.reserved());
    }
}

/// The middle value, or the mean of the two middle ones; none of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

// Helpers of tests are not recognised as tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use fastrand::Rng;
    use tenzor::memory::PoolConfig;
    use tenzor::trace::HEADER;
    use tenzor_report::{Simulation, simulate};

    use super::*;
    use crate::source::Source;
    use crate::sys::Pool;

    /// What a replay finds that looks after each event, beside what a simulation says.
    fn both(trace: &Trace, config: PoolConfig) -> [(u64, u64, u64); 2] {
        let seen = footprint_seen(trace, Pool::of(config), Watch { every: 1, ..Watch::default() }).unwrap();
        let (hits, misses) = seen.hits_and_misses.unwrap();
        let Simulation { hits: told_hits, misses: told_misses, peak_reserved_bytes, .. } =
            simulate(trace, config).unwrap();
        [(hits, misses, seen.peak_reserved_bytes.unwrap()), (told_hits, told_misses, peak_reserved_bytes)]
    }

    /// What time does is left out of simulations.
    fn stop_time() {
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        tenzor::memory::TenzorMalloc::new().configure(&tenzor::memory::HeapConfig::new().with_decay(None));
    }

    fn configs() -> [PoolConfig; 6] {
        let default = PoolConfig::default();
        [
            default,
            PoolConfig::adaptive(),
            default.with_max_pool_size(1 << 20),
            default.with_max_buffers_per_bucket(2).with_classes_per_bucket(1),
            default.with_max_pool_size(usize::MAX).with_max_buffers_per_bucket(usize::MAX).with_alignment(4096),
            default.with_max_pool_size(0).with_classes_per_bucket(64),
        ]
    }

    #[test]
    fn simulations_of_the_embedded_traces_say_what_replays_find() {
        stop_time();
        for source in Source::embedded() {
            let trace = source.trace().unwrap();
            for config in configs() {
                let [found, told] = both(&trace, config);
                assert_eq!(told, found, "{}: {config:?}", source.name);
            }
        }
    }

    /// Small numbers as often as large ones, and some that come again.
    fn size(random: &mut Rng, log2: u64) -> u64 {
        let most = 1 << random.u64(..log2 + 1);
        if random.bool() { most } else { random.u64(..most + 1) }
    }

    /// Requests, resizes up to 2 to this power, frees and steps.
    fn random_trace(random: &mut Rng, events: u64, resized: u64) -> Trace {
        let mut lines = format!("{HEADER}\n");
        let (mut live, mut next, mut step): (Vec<u64>, _, _) = (Vec::new(), 0, 0);
        for _ in 0..events {
            let at = random.u64(..live.len().max(1) as u64) as usize;
            lines += &match random.u64(..20) {
                0 => {
                    step += 1;
                    format!("m,{step},0,0,0,0\n")
                }
                1 | 2 if !live.is_empty() => format!("r,{},{},0,0,0\n", live[at], size(random, resized)),
                3..11 if !live.is_empty() => format!("f,{},0,0,0,0\n", live.swap_remove(at)),
                kind => {
                    next += 1;
                    live.push(next);
                    // What is resized stays of the sizes that have classes.
                    let (op, log2) = (if kind % 2 == 0 { 'a' } else { 'z' }, if resized > 16 { 22 } else { resized });
                    format!("{op},{next},{},{},0,0\n", size(random, log2), 1 << random.u64(..13))
                }
            };
        }
        Trace::parse(lines.as_bytes()).unwrap()
    }

    #[test]
    fn simulations_of_random_traces_say_what_replays_find() {
        stop_time();
        for seed in 1..30 {
            let random = &mut Rng::with_seed(seed * 0x9e37_79b9);
            let trace = random_trace(random, 3000, 16);
            for config in configs() {
                let [found, told] = both(&trace, config);
                assert_eq!(told, found, "seed {seed}: {config:?}");
            }
        }
    }

    /// Whether the heap makes a large block fit depends on what lies behind it, which a simulation does not know.
    #[test]
    fn where_large_buffers_are_resized_simulations_are_nearly_right() {
        stop_time();
        for seed in 1..30 {
            let random = &mut Rng::with_seed(seed * 0x9e37_79b9);
            let trace = random_trace(random, 3000, 22);
            for config in configs() {
                let [found, told] = both(&trace, config);
                let is_near = |found: u64, told: u64| found.abs_diff(told) <= 10 + found / 50;
                let are_near = is_near(found.0, told.0) && is_near(found.1, told.1) && is_near(found.2, told.2);
                assert!(are_near, "seed {seed}: {config:?}: {told:?}, not {found:?}");
            }
        }
    }
}
