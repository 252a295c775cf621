//! Numbers as NumPy writes them: aligned at the point, with as many digits as the one that needs most, or all with an exponent where they are very
//! large, very small, or far apart.

use std::fmt::{Display, LowerExp};
use std::ops::Div;

/// The most digits behind the point.
const PRECISION: usize = 8;

/// What has digits.
pub(crate) trait Number: Copy + PartialOrd + Div<Output = Self> + Display + LowerExp {
    const ZERO: Self;
    const INFINITY: Self;
    /// From here on, up to here, and further than this from each other numbers have exponents.
    const LARGE: Self;
    const SMALL: Self;
    const FAR: Self;

    fn abs(self) -> Self;
}

macro_rules! number {
    ($($float:ident)*) => {$(
        impl Number for $float {
            const ZERO: Self = 0.0;
            const INFINITY: Self = Self::INFINITY;
            const LARGE: Self = 1e8;
            const SMALL: Self = 1e-4;
            const FAR: Self = 1e3;

            fn abs(self) -> Self {
                self.abs()
            }
        }
    )*};
}

number!(f32 f64);

/// All of one width.
pub(crate) fn aligned(words: impl Iterator<Item = String>) -> Vec<String> {
    let words: Vec<String> = words.collect();
    let width = words.iter().map(String::len).max().unwrap_or(0);
    words.into_iter().map(|word| format!("{word:>width$}")).collect()
}

/// Numbers aligned at the point.
pub(crate) fn numbers<T: Number>(values: &[T], precision: Option<usize>) -> Vec<String> {
    let precision = precision.unwrap_or(PRECISION);
    let is_finite = |x: T| x.abs() < T::INFINITY;
    let (mut least, mut most) = (T::INFINITY, T::ZERO);
    for x in values.iter().filter(|&&x| is_finite(x) && x != T::ZERO).map(|x| x.abs()) {
        least = if x < least { x } else { least };
        most = if x > most { x } else { most };
    }
    let is_far = most / least > T::FAR;
    let has_exponents = most > T::ZERO && (most >= T::LARGE || least < T::SMALL || is_far);
    let parts = |x| if has_exponents { scientific(x, precision) } else { positional(x, precision) };
    let parts: Vec<_> = values.iter().map(|&x| is_finite(x).then(|| parts(x))).collect();
    let longest = |length: &dyn Fn(&Parts) -> usize| parts.iter().flatten().map(length).max().unwrap_or(0);
    let whole = longest(&|parts| parts.whole.len());
    let digits = longest(&|parts| parts.digits.len());
    let power = longest(&|parts| parts.power.len());
    let words = values.iter().zip(&parts).map(|(x, parts)| match parts {
        None => x.to_string().to_lowercase(),
        // Those that have fewer digits than others go on with what they are exactly.
        Some(_) if has_exponents => {
            let parts = Parts::new(&format!("{x:.digits$e}"));
            format!("{:>whole$}.{}e{}{:0>power$}", parts.whole, parts.digits, parts.sign, parts.power)
        }
        Some(parts) => format!("{:>whole$}.{:digits$}", parts.whole, parts.digits),
    });
    aligned(words)
}

/// The parts of a number.
struct Parts {
    /// Before the point.
    whole: String,
    /// Behind the point.
    digits: String,
    /// The digits of the exponent, at least two if there is one.
    power: String,
    sign: char,
}

impl Parts {
    /// Of a number that may have an exponent.
    fn new(text: &str) -> Self {
        let (number, power) = text.split_once('e').unwrap_or((text, ""));
        let (whole, digits) = number.split_once('.').unwrap_or((number, ""));
        let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
        let power = if power.is_empty() { String::new() } else { format!("{power:0>2}") };
        Self { whole: whole.to_owned(), digits: digits.to_owned(), power, sign }
    }

    fn is_long(&self, precision: usize) -> bool {
        self.digits.len() > precision
    }

    fn without_zeros(mut self) -> Self {
        self.digits.truncate(self.digits.trim_end_matches('0').len());
        self
    }
}

/// The shortest digits that tell a number from its neighbours, but no more than `precision` behind the point.
fn positional<T: Number>(x: T, precision: usize) -> Parts {
    let parts = Parts::new(&x.to_string());
    if parts.is_long(precision) { Parts::new(&format!("{x:.precision$}")).without_zeros() } else { parts }
}

/// The same with one digit before the point, and an exponent.
fn scientific<T: Number>(x: T, precision: usize) -> Parts {
    let parts = Parts::new(&format!("{x:e}"));
    if parts.is_long(precision) { Parts::new(&format!("{x:.precision$e}")).without_zeros() } else { parts }
}
