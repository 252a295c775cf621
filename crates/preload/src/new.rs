//! C++'s operators `new` and `delete`.
//!
//! Where there is no memory, the program's handler is asked, as the standard has it; it, and what throws `bad_alloc`, are C++ and may unwind. So no frame
//! of Rust's is below them: `insist` is the assembler's, with what an unwinder needs to know of it, and throws by a jump.
#![allow(unsafe_code)]

use std::arch::{global_asm, naked_asm};
use std::ffi::c_void;
use std::ptr;

use tenzor_memory::malloc;

use crate::malloc::{ALIGN, free, request};
use crate::stray;

/// A block, or null.
extern "C" fn attempt(size: usize, align: usize) -> *mut c_void {
    request(size, align).and_then(malloc::alloc).map_or(ptr::null_mut(), |block| block.as_ptr().cast())
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

// `try_insist(size, align)`: as `insist`, but the answer is null where that throws, and where what the handler throws is caught.
//
// The table behind `.Ltable` is what C++'s personality function reads: whatever is thrown between the labels is caught at `.Lcaught`.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .data.rel.ro,\"aw\",@progbits",
    ".p2align 3",
    ".weak __gxx_personality_v0",
    ".weak __cxa_begin_catch",
    ".weak __cxa_end_catch",
    ".Lpersonality: .quad __gxx_personality_v0",
    ".Lbegin_catch: .quad __cxa_begin_catch",
    ".Lend_catch: .quad __cxa_end_catch",
    ".popsection",
    ".pushsection .gcc_except_table.tenzor,\"a\",@progbits",
    ".p2align 2",
    ".Ltable:",
    // Landing pads are told from the function's start on; the types that are caught are words, of which 0 is any; numbers are short.
    ".byte 0xff",
    ".byte 0x00",
    ".uleb128 .Ltypes - .Ltypes_from",
    ".Ltypes_from:",
    ".byte 0x01",
    ".uleb128 .Lsites_to - .Lsites_from",
    ".Lsites_from:",
    ".uleb128 .Ltry - tenzor_try_insist",
    ".uleb128 .Ltried - .Ltry",
    ".uleb128 .Lcaught - tenzor_try_insist",
    ".uleb128 1",
    ".Lsites_to:",
    ".sleb128 1",
    ".sleb128 0",
    ".p2align 3",
    ".quad 0",
    ".Ltypes:",
    ".popsection",
    ".pushsection .text.tenzor_insist,\"ax\",@progbits",
    ".hidden tenzor_try_insist",
    ".globl tenzor_try_insist",
    ".type tenzor_try_insist,@function",
    "tenzor_try_insist:",
    ".cfi_startproc",
    ".cfi_personality 0x9b, .Lpersonality",
    ".cfi_lsda 0x1b, .Ltable",
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
    "jne 3f",
    "mov rax, qword ptr [rip + .Lget_handler]",
    "test rax, rax",
    "je 3f",
    "call rax",
    "test rax, rax",
    "je 3f",
    ".Ltry: call rax",
    ".Ltried: jmp 2b",
    ".Lcaught: mov rdi, rax",
    "call qword ptr [rip + .Lbegin_catch]",
    "call qword ptr [rip + .Lend_catch]",
    "xor eax, eax",
    "3: add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "pop r14",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore r14",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    ".cfi_restore rbx",
    "ret",
    ".cfi_endproc",
    ".size tenzor_try_insist, .-tenzor_try_insist",
    ".popsection",
    attempt = sym attempt,
);

/// The operators `new`: with C's alignment, or a given one; those that throw, and those that answer null.
#[cfg(target_arch = "x86_64")]
macro_rules! new {
    ($($plain:ident $aligned:ident $to:literal),*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $plain() {
            naked_asm!("mov esi, {align}", concat!("jmp ", $to), align = const ALIGN)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $aligned() {
            naked_asm!(
                "mov eax, {align}",
                "cmp rsi, rax",
                "cmovb rsi, rax",
                concat!("jmp ", $to),
                align = const ALIGN,
            )
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

new! {
    _Znwm _ZnwmSt11align_val_t "tenzor_insist",
    _Znam _ZnamSt11align_val_t "tenzor_insist",
    _ZnwmRKSt9nothrow_t _ZnwmSt11align_val_tRKSt9nothrow_t "tenzor_try_insist",
    _ZnamRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t "tenzor_try_insist"
}

delete! {
    _ZdlPv _ZdlPvRKSt9nothrow_t _ZdlPvm _ZdlPvSt11align_val_t _ZdlPvSt11align_val_tRKSt9nothrow_t _ZdlPvmSt11align_val_t,
    _ZdaPv _ZdaPvRKSt9nothrow_t _ZdaPvm _ZdaPvSt11align_val_t _ZdaPvSt11align_val_tRKSt9nothrow_t _ZdaPvmSt11align_val_t
}
