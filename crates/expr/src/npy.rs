//! Files of NumPy's format `.npy`, in and out.
//!
//! The header is read by hand, as it may come from anybody: the crates for it parse all of Python's literals, by functions that call themselves for
//! each bracket, and multiply the sizes unchecked. What can be a tensor's is one line:
//! `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use tenzor_memory::{AllocError, Allocator, Buffer};

use crate::axes::MAX_RANK;
use crate::item::Item;
use crate::shape::{Shape, ShapeError, ShapeErrorKind, Strides};
use crate::tensor::{Tensor, View};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy refuses longer headers, too.
const LONGEST_HEADER: usize = 10_000;
/// Where elements start is a multiple of this.
const ALIGNMENT: usize = 64;
/// What is read or written at once: whole elements of any size.
const PIECE: usize = 1 << 14;

/// Why a file is no tensor.
#[derive(Debug)]
#[non_exhaustive]
pub enum NpyError {
    /// It could not be read.
    Io(io::Error),
    /// It is not of this format, or of a version after 3.0.
    Header(&'static str),
    /// Its elements are of another type.
    Type {
        /// NumPy's name for the type asked for.
        expected: &'static str,
        /// The name in the file.
        found: String,
    },
    /// An element that is negative, or too large, where indices were asked for.
    Value {
        /// The type asked for.
        expected: &'static str,
    },
    /// It has too many axes, or more elements than memory can hold.
    Shape(ShapeError),
    /// It ends before its last element. Nothing was allocated.
    Truncated {
        /// How many bytes the elements are.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// The allocator has no memory for it.
    Alloc(AllocError),
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Header(what) => write!(f, "npy: {what}"),
            Self::Type { expected, found } => write!(f, "npy: the elements are of the type {found}, not {expected}"),
            Self::Value { expected } => write!(f, "npy: an element is no {expected}"),
            Self::Shape(error) => write!(f, "npy: {error}"),
            Self::Truncated { expected, found } => {
                write!(f, "npy: the elements are {expected} bytes, of which there are {found}")
            }
            Self::Alloc(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NpyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Shape(error) => Some(error),
            Self::Alloc(error) => Some(error),
            Self::Header(_) | Self::Type { .. } | Self::Value { .. } | Self::Truncated { .. } => None,
        }
    }
}

impl From<io::Error> for NpyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ShapeError> for NpyError {
    fn from(error: ShapeError) -> Self {
        Self::Shape(error)
    }
}

impl From<AllocError> for NpyError {
    fn from(error: AllocError) -> Self {
        Self::Alloc(error)
    }
}

impl<T: Item, A: Allocator> Tensor<T, A> {
    /// Reads what `numpy.save` wrote: an array of `float32`, `float64`, `bool`, or, as `usize`, of `uint64` or `int64`, in C or Fortran order, little-endian. The reader then stands
    /// behind its last element, where another array may follow. It has to be able to seek, so that nothing is allocated for elements that
    /// are not there: a file, or a [`Cursor`](io::Cursor) over bytes.
    ///
    /// ```
    /// use std::io::Cursor;
    ///
    /// use tenzor_expr::Tensor;
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let x = Tensor::from_slice_in(&[1.0_f32, 2.0, 3.0, 4.0], [2, 2], &alloc)?;
    /// let mut file = Cursor::new(Vec::new());
    /// x.write_npy(&mut file)?;
    /// file.set_position(0);
    /// let y = Tensor::<f32, _>::read_npy(&mut file, &alloc)?;
    /// assert_eq!((y.shape(), y.as_slice()), (x.shape(), x.as_slice()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`NpyError`] if it is no such array, or has other elements; if it ends too early; or when the allocator refuses.
    pub fn read_npy(mut reader: impl Read + Seek, alloc: A) -> Result<Self, NpyError> {
        let header = Header::read(&mut reader)?;
        let is_ours = T::DTYPES.contains(&&header.descr[..]);
        if !is_ours {
            return Err(NpyError::Type { expected: T::DTYPES[0], found: header.descr });
        }
        let shape = header.shape;
        // No overflow: a shape's elements are no more than fit into memory as `f64`.
        let expected = (shape.elements() * T::BYTES) as u64;
        let start = reader.stream_position()?;
        let found = reader.seek(SeekFrom::End(0))?.saturating_sub(start);
        reader.seek(SeekFrom::Start(start))?;
        if found < expected {
            return Err(NpyError::Truncated { expected, found });
        }
        let mut buffer = Buffer::<T, A>::zeroed_in(shape.elements(), alloc)?;
        let mut places = Places::new(&shape, header.is_fortran);
        let mut bytes = vec![0; PIECE.min(shape.elements() * T::BYTES)];
        let mut left = shape.elements();
        while left > 0 {
            let count = left.min(PIECE / T::BYTES);
            let piece = &mut bytes[..count * T::BYTES];
            reader.read_exact(piece)?;
            for (element, place) in piece.chunks_exact(T::BYTES).zip(&mut places) {
                if let Some(slot) = buffer.get_mut(place) {
                    *slot = T::load(element).ok_or(NpyError::Value { expected: T::NAME })?;
                }
            }
            left -= count;
        }
        Ok(Self::of(buffer, shape))
    }

    /// Writes what `numpy.load` reads, in C order. It writes in pieces of 16 KiB: a writer needs no buffer of its own.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_npy(&self, writer: impl Write) -> io::Result<()> {
        write(&self.shape(), self.as_slice(), writer)
    }
}

impl<T: Item> View<'_, T> {
    /// As [`Tensor::write_npy`]. Elements that do not lie in order are copied before.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_npy(&self, writer: impl Write) -> io::Result<()> {
        match self.in_order() {
            Some(elements) => write(&self.shape, elements, writer),
            None => write(&self.shape, &self.to_vec(), writer),
        }
    }
}

fn write<T: Item>(shape: &Shape, elements: &[T], mut writer: impl Write) -> io::Result<()> {
    let mut sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    // As Python writes tuples: `()`, `(3,)`, `(2, 3)`.
    sizes.truncate(sizes.len() - if shape.rank() > 1 { 2 } else { shape.rank() });
    let text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({sizes}), }}", T::DTYPES[0]);
    let before = MAGIC.len() + 4;
    let whole = (before + text.len() + 1).next_multiple_of(ALIGNMENT);
    // At most six sizes of twenty digits are far from the limit of 64 KiB.
    let length = u16::try_from(whole - before).unwrap_or(u16::MAX);
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.bytes());
    bytes.resize(whole - 1, b' ');
    bytes.push(b'\n');
    for piece in elements.chunks(PIECE / T::BYTES) {
        for element in piece {
            element.store(&mut bytes);
        }
        writer.write_all(&bytes)?;
        bytes.clear();
    }
    writer.write_all(&bytes)
}

/// Where the elements of a file belong, in the order of the file.
struct Places {
    /// The sizes of the axes and how far the next element is, the innermost first.
    axes: [(usize, usize); MAX_RANK],
    rank: usize,
    at: [usize; MAX_RANK],
    place: usize,
}

impl Places {
    fn new(shape: &Shape, is_fortran: bool) -> Self {
        let strides = Strides::row_major(shape);
        let mut axes = [(0, 0); MAX_RANK];
        for (axis, &size) in shape.iter().enumerate() {
            let inner = if is_fortran { axis } else { shape.rank() - 1 - axis };
            axes[inner] = (size, strides.steps[axis].unsigned_abs());
        }
        Self { axes, rank: shape.rank(), at: [0; MAX_RANK], place: 0 }
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let place = self.place;
        for (&(size, step), at) in self.axes[..self.rank].iter().zip(&mut self.at) {
            *at += 1;
            self.place += step;
            if *at < size {
                break;
            }
            self.place -= *at * step;
            *at = 0;
        }
        Some(place)
    }
}

#[derive(Debug)]
struct Header {
    descr: String,
    is_fortran: bool,
    shape: Shape,
}

impl Header {
    fn read(reader: &mut impl Read) -> Result<Self, NpyError> {
        let mut start = [0; 8];
        reader.read_exact(&mut start).map_err(cut_short)?;
        if start[..6] != MAGIC[..] {
            return Err(NpyError::Header("it does not start as a file of this format"));
        }
        let mut length = [0; 4];
        match start[6..] {
            [1, 0] => reader.read_exact(&mut length[..2]),
            [2 | 3, 0] => reader.read_exact(&mut length),
            _ => return Err(NpyError::Header("it is of an unknown version")),
        }
        .map_err(cut_short)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST_HEADER {
            return Err(NpyError::Header("its header is too long"));
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).map_err(cut_short)?;
        let text = std::str::from_utf8(&text).map_err(|_| NpyError::Header("its header is no text"))?;
        Self::parse(text)
    }

    fn parse(text: &str) -> Result<Self, NpyError> {
        let (mut descr, mut is_fortran, mut shape) = (None, None, None);
        let mut text = Text(text.trim());
        text.expect("{")?;
        while !text.skip("}") {
            let key = text.string()?;
            text.expect(":")?;
            let is_new = match key {
                "descr" => descr.replace(text.descr()?).is_none(),
                "fortran_order" => is_fortran.replace(text.boolean()?).is_none(),
                "shape" => shape.replace(text.shape()?).is_none(),
                _ => return Err(NpyError::Header("its header has an unknown key")),
            };
            if !is_new {
                return Err(NpyError::Header("its header says something twice"));
            }
            if !text.skip(",") {
                text.expect("}")?;
                break;
            }
        }
        match (descr, is_fortran, shape) {
            (Some(descr), Some(is_fortran), Some(shape)) if text.0.is_empty() => Ok(Self { descr, is_fortran, shape }),
            _ => Err(MALFORMED),
        }
    }
}

const MALFORMED: NpyError = NpyError::Header("its header cannot be understood");

fn cut_short(error: io::Error) -> NpyError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => NpyError::Header("it ends within its header"),
        _ => NpyError::Io(error),
    }
}

/// What is left of a header, from the next word on.
struct Text<'t>(&'t str);

impl<'t> Text<'t> {
    fn skip(&mut self, word: &str) -> bool {
        let rest = self.0.strip_prefix(word);
        self.0 = rest.unwrap_or(self.0).trim_start();
        rest.is_some()
    }

    fn expect(&mut self, word: &str) -> Result<(), NpyError> {
        if self.skip(word) { Ok(()) } else { Err(MALFORMED) }
    }

    fn take(&mut self, len: usize) -> &'t str {
        let (word, rest) = self.0.split_at(len);
        self.0 = rest.trim_start();
        word
    }

    /// Without escapes, which neither keys nor types have.
    fn string(&mut self) -> Result<&'t str, NpyError> {
        let quote = self.0.chars().next().filter(|&c| c == '\'' || c == '"').ok_or(MALFORMED)?;
        let end = self.0[1..].find(quote).ok_or(MALFORMED)?;
        Ok(&self.take(end + 2)[1..=end])
    }

    /// A type; of records, which are lists, no more than that.
    fn descr(&mut self) -> Result<String, NpyError> {
        if self.0.starts_with('[') {
            return Err(NpyError::Type { expected: "one of numbers", found: "of a record".to_owned() });
        }
        self.string().map(str::to_owned)
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        if self.skip("True") { Ok(true) } else { self.expect("False").map(|()| false) }
    }

    fn shape(&mut self) -> Result<Shape, NpyError> {
        let (mut sizes, mut rank) = ([0; MAX_RANK], 0);
        self.expect("(")?;
        while !self.skip(")") {
            let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let word = self.take(digits);
            if word.is_empty() {
                return Err(MALFORMED);
            }
            // All that is wrong with digits is that they are too many.
            let size = word.parse().map_err(|_| ShapeError::from(ShapeErrorKind::TooLarge))?;
            // Python 2 marked some numbers as long.
            self.skip("L");
            if let Some(slot) = sizes.get_mut(rank) {
                *slot = size;
            }
            rank += 1;
            if !self.skip(",") {
                self.expect(")")?;
                break;
            }
        }
        let sizes = sizes.get(..rank).ok_or(ShapeError::from(ShapeErrorKind::Rank { rank }))?;
        Ok(Shape::new(sizes)?)
    }
}
