//! `tenzor trace`: what is in a recording, and what becomes of it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use tenzor::trace::Limits;
use tenzor::trace::import::{self, ImportError, Imported, SnapshotLimits};
use tenzor::trace::recording::format::{Block, Header};
use tenzor::trace::recording::{Recording, What, Writer};

use crate::args::TraceCommand;
use crate::bytes::bytes;
use crate::source;

pub(crate) fn run(command: &TraceCommand) -> Result<()> {
    match command {
        TraceCommand::Info { file, json } => {
            let told = told(file)?;
            let mut out = io::stdout().lock();
            if *json {
                writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?;
            } else {
                write!(out, "{}", told.text())?;
            }
            Ok(out.flush()?)
        }
        TraceCommand::Convert { from, to } => convert(from, to),
        TraceCommand::Pack { from, to } => {
            let name = source::name(from);
            written(to, |out| open(from)?.pack(out).map_err(|error| anyhow!("{name}: {error}")))
        }
    }
}

/// What can be read and sought in: a file, or what was read of standard input, or decompressed.
trait Seekable: Read + Seek {}

impl<R: Read + Seek> Seekable for R {}

fn open(path: &Path) -> Result<Recording<Box<dyn Seekable>>> {
    let name = source::name(path);
    let mut plain = source::decompressed(source::open(path)?, &name)?;
    ensure!(source::is_recording(&mut plain, &name)?, "{name}: is no recording of Tenzor's");
    // One that lies in a file by itself is read as it is needed, however long it is.
    let input: Box<dyn Seekable> = match File::open(path) {
        Ok(file) if source::is_recording(&mut BufReader::new(&file), &name)? => Box::new(BufReader::new(file)),
        _ => {
            let mut all = Vec::new();
            plain.take(Limits::default().max_bytes).read_to_end(&mut all).with_context(|| name.clone())?;
            Box::new(Cursor::new(all))
        }
    };
    Recording::open(input).map_err(|error| anyhow!("{name}: {error}"))
}

/// Writes a file that is there as a whole, or not at all.
fn written(to: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let shown = || to.display().to_string();
    let mut beside = to.as_os_str().to_owned();
    beside.push(".part");
    let mut out = BufWriter::new(File::create(&beside).with_context(shown)?);
    let done = write(&mut out).and_then(|()| out.flush().with_context(shown));
    if done.is_err() {
        let _ = fs::remove_file(&beside);
        return done;
    }
    fs::rename(&beside, to).with_context(shown)
}

fn convert(from: &Path, to: &Path) -> Result<()> {
    let name = source::name(from);
    let mut input = source::decompressed(source::open(from)?, &name)?;
    let is_recording = source::is_recording(&mut input, &name)?;
    let to_text = to.extension().is_some_and(|extension| extension == OsStr::new("csv"));
    written(to, |out| match (is_recording, to_text) {
        (true, true) => open(from)?.write_csv(out).map_err(|error| anyhow!("{name}: {error}")),
        (true, false) => open(from)?.pack(out).map_err(|error| anyhow!("{name}: {error}")),
        (false, _) => {
            ensure!(!to_text, "{}: nothing but a recording is written as text", to.display());
            let header = Header { began: 0, process: 0, page: 4096, tick: TICK };
            let mut writer = Writer::new(out, header).with_context(|| to.display().to_string())?;
            let imported = imported(input, &mut writer).map_err(|error| anyhow!("{name}: {error}"))?;
            if imported.left_out > 0 {
                writeln!(io::stderr(), "{name}: {} events were left out", imported.left_out)?;
            }
            writer.finish().map(drop).with_context(|| to.display().to_string())
        }
    })
}

/// Imports what somebody recorded, as its first bytes tell: a pickle of PyTorch's, RMM's log, a file of heaptrack's, or our text.
fn imported<W: Write>(mut input: impl BufRead, out: &mut Writer<W>) -> Result<Imported, ImportError> {
    // Of those that are read a piece at a time, all of it.
    let all = Limits::default().with_max_bytes(u64::MAX).with_max_rows(u32::MAX);
    let start = input.fill_buf().unwrap_or_default();
    if start.starts_with(b"Thread,Time,") {
        import::rmm(input, all, out)
    } else if start.starts_with(b"v ") {
        import::heaptrack(input, all, out)
    } else if start.starts_with(b"\x80") || start.starts_with(b"(") || start.starts_with(b"}") {
        import::pytorch(input, SnapshotLimits::default(), out)
    } else {
        import::csv(input, Limits::default(), out)
    }
}

/// A millisecond.
const TICK: u64 = 1_000_000;

/// What is in a recording.
#[derive(Debug, Default, Serialize)]
struct Told {
    name: String,
    process: u32,
    began_unix_seconds: f64,
    seconds: f64,
    threads: usize,
    blocks: u64,
    requests: u64,
    frees: u64,
    resizes: u64,
    refusals: u64,
    steps: u64,
    /// In use when it began, and the most at an instant.
    live_at_first: u64,
    peak_live_bytes: u64,
    peak_live_blocks: usize,
    peak_at_seconds: f64,
    live_at_last_bytes: u64,
    lost: u64,
    out_of_order: u64,
    damaged: Vec<String>,
    is_cut: bool,
}

/// The most damages that are shown.
const DAMAGES: usize = 10;

fn told(path: &Path) -> Result<Told> {
    let mut recording = open(path)?;
    let header = recording.header();
    let seconds = |ticks: u64| Duration::from_nanos(ticks.saturating_mul(header.tick)).as_secs_f64();
    let mut told = Told {
        name: source::name(path),
        process: header.process,
        began_unix_seconds: Duration::from_nanos(header.began).as_secs_f64(),
        threads: recording.thread_numbers().count(),
        blocks: recording.blocks(),
        damaged: recording.damages().iter().map(ToString::to_string).collect(),
        is_cut: recording.is_cut(),
        ..Told::default()
    };
    let mut live = Live::default();
    let mut events = recording.events();
    for event in events.by_ref() {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                told.damaged.push(error.to_string());
                continue;
            }
        };
        told.seconds = told.seconds.max(seconds(event.tick));
        match event.what {
            What::Request(block) => {
                told.requests += 1;
                live.come(block);
            }
            What::Live(block) => {
                told.live_at_first += block.size;
                live.come(block);
            }
            What::Free(block) => {
                told.frees += 1;
                live.go(block);
            }
            What::Resize { from, to } => {
                told.resizes += 1;
                live.go(from);
                live.come(to);
            }
            What::Refused(_) => told.refusals += 1,
            What::Step(_) => told.steps += 1,
            _ => {}
        }
        if live.bytes > told.peak_live_bytes {
            (told.peak_live_bytes, told.peak_live_blocks) = (live.bytes, live.blocks.len());
            told.peak_at_seconds = seconds(event.tick);
        }
    }
    (told.lost, told.out_of_order, told.live_at_last_bytes) = (events.lost(), events.forced(), live.bytes);
    Ok(told)
}

/// The blocks in use, by address, and their bytes in sum.
#[derive(Default)]
struct Live {
    blocks: HashMap<u64, u64>,
    bytes: u64,
}

impl Live {
    fn come(&mut self, block: Block) {
        self.go(block);
        self.blocks.insert(block.address, block.size);
        self.bytes += block.size;
    }

    fn go(&mut self, block: Block) {
        self.bytes -= self.blocks.remove(&block.address).unwrap_or(0);
    }
}

impl Told {
    fn text(&self) -> String {
        let count = |count: u64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let mut text = format!("{}: process {}, {:.3} s\n", self.name, self.process, self.seconds);
        let mut line = |name: &str, told: String| text += &format!("  {name:<14}{told}\n");
        line("recorded", format!("{}, {}", count(self.threads as u64, "thread"), count(self.blocks, "block")));
        let kinds = [
            count(self.requests, "request"),
            count(self.frees, "free"),
            count(self.resizes, "resize"),
            count(self.refusals, "refusal"),
            count(self.steps, "step"),
        ];
        line("events", kinds.join(", "));
        if self.live_at_first > 0 {
            line("in use before", bytes(self.live_at_first).to_string());
        }
        let blocks = count(self.peak_live_blocks as u64, "block");
        let peak = format!("{} in {blocks}, at {:.3} s", bytes(self.peak_live_bytes), self.peak_at_seconds);
        line("peak live", peak);
        line("in use at last", bytes(self.live_at_last_bytes).to_string());
        if self.lost > 0 {
            line("lost", count(self.lost, "event"));
        }
        if self.out_of_order > 0 {
            line("out of order", count(self.out_of_order, "event"));
        }
        if self.is_cut {
            line("ends", "in the midst of a block, which is left out".to_owned());
        }
        for damage in self.damaged.iter().take(DAMAGES) {
            line("damaged", damage.clone());
        }
        if self.damaged.len() > DAMAGES {
            line("damaged", format!("{} more", self.damaged.len() - DAMAGES));
        }
        text
    }
}
