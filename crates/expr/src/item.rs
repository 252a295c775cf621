//! What tensors can have for elements.

use std::fmt::Debug;

use tenzor_memory::Zeroable;

use crate::display::{aligned, numbers};

/// What an expression can have for elements: `f32`, `f64` and `bool`.
pub trait Item: Sealed + Copy + Default + Zeroable + Send + Sync + Debug + 'static {
    /// The type's name, as `f32`.
    const NAME: &'static str;
}

/// Keeps others from adding types that the kernels do not know.
pub trait Sealed: Sized + Debug {
    /// Values as text, all of one width.
    #[doc(hidden)]
    fn words(values: &[Self], precision: Option<usize>) -> Vec<String> {
        let _ = precision;
        aligned(values.iter().map(|value| format!("{value:?}")))
    }
}

impl Sealed for bool {}

impl Sealed for f32 {
    fn words(values: &[Self], precision: Option<usize>) -> Vec<String> {
        numbers(values, precision)
    }
}

impl Sealed for f64 {
    fn words(values: &[Self], precision: Option<usize>) -> Vec<String> {
        numbers(values, precision)
    }
}

impl Item for bool {
    const NAME: &'static str = "bool";
}

impl Item for f32 {
    const NAME: &'static str = "f32";
}

impl Item for f64 {
    const NAME: &'static str = "f64";
}
