//! The chart: time and memory of each program under each allocator, at one glance.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::contenders::{self, Contender};
use crate::programs::Kind;
use crate::summary::{ProgramResult, Results, Row};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: &str = "sans-serif";
const NAMES: i32 = 130;
const PANEL: i32 = 400;
const GAP: i32 = 30;
const TOP: i32 = 90;
/// Between the contenders of one program.
const LANE: i32 = 4;

pub(crate) fn draw(file: &Path, results: &Results) -> Result<()> {
    let shown = |result: &&ProgramResult| matches!(result.program.kind, Kind::Whole | Kind::Traffic);
    let programs: Vec<_> = results.programs.iter().filter(shown).collect();
    let contenders: Vec<_> = contenders::ALL
        .iter()
        .filter(|contender| programs.iter().any(|result| result.row(contender.name).is_some()))
        .collect();
    let band = LANE * (contenders.len() as i32 + 3);
    let size = (NAMES + 2 * (PANEL + GAP), TOP + band * programs.len() as i32 + 30);
    let root = SVGBackend::new(file, (size.0 as u32, size.1 as u32)).into_drawing_area();
    let drawn = || -> Result<(), DrawingAreaErrorKind<_>> {
        root.fill(&WHITE)?;
        legend(&root, &contenders)?;
        for (index, result) in programs.iter().enumerate() {
            let top = TOP + band * index as i32;
            if index % 2 == 0 {
                root.draw(&Rectangle::new([(0, top), (size.0, top + band)], RGBColor(244, 244, 244).filled()))?;
            }
            text(&root, result.program.name, (NAMES - 10, top + band / 2), 15, HPos::Right)?;
        }
        let bottom = TOP + band * programs.len() as i32;
        let time = Panel {
            left: NAMES,
            bottom,
            title: "time / fastest (left is better)",
            value: |row| Some(row.time_to_best),
        };
        let memory = Panel {
            left: NAMES + PANEL + GAP,
            bottom,
            title: "peak resident / peak requested bytes (left is better)",
            value: |row| row.peak_to_live,
        };
        time.draw(&root, &programs, &contenders, band)?;
        memory.draw(&root, &programs, &contenders, band)?;
        root.present()
    };
    drawn().map_err(|error| anyhow!("{}: {error}", file.display()))
}

struct Panel {
    left: i32,
    bottom: i32,
    title: &'static str,
    value: fn(&Row) -> Option<f64>,
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Panel {
    fn draw(&self, root: &Area, programs: &[&ProgramResult], contenders: &[&Contender], band: i32) -> Drawn {
        let values = programs.iter().flat_map(|result| &result.rows).filter_map(self.value);
        // Room for the marks beside the axes.
        let (low, high) = (0.95_f64.ln(), values.fold(2.0, f64::max).ln() + 0.05);
        let x = |value: f64| self.left + ((value.ln() - low) / (high - low) * f64::from(PANEL)) as i32;
        text(root, self.title, (self.left, TOP - 14), 15, HPos::Left)?;
        let ticks = [1.0_f64, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0];
        for tick in ticks.into_iter().filter(|tick| tick.ln() < high) {
            root.draw(&PathElement::new([(x(tick), TOP), (x(tick), self.bottom)], RGBColor(200, 200, 200)))?;
            text(root, &tick.to_string(), (x(tick), self.bottom + 12), 13, HPos::Center)?;
        }
        for (index, result) in programs.iter().enumerate() {
            for (lane, contender) in contenders.iter().enumerate() {
                if let Some(value) = result.row(contender.name).and_then(self.value) {
                    mark(root, contender, (x(value), TOP + band * index as i32 + LANE * (lane as i32 + 2)))?;
                }
            }
        }
        Ok(())
    }
}

fn legend(root: &Area, contenders: &[&Contender]) -> Drawn {
    for (index, contender) in contenders.iter().enumerate() {
        let (column, line) = (index as i32 / 2, index as i32 % 2);
        let (x, y) = (NAMES + column * 160, 18 + line * 20);
        mark(root, contender, (x, y))?;
        text(root, contender.name, (x + 10, y), 14, HPos::Left)?;
    }
    Ok(())
}

/// Filled for an allocator as it comes, a ring for one that is tuned; ours is larger.
fn mark(root: &Area, contender: &Contender, place: (i32, i32)) -> Drawn {
    let colour = match contender.worker {
        "glibc" => RGBColor(120, 120, 120),
        "jemalloc" => RGBColor(230, 140, 20),
        "mimalloc-v2" => RGBColor(90, 180, 230),
        "mimalloc-v3" => RGBColor(20, 90, 180),
        "snmalloc" => RGBColor(40, 150, 80),
        _ => RGBColor(210, 20, 50),
    };
    let (radius, style) = match contender.worker {
        "tenzor" => (6, colour.filled()),
        _ if contender.environment.is_empty() => (4, colour.filled()),
        _ => (4, colour.stroke_width(2)),
    };
    root.draw(&Circle::new(place, radius, style))
}

fn text(root: &Area, text: &str, place: (i32, i32), size: i32, side: HPos) -> Drawn {
    let style = (FONT, size).into_font().color(&BLACK).pos(Pos::new(side, VPos::Center));
    root.draw(&Text::new(text.to_owned(), place, style))
}
