//! Snapshots of PyTorch's memory.

mod device;
mod input;
mod pickle;
mod scalar;
mod snapshot;
mod value;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Write};

use snapshot::Snapshot;

use super::{ImportError, Imported};
use crate::recording::Writer;

/// What a snapshot may take at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotLimits {
    /// Bytes of memory. An event takes about 200, and as much again while a list of them grows.
    pub max_memory: u64,
}

impl Default for SnapshotLimits {
    /// 1 GiB.
    fn default() -> Self {
        Self { max_memory: 1 << 30 }
    }
}

impl SnapshotLimits {
    /// Sets [`max_memory`](Self::max_memory).
    #[must_use]
    pub fn with_max_memory(self, max_memory: u64) -> Self {
        Self { max_memory, ..self }
    }
}

/// Imports a snapshot of PyTorch's caching allocator, as `torch.cuda.memory._dump_snapshot` writes it: the pickle of a dict with `segments` and `device_traces`, of any
/// protocol from 0 to 5. The writer's header should have ticks of a millisecond.
///
/// The pickle is read as data: what would load a class or call a function is an error, and nothing is run. What follows the pickle is not read.
///
/// ```
/// use std::io::Cursor;
///
/// use tenzor_trace::import::{self, SnapshotLimits};
/// use tenzor_trace::recording::format::Header;
/// use tenzor_trace::recording::{Recording, What, Writer};
///
/// // pickle.dumps({"device_traces": [[{"action": "alloc", "addr": 4096, "size": 100}]]}, 0), with less in the memo
/// let pickle = b"(dVdevice_traces\n(((dVaction\nValloc\nsVaddr\nI4096\nsVsize\nI100\nslls.";
/// let header = Header { began: 0, process: 0, page: 4096, tick: 1_000_000 };
/// let mut writer = Writer::new(Cursor::new(Vec::new()), header)?;
/// import::pytorch(&pickle[..], SnapshotLimits::default(), &mut writer)?;
/// let mut recording = Recording::open(writer.finish()?)?;
/// let event = recording.events().next().unwrap()?;
/// assert!(matches!(event.what, What::Request(block) if (block.address, block.size) == (4096, 100)));
///
/// let error = import::pytorch(&b"cos\nsystem\n."[..], SnapshotLimits::default(), &mut Writer::new(Vec::new(), header)?);
/// assert!(error.unwrap_err().to_string().starts_with("byte 0: GLOBAL "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What becomes of it
///
/// Device *n* is thread *n*, and source *n* + 1, of the name `pool pytorch:n`. What threads of the program did is not in a snapshot.
///
/// | in the snapshot | in the recording |
/// |---|---|
/// | `alloc` | a request; missed, if the allocator took a segment, of which the block has some, just before |
/// | `free_completed` | a free. In a snapshot that has none of these at all, `free_requested` is |
/// | `oom` | a refusal |
/// | `segment_free`, `segment_unmap` | memory that went back |
/// | a block that is freed, and was not allocated before | is in use when the recording begins |
/// | a block of `segments` in a state of use (`active_…`), and not in the trace | the same |
///
/// A trace that lost its oldest entries says no more of what was in use before: what was allocated and freed in the part that is lost is not known. Sizes are those requested, where
/// the snapshot has them. Blocks are aligned to 512 bytes, as PyTorch does it, or to less if their addresses are. Ticks are milliseconds since the earliest
/// `time_us` in any trace; without one, an entry has the tick of the one before it, the first 0.
///
/// Of an address of 2⁴⁸ or more, the lower 48 bits are kept, as the upper ones are the same for all that a driver gives; two of a device that differ in these alone are an error. So is one that is no
/// multiple of 16. A bare list is a snapshot from before `device_traces`: segments alone.
///
/// Left out are: frames, as stacks of a recording are addresses, and these are names and lines; streams, pools, annotations, the allocator's settings, and what was pinned of the host's memory.
/// [`left_out`](Imported::left_out) counts the entries of traces that became nothing: `free_requested`, `segment_alloc`, `segment_map`, `snapshot`, what is not
/// known here, an `alloc` of what is in use, a free of what is free.
///
/// Time and memory are linear in the length of the input (but for a sort of addresses), whatever is in it: a list is held once, however often it is referred to, and each reference to an
/// entry counts against the input's length. Nothing is recursive, and no length is believed before what it is of has come.
///
/// # Errors
/// [`ImportError::Byte`], whose offset is that of the opcode that makes what is wrong: the input ends, cannot be read, is no pickle or no mere data, or takes more memory than the limit; it is not a snapshot's, or an entry lacks what its action demands, or has a
/// number that cannot be. [`ImportError::Write`]: what the writer reports. What was written before stays, which is nothing unless the pickle is whole.
pub fn pytorch<W: Write>(
    input: impl BufRead,
    limits: SnapshotLimits,
    out: &mut Writer<W>,
) -> Result<Imported, ImportError> {
    let pickle = pickle::read(input, limits.max_memory)?;
    device::write(Snapshot::new(pickle)?, out)
}
