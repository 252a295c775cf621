//! The judge of every plan. It knows nothing of how plans are made, and shares no code with it.

use std::collections::BTreeMap;
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

/// Whether a placement is one: every buffer at its place, within its space, and apart from the others. `offsets` has one for each buffer.
///
/// It takes time n·log n, as it goes through the instants in order and keeps what is in use by offset.
///
/// # Errors
/// The first [`Violation`] found.
pub fn validate(problem: &Problem, offsets: &[u64]) -> Result<(), Violation> {
    let buffers = problem.buffers();
    if offsets.len() != buffers.len() {
        return Err(Violation::Count);
    }
    let mut groups = BTreeMap::new();
    let mut instants = Vec::new();
    for (index, (spec, &offset)) in buffers.iter().zip(offsets).enumerate() {
        let end = offset.checked_add(spec.size).ok_or(Violation::Overflow(index))?;
        if spec.offset.is_some_and(|fixed| fixed != offset) {
            return Err(Violation::Fixed(index));
        }
        if offset % spec.alignment != 0 {
            return Err(Violation::Alignment(index));
        }
        if let Some(alias) = spec.alias {
            let other = *groups.entry(alias).or_insert(index);
            if offsets[other] != offset {
                return Err(Violation::Alias(other, index));
            }
        }
        let mut begin = spec.lifetime.start;
        for (start, next) in spec.gaps.iter().map(|gap| (gap.start, gap.end)).chain([(spec.lifetime.end, 0)]) {
            if begin < start && spec.size > 0 {
                // At an instant, what ends makes room before anything begins.
                instants.push((begin, true, index));
                instants.push((start, false, index));
                if problem.capacity(spec.space).is_some_and(|capacity| end > capacity) {
                    return Err(Violation::Capacity(index));
                }
            }
            begin = next;
        }
    }
    instants.sort_unstable();
    // What is in use, by space, offset and, within a group, buffer.
    let mut in_use = BTreeMap::new();
    let shares = |a: usize, b: usize| buffers[a].alias.is_some() && buffers[a].alias == buffers[b].alias;
    for (_, begins, index) in instants {
        let key = (buffers[index].space, offsets[index], index);
        if !begins {
            in_use.remove(&key);
            continue;
        }
        let (space, offset, end) = (key.0, key.1, key.1 + buffers[index].size);
        // Those that stand below are disjoint but for groups, so it could reach into any member of the nearest that is not its own.
        let below = in_use.range(..key).rev().map(|(&(space, offset, other), _)| (space, offset, other));
        let mut nearest = None;
        for (other_space, other_offset, other) in below.take_while(|&(other_space, ..)| other_space == space) {
            if shares(index, other) {
                continue;
            }
            if nearest.is_some_and(|nearest| nearest != other_offset) {
                break;
            }
            nearest = Some(other_offset);
            let _ = other_space;
            if other_offset + buffers[other].size > offset {
                return Err(Violation::Overlap(other, index));
            }
        }
        let above = in_use.range(key..).map(|(&(space, offset, other), _)| (space, offset, other));
        for (_, _, other) in above.take_while(|&(other_space, from, _)| other_space == space && from < end) {
            if !shares(index, other) {
                return Err(Violation::Overlap(other, index));
            }
        }
        in_use.insert(key, ());
    }
    Ok(())
}

impl Violation {
    /// The same, of buffers that have other numbers elsewhere.
    pub(super) fn renumbered(self, numbers: &[usize]) -> Self {
        let number = |index: usize| numbers.get(index).copied().unwrap_or(index);
        match self {
            Self::Count => Self::Count,
            Self::Overflow(index) => Self::Overflow(number(index)),
            Self::Fixed(index) => Self::Fixed(number(index)),
            Self::Alignment(index) => Self::Alignment(number(index)),
            Self::Capacity(index) => Self::Capacity(number(index)),
            Self::Alias(a, b) => Self::Alias(number(a), number(b)),
            Self::Overlap(a, b) => Self::Overlap(number(a), number(b)),
        }
    }
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
