//! A list of what others have, for who has to find all of them: pools when a process forks, keepers when memory is short.
//!
//! What is in the list stands in a box of its own, with its neighbours. Its owner, a [`Listed`], takes it out and then drops it.
//! - *Listed*: what is in the list lives.
//! - *Under the lock*: neighbours and `is_listed` are used under the list's lock alone.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::iter;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::sync::{Lock, LockGuard};

pub(crate) struct List<T> {
    first: Option<NonNull<Node<T>>>,
}

// SAFETY: what is in it is reached by shared references, under its lock, from any thread.
unsafe impl<T: Sync> Send for List<T> {}

/// What is in a list, and its place there.
pub(crate) struct Node<T> {
    value: T,
    is_listed: Cell<bool>,
    before: Cell<Option<NonNull<Node<T>>>>,
    after: Cell<Option<NonNull<Node<T>>>>,
}

// SAFETY: *Under the lock*; the value may be shared.
unsafe impl<T: Sync> Sync for Node<T> {}

impl<T> Deref for Node<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> List<T> {
    pub(crate) const fn new() -> Self {
        Self { first: None }
    }

    /// The newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node<T>> {
        self.from(self.first)
    }

    /// What is older than a node, if that is listed still.
    pub(crate) fn after(&self, node: &Node<T>) -> Option<impl Iterator<Item = &Node<T>>> {
        node.is_listed.get().then(|| self.from(node.after.get()))
    }

    fn from(&self, first: Option<NonNull<Node<T>>>) -> impl Iterator<Item = &Node<T>> {
        // SAFETY: *Listed*, and nothing leaves while the list is borrowed.
        let node = |node: NonNull<Node<T>>| unsafe { node.as_ref() };
        iter::successors(first.map(node), move |before| before.after.get().map(node))
    }
}

/// Something of its owner's in a list.
pub(crate) struct Listed<T: Sync + 'static> {
    node: NonNull<Node<T>>,
    list: &'static Lock<List<T>>,
}

// SAFETY: it owns the value, which others may share, and its neighbours are used *under the lock*.
unsafe impl<T: Send + Sync> Send for Listed<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Listed<T> {}

impl<T: Sync> Listed<T> {
    /// `enter` sees it under the list's lock, before anybody else does.
    pub(crate) fn new(list: &'static Lock<List<T>>, value: T, enter: impl FnOnce(&T, &LockGuard<'_, List<T>>)) -> Self {
        let node = Node { value, is_listed: Cell::new(true), before: Cell::new(None), after: Cell::new(None) };
        let listed = Self { node: NonNull::from(Box::leak(Box::new(node))), list };
        let mut locked = list.lock();
        enter(&listed, &locked);
        listed.node().after.set(locked.first);
        // SAFETY: *Listed*.
        if let Some(second) = locked.first.map(|second| unsafe { second.as_ref() }) {
            second.before.set(Some(listed.node));
        }
        locked.first = Some(listed.node);
        drop(locked);
        listed
    }

    /// From now on nobody finds it in the list.
    pub(crate) fn leave(&self) {
        let mut list = self.list.lock();
        if !self.node().is_listed.replace(false) {
            return;
        }
        let (before, after) = (self.node().before.get(), self.node().after.get());
        match before {
            // SAFETY: *Listed*.
            Some(before) => unsafe { before.as_ref() }.after.set(after),
            None => list.first = after,
        }
        if let Some(after) = after {
            // SAFETY: *Listed*.
            unsafe { after.as_ref() }.before.set(before);
        }
    }

    #[inline]
    fn node(&self) -> &Node<T> {
        // SAFETY: it is ours until we are dropped.
        unsafe { self.node.as_ref() }
    }
}

impl<T: Sync> Deref for Listed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.node()
    }
}

impl<T: Sync> fmt::Debug for Listed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listed").finish_non_exhaustive()
    }
}

impl<T: Sync> Drop for Listed<T> {
    fn drop(&mut self) {
        self.leave();
        // SAFETY: it came from a box and is in no list any more; who found it there does not use it beyond the list's lock, or has its owner
        // wait before it is dropped.
        drop(unsafe { Box::from_raw(self.node.as_ptr()) });
    }
}
