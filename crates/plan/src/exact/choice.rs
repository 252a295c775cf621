//! Which item is placed next, and where it rises to if it is not.

use super::facts::Fact;
use super::state::{Component, NONE, Section, State};
use crate::core::align_up;
use crate::random::mix;

/// How to choose among the items that may be placed. No way is good for all problems, and these two complement one another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Policy {
    /// The lowest, then the one in the tightest section. Otherwise those first that are long and in crowded places.
    Lowest,
    /// The one that has the least bound plus slack. Otherwise those first that are large.
    Tightest,
}

/// What items are preferred by.
pub(super) struct Choice {
    policy: Policy,
    /// The order in which items are preferred.
    ranks: Vec<u32>,
    /// The number of choices made, and when each item was last thought to be the only one.
    choices: u64,
    seen: Vec<u64>,
}

impl Choice {
    pub(super) fn new(items: usize) -> Self {
        Self { policy: Policy::Lowest, ranks: vec![0; items], choices: 0, seen: vec![0; items] }
    }

    /// Gives ranks to items as the policy says, but for random factors. Sections of weight count for longer than others.
    pub(super) fn rank(&mut self, state: &State<'_>, members: &[u32], policy: Policy, seed: u64, spread: f64) {
        self.policy = policy;
        let square = |number: f64| number * number;
        let mut order = Vec::with_capacity(members.len());
        for &item in members {
            let Fact { start, end, size, load, .. } = state.facts[item as usize];
            let length: f64 = state.weights[start as usize..end as usize].iter().sum();
            let merit = match policy {
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

    /// Chooses the item to be placed next. Returns where its bound rises otherwise, unless that fails at once.
    pub(super) fn next(&mut self, state: &State<'_>, part: u32) -> (u32, Option<u64>) {
        let Component { start, end, .. } = state.parts[part as usize];
        self.choices += 1;
        state.look(u64::from(end - start));
        // Where a section is too full above its second bound, the item of the lowest may have to lie there.
        for section in &state.sections[start as usize..end as usize] {
            if section.second > state.capacity - section.load && section.load > 0 {
                let seen = &mut self.seen[section.owner as usize];
                if *seen != self.choices {
                    *seen = self.choices;
                    if let Some(rest) = rest(state, section.owner)
                        && alternative(state, section.owner, rest).is_none()
                    {
                        return (section.owner, None);
                    }
                }
            }
        }
        let mut best = (u64::MAX, u64::MAX, u32::MAX);
        let mut choice = (NONE, None);
        for &(bound, item) in &state.order {
            if bound > best.0 {
                break;
            }
            if !(start..end).contains(&state.facts[item as usize].start) {
                continue;
            }
            let slack = slack(state, item);
            let merit = match self.policy {
                Policy::Lowest => bound,
                Policy::Tightest => bound + slack,
            };
            let key = (merit, slack, self.ranks[item as usize]);
            if key < best
                && let Some(rest) = rest(state, item)
            {
                (best, choice) = (key, (item, alternative(state, item, rest)));
            }
        }
        choice
    }
}

/// The lowest offset at which an item of the part surveyed last may come to lie on a neighbour, but for its alignment; `None` if
/// there may be a neighbour below it when it lies at its bound.
fn rest(state: &State<'_>, item: u32) -> Option<u64> {
    let (mut rest, mut looks) = (u64::MAX, 0);
    for &(bound, other) in &state.order {
        if bound >= rest {
            break;
        }
        looks += 1;
        let height = state.height(other, item);
        if height > 0 && other != item {
            rest = rest.min(bound + height);
        }
    }
    state.look(looks);
    (rest > state.bounds[item as usize]).then_some(rest)
}

/// What the bound of an item rises to if it rests on a neighbour at `rest` or higher; `None` if there is no room for that.
fn alternative(state: &State<'_>, item: u32, rest: u64) -> Option<u64> {
    let fact = &state.facts[item as usize];
    let rest = align_up(rest, fact.align).filter(|&rest| rest <= fact.limit)?;
    let full = |section: &Section| {
        let next = if section.owner == item { section.second } else { section.lowest };
        rest.min(next) > state.capacity - section.load
    };
    (!state.crossed(item).any(full)).then_some(rest)
}

/// What the tightest section of an item has to spare above the lowest bound there.
fn slack(state: &State<'_>, item: u32) -> u64 {
    state.crossed(item).map(|section| state.capacity - section.load - section.lowest).min().unwrap_or(0)
}
