//! Tensors as text, in the look of NumPy's `print`.
//!
//! All elements are of one width: numbers aligned at the point, with as many digits as the one that needs most, or all with an exponent where
//! they are very large, very small, or far apart. Beyond [`MOST`] elements only the [`EDGE`] first and last along each axis are shown.

use std::fmt::{self, LowerExp};
use std::ops::Range;

use tenzor_memory::Allocator;

use crate::item::Item;
use crate::math::Element;
use crate::tensor::{Tensor, View};

/// More elements are not shown in full.
const MOST: usize = 1000;
/// Then so many are, on either side of `...`.
const EDGE: usize = 3;
/// The columns of a line.
const WIDTH: usize = 75;
/// The most digits behind the point.
const PRECISION: usize = 8;

/// As NumPy's `print`: `{:.3}` says how many digits there are behind the point at most, which are 8 otherwise. Of more than 1000
/// elements the first and last three along each axis.
///
/// ```
/// use tenzor_expr::View;
///
/// let view = View::new(&[1.0_f32, -2.5, 100.0, 0.125], [2, 2])?;
/// assert_eq!(view.to_string(), "[[  1.     -2.5  ]\n [100.      0.125]]");
/// assert_eq!(format!("{view:.1}"), "[[  1.   -2.5]\n [100.    0.1]]");
/// # Ok::<(), tenzor_expr::ShapeError>(())
/// ```
impl<T: Item> fmt::Display for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shape.elements() == 0 {
            return f.write_str("[]");
        }
        if let (0, Some(&only)) = (self.shape.rank(), self.get(&[])) {
            return match f.precision() {
                Some(_) => f.write_str(&T::words(&[only], f.precision()).concat()),
                None => write!(f, "{only:?}"),
            };
        }
        let is_short = self.shape.elements() > MOST;
        let mut values = Vec::new();
        shown(self, is_short, &mut Vec::new(), &mut values);
        let mut words = T::words(&values, f.precision()).into_iter();
        f.write_str(&block(&self.shape, is_short, 1, WIDTH, &mut words))
    }
}

/// As [`View`]'s.
impl<T: Item, A: Allocator> fmt::Display for Tensor<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

/// The indices of an axis that are shown before and behind the gap, if there is one.
fn edges(size: usize, is_short: bool) -> (Range<usize>, Range<usize>) {
    if is_short && size > 2 * EDGE { (0..EDGE, size - EDGE..size) } else { (0..size, size..size) }
}

/// The elements that are shown, in order.
fn shown<T: Item>(view: &View<'_, T>, is_short: bool, at: &mut Vec<usize>, values: &mut Vec<T>) {
    let Some(&size) = view.shape.get(at.len()) else {
        values.extend(view.get(at));
        return;
    };
    let (first, last) = edges(size, is_short);
    for i in first.chain(last) {
        at.push(i);
        shown(view, is_short, at, values);
        at.pop();
    }
}

/// What stands in brackets: words along the last axis, such blocks along the others. All lines but the first are indented.
fn block(
    shape: &[usize],
    is_short: bool,
    indent: usize,
    width: usize,
    words: &mut impl Iterator<Item = String>,
) -> String {
    let Some((&size, inner)) = shape.split_first() else {
        return words.next().unwrap_or_default();
    };
    let (first, last) = edges(size, is_short);
    let gap = (!last.is_empty()).then(|| "...".to_owned());
    let mut items: Vec<String> = Vec::new();
    // The closing bracket needs a column.
    items.extend(first.map(|_| block(inner, is_short, indent + 1, width - 1, words)));
    items.extend(gap);
    items.extend(last.map(|_| block(inner, is_short, indent + 1, width - 1, words)));
    let next = format!("\n{:indent$}", "");
    if !inner.is_empty() {
        return format!("[{}]", items.join(&format!("{}{next}", "\n".repeat(inner.len() - 1))));
    }
    let mut text = String::from("[");
    let mut column = indent;
    for (i, item) in items.iter().enumerate() {
        let is_first = column == indent;
        let space = usize::from(i > 0 && !is_first);
        if !is_first && column + space + item.len() > width - 1 {
            text.truncate(text.trim_end_matches(' ').len());
            text.push_str(&next);
            column = indent;
        } else if space > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(item);
        column += item.len();
    }
    text.push(']');
    text
}

/// All of one width.
pub(crate) fn aligned(words: impl Iterator<Item = String>) -> Vec<String> {
    let words: Vec<String> = words.collect();
    let width = words.iter().map(String::len).max().unwrap_or(0);
    words.into_iter().map(|word| format!("{word:>width$}")).collect()
}

/// The parts of a number.
struct Parts {
    /// Before the point.
    whole: String,
    /// Behind the point, without zeros at the end.
    digits: String,
    /// Its sign and its digits.
    exponent: Option<(char, String)>,
}

/// Numbers aligned at the point.
pub(crate) fn numbers<T: Element + LowerExp>(values: &[T], precision: Option<usize>) -> Vec<String> {
    let precision = precision.unwrap_or(PRECISION);
    let is_finite = |x: T| x.abs() < T::MOST;
    let (mut least, mut most) = (T::MOST, T::ZERO);
    for x in values.iter().filter(|&&x| is_finite(x) && x != T::ZERO).map(|x| x.abs()) {
        least = if x < least { x } else { least };
        most = if x > most { x } else { most };
    }
    let is_far = most / least > T::from_f64(1000.0);
    let has_exponents = most > T::ZERO && (most >= T::from_f64(1e8) || least < T::from_f64(1e-4) || is_far);
    let parts = |x| if has_exponents { scientific(x, precision) } else { positional(x, precision) };
    let parts: Vec<_> = values.iter().map(|&x| is_finite(x).then(|| parts(x))).collect();
    let longest = |length: &dyn Fn(&Parts) -> usize| parts.iter().flatten().map(length).max().unwrap_or(0);
    let before = longest(&|parts| parts.whole.len());
    let behind = longest(&|parts| parts.digits.len());
    let powers = longest(&|parts| parts.exponent.as_ref().map_or(0, |(_, power)| power.len()));
    let words = values.iter().zip(&parts).map(|(x, parts)| match parts {
        Some(Parts { whole, digits, exponent: None }) => format!("{whole:>before$}.{digits:behind$}"),
        Some(Parts { whole, digits, exponent: Some((sign, power)) }) => {
            format!("{whole:>before$}.{digits:0<behind$}e{sign}{power:0>powers$}")
        }
        None => x.to_string().to_lowercase(),
    });
    aligned(words)
}

/// The shortest digits that tell a number from its neighbours, but no more than `precision` behind the point.
fn positional<T: Element>(x: T, precision: usize) -> Parts {
    let text = x.to_string();
    let (whole, digits) = cut(if is_long(&text, precision) { format!("{x:.precision$}") } else { text });
    Parts { whole, digits, exponent: None }
}

/// The same for one digit before the point, and an exponent of at least two.
fn scientific<T: Element + LowerExp>(x: T, precision: usize) -> Parts {
    let split = |text: String| match text.split_once('e') {
        Some((number, power)) => (number.to_owned(), power.to_owned()),
        None => (text, "0".to_owned()),
    };
    let (mut number, mut power) = split(format!("{x:e}"));
    if is_long(&number, precision) {
        (number, power) = split(format!("{x:.precision$e}"));
    }
    let (whole, digits) = cut(number);
    let (sign, power) = power.strip_prefix('-').map_or(('+', &power[..]), |power| ('-', power));
    Parts { whole, digits, exponent: Some((sign, format!("{power:0>2}"))) }
}

/// Whether a number has more digits behind the point.
fn is_long(number: &str, precision: usize) -> bool {
    number.split_once('.').is_some_and(|(_, digits)| digits.len() > precision)
}

/// What stands before the point of a number, and behind it without zeros at the end.
fn cut(number: String) -> (String, String) {
    let (whole, digits) = number.split_once('.').unwrap_or((&number, ""));
    (whole.to_owned(), digits.trim_end_matches('0').to_owned())
}
