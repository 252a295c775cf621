//! What tensors can have for elements.

use std::fmt::{Debug, Display};

use tenzor_memory::Zeroable;

use crate::digits::{aligned, numbers};

/// What an expression can have for elements: `f32` and `f64`, with which one computes; `bool`, for what holds; and `usize`, for indices and numbers of
/// elements.
pub trait Item: Sealed + Copy + Default + PartialEq + Zeroable + Send + Sync + Debug + Display + 'static {
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

    /// NumPy's names for the type, the one that it writes first.
    #[cfg(feature = "npy")]
    #[doc(hidden)]
    const DTYPES: &'static [&'static str];

    /// Of as many bytes as a value has in a file, in its order; 0 of fewer. `None` for what the type has not.
    #[cfg(feature = "npy")]
    #[doc(hidden)]
    fn load(bytes: &[u8]) -> Option<Self>;

    /// How many bytes a value has in a file.
    #[cfg(feature = "npy")]
    #[doc(hidden)]
    const BYTES: usize = size_of::<Self>();

    #[cfg(feature = "npy")]
    #[doc(hidden)]
    fn store(self, bytes: &mut Vec<u8>);
}

impl Sealed for bool {
    #[cfg(feature = "npy")]
    const DTYPES: &'static [&'static str] = &["|b1", "<b1", "?"];

    #[cfg(feature = "npy")]
    fn load(bytes: &[u8]) -> Option<Self> {
        Some(bytes.iter().any(|&byte| byte != 0))
    }

    #[cfg(feature = "npy")]
    fn store(self, bytes: &mut Vec<u8>) {
        bytes.push(self.into());
    }
}

impl Sealed for f32 {
    fn words(values: &[Self], precision: Option<usize>) -> Vec<String> {
        numbers(values, precision)
    }

    #[cfg(feature = "npy")]
    const DTYPES: &'static [&'static str] = &["<f4"];

    #[cfg(feature = "npy")]
    fn load(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    #[cfg(feature = "npy")]
    fn store(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
}

impl Sealed for f64 {
    fn words(values: &[Self], precision: Option<usize>) -> Vec<String> {
        numbers(values, precision)
    }

    #[cfg(feature = "npy")]
    const DTYPES: &'static [&'static str] = &["<f8"];

    #[cfg(feature = "npy")]
    fn load(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    #[cfg(feature = "npy")]
    fn store(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
}

/// In files they have eight bytes everywhere.
impl Sealed for usize {
    #[cfg(feature = "npy")]
    const DTYPES: &'static [&'static str] = &["<u8", "<i8"];

    #[cfg(feature = "npy")]
    const BYTES: usize = size_of::<u64>();

    /// The halves that mean the same in both types.
    #[cfg(feature = "npy")]
    fn load(bytes: &[u8]) -> Option<Self> {
        Self::try_from(i64::from_le_bytes(bytes.try_into().unwrap_or_default())).ok()
    }

    #[cfg(feature = "npy")]
    fn store(self, bytes: &mut Vec<u8>) {
        bytes.extend((self as u64).to_le_bytes());
    }
}

impl Item for usize {
    const NAME: &'static str = "usize";
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

/// What elements become as others: the nearest value, 0 and 1 of `bool`s. Floats do not become indices.
pub trait Cast<U>: Item {
    /// As one of these.
    fn cast(self) -> U;
}

macro_rules! casts {
    ($($from:ident $to:ident |$x:ident| $cast:expr;)*) => {$(
        impl Cast<$to> for $from {
            #[inline(always)]
            fn cast(self) -> $to {
                let $x = self;
                $cast
            }
        }
    )*};
}

casts! {
    bool f32 |x| f32::from(u8::from(x));
    bool f64 |x| f64::from(u8::from(x));
    bool usize |x| usize::from(x);
    usize f32 |x| x as f32;
    usize f64 |x| x as f64;
    f32 f64 |x| f64::from(x);
    f64 f32 |x| x as f32;
    f32 f32 |x| x;
    f64 f64 |x| x;
}
