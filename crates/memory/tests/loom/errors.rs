//! Why a request was refused: nobody asks.

use std::alloc::Layout;

#[derive(Clone, Copy)]
pub enum AllocErrorKind {
    OverLimit,
    NeverFits,
}

pub struct AllocError;

impl AllocError {
    pub fn asking_aside<R>(ask: impl FnOnce() -> R) -> R {
        ask()
    }

    pub fn refused(_: Layout) -> Self {
        Self
    }

    pub fn of_kind(self, _: AllocErrorKind) -> Self {
        self
    }

    pub fn with_account(self, _: usize, _: usize, _: Option<usize>) -> Self {
        self
    }

    pub fn owned_by(self, _: &str) -> Self {
        self
    }
}

#[derive(Debug)]
pub struct Refused;

impl From<AllocError> for Refused {
    fn from(_: AllocError) -> Self {
        Self
    }
}
