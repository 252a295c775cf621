//! The frames below C++'s functions: AArch64. As those of `x86_64.rs`.
#![allow(unsafe_code)]

use std::arch::global_asm;

use super::{attempt, give_up, words_and_table};

macro_rules! enter {
    () => {
        "stp x29, x30, [sp, #-32]!
        .cfi_def_cfa_offset 32
        .cfi_offset 29, -32
        .cfi_offset 30, -24
        mov x29, sp
        stp x19, x20, [sp, #16]
        .cfi_offset 19, -16
        .cfi_offset 20, -8
        mov x19, x0
        mov x20, x1"
    };
}

macro_rules! leave {
    () => {
        "ldp x19, x20, [sp, #16]
        ldp x29, x30, [sp], #32
        .cfi_remember_state
        .cfi_restore 19
        .cfi_restore 20
        .cfi_restore 29
        .cfi_restore 30
        .cfi_def_cfa_offset 0"
    };
}

/// A word of ours into `x8`.
macro_rules! load {
    ($word:literal) => {
        concat!("adrp x8, ", $word, "\nldr x8, [x8, :lo12:", $word, "]")
    };
}

global_asm!(
    words_and_table!(),
    ".pushsection .text.tenzor_insist,\"ax\",@progbits",
    ".p2align 2",
    ".hidden tenzor_insist",
    ".globl tenzor_insist",
    ".type tenzor_insist,@function",
    "tenzor_insist:",
    ".cfi_startproc",
    enter!(),
    "2: mov x0, x19",
    "mov x1, x20",
    "bl {attempt}",
    "cbnz x0, 3f",
    load!(".Lget_handler"),
    "cbz x8, 4f",
    "blr x8",
    "cbz x0, 4f",
    "blr x0",
    "b 2b",
    "3:",
    leave!(),
    "ret",
    "4: .cfi_restore_state",
    load!(".Lthrow"),
    "cbz x8, 5f",
    leave!(),
    "br x8",
    "5: .cfi_restore_state",
    "mov x0, x19",
    "bl {give_up}",
    "brk #1",
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
    "2: mov x0, x19",
    "mov x1, x20",
    "bl {attempt}",
    "cbnz x0, 3f",
    load!(".Lget_handler"),
    "cbz x8, 4f",
    "blr x8",
    "cbz x0, 4f",
    ".Ltry: blr x0",
    ".Ltried: b 2b",
    ".Lcaught:",
    load!(".Lbegin_catch"),
    "blr x8",
    load!(".Lend_catch"),
    "blr x8",
    "4: mov x0, xzr",
    "3:",
    leave!(),
    "ret",
    ".cfi_endproc",
    ".size tenzor_try_insist, .-tenzor_try_insist",
    ".popsection",
    attempt = sym attempt,
    give_up = sym give_up,
);

/// See `x86_64.rs`.
macro_rules! new {
    ($($plain:ident $aligned:ident $to:literal),*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $plain() {
            std::arch::naked_asm!("mov x1, #{align}", concat!("b ", $to), align = const crate::malloc::ALIGN)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $aligned() {
            std::arch::naked_asm!(
                "mov x2, #{align}",
                "cmp x1, x2",
                "csel x1, x2, x1, lo",
                concat!("b ", $to),
                align = const crate::malloc::ALIGN,
            )
        }
    )*};
}
pub(super) use new;
