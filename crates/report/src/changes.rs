//! What changed between two recordings.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::io::{Read, Seek};

use serde::Serialize;
use tenzor_trace::recording::Recording;

use crate::align::{common, edits};
use crate::instants::Instant;
use crate::pass::Flaws;
use crate::requests::{Counts, Place, Request, Requests};
use crate::words::{apart, bytes, count, difference, more, share, short};

/// What changed between two recordings, an old one and a new one: each is looked at in the step with its peak, its typical step where most is at stake; what was requested before
/// and is held at the peak counts as well. Shown as a few lines.
///
/// Requests are the same if they are in the same order under the same labels, with the same size; those between such ones that are not are taken for requests whose size
/// changed. A resize is a request of the new size. What each cause changes of what is held at the peak is, over all causes, what the peak changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Changes {
    /// The old recording.
    pub old: Side,
    /// The new one.
    pub new: Side,
    /// How many bytes more are live at the new peak.
    pub peak_change: i64,
    /// What holds more at the new peak, or less, by the labels, in their order of magnitude.
    pub paths: Vec<PathChange>,
    /// What changed, what matters most for the peak first; then what changes most of what is requested, and how much of that misses. Not more than a hundred.
    pub causes: Vec<Cause>,
    /// How many causes there are beside these.
    pub other_causes: u64,
    /// What these change of what is held at the peak.
    pub other_held_change: i64,
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Side {
    /// Its peak.
    pub peak: Instant,
    /// How many steps there are.
    pub steps: u32,
    /// All requests.
    pub all: Counts,
    /// Those of the step with the peak; of what precedes the first step, if the peak is there.
    pub in_step: Counts,
    /// What of the recording is missing.
    pub flaws: Flaws,
}

/// Requests that changed in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cause {
    /// The labels they are under, as `a/b/c`.
    pub path: String,
    /// They are of the step with the peak, not from before.
    pub in_step: bool,
    /// What they requested in the old recording; none if they are not there.
    pub old_size: Option<u64>,
    /// What they request in the new one; none if they are not there. If it is the same, what changed is whether they are held at the peak, or whether they miss.
    pub new_size: Option<u64>,
    /// How many these are.
    pub requests: u64,
    /// How many bytes more are held at the peak for them.
    pub held_change: i64,
    /// How many bytes more they request.
    pub requested_change: i64,
    /// How many of them more miss.
    pub misses_change: i64,
}

/// What the requests under the same labels hold more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PathChange {
    /// The labels, as `a/b/c`.
    pub path: String,
    /// How many bytes more are held at the peak for them.
    pub held_change: i64,
}

/// The most causes that are told one by one.
const CAUSES: usize = 100;

/// Finds what changed. Two readings of each; memory for the blocks in use, and for the requests of one step of each.
pub fn changes<R: Read + Seek, S: Read + Seek>(old: &mut Recording<R>, new: &mut Recording<S>) -> Changes {
    let (old, new) = (Requests::new(old), Requests::new(new));
    let mut causes = causes(&old, &new);
    let paths = by_path(&causes);
    let others = causes.split_off(CAUSES.min(causes.len()));
    Changes {
        peak_change: difference(new.peak.bytes, old.peak.bytes),
        old: side(old),
        new: side(new),
        paths,
        causes,
        other_causes: others.len() as u64,
        other_held_change: others.iter().fold(0, |sum, cause| sum.saturating_add(cause.held_change)),
    }
}

fn side(requests: Requests) -> Side {
    let Requests { peak, steps, all, in_step, flaws, .. } = requests;
    Side { peak, steps, all, in_step, flaws }
}

/// What is held more, in sum by path.
fn by_path(causes: &[Cause]) -> Vec<PathChange> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for cause in causes {
        let sum = sums.entry(&cause.path).or_default();
        *sum = sum.saturating_add(cause.held_change);
    }
    let changed = sums.into_iter().filter(|(_, change)| *change != 0);
    let mut paths: Vec<_> =
        changed.map(|(path, held_change)| PathChange { path: path.to_owned(), held_change }).collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.held_change.unsigned_abs()));
    paths
}

/// What became of a request.
type Pair<'a> = (Option<&'a Request>, Option<&'a Request>);

/// All causes, what matters most first.
fn causes(old: &Requests, new: &Requests) -> Vec<Cause> {
    let length = |requests: &Requests| requests.places.values().map(Vec::len).sum::<usize>();
    let edits = edits(length(old) + length(new));
    let places: BTreeSet<&Place> = old.places.keys().chain(new.places.keys()).collect();
    let mut causes = Vec::new();
    for place in places {
        let mut sums: HashMap<(Option<u64>, Option<u64>), Cause> = HashMap::new();
        for (old, new) in pairs(old.of(place), new.of(place), edits) {
            let sizes = (old.map(|request| request.size), new.map(|request| request.size));
            let none = || Cause {
                path: place.0.clone(),
                in_step: place.1,
                old_size: sizes.0,
                new_size: sizes.1,
                requests: 0,
                held_change: 0,
                requested_change: 0,
                misses_change: 0,
            };
            let cause = sums.entry(sizes).or_insert_with(none);
            let change = |of: fn(&Request) -> u64| difference(new.map_or(0, of), old.map_or(0, of));
            let add = |sum: &mut i64, by| *sum = sum.saturating_add(by);
            let held = change(|request| if request.is_held { request.size } else { 0 });
            let misses = change(|request| request.missed.into());
            let is_same = sizes.0 == sizes.1;
            cause.requests += u64::from(!is_same || held != 0 || misses != 0);
            add(&mut cause.held_change, held);
            add(&mut cause.requested_change, change(|request| request.size));
            add(&mut cause.misses_change, misses);
        }
        let is_change =
            |cause: &Cause| cause.old_size != cause.new_size || cause.held_change != 0 || cause.misses_change != 0;
        causes.extend(sums.into_values().filter(is_change));
    }
    causes.sort_by(|one, other| {
        let weight = |cause: &Cause| {
            let Cause { held_change, requested_change, misses_change, .. } = cause;
            [held_change, requested_change, misses_change].map(|change| change.unsigned_abs())
        };
        let name = |cause: &Cause| (cause.old_size, cause.new_size);
        weight(other)
            .cmp(&weight(one))
            .then_with(|| one.path.cmp(&other.path))
            .then_with(|| name(one).cmp(&name(other)))
    });
    causes
}

/// Which requests of a place are the same ones: as they come, with the same size; then those that have the same size, as they came elsewhere; then, between two that are the same
/// in both, what is left there, in its order.
fn pairs<'a>(old: &'a [Request], new: &'a [Request], edits: usize) -> Vec<Pair<'a>> {
    let sizes = |requests: &[Request]| requests.iter().map(|request| request.size).collect::<Vec<_>>();
    let anchors = common(&sizes(old), &sizes(new), edits);
    let mut pairs: Vec<Pair<'a>> = anchors.iter().map(|(x, y)| (Some(&old[*x]), Some(&new[*y]))).collect();
    let (mut elsewhere, mut from): (HashMap<u64, VecDeque<usize>>, usize) = (HashMap::new(), 0);
    for to in anchors.iter().map(|anchor| anchor.0).chain([old.len()]) {
        (from..to).for_each(|at| elsewhere.entry(old[at].size).or_default().push_back(at));
        from = to + 1;
    }
    let mut is_moved = vec![false; old.len()];
    let (mut from_old, mut from_new) = (0, 0);
    let mut left: Vec<(std::ops::Range<usize>, Vec<&Request>)> = Vec::new();
    for (to_old, to_new) in anchors.iter().copied().chain([(old.len(), new.len())]) {
        let mut unmatched = Vec::new();
        for request in &new[from_new..to_new] {
            match elsewhere.get_mut(&request.size).and_then(VecDeque::pop_front) {
                Some(at) => {
                    is_moved[at] = true;
                    pairs.push((Some(&old[at]), Some(request)));
                }
                None => unmatched.push(request),
            }
        }
        if from_old < to_old || !unmatched.is_empty() {
            left.push((from_old..to_old, unmatched));
        }
        (from_old, from_new) = (to_old + 1, to_new + 1);
    }
    for (range, unmatched) in left {
        let mut gone = range.filter(|at| !is_moved[*at]).map(|at| &old[at]);
        pairs.extend(unmatched.into_iter().map(|request| (gone.next(), Some(request))));
        pairs.extend(gone.map(|request| (Some(request), None)));
    }
    pairs
}

/// The most causes that are shown.
const SHOWN: usize = 10;

/// The most paths that are shown.
const PATHS: usize = 5;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (are, were, have) = if self.requests == 1 { ("is", "was", "has") } else { ("are", "were", "have") };
        let requests = |size: &str| format!("{} of {size}", count(self.requests, "request"));
        let before = if self.in_step { "" } else { " from before this step" };
        write!(f, "{}: ", short(&self.path))?;
        match (self.old_size, self.new_size) {
            (Some(old), Some(new)) if old == new => {
                write!(f, "{}{before}", requests(&bytes(new).to_string()))?;
                match self.held_change {
                    0 => {}
                    1.. => write!(f, " {are} live at the peak that {were} not")?,
                    _ => write!(f, " {were} live at the peak and {are} not now")?,
                }
            }
            (Some(old), Some(new)) => {
                let [old, new] = apart(old, new);
                write!(f, "{}{before} {have} {new} now", requests(&old))?;
            }
            (None, Some(new)) => write!(f, "{}{before} {are} new", requests(&bytes(new).to_string()))?,
            (Some(old), None) => write!(f, "{}{before} {are} gone", requests(&bytes(old).to_string()))?,
            (None, None) => {}
        }
        if self.in_step && self.held_change == 0 && self.requested_change != 0 {
            write!(f, ", not at the peak: {} requested", more(self.requested_change))?;
        }
        match self.misses_change {
            0 => Ok(()),
            by => write!(f, ", {by:+} {}", if by.unsigned_abs() == 1 { "miss" } else { "misses" }),
        }
    }
}

/// Two counts, and the difference if there is one.
fn counts(old: u64, new: u64, one: &str) -> String {
    let change = difference(new, old);
    let plural =
        if new == 1 { one.to_owned() } else { format!("{one}{}", if one.ends_with('s') { "es" } else { "s" }) };
    if change == 0 { format!("{new} {plural}, as before") } else { format!("{old} → {new} {plural} ({change:+})") }
}

/// Requests, and misses if there are any.
fn requests(old: &Counts, new: &Counts) -> String {
    let requests = counts(old.requests, new.requests, "request");
    if old.misses + new.misses == 0 {
        return requests;
    }
    format!("{requests}; {}; {}", counts(old.hits, new.hits, "hit"), counts(old.misses, new.misses, "miss"))
}

impl Changes {
    /// Whether there is none: all requests are as many, and as large, and hit as often; in the steps with the peaks these are the same.
    pub fn is_empty(&self) -> bool {
        self.causes.is_empty() && self.peak_change == 0 && self.old.all == self.new.all
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut say = |name: &str, told: String| writeln!(f, "  {name:<14}{told}");
        let (old, new) = (&self.old, &self.new);
        let places = [(old.peak, old.steps), (new.peak, new.steps)].map(|(peak, steps)| peak.place(steps));
        if self.peak_change == 0 {
            say("peak live", format!("{}, as before", bytes(new.peak.bytes)))?;
        } else {
            let [was, is] = apart(old.peak.bytes, new.peak.bytes);
            let share = match old.peak.bytes {
                0 => String::new(),
                old => format!(", {}", share(self.peak_change.unsigned_abs(), old)),
            };
            say("peak live", format!("{was} → {is} ({}{share})", more(self.peak_change)))?;
        }
        if places[0] == places[1] {
            say("", places[0].clone())?;
        } else {
            say("", format!("old: {}; new: {}", places[0], places[1]))?;
        }
        say("in all", requests(&old.all, &new.all))?;
        if old.steps + new.steps > 0 {
            say("in that step", requests(&old.in_step, &new.in_step))?;
        }
        if self.causes.is_empty() {
            let rest = if self.is_empty() { "" } else { "; what changed is in other steps" };
            say("the same", format!("all requests of the step with the peak, and all that is live then{rest}"))?;
        }
        if self.paths.len() > 1 {
            let shown = |path: &PathChange| format!("{} {}", short(&path.path), more(path.held_change));
            let mut parts: Vec<_> = self.paths.iter().take(PATHS).map(shown).collect();
            if let Some(others) = self.paths.get(PATHS..).filter(|others| !others.is_empty()) {
                let held = others.iter().fold(0_i64, |sum, path| sum.saturating_add(path.held_change));
                parts.push(format!("{} {}", count(others.len() as u64, "other"), more(held)));
            }
            say("by label", parts.join(", "))?;
        }
        for cause in self.causes.iter().take(SHOWN) {
            say(&more(cause.held_change), cause.to_string())?;
        }
        let others = self.causes.len().saturating_sub(SHOWN) as u64 + self.other_causes;
        if others > 0 {
            let held = self
                .causes
                .iter()
                .skip(SHOWN)
                .fold(self.other_held_change, |sum, cause| sum.saturating_add(cause.held_change));
            say(&more(held), count(others, "other change"))?;
        }
        for (name, flaws) in [("the old one:", &old.flaws), ("the new one:", &new.flaws)] {
            if *flaws != Flaws::default() {
                writeln!(f, "  {name}")?;
                flaws.fmt(f)?;
            }
        }
        Ok(())
    }
}
