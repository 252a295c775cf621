//! The judge of every plan. It knows nothing of how plans are made, and shares no code with it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::problem::Problem;

/// What is wrong with a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// There are more or fewer offsets than buffers.
    Count,
    /// A buffer's end is beyond what numbers hold.
    Overflow(usize),
    /// A buffer does not stand where it has to.
    Fixed(usize),
    /// A buffer's offset is no multiple of its alignment.
    Alignment(usize),
    /// A buffer that is ever in use ends beyond the capacity of its space.
    Capacity(usize),
    /// Two buffers of one group have different offsets.
    Alias(usize, usize),
    /// Two buffers of one space overlap while both are in use.
    Overlap(usize, usize),
}

/// A buffer that is in use. In their order, those of a group follow each other, the highest last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct InUse {
    space: u32,
    offset: u64,
    /// The first buffer of its group, or itself.
    group: usize,
    end: u64,
    index: usize,
}

/// Whether a placement is one: every buffer at its place, within its space, and apart from the others. `offsets` has one for each buffer.
///
/// It takes time n·log n for n uses of buffers, as it goes through the instants in order and keeps what is in use by offset.
///
/// # Errors
/// The first [`Violation`] found.
pub fn validate(problem: &Problem, offsets: &[u64]) -> Result<(), Violation> {
    if offsets.len() != problem.buffers().len() {
        return Err(Violation::Count);
    }
    check(problem, offsets.iter().copied().enumerate())
}

/// The same of some buffers and their offsets, as though there were no others.
pub(super) fn check(problem: &Problem, placed: impl Iterator<Item = (usize, u64)>) -> Result<(), Violation> {
    let mut groups = HashMap::new();
    let mut instants = Vec::new();
    for (index, offset) in placed {
        let spec = &problem.buffers()[index];
        let end = offset.checked_add(spec.size).ok_or(Violation::Overflow(index))?;
        if spec.offset.is_some_and(|fixed| fixed != offset) {
            return Err(Violation::Fixed(index));
        }
        if offset % spec.alignment != 0 {
            return Err(Violation::Alignment(index));
        }
        let own = (index, offset);
        let (group, shared) = spec.alias.map_or(own, |alias| *groups.entry(alias).or_insert(own));
        if shared != offset {
            return Err(Violation::Alias(group, index));
        }
        let place = InUse { space: spec.space, offset, group, end, index };
        let mut begin = spec.lifetime.start;
        for (start, next) in spec.gaps.iter().map(|gap| (gap.start, gap.end)).chain([(spec.lifetime.end, 0)]) {
            if begin < start && spec.size > 0 {
                // At an instant, what ends makes room before anything begins.
                instants.push((begin, true, place));
                instants.push((start, false, place));
                if problem.capacity(spec.space).is_some_and(|capacity| end > capacity) {
                    return Err(Violation::Capacity(index));
                }
            }
            begin = next;
        }
    }
    instants.sort_unstable();
    let mut in_use = BTreeSet::<InUse>::new();
    for (_, begins, place) in instants {
        if !begins {
            in_use.remove(&place);
            continue;
        }
        // Of different groups, those in use are disjoint so far: if any is in the way, the highest of the next one below is, or one of
        // the next above.
        let (low, high) = (InUse { end: 0, ..place }, InUse { end: u64::MAX, index: usize::MAX, ..place });
        let below = in_use.range(..low).next_back().filter(|below| below.end > place.offset);
        let above = in_use.range(high..).next().filter(|above| above.offset < place.end);
        if let Some(other) = below.into_iter().chain(above).find(|other| other.space == place.space) {
            return Err(Violation::Overlap(other.index, place.index));
        }
        in_use.insert(place);
    }
    Ok(())
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("as many offsets as buffers are needed"),
            Self::Overflow(index) => write!(f, "buffer {index} ends beyond 64 bits"),
            Self::Fixed(index) => write!(f, "buffer {index} is not at its fixed offset"),
            Self::Alignment(index) => write!(f, "buffer {index} is not aligned"),
            Self::Capacity(index) => write!(f, "buffer {index} ends beyond the capacity of its space"),
            Self::Alias(a, b) => write!(f, "buffers {a} and {b} share no offset, but a group"),
            Self::Overlap(a, b) => write!(f, "buffers {a} and {b} overlap"),
        }
    }
}

impl std::error::Error for Violation {}
