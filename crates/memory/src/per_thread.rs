//! What each thread has for itself on the way of every request: words.
//!
//! In a program, a `thread_local!` is where the compiler says. In a shared library it would have the loader find it, by a call that may take memory, which
//! an allocator cannot bear. So with `--cfg tenzor_shared` they are in the storage that threads have from their start ("initial exec"), a few words of which
//! are left for libraries that come late. Rust has no way to say so but the assembler's.
#![allow(unsafe_code)]

/// A static word of each thread's: a `Cell` of a type that is one word at most, whose first value is written as `$first` in Rust, and as `$bits` in
/// the assembler (0, or the address of a static).
#[cfg(not(all(tenzor_shared, target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
macro_rules! per_thread {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $first:expr, as $symbol:literal $(at $place:path)?;) => {
        thread_local! {
            $(#[$doc])*
            static $name: Cell<$type> = const { Cell::new($first) };
        }
    };
}

#[cfg(all(tenzor_shared, target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
macro_rules! per_thread {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $first:expr, as $symbol:literal;) => {
        std::arch::global_asm!(
            ".pushsection .tbss,\"awT\",@nobits",
            ".p2align 3",
            concat!(".globl ", $symbol),
            concat!(".hidden ", $symbol),
            concat!(".type ", $symbol, ",@object"),
            concat!(".size ", $symbol, ",8"),
            concat!($symbol, ": .zero 8"),
            ".popsection",
        );
        per_thread!(@ $(#[$doc])* $name, $type, $symbol);
    };
    ($(#[$doc:meta])* static $name:ident: $type:ty = $first:expr, as $symbol:literal at $place:path;) => {
        std::arch::global_asm!(
            ".pushsection .tdata,\"awT\",@progbits",
            ".p2align 3",
            concat!(".globl ", $symbol),
            concat!(".hidden ", $symbol),
            concat!(".type ", $symbol, ",@object"),
            concat!(".size ", $symbol, ",8"),
            concat!($symbol, ": .8byte {place}"),
            ".popsection",
            place = sym $place,
        );
        per_thread!(@ $(#[$doc])* $name, $type, $symbol);
    };
    (@ $(#[$doc:meta])* $name:ident, $type:ty, $symbol:literal) => {
        $(#[$doc])*
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        struct $name;

        #[allow(dead_code)]
        impl $name {
            #[inline(always)]
            fn word() -> *const Cell<$type> {
                const { assert!(size_of::<$type>() <= 8 && !std::mem::needs_drop::<$type>()) };
                let word: *const Cell<$type>;
                // SAFETY: reads where the loader has put the word of this library, and where this thread's storage ends.
                #[cfg(target_arch = "x86_64")]
                unsafe {
                    std::arch::asm!(
                        concat!("mov {word}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
                        "add {word}, qword ptr fs:[0]",
                        word = out(reg) word,
                        options(pure, readonly, nostack),
                    );
                }
                // SAFETY: as above, where it begins.
                #[cfg(target_arch = "aarch64")]
                unsafe {
                    std::arch::asm!(
                        concat!("adrp {word}, :gottprel:", $symbol),
                        concat!("ldr {word}, [{word}, :gottprel_lo12:", $symbol, "]"),
                        "mrs {here}, tpidr_el0",
                        "add {word}, {word}, {here}",
                        word = out(reg) word,
                        here = out(reg) _,
                        options(pure, readonly, nostack),
                    );
                }
                word
            }

            #[inline(always)]
            fn with<R>(&self, body: impl FnOnce(&Cell<$type>) -> R) -> R {
                // SAFETY: the calling thread's word, which is there as long as the thread is; its first bits are a value.
                body(unsafe { &*Self::word() })
            }

            #[inline(always)]
            fn get(&self) -> $type {
                self.with(Cell::get)
            }

            #[inline(always)]
            fn set(&self, value: $type) {
                self.with(|word| word.set(value));
            }

            #[inline(always)]
            fn replace(&self, value: $type) -> $type {
                self.with(|word| word.replace(value))
            }
        }
    };
}
