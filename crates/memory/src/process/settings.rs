//! What can be set of the process's heap, by the program or by `TENZOR_*` environment variables.

use crate::sync::atomic::Ordering::Relaxed;
use std::ffi::CStr;
use std::time::Duration;

use super::purger::{DECAY, NEVER, Purger};
use super::{Shared, lock};
use crate::config::Config;
use crate::os;

/// Applies what a configuration says of the heap, from now on.
pub(crate) fn configure(config: &Config) {
    DECAY.store(config.decay.map_or(NEVER, milliseconds), Relaxed);
    let mut shared = lock();
    shared.heap.set_limits(config.limit.unwrap_or(usize::MAX), config.max_pool_size);
    if shared.purger == Purger::Off {
        shared.purger = Purger::Asleep;
    }
}

fn milliseconds(decay: Duration) -> u64 {
    u64::try_from(decay.as_millis()).unwrap_or(NEVER)
}

/// Applies the environment variables, once, before the first request is served. What cannot be understood is reported on
/// standard error and has no effect.
#[cold]
pub(super) fn from_environment(shared: &mut Shared) {
    os::remember_standard_error();
    os::be_quiet(os::environment(c"TENZOR_QUIET").is_some_and(|text| text.to_bytes() == b"1"));
    if let Some(decay) = variable(c"TENZOR_DECAY_MS", "milliseconds, or 'never'", |text| match text {
        b"never" => Some(NEVER),
        digits => number(digits).map(|ms| ms as u64),
    }) {
        DECAY.store(decay, Relaxed);
    }
    let limit = variable(c"TENZOR_LIMIT", SIZE, bytes);
    let idle = variable(c"TENZOR_MAX_POOL_SIZE", SIZE, bytes);
    shared.heap.set_limits(limit.unwrap_or(usize::MAX), idle.unwrap_or(usize::MAX));
}

const SIZE: &str = "bytes, with K, M or G after them for their multiples";

/// Reads a variable without allocating.
fn variable<T>(name: &CStr, expected: &str, parse: fn(&[u8]) -> Option<T>) -> Option<T> {
    let text = os::environment(name)?.to_bytes();
    let value = parse(text);
    if value.is_none() {
        os::complain(&[name.to_bytes(), b": expected ", expected.as_bytes(), b", found \"", text, b"\""]);
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
