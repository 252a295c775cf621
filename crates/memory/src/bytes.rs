//! Numbers of bytes, as people write and read them.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, for people.
///
/// Shown in powers of 1024; read as digits with nothing, `K`, `M`, `G` or `T`, or `KiB`, `MiB`, `GiB` or `TiB` after them, which are the same,
/// in letters of any case.
///
/// ```
/// use tenzor_memory::Bytes;
///
/// assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
/// assert_eq!("64M".parse(), Ok(Bytes(64 << 20)));
/// assert_eq!("64MiB".parse(), Ok(Bytes(64 << 20)));
/// assert_eq!("64 cats".parse::<Bytes>().unwrap_err().to_string(), "expected bytes, with K, M, G or T after them for their multiples");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub usize);

/// It is no number of [`Bytes`], or too large a one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoBytes;

/// What is expected.
pub(crate) const FORM: &str = "bytes, with K, M, G or T after them for their multiples";

impl fmt::Display for NoBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {FORM}")
    }
}

impl std::error::Error for NoBytes {}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let unit = self.0.max(1).ilog2() / 10;
        let value = self.0 as f64 / (1u64 << (10 * unit)) as f64;
        let name = UNITS[unit as usize];
        if value.fract() == 0.0 { write!(f, "{value} {name}") } else { write!(f, "{value:.1} {name}") }
    }
}

/// A number of bytes beside others: all of its digits where it would look like another one that it is not.
pub(crate) struct Beside<'a>(pub(crate) usize, pub(crate) &'a [usize]);

impl fmt::Display for Beside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes, others) = *self;
        if others.iter().any(|&other| other != bytes && look(other) == look(bytes)) {
            write!(f, "{bytes} bytes")
        } else {
            Bytes(bytes).fmt(f)
        }
    }
}

/// The unit in which a number is shown, by its logarithm, and how many tenths of it are.
fn look(bytes: usize) -> (u32, u64) {
    let unit = bytes.max(1).ilog2() / 10;
    (unit, (bytes as f64 * 10.0 / (1u64 << (10 * unit)) as f64).round() as u64)
}

impl FromStr for Bytes {
    type Err = NoBytes;

    fn from_str(text: &str) -> Result<Self, NoBytes> {
        parse(text.as_bytes()).map(Self).ok_or(NoBytes)
    }
}

/// Reads a number of bytes, without allocating.
pub(crate) fn parse(text: &[u8]) -> Option<usize> {
    let long = text.len().checked_sub(2).filter(|&end| text[end..].eq_ignore_ascii_case(b"iB"));
    let short = &text[..long.unwrap_or(text.len())];
    let (digits, shift) = match short {
        [digits @ .., b'K' | b'k'] => (digits, 10),
        [digits @ .., b'M' | b'm'] => (digits, 20),
        [digits @ .., b'G' | b'g'] => (digits, 30),
        [digits @ .., b'T' | b't'] => (digits, 40),
        digits if long.is_none() => (digits, 0),
        _ => return None,
    };
    number(digits)?.checked_mul(1_usize.checked_shl(shift)?)
}

/// An unsigned decimal number, without a sign.
pub(crate) fn number(digits: &[u8]) -> Option<usize> {
    let text = str::from_utf8(digits).ok()?;
    // The standard library's parser would take a sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_strictly() {
        let good: [(&[u8], u64); 8] = [
            (b"0", 0),
            (b"4096", 4096),
            (b"64K", 64 << 10),
            (b"3m", 3 << 20),
            (b"2G", 2 << 30),
            (b"64KiB", 64 << 10),
            (b"3mib", 3 << 20),
            (b"1T", 1 << 40),
        ];
        for (text, size) in good {
            assert_eq!(parse(text), usize::try_from(size).ok());
        }
        let bad: [&[u8]; 11] = [
            b"",
            b"K",
            b"-1",
            b"+1",
            b"1.5G",
            b"1 K",
            b"99999999999999999999",
            b"99999999999999G",
            b"iB",
            b"5iB",
            b"1KB",
        ];
        for text in bad {
            assert_eq!(parse(text), None, "{}", text.escape_ascii());
        }
    }
}
