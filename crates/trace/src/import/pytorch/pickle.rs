//! Reads pickles, protocols 0 to 5, as far as they are data: what would load a class or call a function is refused, and nothing is ever run.
//!
//! A pickle is a program for a machine with a stack, marks in it, and a memo of what is referred to again. Here, each step takes constant time but for
//! the values that it moves, and nothing recurs: lists that hold each other are numbers of each other.

use std::io::BufRead;

use super::super::ImportError;
use super::input::{Input, wrong};
use super::scalar;
use super::value::{Heap, Items, Value};

/// What is read, and where it stands by now.
#[derive(Debug)]
struct Machine<R> {
    input: Input<R>,
    /// Where the opcode is.
    at: u64,
    heap: Heap,
    stack: Vec<Value>,
    /// How long the stack was at each mark.
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    /// How many of the memo's places are taken.
    memoized: u64,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) top: Value,
    pub(super) heap: Heap,
    pub(super) bytes: u64,
}

type Step<T = ()> = Result<T, ImportError>;

const UNDERFLOW: &str = "a value is taken from where there is none";

/// Reads a pickle, which takes so many bytes of memory at most.
pub(super) fn read(input: impl BufRead, limit: u64) -> Result<Pickle, ImportError> {
    let (stack, marks, memo) = (Vec::new(), Vec::new(), Vec::new());
    let mut machine =
        Machine { input: Input::new(input), at: 0, heap: Heap::new(limit), stack, marks, memo, memoized: 0 };
    loop {
        machine.at = machine.input.offset();
        let opcode = machine.input.byte()?;
        if opcode == b'.' {
            let top = machine.pop()?;
            return Ok(Pickle { top, heap: machine.heap, bytes: machine.input.offset() });
        }
        machine.step(opcode)?;
    }
}

impl<R: BufRead> Machine<R> {
    fn wrong<T>(&self, what: &'static str) -> Step<T> {
        Err(wrong(self.at, what))
    }

    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            0x80 => match self.input.byte()? {
                0..=5 => Ok(()),
                _ => self.wrong("the pickle is of a protocol that is not known here"),
            },
            // A frame tells how much may be read at once; here, what is read is buffered already.
            0x95 => self.input.array::<8>().map(drop),
            b'(' => {
                let room = self.heap.grow(&mut self.marks, 1);
                room.or_else(|what| self.wrong(what))?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' if self.stack.len() > self.floor() => self.pop().map(drop),
            b'0' | b'1' => {
                let start = self.marked()?;
                self.stack.truncate(start);
                Ok(())
            }
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memo(opcode),
            b']' | b'}' | 0x8f | b')' | 0x85..=0x87 | b't' | b'l' | b'd' | 0x91 => self.hold(opcode),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode),
            _ => {
                let value = scalar::read(&mut self.input, self.at, opcode)?;
                self.push(value)
            }
        }
    }

    fn memo(&mut self, opcode: u8) -> Step {
        let place = match opcode {
            b'p' | b'g' => {
                let line = self.input.line()?;
                let digits = line.all().and_then(|line| std::str::from_utf8(line).ok());
                match digits.and_then(|digits| digits.parse().ok()) {
                    Some(place) => place,
                    None => return self.wrong("a place in the memo is no number"),
                }
            }
            b'q' | b'h' => self.input.byte()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.input.array()?).into(),
            _ => self.memoized,
        };
        let index = usize::try_from(place).unwrap_or(usize::MAX);
        if let b'g' | b'h' | b'j' = opcode {
            let Some(value) = self.memo.get(index).copied().flatten() else {
                return self.wrong("what is referred to is not in the memo");
            };
            return self.push(value);
        }
        let value = self.top()?;
        // Whoever writes pickles counts places; one that is far off would take memory for those before it.
        if place > self.at {
            return self.wrong("a place in the memo is beyond all that can be in use");
        }
        if let Some(missing) = index.saturating_add(1).checked_sub(self.memo.len()) {
            let room = self.heap.grow(&mut self.memo, missing);
            room.or_else(|what| self.wrong(what))?;
            self.memo.extend(std::iter::repeat_n(None, missing));
        }
        if let Some(entry) = self.memo.get_mut(index) {
            self.memoized += u64::from(entry.replace(value).is_none());
        }
        Ok(())
    }

    /// A new list, or the like.
    fn hold(&mut self, opcode: u8) -> Step {
        let start = match opcode {
            b't' | b'l' | b'd' | 0x91 => self.marked()?,
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(opcode - 0x84));
                match start.filter(|start| *start >= self.floor()) {
                    Some(start) => start,
                    None => return self.wrong(UNDERFLOW),
                }
            }
            _ => self.stack.len(),
        };
        let values = self.stack.get(start..).unwrap_or_default();
        let (at, heap) = (self.at, &mut self.heap);
        let held = match opcode {
            b']' | b'l' => {
                let list = heap.hold(at, Items::List(Vec::new()));
                list.and_then(|list| heap.append(list, values).map(|()| list))
            }
            b'}' | b'd' => {
                let dict = heap.hold(at, Items::Dict(Vec::new()));
                dict.and_then(|dict| heap.set(dict, values).map(|()| dict))
            }
            0x8f | 0x91 => heap.hold(at, Items::Set),
            _ => heap.tuple(at, values),
        };
        let held = held.or_else(|what| self.wrong(what))?;
        self.stack.truncate(start);
        self.push(held)
    }

    /// Something is put into a list, a dict or a set, which stays on the stack.
    fn fill(&mut self, opcode: u8) -> Step {
        let start = match opcode {
            b'e' | b'u' | 0x90 => Some(self.marked()?),
            b'a' => self.stack.len().checked_sub(1),
            _ => self.stack.len().checked_sub(2),
        };
        let to = start.filter(|start| *start > self.floor()).and_then(|start| start.checked_sub(1));
        let Some((start, to)) = start.zip(to.and_then(|to| self.stack.get(to).copied())) else {
            return self.wrong(UNDERFLOW);
        };
        let values = self.stack.get(start..).unwrap_or_default();
        let filled = match opcode {
            b'a' | b'e' => self.heap.append(to, values),
            b's' | b'u' => self.heap.set(to, values),
            _ => self.heap.add(to),
        };
        filled.or_else(|what| self.wrong(what))?;
        self.stack.truncate(start);
        Ok(())
    }

    /// How much of the stack is before the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    /// Takes the last mark; where on the stack it was.
    fn marked(&mut self) -> Step<usize> {
        self.marks.pop().map_or_else(|| self.wrong("there is no mark"), Ok)
    }

    fn top(&self) -> Step<Value> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor());
        top.map_or_else(|| self.wrong(UNDERFLOW), |top| Ok(*top))
    }

    fn pop(&mut self) -> Step<Value> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn push(&mut self, value: Value) -> Step {
        let room = self.heap.grow(&mut self.stack, 1);
        room.or_else(|what| self.wrong(what))?;
        self.stack.push(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
