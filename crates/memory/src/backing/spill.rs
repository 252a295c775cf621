//! The program's own call-backs, that are to free memory: never called under a lock.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::limit;

/// Frees about so many bytes, and says whether it did.
pub(super) type Spill = Arc<dyn Fn(usize) -> bool + Send + Sync>;

#[derive(Clone, Copy, PartialEq)]
enum Now {
    /// Who requests has no lock of ours.
    Open,
    Locked,
    /// And something is put off.
    PutOff,
}

thread_local! {
    static NOW: Cell<Now> = const { Cell::new(Now::Open) };

    /// What is put off until the lock is free, and how many bytes are missing.
    static LAST: RefCell<Option<(Spill, usize)>> = const { RefCell::new(None) };
}

/// Call-backs of limits that stand one within the other may be called one after the other for one request.
const MOST_CALLS: usize = 8;

/// Calls `spill` now, or has it called once the calling thread's lock is free; then nothing is freed yet.
pub(super) fn call(spill: Spill, missing: usize) -> bool {
    if NOW.get() == Now::Open {
        return spill(missing);
    }
    if LAST.try_with(|last| *last.borrow_mut() = Some((spill, missing))).is_ok() {
        NOW.set(Now::PutOff);
    }
    false
}

/// Runs a request that takes a lock and has left it at its end. What the program is asked to free meanwhile it is asked for afterwards, and then
/// the request is tried again.
#[inline]
pub(crate) fn without_lock<R, E>(request: impl Fn() -> Result<R, E>) -> Result<R, E> {
    if NOW.get() != Now::Open {
        // Who has the outermost lock sees to it.
        return request();
    }
    let locked = Locked::begin();
    let result = request();
    if locked.is_put_off() { asking(result, locked, request) } else { result }
}

/// Under a lock, until it is dropped.
struct Locked;

impl Locked {
    #[inline]
    fn begin() -> Self {
        NOW.set(Now::Locked);
        Self
    }

    #[inline]
    fn is_put_off(&self) -> bool {
        NOW.get() == Now::PutOff
    }
}

impl Drop for Locked {
    #[inline]
    fn drop(&mut self) {
        NOW.set(Now::Open);
    }
}

/// Asks for what was put off, if the request was refused.
#[cold]
fn asking<R, E>(mut result: Result<R, E>, locked: Locked, request: impl Fn() -> Result<R, E>) -> Result<R, E> {
    drop(locked);
    for _ in 0..MOST_CALLS {
        let last = LAST.try_with(RefCell::take).unwrap_or_default();
        match last.filter(|_| result.is_err()) {
            Some((spill, missing)) if limit::spill(|| spill(missing)) => {
                let _locked = Locked::begin();
                result = request();
            }
            _ => break,
        }
    }
    result
}
