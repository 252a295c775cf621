//! What a pool of another configuration would have done: the pool itself, without the program, over memory that nobody writes.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;

use serde::Serialize;
use tenzor_memory::{AllocError, Backing, BufferPool, Bytes, DefaultBacking, PoolConfig, Refused, System};
use tenzor_trace::{Event, Trace};

use crate::contract::Figures;

/// What a `TensorAllocator` does on a trace, in one thread. Shown as a few lines.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Simulation {
    /// The most bytes that the program has in use at an instant, as they were requested.
    pub peak_live_bytes: u64,
    /// The most bytes that the pool holds from below at an instant.
    pub peak_reserved_bytes: u64,
    /// How many steps there are.
    pub steps: u64,
    /// The steps' requests that the pool serves; a resize is one where the buffer moves.
    pub hits: u64,
    /// The steps' requests that go below.
    pub misses: u64,
    /// The misses of the step with the most of them, but for the first; none if that is the only one.
    pub misses_per_step: Option<u64>,
    /// Buffers that go back below in the whole trace, as they are evicted, or not to be kept.
    pub evictions: u64,
}

/// A request of a trace was refused, by the configuration's limit or for want of memory.
#[derive(Debug)]
pub struct SimulationError {
    event: usize,
    source: AllocError,
}

/// Has a pool of this configuration serve a trace, and counts.
///
/// It is the pool's own code, so what is counted is what a program of one thread would see that does the same over a `TensorAllocator` by default. Of a buffer that is
/// resized without a size class, above 64 KiB, the heap below is taken to make it fit, as it does where there is room. What time does to an adaptive pool is left out.
///
/// Memory is reserved for what the pool holds, and hardly any of it written: contents are copied where buffers move as they are resized, and no others; with `zero_on_free`, all
/// that is freed is. Time is linear in the number of events, beside that.
///
/// ```
/// use tenzor_memory::PoolConfig;
/// use tenzor_report::simulate;
/// use tenzor_trace::Trace;
///
/// let step = "a,1,1000000,64,0,0\na,2,1000,64,0,0\nf,1,0,0,0,0\nf,2,0,0,0,0\n";
/// let csv = format!("op,id,size,align,thread,seq\nm,1,0,0,0,0\n{step}m,2,0,0,0,0\n{step}");
/// let trace = Trace::parse(csv.as_bytes())?;
/// let kept = simulate(&trace, PoolConfig::default())?;
/// assert_eq!((kept.hits, kept.misses, kept.misses_per_step), (2, 2, Some(0)));
/// let none = simulate(&trace, PoolConfig::default().with_max_pool_size(0))?;
/// assert_eq!((none.hits, none.misses, none.misses_per_step, none.evictions), (0, 4, Some(2), 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first request that is refused.
pub fn simulate(trace: &Trace, config: PoolConfig) -> Result<Simulation, SimulationError> {
    let mut program = Program::new(trace, config);
    program.play(trace.setup())?;
    let mut told = Simulation {
        peak_live_bytes: trace.peak_live_bytes(),
        peak_reserved_bytes: 0,
        steps: trace.steps().len() as u64,
        hits: 0,
        misses: 0,
        misses_per_step: None,
        evictions: 0,
    };
    for (number, step) in trace.steps().enumerate() {
        let before = program.pool.stats();
        program.play(step)?;
        let after = program.pool.stats();
        let misses = after.pool_misses - before.pool_misses;
        told.hits += after.pool_hits - before.pool_hits;
        told.misses += misses;
        if number > 0 {
            told.misses_per_step = told.misses_per_step.max(Some(misses));
        }
    }
    program.play(trace.tail())?;
    let stats = program.pool.stats();
    (told.peak_reserved_bytes, told.evictions) = (stats.peak_reserved_bytes as u64, stats.released);
    Ok(told)
}

impl Simulation {
    /// As figures, which may be held to a [`Contract`](crate::Contract).
    pub fn figures(&self) -> Figures {
        let requests = self.hits + self.misses;
        Figures {
            peak_live_bytes: self.peak_live_bytes,
            peak_reserved_bytes: Some(self.peak_reserved_bytes),
            misses_per_step: self.misses_per_step,
            hit_rate: (requests > 0).then(|| self.hits as f64 / requests as f64),
            steps: self.steps,
            hits: self.hits,
            misses: self.misses,
            tells_misses: true,
            ..Figures::default()
        }
    }
}

impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |bytes: u64| Bytes(usize::try_from(bytes).unwrap_or(usize::MAX));
        writeln!(f, "  peak live      {}", bytes(self.peak_live_bytes))?;
        writeln!(f, "  peak reserved  {}", bytes(self.peak_reserved_bytes))?;
        writeln!(f, "  requests       {} hits, {} misses in {} steps", self.hits, self.misses, self.steps)?;
        if let Some(misses) = self.misses_per_step {
            writeln!(f, "  misses a step  at most {misses} after the first")?;
        }
        writeln!(f, "  evictions      {}", self.evictions)
    }
}

impl fmt::Display for SimulationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at event {}, marks not counted: {}", self.event, self.source)
    }
}

impl std::error::Error for SimulationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The buffers of the program that made the trace, by slot. One in a slot is the pool's, of the layout noted with it, and was not put back.
struct Program {
    slots: Vec<Option<(NonNull<u8>, Layout)>>,
    events: usize,
    pool: BufferPool<Below>,
}

impl Program {
    fn new(trace: &Trace, config: PoolConfig) -> Self {
        let pool = BufferPool::with_config_in(config, Below { is_pool: DefaultBacking::default().is_pool() });
        Self { slots: vec![None; trace.slots()], events: 0, pool }
    }

    fn play(&mut self, events: &[Event]) -> Result<(), SimulationError> {
        for event in events {
            self.events += 1;
            self.happen(event).map_err(|source| SimulationError { event: self.events, source })?;
        }
        Ok(())
    }

    fn happen(&mut self, event: &Event) -> Result<(), AllocError> {
        match *event {
            // Whether it is zeroed makes no difference to what is counted, and is not written.
            Event::Allocate { slot, layout, .. } => {
                self.slots[slot as usize] = Some((self.pool.get(layout)?, layout));
            }
            Event::Resize { slot, layout } => {
                if let Some((block, old)) = &mut self.slots[slot as usize] {
                    // SAFETY: what is in a slot; its new address and layout are noted at once, and on an error it stays as it is.
                    *block = unsafe { self.pool.resize(*block, *old, layout, false) }?;
                    *old = layout;
                }
            }
            Event::Free { slot } => {
                if let Some((block, layout)) = self.slots[slot as usize].take() {
                    // SAFETY: what was in a slot, and is no more.
                    unsafe { self.pool.put(block, layout) };
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        for (block, layout) in self.slots.iter_mut().filter_map(Option::take) {
            // SAFETY: as above.
            unsafe { self.pool.put(block, layout) };
        }
    }
}

/// Malloc, in the place of what a pool stands on by default: it says of itself what that would, and names no grounds, so that nothing but the pool's own requests changes the pool.
#[derive(Debug)]
struct Below {
    is_pool: bool,
}

// SAFETY: what is granted is malloc's, and what is given back was malloc's.
unsafe impl Backing for Below {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        System.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { System.give_back(block, layout) };
    }

    unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
        if !self.is_pool {
            return None;
        }
        let granted = if zeroed { System.obtain_zeroed(new) } else { System.obtain(new) };
        let moved = granted.ok()?;
        // SAFETY: both have so many bytes, and are distinct; the old one is the caller's to give up, with its layout.
        unsafe {
            block.copy_to_nonoverlapping(moved, old.size().min(new.size()));
            System.give_back(block, old);
        }
        Some(moved)
    }

    fn is_pool(&self) -> bool {
        self.is_pool
    }
}
