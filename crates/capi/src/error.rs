//! Why something was refused, as a struct that the caller has: so it is nobody else's, and no memory is needed to tell it.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::c_char;
use std::fmt::{Display, Write};

use tenzor_memory::{AllocError, AllocErrorKind};
use tenzor_table::{Cut, NONE};

/// What kind of failure it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "callers begin with the first")]
pub enum tenzor_error_kind {
    /// Nothing failed.
    TENZOR_OK = 0,
    /// No state of the program can satisfy it: no block can have this size, the alignment is no power of two, or the block alone is larger than a limit.
    TENZOR_NEVER_FITS = 1,
    /// A limit would be exceeded, even with nothing kept for reuse.
    TENZOR_OVER_LIMIT = 2,
    /// There is no memory, and whoever refused did not say why.
    TENZOR_REFUSED = 3,
    /// What was to be destroyed is in use; nothing happened.
    TENZOR_IN_USE = 4,
    /// An argument means nothing: a null pointer, another kind of allocator. Nothing happened.
    TENZOR_INVALID = 5,
}

/// The bytes of a message, with the zero at its end.
pub const TENZOR_MESSAGE: usize = 256;

/// Why something failed. Written where it did, else left alone.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tenzor_error {
    /// What kind of failure.
    pub kind: tenzor_error_kind,
    /// The bytes that were asked for, and their alignment; 0 if it was no request for a block, or there is no allocator.
    pub requested: usize,
    /// See `requested`.
    pub alignment: usize,
    /// The bytes in use where the reason was found, and those kept for reuse; 0 where that is not known.
    pub in_use: usize,
    /// See `in_use`.
    pub pooled: usize,
    /// The limit in force there, in bytes; `SIZE_MAX` if there is none.
    pub limit: usize,
    /// The reason in words, which end with a zero.
    pub message: [c_char; TENZOR_MESSAGE],
}

/// What failed, on its way to the caller.
pub(crate) enum Failure {
    Memory(AllocError),
    Request(Layout),
    /// No block can have this size and alignment.
    Impossible(usize, usize),
    /// There is no memory for what keeps the books.
    NoRoom,
    InUse(String),
    Invalid(&'static str),
}

impl From<AllocError> for Failure {
    fn from(error: AllocError) -> Self {
        Self::Memory(error)
    }
}

/// A request that no layout can express, or whose alignment is none.
pub(crate) fn layout(size: usize, align: usize) -> Result<Layout, Failure> {
    Layout::from_size_align(size, align).map_err(|_| Failure::Impossible(size, align))
}

impl Failure {
    fn tell(self) -> tenzor_error {
        use tenzor_error_kind::{TENZOR_IN_USE, TENZOR_INVALID, TENZOR_NEVER_FITS, TENZOR_OVER_LIMIT, TENZOR_REFUSED};

        let mut error = tenzor_error {
            kind: TENZOR_INVALID,
            requested: 0,
            alignment: 0,
            in_use: 0,
            pooled: 0,
            limit: NONE,
            message: [0; TENZOR_MESSAGE],
        };
        match self {
            Self::Memory(reason) => {
                error.kind = match reason.kind() {
                    AllocErrorKind::NeverFits => TENZOR_NEVER_FITS,
                    AllocErrorKind::OverLimit => TENZOR_OVER_LIMIT,
                    _ => TENZOR_REFUSED,
                };
                (error.requested, error.alignment) = (reason.requested(), reason.alignment());
                (error.in_use, error.pooled) = (reason.in_use(), reason.pooled());
                error.limit = reason.limit().unwrap_or(NONE);
                write(&mut error.message, reason);
            }
            Self::Request(request) => {
                error.kind = TENZOR_REFUSED;
                (error.requested, error.alignment) = (request.size(), request.align());
                write(&mut error.message, format_args!("there is no memory for {} bytes", request.size()));
            }
            Self::Impossible(size, align) => {
                error.kind = TENZOR_NEVER_FITS;
                (error.requested, error.alignment) = (size, align);
                let is_aligned = align.is_power_of_two();
                let why = if is_aligned { "no block can have this size" } else { "the alignment is no power of two" };
                write(&mut error.message, format_args!("cannot allocate {size} bytes aligned to {align}: {why}"));
            }
            Self::NoRoom => {
                error.kind = TENZOR_REFUSED;
                write(&mut error.message, "there is no memory for what keeps the books of it");
            }
            Self::InUse(what) => {
                error.kind = TENZOR_IN_USE;
                write(&mut error.message, what);
            }
            Self::Invalid(what) => write(&mut error.message, what),
        }
        error
    }
}

/// As much as there is room for, whole characters.
fn write(message: &mut [c_char; TENZOR_MESSAGE], text: impl Display) {
    // SAFETY: the place is as large as said, but for the zero at its end.
    let mut to = unsafe { Cut::new(message.as_mut_ptr().cast(), TENZOR_MESSAGE - 1) };
    // It never fails.
    _ = write!(to, "{text}");
    if to.bytes() >= TENZOR_MESSAGE {
        let is_begin = |byte: c_char| (byte as u8) & 0xc0 != 0x80;
        let cut = (0..TENZOR_MESSAGE - 1).rev().find(|&at| is_begin(message[at])).unwrap_or(0);
        message[cut..].fill(0);
    }
}

/// The answer; or `otherwise`, and why, if the caller wants to know.
///
/// # Safety
/// `error` is null, or one may be written there.
pub(crate) unsafe fn answer<T>(error: *mut tenzor_error, otherwise: T, result: Result<T, Failure>) -> T {
    match result {
        Ok(answer) => answer,
        Err(failure) => {
            if !error.is_null() {
                // SAFETY: the caller's word.
                unsafe { error.write(failure.tell()) };
            }
            otherwise
        }
    }
}
