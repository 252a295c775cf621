//! A placing pass: the skyline.
//!
//! The skyline is how high each section is filled, a list of flat **segments**. A pass works in a segment that is lower than both its
//! neighbours, a **valley**: of the items that live within the valley and nowhere else it puts down the one most wanted or, where
//! there is none, raises the valley to its lower neighbour. What is lost that way no item left could have used.
//!
//! In which order valleys are taken changes nothing, since an item lives within one valley at most. So the pass goes downhill to the
//! next one, which keeps it in one place for long, and needs no queue.
//!
//! Beside it, the pass knows for each section the **prospect**: what it is filled with and what is still to come, the live bytes and
//! the lost ones. Once a prospect is above the limit, the pass ends, and tells where that was.
//!
//! The section with the greatest prospect makes the height, so what is lost anywhere else is lost for nothing. A pass may spend that: beside a
//! wall whose sections can afford less than its own, a valley **yields**. It takes nothing that rises above the wall and, where there
//! is nothing else, is raised to it. The wall's sections are in a wider valley then, and find more that fits.

mod prospects;
mod wanted;

use std::ops::Range;

use self::prospects::Prospects;
use self::wanted::Wanted;
use crate::bound::{live, maxima};
use crate::core::{Core, align_up};
use crate::tuning::{ITEMS_TO_COME, PLACED_BETWEEN_ASKING};

/// No segment.
const NONE: u32 = u32::MAX;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All items are placed, and this is the height.
    Placed(u64),
    /// Whatever came next, this section would get higher than the limit.
    Stuck(u32),
    /// `go_on` said no.
    Stopped,
}

/// A piece of the skyline, known by its first section.
#[derive(Clone, Copy, Debug)]
struct Segment {
    height: u64,
    /// The section behind its last, where the next segment starts.
    end: u32,
    /// Where the segment before it starts.
    before: u32,
}

/// Passes over one set of items. Takes O(n) memory, once.
#[derive(Debug)]
pub(crate) struct Skyline<'a> {
    core: &'a Core,
    /// How high each section is filled, and what it will have in all, before the first item comes.
    floor: Vec<u64>,
    prospect: Vec<u64>,
    segments: Vec<Segment>,
    wanted: Wanted,
    prospects: Prospects,
    /// Section times bytes of what the last pass placed.
    placed: u128,
    /// A valley yields the more readily the less is still to come: all that it can afford once this is, before that in proportion.
    soon: u64,
}

impl<'a> Skyline<'a> {
    /// Every section is filled up to its `floor`, or to the highest item with a fixed offset; these are not placed by a pass.
    pub(crate) fn new(core: &'a Core, mut floor: Vec<u64>) -> Self {
        let fixed = (0..core.items().len()).filter_map(|item| Some((item, core.items()[item].fixed?)));
        let reach = fixed.flat_map(|(item, offset)| {
            core.pieces(item).iter().map(move |piece| (piece.start..piece.end, offset.saturating_add(piece.size)))
        });
        let reach = maxima(core.sections(), reach);
        floor.iter_mut().zip(reach).for_each(|(height, reach)| *height = reach.max(*height));
        let mut prospect = live(core, |item| core.items()[item].fixed.is_none());
        prospect.iter_mut().zip(&floor).for_each(|(bytes, floor)| *bytes = bytes.saturating_add(*floor));
        let segments = vec![Segment { height: 0, end: 0, before: NONE }; floor.len()];
        let prospects = Prospects::new(floor.len());
        let wanted = Wanted::new(core);
        let count = core.items().len();
        let sum: u128 = (0..count).map(|item| u128::from(core.tallest(item))).sum();
        let mean = sum / count.max(1) as u128;
        let soon = u64::try_from(mean).unwrap_or(u64::MAX).saturating_mul(ITEMS_TO_COME);
        Self { core, floor, prospect, segments, wanted, prospects, placed: 0, soon }
    }

    /// The greatest prospect of the sections that an item lives in, as it is before the first item comes. After a pass, `rewind`
    /// comes first.
    pub(crate) fn tightness(&self, item: usize) -> u64 {
        let span = self.core.span(item);
        self.prospects.most_of(span.start, span.end)
    }

    /// The greatest of them all.
    pub(crate) fn tightest(&self) -> u64 {
        self.prospects.most()
    }

    /// Forgets the last pass.
    pub(crate) fn rewind(&mut self) {
        self.prospects.fill(&self.prospect);
    }

    /// Section times bytes of what the last pass placed.
    pub(crate) fn placed(&self) -> u128 {
        self.placed
    }

    /// Was the item left over by the last pass?
    pub(crate) fn is_left(&self, item: usize) -> bool {
        self.wanted.has(item)
    }

    /// Places the items of `order` at `offsets`, those that come first there first as far as the skyline lets them. A pass that
    /// **aims** prefers an item that fills a valley from wall to wall; then one that lives in the valley's section with the greatest
    /// prospect, which can least afford a loss. Its valleys yield.
    pub(crate) fn pass(
        &mut self,
        order: &[u32],
        aims: bool,
        limit: u64,
        offsets: &mut [u64],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Outcome {
        // Nobody asks for the prospects of a pass that neither aims nor has a limit.
        let watches = aims || limit < u64::MAX;
        self.wanted.fill(order);
        self.rewind();
        self.placed = 0;
        let mut top = self.lay();
        let mut left = order.len();
        let mut at = 0;
        while left > 0 {
            let Segment { height, end, before } = self.segments[at as usize];
            let next = self.segments.get(end as usize).copied();
            if let Some(next) = next {
                if next.height < height {
                    at = end;
                    continue;
                }
                if next.height == height {
                    self.join(at, next.end);
                    continue;
                }
            }
            let back = self.segments.get(before as usize).copied();
            if let Some(back) = back {
                if back.height == height {
                    self.join(before, end);
                }
                if back.height <= height {
                    at = before;
                    continue;
                }
            }
            let wall = match (back, next) {
                (Some(back), Some(next)) if back.height < next.height => Some((back.height, before, at)),
                (_, Some(next)) => Some((next.height, end, next.end)),
                (Some(back), None) => Some((back.height, before, at)),
                (None, None) => None,
            };
            let most = match wall {
                Some((wall, from, to)) if aims && self.yields(at..end, height, from..to, wall) => wall - height,
                _ => u64::MAX,
            };
            if let Some(rank) = self.choose(at, end, aims, most) {
                let item = order[rank as usize] as usize;
                let Some(reach) = self.put(item, at, watches, offsets) else { return Outcome::Stuck(at) };
                top = top.max(reach);
                left -= 1;
                if left.is_multiple_of(PLACED_BETWEEN_ASKING) && !go_on() {
                    return Outcome::Stopped;
                }
            } else {
                // If all is level and nothing fits, there is nothing.
                let Some((wall, ..)) = wall else { break };
                self.segments[at as usize].height = wall;
                if watches {
                    self.prospects.add(at, end, wall - height);
                }
            }
            if self.prospects.most() > limit {
                return Outcome::Stuck(self.prospects.section(0, self.floor.len() as u32));
            }
        }
        Outcome::Placed(top)
    }

    /// Whether a valley with its ground at `height` can rather afford a loss up to the `wall` than the sections of that one can.
    fn yields(&self, valley: Range<u32>, height: u64, beside: Range<u32>, wall: u64) -> bool {
        let tight = self.prospects.most_of(beside.start, beside.end);
        let Some(spare) = tight.checked_sub(self.prospects.most_of(valley.start, valley.end)) else { return false };
        let loss = wall - height;
        loss < spare && u128::from(loss) * u128::from(tight - height) < u128::from(spare) * u128::from(self.soon)
    }

    /// Takes out an item that lives within the valley between these sections, and is no larger than `most`.
    fn choose(&mut self, start: u32, end: u32, aims: bool, most: u64) -> Option<u32> {
        if aims {
            let fills = self.wanted.take((start, start), (end, end), most);
            if fills.is_some() {
                return fills;
            }
            let tight = self.prospects.section(start, end);
            let helps = self.wanted.take((start, tight), (tight + 1, end), most);
            if helps.is_some() {
                return helps;
            }
        }
        self.wanted.take((start, end), (start, end), most)
    }

    /// Makes the skyline that of the floor, and returns how high that is.
    fn lay(&mut self) -> u64 {
        let (mut at, mut before, mut top) = (0, NONE, 0);
        for level in self.floor.chunk_by(|a, b| a == b) {
            let end = at + level.len() as u32;
            self.segments[at as usize] = Segment { height: level[0], end, before };
            top = top.max(level[0]);
            (before, at) = (at, end);
        }
        top
    }

    /// Makes one segment of those from `start` to `end`, at the height of the first.
    fn join(&mut self, start: u32, end: u32) {
        self.segments[start as usize].end = end;
        if let Some(next) = self.segments.get_mut(end as usize) {
            next.before = start;
        }
    }

    /// Puts an item on the ground of the valley at `at`, and returns how high it reaches; `None` beyond what 64 bits hold.
    fn put(&mut self, item: usize, at: u32, watches: bool, offsets: &mut [u64]) -> Option<u64> {
        let valley = self.segments[at as usize];
        let offset = align_up(valley.height, self.core.items()[item].align)?;
        offsets[item] = offset;
        let (mut start, mut before, mut top) = (at, valley.before, 0);
        for piece in self.core.pieces(item) {
            let height = offset.checked_add(piece.size)?;
            top = top.max(height);
            if piece.start > start {
                self.segments[start as usize] = Segment { height: valley.height, end: piece.start, before };
                before = start;
            }
            self.segments[piece.start as usize] = Segment { height, end: piece.end, before };
            (before, start) = (piece.start, piece.end);
            if watches && offset > valley.height {
                self.prospects.add(piece.start, piece.end, offset - valley.height);
            }
            self.placed += u128::from(piece.size) * u128::from(piece.end - piece.start);
        }
        if start < valley.end {
            self.segments[start as usize] = Segment { before, ..valley };
            before = start;
        }
        if let Some(next) = self.segments.get_mut(valley.end as usize) {
            next.before = before;
        }
        Some(top)
    }
}
