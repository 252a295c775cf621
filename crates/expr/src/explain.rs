//! What an evaluation would do: its passes, what they materialise, and the most memory at once.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use tenzor_memory::allocator_api2::alloc::Global;

use crate::context::Context;
use crate::eval::materialise;
use crate::expr::Expr;
use crate::shape::{Shape, ShapeError};

/// What [`explain`] tells. It prints as a list of the passes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// In the order in which they run.
    pub passes: Vec<Pass>,
    /// The most bytes that are requested from the allocator at once, the result included. The scratch memory of the crate that computes
    /// matrix products is not among them.
    pub peak_bytes: usize,
    /// The bytes of the result.
    pub output_bytes: usize,
}

/// One pass over memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pass {
    /// The number of the block that it writes, which stands as `%1` in the formulas of later passes.
    pub id: usize,
    /// What is computed.
    pub formula: String,
    /// Of the result.
    pub shape: Shape,
    /// The type of the result's elements.
    pub element: &'static str,
    /// What is requested for the result: 0 where it is written in the place of block `in_place`.
    pub bytes: usize,
    /// The block that the result replaces.
    pub in_place: Option<usize>,
}

impl Explanation {
    /// How many requests are made to the allocator.
    pub fn requests(&self) -> usize {
        self.passes.iter().filter(|pass| pass.bytes > 0).count()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Pass { id, formula, shape, element, bytes, in_place } in &self.passes {
            write!(f, "%{id} = {formula}: {element}{shape}, ")?;
            match in_place {
                Some(old) => writeln!(f, "in the place of %{old}")?,
                None => writeln!(f, "{bytes} bytes")?,
            }
        }
        write!(f, "peak: {} bytes, result: {} bytes", self.peak_bytes, self.output_bytes)
    }
}

/// What is noted while an expression is explained.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    passes: Vec<Pass>,
    live: usize,
    peak: usize,
}

impl Ledger {
    /// Returns the new block's number.
    pub(crate) fn produces(&mut self, formula: String, element: &'static str, shape: &Shape, bytes: usize) -> usize {
        self.live = self.live.saturating_add(bytes);
        self.peak = self.peak.max(self.live);
        self.push(Pass { id: 0, formula, shape: *shape, element, bytes, in_place: None })
    }

    pub(crate) fn rewrites(&mut self, old: usize, formula: String, element: &'static str, shape: &Shape) -> usize {
        self.push(Pass { id: 0, formula, shape: *shape, element, bytes: 0, in_place: Some(old) })
    }

    pub(crate) fn frees(&mut self, bytes: usize) {
        self.live = self.live.saturating_sub(bytes);
    }

    fn push(&mut self, pass: Pass) -> usize {
        let id = self.passes.len() + 1;
        self.passes.push(Pass { id, ..pass });
        id
    }
}

/// Tells what [`eval`](crate::eval) would do with an expression, without doing anything: a line for each pass over memory, with the
/// bytes of what it materialises, and the peak.
///
/// ```
/// use tenzor_expr::{Expr, View, explain};
///
/// let (x, w) = (vec![0.5_f32; 64 * 512], vec![0.1_f32; 512 * 16]);
/// let (x, w) = (View::new(&x, [64, 512])?, View::new(&w, [512, 16])?);
/// let plan = explain(&(x.matmul(w) + 1.0).relu())?;
/// assert_eq!(plan.to_string(), "\
/// %1 = matmul(f32[64, 512], f32[512, 16]): f32[64, 16], 4096 bytes
/// %2 = relu((%1 + 1)): f32[64, 16], in the place of %1
/// peak: 4096 bytes, result: 4096 bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ShapeError`] if the expression has no shape.
pub fn explain<E: Expr>(expr: &E) -> Result<Explanation, ShapeError> {
    let shape = expr.shape()?;
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let context = Context::planning(Global, Rc::clone(&ledger));
    drop(materialise(&context, expr.prepare(&context), &shape));
    let output_bytes = shape.elements() * size_of::<E::Elem>();
    let ledger = ledger.borrow();
    Ok(Explanation { passes: ledger.passes.clone(), peak_bytes: ledger.peak, output_bytes })
}
