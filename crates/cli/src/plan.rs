//! `tenzor plan`: places the buffers of problems and traces.

use std::fs;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use tenzor::memory::Bytes;
use tenzor::plan::{Plan, Planner, Problem, SpacePlan, Status, read_csv, write_csv};
use tenzor::trace::{self, Trace};

use crate::args::PlanTask;
use crate::bytes::bytes;
use crate::{picture, source};

/// A file to be planned.
struct Input {
    path: PathBuf,
    name: String,
    problem: Problem,
    /// The buffers' names; those of a trace have none.
    ids: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Row {
    file: String,
    space: u32,
    buffers: usize,
    lower_bound: u64,
    height: u64,
    gap: f64,
    status: &'static str,
    reason: String,
    seconds: f64,
    nodes: u64,
}

/// The effort where nothing else ends the search.
const EFFORT: u64 = 1 << 27;

/// Plans all files, and prints what came of it.
pub(crate) fn run(task: &PlanTask) -> Result<()> {
    let (inputs, problems): (Vec<_>, Vec<_>) = task.files.iter().map(|path| read(path, task)).partition(Result::is_ok);
    let problems: Vec<String> =
        problems.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(problems.is_empty(), problems.join("\n"));
    let planner = Planner::new().with_seed(task.seed);
    let planner = task.deadline.map_or(planner, |deadline| planner.with_deadline(deadline));
    let effort = task.effort.or(if task.deadline.is_none() { Some(EFFORT) } else { None });
    let planner = effort.map_or(planner, |effort| planner.with_effort(effort));
    let mut rows = Vec::new();
    let mut unsolved = 0;
    for input in inputs.iter().flatten() {
        let start = Instant::now();
        let plan = plan(&planner, input);
        let seconds = start.elapsed().as_secs_f64();
        unsolved += usize::from(!plan.is_feasible());
        write_results(task, input, &plan)?;
        let mut buffers = vec![0; plan.spaces().len()];
        input.problem.buffers().iter().for_each(|spec| buffers[spec.space as usize] += 1);
        let spaces = (0..).zip(buffers).zip(plan.spaces());
        rows.extend(spaces.map(|((space, buffers), result)| Row::new(input, space, buffers, result, seconds)));
    }
    let mut out = io::stdout().lock();
    if task.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
    } else {
        write!(out, "{}", text(&rows))?;
    }
    out.flush()?;
    ensure!(unsolved == 0, "{unsolved} of {} files have no plan within their capacity", task.files.len());
    Ok(())
}

fn read(path: &Path, task: &PlanTask) -> Result<Input> {
    let name = source::name(path);
    let (mut problem, ids) = parse(source::plain(source::open(path)?, &name)?, &name)?;
    for space in 0..problem.spaces() {
        problem.set_capacity(space, task.capacity.map(|Bytes(bytes)| bytes as u64))?;
    }
    for &(space, Bytes(capacity)) in &task.spaces {
        problem.set_capacity(space, Some(capacity as u64))?;
    }
    Ok(Input { path: path.to_owned(), name, problem, ids })
}

/// A problem, or a trace, as the first line tells.
fn parse(mut input: impl BufRead, name: &str) -> Result<(Problem, Option<Vec<String>>)> {
    let mut start = Vec::new();
    Read::take(&mut input, trace::HEADER.len() as u64).read_to_end(&mut start).with_context(|| name.to_owned())?;
    let is_trace = start == trace::HEADER.as_bytes();
    let input = start.chain(input);
    let error = |error: trace::ParseError| anyhow!("{name}:{}: {}", error.line(), error.problem());
    if is_trace {
        let trace = Trace::parse(input).map_err(error)?;
        Ok((Problem::from_trace(&trace).with_context(|| name.to_owned())?, None))
    } else {
        let (problem, ids) = read_csv(input).map_err(error)?;
        Ok((problem, Some(ids)))
    }
}

fn plan(planner: &Planner<'_>, input: &Input) -> Plan {
    // indicatif draws nothing where this is no terminal.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.enable_steady_tick(Duration::from_millis(200));
    let plan = planner.plan_with(&input.problem, &mut |progress| {
        let (height, lower) = (bytes(progress.height), bytes(progress.lower_bound));
        bar.set_message(format!("{}: {height}, at least {lower}", input.name));
    });
    bar.finish_and_clear();
    plan
}

fn write_results(task: &PlanTask, input: &Input, plan: &Plan) -> Result<()> {
    if let Some(out) = &task.csv {
        let mut csv = Vec::new();
        write_csv(&mut csv, &input.problem, input.ids.as_deref(), Some(plan.offsets()))?;
        write(out, task.files.len(), &input.path, "csv", &csv)?;
    }
    if let Some(out) = &task.svg {
        let title = input.path.file_name().unwrap_or_default().display().to_string();
        let svg = picture::draw(&title, &input.problem, plan)?;
        write(out, task.files.len(), &input.path, "svg", svg.as_bytes())?;
    }
    Ok(())
}

/// Writes a file, in a folder and under the input's name if there are several.
fn write(out: &Path, files: usize, input: &Path, extension: &str, contents: &[u8]) -> Result<()> {
    let path = if files > 1 {
        fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        let mut name = input.file_stem().unwrap_or_default().to_owned();
        name.push(format!(".plan.{extension}"));
        out.join(name)
    } else {
        out.to_owned()
    };
    fs::write(&path, contents).with_context(|| path.display().to_string())
}

impl Row {
    fn new(input: &Input, space: u32, buffers: usize, plan: &SpacePlan, seconds: f64) -> Self {
        let status = match plan.status {
            Status::Optimal => "optimal",
            Status::Feasible { .. } => "feasible",
            Status::Infeasible { .. } => "infeasible",
            Status::Unknown { .. } => "unknown",
        };
        Self {
            file: input.name.clone(),
            space,
            buffers,
            lower_bound: plan.lower_bound,
            height: plan.height,
            gap: plan.height.saturating_sub(plan.lower_bound) as f64 / plan.lower_bound.max(1) as f64,
            status,
            reason: plan.status.to_string(),
            seconds,
            nodes: plan.nodes,
        }
    }
}

/// The table, and below it why there is no plan where there is none.
fn text(rows: &[Row]) -> String {
    let mut table = Table::new();
    let columns = ["file", "buffers", "lower bound", "height", "gap", "status", "time", "nodes"];
    table.load_style(presets::NOTHING).set_header(columns);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let several = rows.iter().any(|row| row.space > 0);
    for row in rows {
        table.add_row([
            if several { format!("{}, space {}", row.file, row.space) } else { row.file.clone() },
            row.buffers.to_string(),
            row.lower_bound.to_string(),
            row.height.to_string(),
            format!("{:.2} %", row.gap * 100.0),
            row.status.to_owned(),
            format!("{:.2} s", row.seconds),
            row.nodes.to_string(),
        ]);
    }
    let mut text = format!("{}\n", table.trim_fmt());
    for row in rows.iter().filter(|row| row.status == "infeasible" || row.status == "unknown") {
        text.push_str(&format!("{}: {}\n", row.file, row.reason));
    }
    text
}
