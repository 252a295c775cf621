//! What follows where the heap has no memory for a request: those who keep some of it for reuse give it up, then the program may free some, and
//! then the request is refused. A limit is named on standard error, as who dies of it mostly says nothing.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;
use std::mem;
use std::ptr::{self, NonNull};

use super::runs::is_beyond;
use super::shards::{self, enter_home};
use super::tuning::{REFUSALS_APART, RESERVE, RESERVED_SIZE, TRIES_ASKED};
use super::{aside, current};
use crate::bytes::Beside;
use crate::error::{AllocError, AllocErrorKind};
use crate::heap::classes::{self, PAGE, Place, class_capacity, class_pages};
use crate::os;
use crate::pressure::{HEAP, is_hushed, is_tried_only};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64};

/// Whose limit it is.
const NAME: &str = "the process's heap";

/// May free memory, and says whether to try once more.
type Handler = fn(&AllocError) -> bool;

/// Null, or a [`Handler`].
static HANDLER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// From now on, `handler` is asked before a request is refused; or nobody is.
pub(crate) fn on_refusal(handler: Option<fn(&AllocError) -> bool>) {
    HANDLER.store(handler.map_or(ptr::null_mut(), |handler| handler as *mut ()), Release);
}

per_thread! {
    /// What the calling thread requests is for what follows upon a refusal.
    static IS_ANSWERING: bool = false, as "tenzor_is_answering";
}

/// The calling thread's refusal is being answered.
struct Answering;

impl Answering {
    fn begin() -> Option<Self> {
        (!IS_ANSWERING.replace(true)).then(|| Self)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        IS_ANSWERING.set(false);
    }
}

/// Answers a request that `attempt` has failed to serve; `aside` makes an answer of what is served beyond the limit, all of it zero.
#[cold]
pub(super) fn answer<T>(
    request: Layout,
    mut attempt: impl FnMut() -> Option<T>,
    aside: impl FnOnce(NonNull<u8>) -> T,
) -> Option<T> {
    if is_tried_only() {
        return None;
    }
    // Nothing is given up for what cannot be had, and nobody is asked by who may have locked what the program uses then.
    if !is_hushed()
        && !is_hopeless(request)
        && let Some(_answering) = Answering::begin()
    {
        if HEAP.reclaim(request.size()) > 0
            && let Some(served) = attempt()
        {
            return Some(served);
        }
        for _ in 0..TRIES_ASKED {
            if !ask(request) {
                break;
            }
            if let Some(served) = attempt() {
                return Some(served);
            }
        }
    }
    let reason = explain(request);
    say(&reason);
    if reason.kind() == AllocErrorKind::OverLimit
        && let Some(block) = last_words(request)
    {
        return Some(aside(block));
    }
    reason.note();
    if let Some(mut inside) = enter_home(current()) {
        inside.tallies.refused();
    }
    None
}

/// Whether a request cannot be served, whatever is freed.
fn is_hopeless(request: Layout) -> bool {
    match classes::place(request) {
        Some(Place::Run(run)) => shards::first().enter().is_none_or(|inside| is_beyond(&inside, run)),
        Some(Place::Class(class)) => shards::is_beyond(class_capacity(class)),
        None => true,
    }
}

fn ask(request: Layout) -> bool {
    let handler = HANDLER.load(Acquire);
    if handler.is_null() {
        return false;
    }
    // SAFETY: `on_refusal` stores nothing else.
    let handler = unsafe { mem::transmute::<*mut (), Handler>(handler) };
    /// A global allocator must not unwind.
    struct Panic;
    impl Drop for Panic {
        fn drop(&mut self) {
            os::die(format_args!("the handler of refusals panicked"));
        }
    }
    let panic = Panic;
    let reason = explain(request);
    let is_to_try = AllocError::asking_aside(|| handler(&reason));
    mem::forget(panic);
    is_to_try
}

/// So that a program can say why it ends, a little is granted beyond the limit to small requests.
fn last_words(request: Layout) -> Option<NonNull<u8>> {
    (request.size() <= RESERVED_SIZE && aside::bytes_in_use() < RESERVE).then(|| aside::obtain(request))?
}

/// What stands in the way of a request.
pub(crate) fn explain(request: Layout) -> AllocError {
    let limit = shards::limit();
    let Some(place) = classes::place(request) else {
        return AllocError::never_fits(request.size(), request.align());
    };
    let (mut in_use, mut resident) = (0, 0);
    for shard in shards::all() {
        let Some(inside) = shard.enter() else { continue };
        in_use += inside.heap.pages_in_use() as usize * PAGE;
        resident += inside.heap.resident();
    }
    // Small blocks are cut from several pages.
    let needed = place.class().map_or(place.capacity(), |class| class_pages(class) as usize * PAGE);
    let kind = match limit {
        Some(limit) if place.capacity() > limit => AllocErrorKind::NeverFits,
        Some(limit) if in_use.saturating_add(needed) > limit => AllocErrorKind::OverLimit,
        _ => AllocErrorKind::BackingRefused,
    };
    let reason = AllocError::refused(request).of_kind(kind);
    let reason = reason.with_account(in_use, resident.saturating_sub(in_use), limit);
    if kind == AllocErrorKind::BackingRefused { reason } else { reason.rounded_to(place.capacity()).owned_by(NAME) }
}

/// Names a limit that refused a request, from time to time.
fn say(reason: &AllocError) {
    static SAID: AtomicU64 = AtomicU64::new(0);
    let (Some(limit), AllocErrorKind::OverLimit | AllocErrorKind::NeverFits) = (reason.limit(), reason.kind()) else {
        return;
    };
    let (now, said) = (os::clock(), SAID.load(Relaxed));
    if (said == 0 || now.saturating_sub(said) >= REFUSALS_APART)
        && SAID.compare_exchange(said, now.max(1), Relaxed, Relaxed).is_ok()
    {
        let all = [limit, reason.in_use(), reason.pooled(), reason.requested()];
        let [limit, in_use, free, request] = all.map(|bytes| Beside(bytes, &all));
        os::complain(format_args!(
            "the limit of {limit} of {NAME} refuses a request of {request}, with {in_use} in use and {free} free"
        ));
    }
}
