//! What each thread has of its own: loom's threads are all on one of the system's.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use loom::thread::{ThreadId, current};

use crate::cells::execution;

pub(crate) struct Local<T: 'static> {
    first: fn() -> T,
    values: Mutex<Vec<(u64, ThreadId, &'static T)>>,
}

// SAFETY: a value is used by its own thread; and there is one at a time.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    pub(crate) const fn new(first: fn() -> T) -> Self {
        Self { first, values: Mutex::new(Vec::new()) }
    }

    fn value(&self) -> &'static T {
        let (execution, thread) = (execution(), current().id());
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |entry: &(u64, ThreadId, &'static T)| entry.0 != execution;
        // SAFETY: it came from a box, and its thread is no more.
        values
            .extract_if(.., |entry| is_old(entry))
            .for_each(|(_, _, value)| drop(unsafe { Box::from_raw(std::ptr::from_ref(value).cast_mut()) }));
        if let Some((_, _, value)) = values.iter().find(|entry| entry.1 == thread) {
            return value;
        }
        let value: &'static T = Box::leak(Box::new((self.first)()));
        values.push((execution, thread, value));
        value
    }

    pub(crate) fn try_with<R>(&self, body: impl FnOnce(&T) -> R) -> Result<R, ()> {
        Ok(body(self.value()))
    }
}

impl<T: Copy> Local<Cell<T>> {
    pub(crate) fn get(&self) -> T {
        self.value().get()
    }

    pub(crate) fn set(&self, value: T) {
        self.value().set(value);
    }

    pub(crate) fn replace(&self, value: T) -> T {
        self.value().replace(value)
    }
}

macro_rules! thread_local {
    ($($(#[$doc:meta])* static $name:ident: $value:ty = const { $first:expr };)*) => {
        $(static $name: $crate::per_thread::Local<$value> = $crate::per_thread::Local::new(|| $first);)*
    };
}

macro_rules! per_thread {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $first:expr, as $symbol:literal $(at $place:path)?;) => {
        static $name: $crate::per_thread::Local<Cell<$type>> = $crate::per_thread::Local::new(|| Cell::new($first));
    };
}
