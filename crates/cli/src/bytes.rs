//! Numbers of bytes as a person reads them.

use tenzor::memory::Bytes;

/// A number of bytes that is shown in powers of 1024.
pub(crate) fn bytes(bytes: u64) -> Bytes {
    Bytes(usize::try_from(bytes).unwrap_or(usize::MAX))
}
