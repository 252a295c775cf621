//! Who holds the peak, and what comes next to it.

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Seek};
use std::ops::ControlFlow;

use serde::Serialize;
use tenzor_trace::recording::{Recording, What};

use crate::gains::without;
use crate::holders::{Holders, Origin, Row, Sums};
use crate::instants::{Instant, find};
use crate::labels::Labels;
use crate::live::Live;
use crate::names::Names;
use crate::pass::{Flaws, pass};
use crate::words::{bytes, count, share, short};

/// Who holds the peak, and the second-highest instant: what mending the peak alone gains at most. Shown as a few lines.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Peak {
    /// The instant of most live bytes, the first if there are several.
    #[serde(flatten)]
    pub at: Instant,
    /// How many steps there are.
    pub steps: u32,
    /// Who holds what is live then.
    pub holders: Holders,
    /// What tells most about these: `path`, `stack` or `size`, the first by which there are several.
    pub by: &'static str,
    /// What there would be to gain of the first of them.
    pub gains: Vec<Gain>,
    /// The highest instant that is separate from the peak, if there is one.
    pub second: Option<Second>,
    /// What of the recording is missing.
    #[serde(flatten)]
    pub flaws: Flaws,
}

/// The highest instant that is separate from the peak: in between, live fell by a tenth or more of what this instant is above what was live when the first step began (above
/// nothing, if the first step is later than both, or began with more).
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Second {
    /// The instant.
    #[serde(flatten)]
    pub at: Instant,
    /// How much lower than the peak it is.
    pub lower_by: u64,
    /// Who holds what is live then.
    pub holders: Holders,
    /// Who holds less than at the peak, and how much less; these are told apart by [`Peak::by`].
    pub not_in_it: Vec<Row>,
}

/// What there would be to gain if one of the holders held nothing, at any time.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Gain {
    /// The holder.
    pub name: String,
    /// How much lower the peak would be: what another instant has without this holder may be as high.
    pub bytes: u64,
}

/// Finds who holds the peak. Three readings; memory for the blocks in use.
pub fn peak<R: Read + Seek>(recording: &mut Recording<R>) -> Peak {
    let found = find(recording);
    let Some(at) = found.peak else { return Peak { steps: found.steps, flaws: found.flaws, ..Peak::default() } };
    let (labels, sums) = sums(recording, at, found.second);
    let names = Names(recording);
    let of = |instant: Instant| sums.iter().find(|(event, _)| *event == instant.event).map(|(_, sums)| sums);
    let named = |instant: Instant| {
        let named = |sums: &Sums| sums.named(&names, &labels, instant.step, found.steps > 0);
        of(instant).map(named).unwrap_or_default()
    };
    let holders = named(at);
    let by = holders.main();
    let second = found.second.map(|second| {
        let there = named(second);
        let not_in_it = less(holders.by(by), there.by(by));
        Second { at: second, lower_by: at.bytes - second.bytes, holders: there, not_in_it }
    });
    let rows = &holders.by(by)[..holders.by(by).len().min(ROWS)];
    let held = of(at).map(|sums| sums.held(&names, &labels, by, rows)).unwrap_or_default();
    let rest = without(recording, &held, rows.len());
    let gain = |(row, rest): (&Row, u64)| Gain { name: row.name.clone(), bytes: at.bytes.saturating_sub(rest) };
    let gains = rows.iter().zip(rest).map(gain).collect();
    Peak { at, steps: found.steps, holders, by, gains, second, flaws: found.flaws }
}

/// Who holds what at one or two instants.
fn sums<R: Read + Seek>(
    recording: &mut Recording<R>,
    peak: Instant,
    second: Option<Instant>,
) -> (Labels, Vec<(u64, Sums)>) {
    let (mut live, mut labels, mut sums, mut steps) = (Live::default(), Labels::default(), Vec::new(), 0_u32);
    let second = second.map_or(peak.event, |second| second.event);
    pass(recording, |event, happened| {
        labels.happen(happened);
        steps = steps.saturating_add(u32::from(matches!(happened.what, What::Step(_))));
        live.happen(&happened.what, |_, _| {
            if matches!(happened.what, What::Live(_)) {
                return Origin::before();
            }
            let stack = happened.stack.and_then(|stack| u32::try_from(stack).ok());
            Origin::new(labels.of(happened.thread), happened.thread, stack, steps)
        });
        if event == peak.event || event == second {
            sums.push((event, Sums::new(&live)));
        }
        if event >= peak.event.max(second) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (labels, sums)
}

/// What some hold more than others of the same name.
fn less(rows: &[Row], others: &[Row]) -> Vec<Row> {
    let others: HashMap<_, _> = others.iter().map(|row| (&row.name, row)).collect();
    let left = |row: &Row| {
        let other = others.get(&row.name).map_or((0, 0), |row| (row.bytes, row.blocks));
        let bytes = row.bytes.checked_sub(other.0).filter(|bytes| *bytes > 0)?;
        Some(Row { name: row.name.clone(), bytes, blocks: row.blocks.saturating_sub(other.1) })
    };
    let mut less: Vec<_> = rows.iter().filter_map(left).collect();
    less.sort_by_key(|row| std::cmp::Reverse((row.bytes, row.blocks)));
    less
}

impl Holders {
    /// What says most of who holds it: the first of which there are several.
    fn main(&self) -> &'static str {
        let informative = [("path", &self.paths), ("stack", &self.stacks)];
        informative.into_iter().find(|(_, rows)| rows.len() > 1).map_or("size", |(name, _)| name)
    }

    fn by(&self, name: &str) -> &[Row] {
        match name {
            "path" => &self.paths,
            "stack" => &self.stacks,
            _ => &self.sizes,
        }
    }
}

/// The most rows that are shown of each kind.
const ROWS: usize = 5;

/// The most addresses of a stack that are shown.
const FRAMES: usize = 4;

/// The first rows in a line, and how many others there are.
fn line(rows: &[Row], whole: u64) -> String {
    let mut parts: Vec<_> =
        rows.iter().take(ROWS).map(|row| format!("{} {}", shown(&row.name), share(row.bytes, whole))).collect();
    if let Some(others) = rows.get(ROWS..).filter(|others| !others.is_empty()) {
        let bytes = others.iter().fold(0_u64, |sum, row| sum.saturating_add(row.bytes));
        parts.push(format!("{} {}", count(others.len() as u64, "other"), share(bytes, whole)));
    }
    parts.join(", ")
}

/// A name in a line: of a stack the innermost addresses.
fn shown(name: &str) -> String {
    if name.starts_with("0x") && name.split(' ').count() > FRAMES {
        let frames: Vec<_> = name.split(' ').take(FRAMES).collect();
        return format!("{} …", frames.join(" "));
    }
    short(name).into_owned()
}

impl Instant {
    /// When it was, in a recording of so many steps.
    pub(crate) fn place(&self, steps: u32) -> String {
        match (self.step, steps) {
            (_, 0) => format!("at {:.3} s", self.seconds),
            (0, _) => format!("at {:.3} s, before the first of {}", self.seconds, count(steps.into(), "step")),
            (step, _) => format!("at {:.3} s, in step {step} of {steps}", self.seconds),
        }
    }
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut say = |name: &str, told: String| writeln!(f, "  {name:<14}{told}");
        let (at, holders) = (self.at, &self.holders);
        if at.bytes == 0 {
            say("peak live", "nothing is requested in it".to_owned())?;
            return self.flaws.fmt(f);
        }
        let blocks = count(at.blocks, "block");
        say("peak live", format!("{} in {blocks}, {}", bytes(at.bytes), at.place(self.steps)))?;
        let main = holders.by(self.by);
        let held = |held: u64, blocks: u64| {
            let (share, bytes) = (share(held, at.bytes), bytes(held).to_string());
            format!("{:<31}", format!("{share:>5} {bytes:>10} in {}", count(blocks, "block")))
        };
        for (row, gain) in main.iter().zip(&self.gains) {
            let lower = match gain.bytes {
                by if by == row.bytes => String::new(),
                0 => ", without which the peak is as high".to_owned(),
                by => format!(", without which the peak is {} lower", bytes(by)),
            };
            say("", format!("{} {}{lower}", held(row.bytes, row.blocks), shown(&row.name)))?;
        }
        if let Some(others) = main.get(self.gains.len()..).filter(|others| !others.is_empty()) {
            let left = others.iter().fold((0_u64, 0), |sum, row| (sum.0.saturating_add(row.bytes), sum.1 + row.blocks));
            say("", format!("{} {}", held(left.0, left.1), count(others.len() as u64, "other")))?;
        }
        let lines = [
            ("by label", &holders.labels, holders.labels != holders.paths),
            ("by size", &holders.size_classes, true),
            ("by age", &holders.ages, true),
            ("by step", &holders.steps, holders.steps.len() > holders.ages.len()),
            ("by thread", &holders.threads, true),
            ("by source", &holders.sources, true),
            ("by stack", &holders.stacks, self.by != "stack"),
        ];
        for (name, rows, is_new) in lines {
            if rows.len() > 1 && is_new {
                say(name, line(rows, at.bytes))?;
            }
        }
        match &self.second {
            None => say("second", "none: live does not fall and rise again".to_owned())?,
            Some(second) => {
                let lower = match second.lower_by {
                    0 => "as high".to_owned(),
                    by => format!("{} lower ({})", bytes(by), share(by, at.bytes)),
                };
                say("second", format!("{}, {lower}, {}", bytes(second.at.bytes), second.at.place(self.steps)))?;
                let less = match &second.not_in_it[..] {
                    [] => "nothing: the same hold as much of it".to_owned(),
                    rows => not_in_it(rows),
                };
                say("not in it", less)?;
            }
        }
        self.flaws.fmt(f)
    }
}

/// Bytes of the first rows, in a line.
fn not_in_it(rows: &[Row]) -> String {
    let mut parts: Vec<_> =
        rows.iter().take(ROWS).map(|row| format!("{} of {}", bytes(row.bytes), shown(&row.name))).collect();
    if let Some(others) = rows.get(ROWS..).filter(|others| !others.is_empty()) {
        let sum = others.iter().fold(0_u64, |sum, row| sum.saturating_add(row.bytes));
        parts.push(format!("{} of {}", bytes(sum), count(others.len() as u64, "other")));
    }
    parts.join(", ")
}
