//! How what has a number is called.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::recording::Recording;
use crate::recording::names::{self, Kind, Module};

/// A thread's name, or its number.
pub(super) fn thread<R>(recording: &Recording<R>, number: u32) -> Cow<'_, str> {
    called(recording, Kind::Thread, "thread", number.into())
}

/// A label's name, or its number.
pub(super) fn label<R>(recording: &Recording<R>, number: u64) -> Cow<'_, str> {
    called(recording, Kind::Label, "label", number)
}

/// A source's name, or its number.
pub(super) fn source<R>(recording: &Recording<R>, number: u16) -> Cow<'_, str> {
    called(recording, Kind::Source, "source", number.into())
}

/// A stack that there are no addresses of.
pub(super) fn stack(number: u64) -> String {
    format!("stack {number}")
}

fn called<'a, R>(recording: &'a Recording<R>, kind: Kind, what: &str, number: u64) -> Cow<'a, str> {
    let name = u32::try_from(number).ok().and_then(|number| recording.name(kind, number)).map(names::text);
    name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| format!("{what} {number}").into())
}

/// The addresses of a stack, the innermost first.
pub(super) fn addresses<R>(recording: &Recording<R>, stack: u64) -> impl Iterator<Item = u64> {
    let name = u32::try_from(stack).ok().and_then(|number| recording.name(Kind::Stack, number));
    names::addresses(name.unwrap_or_default())
}

/// A [class](super::held::class) of sizes, in words: its lower bound, included, and its upper one, excluded.
pub(super) fn class(class: u32) -> String {
    match class.checked_sub(1) {
        None => "0 B".to_owned(),
        Some(log) => format!("{}–{}", power(log), power(log + 1)),
    }
}

/// A power of two, in bytes.
fn power(log: u32) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = UNITS.get(log as usize / 10).copied().unwrap_or_default();
    format!("{} {unit}", 1 << (log % 10))
}

/// What lies where in memory.
#[derive(Debug)]
pub(super) struct Modules<'a>(BTreeMap<u64, (u32, Module<'a>)>);

impl<'a> Modules<'a> {
    /// Of several that begin at one address, the one with the last number. What says that it is no part of memory is left out.
    pub(super) fn of<R>(recording: &'a Recording<R>) -> Self {
        let mut all: Vec<_> = recording.names(Kind::Module).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        let modules = all.into_iter().filter_map(|(number, name)| Some((number, names::module(name)?)));
        Self(modules.map(|(number, module)| (module.begin, (number, module))).collect())
    }

    /// The module that a call lies in whose return address this is, and its number.
    pub(super) fn at(&self, return_address: u64) -> Option<&(u32, Module<'a>)> {
        let call = return_address.saturating_sub(1);
        let (_, found) = self.0.range(..=call).next_back()?;
        (call < found.1.end).then_some(found)
    }

    /// All of them, by their numbers.
    pub(super) fn all(&self) -> Vec<(u32, Module<'a>)> {
        let mut all: Vec<_> = self.0.values().copied().collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::held;

    #[test]
    fn classes_of_sizes_are_told_in_words() {
        for (size, expected) in [
            (0, "0 B"),
            (1, "1 B–2 B"),
            (1023, "512 B–1 KiB"),
            (1024, "1 KiB–2 KiB"),
            (65_536, "64 KiB–128 KiB"),
            (131_071, "64 KiB–128 KiB"),
            ((1 << 48) - 1, "128 TiB–256 TiB"),
        ] {
            assert_eq!(class(held::class(size)), expected);
        }
    }
}
