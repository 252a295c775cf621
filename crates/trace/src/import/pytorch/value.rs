//! What a pickle is read to: no more of it than a snapshot's meaning needs, and each list and dict once, however often it is referred to.

/// What is said where memory does not suffice.
pub(super) const TOO_MUCH: &str = "the snapshot takes more memory than is allowed";

macro_rules! words {
    ($($word:ident $text:literal),* $(,)?) => {
        /// The texts that mean something.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Word { $($word),* }

        impl Word {
            pub(super) fn of(text: &[u8]) -> Option<Self> {
                let words = [$(($text.as_bytes(), Self::$word)),*];
                words.into_iter().find(|(known, _)| *known == text).map(|(_, word)| word)
            }
        }
    };
}

words! {
    Segments "segments", DeviceTraces "device_traces", Address "address", Addr "addr", Size "size",
    RequestedSize "requested_size", Device "device", Blocks "blocks", State "state", Action "action",
    TimeUs "time_us", ActiveAllocated "active_allocated", ActivePendingFree "active_pending_free",
    ActiveAwaitingFree "active_awaiting_free", Alloc "alloc", FreeRequested "free_requested",
    FreeCompleted "free_completed", SegmentAlloc "segment_alloc", SegmentMap "segment_map",
    SegmentFree "segment_free", SegmentUnmap "segment_unmap", Oom "oom",
}

/// What is in a dict.
pub(super) type Fields = [(Word, Value)];

/// A value of a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    /// A number of 2⁶³ and more.
    Large(u64),
    Word(Word),
    /// A list, or the like, by its number.
    Held(u32),
    /// Anything else: none of it means anything in a snapshot.
    Other,
}

/// What a list, or the like, holds.
#[derive(Debug)]
pub(super) enum Items {
    List(Vec<Value>),
    Tuple(Vec<Value>),
    /// What is under one of the known words; the rest is dropped. So it is short, whatever the pickle has there.
    Dict(Vec<(Word, Value)>),
    /// Nothing of a snapshot is in one.
    Set,
}

#[derive(Debug)]
struct Held {
    /// Where in the input it begins.
    at: u64,
    items: Items,
}

/// All lists and the like of a pickle.
#[derive(Debug)]
pub(super) struct Heap {
    held: Vec<Held>,
    left: u64,
}

impl Heap {
    /// One that takes at most so many bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { held: Vec::new(), left: limit }
    }

    /// The bytes that may still be taken.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Room for more in a vector that counts as part of this.
    pub(super) fn grow<T>(&mut self, vector: &mut Vec<T>, more: usize) -> Result<(), &'static str> {
        grow(vector, more, &mut self.left)
    }

    /// A new list, or the like, that begins at an offset.
    pub(super) fn hold(&mut self, at: u64, items: Items) -> Result<Value, &'static str> {
        let number = u32::try_from(self.held.len()).map_err(|_| TOO_MUCH)?;
        grow(&mut self.held, 1, &mut self.left)?;
        self.held.push(Held { at, items });
        Ok(Value::Held(number))
    }

    /// A tuple of these.
    pub(super) fn tuple(&mut self, at: u64, values: &[Value]) -> Result<Value, &'static str> {
        let mut items = Vec::new();
        extend(&mut items, values, &mut self.left)?;
        self.hold(at, Items::Tuple(items))
    }

    fn items(&mut self, of: Value) -> Option<(&mut Items, &mut u64)> {
        let Value::Held(number) = of else { return None };
        Some((&mut self.held.get_mut(number as usize)?.items, &mut self.left))
    }

    /// Puts these at the end of a list.
    pub(super) fn append(&mut self, to: Value, values: &[Value]) -> Result<(), &'static str> {
        match self.items(to) {
            Some((Items::List(items), left)) => extend(items, values, left),
            _ => Err("something is appended to what is no list"),
        }
    }

    /// Puts these into a dict: a key, its value, a key, its value. What was under a key is replaced.
    pub(super) fn set(&mut self, to: Value, pairs: &[Value]) -> Result<(), &'static str> {
        let Some((Items::Dict(items), left)) = self.items(to) else {
            return Err("a key is set in what is no dict");
        };
        let (pairs, []) = pairs.as_chunks::<2>() else { return Err("a key has no value") };
        for &[key, value] in pairs {
            let Value::Word(word) = key else { continue };
            match items.iter_mut().find(|(known, _)| *known == word) {
                Some(pair) => pair.1 = value,
                None => extend(items, &[(word, value)], left)?,
            }
        }
        Ok(())
    }

    /// Puts something into a set.
    pub(super) fn add(&mut self, to: Value) -> Result<(), &'static str> {
        match self.items(to) {
            Some((Items::Set, _)) => Ok(()),
            _ => Err("something is added to what is no set"),
        }
    }

    fn get(&self, value: Value) -> Option<&Held> {
        let Value::Held(number) = value else { return None };
        self.held.get(number as usize)
    }

    /// Where in the input a value begins, if it is known.
    pub(super) fn at(&self, value: Value) -> Option<u64> {
        Some(self.get(value)?.at)
    }

    /// What is in a list or a tuple.
    pub(super) fn list(&self, value: Value) -> Option<&[Value]> {
        match &self.get(value)?.items {
            Items::List(items) | Items::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// What is in a dict under the known words.
    pub(super) fn dict(&self, value: Value) -> Option<&Fields> {
        match &self.get(value)?.items {
            Items::Dict(items) => Some(items),
            _ => None,
        }
    }
}

fn extend<T: Copy>(vector: &mut Vec<T>, values: &[T], left: &mut u64) -> Result<(), &'static str> {
    grow(vector, values.len(), left)?;
    vector.extend_from_slice(values);
    Ok(())
}

/// Room for more in a vector, of as many bytes as are left.
pub(super) fn grow<T>(vector: &mut Vec<T>, more: usize, left: &mut u64) -> Result<(), &'static str> {
    let (length, capacity) = (vector.len(), vector.capacity());
    let needed = length.checked_add(more).ok_or(TOO_MUCH)?;
    if needed <= capacity {
        return Ok(());
    }
    let wanted = needed.max(capacity.saturating_mul(2)).max(4);
    let bytes = (wanted - capacity).checked_mul(size_of::<T>()).ok_or(TOO_MUCH)?;
    *left = left.checked_sub(bytes as u64).ok_or(TOO_MUCH)?;
    vector.try_reserve_exact(wanted - length).map_err(|_| TOO_MUCH)
}
