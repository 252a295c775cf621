//! Numbers as debuggers and recorders write them.

/// An unsigned number in hex digits, or what was expected.
pub(super) fn hex(digits: &[u8]) -> Result<u64, &'static str> {
    let add = |sum: u64, digit: &u8| {
        let digit = char::from(*digit).to_digit(16).ok_or("a number in hex")?;
        sum.checked_mul(16).map(|sum| sum | u64::from(digit)).ok_or("a number below 2^64")
    };
    if digits.is_empty() {
        return Err("a number in hex");
    }
    digits.iter().try_fold(0, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_or_it_is_told_what_was_expected() {
        for number in [0, 1, 0xabcd_ef01_2345, u64::MAX] {
            assert_eq!(hex(format!("{number:x}").as_bytes()), Ok(number));
            assert_eq!(hex(format!("{number:020X}").as_bytes()), Ok(number));
        }
        for none in ["", "+1", "0x1", "-1", "1 ", "g", "é"] {
            assert_eq!(hex(none.as_bytes()), Err("a number in hex"));
        }
        assert_eq!(hex(b"10000000000000000"), Err("a number below 2^64"));
    }
}
