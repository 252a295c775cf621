//! Requests in the manner of C, from the process's heap: a block is freed, resized and asked for its size by its address alone.
//!
//! This is what a library stands on that exports `malloc` and `free`. In Rust, where layouts are known, [`TenzorMalloc`](crate::TenzorMalloc) is the faster way,
//! and the one whose statistics count to the byte: here a block of up to 64 KiB counts with all of its [size]. What one way grants is not to be
//! freed in the other.
//!
//! ```
//! use std::alloc::Layout;
//! use tenzor_memory::malloc;
//!
//! let block = malloc::alloc(Layout::new::<[f32; 1000]>()).expect("4000 bytes");
//! assert!(malloc::size(block).is_ok_and(|bytes| bytes >= 4000));
//! // SAFETY: it is ours, and used no more.
//! assert!(unsafe { malloc::free(block) }.is_ok());
//!
//! let local = 0_u8;
//! assert!(malloc::size((&local).into()).is_err());
//! ```
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;

use crate::error::AllocError;
use crate::heap::Holding;
use crate::heap::classes;
use crate::os;
use crate::process::{self, by_address};

/// No block in use starts at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    address: NonNull<u8>,
    holding: Holding,
}

impl Stray {
    fn at(address: NonNull<u8>) -> impl Fn(Holding) -> Self {
        move |holding| Self { address, holding }
    }

    /// Whether the address is the heap's: what was passed there is wrong, as the heap never granted it, or has it again. Else it may be another allocator's block.
    pub fn is_ours(&self) -> bool {
        !matches!(self.holding, Holding::Nothing) || by_address::is_ours(self.address)
    }
}

/// What lies there instead.
impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.holding)
    }
}

impl std::error::Error for Stray {}

/// The smallest block is for what has no size.
#[inline]
fn sized(layout: Layout) -> Option<Layout> {
    if layout.size() == 0 { Layout::from_size_align(1, layout.align()).ok() } else { Some(layout) }
}

/// A block for a layout, also where its size is 0: each has an address of its own. `None` where there is no memory, or a limit refuses it. Constant time where a block of that
/// size was freed before.
#[inline]
pub fn alloc(layout: Layout) -> Option<NonNull<u8>> {
    by_address::obtain(sized(layout)?)
}

/// As [`alloc`], with all of the layout's bytes zero. Memory that is known to be zero is not written.
#[inline]
pub fn alloc_zeroed(layout: Layout) -> Option<NonNull<u8>> {
    by_address::obtain_zeroed(sized(layout)?)
}

/// Frees a block.
///
/// # Errors
/// Where no block starts at the address, or none is in use as far as can be seen; then nothing happened. A block of up to 64 KiB that was freed
/// just now, and lies in a thread's stock, cannot be told from one in use.
///
/// # Safety
/// A block that starts there came from this module, and nobody uses it any more.
#[inline]
pub unsafe fn free(block: NonNull<u8>) -> Result<(), Stray> {
    // SAFETY: the caller's word.
    unsafe { by_address::give_back(block) }.map_err(Stray::at(block))
}

/// Makes a block fit another layout, and returns where it is now; `Ok(None)` where there is no memory, and it is as it was. Its contents stay, up to the
/// lesser of both sizes. What grows large moves its pages, not its bytes. Only as aligned as the new layout is.
///
/// # Errors
/// As for [`free`].
///
/// # Safety
/// As for [`free`]; if a block is returned, that is the caller's, and the old one nobody's.
pub unsafe fn realloc(block: NonNull<u8>, new: Layout) -> Result<Option<NonNull<u8>>, Stray> {
    let Some(new) = sized(new) else { return Ok(None) };
    // SAFETY: the caller's word.
    unsafe { by_address::refit(block, new) }.map_err(Stray::at(block))
}

/// The bytes of a block: what was requested where that is more than 64 KiB, else what the block has room for, all of which may be used.
///
/// # Errors
/// As for [`free`].
#[inline]
pub fn size(block: NonNull<u8>) -> Result<usize, Stray> {
    by_address::place(block).map(|place| place.usable()).map_err(Stray::at(block))
}

/// What stands in the way of a request that was refused just now, as far as can be seen: whether it is the heap's limit, and what is in use.
///
/// ```
/// use std::alloc::Layout;
/// use tenzor_memory::{AllocErrorKind, HeapConfig, TenzorMalloc, malloc};
///
/// TenzorMalloc::new().configure(&HeapConfig::new().with_limit(64 << 20));
/// let request = Layout::new::<[u8; 100 << 20]>();
/// assert!(malloc::alloc(request).is_none());
/// assert_eq!(malloc::why(request).kind(), AllocErrorKind::NeverFits);
/// assert_eq!(malloc::why(request).limit(), Some(64 << 20));
/// ```
pub fn why(request: Layout) -> AllocError {
    process::explain(request)
}

/// Says a line on standard error, as the heap says that something was freed wrongly, and ends the process.
#[cold]
pub fn die(what: fmt::Arguments<'_>) -> ! {
    os::die(what)
}

/// The [size] that a block for a layout would have; `None` if it is too large for any heap.
pub fn would_be(layout: Layout) -> Option<usize> {
    classes::place(sized(layout)?).map(|place| place.usable())
}
