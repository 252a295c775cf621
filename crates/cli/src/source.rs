//! Where traces come from: three embedded ones, and the user's files.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use tenzor::trace::recording::Recording;
use tenzor::trace::recording::format::MAGIC;
use tenzor::trace::{Limits, Trace};

/// A trace as it was found, plain or compressed. It is read once, so that it may come from a pipe; the processes that replay
/// it get it from this one.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) description: Option<&'static str>,
    pub(crate) bytes: Cow<'static, [u8]>,
}

/// Name, description, and the compressed file.
const EMBEDDED: [(&str, &str, &[u8]); 3] = [
    ("bert1", "BERT-base encoder, inference, batch 1, 128 tokens", include_bytes!("../traces/bert1.csv.gz")),
    ("resnet", "ResNet-50, inference, one image of 224 × 224", include_bytes!("../traces/resnet.csv.gz")),
    ("train", "small convolutional net, training, batch 32", include_bytes!("../traces/train.csv.gz")),
];

impl Source {
    pub(crate) fn embedded() -> impl Iterator<Item = Self> {
        EMBEDDED.into_iter().map(|(name, description, csv_gz)| Self {
            name: name.to_owned(),
            description: Some(description),
            bytes: Cow::Borrowed(csv_gz),
        })
    }

    pub(crate) fn file(path: &Path) -> Result<Self> {
        let name = name(path);
        // One byte more than the parser takes, so that it says what is wrong with a file that is too long.
        let most = Limits::default().max_bytes + 1;
        let mut bytes = Vec::new();
        open(path)?.take(most).read_to_end(&mut bytes).with_context(|| name.clone())?;
        Ok(Self { name, description: None, bytes: Cow::Owned(bytes) })
    }

    /// The trace, checked, and found to have something to replay.
    pub(crate) fn trace(&self) -> Result<Trace> {
        parse(&*self.bytes, &self.name)
    }
}

/// Reads a trace, plain or compressed. The parser bounds what it takes, so a small file that decompresses without end is stopped,
/// too.
pub(crate) fn parse(input: impl BufRead, name: &str) -> Result<Trace> {
    let parsed = Trace::parse(plain(input, name)?);
    let trace = parsed.map_err(|error| anyhow!("{name}:{}: {}", error.line(), error.problem()))?;
    ensure!(trace.requests_per_step() > 0, "{name}: expected a step with requests in it, found none");
    Ok(trace)
}

/// What stands for standard input in the place of a file.
const STANDARD_INPUT: &str = "-";

/// What a file is called in what is printed.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new(STANDARD_INPUT) { "standard input".to_owned() } else { path.display().to_string() }
}

/// A file, or standard input.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    Ok(Box::new(BufReader::new(File::open(path).with_context(|| name(path))?)))
}

/// How compressed files begin that are not read here.
const OTHERS: [(&str, &[u8]); 3] =
    [("xz", &[0xfd, b'7', b'z', b'X', b'Z']), ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]), ("bzip2", b"BZh")];

/// A file's text, decompressed if it is compressed by gzip; of a recording, what it is as text.
pub(crate) fn plain<'a>(input: impl BufRead + 'a, name: &str) -> Result<Box<dyn BufRead + 'a>> {
    let mut input = decompressed(input, name)?;
    if !is_recording(&mut input, name)? {
        return Ok(input);
    }
    let (mut bytes, mut text) = (Vec::new(), Vec::new());
    input.take(Limits::default().max_bytes).read_to_end(&mut bytes).with_context(|| name.to_owned())?;
    let recording = Recording::open(Cursor::new(bytes)).map_err(|error| anyhow!("{name}: {error}"));
    recording?.write_csv(&mut text).map_err(|error| anyhow!("{name}: {error}"))?;
    Ok(Box::new(Cursor::new(text)))
}

/// Whether a recording of Tenzor's begins here.
pub(crate) fn is_recording(input: &mut impl BufRead, name: &str) -> Result<bool> {
    Ok(input.fill_buf().with_context(|| name.to_owned())?.starts_with(&MAGIC))
}

/// What is in a file, decompressed if it is compressed by gzip, as its first bytes tell.
pub(crate) fn decompressed<'a>(mut input: impl BufRead + 'a, name: &str) -> Result<Box<dyn BufRead + 'a>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let start = input.fill_buf().with_context(|| name.to_owned())?;
    if let Some((format, _)) = OTHERS.iter().find(|(_, magic)| start.starts_with(magic)) {
        bail!("{name}: compressed by {format}; only gzip is read: try `{format} -dc FILE | tenzor … -`");
    }
    if start.starts_with(&GZIP) {
        return Ok(Box::new(BufReader::new(MultiGzDecoder::new(input))));
    }
    Ok(Box::new(input))
}
