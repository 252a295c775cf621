//! Writes a long recording, to see in what time and memory it is explained: `long FILE [EVENTS [LIVE [SEED]]]`. Two threads, steps with nested labels, and stacks; with another seed, a
//! hundredth of the sizes is another. `LIVE` is how many blocks are in use at most, or 0: then nothing is freed.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;

use fastrand::Rng;
use tenzor_trace::recording::Writer;
use tenzor_trace::recording::format::{Block, Header, Record};
use tenzor_trace::recording::names::Kind;

const EVENTS_OF_A_STEP: u64 = 50_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("expected a file")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (events, most, seed) = (number(5_000_000)?, number(100_000)?, number(1)?);
    let out = BufWriter::new(File::create(path)?);
    let mut writer = Writer::new(out, Header { began: 0, process: 1, page: 4096, tick: 1000 })?;
    for label in 0..40 {
        writer.name(Kind::Label, label, format!("layer {label}").as_bytes())?;
    }
    let (mut random, mut changed) = (Rng::with_seed(88_172_645_463_325_252), Rng::with_seed(seed | 1));
    let mut live: Vec<Block> = Vec::new();
    let (mut next, mut inside) = (1, [None::<u64>; 2]);
    for event in 0..events {
        let thread = (event / 100 % 2) as u32;
        let mut put = |record| writer.record(thread, event, record);
        if event % EVENTS_OF_A_STEP == 0 {
            put(Record::Step(event / EVENTS_OF_A_STEP))?;
        }
        if event % 500 < 100 && event % 100 == 0 {
            if let Some(label) = inside[thread as usize].take() {
                put(Record::Leave(label))?;
            }
            let label = event / 500 % 40;
            put(Record::Enter(label))?;
            inside[thread as usize] = Some(label);
        }
        let in_use = live.len() as u64;
        let is_full = most > 0 && in_use >= most;
        if most > 0 && in_use > 0 && (is_full || random.u64(..100) < 49) {
            // What came last goes first, more often than not.
            let back = random.u64(..in_use).min(random.u64(..in_use)).min(random.u64(..64 * 64));
            put(Record::Free(live.swap_remove((in_use - 1 - back) as usize)))?;
        } else {
            let size = 16 << random.u64(..16);
            let is_other = seed != 1 && changed.u64(..100) == 0;
            let size = if is_other { size + 16 } else { size + random.u64(..4) * size / 4 };
            let missed = random.u64(..50) == 0;
            let block = Block { address: next << 4, size, align: 4, missed, ..Block::default() };
            next += 1;
            live.push(block);
            put(Record::Request(block))?;
        }
    }
    writer.finish()?;
    Ok(())
}
