//! A space of a problem as the solvers see it: items in sections, and which buffers they are.

use std::collections::BinaryHeap;
use std::ops::Range;

use super::core::{Core, Piece};
use super::problem::Problem;

/// A space as the solvers see it.
#[derive(Debug)]
pub(super) struct Lowered {
    pub(super) core: Core,
    /// The buffers of all items, and where those of each begin, and the last end.
    members: Vec<u32>,
    firsts: Vec<usize>,
    /// Buffers that take no room, and their offsets.
    pub(super) free: Vec<(u32, u64)>,
    /// When each section begins, and when the last ends.
    pub(super) times: Vec<u64>,
}

impl Lowered {
    /// What the solvers see of the buffers of a space, whose indices are `own`.
    pub(super) fn new(problem: &Problem, own: &[u32]) -> Self {
        let buffers = problem.buffers();
        let own = || own.iter().map(|&index| (index, &buffers[index as usize]));
        // Buffers of a group follow each other.
        let mut order: Vec<(u64, u32)> = own()
            .map(|(index, spec)| (spec.alias.map_or(u64::from(index) << 32, |alias| u64::from(alias) << 32 | 1), index))
            .collect();
        order.sort_unstable();
        let mut times = Vec::new();
        for (_, spec) in own() {
            spec.uses().for_each(|range| times.extend([range.start, range.end]));
        }
        times.sort_unstable();
        times.dedup();
        let section = sections(&times);
        let mut core = Core::new(times.len().saturating_sub(1) as u32);
        let (mut members, mut firsts) = (Vec::with_capacity(order.len()), vec![0]);
        let (mut free, mut pieces) = (Vec::new(), Vec::new());
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            for spec in group.iter().map(|&(_, index)| &buffers[index as usize]).filter(|spec| spec.size > 0) {
                pieces.extend(spec.uses().map(|Range { start, end }| Piece {
                    start: section(start),
                    end: section(end),
                    size: spec.size,
                }));
            }
            make_disjoint(&mut pieces);
            let indices = group.iter().map(|&(_, index)| index);
            let Some(&(_, first)) = group.first() else { continue };
            let (alignment, offset) = problem.demands(&buffers[first as usize]);
            if pieces.is_empty() {
                // Nothing is ever there: it may be anywhere.
                free.extend(indices.map(|index| (index, offset.unwrap_or(0))));
            } else {
                members.extend(indices);
                firsts.push(members.len());
                core.push(pieces.drain(..), alignment, offset);
            }
        }
        drop(section);
        Self { core, members, firsts, free, times }
    }

    /// The buffers of each item.
    pub(super) fn members(&self) -> impl Iterator<Item = &[u32]> {
        self.firsts.windows(2).map(|bounds| &self.members[bounds[0]..bounds[1]])
    }
}

/// The number of the section that begins at a time, which is one of these. Where times are dense, a table saves the search.
fn sections(times: &[u64]) -> impl Fn(u64) -> u32 {
    let first = times.first().copied().unwrap_or(0);
    let span = times.last().copied().unwrap_or(0) - first;
    let mut table = Vec::new();
    if span <= 8 * times.len() as u64 {
        table.resize(span as usize + 1, 0);
        for (section, &time) in (0..).zip(times) {
            table[(time - first) as usize] = section;
        }
    }
    move |time| match table.get((time - first) as usize) {
        Some(&section) => section,
        None => times.partition_point(|&other| other < time) as u32,
    }
}

/// Makes disjoint ones of pieces that may overlap in time: the larger counts.
fn make_disjoint(pieces: &mut Vec<Piece>) {
    if pieces.len() < 2 {
        return;
    }
    let mut times: Vec<u32> = pieces.iter().flat_map(|piece| [piece.start, piece.end]).collect();
    times.sort_unstable();
    times.dedup();
    pieces.sort_unstable_by_key(|piece| piece.start);
    // Those that have begun, the largest on top.
    let mut open = BinaryHeap::new();
    let mut next = pieces.iter().peekable();
    let mut disjoint: Vec<Piece> = Vec::new();
    for window in times.windows(2) {
        let &[start, end] = window else { continue };
        while let Some(piece) = next.next_if(|piece| piece.start <= start) {
            open.push((piece.size, piece.end));
        }
        while open.peek().is_some_and(|&(_, end)| end <= start) {
            open.pop();
        }
        let Some(&(size, _)) = open.peek() else { continue };
        match disjoint.last_mut().filter(|last| last.end == start && last.size == size) {
            Some(last) => last.end = end,
            None => disjoint.push(Piece { start, end, size }),
        }
    }
    *pieces = disjoint;
}
