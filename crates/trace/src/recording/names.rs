//! Names of what records call by numbers: threads, labels, sources, and the stacks of requests.
//!
//! A block of names is one name after the other: its number in 4 bytes, what it is of in 2 (1 a thread, 2 a label, 3 a source, 4 a stack, 5 a module; 0 ends the block), its length in
//! bytes in 2, and its bytes, with zeros up to a multiple of 8. A source's name says what it is and how it rounds: `heap`; `pool NAME`, with settings behind it. A stack
//! is its return addresses, the innermost first, 8 bytes each. A module is a part of a file that lies in memory as code: where it begins and ends there, and where it begins in
//! the file, 8 bytes each, and then the file's path. A name that comes again holds from then on.

use std::borrow::Cow;

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A thread.
    Thread,
    /// A label.
    Label,
    /// An allocator.
    Source,
    /// The stack of a request.
    Stack,
    /// Code in memory, and its file.
    Module,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Thread, Self::Label, Self::Source, Self::Stack, Self::Module];

    fn code(self) -> u16 {
        self as u16 + 1
    }
}

/// The most bytes of a name.
pub const MAX_NAME: usize = 1 << 12;

/// Writes a name behind others; of one that is too long the first [`MAX_NAME`] bytes.
pub fn encode(kind: Kind, number: u32, name: &[u8], out: &mut Vec<u8>) {
    let name = &name[..name.len().min(MAX_NAME)];
    out.extend(number.to_le_bytes());
    out.extend(kind.code().to_le_bytes());
    out.extend((name.len() as u16).to_le_bytes());
    out.extend(name);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// Shows the names of a block; `None` if one of them is none.
pub(super) fn decode(mut bytes: &[u8], mut show: impl FnMut(Kind, u32, &[u8])) -> Option<()> {
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let [a, b, c, d, e, f, g, h] = *head;
        let (number, code, length) =
            (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
        if code == 0 {
            break;
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code)?;
        let length = usize::from(length);
        if length > MAX_NAME {
            return None;
        }
        show(kind, number, rest.get(..length)?);
        bytes = rest.get(length.next_multiple_of(8)..)?;
    }
    Some(())
}

/// A stack's return addresses.
pub fn addresses(name: &[u8]) -> impl Iterator<Item = u64> {
    name.as_chunks::<8>().0.iter().map(|address| u64::from_le_bytes(*address))
}

/// Code in memory, and its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Module<'a> {
    /// Where it begins in memory.
    pub begin: u64,
    /// Where it ends there, excluded.
    pub end: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// The file's path.
    pub path: &'a [u8],
}

/// What a module's name says; `None` if that is no part of memory.
pub fn module(name: &[u8]) -> Option<Module<'_>> {
    let (numbers, path) = name.split_first_chunk::<24>()?;
    let number = |at: usize| numbers[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let module = Module { begin: number(0), end: number(8), offset: number(16), path };
    (module.begin < module.end).then_some(module)
}

/// A name as it can be shown: what is no text, or no line, is replaced.
pub fn text(name: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(name);
    if text.contains(char::is_control) {
        return text.replace(char::is_control, "\u{fffd}").into();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written() {
        let long = vec![b'x'; MAX_NAME + 1];
        let names: [(Kind, u32, &[u8]); 5] = [
            (Kind::Thread, 0, b"main"),
            (Kind::Label, 7, "Aufmerksamkeit, 1 µs".as_bytes()),
            (Kind::Source, u32::MAX, b""),
            (Kind::Stack, 3, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]),
            (Kind::Label, 8, &long),
        ];
        let mut bytes = Vec::new();
        names.iter().for_each(|(kind, number, name)| encode(*kind, *number, name, &mut bytes));
        for padding in [0, 8, 16] {
            let (mut padded, mut read) = (bytes.clone(), Vec::new());
            padded.resize(bytes.len() + padding, 0);
            assert!(decode(&padded, |kind, number, name| read.push((kind, number, name.to_vec()))).is_some());
            for (read, (kind, number, name)) in read.iter().zip(names) {
                assert_eq!((read.0, read.1, &read.2[..]), (kind, number, &name[..name.len().min(MAX_NAME)]));
            }
            assert_eq!(read.len(), names.len());
        }
        assert_eq!(addresses(names[3].2).collect::<Vec<_>>(), [1, 2]);
        let (mut path, whole) = (vec![7; 24], Module { begin: 0x1000, end: 0x3000, offset: 0x40, path: b"/bin/x" });
        [whole.begin, whole.end, whole.offset].iter().enumerate().for_each(|(at, number)| {
            path[8 * at..8 * at + 8].copy_from_slice(&number.to_le_bytes());
        });
        path.extend(whole.path);
        assert_eq!((module(&path), module(&path[..23])), (Some(whole), None));
        path[8..16].copy_from_slice(&0x1000_u64.to_le_bytes());
        assert_eq!(module(&path), None);
        // What is cut off is noticed, but between two names.
        let whole: Vec<usize> =
            (0..=bytes.len()).filter(|&end| decode(&bytes[..end], |_, _, _| ()).is_some()).collect();
        assert!(whole.len() < 50, "{whole:?}");
        assert_eq!(text(b"a\nb\xff"), "a\u{fffd}b\u{fffd}");
    }
}
