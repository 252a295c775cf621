//! What a model consists of: cells that loom watches, and every interleaving up to so many preemptions.

use std::ptr::NonNull;

/// A block as loom sees it: two threads that use it at once, or one without knowing of the other's writes, are found.
pub(crate) type Cell = loom::cell::UnsafeCell<u64>;

pub(crate) fn write(block: NonNull<u8>, value: u64) {
    // SAFETY: the block is a cell that lives until the model ends; loom checks that it is used by one thread at a time.
    unsafe { block.cast::<Cell>().as_ref() }.with_mut(|cell| unsafe { *cell = value });
}

pub(crate) fn read(block: NonNull<u8>) -> u64 {
    // SAFETY: as above.
    unsafe { block.cast::<Cell>().as_ref() }.with(|cell| unsafe { *cell })
}

pub(crate) fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(move || {
        EXECUTION.set(EXECUTION.get() + 1);
        body();
    });
}

thread_local! {
    static EXECUTION: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The number of the interleaving that is tried: what loom watches lives in one only.
pub(crate) fn execution() -> u64 {
    EXECUTION.get()
}
