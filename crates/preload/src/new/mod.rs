//! C++'s operators `new` and `delete`.
//!
//! Where there is no memory, the program's handler is asked, as the standard has it; it, and what throws `bad_alloc`, are C++ and may unwind. So no frame
//! of Rust's is below them: `insist` and `try_insist` are the assembler's, with what an unwinder needs to know of them.
#![allow(unsafe_code)]

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
mod frames;

use std::ffi::c_void;
use std::ptr;

use tenzor_memory::malloc;

use self::frames::new;
use crate::malloc::{free, request};
use crate::stray;

/// C++'s functions, where the program has them: words that the loader fills. And the table that C++'s personality function reads of `try_insist`: whatever is
/// thrown between the labels is caught. Landing pads are told from the function's start on; the types that are caught are words, of which 0 is any; numbers
/// are short. Labels are known in one piece of the assembler's only.
macro_rules! words_and_table {
    () => {
        ".pushsection .data.rel.ro,\"aw\",@progbits
        .p2align 3
        .weak _ZSt15get_new_handlerv
        .weak _ZSt17__throw_bad_allocv
        .weak __gxx_personality_v0
        .weak __cxa_begin_catch
        .weak __cxa_end_catch
        .Lget_handler: .8byte _ZSt15get_new_handlerv
        .Lthrow: .8byte _ZSt17__throw_bad_allocv
        .Lpersonality: .8byte __gxx_personality_v0
        .Lbegin_catch: .8byte __cxa_begin_catch
        .Lend_catch: .8byte __cxa_end_catch
        .popsection
        .pushsection .gcc_except_table.tenzor,\"a\",@progbits
        .p2align 2
        .Ltable:
        .byte 0xff
        .byte 0x00
        .uleb128 .Ltypes - .Ltypes_from
        .Ltypes_from:
        .byte 0x01
        .uleb128 .Lsites_to - .Lsites_from
        .Lsites_from:
        .uleb128 .Ltry - tenzor_try_insist
        .uleb128 .Ltried - .Ltry
        .uleb128 .Lcaught - tenzor_try_insist
        .uleb128 1
        .Lsites_to:
        .sleb128 1
        .sleb128 0
        .p2align 3
        .8byte 0
        .Ltypes:
        .popsection"
    };
}
use words_and_table;

/// A block, or null.
extern "C" fn attempt(size: usize, align: usize) -> *mut c_void {
    request(size, align).and_then(malloc::alloc).map_or(ptr::null_mut(), |block| block.as_ptr().cast())
}

/// Nobody can throw.
extern "C" fn give_up(size: usize) -> ! {
    stray::die(format_args!("there is no memory for {size} bytes, and nobody to throw bad_alloc"))
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
