//! What the program is told of its memory, in glibc's forms.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt::Write;

use libc::{c_int, size_t};
use tenzor_memory::{Stats, TenzorMalloc};

use crate::process::{self, say, unless_passive};

const HEAP: TenzorMalloc = TenzorMalloc::new();

/// When the library is loaded, or the program starts.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = {
    extern "C" fn begin() {
        process::begin(tell_at_end);
    }
    begin
};

#[unsafe(no_mangle)]
extern "C" fn malloc_trim(pad: size_t) -> c_int {
    unless_passive!(c"malloc_trim", extern "C" fn(size_t) -> c_int, pad);
    c_int::from(HEAP.trim() > 0)
}

/// There is nothing here that these parameters would mean. Their callers expect to be heard.
#[unsafe(no_mangle)]
extern "C" fn mallopt(parameter: c_int, value: c_int) -> c_int {
    unless_passive!(c"mallopt", extern "C" fn(c_int, c_int) -> c_int, parameter, value);
    1
}

/// As glibc's `struct mallinfo2`, and with `c_int` its `struct mallinfo`.
#[repr(C)]
struct Info<N> {
    arena: N,
    ordblks: N,
    smblks: N,
    hblks: N,
    hblkhd: N,
    usmblks: N,
    fsmblks: N,
    uordblks: N,
    fordblks: N,
    keepcost: N,
}

fn info<N>(number: impl Fn(usize) -> N) -> Info<N> {
    let stats = HEAP.stats();
    Info {
        arena: number(stats.reserved_bytes),
        ordblks: number(stats.pooled_buffers),
        smblks: number(0),
        hblks: number(0),
        hblkhd: number(0),
        usmblks: number(0),
        fsmblks: number(0),
        uordblks: number(stats.bytes_in_use_rounded),
        fordblks: number(stats.pooled_bytes),
        keepcost: number(stats.pooled_bytes),
    }
}

#[unsafe(no_mangle)]
extern "C" fn mallinfo2() -> Info<size_t> {
    unless_passive!(c"mallinfo2", extern "C" fn() -> Info<size_t>,);
    info(|bytes| bytes)
}

/// What is more than the type holds is the most that it holds.
#[unsafe(no_mangle)]
extern "C" fn mallinfo() -> Info<c_int> {
    unless_passive!(c"mallinfo", extern "C" fn() -> Info<c_int>,);
    info(|bytes| c_int::try_from(bytes).unwrap_or(c_int::MAX))
}

/// To standard error, the tables of Tenzor's statistics.
#[unsafe(no_mangle)]
extern "C" fn malloc_stats() {
    unless_passive!(c"malloc_stats", extern "C" fn(),);
    tell();
}

fn tell() {
    say(&format!("tenzor: process {}\n{}\n{}", process::number(), HEAP.stats(), HEAP.footprint()));
}

/// The end may be that of a child that was forked.
extern "C" fn tell_at_end() {
    if process::is_told() {
        tell();
    }
}

fn xml(stats: &Stats) -> Result<String, std::fmt::Error> {
    let mut text = String::from("<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n");
    for row in &stats.buckets {
        let (from, to) = (64_u64 << row.bucket, (128_u64 << row.bucket) - 1);
        writeln!(
            text,
            "  <size from=\"{from}\" to=\"{to}\" total=\"{}\" count=\"{}\"/>",
            row.pooled_bytes, row.pooled_buffers
        )?;
    }
    writeln!(text, "</sizes>")?;
    writeln!(text, "<total type=\"rest\" count=\"{}\" size=\"{}\"/>", stats.pooled_buffers, stats.pooled_bytes)?;
    writeln!(text, "<system type=\"current\" size=\"{}\"/>", stats.reserved_bytes)?;
    writeln!(text, "<system type=\"max\" size=\"{}\"/>", stats.peak_reserved_bytes)?;
    writeln!(text, "<aspace type=\"total\" size=\"{}\"/>\n</heap>", stats.reserved_bytes)?;
    writeln!(text, "<total type=\"in_use\" size=\"{}\"/>", stats.bytes_in_use_rounded)?;
    writeln!(text, "<system type=\"current\" size=\"{}\"/>", stats.reserved_bytes)?;
    writeln!(text, "</malloc>")?;
    Ok(text)
}

/// Writes XML as glibc does, to a `FILE`; the options are none.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_info(options: c_int, file: *mut c_void) -> c_int {
    unless_passive!(c"malloc_info", unsafe extern "C" fn(c_int, *mut c_void) -> c_int, options, file);
    if options != 0 {
        return libc::EINVAL;
    }
    let Ok(text) = xml(&HEAP.stats()) else { return -1 };
    // SAFETY: so many bytes are there; the file is the caller's word.
    let written = unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), file.cast()) };
    if written == text.len() { 0 } else { -1 }
}
