//! What heaptrack records.

mod interpreted;
mod stacks;

use std::io::{BufRead, Write};

use self::interpreted::Interpreted;
use self::stacks::Stacks;
use super::lines::Lines;
use super::live::Live;
use super::{ImportError, Imported};
use crate::recording::Writer;
use crate::recording::format::{Block, MAX_SIZE, Record};
use crate::recording::names::Kind;
use crate::text::{Limits, ParseError};

/// The newest version of the format that is known here.
const VERSION: u64 = 3;

/// The logarithm of the alignment that blocks have where nothing says otherwise.
const ALIGN: u8 = 4;

/// Where blocks are put whose addresses are odd multiples of 8: programs have none there on most systems.
const HALVES: u64 = 1 << 47;

/// Lines that are not looked at: the program, its command line, the machine, modules, what is suppressed, resident memory, a program that ran before, and remarks.
const SKIPPED: &[u8] = b"xXImSRA#\n";

/// Lines of which only the beginning matters: symbols.
const LONG: &[u8] = b"si";

/// Imports what [heaptrack](https://invent.kde.org/sdk/heaptrack) records, once that is decompressed: what it writes with `--raw`, or what
/// `heaptrack_interpret` makes of it, as happens without. It is text with a line for each event, whose first byte says what it is; numbers are hex without `0x`:
///
/// | line | |
/// |---|---|
/// | `v HEAPTRACK FORMAT` | the first one: its version, and the format's, up to 3 |
/// | `t IP PARENT` | an address on stacks, and the number of the `t` line of its caller, counted from 1; 0 if there is none |
/// | `+ SIZE TRACE ADDRESS` | a request by what the `t` line of a number is, 0 if that is not known |
/// | `- ADDRESS` | a free |
/// | `c TIME` | so many milliseconds have passed since the beginning |
/// | `i IP MODULE …` | in an interpreted file, what `t` lines have the number of in place of an address, counted from 1 |
/// | `a SIZE TRACE` | there, what `+` and `-` lines have nothing but the number of, counted from 0 |
/// | `s` | there, a name; not looked at |
/// | `x`, `X`, `I`, `m`, `S`, `R`, `A`, `#` | not looked at |
///
/// Lines tell no threads: all events are those of thread 0. Ticks are milliseconds, for which [`Header::tick`](crate::recording::format::Header::tick) is to be 1000000. A
/// resize is a free and a request. Each trace that requests have is a [stack](Kind::Stack) of that number, of at most 64 addresses, as heaptrack writes them: newer versions, one less
/// than where the call returns to. What they are called (`m` lines say what lies where) is not kept.
///
/// Alignments are not told either: that of a block is 16. One whose address is no multiple of 16, but of 8, has alignment 8, and
/// is recorded at 2⁴⁷ and its address less 8, where programs have nothing on most systems.
///
/// An interpreted file has no addresses of blocks: each gets one that is nobody else's while it is in use, and of several blocks of one size and trace, the last is freed
/// first. Sizes, stacks and times are as in the raw file; where blocks lay and how long each of these lived is not known.
///
/// Left out are frees of what is not in use, which heaptrack writes where it was attached to a program that ran before, and a last line without an end. A request of an
/// address that is in use frees what is there first, as an event of its own: another thread's request can precede the resize that made room for it.
///
/// Memory: about 60 bytes for each block that is in use, 16 for each `t` line, 8 for each `i` line, and 80 for each `a` line. Lines that are not looked at may be longer than
/// [`Limits::max_line_bytes`].
///
/// ```
/// use std::io::Cursor;
///
/// use tenzor_trace::recording::format::Header;
/// use tenzor_trace::recording::names::{Kind, addresses};
/// use tenzor_trace::recording::{Recording, Writer};
/// use tenzor_trace::{Limits, import};
///
/// let raw = "v 10400 3\nX ./program\nI 1000 5e2921\nt 7f00 0\nt 4a10 1\n+ 48 2 55d0\nc a\n- 55d0\n";
/// let header = Header { began: 0, process: 0, page: 4096, tick: 1_000_000 };
/// let mut writer = Writer::new(Cursor::new(Vec::new()), header)?;
/// let imported = import::heaptrack(raw.as_bytes(), Limits::default(), &mut writer)?;
/// assert_eq!((imported.events, imported.left_out), (2, 0));
/// let mut recording = Recording::open(writer.finish()?)?;
/// let events: Vec<_> = recording.events().collect::<Result<_, _>>()?;
/// assert_eq!((events[0].stack, events[1].tick), (Some(2), 10));
/// let stack = recording.name(Kind::Stack, 2).unwrap_or_default();
/// assert_eq!(addresses(stack).collect::<Vec<_>>(), [0x4a10, 0x7f00]);
///
/// let error = import::heaptrack(&b"v 10400 3\n+ 48 1 55d0\n"[..], Limits::default(), &mut Writer::new(Vec::new(), header)?);
/// assert_eq!(error.unwrap_err().to_string(), "line 2: field 'trace': expected the number of one of 0 't' lines before, found 1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A line is not as described; an address is no multiple of 8 below 2⁴⁷, or of 16 below 2⁴⁸. The input is beyond the limits. What the writer reports.
pub fn heaptrack<W: Write>(input: impl BufRead, limits: Limits, out: &mut Writer<W>) -> Result<Imported, ImportError> {
    let mut lines = Lines::new(input, limits);
    begin(&mut lines)?;
    let (mut stacks, mut live, mut imported) = (Stacks::default(), Live::default(), Imported::default());
    let mut interpreted: Option<Interpreted> = None;
    let (mut tick, mut in_command) = (0, false);
    while lines.advance(|kind| in_command || SKIPPED.contains(&kind) || LONG.contains(&kind))? {
        if in_command && !follows_command(&lines) {
            continue;
        }
        let kind = lines.kind();
        in_command = kind == b'X';
        if !lines.is_whole() {
            imported.left_out += u64::from(!SKIPPED.contains(&kind));
            continue;
        }
        let mut put = |record| out.record(0, tick, record);
        match kind {
            b'+' => {
                let (block, trace) = match &mut interpreted {
                    Some(interpreted) => interpreted.come(&lines)?,
                    None => request(&lines)?,
                };
                let stack = stacks.name(&lines, trace)?;
                if let Some(free) = live.come(block) {
                    put(free)?;
                    imported.events += 1;
                }
                if trace != 0 {
                    put(Record::Stack(trace))?;
                }
                put(Record::Request(block))?;
                imported.events += 1;
                if let Some(stack) = stack {
                    out.name(Kind::Stack, trace as u32, &stack)?;
                }
            }
            b'-' => {
                let address = match &mut interpreted {
                    Some(interpreted) => interpreted.go(&lines)?,
                    None => Some(freed(&lines)?),
                };
                match address.and_then(|address| live.go(address)) {
                    Some(free) => {
                        put(free)?;
                        imported.events += 1;
                    }
                    None => imported.left_out += 1,
                }
            }
            b't' => {
                let [ip, parent] = lines.numbers(["ip", "parent"])?;
                let ip = interpreted.as_ref().map_or(Ok(ip), |interpreted| interpreted.ip(&lines, ip))?;
                stacks.push(&lines, ip, parent)?;
            }
            b'c' => {
                let [time] = lines.numbers(["time"])?;
                if time > MAX_SIZE {
                    return Err(lines.error("a time below 2^48", time.to_string()).in_field("time").into());
                }
                tick = tick.max(time);
            }
            b's' | b'i' | b'a' => {
                // Numbers that came before would have meant something else.
                let is_raw = interpreted.is_none() && !(stacks.is_empty() && imported == Imported::default());
                if is_raw {
                    return Err(lines.unexpected("one of the lines of a raw file").into());
                }
                interpreted.get_or_insert_default().learn(&lines)?;
            }
            _ if SKIPPED.contains(&kind) => {}
            _ => return Err(lines.unexpected("one of the lines t, +, -, c, s, i, a, x, X, I, m, S, R, A, #").into()),
        }
    }
    if in_command {
        return Err(lines.error("a line I or m behind the command line", "the end of the file").into());
    }
    Ok(imported)
}

/// Reads the first line.
fn begin<R: BufRead>(lines: &mut Lines<R>) -> Result<(), ParseError> {
    const EXPECTED: &str = "heaptrack's version and that of its format, v HEX HEX";
    if !lines.advance(|_| false)? {
        return Err(lines.error(EXPECTED, "an empty file"));
    }
    if lines.kind() != b'v' || !lines.is_whole() {
        return Err(lines.unexpected(EXPECTED));
    }
    let mut fields = lines.fields();
    lines.number(fields.next(), "heaptrack")?;
    let version = lines.number(fields.next(), "format")?;
    if version > VERSION {
        let expected = format!("a version up to {VERSION}");
        return Err(lines.error(expected, version.to_string()).in_field("format"));
    }
    Ok(())
}

/// Whether a line is not a part of the command line. That is written as it is, and arguments can have several lines; these come behind it.
fn follows_command<R: BufRead>(lines: &Lines<R>) -> bool {
    match lines.kind() {
        b'I' => lines.numbers(["page", "pages"]).is_ok(),
        b'm' => lines.fields().count() > 1,
        _ => false,
    }
}

/// The block that is requested, and its trace.
fn request<R: BufRead>(lines: &Lines<R>) -> Result<(Block, u64), ParseError> {
    let [size, trace, address] = lines.numbers(["size", "trace", "address"])?;
    let (address, align) = place(lines, address)?;
    Ok((Block { address, size, align, ..Block::default() }, trace))
}

/// Where what is freed is recorded.
fn freed<R: BufRead>(lines: &Lines<R>) -> Result<u64, ParseError> {
    let [address] = lines.numbers(["address"])?;
    Ok(place(lines, address)?.0)
}

/// Where a block is recorded, and the logarithm of its alignment.
fn place<R: BufRead>(lines: &Lines<R>, address: u64) -> Result<(u64, u8), ParseError> {
    match address % 16 {
        0 if address != 0 && address <= MAX_SIZE => Ok((address, ALIGN)),
        8 if address < HALVES => Ok((address - 8 + HALVES, ALIGN - 1)),
        _ => {
            let expected = "a multiple of 8 below 2^47, or of 16 below 2^48, that is not 0";
            Err(lines.error(expected, format!("{address:x}")).in_field("address"))
        }
    }
}

#[cfg(test)]
mod tests;
