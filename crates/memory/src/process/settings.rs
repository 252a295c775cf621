//! What can be set of the process's heap, by the program or by `TENZOR_*` environment variables.

use std::ffi::CStr;
use std::time::Duration;

use super::threads::current;
use super::{Central, central_lock, purger, shards};
use crate::heap_config::{HeapConfig, HeapSettings, HugePages};
use crate::os;

/// Applies what a configuration says, from now on.
pub(crate) fn configure(config: &HeapConfig) {
    let cache = current();
    let settings = {
        let mut central = central_lock();
        central.settings.apply(config);
        central.begin_again(cache);
        central.settings
    };
    shards::heed(&settings);
    for shard in shards::all() {
        shard.enter().map(purger::keep_within_idle_limit);
    }
}

/// What is in force.
pub(crate) fn config() -> HeapSettings {
    central_lock().settings
}

impl Central {
    /// Applies the environment variables, once: before the first request is served, or as soon as there is an environment. What cannot be
    /// understood is reported on standard error and has no effect.
    #[cold]
    pub(super) fn heed_environment(&mut self) {
        if self.heeds_environment || !os::has_environment() {
            return;
        }
        self.heeds_environment = true;
        os::be_quiet(os::environment(c"TENZOR_QUIET").is_some_and(|text| text.to_bytes() == b"1"));
        let settings = &mut self.settings;
        settings.decay.set_by_environment(variable(
            c"TENZOR_DECAY_MS",
            "milliseconds, or 'never'",
            |text| match text {
                b"never" => Some(None),
                digits => number(digits).map(|ms| Some(Duration::from_millis(ms as u64))),
            },
        ));
        settings.limit.set_by_environment(variable(c"TENZOR_LIMIT", SIZE, |text| bytes(text).map(Some)));
        settings.idle_limit.set_by_environment(variable(c"TENZOR_IDLE_LIMIT", SIZE, |text| bytes(text).map(Some)));
        settings.huge_pages.set_by_environment(variable(
            c"TENZOR_HUGE_PAGES",
            "auto, always or never",
            |text| match text {
                b"auto" => Some(HugePages::Auto),
                b"always" => Some(HugePages::Always),
                b"never" => Some(HugePages::Never),
                _ => None,
            },
        ));
        settings.background.set_by_environment(variable(c"TENZOR_BACKGROUND", "0 or 1", |text| match text {
            b"0" => Some(false.into()),
            b"1" => Some(true.into()),
            _ => None,
        }));
    }
}

const SIZE: &str = "bytes, with K, M or G after them for their multiples";

/// Reads a variable without allocating.
fn variable<T>(name: &CStr, expected: &str, parse: fn(&[u8]) -> Option<T>) -> Option<T> {
    let text = os::environment(name)?.to_bytes();
    let value = parse(text);
    if value.is_none() {
        os::complain(format_args!(
            "{}: expected {expected}, found \"{}\"",
            name.to_bytes().escape_ascii(),
            text.escape_ascii()
        ));
    }
    value
}

fn bytes(text: &[u8]) -> Option<usize> {
    let (digits, shift) = match text {
        [digits @ .., b'K' | b'k'] => (digits, 10),
        [digits @ .., b'M' | b'm'] => (digits, 20),
        [digits @ .., b'G' | b'g'] => (digits, 30),
        digits => (digits, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

fn number(digits: &[u8]) -> Option<usize> {
    let text = str::from_utf8(digits).ok()?;
    // The standard library's parser would take a sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_strictly() {
        let good: [(&[u8], usize); 5] =
            [(b"0", 0), (b"4096", 4096), (b"64K", 64 << 10), (b"3m", 3 << 20), (b"2G", 2 << 30)];
        for (text, size) in good {
            assert_eq!(bytes(text), Some(size));
        }
        let bad: [&[u8]; 8] = [b"", b"K", b"-1", b"+1", b"1.5G", b"1 K", b"99999999999999999999", b"99999999999999G"];
        for text in bad {
            assert_eq!(bytes(text), None);
        }
    }
}
