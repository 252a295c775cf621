//! The chart: time and memory of each program under each allocator.

use std::path::Path;

use anyhow::Result;

use crate::summary::Results;

pub(crate) fn draw(_: &Path, _: &Results) -> Result<()> {
    Ok(())
}
