//! The numbers that the process's heaps were tuned by: how much threads keep, how often something is looked at, tried or waited for, and
//! how much is done at once.
//!
//! None of them decides whose a block is; each trades speed, memory or fairness for one of the others. What was measured for a value, or why it
//! was chosen, stands with it; where nothing stands, nothing of its own is on record. What all of them come to is in `bench/RESULTS.md`, under
//! *Many threads*, which is to be measured again where one is changed. What is no choice, such as the states of a gate or the bits of a word,
//! stands where it is used.

use crate::heap::classes::PAGE;

// What a thread keeps in stacks, and what moves its leases: `cache`.

/// The most blocks and about the most bytes in one stack. Each cache has slots for as many of every class.
pub(super) const STACK_BLOCKS: usize = 64;
pub(super) const STACK_BYTES: usize = 256 << 10;

/// The bytes that each cache may lease for blocks of slabs, besides its portions of the pot; and for blocks of pages, behind which are
/// parcels. More serves more requests without a lock, and lies with each thread. The first serve these requests of every program that was
/// measured. Without parcels, of 64 live blocks of 8 to 64 KiB replaced at random, 256 KiB of stocks served a third, and 2 MiB nine tenths.
pub(super) const SLABS_LEASED_BYTES: usize = 256 << 10;
pub(super) const PAGES_LEASED_BYTES: usize = 128 << 10;

/// The bytes that each cache may lease for runs: one of each kind but the largest, or one of that. What a thread frees last it asks for next, more often than
/// not; and it has it back in less than half of the time that the heap takes.
pub(super) const RUNS_LEASED_BYTES: usize = 1 << 20;

/// The most frees of a kind between two that are kept, where none was of use: each that is kept in vain costs a fourth more than one that is not.
pub(super) const FREES_BETWEEN_KEEPING: u32 = 63;

/// So many other classes are asked for what of their leases is not filled, before what is filled goes back: what they hold stays with them,
/// and who asks takes longer.
pub(super) const UNFILLED_LEASES_ASKED: usize = 4;

/// What is filled goes back for others' sake by such a part of all: more at once is fewer visits, each of which takes a lock, and leaves the
/// other classes less.
pub(super) const LEASES_CUT_PART: usize = 8;

/// One of so many requests that stacks did not serve, and parcels stand behind, ends a lease: so many go past the stacks that they are no use.
pub(super) const REQUESTS_PAST_STACKS: usize = 8;

/// About as many blocks are given back at a time by who empties a cache: whoever waits for a lock gets it in between.
pub(super) const BLOCKS_DRAINED: usize = 64;

/// The most requests between two looks at the clock where nothing is due; where something is; and after a free that took the lock, which
/// tells that more may be due, and takes longer than a look at the clock. Fewer notice sooner that time has passed, where requests come more
/// slowly than before. A look in every request would cost a third of a hit.
pub(super) const CLOCK_STRIDE_AT_REST: i32 = 1 << 10;
pub(super) const CLOCK_STRIDE: i32 = 1 << 6;
pub(super) const CLOCK_STRIDE_AFTER_LOCK: i32 = 1 << 3;

// What all threads may keep beyond their own: `pot`.

/// What a cache takes of the pot at a time.
pub(super) const POT_PORTION: usize = 128 << 10;

/// What all caches together may lease for runs, where little is in use; it is less the more is in use, down to a 64th of that. 3,000 threads that each freed a
/// MiB, and slept, had 2 GB without.
pub(super) const SMALL_POT_OF_RUNS: usize = 4 << 20;

/// What there is in the pot where little is in use: for a program that does nothing but request and free. It is less the more is in use.
pub(super) const SMALL_POT: usize = 4 << 20;

// The pages that a thread has for itself: `parcels`.

/// The most parcels of a thread. Whoever has more in use than they hold asks the heap: there, the gaps between blocks are everybody's. With
/// 4,000 blocks, 88 MiB, that takes 176 ns an operation; with parcels at all, two threads took 58 ns at 4 to 64 KiB, where it had been 124.
/// A multiple of eight, as eight are looked at at once.
pub(super) const PARCELS: usize = 64;

/// Pages that may be free besides a part of those in use, and the part. With these, threads that replace blocks of all sizes at random need
/// the heap no more; with half of it, they need it so often that more lies between what is in use: a simulation said so, and then the bench.
pub(super) const PARCELS_FREE_PAGES: usize = (512 << 10) / PAGE;
pub(super) const PARCELS_FREE_PART: usize = 2;

/// So many may be free without a word. Of more is told, so that somebody looks after it once the thread asks for nothing.
pub(super) const PARCELS_FREE_UNTOLD: usize = PARCELS_FREE_PAGES / 2;

/// What others freed is looked for after so many requests at the latest: each look in vain doubles how many go by until the next.
pub(super) const REQUESTS_BETWEEN_COLLECTING: usize = 64;

/// Where a thread can have no more parcels, one that became small is looked for in one of so many requests: it is seldom that one did.
pub(super) const REQUESTS_BETWEEN_LEAVING: usize = 64;

// How many heaps there are, and who goes where: `shards`, `cache`.

/// The most shards that there can be: they divide the addresses that there are. There are no more than processors, either: twice as many were
/// slower by a quarter, since a thread's blocks lie in more of them then.
pub(super) const SHARDS: usize = 64;

/// The least bytes of addresses that each shard but the first has; where there are not so many for all of them, there is one. In one of 4 GiB,
/// threads with more in use were refused: at 1 to 16 MiB, sixteen threads took 2.5 to 35 µs, at random, and 1.4 to 2.3 with more addresses.
pub(super) const SHARD_LEAST_ADDRESSES: usize = 4 << 30;

/// A thread that had to wait for a lock more than so often, in so many visits to it, moves to another shard: sooner, who gets into each other's
/// way is parted sooner; later, more threads stay at one heap, which has no gaps but its own. Twice as often after each move, so that nobody
/// wanders for ever.
pub(super) const WAITS_TO_MOVE: u32 = 32;
pub(super) const VISITS_TO_MOVE: u32 = 64 * WAITS_TO_MOVE;

/// What a shard has in use may differ by so many pages from what others know: telling them writes what they read.
pub(super) const UNPUBLISHED_PAGES: u32 = 64;

/// Where there is more than one shard, a part of what is in use may be unpublished of each, in bytes: the peak of all errs by so much, and
/// what all write is written more seldom.
pub(super) const UNPUBLISHED_BYTES: usize = 1 << 20;

// The list of caches: `threads`.

/// Free caches that are kept for the next threads. Others go back to the heap.
pub(super) const SPARE_CACHES: usize = 8;

/// As many walks through the list can be under way at once. More go through the whole list under one hold. Each has a bit of a word.
pub(super) const WALKS: usize = 4;

/// Caches that are seen under one hold of the lock: with more, others wait longer. Statistics of 1,000 threads take some 650 µs; called
/// every 2 ms, one of 10,000 requests of another thread took 11 to 13 µs, and 9 to 10 without.
pub(super) const CACHES_SEEN_A_HOLD: usize = 32;

// What lies with others: `reach`.

/// Where somebody calls in already, it is tried so often, with a breath in between. Who does it may wait for a fork that waits for us: so it is
/// given up then.
pub(super) const CALL_IN_TRIES: u32 = 1000;

/// Blocks, or parcels' pages, that are taken out under one hold of the lock: no fewer than there are in the deepest stack, which comes out as a
/// whole. Whoever waits for a lock gets it in between.
pub(super) const BLOCKS_TAKEN_OUT: usize = STACK_BLOCKS;

// Forks, and what is done without a lock: `shards`, `errands`, `aside`.

/// How often it is tried to have all locks for a fork, with a breath in between, before what cannot be had is done without: the child waits in
/// vain for who has one of them and stands still.
pub(super) const FORK_TRIES: u32 = 20_000;

/// For so many breaths others are waited for, who may have under way what somebody needs; and so often a request is tried again for that.
/// More serve a request that fits later, where fewer would refuse it.
pub(super) const UNDER_WAY_WAITS: u32 = 200;
pub(super) const ONCE_MORE_TRIES: u32 = 16;

/// The most blocks that were served aside, and are in use: each takes a mapping of the process's, and all places are looked through for one.
pub(super) const ASIDE_BLOCKS: usize = 1024;

/// As many blocks that were left aside are taken under one hold of the lock.
pub(super) const ASIDE_BLOCKS_A_HOLD: usize = 16;

// Who gives idle memory back, and when: `purger`. The clock counts nanoseconds.

/// No tick is shorter, however short the decay is.
pub(super) const SHORTEST_TICK_NANOSECONDS: u64 = 1_000_000;

/// For so long a system that refused a thread is not asked for one again: ten minutes. Calls give memory back meanwhile.
pub(super) const THREAD_REFUSED_NANOSECONDS: u64 = 600_000_000_000;

/// A visit that is so late shows that the thread's pace is another one than before: 200 ms. Then the next request looks at the clock.
pub(super) const LATE_NANOSECONDS: u64 = 200_000_000;

/// The most pieces that one call gives back, if it is late for them: more are back sooner, and the call takes longer.
pub(super) const PIECES_A_CALL: u64 = 8;

/// The thread looks at the settings at least so often: once a second. Then it ends if it is not wanted any more.
pub(super) const SETTINGS_NANOSECONDS: u64 = 1_000_000_000;

// What follows upon a refusal: `refusal`.

/// What may be granted beyond the limit, and the most bytes of a request that it is for: a page each, so sixteen blocks, which come back to
/// the thread's cache as others do. Enough for a message and what formats it.
pub(super) const RESERVE: usize = 64 << 10;
pub(super) const RESERVED_SIZE: usize = 4096;

/// How often a handler is asked for one request: it may free a little each time.
pub(super) const TRIES_ASKED: u32 = 16;

/// Nanoseconds between two lines about refusals.
pub(super) const REFUSALS_APART: u64 = 1_000_000_000;
