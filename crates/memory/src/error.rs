//! The one error of a request for memory, and how a reason comes through interfaces that have no room for one.
//!
//! `Allocator` and [`Backing`](crate::Backing) refuse with a unit. Who refuses through them [notes](AllocError::noted) the reason for the
//! calling thread, and who [asks](AllocError::asking) through them reads what was noted meanwhile. So it survives every adaptor between the two,
//! those of others as well; and where nothing was noted, nothing is known.

use std::alloc::Layout;
#[cfg(not(tenzor_shared))]
use std::cell::Cell;
use std::fmt;

use crate::bytes::{Beside, Bytes};

/// Why a request for memory failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AllocErrorKind {
    /// No state of the program can satisfy it: the size overflows, the alignment is impossible, or the buffer alone is
    /// larger than the limit.
    NeverFits,
    /// Granting it would exceed a limit, even with nothing pooled.
    OverLimit,
    /// Where the memory comes from refused, also after everything pooled was given back to it, and did not say why.
    BackingRefused,
}

/// A refused request: what was asked, and what stood in its way.
///
/// The reason is that of the layer that had it: where a pool stands over another pool, and that one is over its limit, so is the request, and
/// [`limit`](Self::limit), [`in_use`](Self::in_use) and [`pooled`](Self::pooled) are the lower pool's. It is the error's
/// [`source`](std::error::Error::source) as well, an [`Obstacle`].
///
/// ```
/// use tenzor_memory::{AllocErrorKind, Buffer, PoolConfig, TensorAllocator};
///
/// let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1 << 20)));
/// let kept = alloc.alloc::<f32>(200_000)?;
/// let error = alloc.alloc::<f32>(200_000).unwrap_err();
/// assert_eq!(error.kind(), AllocErrorKind::OverLimit);
/// assert_eq!(error.requested(), 800_000);
/// assert_eq!(error.in_use(), alloc.stats().bytes_in_use_rounded);
/// assert_eq!(error.limit(), Some(1 << 20));
///
/// // Through every layer.
/// let above = TensorAllocator::new_in(alloc.clone());
/// let error = Buffer::<f32, _>::zeroed_in(200_000, above.allocator()).unwrap_err();
/// assert_eq!((error.kind(), error.limit()), (AllocErrorKind::OverLimit, Some(1 << 20)));
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError {
    requested: usize,
    alignment: usize,
    /// 0 where there is no class, or none was looked for.
    rounded: usize,
    /// What the layer that was asked knows of itself.
    account: Account,
    /// What stood in the way further down.
    below: Option<Obstacle>,
}

/// What a layer knows of itself when it refuses. As compact as can be: it goes wherever a result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    kind: AllocErrorKind,
    /// It keeps no account, or cannot tell of it.
    is_unknown: bool,
    in_use: usize,
    pooled: usize,
    /// `usize::MAX` without one.
    limit: usize,
}

impl Account {
    const UNKNOWN: Self =
        Self { kind: AllocErrorKind::BackingRefused, is_unknown: true, in_use: 0, pooled: 0, limit: usize::MAX };

    fn limit(&self) -> Option<usize> {
        Some(self.limit).filter(|&limit| limit != usize::MAX)
    }
}

/// What stood in the way of a request in the layer that had the reason: the [source](std::error::Error::source) of an [`AllocError`] of
/// a layer above it.
///
/// ```
/// use std::error::Error;
/// use tenzor_memory::{Limited, Obstacle, System, TensorAllocator};
///
/// let alloc = TensorAllocator::new_in(Limited::new(System, 1 << 20));
/// let kept = alloc.alloc::<u8>(900_000)?;
/// let error = alloc.alloc::<u8>(900_000).unwrap_err();
/// let obstacle = error.source().and_then(|source| source.downcast_ref::<Obstacle>());
/// assert_eq!(obstacle.and_then(Obstacle::limit), Some(1 << 20));
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obstacle {
    account: Account,
    owner: Name,
}

impl Obstacle {
    /// Why the request failed there.
    pub fn kind(&self) -> AllocErrorKind {
        self.account.kind
    }

    /// The bytes in use there, rounded where there are size classes; 0 where no account is kept.
    pub fn in_use(&self) -> usize {
        self.account.in_use
    }

    /// The bytes kept free for reuse there; 0 where nothing is kept.
    pub fn pooled(&self) -> usize {
        self.account.pooled
    }

    /// The limit in force there, in bytes.
    pub fn limit(&self) -> Option<usize> {
        self.account.limit()
    }

    /// Whose limit it is, as far as that has a name: its first 23 bytes, after which the message has an ellipsis if there are more.
    pub fn name(&self) -> Option<&str> {
        self.owner.get()
    }
}

impl Obstacle {
    /// As it is shown beside the bytes that were asked for, and what they are rounded to.
    fn show(&self, f: &mut fmt::Formatter<'_>, asked: [usize; 2]) -> fmt::Result {
        let Account { kind, is_unknown, in_use, pooled, limit } = self.account;
        let all = [asked[0], asked[1], in_use, pooled, limit];
        let show = |bytes| Beside(bytes, &all);
        match (kind, self.limit()) {
            (AllocErrorKind::NeverFits, Some(limit)) => write!(f, "it can never fit the limit of {}", show(limit))?,
            (AllocErrorKind::NeverFits, None) => f.write_str("no buffer can have this size and alignment")?,
            (AllocErrorKind::OverLimit, _) => write!(f, "over the limit of {}", show(limit))?,
            (AllocErrorKind::BackingRefused, Some(limit)) => {
                write!(f, "the backing refused, below the limit of {}", show(limit))?;
            }
            (AllocErrorKind::BackingRefused, None) => f.write_str("the backing refused")?,
        }
        if let Some(name) = self.name() {
            write!(f, " of {name}{}", if self.owner.is_cut() { "…" } else { "" })?;
        }
        if is_unknown { Ok(()) } else { write!(f, ", with {} in use and {} pooled", show(in_use), show(pooled)) }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, [0; 2])
    }
}

impl std::error::Error for Obstacle {}

/// A name, as far as there is room for it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    text: [u8; Self::ROOM],
    /// [`CUT`](Self::CUT) if there is more.
    len: u8,
}

impl Name {
    const ROOM: usize = 23;
    const NONE: Self = Self { text: [0; Self::ROOM], len: 0 };
    const CUT: u8 = 1 << 7;

    fn of(name: &str) -> Self {
        let mut text = [0; Self::ROOM];
        let len = (0..=name.len().min(Self::ROOM)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
        text[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self { text, len: len as u8 | if len < name.len() { Self::CUT } else { 0 } }
    }

    fn is_cut(&self) -> bool {
        self.len & Self::CUT != 0
    }

    fn get(&self) -> Option<&str> {
        str::from_utf8(&self.text[..usize::from(self.len & !Self::CUT)]).ok().filter(|name| !name.is_empty())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(not(tenzor_shared))]
thread_local! {
    /// What was noted last.
    static NOTED: Cell<Option<AllocError>> = const { Cell::new(None) };
}

/// In a library for C nobody asks, and it is more than the few words that each thread has for it.
#[cfg(tenzor_shared)]
static NOTED: Unnoted = Unnoted;

#[cfg(tenzor_shared)]
struct Unnoted;

#[cfg(tenzor_shared)]
#[allow(clippy::unused_self)]
impl Unnoted {
    fn get(&self) -> Option<AllocError> {
        None
    }

    fn take(&self) -> Option<AllocError> {
        None
    }

    fn set(&self, _: Option<AllocError>) {}
}

impl AllocError {
    /// A request that cannot be expressed as a layout; the size saturates where it overflowed.
    pub(crate) fn never_fits(requested: usize, alignment: usize) -> Self {
        let account = Account { kind: AllocErrorKind::NeverFits, ..Account::UNKNOWN };
        Self { requested, alignment, rounded: 0, account, below: None }
    }

    /// A refusal by what tells nothing about itself.
    pub(crate) fn refused(request: Layout) -> Self {
        let (requested, alignment) = (request.size(), request.align());
        Self { requested, alignment, rounded: 0, account: Account::UNKNOWN, below: None }
    }

    /// The same, where the request is rounded to so many bytes.
    pub(crate) fn rounded_to(self, rounded: usize) -> Self {
        Self { rounded, ..self }
    }

    /// The same, of this kind.
    pub(crate) fn of_kind(self, kind: AllocErrorKind) -> Self {
        Self { account: Account { kind, ..self.account }, ..self }
    }

    /// The same, by a layer that has so much in use and pooled, below this limit.
    pub(crate) fn with_account(self, in_use: usize, pooled: usize, limit: Option<usize>) -> Self {
        let limit = limit.unwrap_or(usize::MAX);
        Self { account: Account { kind: self.account.kind, is_unknown: false, in_use, pooled, limit }, ..self }
    }

    /// The same, with the reason of what was asked below.
    pub(crate) fn because_of(self, below: Self) -> Self {
        Self { below: below.obstacle(), ..self }
    }

    /// The same, where the limit belongs to what has this name.
    pub(crate) fn owned_by(self, name: &str) -> Self {
        Self { below: Some(Obstacle { account: self.account, owner: Name::of(name) }), ..self }
    }

    /// What stood in the way, if that is known.
    fn obstacle(self) -> Option<Obstacle> {
        let own = Obstacle { account: self.account, owner: Name::NONE };
        self.below.or_else(|| (self.account != Account::UNKNOWN).then_some(own))
    }

    /// Notes the reason for who asks through an interface that has no room for it.
    pub(crate) fn note(self) {
        NOTED.set(Some(self));
    }

    /// Asks for what is no matter of the caller's: for whoever asked before, all is as it was.
    pub(crate) fn asking_aside<R>(ask: impl FnOnce() -> R) -> R {
        let before = NOTED.get();
        let answer = ask();
        NOTED.set(before);
        answer
    }

    /// Asks through an interface that has no room for a reason. The error is what was noted meanwhile, or one that knows nothing.
    #[inline]
    pub(crate) fn asking<R, E>(request: Layout, ask: impl FnOnce() -> Result<R, E>) -> Result<R, Self> {
        NOTED.set(None);
        ask().map_err(|_| Self::noted(request))
    }

    #[cold]
    fn noted(request: Layout) -> Self {
        let (requested, alignment) = (request.size(), request.align());
        NOTED.get().map_or_else(|| Self::refused(request), |noted| Self { requested, alignment, ..noted })
    }

    /// Why the calling thread was refused last through an interface that has no room for a reason: that of std-style containers, of
    /// [`Backing`](crate::Backing), or of the global allocator. To be asked right after the refusal; of earlier ones nothing is known.
    ///
    /// It stays until the next one, and not each failure is one: `Vec::try_reserve` asks nobody for what no layout can express, and then this is what it was before.
    /// Who has to tell [takes it](Self::take_last) beforehand.
    ///
    /// ```
    /// use tenzor_memory::allocator_api2::vec::Vec;
    /// use tenzor_memory::{AllocError, PoolConfig, TensorAllocator};
    ///
    /// let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1 << 20)));
    /// let mut losses: Vec<f32, _> = Vec::new_in(alloc.allocator());
    /// assert!(losses.try_reserve(1 << 20).is_err());
    /// assert_eq!(AllocError::last().and_then(|error| error.limit()), Some(1 << 20));
    /// ```
    pub fn last() -> Option<Self> {
        NOTED.get()
    }

    /// As [`last`](Self::last), and forgets it: what is there after a request that follows is of that request.
    ///
    /// ```
    /// use tenzor_memory::allocator_api2::vec::Vec;
    /// use tenzor_memory::{AllocError, PoolConfig, TensorAllocator};
    ///
    /// let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1 << 20)));
    /// let mut losses: Vec<f32, _> = Vec::new_in(alloc.allocator());
    /// let mut why = |count| {
    ///     AllocError::take_last();
    ///     losses.try_reserve(count).err().map(|_| AllocError::last())
    /// };
    /// assert!(why(1 << 20).flatten().is_some()); // refused, and this is why
    /// assert_eq!(why(usize::MAX), Some(None)); // more than a layout can express: nobody was asked
    /// assert_eq!(why(10), None);
    /// ```
    pub fn take_last() -> Option<Self> {
        NOTED.take()
    }

    /// Why the request failed.
    pub fn kind(&self) -> AllocErrorKind {
        self.reason().kind
    }

    /// The bytes asked for; `usize::MAX` when `count * size_of::<T>()` overflowed.
    pub fn requested(&self) -> usize {
        self.requested
    }

    /// The bytes that the buffer would have taken, its size class's capacity; `None` where the allocator has no classes, or
    /// none for this size.
    pub fn rounded(&self) -> Option<usize> {
        Some(self.rounded).filter(|&rounded| rounded != 0)
    }

    /// The alignment asked for, in bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// The bytes in use when the request failed, rounded where there are size classes; 0 where no account is kept.
    pub fn in_use(&self) -> usize {
        self.reason().in_use
    }

    /// The bytes (rounded) pooled, or free in an arena's blocks, when the request failed; 0 where nothing is kept.
    pub fn pooled(&self) -> usize {
        self.reason().pooled
    }

    /// The limit in force, in bytes.
    pub fn limit(&self) -> Option<usize> {
        self.reason().limit()
    }

    fn reason(&self) -> &Account {
        self.below.as_ref().map_or(&self.account, |below| &below.account)
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requested, alignment, rounded, account, below } = *self;
        match requested {
            usize::MAX => write!(f, "cannot allocate more bytes than an address can count")?,
            1 => write!(f, "cannot allocate 1 byte")?,
            0..1024 => write!(f, "cannot allocate {requested} bytes")?,
            _ => write!(f, "cannot allocate {requested} bytes ({})", Bytes(requested))?,
        }
        write!(f, " aligned to {alignment}")?;
        if let Some(rounded) = self.rounded().filter(|&rounded| rounded != requested) {
            write!(f, ", rounded to {}", Beside(rounded, &[requested]))?;
        }
        f.write_str(": ")?;
        let Some(obstacle) = below else {
            return Obstacle { account, owner: Name::NONE }.show(f, [requested, rounded]);
        };
        // What stood in the way comes first.
        obstacle.show(f, [requested, rounded])?;
        // It may say of itself what was said, without the name.
        if obstacle.account == account || account.is_unknown {
            return Ok(());
        }
        write!(f, "; who asked there has {} in use and {} pooled", Bytes(account.in_use), Bytes(account.pooled))?;
        account.limit().map_or(Ok(()), |limit| write!(f, ", below a limit of {}", Bytes(limit)))
    }
}

impl std::error::Error for AllocError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.below.as_ref().map(|below| below as _)
    }
}

impl From<AllocError> for allocator_api2::alloc::AllocError {
    fn from(reason: AllocError) -> Self {
        reason.note();
        Self
    }
}

#[cfg(feature = "allocator-api2-04")]
impl From<AllocError> for allocator_api2_04::alloc::AllocError {
    fn from(reason: AllocError) -> Self {
        reason.note();
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_between_characters() {
        assert_eq!(Name::of("tenant").get(), Some("tenant"));
        assert_eq!(Name::of(&"ä".repeat(12)).get(), Some(&*"ä".repeat(11)));
        assert_eq!(Name::of("").get(), None);
    }

    #[test]
    fn a_result_is_small_enough_to_be_passed_around() {
        assert!(size_of::<AllocError>() <= 112);
    }
}
