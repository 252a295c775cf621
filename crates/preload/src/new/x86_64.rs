//! The frames below C++'s functions: x86-64.
//!
//! `tenzor_insist(size, align)` is what operators that may throw come to: a block; or the handler is called, and it is tried again; or `bad_alloc` is thrown, by
//! a jump. `tenzor_try_insist(size, align)` answers null where that throws, and where what the handler throws is caught.
#![allow(unsafe_code)]

use std::arch::global_asm;

use super::{attempt, give_up, words_and_table};

macro_rules! enter {
    () => {
        "push rbx
        .cfi_adjust_cfa_offset 8
        .cfi_offset rbx, -16
        push r14
        .cfi_adjust_cfa_offset 8
        .cfi_offset r14, -24
        sub rsp, 8
        .cfi_adjust_cfa_offset 8
        mov rbx, rdi
        mov r14, rsi"
    };
}

macro_rules! leave {
    () => {
        "add rsp, 8
        .cfi_remember_state
        .cfi_adjust_cfa_offset -8
        pop r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore r14
        pop rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbx"
    };
}

/// To 3 if there is a block, to 4 if there is no handler, or nothing there calls for one; else the handler's address is in `rax`.
macro_rules! attempt {
    () => {
        "mov rdi, rbx
        mov rsi, r14
        call {attempt}
        test rax, rax
        jne 3f
        mov rax, qword ptr [rip + .Lget_handler]
        test rax, rax
        je 4f
        call rax
        test rax, rax
        je 4f"
    };
}

global_asm!(
    words_and_table!(),
    ".pushsection .text.tenzor_insist,\"ax\",@progbits",
    ".hidden tenzor_insist",
    ".globl tenzor_insist",
    ".type tenzor_insist,@function",
    "tenzor_insist:",
    ".cfi_startproc",
    enter!(),
    "2:",
    attempt!(),
    "call rax",
    "jmp 2b",
    "3:",
    leave!(),
    "ret",
    "4: .cfi_restore_state",
    "cmp qword ptr [rip + .Lthrow], 0",
    "je 5f",
    leave!(),
    "jmp qword ptr [rip + .Lthrow]",
    "5: .cfi_restore_state",
    "mov rdi, rbx",
    "call {give_up}",
    "ud2",
    ".cfi_endproc",
    ".size tenzor_insist, .-tenzor_insist",
    ".hidden tenzor_try_insist",
    ".globl tenzor_try_insist",
    ".type tenzor_try_insist,@function",
    "tenzor_try_insist:",
    ".cfi_startproc",
    ".cfi_personality 0x9b, .Lpersonality",
    ".cfi_lsda 0x1b, .Ltable",
    enter!(),
    "2:",
    attempt!(),
    ".Ltry: call rax",
    ".Ltried: jmp 2b",
    ".Lcaught: mov rdi, rax",
    "call qword ptr [rip + .Lbegin_catch]",
    "call qword ptr [rip + .Lend_catch]",
    "4: xor eax, eax",
    "3:",
    leave!(),
    "ret",
    ".cfi_endproc",
    ".size tenzor_try_insist, .-tenzor_try_insist",
    ".popsection",
    attempt = sym attempt,
    give_up = sym give_up,
);

/// The operators `new`: with C's alignment, or a given one; those that throw, and those that answer null.
macro_rules! new {
    ($($plain:ident $aligned:ident $to:literal),*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $plain() {
            std::arch::naked_asm!("mov esi, {align}", concat!("jmp ", $to), align = const crate::malloc::ALIGN)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $aligned() {
            std::arch::naked_asm!(
                "mov eax, {align}",
                "cmp rsi, rax",
                "cmovb rsi, rax",
                concat!("jmp ", $to),
                align = const crate::malloc::ALIGN,
            )
        }
    )*};
}
pub(super) use new;
