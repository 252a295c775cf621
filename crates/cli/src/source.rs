//! Where traces come from: three embedded ones, and the user's files.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use flate2::bufread::MultiGzDecoder;
use tenzor::memory::trace::Trace;

/// A trace that is part of the program.
#[derive(Debug)]
pub(crate) struct Embedded {
    name: &'static str,
    description: &'static str,
    csv_gz: &'static [u8],
}

const EMBEDDED: [Embedded; 3] = [
    Embedded {
        name: "bert1",
        description: "BERT-base encoder, inference, batch 1, 128 tokens",
        csv_gz: include_bytes!("../traces/bert1.csv.gz"),
    },
    Embedded {
        name: "resnet",
        description: "ResNet-50, inference, one image of 224 × 224",
        csv_gz: include_bytes!("../traces/resnet.csv.gz"),
    },
    Embedded {
        name: "train",
        description: "small convolutional net, training, batch 32",
        csv_gz: include_bytes!("../traces/train.csv.gz"),
    },
];

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Embedded(&'static Embedded),
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(trace) => f.write_str(trace.name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Source {
    pub(crate) fn embedded() -> Vec<Self> {
        EMBEDDED.iter().map(Self::Embedded).collect()
    }

    pub(crate) fn embedded_named(name: &str) -> Result<Self> {
        let trace = EMBEDDED.iter().find(|trace| trace.name == name);
        Ok(Self::Embedded(trace.with_context(|| format!("no embedded trace is called {name}"))?))
    }

    pub(crate) fn description(&self) -> Option<&'static str> {
        match self {
            Self::Embedded(trace) => Some(trace.description),
            Self::File(_) => None,
        }
    }

    /// The trace, checked, and found to have something to replay.
    pub(crate) fn load(&self) -> Result<Trace> {
        let trace = match self {
            Self::Embedded(trace) => self.read(trace.csv_gz),
            Self::File(path) => {
                let file = File::open(path).with_context(|| self.to_string())?;
                self.read(BufReader::new(file))
            }
        }?;
        ensure!(trace.requests_per_step() > 0, "{self}: expected a step with requests in it, found none");
        Ok(trace)
    }

    /// The parser bounds what it takes, so a small file that decompresses without end is stopped, too.
    fn read(&self, mut input: impl BufRead) -> Result<Trace> {
        const GZIP: [u8; 2] = [0x1f, 0x8b];
        let start = input.fill_buf().with_context(|| self.to_string())?;
        let parsed = if start.starts_with(&GZIP) {
            Trace::parse(BufReader::new(MultiGzDecoder::new(input)))
        } else {
            Trace::parse(input)
        };
        parsed.map_err(|error| anyhow!("{self}:{}: {}", error.line(), error.problem()))
    }
}
