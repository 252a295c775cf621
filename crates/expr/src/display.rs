//! Tensors as text, in the look of NumPy's `print`.
//!
//! All elements are of one width (see `digits`). Beyond [`MOST`] elements only the [`EDGE`] first and last along each axis are shown.

use std::fmt;
use std::ops::Range;

use tenzor_memory::Allocator;

use crate::item::Item;
use crate::tensor::{Tensor, View};

/// More elements are not shown in full.
const MOST: usize = 1000;
/// Then so many are, on either side of `...`.
const EDGE: usize = 3;
/// The columns of a line.
const WIDTH: usize = 75;
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
