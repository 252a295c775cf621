//! Messages of Protocol Buffers, as they are written. Of the format, three kinds of field are needed here: numbers, bytes, and many numbers in one.

use std::io::{self, Write};

/// A message: its fields, one after the other.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// How a field's value is written.
const NUMBER: u64 = 0;
const BYTES: u64 = 2;

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A field that is a number, an enumeration's value, or a bool.
    #[must_use]
    pub(super) fn number(mut self, field: u32, value: u64) -> Self {
        varint(&mut self.0, key(field, NUMBER));
        varint(&mut self.0, value);
        self
    }

    /// A field that is an `int64`: what is larger than these is the largest.
    #[must_use]
    pub(super) fn signed(self, field: u32, value: u64) -> Self {
        self.number(field, value.min(i64::MAX as u64))
    }

    /// A field that is a text, or bytes.
    #[must_use]
    pub(super) fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        varint(&mut self.0, key(field, BYTES));
        varint(&mut self.0, bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    /// A field that is a message.
    #[must_use]
    pub(super) fn message(self, field: u32, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// A field that is many numbers.
    #[must_use]
    pub(super) fn numbers(self, field: u32, values: impl IntoIterator<Item = u64>) -> Self {
        let mut packed = Vec::new();
        values.into_iter().for_each(|value| varint(&mut packed, value));
        self.bytes(field, &packed)
    }

    /// Writes the message as it is: its fields are those of a message that has more before and behind.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.0)
    }
}

fn key(field: u32, kind: u64) -> u64 {
    u64::from(field) << 3 | kind
}

/// Seven bits a byte, the lowest first; all but the last have the eighth.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
