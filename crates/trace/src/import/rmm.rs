//! The log of RAPIDS' memory manager.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use super::hex::hex;
use super::live::Live;
use super::{ImportError, Imported};
use crate::recording::Writer;
use crate::recording::format::{Block, MAX_SIZE, Record};
use crate::recording::names::Kind;
use crate::text::{Limits, ParseError, Rows, number, quote};

const HEADER: &str = "Thread,Time,Action,Pointer,Size,Stream";
const THREAD: usize = 0;
const TIME: usize = 1;
const ACTION: usize = 2;
const POINTER: usize = 3;
const SIZE: usize = 4;

/// Each takes memory in the writer.
const MOST_THREADS: usize = 1 << 16;

/// What RMM aligns all blocks of a device to, as a logarithm.
const ALIGN: u32 = 8;

/// The most that rows of several threads are out of order: each takes the time before it waits for the log.
const SLACK: u64 = SECOND;
/// The most that a clock is put back, when summer time ends, or by its owner.
const PUT_BACK: u64 = 2 * 60 * 60 * SECOND;
const DAY: u64 = 24 * 60 * 60 * SECOND;
/// Times are in microseconds; a tick is so many.
const SECOND: u64 = 1_000_000;
const TICK: u64 = 1000;

/// Imports the log of [RMM](https://github.com/rapidsai/rmm)'s `logging_resource_adaptor`, CSV with a line for each event:
///
/// | column | |
/// |---|---|
/// | `Thread` | the system's number of a thread, decimal, or hex behind `0x`: threads get numbers in the order in which they appear, and this as their name |
/// | `Time` | the time of day, `HH:MM:SS.ffffff`, or with a colon before the microseconds |
/// | `Action` | `allocate`, `free`, or `allocate failure` |
/// | `Pointer` | the address, hex behind `0x`; `(nil)` is 0 |
/// | `Size` | bytes, decimal |
/// | `Stream` | CUDA's stream; it is not looked at |
///
/// Ticks are milliseconds since the first row, for which [`Header::tick`](crate::recording::format::Header::tick) is to be 1000000. The log tells no date: a time that
/// is less than the one before is one of the next day, but the same time where it is less by up to a second, as threads' rows are not quite in order, and one from which
/// the clock goes on where it is less by up to two hours, as it was put back. A pause of 22 hours or more is therefore taken for a shorter one.
///
/// The order of the rows is kept, over all threads: each event says that it is the next to pass one lock. The log tells no alignments: a block has RMM's, which is 256,
/// or what its address has if that is less. Its size is that of its request; what a free says is not looked at.
///
/// Left out are frees of what is not in use, and requests and frees of address 0, which is where RMM puts what has no bytes. A request of an address that is in use
/// frees what is there first, as an event of its own.
///
/// Memory: about 50 bytes for each block that is in use, and what the writer holds of each thread, up to 16 KiB.
///
/// ```
/// use std::io::Cursor;
///
/// use tenzor_trace::recording::format::Header;
/// use tenzor_trace::recording::{Recording, Writer};
/// use tenzor_trace::{Limits, import};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream
/// 23110,22:30:49.650739,allocate,0x7f141ba00000,1024,0x0
/// 23110,22:30:49.652760,free,0x7f141ba00000,1024,0x0
/// ";
/// let header = Header { began: 0, process: 0, page: 4096, tick: 1_000_000 };
/// let mut writer = Writer::new(Cursor::new(Vec::new()), header)?;
/// let imported = import::rmm(log.as_bytes(), Limits::default(), &mut writer)?;
/// assert_eq!((imported.events, imported.left_out), (2, 0));
/// let mut recording = Recording::open(writer.finish()?)?;
/// let events: Vec<_> = recording.events().collect::<Result<_, _>>()?;
/// assert_eq!((events[0].tick, events[1].tick), (0, 2));
///
/// let error = import::rmm(&b"Thread,Time\n"[..], Limits::default(), &mut Writer::new(Vec::new(), header)?).unwrap_err();
/// assert_eq!(error.to_string(), r#"line 1: expected Thread,Time,Action,Pointer,Size,Stream, found "Thread,Time""#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A line is not as described: an address that is no multiple of 16 below 2⁴⁸ is none. The last line of a log that was cut off is among these; what precedes is
/// written by then. The input is beyond the limits, or has more than 65536 threads. What the writer reports.
pub fn rmm<W: Write>(input: impl BufRead, limits: Limits, out: &mut Writer<W>) -> Result<Imported, ImportError> {
    let mut rows = Rows::new(input, limits);
    let names = rows.header(HEADER)?;
    if !names.iter().map(Vec::as_slice).eq(HEADER.split(',').map(str::as_bytes)) {
        return Err(rows.error(HEADER, quote(rows.text())).into());
    }
    let (mut threads, mut clock, mut live, mut imported) =
        (HashMap::new(), Clock::default(), Live::default(), Imported::default());
    while rows.advance()? {
        let id = thread(rows.field(THREAD)).map_err(|expected| rows.field_error(THREAD, "Thread", expected))?;
        let time = time(rows.field(TIME)).ok_or_else(|| rows.field_error(TIME, "Time", "a time, HH:MM:SS.ffffff"))?;
        let address =
            address(rows.field(POINTER)).map_err(|expected| rows.field_error(POINTER, "Pointer", expected))?;
        let size = rows.number(SIZE, "Size")?;
        let next = threads.len();
        let thread = match threads.get(&id) {
            Some(&thread) => thread,
            None if next >= MOST_THREADS => return Err(too_many(&rows).into()),
            None => {
                out.name(Kind::Thread, next as u32, rows.field(THREAD))?;
                threads.insert(id, next as u32);
                next as u32
            }
        };
        let tick = clock.advance(time);
        let block = Block { address, size, align: address.trailing_zeros().min(ALIGN) as u8, ..Block::default() };
        let (first, second) = match rows.field(ACTION) {
            b"allocate failure" => (Some(Record::Refused(Block { address: 0, align: ALIGN as u8, ..block })), None),
            b"allocate" if address == 0 => (None, None),
            b"allocate" => (live.come(block), Some(Record::Request(block))),
            b"free" => (live.go(address), None),
            _ => return Err(rows.field_error(ACTION, "Action", "allocate, free or allocate failure").into()),
        };
        imported.left_out += u64::from(first.is_none() && second.is_none());
        for record in first.into_iter().chain(second) {
            out.record(thread, tick, Record::Passed { source: 0, number: imported.events })?;
            out.record(thread, tick, record)?;
            imported.events += 1;
        }
    }
    Ok(imported)
}

fn too_many<R: BufRead>(rows: &Rows<R>) -> ParseError {
    rows.field_error(THREAD, "Thread", format!("at most {MOST_THREADS} threads"))
}

/// A thread's number, as the log has it.
fn thread(text: &[u8]) -> Result<u64, &'static str> {
    text.strip_prefix(b"0x").map_or_else(|| number(text), hex)
}

/// A place that a recording has.
fn address(text: &[u8]) -> Result<u64, &'static str> {
    const EXPECTED: &str = "a multiple of 16 below 2^48, in hex behind 0x";
    if text == b"(nil)" {
        return Ok(0);
    }
    let address = text.strip_prefix(b"0x").and_then(|digits| hex(digits).ok());
    address.filter(|address| *address <= MAX_SIZE && address.is_multiple_of(16)).ok_or(EXPECTED)
}

/// The microsecond of a day.
fn time(text: &[u8]) -> Option<u64> {
    let [h, hh, b':', m, mm, b':', s, ss, b'.' | b':', micros @ ..] = text else { return None };
    let below = |limit: u64, digits: &[u8]| number(digits).ok().filter(|number| *number < limit);
    let seconds = (below(24, &[*h, *hh])? * 60 + below(60, &[*m, *mm])?) * 60 + below(60, &[*s, *ss])?;
    let micros = if micros.len() == 6 { below(SECOND, micros)? } else { return None };
    Some(seconds * SECOND + micros)
}

/// Makes ticks of times of day.
#[derive(Debug, Default)]
struct Clock {
    last: Option<u64>,
    elapsed: u64,
}

impl Clock {
    /// The tick at a time.
    fn advance(&mut self, time: u64) -> u64 {
        let last = *self.last.get_or_insert(time);
        let ahead = (time + DAY - last) % DAY;
        let back = DAY - ahead;
        if back > SLACK {
            self.last = Some(time);
            // As many as there can be rows, of a day each, are more microseconds than fit.
            self.elapsed = self.elapsed.saturating_add(if back > PUT_BACK { ahead } else { 0 });
        }
        self.elapsed / TICK
    }
}

#[cfg(test)]
mod tests;
