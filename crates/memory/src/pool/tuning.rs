//! The numbers that a pool was tuned by: how much of it is leased to threads, and how soon that is called in.
//!
//! None of them decides whether a cap or a limit holds; each trades speed, memory or fairness for one of the others. What was measured for a
//! value, or why it was chosen, stands with it; where nothing stands, nothing of its own is on record. What all of them come to is in
//! `bench/RESULTS.md`, beside the times of pairs: up to 64 KiB these took 19 to 22 ns with the lock alone, and 250 ns when two threads used one
//! pool; with stocks 14. The limits and caps themselves, and how much an adaptive pool keeps, are what the documentation promises.

// What a thread keeps of a pool: `stock`.

/// The most buffers in a stack: as many as a bucket keeps by default, all its classes together.
pub(super) const STACK_BUFFERS: usize = 8;

/// How many stacks a stock has room for from the start; one of them is for nothing.
pub(super) const STACKS_AT_FIRST: usize = 2;

/// The most bytes leased to one stock. Of the pool's caps, it has at most these parts: what one has leased, no other can have.
pub(super) const STOCK_BYTES: usize = 256 << 10;
pub(super) const STOCK_BYTES_PART: usize = 16;
pub(super) const STOCK_BUFFERS_PART: usize = 4;

// What is leased to others: `put`.

/// Where room is leased to other threads, all leases are called in every so many times that a free finds none: it costs as much as a hundred
/// hits, so that a fence for each would cost more than it saves.
pub(super) const FREES_WITHOUT_ROOM: u32 = 32;

// Which stocks are found at once: `threads`.

/// At least so many slots a thread has for each of its stocks, in the table in which it finds them: of a thousand, some 170 are not where they are
/// looked for first. A power of two.
pub(super) const SLOTS_A_STOCK: usize = 4;

// What goes back to the backing: `state`.

/// So many buffers are taken out under one hold of the lock, and given to the backing without it.
pub(super) const BUFFERS_EVICTED: usize = 16;

/// One of so many frees that take the lock looks at the clock: it takes a tenth of such a free.
pub(super) const FREES_A_LOOK: u64 = 64;
