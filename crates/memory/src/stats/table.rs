//! How statistics are shown: as a table.

use std::fmt;

use super::Stats;
use crate::bytes::Bytes;
use crate::layout::bucket_range;

/// What is pooled, and as what.
struct Pooled<'a>(&'a Stats);

impl fmt::Display for Pooled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(stats) = self;
        write!(f, "{} buffers", stats.pooled_buffers)?;
        let in_buffers = stats.buckets.iter().fold(0, |sum: usize, row| sum.saturating_add(row.pooled_bytes));
        let others = stats.pooled_bytes.saturating_sub(in_buffers);
        if others == 0 {
            return Ok(());
        }
        let above = stats.kept_above_bytes.min(others);
        write!(f, " of {}", Bytes(in_buffers))?;
        let parts = [(above, "kept above"), (others - above, "in free ranges")];
        parts.iter().filter(|part| part.0 > 0).try_for_each(|&(bytes, what)| write!(f, ", {} {what}", Bytes(bytes)))
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, bytes: usize, rest: fmt::Arguments<'_>| {
            writeln!(f, "{name:<10}{:>12}  {rest}", Bytes(bytes).to_string())
        };
        writeln!(
            f,
            "requests  {:>12}  {:.1} % hits ({} hits, {} misses, {} refused)",
            self.allocations,
            100.0 * self.pool_hit_rate(),
            self.pool_hits,
            self.pool_misses,
            self.failures,
        )?;
        let in_use = self.allocations.saturating_sub(self.deallocations);
        let (peak, rounded) = (Bytes(self.peak_bytes_in_use), Bytes(self.bytes_in_use_rounded));
        line(f, "in use", self.bytes_in_use, format_args!("{in_use} buffers, {rounded} rounded; peak {peak}"))?;
        let (pooled, gone) = (Pooled(self), self.released);
        line(f, "pooled", self.pooled_bytes, format_args!("{pooled}; {gone} given back so far"))?;
        let peak = Bytes(self.peak_reserved_bytes);
        line(f, "reserved", self.reserved_bytes, format_args!("peak {peak}"))?;
        if self.buckets.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nbucket                     hits    misses  hit rate    in use      kept    bytes kept  released"
        )?;
        for row in &self.buckets {
            let range = bucket_range(row.bucket);
            let from = Bytes(*range.start()).to_string();
            let to = Bytes(range.end().saturating_add(1)).to_string();
            writeln!(
                f,
                "{from:>9} – {to:<9}{:>10}{:>10}{:>8.1} %{:>10}{:>10}{:>14}{:>10}",
                row.hits,
                row.misses,
                100.0 * row.hit_rate(),
                row.buffers_in_use,
                row.pooled_buffers,
                Bytes(row.pooled_bytes).to_string(),
                row.released,
            )?;
        }
        Ok(())
    }
}
