//! The heap by itself, as its users use it, and under a system that fails.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blocks;
mod faulty;
mod huge;
mod model;
mod returning;

use std::alloc::Layout;
use std::ptr::NonNull;

use self::faulty::{Faulty, Manner};
use super::*;
use crate::heap::classes::Place;
use crate::heap::space::UNIT;
use crate::os::Linux;

/// Who makes calls for a heap.
pub(crate) trait Caller: Os {
    fn make(&self, errand: Errand<Self>) -> Return;
}

impl Caller for Linux {
    fn make(&self, errand: Errand<Self>) -> Return {
        errand.run()
    }
}

impl Caller for Faulty {
    /// Without the lock.
    fn make(&self, errand: Errand<Self>) -> Return {
        self.0.outside.set(true);
        let with = errand.run();
        self.0.outside.set(false);
        with
    }
}

/// By layouts, as the heap's users do.
impl<O: Caller> Heap<O> {
    fn obtain(&mut self, layout: Layout) -> Option<Granted> {
        self.obtain_in_pieces(layout, || {})
    }

    fn obtain_in_pieces(&mut self, layout: Layout, hold: impl Fn()) -> Option<Granted> {
        match classes::place(layout)? {
            Place::Run(run) => {
                if let Some(start) = self.obtain_at_once(run) {
                    return Some(Granted { start, dirty: 0..run.size });
                }
                let mut request = self.obtain_run(run)?;
                loop {
                    hold();
                    match self.proceed(&mut request) {
                        Progress::More => {}
                        Progress::Ready => break,
                        Progress::Lost => return None,
                    }
                }
                hold();
                let granted = self.granted(&request);
                if request.missed() {
                    self.keep_within_budget();
                }
                if let Some(promotion) = self.promotion_of(&mut request) {
                    let whole = promotion.run();
                    self.promoted(&promotion, whole);
                }
                Some(granted)
            }
            Place::Class(class) => {
                let mut granted = None;
                let misses = self.misses();
                self.obtain_blocks(class, 1, |block| granted = Some(block));
                hold();
                if self.misses() > misses {
                    self.keep_within_budget();
                }
                granted.map(|start| Granted { start, dirty: 0..layout.size() })
            }
        }
    }

    fn give_back(&mut self, block: NonNull<u8>, layout: Layout) {
        assert_eq!(self.view().block(block).ok(), classes::place(layout), "by its address");
        // SAFETY: the test's word.
        assert!(unsafe {
            match classes::place(layout).unwrap() {
                Place::Run(run) => self.give_back_run(run, block),
                Place::Class(class) => self.give_back_block(class, block),
            }
        });
    }

    fn resize_in_pieces(&mut self, block: NonNull<u8>, old: Run, new: Run, hold: impl Fn()) -> Option<Range<usize>> {
        // SAFETY: the test's word.
        match unsafe { self.resize(block, old, new) } {
            Resize::Done(dirty) => Some(dirty),
            Resize::Refused | Resize::Nowhere => None,
            Resize::Growing(mut growth) => loop {
                hold();
                match self.grow(&mut growth) {
                    Progress::More => {}
                    Progress::Ready => {
                        if growth.missed() {
                            self.keep_within_budget();
                        }
                        return Some(growth.dirty());
                    }
                    Progress::Lost => return None,
                }
            },
        }
    }

    /// Gives back what a goal says; returns how many pages went, and whether there is more to do.
    fn pursue(&mut self, mut goal: Goal) -> (u32, bool) {
        self.pursue_this(&mut goal);
        (goal.gone(), goal.is_unmet())
    }

    fn pursue_this(&mut self, goal: &mut Goal) {
        if let Some(look) = self.look() {
            self.saw(&look, look.run());
        }
        while let Some(errand) = self.errand(goal) {
            let with = self.pages.space().os().make(errand);
            self.returned(goal, with);
        }
    }

    fn keep_within_budget(&mut self) {
        let mut goal = self.keep_budget();
        self.pursue_this(&mut goal);
        self.settled(&goal);
    }

    /// Moves a block, and copies what cannot be moved.
    fn relocate_in_pieces(&mut self, block: NonNull<u8>, old: Run, new: Run, hold: impl Fn()) -> Option<NonNull<u8>> {
        // SAFETY: the test's word.
        let mut moving = unsafe { self.relocate(block, old, new) }?;
        hold();
        while self.move_on(&mut moving) {
            hold();
        }
        hold();
        let (to, moved) = (moving.to(), moving.moved());
        // SAFETY: within both blocks.
        let copy = |from: NonNull<u8>, to: NonNull<u8>, range: Range<usize>| unsafe {
            from.add(range.start).copy_to_nonoverlapping(to.add(range.start), range.len());
        };
        let progress = loop {
            match self.settle(&mut moving) {
                Progress::More => hold(),
                progress => break progress,
            }
        };
        if progress == Progress::Lost {
            copy(to, block, moved);
            self.call_off(&moving);
            return None;
        }
        for range in [0..moved.start, moved.end..old.size] {
            copy(block, to, range);
        }
        if moving.missed() {
            self.keep_within_budget();
        }
        self.arrive(&moving);
        Some(to)
    }

    fn trim_all(&mut self) -> usize {
        let mut all = 0;
        loop {
            let (pages, more) = self.pursue(self.trim());
            all += pages as usize * PAGE;
            if !more {
                return all;
            }
        }
    }

    fn promote(&mut self) -> bool {
        let (promotion, more) = self.promotion();
        if let Some(promotion) = promotion {
            let whole = promotion.run();
            self.promoted(&promotion, whole);
        }
        more
    }
}

/// A block whose memory is there.
fn filled<O: Caller>(heap: &mut Heap<O>, layout: Layout) -> NonNull<u8> {
    let block = heap.obtain(layout).unwrap().start;
    // SAFETY: the block was just granted.
    unsafe { block.write_bytes(1, layout.size()) };
    block
}

fn run_of(layout: Layout) -> Run {
    match classes::place(layout) {
        Some(Place::Run(run)) => run,
        _ => panic!("no run"),
    }
}

struct Live {
    block: NonNull<u8>,
    layout: Layout,
    stamp: u64,
}

/// Writes a stamp to each 64th word and to the last byte.
fn write(live: &Live) {
    let bytes = live.layout.size();
    for at in (0..bytes.saturating_sub(8)).step_by(512) {
        // SAFETY: within the block.
        unsafe { live.block.add(at).cast::<u64>().write_unaligned(live.stamp ^ at as u64) };
    }
    // SAFETY: within the block.
    unsafe { live.block.add(bytes - 1).write(live.stamp as u8) };
}

fn verify(live: &Live, bytes: usize) {
    for at in (0..bytes.saturating_sub(8)).step_by(512) {
        // SAFETY: within the block.
        let found = unsafe { live.block.add(at).cast::<u64>().read_unaligned() };
        assert_eq!(found, live.stamp ^ at as u64, "byte {at} of {:?}", live.layout);
    }
    if bytes == live.layout.size() {
        // SAFETY: within the block.
        assert_eq!(unsafe { live.block.add(bytes - 1).read() }, live.stamp as u8);
    }
}

fn operations(least: u64) -> u64 {
    std::env::var("TENZOR_TEST_OPS").ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(least)
}
