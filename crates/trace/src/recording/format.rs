//! The format of recordings, byte by byte. All numbers are little-endian.
//!
//! A file is a [`Header`] and then blocks, one after the other, in the order in which they were written. A block is a [`BlockHeader`] and what follows it: events of
//! one thread, or [names](super::names). Blocks can be read in parallel and left out: each has a checksum, and says of what it is the continuation.
//!
//! | header of the file, 64 bytes | |
//! |---|---|
//! | 0 | `TNZTRACE` |
//! | 8 | the version, 1, in 4 bytes; then the bytes of this header, in 4 |
//! | 16 | when it began, in nanoseconds since 1970 |
//! | 24 | the process, in 4 bytes; then the bytes of a page, in 4 |
//! | 32 | nanoseconds of a tick |
//! | 40 | zero, 16 bytes |
//! | 56 | the [`checksum`] of what precedes |
//!
//! | header of a block, 64 bytes | |
//! |---|---|
//! | 0 | `TNZB` |
//! | 4 | what it holds, in 2 bytes: 1 events, 2 names; then how, in 2: 0 as described here, 1 the same compressed (deflate, RFC 1951), with zeros behind |
//! | 8 | the bytes that follow this header, at most 1 MiB and a multiple of 16; then how many records these are, or were before they were compressed; 4 bytes each |
//! | 16 | the thread, in 4 bytes, counted from 0; then the block's number among those of this thread, in 4, counted from 0 |
//! | 24 | the tick at which the first event came, or a little before |
//! | 32 | the first event's number among those of this thread, counted from 0; those that were lost count |
//! | 40 | how many events of this thread were lost just before |
//! | 48 | zero, 8 bytes |
//! | 56 | the [`checksum`] of the 56 bytes before and of what follows this header |
//!
//! An event is a record of 16 bytes, two words; a resize takes two. [`Record`] says what each is about.
//!
//! | bits of the first word | | of the second | |
//! |---|---|---|---|
//! | 0–3 | the kind | 0–47 | a size in bytes, or a number |
//! | 4–47 | an address, in sixteens | 48–63 | ticks since the record before it in this thread |
//! | 48–56 | the source: which allocator | | |
//! | 57–61 | the logarithm of the alignment | | |
//! | 62 | zeroed | | |
//! | 63 | memory was taken from below for it: a miss | | |
//!
//! More ticks than fit have a record of their own. A size that does not fit is the largest that does.

/// The bytes of each header.
pub const HEADER_BYTES: usize = 64;

/// The most bytes that follow a block's header.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// The bytes of a record.
pub const RECORD_BYTES: usize = 16;

/// The largest size, and number, that a record holds.
pub const MAX_SIZE: u64 = (1 << 48) - 1;

/// The most sources.
pub const MAX_SOURCES: u16 = 1 << 9;

/// What a recording begins with.
pub const MAGIC: [u8; 8] = *b"TNZTRACE";
const BLOCK_MAGIC: [u8; 4] = *b"TNZB";
const VERSION: u32 = 1;
/// Of what a block holds: it is compressed.
const PACKED: u32 = 1 << 16;

/// What a recording is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// When it began, in nanoseconds since 1970.
    pub began: u64,
    /// The process.
    pub process: u32,
    /// The bytes of a page there.
    pub page: u32,
    /// Nanoseconds of a tick.
    pub tick: u64,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// [Records](Record) of one thread.
    Events,
    /// [Names](super::names).
    Names,
}

/// What is known of a block without what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// What it holds.
    pub kind: BlockKind,
    /// Its records are compressed.
    pub packed: bool,
    /// The bytes that follow its header.
    pub bytes: u32,
    /// How many records there are.
    pub records: u32,
    /// The thread, and the block's number among those of that thread.
    pub thread: u32,
    /// See `thread`.
    pub number: u32,
    /// The tick at which the first event came, or a little before.
    pub tick: u64,
    /// The first event's number among those of the thread.
    pub first: u64,
    /// How many events of the thread were lost just before.
    pub lost: u64,
}

/// A number for some bytes, by which it is noticed that they were changed: sums of their words, and of these sums, as Fletcher's, modulo 2⁶⁴ and with an odd factor at each
/// step. Bytes behind the last whole word count as if zeros followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    sum: u64,
    sums: u64,
}

impl Checksum {
    /// That of no bytes.
    pub const fn new() -> Self {
        Self { sum: 0x9e37_79b9_7f4a_7c15, sums: 0 }
    }

    /// Counts a word.
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        let sum = (self.sum ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(23);
        Self { sum, sums: self.sums.wrapping_add(sum) }
    }

    /// Counts bytes. Only the last ones may be no whole words.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut sums = words.iter().fold(self, |sums, word| sums.word(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            sums = sums.word(u64::from_le_bytes(last));
        }
        sums
    }

    /// The number.
    pub const fn finish(self) -> u64 {
        self.sum ^ self.sums.rotate_left(32)
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

/// The [`Checksum`] of bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    Checksum::new().bytes(bytes).finish()
}

fn word(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// The lower and the upper half of a word.
fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

fn put(bytes: &mut [u8; HEADER_BYTES], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

const fn both(lower: u32, upper: u32) -> u64 {
    lower as u64 | (upper as u64) << 32
}

/// The bytes before a header's checksum.
fn summed(bytes: &[u8; HEADER_BYTES]) -> &[u8] {
    &bytes[..HEADER_BYTES - 8]
}

impl Header {
    /// As it stands in a file.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        put(&mut bytes, 8, both(VERSION, HEADER_BYTES as u32));
        put(&mut bytes, 16, self.began);
        put(&mut bytes, 24, both(self.process, self.page));
        put(&mut bytes, 32, self.tick);
        let sum = checksum(summed(&bytes));
        put(&mut bytes, 56, sum);
        bytes
    }

    /// Reads one. What is wrong with it, if it is none.
    ///
    /// # Errors
    /// In words, as is to follow upon "the header".
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        if bytes[..8] != MAGIC {
            return Err("is not a recording's");
        }
        if word(bytes, 8) != both(VERSION, HEADER_BYTES as u32) {
            return Err("is of a version that is not known here");
        }
        if word(bytes, 56) != checksum(summed(bytes)) {
            return Err("was changed: its checksum is another");
        }
        let (process, page) = halves(word(bytes, 24));
        let header = Self { began: word(bytes, 16), process, page, tick: word(bytes, 32) };
        if header.tick == 0 || !page.is_power_of_two() {
            return Err("has a tick or a page of no size");
        }
        Ok(header)
    }
}

impl BlockHeader {
    /// As it stands in a file, before `payload`.
    pub fn encode(&self, payload: &[u8]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let kind = match self.kind {
            BlockKind::Events => 1,
            BlockKind::Names => 2,
        };
        let how = if self.packed { PACKED } else { 0 };
        put(&mut bytes, 0, both(u32::from_le_bytes(BLOCK_MAGIC), kind | how));
        put(&mut bytes, 8, both(self.bytes, self.records));
        put(&mut bytes, 16, both(self.thread, self.number));
        put(&mut bytes, 24, self.tick);
        put(&mut bytes, 32, self.first);
        put(&mut bytes, 40, self.lost);
        let sum = Checksum::new().bytes(summed(&bytes)).bytes(payload).finish();
        put(&mut bytes, 56, sum);
        bytes
    }

    /// Reads one; whether what follows is what it says is told by [`is_intact`](Self::is_intact).
    ///
    /// # Errors
    /// In words, as is to follow upon "the block".
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let (magic, what) = halves(word(bytes, 0));
        if magic.to_le_bytes() != BLOCK_MAGIC {
            return Err("does not begin as one");
        }
        let packed = what & PACKED != 0;
        let kind = match what & !PACKED {
            1 => BlockKind::Events,
            2 if !packed => BlockKind::Names,
            _ => return Err("holds what is not known here"),
        };
        let ((bytes_after, records), (thread, number)) = (halves(word(bytes, 8)), halves(word(bytes, 16)));
        let is_long = bytes_after as usize > MAX_PAYLOAD;
        if is_long || !bytes_after.is_multiple_of(RECORD_BYTES as u32) {
            return Err("claims a length that none has");
        }
        let unpacked = u64::from(records) * RECORD_BYTES as u64;
        let is_as_long = if packed { unpacked <= MAX_PAYLOAD as u64 } else { unpacked == u64::from(bytes_after) };
        if kind == BlockKind::Events && !is_as_long {
            return Err("claims another number of events than it has room for");
        }
        let [tick, first, lost] = [24, 32, 40].map(|at| word(bytes, at));
        Ok(Self { kind, packed, bytes: bytes_after, records, thread, number, tick, first, lost })
    }

    /// Whether a header, as it stands in a file, and what follows it are as they were written.
    pub fn is_intact(header: &[u8; HEADER_BYTES], payload: &[u8]) -> bool {
        word(header, 56) == Checksum::new().bytes(summed(header)).bytes(payload).finish()
    }
}

/// One record. Addresses are multiples of 16, below 2⁴⁸.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// A block is requested.
    Request(Block),
    /// A block is freed; its size is 0 where nobody told.
    Free(Block),
    /// A block has another size, and lies here now. A `From` follows.
    Resize(Block),
    /// Where it lay before, and how large it was; 0 where nobody told.
    From(Block),
    /// A request was refused; it has no address.
    Refused(Block),
    /// A block that was in use when the recording began.
    Live(Block),
    /// Memory behind an address went back to the system.
    Purged(Block),
    /// A step begins, and the one before it ends.
    Step(u64),
    /// What follows in this thread happens under a label, until it is left. Labels nest.
    Enter(u64),
    /// The label that was entered last is left.
    Leave(u64),
    /// The next record was made under a lock, of the source, and is the one of this number to be made under it, counted from 0.
    Passed {
        /// Whose lock.
        source: u16,
        /// Which of the records.
        number: u64,
    },
    /// So many ticks have passed.
    Ticks(u64),
    /// The next record's stack, by its number among the [names](super::names).
    Stack(u64),
    /// A source took memory from below, for what is requested of it.
    Taken(Block),
    /// A source gave back below what it had taken.
    Given(Block),
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// Where it is.
    pub address: u64,
    /// Its bytes, as they were requested; [`MAX_SIZE`] is that or more.
    pub size: u64,
    /// The logarithm of its alignment.
    pub align: u8,
    /// All of it was requested to be zero.
    pub zeroed: bool,
    /// Memory was taken from below for it.
    pub missed: bool,
    /// Which allocator, by its number among the [names](super::names). 0 is the process's heap.
    pub source: u16,
}

const ADDRESS: u64 = MAX_SIZE & !15;
const SOURCE_SHIFT: u32 = 48;
const ALIGN_SHIFT: u32 = 57;
const ZEROED: u64 = 1 << 62;
const MISSED: u64 = 1 << 63;
const TICKS_SHIFT: u32 = 48;

impl Block {
    const fn words(self, kind: u64) -> (u64, u64) {
        let flags = if self.zeroed { ZEROED } else { 0 } | if self.missed { MISSED } else { 0 };
        let source = (self.source % MAX_SOURCES) as u64;
        let align = (self.align & 31) as u64;
        let size = if self.size < MAX_SIZE { self.size } else { MAX_SIZE };
        (kind | self.address & ADDRESS | source << SOURCE_SHIFT | align << ALIGN_SHIFT | flags, size)
    }

    const fn of(first: u64, size: u64) -> Self {
        Self {
            address: first & ADDRESS,
            size,
            align: (first >> ALIGN_SHIFT) as u8 & 31,
            zeroed: first & ZEROED != 0,
            missed: first & MISSED != 0,
            source: source(first),
        }
    }
}

const fn source(first: u64) -> u16 {
    (first >> SOURCE_SHIFT) as u16 % MAX_SOURCES
}

impl Record {
    /// As two words, so many ticks after the record before. Constant time.
    #[inline]
    pub const fn encode(self, ticks: u16) -> [u64; 2] {
        let (first, second) = match self {
            Self::Request(block) => block.words(1),
            Self::Free(block) => block.words(2),
            Self::Resize(block) => block.words(3),
            Self::From(block) => block.words(4),
            Self::Refused(block) => block.words(5),
            Self::Live(block) => block.words(6),
            Self::Purged(block) => block.words(7),
            Self::Step(number) => (8, number),
            Self::Enter(label) => (9, label),
            Self::Leave(label) => (10, label),
            Self::Passed { source, number } => (11 | ((source % MAX_SOURCES) as u64) << SOURCE_SHIFT, number),
            Self::Ticks(ticks) => (12, ticks),
            Self::Stack(number) => (13, number),
            Self::Taken(block) => block.words(14),
            Self::Given(block) => block.words(15),
        };
        let second = if second < MAX_SIZE { second } else { MAX_SIZE };
        [first, second | (ticks as u64) << TICKS_SHIFT]
    }

    /// What two words say, and how many ticks came before; `None` if no record is written so.
    #[inline]
    pub const fn decode([first, second]: [u64; 2]) -> Option<(Self, u16)> {
        let number = second & MAX_SIZE;
        let block = Block::of(first, number);
        let record = match first & 15 {
            1 => Self::Request(block),
            2 => Self::Free(block),
            3 => Self::Resize(block),
            4 => Self::From(block),
            5 => Self::Refused(block),
            6 => Self::Live(block),
            7 => Self::Purged(block),
            8 => Self::Step(number),
            9 => Self::Enter(number),
            10 => Self::Leave(number),
            11 => Self::Passed { source: source(first), number },
            12 => Self::Ticks(number),
            13 => Self::Stack(number),
            14 => Self::Taken(block),
            15 => Self::Given(block),
            _ => return None,
        };
        Some((record, (second >> TICKS_SHIFT) as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { began: 1 << 60, process: 77, page: 4096, tick: 1_000_000 };
    const BLOCK: BlockHeader = BlockHeader {
        kind: BlockKind::Events,
        packed: false,
        bytes: 32,
        records: 2,
        thread: 3,
        number: 9,
        tick: 1 << 40,
        first: 12345,
        lost: 6,
    };

    #[test]
    fn headers_are_read_as_they_were_written_and_no_other_bit() {
        let payload = [7; 32];
        let (header, block) = (HEADER.encode(), BLOCK.encode(&payload));
        assert_eq!((Header::decode(&header), BlockHeader::decode(&block)), (Ok(HEADER), Ok(BLOCK)));
        assert!(BlockHeader::is_intact(&block, &payload));
        for bit in 0..8 * HEADER_BYTES {
            let flipped = |bytes: [u8; HEADER_BYTES]| {
                let mut bytes = bytes;
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            assert!(Header::decode(&flipped(header)).is_err(), "bit {bit}");
            assert!(!BlockHeader::is_intact(&flipped(block), &payload), "bit {bit}");
        }
        for bit in 0..8 * payload.len() {
            let mut changed = payload;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!BlockHeader::is_intact(&block, &changed), "bit {bit}");
        }
        let mut swapped = payload;
        swapped[3] = 8;
        let sum = checksum(&swapped);
        swapped.rotate_left(8);
        assert_ne!(sum, checksum(&swapped), "the order counts");
    }

    #[test]
    fn a_block_claims_no_more_than_there_can_be() {
        for (bytes, records) in [(32, 3), (17, 1), (2 << 20, 2 << 16), (u32::MAX, u32::MAX)] {
            assert!(BlockHeader::decode(&BlockHeader { bytes, records, ..BLOCK }.encode(&[])).is_err());
        }
        let packed = |records| BlockHeader { packed: true, records, ..BLOCK };
        let most = (MAX_PAYLOAD / RECORD_BYTES) as u32;
        assert_eq!(BlockHeader::decode(&packed(most).encode(&[])), Ok(packed(most)));
        assert!(BlockHeader::decode(&packed(most + 1).encode(&[])).is_err());
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let block =
            Block { address: 0x7fff_1234_5670, size: 12_345, align: 6, zeroed: true, missed: true, source: 511 };
        let plain = Block { address: 16, ..Block::default() };
        let blocks: [fn(Block) -> Record; 9] = [
            Record::Request,
            Record::Free,
            Record::Resize,
            Record::From,
            Record::Refused,
            Record::Live,
            Record::Purged,
            Record::Taken,
            Record::Given,
        ];
        let numbers: [fn(u64) -> Record; 5] =
            [Record::Step, Record::Enter, Record::Leave, Record::Ticks, Record::Stack];
        let all = blocks
            .iter()
            .flat_map(|kind| [kind(block), kind(plain)])
            .chain(numbers.iter().flat_map(|kind| [kind(0), kind(MAX_SIZE)]))
            .chain([Record::Passed { source: 3, number: 1 << 40 }]);
        for record in all {
            for ticks in [0, 1, u16::MAX] {
                assert_eq!(Record::decode(record.encode(ticks)), Some((record, ticks)));
            }
        }
        let huge = Record::Refused(Block { size: u64::MAX, ..plain });
        assert_eq!(Record::decode(huge.encode(0)), Some((Record::Refused(Block { size: MAX_SIZE, ..plain }), 0)));
        assert_eq!(Record::decode([0, 0]), None);
    }
}
