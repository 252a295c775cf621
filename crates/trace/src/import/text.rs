//! Our own text.

use std::io::{BufRead, Write};

use super::{ImportError, Imported};
use crate::recording::Writer;
use crate::recording::format::{Block, Record};
use crate::text::Limits;
use crate::{Event, Trace};

/// Imports the [text](crate) that a [`Trace`] is read from, all of it by one thread, with a tick for each step. Blocks have no addresses there: each gets one that is
/// nobody else's while it lives.
///
/// ```
/// use std::io::Cursor;
///
/// use tenzor_trace::recording::format::Header;
/// use tenzor_trace::recording::{Recording, Writer};
/// use tenzor_trace::{Limits, import};
///
/// let text = "op,id,size,align,thread,seq\na,7,100,8,0,0\nm,1,0,0,0,1\nf,7,0,0,0,2\n";
/// let header = Header { began: 0, process: 0, page: 4096, tick: 1_000_000 };
/// let mut writer = Writer::new(Cursor::new(Vec::new()), header)?;
/// assert_eq!(import::csv(text.as_bytes(), Limits::default(), &mut writer)?.events, 3);
/// assert_eq!(Recording::open(writer.finish()?)?.events().count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What [`Trace::parse_within`] says; what the writer reports.
pub fn csv<W: Write>(input: impl BufRead, limits: Limits, out: &mut Writer<W>) -> Result<Imported, ImportError> {
    let trace = Trace::parse_within(input, limits)?;
    // A slot is a block's number as long as it lives; each has room for itself.
    let mut blocks = vec![Block::default(); trace.slots()];
    let mut step = 0;
    for event in trace.events() {
        let mut put = |record| out.record(0, step, record);
        match *event {
            Event::Allocate { slot, layout, zeroed, .. } => {
                let block = Block {
                    address: (u64::from(slot) + 1) << 12,
                    size: layout.size() as u64,
                    align: layout.align().trailing_zeros() as u8,
                    zeroed,
                    ..Block::default()
                };
                blocks[slot as usize] = block;
                put(Record::Request(block))?;
            }
            Event::Resize { slot, layout } => {
                let from = blocks[slot as usize];
                let to = Block { size: layout.size() as u64, ..from };
                blocks[slot as usize] = to;
                put(Record::Resize(to))?;
                put(Record::From(from))?;
            }
            Event::Free { slot } => put(Record::Free(blocks[slot as usize]))?,
            Event::Mark { step: number } => {
                step += 1;
                out.record(0, step, Record::Step(number))?;
            }
        }
    }
    Ok(Imported { events: trace.events().len() as u64, left_out: 0 })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::recording::Recording;
    use crate::recording::format::Header;

    #[test]
    fn there_and_back_it_is_the_same_trace() {
        let text = "op,id,size,align,thread,seq\na,1,100,8,0,0\nz,2,4096,64,0,1\nm,5,0,0,0,2\nr,1,200,0,0,3\nf,2,0,0,0,4\na,3,0,1,0,5\n";
        let header = Header { began: 0, process: 0, page: 4096, tick: 1_000_000 };
        let mut writer = Writer::new(Cursor::new(Vec::new()), header).unwrap();
        csv(text.as_bytes(), Limits::default(), &mut writer).unwrap();
        let mut back = Vec::new();
        Recording::open(writer.finish().unwrap()).unwrap().write_csv(&mut back).unwrap();
        let (before, after) = (Trace::parse(text.as_bytes()).unwrap(), Trace::parse(&back[..]).unwrap());
        let layouts = |trace: &Trace| {
            trace.events().iter().filter(|e| !matches!(e, Event::Mark { .. })).copied().collect::<Vec<_>>()
        };
        assert_eq!(layouts(&before), layouts(&after));
        assert_eq!(before.steps().len(), after.steps().len());
        assert!(csv(&b"op"[..], Limits::default(), &mut Writer::new(Vec::new(), header).unwrap()).is_err());
    }
}
