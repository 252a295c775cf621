//! Results of a reduction that are computed anew, where that may be necessary: what variances have too much, as means are rounded.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

use crate::fill::in_parts;
use crate::math::Element;
use crate::ops::Sum;
use crate::simd::Mode;
use crate::slots::written;
use crate::source::{Folded, Tile};
use crate::walk::TILE;

use super::order::Order;
use super::work::Work;

/// Which results of a reduction are computed anew, and how.
pub(in crate::nodes) trait Revision<T>: Sync {
    /// Whether one is of the results from this number on.
    fn is_any_doubtful(&self, first: usize, results: &[T]) -> bool;
    /// What the result of this number becomes, given the sum of the values of another source; itself, if it is none of these.
    fn revised(&self, number: usize, result: T, sum: T) -> T;
}

/// Computes some results anew, with the sums of a source whose largest tensor is theirs, and whose axes are in that order already. The others cost nothing.
pub(in crate::nodes) fn revise<T: Element>(
    values: &dyn Folded<T, Sum>,
    order: &Order,
    mode: Mode,
    results: &mut [T],
    revision: &impl Revision<T>,
) {
    let work = Work::new(values, order, None, mode);
    let most = work.share(results.len());
    in_parts(results, 0, work.unit(), most, &|results, first| work.revise(results, first, revision));
}

impl<T: Element> Work<'_, T, Sum> {
    /// Changes some results of an earlier work, from the one of number `first` on.
    fn revise(&self, results: &mut [T], first: usize, revision: &impl Revision<T>) {
        let step = self.step();
        let batch = TILE / step * step;
        let mut tile = Tile::<T>::default();
        for (batch, first) in results.chunks_mut(batch).zip((first..).step_by(batch)) {
            if !revision.is_any_doubtful(first, batch) {
                continue;
            }
            for (results, first) in batch.chunks_mut(step).zip((first..).step_by(step)) {
                if !revision.is_any_doubtful(first, results) {
                    continue;
                }
                let slots = tile.slots(results.len());
                self.write_from(slots, first);
                // SAFETY: it writes to all.
                let sums = unsafe { written(slots) };
                for ((result, &sum), number) in results.iter_mut().zip(&*sums).zip(first..) {
                    *result = revision.revised(number, *result, sum);
                }
            }
        }
    }
}
