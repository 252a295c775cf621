//! How the heap rounds requests: small ones to classes of blocks, large ones to runs of pages.
//!
//! Everything follows from the request's layout, so that a free needs neither a header nor a look-up. Blocks below 8 KiB
//! are cut from slabs: classes step by 16 bytes up to 128 and by a quarter of a power of two above. Up to 64 KiB a class
//! is a number of pages. A larger block is a run of pages of its own.

use std::alloc::Layout;

pub(crate) use crate::os::PAGE;

/// The largest block of a slab, in bytes.
const SLAB_BLOCK: usize = 7 << 10;

/// The largest block that has a class, in bytes: what thread caches hold.
const CLASS_BLOCK: usize = 64 << 10;

/// The most pages that a block of a class, or a slab, has.
pub(crate) const CLASS_PAGES: u32 = (CLASS_BLOCK / PAGE) as u32;

/// Classes of slab blocks, and classes in all.
pub(crate) const SLAB_CLASSES: usize = 31;
pub(crate) const CLASSES: usize = SLAB_CLASSES + CLASS_BLOCK / PAGE - 1;

/// Kinds of runs, by powers of two, of which a thread may keep one each; and all that it may keep blocks of: the classes, and behind them these.
const KINDS: usize = 4;
pub(crate) const KEPT_CLASSES: usize = CLASSES + KINDS;

/// The most blocks that a slab has.
pub(crate) const SLAB_BLOCKS: usize = 256;

const FINEST: usize = 16;

/// A buffer of this size or more starts at an offset of its own into its first page, in bytes: see [`Place::Run`].
const COLOURED: usize = 1 << 20;

/// Offsets within a page are multiples of this.
const LINE: usize = 64;

/// Capacity in bytes of each class, and of each kind of runs the most.
const CAPACITIES: [u32; KEPT_CLASSES] = {
    let mut capacities = [0; KEPT_CLASSES];
    let mut class = 0;
    while class < KEPT_CLASSES {
        capacities[class] = if class < 8 {
            (FINEST * (class + 1)) as u32
        } else if class < SLAB_CLASSES {
            let (octave, step) = ((class - 8) / 4, (class - 8) % 4 + 1);
            ((128 + 32 * step) << octave) as u32
        } else if class < CLASSES {
            (PAGE * (class - SLAB_CLASSES + 2)) as u32
        } else {
            ((CLASS_BLOCK << (class - CLASSES + 1)) - PAGE) as u32
        };
        class += 1;
    }
    capacities
};

/// 2³² divided by each slab's capacity, rounded up.
const INVERSES: [u32; SLAB_CLASSES] = {
    let mut inverses = [0; SLAB_CLASSES];
    let mut class = 0;
    while class < SLAB_CLASSES {
        inverses[class] = u32::MAX / CAPACITIES[class] + 1;
        class += 1;
    }
    inverses
};

/// The class of each size up to [`SLAB_BLOCK`], in steps of [`FINEST`].
const CLASS_OF: [u8; SLAB_BLOCK / FINEST] = {
    let mut classes = [0; SLAB_BLOCK / FINEST];
    let (mut step, mut class) = (0, 0);
    while step < classes.len() {
        if (step + 1) * FINEST > CAPACITIES[class] as usize {
            class += 1;
        }
        classes[step] = class as u8;
        step += 1;
    }
    classes
};

/// The pages of a slab of each class: of 4 to 16 (fewer, where these would be too many blocks) the number that leaves the
/// least unused.
const SLAB_PAGES: [u8; SLAB_CLASSES] = {
    let mut all = [0; SLAB_CLASSES];
    let mut class = 0;
    while class < SLAB_CLASSES {
        let capacity = CAPACITIES[class] as usize;
        let (mut best, mut pages) = (0, 1);
        while pages <= 16 {
            let blocks = pages * PAGE / capacity;
            let large_enough = pages >= 4 || (pages + 1) * PAGE / capacity > SLAB_BLOCKS;
            if blocks <= SLAB_BLOCKS && blocks >= 4 && large_enough {
                // Unused bytes in proportion to the pages, compared crosswise.
                let unused = pages * PAGE % capacity;
                if best == 0 || unused * best < (best * PAGE % capacity) * pages {
                    best = pages;
                }
            }
            pages += 1;
        }
        all[class] = best as u8;
        class += 1;
    }
    all
};

/// Where the heap puts a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A block of a class.
    Class(usize),
    /// A run of pages of its own.
    Run(Run),
}

impl Place {
    pub(crate) fn class(&self) -> Option<usize> {
        match *self {
            Self::Class(class) => Some(class),
            Self::Run(_) => None,
        }
    }

    /// The bytes that whoever has only its address may use.
    pub(crate) fn usable(&self) -> usize {
        match self {
            Self::Class(class) => class_capacity(*class),
            Self::Run(run) => run.size,
        }
    }

    /// A request that has just this place.
    pub(crate) fn request(&self) -> Option<Layout> {
        let align = match self {
            Self::Run(Run { coloured: false, align, size, .. }) if *align > 1 || *size >= COLOURED => {
                *align as usize * PAGE
            }
            _ => FINEST,
        };
        Layout::from_size_align(self.usable(), align).ok()
    }

    /// The bytes that it takes.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Class(class) => class_capacity(*class),
            Self::Run(run) => run.capacity(),
        }
    }
}

/// What a request needs that has no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The bytes that were asked for, and the pages that they take.
    pub(crate) size: usize,
    pub(crate) pages: u32,
    /// It starts at a multiple of so many pages.
    pub(crate) align: u32,
    /// The buffer starts at a multiple of 64 bytes into its first page that follows from the page's number. So do equal
    /// buffers, one behind the other, not start at equal offsets in pages and huge pages, where they would compete for the
    /// same cache sets and memory banks.
    pub(crate) coloured: bool,
}

impl Run {
    /// For a request of so many bytes, which starts at a multiple of so many pages; `None` if it is too large for any heap.
    #[inline]
    pub(crate) fn new(size: usize, align: u32, coloured: bool) -> Option<Self> {
        // A layout's size is at most half of what a number can be.
        let bytes = size + if coloured { PAGE - LINE } else { 0 };
        Some(Self { size, pages: u32::try_from(bytes.div_ceil(PAGE)).ok()?, align, coloured })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.pages as usize * PAGE
    }

    /// How far into its first page its buffer starts.
    #[inline]
    pub(crate) fn colour(&self, start: u32) -> usize {
        if self.coloured { start as usize % (PAGE / LINE) * LINE } else { 0 }
    }
}

/// The place of a request that is not zero-sized; `None` if it is too large for any heap. Constant time.
#[inline]
pub(crate) fn place(request: Layout) -> Option<Place> {
    match class(request) {
        Some(class) => Some(Place::Class(class)),
        None => run(request).map(Place::Run),
    }
}

/// The class of a small request, which is not zero-sized. Its capacity is a multiple of the request's alignment.
#[inline]
pub(crate) fn class(request: Layout) -> Option<usize> {
    // The last byte, counted from 0, once the size is rounded up to the alignment. All capacities from a multiple of a power
    // of two up are multiples of it too, or of their step, which is larger. A larger alignment than a page's makes the
    // size exceed that of all slab blocks.
    let last = (request.size().wrapping_sub(1)) | (request.align() - 1);
    if last < SLAB_BLOCK {
        Some(usize::from(CLASS_OF[last / FINEST]))
    } else if last < CLASS_BLOCK && request.align() <= PAGE {
        Some(SLAB_CLASSES + last / PAGE - 1)
    } else {
        None
    }
}

/// The run for a request that has no class.
#[inline]
pub(crate) fn run(request: Layout) -> Option<Run> {
    let coloured = request.size() >= COLOURED && request.align() <= LINE;
    let align = u32::try_from((request.align() / PAGE).max(1)).ok()?;
    Run::new(request.size(), align, coloured)
}

/// The kind of a run, which takes the place of a class where a thread keeps it; none of one that is too large, or aligned to more than a page.
#[inline]
pub(crate) fn kind(run: Run) -> Option<usize> {
    let kind = (run.pages / CLASS_PAGES).checked_ilog2()? as usize;
    (run.pages > CLASS_PAGES && kind < KINDS && run.align == 1 && !run.coloured).then_some(CLASSES + kind)
}

/// The run for a request that has no class, with its kind, if it has one.
#[inline]
pub(crate) fn kind_and_run(request: Layout) -> Option<(usize, Run)> {
    // All larger ones are of none, and mostly at once.
    if request.size() >= COLOURED {
        return None;
    }
    let run = run(request)?;
    Some((kind(run)?, run))
}

/// The run that a block of a class without slabs is, where it lies in no parcel.
pub(crate) fn class_run(class: usize) -> Run {
    Run { size: class_capacity(class), pages: class_pages(class), align: 1, coloured: false }
}

/// The place of a block that is a run: a class's, if it is a [`class_run`]. A run of its own that has so few pages is aligned to more than one.
#[inline]
pub(crate) fn place_of_run(run: Run) -> Place {
    class_of_pages(run.pages).filter(|_| run.align == 1).map_or(Place::Run(run), Place::Class)
}

/// The class of blocks of so many pages, if there is one: from 2 on to [`CLASS_PAGES`].
#[inline]
pub(crate) fn class_of_pages(pages: u32) -> Option<usize> {
    (2..=CLASS_PAGES).contains(&pages).then(|| SLAB_CLASSES + pages as usize - 2)
}

/// Whether a block of a class starts so many bytes into a slab.
#[inline]
pub(crate) fn is_start(class: usize, offset: usize) -> bool {
    const { assert!(CLASS_BLOCK <= 1 << 16, "the test is exact for 16 bits") };
    let capacity = CAPACITIES[class];
    // An offset is a multiple where its product with the inverse, rounded up, has a fraction below that (Lemire, Kaser, Kurz 2019).
    (offset as u32).wrapping_mul(INVERSES[class]) < INVERSES[class]
        && offset + capacity as usize <= usize::from(SLAB_PAGES[class]) * PAGE
}

/// The bytes of each block of a class, and of a kind the most.
#[inline]
pub(crate) const fn class_capacity(class: usize) -> usize {
    CAPACITIES[class] as usize
}

/// The pages of a slab, or of a block if the class has no slabs.
pub(crate) fn class_pages(class: usize) -> u32 {
    match SLAB_PAGES.get(class) {
        Some(&pages) => u32::from(pages),
        None => CAPACITIES[class] / PAGE as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn a_class_is_the_least_that_holds_its_sizes() {
        assert_eq!(CAPACITIES[SLAB_CLASSES - 1] as usize, SLAB_BLOCK);
        assert_eq!(CAPACITIES[CLASSES - 1] as usize, CLASS_BLOCK);
        assert!(CAPACITIES.is_sorted_by(|a, b| a < b));
        for size in 1..=CLASS_BLOCK {
            let class = class(layout(size, 1)).unwrap();
            assert!(class_capacity(class) >= size);
            assert!(class == 0 || class_capacity(class - 1) < size, "{size}");
        }
        assert_eq!(class(layout(CLASS_BLOCK + 1, 1)), None);
    }

    #[test]
    fn a_class_is_as_aligned_as_its_requests() {
        for power in 0..=12 {
            let align = 1 << power;
            for size in 1..=CLASS_BLOCK {
                let capacity = class_capacity(class(layout(size, align)).unwrap());
                assert!(capacity >= size && capacity.is_multiple_of(align), "{size} aligned to {align} in {capacity}");
            }
        }
        assert!(matches!(
            place(layout(8200, 8192)),
            Some(Place::Run(Run { size: 8200, pages: 3, align: 2, coloured: false }))
        ));
    }

    #[test]
    fn slabs_waste_little() {
        for class in 0..SLAB_CLASSES {
            let (bytes, capacity) = (class_pages(class) as usize * PAGE, class_capacity(class));
            let blocks = bytes / capacity;
            assert!((4..=SLAB_BLOCKS).contains(&blocks), "{capacity}");
            assert!((bytes - blocks * capacity) * 32 <= bytes, "{capacity}: {blocks} in {bytes}");
        }
    }

    #[test]
    fn blocks_start_at_multiples_of_their_capacity() {
        for class in 0..SLAB_CLASSES {
            let (bytes, capacity) = (class_pages(class) as usize * PAGE, class_capacity(class));
            for offset in 0..bytes {
                let is_block = offset % capacity == 0 && offset / capacity < bytes / capacity;
                assert_eq!(is_start(class, offset), is_block, "{offset} of {capacity}");
            }
        }
        for class in SLAB_CLASSES..CLASSES {
            assert_eq!(place_of_run(class_run(class)), Place::Class(class));
        }
    }

    #[test]
    fn a_place_has_a_request() {
        for align in (0..24).map(|power| 1 << power) {
            for size in [1, 17, 5000, 8192, 60_000, CLASS_BLOCK + 1, COLOURED - 1, COLOURED, COLOURED + 1, 1 << 40] {
                let place = place(layout(size, align)).unwrap();
                assert_eq!(place.request().and_then(super::place), Some(place), "{size} aligned to {align}");
                assert!(place.usable() >= size && place.usable() <= place.capacity());
            }
        }
    }

    #[test]
    fn runs_hold_what_they_are_asked_for() {
        for size in [CLASS_BLOCK + 1, COLOURED - 1, COLOURED, (256 << 20) + 5] {
            let Some(Place::Run(run @ Run { pages, coloured, .. })) = place(layout(size, 64)) else { panic!("{size}") };
            let offset = (0..64).map(|start| run.colour(start)).max().unwrap();
            assert!(pages as usize * PAGE >= size + offset);
            assert_eq!(coloured, size >= COLOURED);
        }
        assert_eq!(place(layout(1 << 50, 1)), None);
    }

    #[test]
    fn a_kind_is_all_below_a_power_of_two() {
        assert_eq!(class_capacity(KEPT_CLASSES - 1), (1 << 20) - PAGE);
        for pages in 1..2 * CAPACITIES[KEPT_CLASSES - 1] / PAGE as u32 {
            let run = Run { size: pages as usize * PAGE, pages, align: 1, coloured: false };
            let least = (CLASSES..KEPT_CLASSES).find(|&kind| class_capacity(kind) >= run.size);
            assert_eq!(kind(run), least.filter(|_| pages > CLASS_PAGES), "{pages}");
            assert_eq!(kind(Run { align: 2, ..run }), None);
        }
    }
}
