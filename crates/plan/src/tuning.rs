//! The numbers that the planner was tuned by: each is how much of something is tried, or what is taken for large, small or dear.
//!
//! None of them decides whether a plan is valid or a proof holds, and each of them changes which plan is found, and how soon. None has a
//! measurement of its own on record: what all of them come to is in `bench/RESULTS.md`, under *Plans*, which is to be measured again
//! where one is changed. What is no choice, such as the width of a type or a limit that the documentation promises, stands where it is used.

// What planning may take, and how passes and exact searches share it: `planner`, `space`.

/// The effort of planning where neither it nor a deadline is given. The documentation of `Planner` and the guide say 2^24.
pub(crate) const DEFAULT_EFFORT: u64 = 1 << 24;

/// The unit of effort is as many looks of the exact search: about what it takes to place one item in a pass over all of them.
pub(crate) const UNIT_LOOKS: u64 = 64;

/// It takes no less than so many nanoseconds. A deadline that leaves too few for an exact search to come to the bottom is for passes alone.
pub(crate) const UNIT_NANOSECONDS: u128 = 256;

/// The first share of the effort: so much, and at least so many passes over all items. Each further share is twice the one before it.
pub(crate) const FIRST_SHARE: u64 = 1 << 16;
pub(crate) const FIRST_SHARE_PASSES: u64 = 32;

/// Beside exact searches, passes get this part of each share.
pub(crate) const PASSES_PART: u64 = 8;

/// How many exact searches may end without a result before each gets more effort.
pub(crate) const FAILED_SEARCHES: u32 = 4;

/// After the first search without a result, the next goal is this part of the way down to the lower bound.
pub(crate) const SHORTER_STRIDE: u64 = 8;

// The exact search: `exact`.

/// Sorting an item by its bound is as dear as so many looks.
pub(crate) const SORT_LOOKS: u64 = 8;

/// Nodes of the shortest runs; longer ones have this times a number of the Luby sequence.
pub(crate) const SHORTEST_RUN: u64 = 600;

/// The most raised bounds that are remembered: 64 MiB of them, or so many for each item, which is 1 KiB. There can be one for every two items,
/// so without an end memory would grow with the square of their number.
pub(crate) const BOUNDS_KEPT: usize = 1 << 22;
pub(crate) const BOUNDS_KEPT_EACH: usize = 1 << 6;

/// The width of the random factors by which ranks differ between runs: small changes.
pub(crate) const RANKS_SPREAD: f64 = 0.1;

/// What a section in which the search has failed keeps of its weight from one run to the next; time heals the rest.
pub(crate) const WEIGHT_KEPT: f64 = 0.8;

// The skyline's passes: `skyline`.

/// With so many items of the mean size still to come, a valley yields all that it can afford, and before that in proportion.
pub(crate) const ITEMS_TO_COME: u64 = 10;

/// After how many placed items a pass asks whether to go on.
pub(crate) const PLACED_BETWEEN_ASKING: usize = 1 << 12;

/// The tree of the items that are left is not made to find small ones: after a look at so many nodes, what is found by then will do.
pub(crate) const LOOKS_FOR_SMALL: usize = 64;

/// How many items a leaf of that tree has.
pub(crate) const LEAF_ITEMS: usize = 8;

// Letting items fall: `settle`, and `improve`, which lets them.

/// So many looks pass between two at the clock.
pub(crate) const LOOKS_BETWEEN_ASKING: u64 = 1 << 14;

/// How many looks at a neighbour it may take: so many for each item, and at most so many; or few, where only padding can be had.
pub(crate) const FALL_LOOKS_EACH: u64 = 1 << 12;
pub(crate) const FALL_LOOKS: u64 = 1 << 26;
pub(crate) const FALL_LOOKS_FOR_PADDING: u64 = 1 << 20;

/// So many of these looks are as dear as placing an item.
pub(crate) const FALL_LOOKS_AN_ITEM: u64 = 16;

// Blocks of items: `blocks`, and `improve`, which places them.

/// Where more begin and end than this, what fits does so by chance.
pub(crate) const CROWD: u32 = 32;

/// Blocks are no use where they are not fewer than the items by this part of these at the least.
pub(crate) const BLOCKS_FEWER_PART: usize = 4;

/// So much may placing them cost at first, in passes over all items; after that, as much as passes have cost.
pub(crate) const BLOCKS_PASSES: u64 = 100;

/// Where items make blocks that are at most this part of their number, blocks get as much effort as items, other ones each time.
pub(crate) const FEW_BLOCKS_PART: u64 = 4;

// From a first placement to better ones: `improve`.

/// How often what an item holds together is split again. Items that nest like dolls could be peeled one by one, each time with a look
/// at all that are left.
pub(crate) const PEELS: usize = 8;

/// So many items have many good orders that are much alike, and few passes are made: then every second one is in a known order, shaken a
/// little.
pub(crate) const LARGE: usize = 1 << 14;

/// With so many items, what is fastest comes first: the order by length, which keeps valleys wide and finds its items soon, without
/// aiming.
pub(crate) const HUGE: usize = 1 << 18;

/// The limit of a walk's passes is below the best height by a part of the way from there to the lower bound: 2^-4 of it at first, and half as
/// much after each so many failures.
pub(crate) const WALK_SHIFT: u32 = 4;
pub(crate) const WALK_SHIFT_FAILURES: u32 = 32;

/// After so many passes that came no farther, the walk begins anew at the best order.
pub(crate) const STALLED_PASSES: u32 = 2000;

/// An attempt may come this part less far than the one before it, and be kept.
pub(crate) const STEP_BACK_PART: u128 = 64;

/// An attempt that places all items, but above the best height by more than this part of it, counts as one that came nowhere.
pub(crate) const FAR_PART: u64 = 16;

/// So much may a peak cost, in passes over the items that it is of.
pub(crate) const PEAK_PASSES: u64 = 40;

/// At most this part of all items is a peak, or of `LARGE` where they are fewer.
pub(crate) const PEAK_PART: usize = 2;

/// A look at all items for a peak costs this part of what placing them costs.
pub(crate) const PEAK_LOOKS_AN_ITEM: usize = 8;

/// A peak that came out no lower counts so many times what it cost, where there are few items.
pub(crate) const FAILED_PEAK: u64 = 3;
