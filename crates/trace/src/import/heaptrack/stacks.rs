//! The tree that stacks are leaves of.

use std::io::BufRead;

use super::Lines;
use crate::text::ParseError;

/// The most addresses of a stack, the innermost ones.
const DEPTH: usize = 64;

/// Addresses and their callers; each is known by its number, from 1.
#[derive(Debug, Default)]
pub(super) struct Stacks(Vec<Trace>);

/// An address, and the number of its caller, which is less than its own.
#[derive(Debug, Clone, Copy)]
struct Trace {
    ip: u64,
    parent: u32,
    is_named: bool,
}

impl Stacks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next trace.
    pub(super) fn push<R: BufRead>(&mut self, lines: &Lines<R>, ip: u64, parent: u64) -> Result<(), ParseError> {
        if parent > self.0.len() as u64 {
            return Err(self.missing(lines, "parent", parent));
        }
        // There are no more than lines, whose number fits.
        self.0.push(Trace { ip, parent: parent as u32, is_named: false });
        Ok(())
    }

    /// The addresses of a trace's stack, the first time that it is asked for.
    pub(super) fn name<R: BufRead>(&mut self, lines: &Lines<R>, trace: u64) -> Result<Option<Vec<u8>>, ParseError> {
        if trace == 0 {
            return Ok(None);
        }
        let Some(first) = at(trace).and_then(|at| self.0.get_mut(at)) else {
            return Err(self.missing(lines, "trace", trace));
        };
        if std::mem::replace(&mut first.is_named, true) {
            return Ok(None);
        }
        let traces = std::iter::successors(Some(*first), |trace| self.0.get(at(trace.parent.into())?).copied());
        Ok(Some(traces.take(DEPTH).flat_map(|trace| trace.ip.to_le_bytes()).collect()))
    }

    fn missing<R: BufRead>(&self, lines: &Lines<R>, field: &'static str, found: u64) -> ParseError {
        let expected = format!("the number of one of {} 't' lines before", self.0.len());
        lines.error(expected, found.to_string()).in_field(field)
    }
}

/// The place of a number.
fn at(number: u64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}
