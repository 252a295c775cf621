//! The exact solver: offsets below a capacity, or a proof that there are none.
//!
//! The state of the search is a set of items not yet placed, and for each of them a lower bound of its offset. What it asks is
//! whether they have offsets that are no less than those bounds, clash nowhere and leave every piece below the capacity. In what
//! follows, neighbours are items that have pieces in a common section, and for neighbours `x` and `y`, `d(x, y)` is the greatest
//! size that `x` has in their common sections: `y` stands above `x` if and only if `offset(y) >= offset(x) + d(x, y)`. As sizes are
//! at least 1, of two neighbours one stands above the other, whatever their pieces.
//!
//! **Rest.** If there is a solution, then take the one with the least sum of offsets. A free item `x` in it that lies above its bound
//! cannot come down by its alignment, hence there is a neighbour `y` below with `offset(x) = align_up(offset(y) + d(y, x))`. Items
//! that were placed earlier are no such `y`, as the bound of `x` is above all of them. So `offset(x) >= rest(x)`, the least
//! `align_up(bound(y) + d(y, x))` over the neighbours not yet placed.
//!
//! **Branches.** Let `x` be an item for which `bound(x) < bound(y) + d(y, x)` for all neighbours `y`: none can go below `x` when it
//! lies at its bound. The lowest item is always such a one. Either `x` lies at its bound; then it is placed, and the bounds of its
//! neighbours rise to above it. Or it does not; then its bound rises to `rest(x)`, which is higher, or, for a fixed item, there is
//! no solution. Nothing else needs to be remembered: no order among the items placed, and nothing about the space below them.
//!
//! **Shortcuts.** If placing `x` raises no bound, then the second branch is not needed: in any solution `x` can be moved to its bound.
//! If the second branch fails by the next rule at once, then it need not be remembered either, and such items are chosen first. If
//! `x` cannot lie at its bound, then neither can a free item of the same pieces, alignment and bound, since they could be exchanged.
//!
//! **Sections.** In every section, and for every bound `b` there, the sizes of all items with bounds of at least `b` have to fit
//! between `b` and the capacity.
//!
//! **Parts.** When the items not yet placed fall apart into sets with nothing between them in time, each is solved for itself. If one
//! has no solution, then the search goes back to the move that made them fall apart, without trying others for its sisters.
//!
//! What is found soon depends on which item is chosen: a good order takes hardly more moves than there are items, and a bad one does
//! not come to an end. Hence the search starts over again and again, by turns with two rules, with small random changes, and with more
//! time as it goes on. Items of sections in which it has failed come first the next time.
//!
//! A move looks at all items of its part and their sections. Apart from the items and sections themselves, memory is for the moves
//! made and the bounds they raised, of which there can be one for every two items: where they are too many, the search gives up.

use std::cell::Cell;

use super::clock::Clock;
use super::core::{Core, Item, Piece, align_up};
use super::random::mix;

/// What a search may spend. Without a deadline and a flag, its outcome depends on nothing but the problem and what is given here.
#[derive(Clone, Debug)]
pub(crate) struct Quota<'a> {
    /// Items placed so far, in all branches.
    pub(crate) nodes: u64,
    /// How often it may still look at an item or a section. It notices after the node that is one too many.
    pub(crate) looks: u64,
    pub(crate) clock: Clock<'a>,
    /// Where random choices begin; 0 makes the first ones without any.
    pub(crate) seed: u64,
}

impl Quota<'_> {
    #[cfg(test)]
    pub(crate) fn new(looks: u64) -> Self {
        Self { nodes: 0, looks, clock: Clock::default(), seed: 0 }
    }

    /// Pays for the looks made, and returns whether there may be one more node.
    fn pay(&mut self, looks: u64) -> bool {
        self.looks = if self.clock.has_run_out() { 0 } else { self.looks.saturating_sub(looks) };
        let goes_on = self.looks > 0;
        self.nodes += u64::from(goes_on);
        goes_on
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Offsets, one for each item.
    Placed(Vec<u64>),
    /// There are none.
    Impossible,
    /// The budget did not suffice.
    GaveUp,
}

/// Looks for offsets such that every piece ends at or below `capacity`.
pub(crate) fn fit(core: &Core, capacity: u64, budget: &mut Quota<'_>) -> Verdict {
    let Some(mut search) = Search::new(core, capacity) else { return Verdict::Impossible };
    let mut part = search.split(0, core.items().len(), NONE, NONE);
    let whole = search.parts.clone();
    // No two of these have a section in common: what is learnt about one says nothing about another.
    while part != NONE {
        let Component { first, last, next, .. } = whole[part as usize];
        match search.solve(first as usize, last as usize, budget) {
            Some(true) => part = next,
            Some(false) => return Verdict::Impossible,
            None => return Verdict::GaveUp,
        }
    }
    Verdict::Placed(search.bounds)
}

const NONE: u32 = u32::MAX;

/// How to choose among the items that may be placed. No way is good for all problems, and these two complement one another.
#[derive(Clone, Copy, Debug)]
enum Policy {
    /// The lowest, then the one in the tightest section. Otherwise those first that are long and in crowded places.
    Lowest,
    /// The one that has the least bound plus slack. Otherwise those first that are large.
    Tightest,
}

/// Sorting an item by its bound is as dear as so many looks.
const SORT: u64 = 8;

/// Nodes of the shortest runs.
const RUN: u64 = 600;

/// The most raised bounds that are remembered: 64 MiB of them, or so many for each item.
const RAISED: usize = 1 << 22;
const RAISED_EACH: usize = 1 << 6;

/// The width of the random factors by which ranks differ between runs.
const SPREAD: f64 = 0.1;

/// What a section keeps of its weight from one run to the next.
const MEMORY: f64 = 0.8;

/// What does not change about an item.
#[derive(Clone, Copy, Debug)]
struct Fact {
    start: u32,
    end: u32,
    /// Whether it has but one piece.
    plain: bool,
    /// The same for items that can be exchanged.
    kind: u32,
    align: u64,
    /// The size of its largest piece.
    size: u64,
    /// That of its fullest section, before any move.
    load: u64,
    /// The greatest bound that is not too high.
    limit: u64,
}

/// Items to be solved for themselves: `members[first..last]`.
#[derive(Clone, Copy, Debug)]
struct Component {
    first: u32,
    last: u32,
    /// Their sections.
    start: u32,
    end: u32,
    /// The move to be reconsidered if this has no solution.
    cause: u32,
    /// The part to be solved after this.
    next: u32,
}

/// The placement of an item at its bound.
#[derive(Clone, Copy, Debug)]
struct Move {
    item: u32,
    /// Where it was among the members. It is behind the last of its part now.
    place: u32,
    part: u32,
    /// Where its bound rises in the other branch, if there is one.
    rest: Option<u64>,
    /// The lengths of `trail` and `parts` before.
    trail: usize,
    parts: usize,
}

/// What the items not yet placed are in a section.
#[derive(Clone, Copy, Debug)]
struct Section {
    /// The sum of their sizes.
    load: u64,
    /// The lowest bound, whose it is, and the next.
    lowest: u64,
    owner: u32,
    second: u64,
}

const EMPTY: Section = Section { load: 0, lowest: u64::MAX, owner: NONE, second: u64::MAX };

struct Search<'a> {
    core: &'a Core,
    capacity: u64,
    facts: Vec<Fact>,
    /// The least offset of each item, given the moves made; the offset of those placed.
    bounds: Vec<u64>,
    /// Items in the order of time, apart from those placed: see [`Move::place`].
    members: Vec<u32>,
    parts: Vec<Component>,
    moves: Vec<Move>,
    /// Items whose bounds were raised, and from what.
    trail: Vec<(u32, u64)>,
    /// That was never too long.
    remembers: bool,
    /// Of all parts still to be solved, and not of others.
    sections: Vec<Section>,
    /// How often each section has failed, less what time has healed.
    weights: Vec<f64>,
    policy: Policy,
    /// The order in which items are preferred.
    ranks: Vec<u32>,
    /// The bounds and items of the part surveyed last, sorted.
    order: Vec<(u64, u32)>,
    /// The number of choices made, and when each item was last thought to be the only one.
    choices: u64,
    seen: Vec<u64>,
    /// The looks that were not paid for yet.
    looks: Cell<u64>,
}

impl<'a> Search<'a> {
    /// `None` if a single item or a section has no room.
    fn new(core: &'a Core, capacity: u64) -> Option<Self> {
        let count = core.items().len();
        let mut sections = vec![EMPTY; core.sections() as usize];
        let mut looks = 0;
        for piece in (0..count).flat_map(|item| core.pieces(item)) {
            looks += u64::from(piece.end - piece.start);
            for section in &mut sections[piece.start as usize..piece.end as usize] {
                section.load = section.load.checked_add(piece.size).filter(|&load| load <= capacity)?;
            }
        }
        let mut facts = Vec::with_capacity(count);
        for (number, item) in core.items().iter().enumerate() {
            let (pieces, span) = (core.pieces(number), core.span(number));
            let size = pieces.iter().map(|piece| piece.size).max().unwrap_or(0);
            let highest = capacity.checked_sub(size)?;
            let limit = item.fixed.unwrap_or(highest);
            if limit > highest {
                return None;
            }
            let plain = pieces.len() == 1;
            let crossed = pieces.iter().flat_map(|piece| &sections[piece.start as usize..piece.end as usize]);
            let load = crossed.map(|section| section.load).max().unwrap_or(0);
            facts.push(Fact { start: span.start, end: span.end, plain, kind: 0, align: item.align, size, load, limit });
        }
        let mut members: Vec<u32> = (0..count as u32).collect();
        let shape = |&item: &u32| {
            let key = |piece: &Piece| (piece.start, piece.end, piece.size);
            let Item { align, fixed, .. } = core.items()[item as usize];
            (align, fixed, core.pieces(item as usize).iter().map(key))
        };
        members.sort_by(|a, b| {
            let ((align, fixed, pieces), (other_align, other_fixed, others)) = (shape(a), shape(b));
            (align, fixed).cmp(&(other_align, other_fixed)).then_with(|| pieces.cmp(others))
        });
        for pair in 1..count {
            let (before, item) = (members[pair - 1], members[pair]);
            let ((align, fixed, pieces), (other_align, other_fixed, others)) = (shape(&before), shape(&item));
            let alike = (align, fixed) == (other_align, other_fixed) && pieces.eq(others);
            facts[item as usize].kind = if alike { facts[before as usize].kind } else { pair as u32 };
        }
        members.sort_by_key(|&item| (facts[item as usize].start, item));
        Some(Self {
            bounds: core.items().iter().map(|item| item.fixed.unwrap_or(0)).collect(),
            weights: vec![1.0; sections.len()],
            ranks: vec![0; count],
            parts: Vec::new(),
            moves: Vec::new(),
            trail: Vec::new(),
            remembers: true,
            order: Vec::new(),
            choices: 0,
            seen: vec![0; count],
            looks: Cell::new(looks),
            policy: Policy::Lowest,
            core,
            capacity,
            facts,
            members,
            sections,
        })
    }

    /// Solves a part on its own, with as many runs as it takes. `None` if that is more than the budget.
    fn solve(&mut self, first: usize, last: usize, budget: &mut Quota<'_>) -> Option<bool> {
        for run in 0.. {
            self.policy = if run % 2 == 0 { Policy::Lowest } else { Policy::Tightest };
            let spread = if run < 2 && budget.seed == 0 { 0.0 } else { SPREAD };
            self.rank(first, last, mix(mix(budget.seed) ^ run), spread);
            let found = self.run(first, last, budget, RUN * luby(run / 2 + 1));
            if found.is_none() {
                while self.undo().is_some() {}
                self.restore(0);
            }
            self.moves.clear();
            self.trail.clear();
            self.parts.clear();
            if found.is_some() || !self.remembers || budget.looks == 0 {
                return found;
            }
            for weight in &mut self.weights {
                *weight = 1.0 + (*weight - 1.0) * MEMORY;
            }
        }
        None
    }

    /// Gives ranks to items as the policy says, but for random factors. Sections of weight count for longer than others.
    fn rank(&mut self, first: usize, last: usize, seed: u64, spread: f64) {
        let square = |number: f64| number * number;
        let mut order = Vec::with_capacity(last - first);
        for &item in &self.members[first..last] {
            let Fact { start, end, size, load, .. } = self.facts[item as usize];
            let length: f64 = self.weights[start as usize..end as usize].iter().sum();
            let merit = match self.policy {
                Policy::Lowest => square(square(load as f64)) * length,
                Policy::Tightest => size as f64 * length,
            };
            let random = mix(seed ^ mix(u64::from(item))) as f64 / u64::MAX as f64;
            order.push((merit * (1.0 + spread * random), item));
        }
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (rank, &(_, item)) in order.iter().enumerate() {
            self.ranks[item as usize] = rank as u32;
        }
    }

    /// Searches until it is known whether the members have a solution, which `bounds` are then; or for so many nodes.
    fn run(&mut self, first: usize, last: usize, budget: &mut Quota<'_>, nodes: u64) -> Option<bool> {
        let end = budget.nodes.saturating_add(nodes);
        let mut part = self.split(first, last, NONE, NONE);
        if !self.survey(part) {
            return Some(false);
        }
        while part != NONE {
            self.remembers &= self.trail.len() <= RAISED.max(RAISED_EACH * self.facts.len());
            if budget.nodes >= end || !self.remembers || !budget.pay(self.looks.take()) {
                return None;
            }
            part = match self.advance(part) {
                Some(next) => next,
                None => match self.retreat() {
                    Some(part) => part,
                    None => return Some(false),
                },
            };
        }
        Some(true)
    }

    /// Places an item of a part. Returns the part to go on with, or `None` if that fails.
    fn advance(&mut self, part: u32) -> Option<u32> {
        let Component { first, last, next, cause, .. } = self.parts[part as usize];
        if cause.wrapping_add(1) != self.moves.len() as u32 {
            // A sister was solved since this part was seen last.
            self.survey(part);
        }
        let (item, rest) = self.choose(part);
        let (first, last) = (first as usize, last as usize - 1);
        let place = first + self.members[first..last].iter().position(|&member| member == item).unwrap_or(last - first);
        self.members[place..=last].rotate_left(1);
        let cause = self.moves.len();
        self.moves.push(Move {
            item,
            place: place as u32,
            part,
            rest,
            trail: self.trail.len(),
            parts: self.parts.len(),
        });
        let bound = self.bounds[item as usize];
        self.look((last - first) as u64);
        for place in first..last {
            let other = self.members[place];
            let height = self.height(item, other);
            if height > 0 && self.bounds[other as usize] < bound + height && !self.lift(other, bound + height) {
                return None;
            }
        }
        if self.moves[cause].trail == self.trail.len() {
            self.moves[cause].rest = None;
        }
        self.survey(part).then(|| self.split(first, last, cause as u32, next))
    }

    /// Takes moves back up to one that has another branch which does not fail at once, and takes that. Returns the part it is in,
    /// or `None` if there is no such move.
    fn retreat(&mut self) -> Option<u32> {
        let mut cause = (self.moves.len() as u32).checked_sub(1)?;
        loop {
            while self.moves.len() > cause as usize + 1 {
                self.undo();
            }
            let Move { item, part, rest, .. } = self.undo()?;
            if rest.is_some_and(|rest| self.raise(item, rest, part)) {
                return Some(part);
            }
            cause = self.parts[part as usize].cause;
            if cause == NONE {
                return None;
            }
        }
    }

    fn undo(&mut self) -> Option<Move> {
        let made = self.moves.pop()?;
        self.restore(made.trail);
        self.parts.truncate(made.parts);
        let last = self.parts[made.part as usize].last as usize;
        self.members[made.place as usize..last].rotate_right(1);
        Some(made)
    }

    /// Takes back what happened to the bounds since the trail had this length.
    fn restore(&mut self, length: usize) {
        for (item, bound) in self.trail.drain(length..).rev() {
            self.bounds[item as usize] = bound;
        }
    }

    /// Raises the bound of an item to at least `bound`; false if that is too high.
    fn lift(&mut self, item: u32, bound: u64) -> bool {
        let fact = &self.facts[item as usize];
        match align_up(bound, fact.align) {
            Some(bound) if bound <= fact.limit => {
                self.trail.push((item, self.bounds[item as usize]));
                self.bounds[item as usize] = bound;
                true
            }
            _ => false,
        }
    }

    /// Takes the branch in which an item does not lie at its bound, nor do those of its kind, but at `rest` or above; false if that
    /// fails at once. They share their bound, since they have the same neighbours, and rise together.
    fn raise(&mut self, item: u32, rest: u64, part: u32) -> bool {
        let Component { first, last, .. } = self.parts[part as usize];
        let kind = self.facts[item as usize].kind;
        for place in first as usize..last as usize {
            let other = self.members[place];
            if self.facts[other as usize].kind == kind && !self.lift(other, rest) {
                return false;
            }
        }
        self.survey(part)
    }

    /// The greatest size that `below` has in sections in which there is `above`, too.
    fn height(&self, below: u32, above: u32) -> u64 {
        let (x, y) = (&self.facts[below as usize], &self.facts[above as usize]);
        if x.end <= y.start || y.end <= x.start {
            return 0;
        }
        if x.plain && y.plain { x.size } else { self.height_of_pieces(below as usize, above as usize) }
    }

    fn height_of_pieces(&self, below: usize, above: usize) -> u64 {
        let (mut lower, mut upper) = (self.core.pieces(below), self.core.pieces(above));
        let mut height = 0;
        while let (Some(x), Some(y)) = (lower.first(), upper.first()) {
            if x.start < y.end && y.start < x.end {
                height = height.max(x.size);
            }
            if x.end <= y.end {
                lower = &lower[1..];
            } else {
                upper = &upper[1..];
            }
        }
        height
    }

    fn look(&self, times: u64) {
        self.looks.set(self.looks.get() + times);
    }

    /// Computes the sections of a part. False if there is one whose items cannot all fit above their bounds.
    fn survey(&mut self, part: u32) -> bool {
        let Component { first, start, end, .. } = self.parts[part as usize];
        let mut last = self.parts[part as usize].last as usize;
        // The item just placed is behind the others.
        if self.moves.last().is_some_and(|made| made.part == part) {
            last -= 1;
        }
        self.order.clear();
        let bounds = &self.bounds;
        self.order.extend(self.members[first as usize..last].iter().map(|&item| (bounds[item as usize], item)));
        self.order.sort_unstable();
        let mut looks = SORT * self.order.len() as u64 + u64::from(end - start);
        self.sections[start as usize..end as usize].fill(EMPTY);
        for &(bound, item) in self.order.iter().rev() {
            let room = self.capacity - bound;
            for piece in self.core.pieces(item as usize) {
                looks += u64::from(piece.end - piece.start);
                let mut most = 0;
                for section in &mut self.sections[piece.start as usize..piece.end as usize] {
                    section.load += piece.size;
                    section.second = section.lowest;
                    section.lowest = bound;
                    section.owner = item;
                    most = most.max(section.load);
                }
                if most > room {
                    let fails = |section: &u32| self.sections[*section as usize].load > room;
                    let failed = (piece.start..piece.end).find(fails).unwrap_or(piece.start);
                    self.weights[failed as usize] += 1.0;
                    self.look(looks);
                    return false;
                }
            }
        }
        self.look(looks);
        true
    }

    /// Chooses the item to be placed next. Returns where its bound rises otherwise, unless that fails at once.
    fn choose(&mut self, part: u32) -> (u32, Option<u64>) {
        let Component { start, end, .. } = self.parts[part as usize];
        self.choices += 1;
        self.look(u64::from(end - start));
        // Where a section is too full above its second bound, the item of the lowest may have to lie there.
        for section in &self.sections[start as usize..end as usize] {
            if section.second > self.capacity - section.load && section.load > 0 {
                let seen = &mut self.seen[section.owner as usize];
                if *seen != self.choices {
                    *seen = self.choices;
                    if let Some(rest) = self.rest(section.owner)
                        && self.alternative(section.owner, rest).is_none()
                    {
                        return (section.owner, None);
                    }
                }
            }
        }
        let mut best = (u64::MAX, u64::MAX, u32::MAX);
        let mut choice = (NONE, None);
        for &(bound, item) in &self.order {
            if bound > best.0 {
                break;
            }
            if !(start..end).contains(&self.facts[item as usize].start) {
                continue;
            }
            let slack = self.slack(item);
            let merit = match self.policy {
                Policy::Lowest => bound,
                Policy::Tightest => bound + slack,
            };
            let key = (merit, slack, self.ranks[item as usize]);
            if key < best
                && let Some(rest) = self.rest(item)
            {
                (best, choice) = (key, (item, self.alternative(item, rest)));
            }
        }
        choice
    }

    /// The lowest offset at which an item of the part surveyed last may come to lie on a neighbour, but for its alignment; `None` if
    /// there may be a neighbour below it when it lies at its bound.
    fn rest(&self, item: u32) -> Option<u64> {
        let (mut rest, mut looks) = (u64::MAX, 0);
        for &(bound, other) in &self.order {
            if bound >= rest {
                break;
            }
            looks += 1;
            let height = self.height(other, item);
            if height > 0 && other != item {
                rest = rest.min(bound + height);
            }
        }
        self.look(looks);
        (rest > self.bounds[item as usize]).then_some(rest)
    }

    /// What the bound of an item rises to if it rests on a neighbour at `rest` or higher; `None` if there is no room for that.
    fn alternative(&self, item: u32, rest: u64) -> Option<u64> {
        let fact = &self.facts[item as usize];
        let rest = align_up(rest, fact.align).filter(|&rest| rest <= fact.limit)?;
        let full = |section: &Section| {
            let next = if section.owner == item { section.second } else { section.lowest };
            rest.min(next) > self.capacity - section.load
        };
        (!self.crossed(item).any(full)).then_some(rest)
    }

    /// What the tightest section of an item has to spare above the lowest bound there.
    fn slack(&self, item: u32) -> u64 {
        self.crossed(item).map(|section| self.capacity - section.load - section.lowest).min().unwrap_or(0)
    }

    /// The sections of an item.
    fn crossed(&self, item: u32) -> impl Iterator<Item = &Section> {
        let pieces = self.core.pieces(item as usize).iter();
        self.look(pieces.clone().map(|piece| u64::from(piece.end - piece.start)).sum());
        pieces.flat_map(|piece| &self.sections[piece.start as usize..piece.end as usize])
    }

    /// Splits members into parts that have no section in common, and returns the first of them.
    fn split(&mut self, first: usize, last: usize, cause: u32, mut next: u32) -> u32 {
        let mut from = first;
        while from < last {
            let Fact { start, mut end, .. } = self.facts[self.members[from] as usize];
            let mut to = from + 1;
            while let Some(&item) = self.members[..last].get(to)
                && self.facts[item as usize].start < end
            {
                end = end.max(self.facts[item as usize].end);
                to += 1;
            }
            self.parts.push(Component { first: from as u32, last: to as u32, start, end, cause, next });
            next = self.parts.len() as u32 - 1;
            from = to;
        }
        next
    }
}

/// The Luby sequence, from 1: 1 1 2 1 1 2 4 1 1 2 1 1 2 4 8...
fn luby(mut number: u64) -> u64 {
    loop {
        let power = 1 << number.ilog2();
        if number == 2 * power - 1 {
            return power;
        }
        number -= power - 1;
    }
}

#[cfg(test)]
mod tests;
