//! What `heaptrack_interpret` makes of a raw file: instead of addresses, blocks have the number of what they have in common with others.

use std::io::BufRead;

use super::Lines;
use crate::recording::format::Block;
use crate::text::ParseError;

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Interpreted {
    ips: Vec<u64>,
    infos: Vec<Info>,
    /// Blocks have numbers from 0, and these are nobody's.
    vacant: Vec<u32>,
    blocks: u32,
}

/// A size and a trace, and the blocks in use that have them.
#[derive(Debug)]
struct Info {
    size: u64,
    trace: u64,
    live: Vec<u32>,
}

impl Interpreted {
    /// Takes a line that says what others mean.
    pub(super) fn learn<R: BufRead>(&mut self, lines: &Lines<R>) -> Result<(), ParseError> {
        match lines.kind() {
            b'i' => {
                // The symbols behind these may be many, and are not looked at. What is held of a long line has the first number if it has a part of the second.
                let mut fields = lines.fields();
                self.ips.push(lines.number(fields.next(), "ip")?);
                lines.number(fields.next(), "module")?;
            }
            b'a' => {
                let [size, trace] = lines.numbers(["size", "trace"])?;
                self.infos.push(Info { size, trace, live: Vec::new() });
            }
            _ => {}
        }
        Ok(())
    }

    /// The address of a number, from 1; 0 is none.
    pub(super) fn ip<R: BufRead>(&self, lines: &Lines<R>, number: u64) -> Result<u64, ParseError> {
        let Some(at) = number.checked_sub(1) else { return Ok(0) };
        let ip = usize::try_from(at).ok().and_then(|at| self.ips.get(at));
        ip.copied().ok_or_else(|| missing(lines, 'i', "ip", number, self.ips.len()))
    }

    /// What the line is about.
    fn info<R: BufRead>(&mut self, lines: &Lines<R>) -> Result<&mut Info, ParseError> {
        let [number] = lines.numbers(["info"])?;
        let count = self.infos.len();
        let info = usize::try_from(number).ok().and_then(|at| self.infos.get_mut(at));
        info.ok_or_else(|| missing(lines, 'a', "info", number, count))
    }

    /// A block that comes, and its trace.
    pub(super) fn come<R: BufRead>(&mut self, lines: &Lines<R>) -> Result<(Block, u64), ParseError> {
        // There are no more blocks than lines, whose number fits.
        let number = self.vacant.last().copied().unwrap_or(self.blocks);
        let info = self.info(lines)?;
        info.live.push(number);
        let (size, trace) = (info.size, info.trace);
        if self.vacant.pop().is_none() {
            self.blocks = self.blocks.saturating_add(1);
        }
        Ok((Block { address: address(number), size, align: super::ALIGN, ..Block::default() }, trace))
    }

    /// Where the block is that goes: the last one of all that could be meant, if there is one.
    pub(super) fn go<R: BufRead>(&mut self, lines: &Lines<R>) -> Result<Option<u64>, ParseError> {
        let last = self.info(lines)?.live.pop();
        self.vacant.extend(last);
        Ok(last.map(address))
    }
}

fn missing<R: BufRead>(lines: &Lines<R>, kind: char, field: &'static str, found: u64, count: usize) -> ParseError {
    lines.error(format!("the number of one of {count} '{kind}' lines before"), found.to_string()).in_field(field)
}

/// One that is nobody else's while the block is in use.
fn address(number: u32) -> u64 {
    (u64::from(number) + 1) << 12
}
