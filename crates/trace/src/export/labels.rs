//! The labels that a thread is in.

use std::collections::HashMap;

/// The most labels that are kept of a nest; those within are not told of.
const MOST: usize = 128;

/// The labels that a thread is in, the outermost first, with what is known of each.
#[derive(Debug)]
pub(super) struct Nest<T> {
    entered: Vec<(u64, T)>,
    /// How many were entered beyond the most.
    beyond: u64,
}

impl<T> Default for Nest<T> {
    fn default() -> Self {
        Self { entered: Vec::new(), beyond: 0 }
    }
}

impl<T> Nest<T> {
    /// A label is entered; whether it is kept.
    pub(super) fn enter(&mut self, label: u64, known: impl FnOnce() -> T) -> bool {
        let is_kept = self.entered.len() < MOST;
        if is_kept {
            self.entered.push((label, known()));
        } else {
            self.beyond += 1;
        }
        is_kept
    }

    /// How many labels remain once a label is left. What was entered within it and not left, as that was lost, is left with it; a label that was not entered changes nothing.
    pub(super) fn left(&mut self, label: u64) -> usize {
        if self.beyond > 0 {
            self.beyond -= 1;
            return self.entered.len();
        }
        self.entered.iter().rposition(|(entered, _)| *entered == label).unwrap_or(self.entered.len())
    }

    /// Those that are kept.
    pub(super) fn entered(&mut self) -> &mut Vec<(u64, T)> {
        &mut self.entered
    }
}

/// Ways through labels, each a way and one label more: of many that begin alike, the beginning is kept once.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// The way without the last label, and that label.
    steps: Vec<(usize, u64)>,
    numbers: HashMap<(usize, u64), usize>,
}

impl Paths {
    /// The way of no label. The others have numbers from 1.
    pub(super) const NONE: usize = 0;

    /// The number of a way and a label more.
    pub(super) fn longer(&mut self, path: usize, label: u64) -> usize {
        let steps = &mut self.steps;
        *self.numbers.entry((path, label)).or_insert_with(|| {
            steps.push((path, label));
            steps.len()
        })
    }

    /// A way's labels, the innermost first.
    pub(super) fn labels(&self, path: usize) -> impl Iterator<Item = u64> {
        let mut path = path;
        std::iter::from_fn(move || {
            let (before, label) = *self.steps.get(path.checked_sub(1)?)?;
            path = before;
            Some(label)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_left_as_they_were_entered_whatever_was_lost() {
        let mut nest = Nest::default();
        let leave = |nest: &mut Nest<()>, label| {
            let left = nest.left(label);
            nest.entered().truncate(left);
            left
        };
        (1..=3).for_each(|label| assert!(nest.enter(label, || ())));
        assert_eq!(leave(&mut nest, 9), 3);
        assert_eq!(leave(&mut nest, 2), 1);
        (0..200).for_each(|label| assert_eq!(nest.enter(label, || ()), label < 127));
        (0..73).for_each(|_| assert_eq!(leave(&mut nest, 1), 128));
        assert_eq!(leave(&mut nest, 126), 127);
    }

    #[test]
    fn ways_that_are_the_same_have_one_number() {
        let mut paths = Paths::default();
        let one = paths.longer(Paths::NONE, 7);
        let two = paths.longer(one, 8);
        assert_eq!((paths.longer(Paths::NONE, 7), paths.longer(one, 8)), (one, two));
        assert_ne!(paths.longer(Paths::NONE, 8), two);
        assert_eq!(paths.labels(two).collect::<Vec<_>>(), [8, 7]);
        assert_eq!(paths.labels(Paths::NONE).count(), 0);
    }
}
