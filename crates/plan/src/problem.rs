//! What is to be placed: buffers with their lifetimes, in spaces.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use super::core::lcm;

/// A buffer to be placed. Sizes, offsets and alignments are in bytes, or whatever else the problem counts in; times in anything that only
/// grows, such as the number of an operation.
///
/// ```
/// use tenzor_plan::BufferSpec;
///
/// // Alive while operations 2, 3 and 4 run, and not looked at during operation 3.
/// let spec = BufferSpec::new(4096, 2..5).with_alignment(64).with_gap(3..4);
/// assert_eq!(spec.size, 4096);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferSpec {
    /// The size.
    pub size: u64,
    /// When it is alive, the end excluded.
    pub lifetime: Range<u64>,
    /// What its offset has to be a multiple of; any number from 1 on.
    pub alignment: u64,
    /// Where it has to be, if that is settled.
    pub offset: Option<u64>,
    /// Windows within the lifetime in which its contents do not matter, in order and disjoint: others may use its place then.
    pub gaps: Vec<Range<u64>>,
    /// The group of buffers that share an offset, as the input and the output of an operation in place. They may be alive together.
    pub alias: Option<u32>,
    /// The space in which it has to be.
    pub space: u32,
}

impl BufferSpec {
    /// A buffer of alignment 1 in space 0.
    pub fn new(size: u64, lifetime: Range<u64>) -> Self {
        Self { size, lifetime, alignment: 1, offset: None, gaps: Vec::new(), alias: None, space: 0 }
    }

    /// With an alignment.
    pub fn with_alignment(self, alignment: u64) -> Self {
        Self { alignment, ..self }
    }

    /// With a place.
    pub fn with_offset(self, offset: u64) -> Self {
        Self { offset: Some(offset), ..self }
    }

    /// With one window more in which it is idle.
    pub fn with_gap(mut self, gap: Range<u64>) -> Self {
        self.gaps.push(gap);
        self
    }

    /// In a group of buffers that share their offset.
    pub fn with_alias(self, group: u32) -> Self {
        Self { alias: Some(group), ..self }
    }

    /// In another space.
    pub fn with_space(self, space: u32) -> Self {
        Self { space, ..self }
    }

    /// When it is in use: the lifetime without the gaps, in order.
    pub(super) fn uses(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let begins = std::iter::once(self.lifetime.start).chain(self.gaps.iter().map(|gap| gap.end));
        let ends = self.gaps.iter().map(|gap| gap.start).chain([self.lifetime.end]);
        begins.zip(ends).map(|(start, end)| start..end).filter(|range| range.start < range.end)
    }
}

/// Buffers to be placed, each in its space, so that no two that are in use at the same time overlap.
///
/// ```
/// use tenzor_plan::{BufferSpec, Planner, Problem};
///
/// let mut problem = Problem::new();
/// let first = problem.push(BufferSpec::new(100, 0..2))?;
/// let second = problem.push(BufferSpec::new(50, 1..3))?;
/// let third = problem.push(BufferSpec::new(100, 2..4))?;
/// let plan = Planner::new().plan(&problem);
/// assert_eq!(plan.height(), 150);
/// assert_eq!(plan.offsets()[first], plan.offsets()[third]);
/// # Ok::<(), tenzor_plan::ProblemError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Problem {
    buffers: Vec<BufferSpec>,
    /// The number of their uses, at the most.
    uses: usize,
    spaces: Vec<SpaceInfo>,
    groups: HashMap<u32, Group>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SpaceInfo {
    capacity: Option<u64>,
    /// What all sizes add up to, each with what its alignment may cost, and where the highest fixed buffer ends. No placement that is
    /// worth anything is higher than both together.
    sum: u64,
    fixed: u64,
}

/// What the members of a group agree upon.
#[derive(Clone, Copy, Debug)]
struct Group {
    space: u32,
    alignment: u64,
    offset: Option<u64>,
}

/// The most that the sizes in a space may add up to, with what alignments may cost, and the end of the highest fixed buffer: nothing that is
/// computed from them overflows.
pub const MAX_REACH: u64 = 1 << 62;

/// The most spaces.
pub const MAX_SPACES: u32 = 1 << 10;

/// The most uses of buffers: one of each, and one more for each of its gaps.
pub const MAX_BUFFERS: usize = 1 << 28;

impl Problem {
    /// One without buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a buffer, and returns its index.
    ///
    /// # Errors
    /// [`ProblemError`] for a buffer that cannot be, by itself or beside the others.
    pub fn push(&mut self, spec: BufferSpec) -> Result<usize, ProblemError> {
        let BufferSpec { size, alignment, offset, space, .. } = spec;
        let uses = self.uses + spec.gaps.len() + 1;
        if uses > MAX_BUFFERS {
            return Err(ProblemError::TooMany);
        }
        if spec.lifetime.start > spec.lifetime.end {
            return Err(ProblemError::Lifetime(spec.lifetime));
        }
        let mut time = spec.lifetime.start;
        for gap in &spec.gaps {
            if gap.start < time || gap.end < gap.start || gap.end > spec.lifetime.end {
                return Err(ProblemError::Gap { gap: gap.clone(), lifetime: spec.lifetime });
            }
            time = gap.end;
        }
        if alignment == 0 || offset.is_some_and(|offset| offset % alignment != 0) {
            return Err(ProblemError::Alignment { alignment, offset });
        }
        if space >= MAX_SPACES {
            return Err(ProblemError::Space(space));
        }
        let group = spec.alias.map(|alias| self.join(alias, &spec)).transpose()?;
        let mut info = self.spaces.get(space as usize).copied().unwrap_or_default();
        let alignment = group.map_or(alignment, |group| group.alignment);
        let sum = info.sum.checked_add(size).and_then(|sum| sum.checked_add(alignment - 1));
        info.sum = sum.ok_or(ProblemError::TooLarge)?;
        if let Some(offset) = group.map_or(offset, |group| group.offset) {
            info.fixed = info.fixed.max(offset.checked_add(size).ok_or(ProblemError::TooLarge)?);
        }
        if info.sum.checked_add(info.fixed).is_none_or(|reach| reach > MAX_REACH) {
            return Err(ProblemError::TooLarge);
        }
        // Everything holds: nothing was changed before.
        self.spaces.resize(self.spaces.len().max(space as usize + 1), SpaceInfo::default());
        self.spaces[space as usize] = info;
        if let (Some(alias), Some(group)) = (spec.alias, group) {
            self.groups.insert(alias, group);
        }
        self.uses = uses;
        self.buffers.push(spec);
        Ok(self.buffers.len() - 1)
    }

    /// What a group becomes with one more member.
    fn join(&self, alias: u32, spec: &BufferSpec) -> Result<Group, ProblemError> {
        let alone = Group { space: spec.space, alignment: spec.alignment, offset: spec.offset };
        let group = *self.groups.get(&alias).unwrap_or(&alone);
        let disagree = ProblemError::Alias(alias);
        if group.space != spec.space || spec.offset.is_some_and(|own| group.offset.is_some_and(|other| own != other)) {
            return Err(disagree);
        }
        let offset = group.offset.or(spec.offset);
        let alignment = lcm(group.alignment, spec.alignment).filter(|&alignment| alignment <= MAX_REACH);
        let alignment = alignment.ok_or(ProblemError::TooLarge)?;
        if offset.is_some_and(|offset| offset % alignment != 0) {
            return Err(disagree);
        }
        Ok(Group { alignment, offset, ..group })
    }

    /// Sets what a space holds, or that nothing limits it, as at first.
    ///
    /// # Errors
    /// [`ProblemError::Space`] for a number beyond [`MAX_SPACES`].
    pub fn set_capacity(&mut self, space: u32, capacity: Option<u64>) -> Result<(), ProblemError> {
        if space >= MAX_SPACES {
            return Err(ProblemError::Space(space));
        }
        self.spaces.resize(self.spaces.len().max(space as usize + 1), SpaceInfo::default());
        self.spaces[space as usize].capacity = capacity;
        Ok(())
    }

    /// All buffers, in the order in which they were added.
    pub fn buffers(&self) -> &[BufferSpec] {
        &self.buffers
    }

    /// The number of spaces: one more than the greatest that was named.
    pub fn spaces(&self) -> u32 {
        self.spaces.len() as u32
    }

    /// What a space holds.
    pub fn capacity(&self, space: u32) -> Option<u64> {
        self.spaces.get(space as usize)?.capacity
    }

    /// What the offset of a buffer has to be a multiple of, and where it has to be if that is given: for a whole group, what any member says.
    pub(super) fn demands(&self, spec: &BufferSpec) -> (u64, Option<u64>) {
        match spec.alias.and_then(|alias| self.groups.get(&alias)) {
            Some(group) => (group.alignment, group.offset),
            None => (spec.alignment, spec.offset),
        }
    }

    /// Those of some buffers whose offsets are given, be it that of another one of their group, and these offsets.
    pub(super) fn fixed(&self, own: &[u32]) -> impl Iterator<Item = (usize, u64)> {
        own.iter().filter_map(|&index| Some((index as usize, self.demands(&self.buffers[index as usize]).1?)))
    }

    /// The indices of the buffers of each space.
    pub(super) fn by_space(&self) -> Vec<Vec<u32>> {
        let mut spaces = vec![Vec::new(); self.spaces.len()];
        for (index, spec) in (0..).zip(&self.buffers) {
            spaces[spec.space as usize].push(index);
        }
        spaces
    }
}

/// Why a buffer cannot be part of a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemError {
    /// A lifetime that ends before it starts.
    Lifetime(Range<u64>),
    /// A gap that ends before it starts, leaves the lifetime, or does not follow the one before.
    Gap {
        /// The gap.
        gap: Range<u64>,
        /// The buffer's lifetime.
        lifetime: Range<u64>,
    },
    /// An alignment of 0, or an offset that is no multiple of it.
    Alignment {
        /// The alignment.
        alignment: u64,
        /// The fixed offset.
        offset: Option<u64>,
    },
    /// A group whose members disagree about their space, their offset, or an alignment that the offset has to have.
    Alias(u32),
    /// A space beyond [`MAX_SPACES`].
    Space(u32),
    /// Sizes, alignments and offsets in one space that add up to more than [`MAX_REACH`].
    TooLarge,
    /// More than [`MAX_BUFFERS`] buffers and gaps.
    TooMany,
}

impl fmt::Display for ProblemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifetime(Range { start, end }) => {
                write!(f, "a lifetime that ends at {end}, before it starts at {start}")
            }
            Self::Gap { gap, lifetime } => {
                let (Range { start, end }, Range { start: from, end: to }) = (gap, lifetime);
                write!(
                    f,
                    "the gap {start}-{end} does not lie within the lifetime {from}-{to}, behind the gap before it"
                )
            }
            Self::Alignment { alignment: 0, .. } => f.write_str("an alignment of 0"),
            Self::Alignment { alignment, offset } => {
                write!(f, "the offset {} is no multiple of the alignment {alignment}", offset.unwrap_or(0))
            }
            Self::Alias(group) => {
                write!(f, "the buffers of group {group} do not agree about space, offset and alignment")
            }
            Self::Space(space) => write!(f, "space {space}: there are at most {MAX_SPACES}"),
            Self::TooLarge => write!(f, "sizes, alignments and offsets add up to more than {MAX_REACH}"),
            Self::TooMany => write!(f, "more than {MAX_BUFFERS} buffers and gaps"),
        }
    }
}

impl std::error::Error for ProblemError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_limited_all_together() {
        let mut problem = Problem { uses: MAX_BUFFERS - 3, ..Problem::new() };
        let spec = |gaps| (0..gaps).fold(BufferSpec::new(1, 0..9), |spec, time| spec.with_gap(time..time));
        assert_eq!(problem.push(spec(3)), Err(ProblemError::TooMany));
        assert_eq!((problem.push(spec(1)), problem.push(spec(0))), (Ok(0), Ok(1)));
        assert_eq!(problem.push(spec(0)), Err(ProblemError::TooMany));
    }
}
