//! What of a pickle is no list or the like: numbers and texts, in all the ways in which they are written.

use std::io::BufRead;

use super::super::ImportError;
use super::input::{Input, Kept, wrong};
use super::value::{Value, Word};

/// What opcodes are called that would load a class, call a function, or ask somebody else.
fn refused(opcode: u8) -> Option<&'static str> {
    Some(match opcode {
        b'c' => "GLOBAL",
        0x93 => "STACK_GLOBAL",
        b'R' => "REDUCE",
        b'b' => "BUILD",
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return None,
    })
}

/// A whole number, as far as it has 64 bits.
fn whole(number: i128) -> Value {
    let large = |_| u64::try_from(number).map_or(Value::Other, Value::Large);
    i64::try_from(number).map_or_else(large, Value::Number)
}

fn word(text: &Kept) -> Value {
    text.all().and_then(Word::of).map_or(Value::Other, Value::Word)
}

/// Reads the value that an opcode at an offset begins; an error, if it begins none.
pub(super) fn read(input: &mut Input<impl BufRead>, at: u64, opcode: u8) -> Result<Value, ImportError> {
    Ok(match opcode {
        b'N' | 0x88 | 0x89 => Value::Other,
        b'G' => input.array::<8>().map(|_| Value::Other)?,
        b'F' => input.line().map(|_| Value::Other)?,
        b'K' => Value::Number(input.byte()?.into()),
        b'M' => Value::Number(u16::from_le_bytes(input.array()?).into()),
        b'J' => Value::Number(i32::from_le_bytes(input.array()?).into()),
        b'I' | b'L' => decimal(input, at)?,
        0x8a | 0x8b => long(input, at, opcode)?,
        b'S' => {
            let text = input.line()?;
            // Between quotes, of either kind.
            let word = text.all().and_then(|text| match text {
                [b'\'', word @ .., b'\''] | [b'"', word @ .., b'"'] => Word::of(word),
                _ => None,
            });
            word.map_or(Value::Other, Value::Word)
        }
        b'V' => word(&input.line()?),
        b'T' | b'U' | b'X' | 0x8c | 0x8d => {
            let length = length(input, at, opcode)?;
            word(&input.text(length)?)
        }
        b'B' | b'C' | 0x8e | 0x96 => {
            let length = length(input, at, opcode)?;
            input.text(length).map(|_| Value::Other)?
        }
        _ => {
            let what = match refused(opcode) {
                Some(name) => format!("{name} loads or calls something: a pickle that is no mere data is refused"),
                None => format!("there is no opcode {opcode:#04x}"),
            };
            return Err(wrong(at, what));
        }
    })
}

/// The length that is claimed of a text, or of bytes.
fn length(input: &mut Input<impl BufRead>, at: u64, opcode: u8) -> Result<u64, ImportError> {
    Ok(match opcode {
        b'U' | b'C' | 0x8c => input.byte()?.into(),
        b'X' | b'B' => u32::from_le_bytes(input.array()?).into(),
        b'T' => signed(input, at)?,
        _ => u64::from_le_bytes(input.array()?),
    })
}

/// A length that is written with a sign.
fn signed(input: &mut Input<impl BufRead>, at: u64) -> Result<u64, ImportError> {
    let length = i32::from_le_bytes(input.array()?);
    u64::try_from(length).map_err(|_| wrong(at, "a length is less than nothing"))
}

fn decimal(input: &mut Input<impl BufRead>, at: u64) -> Result<Value, ImportError> {
    let line = input.line()?;
    let Some(text) = line.all() else { return Ok(Value::Other) };
    // What protocols 0 and 1 write for True and False.
    if let b"00" | b"01" = text {
        return Ok(Value::Other);
    }
    let digits = text.strip_suffix(b"L").unwrap_or(text);
    match std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) {
        Some(number) => Ok(whole(number)),
        None => Err(wrong(at, "a number is none")),
    }
}

fn long(input: &mut Input<impl BufRead>, at: u64, opcode: u8) -> Result<Value, ImportError> {
    let length = if opcode == 0x8a { input.byte()?.into() } else { signed(input, at)? };
    let text = input.text(length)?;
    let Some(digits) = text.all().filter(|digits| digits.len() <= size_of::<i128>()) else {
        return Ok(Value::Other);
    };
    // The last byte has the sign, which goes on.
    let filler = digits.last().map_or(0, |last| if last >> 7 == 0 { 0 } else { 0xff });
    let mut number = [filler; size_of::<i128>()];
    number.iter_mut().zip(digits).for_each(|(to, from)| *to = *from);
    Ok(whole(i128::from_le_bytes(number)))
}
