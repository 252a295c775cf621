//! What a recording was once, as a small file to be kept with a program's sources, which later ones are compared with.

use std::collections::BTreeMap;
use std::fmt;

use tenzor_trace::ParseError;
use tenzor_trace::text::quote;

use super::figures::{Amount, Figure, Figures};

/// Figures to compare with. Shown as the text that [`parse`](Self::parse) reads.
///
/// ```
/// use tenzor_report::{Amount, Baseline, Figure};
///
/// let baseline = Baseline::parse(b"version = 1\npeak_live_bytes = 4096 # of the weights\n")?;
/// assert_eq!(baseline.get(Figure::PeakLiveBytes), Some(Amount::Bytes(4096)));
/// assert!(baseline.to_string().ends_with("\nversion = 1\npeak_live_bytes = 4096\n"));
///
/// let error = Baseline::parse(b"version = 1\npeak = 4096\n").unwrap_err();
/// assert!(error.to_string().starts_with("line 2: expected one of hit_rate, "), "{error}");
/// # Ok::<(), tenzor_trace::ParseError>(())
/// ```
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Baseline {
    figures: BTreeMap<Figure, Amount>,
}

/// The version of the text that is written, and read.
const VERSION: &str = "1";

/// What it begins with.
const HEAD: &str = "\
# What a recording was: written by `tenzor check TRACE --against FILE --bless`, and read without `--bless`.";

/// More than any that was written here.
const MAX_BYTES: usize = 1 << 16;

impl Baseline {
    /// All that is told of a recording.
    pub fn of(figures: &Figures) -> Self {
        let told = Figure::ALL.into_iter().filter_map(|figure| Some((figure, figures.get(figure).ok()?)));
        Self { figures: told.collect() }
    }

    /// A figure, if it is there.
    pub fn get(&self, figure: Figure) -> Option<Amount> {
        self.figures.get(&figure).copied()
    }

    /// Those that are there, in the order of their keys.
    pub fn figures(&self) -> impl Iterator<Item = (Figure, Amount)> {
        self.figures.iter().map(|(figure, amount)| (*figure, *amount))
    }

    /// Reads what was written: lines of `key = value`, the first of which is the version; what follows `#` says nothing.
    ///
    /// # Errors
    /// The first line that is not so, has a key that is not known or was there before, or a value that its key does not have. The last line, if there are no figures.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES {
            return Err(ParseError::new(1, format!("at most {MAX_BYTES} bytes"), "more"));
        }
        let mut read = Self::default();
        let (mut is_known, mut last) = (false, 1);
        for (line, text) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            last = line;
            let said = text.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
            if said.is_empty() {
                continue;
            }
            let wrong = |expected: String, found: &[u8]| ParseError::new(line, expected, quote(found));
            let equals = said.iter().position(|byte| *byte == b'=');
            let Some((key, value)) = equals.map(|at| (said[..at].trim_ascii_end(), said[at + 1..].trim_ascii_start()))
            else {
                return Err(wrong("key = value".to_owned(), said));
            };
            if !is_known {
                if key != b"version" || value != VERSION.as_bytes() {
                    return Err(wrong(format!("version = {VERSION} before anything else"), said));
                }
                is_known = true;
                continue;
            }
            let figure = Figure::ALL.into_iter().find(|figure| figure.key().as_bytes() == key);
            let figure =
                figure.ok_or_else(|| wrong(format!("one of {}", Figure::ALL.map(Figure::key).join(", ")), key))?;
            let amount =
                amount(figure, value).map_err(|expected| wrong(expected.to_owned(), value).in_field(figure.key()))?;
            if read.figures.insert(figure, amount).is_some() {
                return Err(wrong("each key once".to_owned(), key));
            }
        }
        if read.figures.is_empty() {
            return Err(ParseError::new(last, "a version and a figure before the end", "none"));
        }
        Ok(read)
    }
}

/// A figure's value, or what was expected.
fn amount(figure: Figure, value: &[u8]) -> Result<Amount, &'static str> {
    let text = str::from_utf8(value).unwrap_or_default();
    let is_made_of = |also: &[u8]| value.iter().all(|byte| byte.is_ascii_digit() || also.contains(byte));
    match figure {
        Figure::HitRate => {
            // Neither a sign nor an exponent, nor a word for what is no number.
            let share = text.parse().ok().filter(|share| is_made_of(b".") && (0.0..=1.0).contains(share));
            share.map(Amount::Share).ok_or("a number from 0 to 1")
        }
        Figure::MissesPerStep => whole(text, is_made_of(b"")).map(Amount::Count),
        Figure::PeakLiveBytes | Figure::PeakReservedBytes => whole(text, is_made_of(b"")).map(Amount::Bytes),
    }
}

fn whole(text: &str, is_digits: bool) -> Result<u64, &'static str> {
    text.parse().ok().filter(|_| is_digits).ok_or("a whole number below 2^64, in digits")
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\nversion = {VERSION}")?;
        for (figure, amount) in &self.figures {
            match amount {
                Amount::Bytes(number) | Amount::Count(number) => writeln!(f, "{} = {number}", figure.key())?,
                Amount::Share(share) => writeln!(f, "{} = {share}", figure.key())?,
            }
        }
        Ok(())
    }
}
