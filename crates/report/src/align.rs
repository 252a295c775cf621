//! Which elements of two sequences are the same ones.

/// The least and the most edits that are looked for at a time.
const EDITS: std::ops::RangeInclusive<usize> = 64..=2048;

/// So many comparisons, about, for all that is aligned; more only of what is very long.
const EFFORT: usize = 1 << 28;

/// How many edits can be looked for at a time in sequences with so many elements in sum, that the effort is bounded: `elements` times this.
pub(crate) fn edits(elements: usize) -> usize {
    (EFFORT / elements.max(1)).clamp(*EDITS.start(), *EDITS.end())
}

/// Pairs of places in two sequences where the same stands, both ascending: as many as there can be, if the sequences are so many edits apart or fewer (Myers, 1986). Otherwise
/// of windows with so many edits each, one behind the other, which take what gets furthest: then the effort is `edits` times the length.
pub(crate) fn common<T: PartialEq>(old: &[T], new: &[T], edits: usize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let (mut from_old, mut from_new) = (0, 0);
    while from_old < old.len() && from_new < new.len() {
        let window = Window::new(&old[from_old..], &new[from_new..], edits.max(1));
        pairs.extend(window.pairs.into_iter().rev().map(|(x, y)| (from_old + x, from_new + y)));
        from_old += window.end.0;
        from_new += window.end.1;
    }
    pairs
}

/// What is common at the beginning of two sequences.
struct Window {
    /// From the last to the first.
    pairs: Vec<(usize, usize)>,
    /// Where it ends in each.
    end: (usize, usize),
}

/// How far along the first sequence it gets on diagonal `diagonal`, for each second one from `-edits` to `edits`; `None` if it leaves the sequences.
type Reach = Vec<Option<usize>>;

/// The reach of the diagonal, among those of as many edits.
fn at(reach: &Reach, edits: isize, diagonal: isize) -> Option<usize> {
    let index = usize::try_from(diagonal + edits).ok()?;
    if index.is_multiple_of(2) { reach.get(index / 2).copied().flatten() } else { None }
}

impl Window {
    fn new<T: PartialEq>(old: &[T], new: &[T], most: usize) -> Self {
        let along = |diagonal: isize, mut x: usize| {
            let y = |x: usize| x.wrapping_add_signed(-diagonal);
            while x < old.len() && y(x) < new.len() && old[x] == new[y(x)] {
                x += 1;
            }
            x
        };
        let mut reaches: Vec<Reach> = vec![vec![Some(along(0, 0))]];
        let mut edits = 0_isize;
        loop {
            let reach = &reaches[edits as usize];
            let ends = (-edits..=edits).step_by(2).zip(reach);
            let ends = ends.filter_map(|(diagonal, x)| x.map(|x| (diagonal, x, x.wrapping_add_signed(-diagonal))));
            let furthest = ends.max_by_key(|(_, x, y)| x + y);
            let is_last = furthest.is_none_or(|(_, x, y)| x == old.len() && y == new.len());
            if is_last || edits as usize >= most {
                let (diagonal, x, y) = furthest.unwrap_or((0, old.len(), new.len()));
                return Self { pairs: back(&reaches, edits, diagonal), end: (x, y) };
            }
            edits += 1;
            let step = |diagonal: isize| {
                let x = before(reach, edits, diagonal, old.len(), new.len())?;
                Some(along(diagonal, x))
            };
            let next: Reach = (-edits..=edits).step_by(2).map(step).collect();
            reaches.push(next);
        }
    }
}

/// Where an edit leads to on a diagonal, from those beside it: one more of the first sequence, or of the second.
fn before(reach: &Reach, edits: isize, diagonal: isize, old: usize, new: usize) -> Option<usize> {
    let skip_old = at(reach, edits - 1, diagonal - 1).map(|x| x + 1).filter(|x| *x <= old);
    let skip_new = at(reach, edits - 1, diagonal + 1).filter(|x| x.wrapping_add_signed(-diagonal) <= new);
    skip_old.max(skip_new)
}

/// The pairs on the way, from the end.
fn back(reaches: &[Reach], mut edits: isize, mut diagonal: isize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    loop {
        let Some(end) = reaches.get(edits as usize).and_then(|reach| at(reach, edits, diagonal)) else { return pairs };
        let (mut start, mut next) = (0, diagonal);
        if let Some(reach) = (edits as usize).checked_sub(1).and_then(|before| reaches.get(before)) {
            let skip_old = at(reach, edits - 1, diagonal - 1).map(|x| x + 1).filter(|x| *x <= end);
            let skip_new = at(reach, edits - 1, diagonal + 1).filter(|x| *x <= end);
            (start, next) = match (skip_old, skip_new) {
                (Some(old), Some(new)) if new > old => (new, diagonal + 1),
                (Some(old), _) => (old, diagonal - 1),
                (None, Some(new)) => (new, diagonal + 1),
                (None, None) => return pairs,
            };
        }
        pairs.extend((start..end).rev().map(|x| (x, x.wrapping_add_signed(-diagonal))));
        if edits == 0 {
            return pairs;
        }
        edits -= 1;
        diagonal = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most pairs, by the table of all prefixes.
    fn naive(old: &[u64], new: &[u64]) -> usize {
        let mut best = vec![vec![0; new.len() + 1]; old.len() + 1];
        for x in 0..old.len() {
            for y in 0..new.len() {
                let skipped = best[x][y + 1].max(best[x + 1][y]);
                best[x + 1][y + 1] = if old[x] == new[y] { best[x][y] + 1 } else { skipped };
            }
        }
        best[old.len()][new.len()]
    }

    #[test]
    fn pairs_are_the_same_in_order_and_as_many_as_there_can_be() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut below = |bound| random.u64(..bound);
        for _ in 0..5_000 {
            let kinds = 1 + below(6);
            let mut sequence = || (0..below(30)).map(|_| below(kinds)).collect::<Vec<_>>();
            let (old, new) = (sequence(), sequence());
            for edits in [1, 3, 100] {
                let pairs = common(&old, &new, edits);
                assert!(pairs.iter().all(|(x, y)| old[*x] == new[*y]), "{old:?} {new:?} {pairs:?}");
                assert!(pairs.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{old:?} {new:?} {pairs:?}");
                if edits == 100 {
                    assert_eq!(pairs.len(), naive(&old, &new), "{old:?} {new:?} {pairs:?}");
                }
            }
            assert_eq!(common(&old, &old, 1).len(), old.len());
        }
    }

    #[test]
    fn long_sequences_take_bounded_effort() {
        let old: Vec<u64> = (0..300_000).collect();
        let other: Vec<u64> = (300_000..600_000).collect();
        assert!(common(&old, &other, edits(600_000)).is_empty());
        // One is missing in the midst.
        let without: Vec<u64> = old.iter().copied().filter(|element| *element != 150_000).collect();
        assert_eq!(common(&old, &without, edits(600_000)).len(), without.len());
    }
}
