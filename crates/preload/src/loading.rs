//! `dlopen`, with one flag less.
//!
//! `RTLD_DEEPBIND` has a library find its own `malloc` before ours: what it frees of the program's, and the program of its, are two allocators' then, which
//! ends in an abort. Without the flag, it finds ours. What it is there for otherwise, that a library prefers its own functions to others' of the same name,
//! is lost by that: `TENZOR_DEEPBIND=keep` leaves it. The caller's address stays what it is, as the loader looks for libraries by that: so it is a jump.
#![allow(unsafe_code)]

use std::arch::naked_asm;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32};

use crate::process::{is_passive, next};

/// The C library's, once it was looked for.
static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The flags that pass.
static PASSING: AtomicU32 = AtomicU32::new(!(libc::RTLD_DEEPBIND.cast_unsigned()));

/// Looks for it; what stands for it where there is none loads nothing.
extern "C" fn find() {
    extern "C" fn none(_: *const libc::c_char, _: libc::c_int) -> *mut c_void {
        ptr::null_mut()
    }
    // SAFETY: the names end with zeros; what is read of the environment is not kept.
    unsafe {
        let keep = libc::getenv(c"TENZOR_DEEPBIND".as_ptr());
        if is_passive() || (!keep.is_null() && libc::strcmp(keep, c"keep".as_ptr()) == 0) {
            PASSING.store(u32::MAX, Relaxed);
        }
        let found = next(c"dlopen");
        REAL.store(if found.is_null() { none as *mut c_void } else { found }, Release);
    }
}

#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn dlopen() {
    naked_asm!(
        ".cfi_startproc",
        "mov rax, qword ptr [rip + {real}]",
        "test rax, rax",
        "jne 2f",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "push rsi",
        ".cfi_adjust_cfa_offset 8",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "call {find}",
        "add rsp, 8",
        ".cfi_adjust_cfa_offset -8",
        "pop rsi",
        ".cfi_adjust_cfa_offset -8",
        "pop rdi",
        ".cfi_adjust_cfa_offset -8",
        "mov rax, qword ptr [rip + {real}]",
        "2: and esi, dword ptr [rip + {passing}]",
        "jmp rax",
        ".cfi_endproc",
        real = sym REAL,
        passing = sym PASSING,
        find = sym find,
    )
}

#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn dlopen() {
    naked_asm!(
        ".cfi_startproc",
        "adrp x9, {real}",
        "ldr x10, [x9, :lo12:{real}]",
        "cbnz x10, 2f",
        "stp x0, x1, [sp, #-32]!",
        ".cfi_def_cfa_offset 32",
        "str x30, [sp, #16]",
        ".cfi_offset 30, -16",
        "bl {find}",
        "ldr x30, [sp, #16]",
        ".cfi_restore 30",
        "ldp x0, x1, [sp], #32",
        ".cfi_def_cfa_offset 0",
        "adrp x9, {real}",
        "ldr x10, [x9, :lo12:{real}]",
        "2: adrp x9, {passing}",
        "ldr w9, [x9, :lo12:{passing}]",
        "and w1, w1, w9",
        "br x10",
        ".cfi_endproc",
        real = sym REAL,
        passing = sym PASSING,
        find = sym find,
    )
}
