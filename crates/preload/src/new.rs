//! C++'s operators `new` and `delete`.
//!
//! Where there is no memory, the program's handler is asked, as the standard has it; it, and what throws `bad_alloc`, are C++ and may unwind. So no frame
//! of Rust's is below them: [`insist`] is the assembler's, with what an unwinder needs to know of it, and throws by a jump.

use std::alloc::Layout;
use std::arch::{global_asm, naked_asm};
use std::ffi::c_void;
use std::ptr;

use tenzor_memory::malloc;

use crate::malloc::{ALIGN, free, request};
use crate::stray;

/// A block, or null.
#[inline]
fn obtain(layout: Option<Layout>) -> *mut c_void {
    layout.and_then(malloc::alloc).map_or(ptr::null_mut(), |block| block.as_ptr().cast())
}

extern "C" fn attempt(size: usize, align: usize) -> *mut c_void {
    obtain(request(size, align))
}

/// Nobody can throw.
extern "C" fn give_up(size: usize) -> ! {
    stray::die(format_args!("there is no memory for {size} bytes, and nobody to throw bad_alloc"))
}

// `insist(size, align)`: what operators that may throw come to. A block; or the handler is called, and it is tried again; or bad_alloc is thrown.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .data.rel.ro,\"aw\",@progbits",
    ".p2align 3",
    ".weak _ZSt15get_new_handlerv",
    ".weak _ZSt17__throw_bad_allocv",
    ".Lget_handler: .quad _ZSt15get_new_handlerv",
    ".Lthrow: .quad _ZSt17__throw_bad_allocv",
    ".popsection",
    ".pushsection .text.tenzor_insist,\"ax\",@progbits",
    ".hidden tenzor_insist",
    ".globl tenzor_insist",
    ".type tenzor_insist,@function",
    "tenzor_insist:",
    ".cfi_startproc",
    "push rbx",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset rbx, -16",
    "push r14",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset r14, -24",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "mov rbx, rdi",
    "mov r14, rsi",
    "2: mov rdi, rbx",
    "mov rsi, r14",
    "call {attempt}",
    "test rax, rax",
    "jne 4f",
    "mov rax, qword ptr [rip + .Lget_handler]",
    "test rax, rax",
    "je 3f",
    "call rax",
    "test rax, rax",
    "je 3f",
    "call rax",
    "jmp 2b",
    "3: cmp qword ptr [rip + .Lthrow], 0",
    "je 5f",
    "add rsp, 8",
    ".cfi_remember_state",
    ".cfi_adjust_cfa_offset -8",
    "pop r14",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore r14",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore rbx",
    "jmp qword ptr [rip + .Lthrow]",
    "4: .cfi_restore_state",
    ".cfi_remember_state",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "pop r14",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore r14",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore rbx",
    "ret",
    "5: .cfi_restore_state",
    "mov rdi, rbx",
    "call {give_up}",
    "ud2",
    ".cfi_endproc",
    ".size tenzor_insist, .-tenzor_insist",
    ".popsection",
    attempt = sym attempt,
    give_up = sym give_up,
);

/// The operators that may throw: with C's alignment, or a given one.
#[cfg(target_arch = "x86_64")]
macro_rules! may_throw {
    ($($plain:ident $aligned:ident),*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $plain() {
            naked_asm!("mov esi, {align}", "jmp tenzor_insist", align = const ALIGN)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $aligned() {
            naked_asm!(
                "mov eax, {align}",
                "cmp rsi, rax",
                "cmovb rsi, rax",
                "jmp tenzor_insist",
                align = const ALIGN,
            )
        }
    )*};
}

/// The operators that answer null.
macro_rules! nothrow {
    ($($plain:ident $aligned:ident),*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $plain(size: usize, _: *const c_void) -> *mut c_void {
            obtain(request(size, ALIGN))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $aligned(size: usize, align: usize, _: *const c_void) -> *mut c_void {
            obtain(request(size, align.max(ALIGN)))
        }
    )*};
}

/// The operators `delete`, by what they are told beside the block.
macro_rules! delete {
    ($($plain:ident $nothrow:ident $sized:ident $aligned:ident $aligned_nothrow:ident $sized_aligned:ident),*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $plain(block: *mut c_void) {
            // SAFETY: the caller's word, as in all of these.
            unsafe { free(block) };
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $nothrow(block: *mut c_void, _: *const c_void) {
            // SAFETY: as above.
            unsafe { free(block) };
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $sized(block: *mut c_void, _: usize) {
            // SAFETY: as above.
            unsafe { free(block) };
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $aligned(block: *mut c_void, _: usize) {
            // SAFETY: as above.
            unsafe { free(block) };
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $aligned_nothrow(block: *mut c_void, _: usize, _: *const c_void) {
            // SAFETY: as above.
            unsafe { free(block) };
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $sized_aligned(block: *mut c_void, _: usize, _: usize) {
            // SAFETY: as above.
            unsafe { free(block) };
        }
    )*};
}

may_throw! { _Znwm _ZnwmSt11align_val_t, _Znam _ZnamSt11align_val_t }

nothrow! {
    _ZnwmRKSt9nothrow_t _ZnwmSt11align_val_tRKSt9nothrow_t,
    _ZnamRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t
}

delete! {
    _ZdlPv _ZdlPvRKSt9nothrow_t _ZdlPvm _ZdlPvSt11align_val_t _ZdlPvSt11align_val_tRKSt9nothrow_t _ZdlPvmSt11align_val_t,
    _ZdaPv _ZdaPvRKSt9nothrow_t _ZdaPvm _ZdaPvSt11align_val_t _ZdaPvSt11align_val_tRKSt9nothrow_t _ZdaPvmSt11align_val_t
}
