//! Whether huge pages pay: plain arithmetic.
//!
//! A huge page is faster to fill and to walk than 512 small ones, and takes all of its memory at its first byte. So a request has one at
//! once where blocks of its size were found filled before, or, as long as none was looked at, of the nearest size; others begin with
//! small pages, and units come onto huge ones later, once three quarters of them are touched. To find out, some blocks are
//! **watched**: when memory is taken from the system again, or time has passed, the system is asked how much of them is resident, which is
//! done without the heap's lock.

use std::ops::Range;

use super::space::UNIT;
use super::tuning::{
    FILLING_LEAST_PAGES, FILLING_OCTAVES, FILLING_SAMPLE_PAGES, FILLING_SCORE, FILLING_SELDOM, FILLING_WATCHED,
};
use crate::heap_config::HugePages;

/// Blocks that are watched at a time: the pages of each.
pub(crate) type Watched = [Range<u32>; FILLING_WATCHED];

/// How many of the sampled pages of each are resident, if that is told.
pub(crate) type Seen = [Option<u32>; FILLING_WATCHED];

/// Looks at watched blocks: asks how many of some pages are resident.
pub(crate) fn look(watched: &Watched, resident: impl Fn(Range<u32>) -> Option<u32>) -> Seen {
    watched.each_ref().map(|watched| {
        let (pages, sample) = (watched.end - watched.start, sample(watched));
        let samples = [0, 1, 2, 3].map(|third| watched.start + ((u64::from(pages - sample) * third) / 3) as u32);
        samples.into_iter().try_fold(0, |sum, start| match sample {
            0 => Some(0),
            _ => Some(sum + resident(start..start + sample)?),
        })
    })
}

/// Pages in each sample of a block.
fn sample(watched: &Range<u32>) -> u32 {
    FILLING_SAMPLE_PAGES.min(watched.end - watched.start)
}

#[derive(Debug)]
pub(crate) struct Filling {
    policy: HugePages,
    /// For each power of two of pages, how blocks of that size were found, and a bit if one was.
    scores: [i8; 32],
    known: u32,
    watched: Watched,
    next: usize,
    begun: u32,
    /// Those that are to be looked at.
    due: Option<Watched>,
}

impl Filling {
    pub(crate) const fn new() -> Self {
        Self {
            policy: HugePages::Auto,
            scores: [0; 32],
            known: 0,
            watched: [const { 0..0 }; FILLING_WATCHED],
            next: 0,
            begun: 0,
            due: None,
        }
    }

    pub(crate) fn set_policy(&mut self, policy: HugePages) {
        self.policy = policy;
    }

    pub(crate) fn policy(&self) -> HugePages {
        self.policy
    }

    /// Whether a block of so many pages will be filled.
    pub(crate) fn expects(&self, pages: u32) -> bool {
        match self.policy {
            HugePages::Auto => pages >= FILLING_LEAST_PAGES && self.score(pages.ilog2()) > 0,
            HugePages::Always => true,
            HugePages::Never => false,
        }
    }

    /// How blocks of that size were found, or of the nearest size that is known.
    fn score(&self, size: u32) -> i8 {
        let known = |size: &u32| self.known & 1 << size != 0;
        let near = (0..=FILLING_OCTAVES).flat_map(|by| [size.saturating_sub(by), (size + by).min(31)]).find(known);
        near.map_or(0, |size| self.scores[size as usize])
    }

    /// How many pages of a unit have to be resident for a huge page to be worth the rest; `None` if none ever is.
    pub(crate) fn least(&self) -> Option<u32> {
        match self.policy {
            HugePages::Auto => Some(UNIT / 4 * 3),
            HugePages::Always => Some(0),
            HugePages::Never => None,
        }
    }

    /// A block begins to use fresh pages: those that did before are to be looked at, and this one is watched.
    pub(crate) fn begin(&mut self, pages: Range<u32>) {
        let length = pages.end - pages.start;
        if self.policy != HugePages::Auto || length < FILLING_LEAST_PAGES {
            return;
        }
        self.look_again();
        // What is known well is looked at now and then only.
        self.begun = self.begun.wrapping_add(1);
        if self.scores[length.ilog2() as usize].abs() < FILLING_SCORE || self.begun.is_multiple_of(FILLING_SELDOM) {
            self.watched[self.next] = pages;
            self.next = (self.next + 1) % FILLING_WATCHED;
        }
    }

    /// The memory of some pages went elsewhere: what is resident there says nothing any more.
    pub(crate) fn forget(&mut self, pages: &Range<u32>) {
        for watched in &mut self.watched {
            if watched.start < pages.end && pages.start < watched.end {
                *watched = 0..0;
            }
        }
    }

    /// Time has passed, or so.
    pub(crate) fn look_again(&mut self) {
        self.due = Some(self.watched.clone());
    }

    /// The blocks to look at, if they are to be looked at.
    pub(crate) fn due(&mut self) -> Option<Watched> {
        self.due.take().filter(|due| due.iter().any(|watched| !watched.is_empty()))
    }

    /// Judges watched blocks that are so still by what was seen. A block of which nothing is resident has not been used yet.
    pub(crate) fn judge(&mut self, looked_at: &Watched, seen: Seen) {
        for ((watched, looked_at), found) in self.watched.iter_mut().zip(looked_at).zip(seen) {
            if looked_at.is_empty() || watched != looked_at {
                continue;
            }
            match found {
                Some(0) => continue,
                Some(found) => {
                    let size = (watched.end - watched.start).ilog2();
                    self.known |= 1 << size;
                    let score = &mut self.scores[size as usize];
                    let by = if found >= sample(watched) * 3 { 1 } else { -2 };
                    *score = (*score + by).clamp(-FILLING_SCORE, FILLING_SCORE);
                }
                None => {}
            }
            *watched = 0..0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at what is due, and judges it.
    fn judge(filling: &mut Filling, resident: impl Fn(Range<u32>) -> Option<u32>) {
        filling.look_again();
        if let Some(watched) = filling.due() {
            filling.judge(&watched, look(&watched, resident));
        }
    }

    #[test]
    fn blocks_are_expected_to_be_filled_where_some_were() {
        let mut filling = Filling::new();
        let block = 1000..1600;
        assert!(!filling.expects(600));
        filling.begin(block.clone());
        judge(&mut filling, |_| Some(0));
        assert!(!filling.expects(600), "it is not used yet");
        judge(&mut filling, |pages| Some(pages.len() as u32));
        assert!(filling.expects(600) && filling.expects(1000));
        // It tells of sizes nearby as long as nothing else does.
        assert!(filling.expects(64) && filling.expects(8191) && !filling.expects(63) && !filling.expects(8192));
        filling.begin(block.clone());
        judge(&mut filling, |pages| Some(u32::from(pages.start == block.start)));
        assert!(!filling.expects(600));
        // Once more is too little to be sure.
        for filled in [false, true, true] {
            assert_eq!(filling.expects(600), filled && filling.scores[9] > 0);
            filling.begin(block.clone());
            judge(&mut filling, |pages| Some(pages.len() as u32));
        }
        assert!(filling.expects(600));
    }

    #[test]
    fn what_is_given_back_or_not_told_is_no_evidence() {
        let mut filling = Filling::new();
        filling.begin(1000..2000);
        filling.forget(&(1999..2500));
        judge(&mut filling, |_| Some(1));
        filling.begin(1000..2000);
        judge(&mut filling, |_| None);
        filling.begin(1000..2000);
        // Who begins to use a block is not looked at for that.
        assert!(filling.due().is_none());
        // Another is watched in its place by the time that it was looked at.
        filling.look_again();
        let watched = filling.due().unwrap();
        filling.forget(&(1000..2000));
        filling.judge(&watched, look(&watched, |_| Some(1)));
        assert_eq!(filling.scores, [0; 32]);
    }

    #[test]
    fn a_policy_is_not_asked_twice() {
        let mut filling = Filling::new();
        for (policy, expected, least) in [(HugePages::Always, true, Some(0)), (HugePages::Never, false, None)] {
            filling.set_policy(policy);
            assert_eq!((filling.expects(1), filling.least()), (expected, least));
        }
    }
}
