//! What tensors can have for elements.

use std::fmt::Debug;

/// What an expression can have for elements: `f32`, `f64` and `bool`.
pub trait Item: Sealed + Copy + Default + Send + Sync + Debug + 'static {
    /// The type's name, as `f32`.
    const NAME: &'static str;
}

/// Keeps others from adding types that the kernels do not know.
pub trait Sealed {}

impl Sealed for bool {}
impl Sealed for f32 {}
impl Sealed for f64 {}

impl Item for bool {
    const NAME: &'static str = "bool";
}

impl Item for f32 {
    const NAME: &'static str = "f32";
}

impl Item for f64 {
    const NAME: &'static str = "f64";
}
