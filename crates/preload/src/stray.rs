//! Addresses that are no blocks of ours: passed on where they may be the C library's own, and else the end of the process, with a line.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};

use tenzor_memory::malloc::{self, Stray};

use crate::process;

/// What the C library calls its own functions, where it has them.
mod libcs {
    use std::arch::global_asm;

    use super::{NonNull, c_void};

    // A reference that may stay empty, which Rust has no way to write: words that the linker fills.
    global_asm!(
        ".pushsection .data.rel.ro,\"aw\",@progbits",
        ".p2align 3",
        ".weak __libc_free",
        ".weak __libc_realloc",
        ".hidden tenzor_libc_free",
        ".globl tenzor_libc_free",
        "tenzor_libc_free: .8byte __libc_free",
        ".hidden tenzor_libc_realloc",
        ".globl tenzor_libc_realloc",
        "tenzor_libc_realloc: .8byte __libc_realloc",
        ".popsection",
    );

    unsafe extern "C" {
        #[link_name = "tenzor_libc_free"]
        static FREE: Option<unsafe extern "C" fn(NonNull<u8>)>;
        #[link_name = "tenzor_libc_realloc"]
        static REALLOC: Option<unsafe extern "C" fn(NonNull<u8>, usize) -> *mut c_void>;
    }

    pub(super) fn free() -> Option<unsafe extern "C" fn(NonNull<u8>)> {
        // SAFETY: a word that the linker has filled, with a function of that type or null.
        unsafe { FREE }
    }

    pub(super) fn realloc() -> Option<unsafe extern "C" fn(NonNull<u8>, usize) -> *mut c_void> {
        // SAFETY: as above.
        unsafe { REALLOC }
    }
}

/// # Safety
/// The caller of `free`'s word.
#[cold]
pub(crate) unsafe fn free(block: NonNull<u8>, what: Stray) {
    match libcs::free().filter(|_| may_be_libcs(block, what, "freed")) {
        // SAFETY: the caller's word: it is a block, and not ours.
        Some(free) => unsafe { free(block) },
        None => wrong(block, what, "freed"),
    }
}

/// # Safety
/// The caller of `realloc`'s word.
#[cold]
pub(crate) unsafe fn realloc(block: NonNull<u8>, size: usize, what: Stray) -> *mut c_void {
    match libcs::realloc().filter(|_| may_be_libcs(block, what, "resized")) {
        // SAFETY: as for `free`.
        Some(realloc) => unsafe { realloc(block, size) },
        None => wrong(block, what, "resized"),
    }
}

/// The size of another allocator's block. Its own function would tell, but is called as ours is.
///
/// # Safety
/// The caller of `malloc_usable_size`'s word.
#[cold]
pub(crate) unsafe fn size(block: NonNull<u8>, what: Stray) -> usize {
    if !may_be_libcs(block, what, "asked for its size") {
        wrong(block, what, "asked for its size");
    }
    let next = process::next(c"malloc_usable_size");
    if next.is_null() {
        return 0;
    }
    // SAFETY: the C library's function has this type.
    unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(NonNull<u8>) -> usize>(next)(block) }
}

/// Whether an address may be the C library's block: it is not ours, and lies neither on a stack, nor in a file, nor nowhere.
fn may_be_libcs(block: NonNull<u8>, what: Stray, how: &str) -> bool {
    if what.is_ours() {
        return false;
    }
    match Mapping::of(block.addr().get()) {
        Some(Mapping::Anonymous) => true,
        Some(Mapping::Stack) => die(format_args!("{block:p} was {how}, where there is a stack")),
        Some(Mapping::File) => die(format_args!("{block:p} was {how}, where there is a file's mapping")),
        Some(Mapping::Closed) => die(format_args!("{block:p} was {how}, where nothing may be read")),
        Some(Mapping::None) => die(format_args!("{block:p} was {how}, where nothing is mapped")),
        // Nobody knows.
        None => true,
    }
}

#[cold]
fn wrong(block: NonNull<u8>, what: Stray, how: &str) -> ! {
    die(format_args!("{block:p} was {how}, where there is {what}"))
}

/// What an address lies in.
enum Mapping {
    None,
    Anonymous,
    File,
    Stack,
    /// Not to be read.
    Closed,
}

impl Mapping {
    /// Asks the system, with no memory but the stack's, and by calls at which no thread is cancelled. `None` if it does not tell.
    fn of(address: usize) -> Option<Self> {
        let here = 0_u8;
        let stack = ptr::from_ref(&here).addr();
        let (path, flags) = (c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        // SAFETY: the name ends with a zero; the descriptor is ours until it is closed.
        let file = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags) };
        if file < 0 {
            return None;
        }
        let found = Self::find(file, address, stack);
        // SAFETY: opened above.
        unsafe { libc::syscall(libc::SYS_close, file) };
        found
    }

    fn find(file: libc::c_long, address: usize, stack: usize) -> Option<Self> {
        let mut text = [0_u8; 4096];
        let mut len = 0;
        loop {
            let rest = &mut text[len..];
            // SAFETY: the buffer is as long as said.
            let read = unsafe { libc::syscall(libc::SYS_read, file, rest.as_mut_ptr(), rest.len()) };
            let read = usize::try_from(read).ok()?;
            if read == 0 {
                return Some(Self::None);
            }
            len += read;
            while let Some(end) = text[..len].iter().position(|&byte| byte == b'\n') {
                if let Some(line) = std::str::from_utf8(&text[..end]).ok().and_then(Line::read)
                    && (line.start..line.end).contains(&address)
                {
                    let has_stack = (line.start..line.end).contains(&stack) || line.name == "[stack]";
                    return Some(match () {
                        () if has_stack => Self::Stack,
                        () if !line.is_readable => Self::Closed,
                        () if line.name.is_empty() || line.name == "[heap]" || line.name.starts_with("[anon") => {
                            Self::Anonymous
                        }
                        () => Self::File,
                    });
                }
                text.copy_within(end + 1..len, 0);
                len -= end + 1;
            }
            if len == text.len() {
                // A name without an end: what matters of the line comes first.
                len = 0;
            }
        }
    }
}

struct Line<'a> {
    start: usize,
    end: usize,
    is_readable: bool,
    name: &'a str,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        // The access, the offset, the device, the file's number.
        let name = rest.splitn(5, ' ').nth(4).unwrap_or_default().trim();
        Some(Self { start: hex(start)?, end: hex(end)?, is_readable: rest.starts_with('r'), name })
    }
}

/// Says a line, and ends the process.
#[cold]
pub(crate) fn die(what: fmt::Arguments<'_>) -> ! {
    malloc::die(what)
}
