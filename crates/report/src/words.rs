//! Numbers in words.

use std::borrow::Cow;

use tenzor_memory::Bytes;

/// A number of bytes, in powers of 1024.
pub(crate) fn bytes(bytes: u64) -> Bytes {
    Bytes(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// So many of something.
pub(crate) fn count(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// A part of a whole.
pub(crate) fn share(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    if part > 0 && percent < 0.5 { "<1 %".to_owned() } else { format!("{percent:.0} %") }
}

/// So many bytes more, or less.
pub(crate) fn more(by: i64) -> String {
    let sign = match by {
        0 => "±",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", bytes(by.unsigned_abs()))
}

/// Two numbers of bytes that are not the same: all of their digits where they would look the same.
pub(crate) fn apart(one: u64, other: u64) -> [String; 2] {
    let shown = [one, other].map(|number| bytes(number).to_string());
    let is_alike = shown[0].replace(".0 ", " ") == shown[1].replace(".0 ", " ");
    if is_alike && one != other { [one, other].map(|number| format!("{number} bytes")) } else { shown }
}

/// By how much the new one is more.
pub(crate) fn difference(new: u64, old: u64) -> i64 {
    let apart = i64::try_from(new.abs_diff(old)).unwrap_or(i64::MAX);
    if new < old { -apart } else { apart }
}

/// The most letters of a name in a line.
const NAME: usize = 60;

/// A name as it stands in a line: of a long one the end, which tells more of a path than its beginning.
pub(crate) fn short(name: &str) -> Cow<'_, str> {
    match name.char_indices().rev().nth(NAME - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &name[at..]).into(),
        _ => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_people() {
        assert_eq!([share(1, 3), share(0, 9), share(1, 1000), share(7, 7)], ["33 %", "0 %", "<1 %", "100 %"]);
        assert_eq!([more(-1536), more(0), more(2)], ["-1.5 KiB", "±0 B", "+2 B"]);
        assert_eq!(apart(1 << 20, (1 << 20) + 1), ["1048576 bytes", "1048577 bytes"]);
        assert_eq!(apart(1024, 2048), ["1 KiB", "2 KiB"]);
        assert_eq!((difference(1, 3), difference(u64::MAX, 0)), (-2, i64::MAX));
        assert_eq!(short("a/b"), "a/b");
        let long = "µ".repeat(NAME);
        assert_eq!(short(&long), long);
        assert_eq!(short(&format!("a/{long}")), format!("…{long}"));
    }
}
