//! What is run.

/// A program of the worker.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) description: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole program with a library of its own: counts in the summary.
    Whole,
    /// Buffers that come and go.
    Traffic,
    /// The same on one thread and on two; also with buffers that were there before.
    Scaling,
    /// Element-wise operations; also with buffers that were there before.
    Chain,
    /// Requests by size, nanoseconds each.
    Pairs,
}

impl Program {
    const fn new(name: &'static str, kind: Kind, description: &'static str) -> Self {
        Self { name, kind, description }
    }

    /// The feature of the worker without which it lacks this program.
    pub(crate) fn feature(&self) -> Option<&'static str> {
        match (self.kind, self.name) {
            (Kind::Whole, "ndarray") => None,
            (Kind::Whole, "burn") => Some("burn"),
            (Kind::Whole, _) => Some("candle"),
            _ => None,
        }
    }

    /// Whether it can do without an allocator.
    pub(crate) fn preallocates(&self) -> bool {
        matches!(self.kind, Kind::Chain | Kind::Scaling)
    }

    /// Whether its memory is worth a look when it does nothing.
    pub(crate) fn idles(&self) -> bool {
        !matches!(self.kind, Kind::Chain | Kind::Pairs)
    }
}

const CHAIN: &str = "max(a·b + c, 0)·d − e over arrays of f32, operation by operation, each into a new buffer";

pub(crate) const ALL: [Program; 18] = [
    Program::new("bert1", Kind::Whole, "candle: BERT-base, 128 tokens"),
    Program::new("bert8", Kind::Whole, "candle: BERT-base, 8 times 128 tokens"),
    Program::new("llama", Kind::Whole, "candle: a Llama of 12 layers of 768, prompt of 64 tokens and 128 more"),
    Program::new("resnet50", Kind::Whole, "candle: ResNet-50, one image of 224 × 224"),
    Program::new("train", Kind::Whole, "candle: a small convolutional net, forward, backward, AdamW, batch 32"),
    Program::new("ndarray", Kind::Whole, "ndarray: expressions of 256 KiB to 16 MiB, matrix algebra"),
    Program::new(
        "burn",
        Kind::Whole,
        "burn (flex): a perceptron of 784–1024–1024–10, forward, backward, AdamW, batch 64",
    ),
    Program::new("ring", Kind::Traffic, "16 live buffers, the oldest replaced: 1 KiB to 16 MiB, log-uniform"),
    Program::new("ring-uniform", Kind::Traffic, "16 live buffers, the oldest replaced: 1 KiB to 16 MiB, uniform"),
    Program::new(
        "producer-consumer",
        Kind::Traffic,
        "one thread writes buffers of 1 KiB to 4 MiB, another reads and frees them",
    ),
    Program::new(
        "two-threads",
        Kind::Scaling,
        "a ring of 4 KiB to 4 MiB on each of two threads; preallocated buffers show what the machine gives",
    ),
    Program::new("chain-256K", Kind::Chain, CHAIN),
    Program::new("chain-1M", Kind::Chain, CHAIN),
    Program::new("chain-4M", Kind::Chain, CHAIN),
    Program::new("chain-16M", Kind::Chain, CHAIN),
    Program::new("chain-64M", Kind::Chain, CHAIN),
    Program::new("chain-256M", Kind::Chain, CHAIN),
    Program::new("pairs", Kind::Pairs, "one request and its release, over and over"),
];
