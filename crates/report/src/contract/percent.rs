//! Parts of a hundred, exactly.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Hundredths, exactly, with up to six digits behind the point. The default is 5%.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent {
    millionths: u64,
}

/// It is no [`Percent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoPercent;

impl Percent {
    /// All of the whole.
    const ALL: u64 = 100_000_000;

    /// A number, and this part of it more.
    pub(super) fn more_than(self, number: u64) -> u64 {
        let more = u128::from(number) * u128::from(self.millionths) / u128::from(Self::ALL);
        u64::try_from(more + u128::from(number)).unwrap_or(u64::MAX)
    }

    /// A share, and this part of it less.
    pub(super) fn less_than(self, share: f64) -> f64 {
        share * (Self::ALL.saturating_sub(self.millionths) as f64 / Self::ALL as f64)
    }
}

impl Default for Percent {
    fn default() -> Self {
        Self { millionths: 5_000_000 }
    }
}

impl FromStr for Percent {
    type Err = NoPercent;

    fn from_str(text: &str) -> Result<Self, NoPercent> {
        const DIGITS: usize = 6;
        let number = text.strip_suffix('%').ok_or(NoPercent)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(part) || part.len() > DIGITS {
            return Err(NoPercent);
        }
        let millionths = format!("{whole}{part:0<DIGITS$}").parse().map_err(|_| NoPercent)?;
        Ok(Self { millionths })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.millionths / 1_000_000, self.millionths % 1_000_000);
        if part == 0 {
            return write!(f, "{whole}%");
        }
        write!(f, "{whole}.{}%", format!("{part:06}").trim_end_matches('0'))
    }
}

/// As text.
impl Serialize for Percent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for NoPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a percentage, as 5% or 0.5%")
    }
}

impl std::error::Error for NoPercent {}
