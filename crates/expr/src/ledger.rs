//! The book that is kept while an expression is explained.

use crate::shape::Shape;
use crate::terms::Terms;

/// One pass over memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pass {
    /// The number of the block that it writes, which stands as `%1` in the formulas of later passes.
    pub id: usize,
    /// What is computed.
    pub formula: String,
    /// Of the result.
    pub shape: Shape,
    /// The type of the result's elements.
    pub element: &'static str,
    /// What is requested for the result: 0 where it is written in the place of block `in_place`, or to the output.
    pub bytes: usize,
    /// The block that the result replaces.
    pub in_place: Option<usize>,
    /// Whether the result is written to memory that the user gave.
    pub in_output: bool,
}

/// What is noted while an expression is explained.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) passes: Vec<Pass>,
    live: usize,
    pub(crate) peak: usize,
    pub(crate) terms: Terms,
}

impl Ledger {
    /// Returns the new block's number.
    pub(crate) fn produces(
        &mut self,
        formula: String,
        element: &'static str,
        shape: &Shape,
        bytes: usize,
        in_output: bool,
    ) -> usize {
        self.live = self.live.saturating_add(bytes);
        self.peak = self.peak.max(self.live);
        self.push(Pass { id: 0, formula, shape: *shape, element, bytes, in_place: None, in_output })
    }

    pub(crate) fn rewrites(&mut self, old: usize, formula: String, element: &'static str, shape: &Shape) -> usize {
        self.push(Pass { id: 0, formula, shape: *shape, element, bytes: 0, in_place: Some(old), in_output: false })
    }

    pub(crate) fn frees(&mut self, bytes: usize) {
        self.live = self.live.saturating_sub(bytes);
    }

    fn push(&mut self, pass: Pass) -> usize {
        let id = self.passes.len() + 1;
        self.passes.push(Pass { id, ..pass });
        id
    }
}
