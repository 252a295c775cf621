//! `tenzor trace`: what is in a recording, and what becomes of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use tenzor::trace::Limits;
use tenzor::trace::import::{self, ImportError, Imported, SnapshotLimits};
use tenzor::trace::recording::format::Header;
use tenzor::trace::recording::{ConvertError, Recording, Writer};
use tenzor_report::{Summary, summary};

use crate::args::TraceCommand;
use crate::source;

pub(crate) fn run(command: &TraceCommand) -> Result<()> {
    match command {
        TraceCommand::Info { file, json } => {
            let (name, told) = (source::name(file), summary(&mut open(file)?));
            let mut out = io::stdout().lock();
            if *json {
                writeln!(out, "{}", serde_json::to_string_pretty(&Named { name, told })?)?;
            } else {
                write!(out, "{name}: process {}, {:.3} s\n{told}", told.process, told.seconds)?;
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

/// What is in a recording, and what that is called.
#[derive(Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    told: Summary,
}

/// What can be read and sought in: a file, or what was read of standard input, or decompressed.
pub(crate) trait Seekable: Read + Seek {}

impl<R: Read + Seek> Seekable for R {}

pub(crate) fn open(path: &Path) -> Result<Recording<Box<dyn Seekable>>> {
    let name = source::name(path);
    let mut plain = source::decompressed(source::open(path)?, &name)?;
    ensure!(source::is_recording(&mut plain, &name)?, "{name}: is no recording of Tenzor's; {CONVERT}");
    opened(path, plain)
}

/// A recording, or one that is made of text in memory.
pub(crate) fn open_or_make(path: &Path) -> Result<Recording<Box<dyn Seekable>>> {
    let name = source::name(path);
    let mut plain = source::decompressed(source::open(path)?, &name)?;
    if source::is_recording(&mut plain, &name)? {
        return opened(path, plain);
    }
    let header = Header { began: 0, process: 0, page: 4096, tick: TICK };
    let mut writer = Writer::new(Cursor::new(Vec::new()), header).with_context(|| name.clone())?;
    import::csv(plain, Limits::default(), &mut writer).map_err(|error| match error {
        ImportError::Line(error) => anyhow!("{name}:{}: {}", error.line(), error.problem()),
        error => anyhow!("{name}: {error}"),
    })?;
    let made: Box<dyn Seekable> = Box::new(writer.finish().with_context(|| name.clone())?);
    Recording::open(made).map_err(|error| anyhow!("{name}: {error}"))
}

/// The recording of that path, of which the beginning is at hand.
fn opened(path: &Path, plain: Box<dyn BufRead>) -> Result<Recording<Box<dyn Seekable>>> {
    let name = source::name(path);
    // One that lies in a file by itself is read as it is needed, however long it is.
    let input: Box<dyn Seekable> = match File::open(path) {
        Ok(file) if source::is_recording(&mut BufReader::new(&file), &name)? => Box::new(BufReader::new(file)),
        _ => {
            let (mut all, most) = (Vec::new(), Limits::default().max_bytes);
            plain.take(most + 1).read_to_end(&mut all).with_context(|| name.clone())?;
            ensure!(all.len() as u64 <= most, "{name}: too long to be read but from a file, uncompressed");
            Box::new(Cursor::new(all))
        }
    };
    Recording::open(input).map_err(|error| anyhow!("{name}: {error}"))
}

/// What makes a recording of what is none.
const CONVERT: &str = "'tenzor trace convert' makes one of text, or of what PyTorch, RMM or heaptrack recorded";

/// Writes a file that is there as a whole, or not at all.
pub(crate) fn written(to: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
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

/// What a recording is written as, which the end of the file's name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Recording,
    Text,
    Collapsed,
    Pprof,
    Perfetto,
}

impl Format {
    const ENDS: [(&str, Self); 7] = [
        (".csv", Self::Text),
        (".folded", Self::Collapsed),
        (".collapsed", Self::Collapsed),
        (".pb.gz", Self::Pprof),
        (".pprof", Self::Pprof),
        (".perfetto-trace", Self::Perfetto),
        (".pftrace", Self::Perfetto),
    ];

    fn of(path: &Path) -> Self {
        let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
        Self::ENDS.into_iter().find(|(end, _)| name.ends_with(end)).map_or(Self::Recording, |(_, format)| format)
    }

    fn write(self, recording: &mut Recording<impl Read + Seek>, out: impl Write) -> Result<(), ConvertError> {
        match self {
            Self::Recording => recording.pack(out),
            Self::Text => recording.write_csv(out),
            Self::Collapsed => recording.write_collapsed(out),
            Self::Pprof => recording.write_pprof(out),
            Self::Perfetto => recording.write_perfetto(out),
        }
    }
}

fn convert(from: &Path, to: &Path) -> Result<()> {
    let (name, format) = (source::name(from), Format::of(to));
    let mut input = source::decompressed(source::open(from)?, &name)?;
    let is_recording = source::is_recording(&mut input, &name)?;
    written(to, |out| {
        if is_recording {
            return format.write(&mut opened(from, input)?, out).map_err(|error| anyhow!("{name}: {error}"));
        }
        ensure!(
            format == Format::Recording,
            "{name}: is no recording; convert it to one first, and that to {}",
            to.display()
        );
        let header = Header { began: 0, process: 0, page: 4096, tick: TICK };
        let mut writer = Writer::new(out, header).with_context(|| to.display().to_string())?;
        let imported = imported(input, &mut writer).map_err(|error| anyhow!("{name}: {error}"))?;
        if imported.left_out > 0 {
            writeln!(io::stderr(), "{name}: {} events were left out", imported.left_out)?;
        }
        writer.finish().map(drop).with_context(|| to.display().to_string())
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
