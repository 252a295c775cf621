//! Where traces come from: three embedded ones, and the user's files.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use flate2::bufread::MultiGzDecoder;
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
        let name = path.display().to_string();
        // One byte more than the parser takes, so that it says what is wrong with a file that is too long.
        let most = Limits::default().max_bytes + 1;
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
        read.with_context(|| name.clone())?;
        Ok(Self { name, description: None, bytes: Cow::Owned(bytes) })
    }

    /// The trace, checked, and found to have something to replay.
    pub(crate) fn trace(&self) -> Result<Trace> {
        parse(&*self.bytes, &self.name)
    }
}

/// Reads a trace, plain or compressed. The parser bounds what it takes, so a small file that decompresses without end is stopped,
/// too.
pub(crate) fn parse(mut input: impl BufRead, name: &str) -> Result<Trace> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let start = input.fill_buf().with_context(|| name.to_owned())?;
    let parsed = if start.starts_with(&GZIP) {
        Trace::parse(BufReader::new(MultiGzDecoder::new(input)))
    } else {
        Trace::parse(input)
    };
    let trace = parsed.map_err(|error| anyhow!("{name}:{}: {}", error.line(), error.problem()))?;
    ensure!(trace.requests_per_step() > 0, "{name}: expected a step with requests in it, found none");
    Ok(trace)
}
