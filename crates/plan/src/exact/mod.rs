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

mod choice;
mod facts;
mod state;
#[cfg(test)]
mod tests;

use self::choice::{Choice, Policy};
use self::state::{Component, NONE, State};
use crate::clock::Clock;
use crate::core::Core;
use crate::random::mix;
use crate::tuning::{BOUNDS_KEPT, BOUNDS_KEPT_EACH, RANKS_SPREAD, SHORTEST_RUN, WEIGHT_KEPT};

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
    let mut part = search.state.split(0, core.items().len(), NONE, NONE);
    let whole = search.state.parts.clone();
    // No two of these have a section in common: what is learnt about one says nothing about another.
    while part != NONE {
        let Component { first, last, next, .. } = whole[part as usize];
        match search.solve(first as usize, last as usize, budget) {
            Some(true) => part = next,
            Some(false) => return Verdict::Impossible,
            None => return Verdict::GaveUp,
        }
    }
    Verdict::Placed(search.state.bounds)
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

struct Search<'a> {
    state: State<'a>,
    choice: Choice,
    moves: Vec<Move>,
    /// The trail was never too long.
    remembers: bool,
}

impl<'a> Search<'a> {
    /// `None` if a single item or a section has no room.
    fn new(core: &'a Core, capacity: u64) -> Option<Self> {
        let state = State::new(core, capacity)?;
        Some(Self { state, choice: Choice::new(core.items().len()), moves: Vec::new(), remembers: true })
    }

    /// Solves a part on its own, with as many runs as it takes. `None` if that is more than the budget.
    fn solve(&mut self, first: usize, last: usize, budget: &mut Quota<'_>) -> Option<bool> {
        for run in 0.. {
            let policy = if run % 2 == 0 { Policy::Lowest } else { Policy::Tightest };
            let spread = if run < 2 && budget.seed == 0 { 0.0 } else { RANKS_SPREAD };
            let members = &self.state.members[first..last];
            self.choice.rank(&self.state, members, policy, mix(mix(budget.seed) ^ run), spread);
            let found = self.run(first, last, budget, SHORTEST_RUN * luby(run / 2 + 1));
            if found.is_none() {
                while self.undo().is_some() {}
                self.state.restore(0);
            }
            self.moves.clear();
            self.state.trail.clear();
            self.state.parts.clear();
            if found.is_some() || !self.remembers || budget.looks == 0 {
                return found;
            }
            for weight in &mut self.state.weights {
                *weight = 1.0 + (*weight - 1.0) * WEIGHT_KEPT;
            }
        }
        None
    }

    /// Searches until it is known whether the members have a solution, which `bounds` are then; or for so many nodes.
    fn run(&mut self, first: usize, last: usize, budget: &mut Quota<'_>, nodes: u64) -> Option<bool> {
        let end = budget.nodes.saturating_add(nodes);
        let mut part = self.state.split(first, last, NONE, NONE);
        if !self.state.survey(part, 0) {
            return Some(false);
        }
        while part != NONE {
            self.remembers &= self.state.trail.len() <= BOUNDS_KEPT.max(BOUNDS_KEPT_EACH * self.state.facts.len());
            if budget.nodes >= end || !self.remembers || !budget.pay(self.state.looks.take()) {
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
        let Component { first, last, next, cause, .. } = self.state.parts[part as usize];
        if cause.wrapping_add(1) != self.moves.len() as u32 {
            // A sister was solved since this part was seen last.
            self.state.survey(part, 0);
        }
        let (item, rest) = self.choice.next(&self.state, part);
        let (first, last) = (first as usize, last as usize - 1);
        let place =
            first + self.state.members[first..last].iter().position(|&member| member == item).unwrap_or(last - first);
        self.state.members[place..=last].rotate_left(1);
        let cause = self.moves.len();
        self.moves.push(Move {
            item,
            place: place as u32,
            part,
            rest,
            trail: self.state.trail.len(),
            parts: self.state.parts.len(),
        });
        let bound = self.state.bounds[item as usize];
        self.state.look((last - first) as u64);
        for place in first..last {
            let other = self.state.members[place];
            let height = self.state.height(item, other);
            if height > 0
                && self.state.bounds[other as usize] < bound + height
                && !self.state.lift(other, bound + height)
            {
                return None;
            }
        }
        if self.moves[cause].trail == self.state.trail.len() {
            self.moves[cause].rest = None;
        }
        self.state.survey(part, 1).then(|| self.state.split(first, last, cause as u32, next))
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
            cause = self.state.parts[part as usize].cause;
            if cause == NONE {
                return None;
            }
        }
    }

    fn undo(&mut self) -> Option<Move> {
        let made = self.moves.pop()?;
        self.state.restore(made.trail);
        self.state.parts.truncate(made.parts);
        let last = self.state.parts[made.part as usize].last as usize;
        self.state.members[made.place as usize..last].rotate_right(1);
        Some(made)
    }

    /// Takes the branch in which an item does not lie at its bound, nor do those of its kind, but at `rest` or above; false if that
    /// fails at once. They share their bound, since they have the same neighbours, and rise together.
    fn raise(&mut self, item: u32, rest: u64, part: u32) -> bool {
        let Component { first, last, .. } = self.state.parts[part as usize];
        let kind = self.state.facts[item as usize].kind;
        for place in first as usize..last as usize {
            let other = self.state.members[place];
            if self.state.facts[other as usize].kind == kind && !self.state.lift(other, rest) {
                return false;
            }
        }
        self.state.survey(part, 0)
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
