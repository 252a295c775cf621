//! What the programs and the runner share: the calls to the system, wrapped, and the word for what must not be.

pub mod filter;
pub mod say;
pub mod sys;

/// How a program ends when something is wrong that it noticed itself.
pub const WRONG: i32 = 99;
/// How a program ends when its scenario cannot be tried on this machine; its last line of output says why.
pub const CANNOT: i32 = 77;
