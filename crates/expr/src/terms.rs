//! What an expression is made of, term by term, while it is explained.
//!
//! Terms that are written alike have the same values: each says what is done and with what terms, views and all, tensors are told apart by where they lie, and
//! the user's functions by who calls them. So each term that stands more than once in an expression is known, once, with how often it is computed.

use std::collections::HashMap;
use std::fmt;

use crate::item::Item;
use crate::shape::{Shape, Strides};

/// A term, by its number. It is written as `@3` in those that have it for a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term(usize);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// All terms of an expression.
#[derive(Debug, Default)]
pub struct Terms {
    entries: Vec<Entry>,
    /// Those of each type of elements by what is written.
    numbers: HashMap<(&'static str, String), usize>,
    /// What bears each name.
    named: HashMap<String, Vec<Identity>>,
}

/// What tells two of the same name apart: an address, and by what steps it goes on from there.
type Identity = (usize, Strides);

#[derive(Debug)]
struct Entry {
    text: String,
    /// How often it is computed.
    times: usize,
    /// Of how many terms it is a part, each of these taken once.
    uses: usize,
    /// Whether it, or a part of it, takes more than plain arithmetic.
    is_dear: bool,
}

/// What is computed more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repeat {
    /// What is computed.
    pub formula: String,
    /// How often.
    pub times: usize,
}

impl Terms {
    /// What is read, or takes no more than plain arithmetic.
    pub(crate) fn plain<T: Item>(&mut self, text: String) -> Term {
        self.add::<T>(text, false)
    }

    /// What is worth to be computed once.
    pub(crate) fn dear<T: Item>(&mut self, text: String) -> Term {
        self.add::<T>(text, true)
    }

    /// Elements in memory.
    pub(crate) fn tensor<T: Item>(&mut self, elements: *const T, shape: &Shape, strides: &Strides) -> Term {
        let name = self.name_of(elements, shape, strides);
        self.plain::<T>(name)
    }

    /// What formulas call elements in memory: `f32[2, 3]`, and others of the same type and shape `f32[2, 3]#2`.
    pub(crate) fn name_of<T: Item>(&mut self, elements: *const T, shape: &Shape, strides: &Strides) -> String {
        self.name(format!("{}{shape}", T::NAME), (elements.addr(), *strides))
    }

    /// The user's function that a node calls, which nobody can look into: it is that of no other node.
    pub(crate) fn function<N>(&mut self, name: &str, node: &N) -> String {
        self.name(name.to_owned(), (std::ptr::from_ref(node).addr(), Strides::default()))
    }

    /// The first has the name itself, and others a number behind it.
    pub(crate) fn name(&mut self, name: String, identity: Identity) -> String {
        let named = self.named.entry(name.clone()).or_default();
        let place = named.iter().position(|other| *other == identity).unwrap_or_else(|| {
            named.push(identity);
            named.len() - 1
        });
        if place == 0 { name } else { format!("{name}#{}", place + 1) }
    }

    fn add<T: Item>(&mut self, text: String, is_dear: bool) -> Term {
        let key = (T::NAME, text);
        if let Some(&number) = self.numbers.get(&key) {
            self.entries[number].times += 1;
            return Term(number);
        }
        let mut entry = Entry { text: key.1.clone(), times: 1, uses: 0, is_dear };
        for (part, _) in parts(&entry.text) {
            let part = &mut self.entries[part];
            part.uses += 1;
            entry.is_dear |= part.is_dear;
        }
        let number = self.entries.len();
        self.entries.push(entry);
        self.numbers.insert(key, number);
        Term(number)
    }

    /// What is dear and stands more than once: the largest such terms, and of their parts those that stand elsewhere as well.
    pub(crate) fn repeated(&self) -> Vec<Repeat> {
        let is_repeated = |entry: &&Entry| entry.is_dear && entry.uses > 1;
        let repeat = |entry: &Entry| Repeat { formula: self.formula(&entry.text), times: entry.times };
        self.entries.iter().filter(is_repeated).map(repeat).collect()
    }

    /// What is written of terms, with these in the place of their numbers.
    pub(crate) fn formula(&self, text: &str) -> String {
        let head = text.split('@').next().unwrap_or_default().to_owned();
        parts(text).fold(head, |formula, (part, next)| formula + &self.formula(&self.entries[part].text) + next)
    }
}

/// The numbers of a term's parts, each with what is written behind it.
fn parts(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split('@').skip(1).filter_map(|piece| {
        let end = piece.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(piece.len());
        let (number, next) = piece.split_at(end);
        Some((number.parse().ok()?, next))
    })
}
