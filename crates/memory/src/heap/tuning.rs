//! The numbers that a heap was tuned by: how far it looks, how much it takes and gives back at a time, what it believes how soon.
//!
//! None of them decides whose a page is, or whether it may be purged, moved or unmapped; each trades speed, memory or fairness for one of the
//! others. What was measured for a value, or why it was chosen, stands with it; where nothing stands, nothing of its own is on record. What all
//! of them come to is in `bench/RESULTS.md`, under *Real programs* and *Many threads*, which are to be measured again where one is changed. The
//! classes of small blocks, which are the heap's format, and the parts of which a budget is the sum stand where they are used: in `classes`
//! and `budget`.

// Which free pages serve a request: `extents`, `pages`.

/// How many extents are compared. Bins are narrow, so that longer searches win nothing. Without any search within them, the second of the
/// three traces took 1.035 of the live bytes, and 1.013 with best fit.
pub(super) const EXTENTS_COMPARED: usize = 64;

/// Places that others hold are left out of a search so often, before there is no memory on that side.
pub(super) const PLACES_LEFT_OUT: usize = 8;

/// Runs of fewer whole units are copied as fast as these are moved.
pub(super) const MOVED_UNITS: u32 = 4;

// What is mapped, and how far ahead: `pages::mapping`, `space`.

/// What is mapped beyond what is asked for: such a part of what is mapped, and at most so many units. More is fewer calls to the system.
pub(super) const MAPPED_AHEAD_PART: u32 = 16;
pub(super) const MAPPED_AHEAD_UNITS: u32 = 16;

/// Pages that are mapped at a time where a unit is much, as all of it may be locked, or counted: 128 KiB.
pub(super) const SMALL_MAPPING_PAGES: u32 = 32;

/// Units side by side that are worth a mapping: where they hold nothing, their addresses go back in time, and where there are no open addresses,
/// no fewer are taken if there are so many.
pub(super) const UNITS_WORTH_A_MAPPING: u32 = 16;

/// Mappings that others need at least; so many parts of all there may be are ours at most: where a quarter of them is the heap's, nothing moves
/// any more. Each unit that moved can be one, and a process may have 65,530.
pub(super) const MAPPINGS_PART: usize = 4;

/// Places that are tried for the heap, before the system's own choice serves.
pub(super) const PLACES_TRIED: u64 = 4;

/// What is mapped for tables at a time, at least: at first what a small heap needs in all, for fewer calls to the system.
pub(super) const TABLES_FIRST_BYTES: usize = 1296 << 10;
pub(super) const TABLES_MORE_BYTES: usize = 64 << 10;

// What goes back to the system: `pages::purging`.

/// Units that are purged in one call, but for one more: 16 MiB. To give back 14 MiB takes up to a millisecond, and longer the more processors are
/// to be told; and so much more a thread may be resident for a moment than shall be, as what is on its way counts as gone.
pub(super) const PURGED_UNITS: u32 = 7;

/// Units that are looked at for one goal, or in vain under one hold of the lock, before others get it; and free ranges of which some are
/// resident if any is.
pub(super) const UNITS_LOOKED_AT: u32 = 64;
pub(super) const FREE_RANGES_LOOKED_AT: u32 = 16;

// Huge pages: `pages::promotion`, `filling`.

/// Units that are looked at in one piece for one to promote: others get the lock in between.
pub(super) const UNITS_A_PROMOTION: u32 = 1 << 10;

/// Blocks of fewer pages share units with others too often to be told apart; theirs come onto huge pages later.
pub(super) const FILLING_LEAST_PAGES: u32 = 32;

/// Pages in each of the four samples of a block, each of which is a call to the system.
pub(super) const FILLING_SAMPLE_PAGES: u32 = 32;

/// Blocks that are watched at a time: more tell sooner what is filled, and are more calls to the system.
pub(super) const FILLING_WATCHED: usize = 4;

/// How far the score of a size goes in either direction. One block that stays empty weighs as much as two that are filled.
pub(super) const FILLING_SCORE: i8 = 4;

/// What is known so well is looked at now and then only: one of so many blocks.
pub(super) const FILLING_SELDOM: u32 = 16;

/// How many powers of two sizes may be apart for the one to tell of the other.
pub(super) const FILLING_OCTAVES: u32 = 3;

// How many pages may be resident: `budget`.

/// Ticks, or halves of the peak that were given back, after which a need of more memory is beyond doubt. Each widens the budget by a part of the
/// peak: more of them are fewer faults where steps need more, and more memory.
pub(super) const MOST_PROOFS: usize = 8;
