//! Last words of a program whose heap may be gone: nothing here allocates.

use std::fmt::{self, Write};

/// Descriptor 2, written to at once and as far as it goes.
struct Standard;

impl Write for Standard {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the text is readable for its length.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        Ok(())
    }
}

/// Says what is wrong and ends the process at once, without destructors or handlers.
pub fn wrong(what: fmt::Arguments<'_>) -> ! {
    let _ = Standard.write_fmt(format_args!("wrong: {what}\n"));
    // SAFETY: ends the process.
    unsafe { libc::_exit(crate::WRONG) }
}

/// Says why the scenario cannot be tried here, and ends the process.
pub fn cannot(why: fmt::Arguments<'_>) -> ! {
    println!("{why}");
    std::process::exit(crate::CANNOT)
}

/// Ends the process as wrong, with a message.
#[macro_export]
macro_rules! wrong {
    ($($what:tt)*) => { $crate::say::wrong(format_args!($($what)*)) };
}

/// Ends the process as not to be tried here, with a reason.
#[macro_export]
macro_rules! cannot {
    ($($why:tt)*) => { $crate::say::cannot(format_args!($($why)*)) };
}

/// What must hold.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($what:tt)*) => { if !$condition { $crate::wrong!($($what)*) } };
}
