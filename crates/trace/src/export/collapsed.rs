//! Collapsed stacks: one line each, `FRAME;FRAME;FRAME COUNT`, the outermost first.

use std::io::{Read, Seek, Write};

use super::held::{Held, Holder, at_peak};
use super::shown::{self, Modules};
use crate::recording::names;
use crate::recording::{ConvertError, Recording};

impl<R: Read + Seek> Recording<R> {
    /// Writes what was in use at the peak as collapsed stacks, which [flamegraph](https://github.com/brendangregg/FlameGraph), inferno and
    /// [speedscope](https://www.speedscope.app) read: a line is `thread;label;…;frame;… BYTES`, the outermost label and frame first. See the [module](crate::export)
    /// for whose memory is whose.
    ///
    /// A frame is `FILE+0xOFFSET` where a module of the recording covers it, else `0xADDRESS`, by its return address; the offset is that in the file. Where there is neither label nor
    /// stack, there is the class of the size, as `64 KiB–128 KiB`, the upper bound excluded. A `;` in a name is a `:`; and as a number behind a space at the end of a frame would be read as a
    /// count, that space is a `_`: `layer 3` is `layer_3`. Threads of one name have lines that may be the same, which readers sum up. Blocks of no bytes are left out.
    ///
    /// # Errors
    /// The first block that is damaged; what the writer reports. What was written before stays.
    pub fn write_collapsed(&mut self, mut out: impl Write) -> Result<(), ConvertError> {
        let held = at_peak(self)?;
        let modules = Modules::of(self);
        for (holder, sums) in held.holders.iter().filter(|(_, sums)| sums.inuse_bytes > 0) {
            let frames: Vec<String> = frames(self, &held, &modules, holder).iter().map(|frame| plain(frame)).collect();
            writeln!(out, "{} {}", frames.join(";"), sums.inuse_bytes)?;
        }
        out.flush()?;
        Ok(())
    }
}

/// A holder's frames, the outermost first.
fn frames<R>(recording: &Recording<R>, held: &Held, modules: &Modules<'_>, holder: &Holder) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    if let Some(stack) = holder.stack {
        frames.extend(shown::addresses(recording, stack).map(|address| frame(modules, address)));
        if frames.is_empty() {
            frames.push(shown::stack(stack));
        }
    }
    frames.extend(holder.class.map(shown::class));
    frames.extend(held.paths.labels(holder.path).map(|label| shown::label(recording, label).into_owned()));
    frames.push(shown::thread(recording, holder.thread).into_owned());
    frames.reverse();
    frames
}

fn frame(modules: &Modules<'_>, address: u64) -> String {
    match modules.at(address) {
        Some((_, module)) => {
            let path = names::text(module.path);
            let file = path.rsplit('/').next().unwrap_or_default();
            format!("{file}+{:#x}", (address - module.begin).saturating_add(module.offset))
        }
        None => format!("{address:#x}"),
    }
}

/// A frame as it can stand in a line.
fn plain(frame: &str) -> String {
    let frame = frame.trim().replace(';', ":").replace(['\u{2028}', '\u{2029}'], "\u{fffd}");
    match frame.rsplit_once(char::is_whitespace) {
        Some((before, count)) if count.chars().all(|digit| digit.is_ascii_digit() || digit == '.') => {
            format!("{before}_{count}")
        }
        _ => frame,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_neither_several_nor_counts() {
        for (frame, expected) in [
            ("a;b", "a:b"),
            (" layer 3 ", "layer_3"),
            ("1.5", "1.5"),
            ("a 1.5", "a_1.5"),
            ("a 1 b", "a 1 b"),
            ("a 1 2", "a 1_2"),
            ("a\u{2028}b", "a\u{fffd}b"),
        ] {
            assert_eq!(plain(frame), expected);
        }
    }
}
