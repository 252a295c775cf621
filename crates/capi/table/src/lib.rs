//! What the libraries of Tenzor for C share: one heap between them, where both are loaded, and where their own books are.
//!
//! Each has the heap's code in it, and what is static there. So the one that replaces malloc shows a table of what its heap does, by the name
//! `tenzor_heap_1`, and the other one, with the C API, uses that where it is there, and else its own. The number in the name is that of the table's
//! form: fields are added at its end only, and [`bytes`](Heap::bytes) says which are there.
#![allow(unsafe_code)]

mod internal;

use std::alloc::Layout;
use std::fmt::{self, Write};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use tenzor_memory::{
    AllocError, AllocErrorKind, Background, Backing, BucketStats, HeapConfig, HugePages, Pages, Stats, TenzorMalloc,
    malloc,
};

pub use self::internal::{Internal, is_there_room};

/// No limit, no bound, never: what a number says that has no value.
pub const NONE: usize = usize::MAX;

/// What a heap does. Sizes and alignments are in bytes; a size is not zero, and an alignment is a power of two.
#[repr(C)]
#[derive(Debug)]
pub struct Heap {
    /// The size of this table.
    pub bytes: usize,
    /// A block; zeroed if that is asked for. Null if it is refused.
    pub obtain: extern "C" fn(size: usize, align: usize, zeroed: bool) -> *mut u8,
    /// Takes a block back that was granted so.
    pub give_back: unsafe extern "C" fn(block: *mut u8, size: usize, align: usize),
    /// See [`Backing::refit`]. Null if it cannot.
    pub refit: unsafe extern "C" fn(block: *mut u8, align: usize, old: usize, new: usize, zeroed: bool) -> *mut u8,
    /// Statistics, and the rows of size classes, of which there is room for so many; returns how many there are. The peaks are taken anew then if that is asked for.
    pub stats: unsafe extern "C" fn(stats: *mut Counts, rows: *mut Row, room: usize, takes_peaks: bool) -> usize,
    /// The tables of statistics and footprint as text, of which there is room for so many bytes; returns how many there are.
    pub report: unsafe extern "C" fn(text: *mut u8, room: usize) -> usize,
    /// Gives back what is free; returns how many bytes.
    pub trim: extern "C" fn() -> usize,
    /// Applies settings. Returns whether they mean something.
    pub configure: extern "C" fn(settings: &Settings) -> bool,
    /// The limit that is in force.
    pub limit: extern "C" fn() -> usize,
    /// Whether it is the limit that refused a request just now; if so, what is in use is written.
    pub is_over_limit: extern "C" fn(size: usize, align: usize, in_use: &mut usize) -> bool,
    /// Who is asked before a request is refused, with its size and alignment.
    pub on_refusal: extern "C" fn(handler: Option<Handler>),
}

/// May free memory, and says whether the request is to be tried again.
pub type Handler = extern "C" fn(size: usize, align: usize) -> bool;

/// Statistics, of one instant.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests served: hits and misses.
    pub allocations: u64,
    /// Blocks freed.
    pub deallocations: u64,
    /// All bytes ever handed out; wraps around.
    pub bytes_allocated: usize,
    /// All bytes ever freed; wraps around.
    pub bytes_freed: usize,
    /// Bytes handed out and not yet freed, as requested.
    pub bytes_in_use: usize,
    /// The largest `bytes_in_use` so far, or since the peaks were taken.
    pub peak_bytes_in_use: usize,
    /// `bytes_in_use`, each block with all of its size class.
    pub bytes_in_use_rounded: usize,
    /// Requests served from what was kept for reuse.
    pub pool_hits: u64,
    /// Requests for which memory was asked for further down.
    pub pool_misses: u64,
    /// Bytes kept free for reuse.
    pub pooled_bytes: usize,
    /// The part of them that those keep whose memory comes from here.
    pub kept_above_bytes: usize,
    /// Blocks kept free for reuse.
    pub pooled_buffers: usize,
    /// Bytes on their way at this instant, or spent on alignment.
    pub overhead_bytes: usize,
    /// Bytes held: in use rounded, pooled, and overhead. Of the heap: resident bytes.
    pub reserved_bytes: usize,
    /// The largest `reserved_bytes` so far, or since the peaks were taken, without what was on its way in other threads.
    pub peak_reserved_bytes: usize,
    /// Blocks, or of the heap ranges of pages, given back.
    pub released: u64,
    /// Requests refused, but for those that no block can serve.
    pub failures: u64,
}

macro_rules! each_count {
    ($convert:ident) => {
        $convert!(
            allocations,
            deallocations,
            bytes_allocated,
            bytes_freed,
            bytes_in_use,
            peak_bytes_in_use,
            bytes_in_use_rounded,
            pool_hits,
            pool_misses,
            pooled_bytes,
            kept_above_bytes,
            pooled_buffers,
            overhead_bytes,
            reserved_bytes,
            peak_reserved_bytes,
            released,
            failures
        )
    };
}

impl From<&Stats> for Counts {
    fn from(stats: &Stats) -> Self {
        macro_rules! take {
            ($($field:ident),*) => { Self { $($field: stats.$field),* } };
        }
        each_count!(take)
    }
}

impl Counts {
    /// As statistics, with these rows.
    pub fn with_rows(&self, rows: &[Row]) -> Stats {
        let mut stats = Stats::default();
        macro_rules! put {
            ($($field:ident),*) => { $(stats.$field = self.$field;)* };
        }
        each_count!(put);
        stats.buckets = rows.iter().map(Row::bucket).collect();
        stats
    }
}

/// A row of statistics: the fields of `BucketStats`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Row {
    pub bucket: usize,
    pub hits: u64,
    pub misses: u64,
    pub buffers_in_use: u64,
    pub pooled_buffers: usize,
    pub pooled_bytes: usize,
    pub released: u64,
}

impl Row {
    fn of(stats: &BucketStats) -> Self {
        let &BucketStats { bucket, hits, misses, buffers_in_use, pooled_buffers, pooled_bytes, released, .. } = stats;
        Self { bucket, hits, misses, buffers_in_use, pooled_buffers, pooled_bytes, released }
    }

    fn bucket(&self) -> BucketStats {
        let &Self { bucket, hits, misses, buffers_in_use, pooled_buffers, pooled_bytes, released } = self;
        let mut stats = BucketStats::default();
        (stats.bucket, stats.hits, stats.misses, stats.buffers_in_use) = (bucket, hits, misses, buffers_in_use);
        (stats.pooled_buffers, stats.pooled_bytes, stats.released) = (pooled_buffers, pooled_bytes, released);
        stats
    }
}

/// Settings of the heap. A field of `SIZE_MAX - 1` stays as it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most bytes in use; `SIZE_MAX` for no limit.
    pub limit: usize,
    /// The most bytes that are kept free; `SIZE_MAX` for no limit.
    pub idle_limit: usize,
    /// How long free memory stays, in milliseconds; `SIZE_MAX` for ever.
    pub decay_ms: usize,
    /// Huge pages: 0 where they pay, 1 wherever one fits, 2 nowhere.
    pub huge_pages: usize,
    /// Who gives idle memory back: 0 a thread once the program has several, 1 always a thread, 2 the program's own requests.
    pub background: usize,
    /// 1 if each free is checked at once, 0 if not.
    pub checks: usize,
}

/// What a setting says that stays as it is.
pub const UNCHANGED: usize = usize::MAX - 1;

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit: UNCHANGED,
            idle_limit: UNCHANGED,
            decay_ms: UNCHANGED,
            huge_pages: UNCHANGED,
            background: UNCHANGED,
            checks: UNCHANGED,
        }
    }
}

/// The heap of this library.
pub static OWN: Heap = TABLE;

/// Its table, to be shown by a name.
pub const TABLE: Heap = Heap {
    bytes: size_of::<Heap>(),
    obtain,
    give_back,
    refit,
    stats,
    report,
    trim,
    configure,
    limit,
    is_over_limit,
    on_refusal,
};

fn pointer(block: Option<NonNull<u8>>) -> *mut u8 {
    block.map_or(ptr::null_mut(), NonNull::as_ptr)
}

extern "C" fn obtain(size: usize, align: usize, zeroed: bool) -> *mut u8 {
    let Ok(request) = Layout::from_size_align(size, align) else { return ptr::null_mut() };
    pointer(if zeroed { Pages.obtain_zeroed(request) } else { Pages.obtain(request) }.ok())
}

unsafe extern "C" fn give_back(block: *mut u8, size: usize, align: usize) {
    if let (Some(block), Ok(layout)) = (NonNull::new(block), Layout::from_size_align(size, align)) {
        // SAFETY: the caller's word.
        unsafe { Pages.give_back(block, layout) };
    }
}

unsafe extern "C" fn refit(block: *mut u8, align: usize, old: usize, new: usize, zeroed: bool) -> *mut u8 {
    let layouts = (Layout::from_size_align(old, align), Layout::from_size_align(new, align));
    let (Some(block), (Ok(old), Ok(new))) = (NonNull::new(block), layouts) else { return ptr::null_mut() };
    // SAFETY: the caller's word.
    pointer(unsafe { Pages.refit(block, old, new, zeroed) })
}

unsafe extern "C" fn stats(to: *mut Counts, rows: *mut Row, room: usize, takes_peaks: bool) -> usize {
    let stats = if takes_peaks { Pages.take_peaks() } else { Pages.stats() };
    // SAFETY: the caller's word: there is room for one, and for so many rows.
    unsafe {
        to.write(Counts::from(&stats));
        stats.buckets.iter().take(room).enumerate().for_each(|(place, row)| rows.add(place).write(Row::of(row)));
    }
    stats.buckets.len()
}

/// Text for a place that may be too small for it: what fits is there, and all of it is counted.
#[derive(Debug)]
pub struct Cut {
    to: *mut u8,
    room: usize,
    bytes: usize,
}

impl Cut {
    /// # Safety
    /// So many bytes may be written there.
    pub unsafe fn new(to: *mut u8, room: usize) -> Self {
        Self { to, room, bytes: 0 }
    }

    /// The bytes of the whole text.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = self.room.saturating_sub(self.bytes).min(text.len());
        // SAFETY: *new*: there is room for what fits.
        unsafe { self.to.wrapping_add(self.bytes).copy_from_nonoverlapping(text.as_ptr(), fits) };
        self.bytes += text.len();
        Ok(())
    }
}

unsafe extern "C" fn report(to: *mut u8, room: usize) -> usize {
    // SAFETY: the caller's word.
    let mut text = unsafe { Cut::new(to, room) };
    // It never fails.
    _ = write!(text, "{}\n{}", Pages.stats(), Pages.footprint());
    text.bytes()
}

extern "C" fn trim() -> usize {
    Pages.trim()
}

extern "C" fn configure(settings: &Settings) -> bool {
    let &Settings { limit, idle_limit, decay_ms, huge_pages, background, checks } = settings;
    let mut config = HeapConfig::new();
    let some = |value: usize| Some(value).filter(|&value| value != NONE);
    if limit != UNCHANGED {
        config = config.with_limit(some(limit));
    }
    if idle_limit != UNCHANGED {
        config = config.with_idle_limit(some(idle_limit));
    }
    if decay_ms != UNCHANGED {
        config = config.with_decay(some(decay_ms).map(|ms| Duration::from_millis(ms as u64)));
    }
    config = match huge_pages {
        UNCHANGED => config,
        0 => config.with_huge_pages(HugePages::Auto),
        1 => config.with_huge_pages(HugePages::Always),
        2 => config.with_huge_pages(HugePages::Never),
        _ => return false,
    };
    config = match background {
        UNCHANGED => config,
        0 => config.with_background(Background::Auto),
        1 => config.with_background(Background::Always),
        2 => config.with_background(Background::Never),
        _ => return false,
    };
    config = match checks {
        UNCHANGED => config,
        0 | 1 => config.with_checks(checks == 1),
        _ => return false,
    };
    TenzorMalloc::new().configure(&config);
    true
}

extern "C" fn limit() -> usize {
    TenzorMalloc::new().config().limit.value.unwrap_or(NONE)
}

extern "C" fn is_over_limit(size: usize, align: usize, in_use: &mut usize) -> bool {
    let Ok(request) = Layout::from_size_align(size, align) else { return false };
    let why = malloc::why(request);
    *in_use = why.in_use();
    why.kind() != AllocErrorKind::BackingRefused
}

/// A [`Handler`], or null.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

extern "C" fn on_refusal(handler: Option<Handler>) {
    fn ask(error: &AllocError) -> bool {
        let handler = HANDLER.load(Acquire);
        // SAFETY: what is there was put there as one, or is null.
        let handler = unsafe { mem::transmute::<*mut (), Option<Handler>>(handler) };
        handler.is_some_and(|handler| handler(error.requested(), error.alignment()))
    }
    HANDLER.store(handler.map_or(ptr::null_mut(), |handler| handler as *mut ()), Release);
    TenzorMalloc::new().on_refusal(handler.map(|_| ask as fn(&AllocError) -> bool));
}
