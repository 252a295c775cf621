//! What an evaluation would do: its passes, what they materialise, and the most memory at once.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::rc::Rc;

use tenzor_memory::allocator_api2::alloc::Global;

use crate::block::Output;
use crate::context::Context;
use crate::eval::write_to;
use crate::expr::Expr;
use crate::ledger::{Ledger, Pass};
use crate::node::materialise;
use crate::shape::{Shape, ShapeError};
use crate::terms::Repeat;

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
    /// What is computed more than once, though its values are the same: functions, reductions, products and whatever else takes more than
    /// plain arithmetic, or is made of such. Of what is part of a larger repeat, nothing is said, unless it stands elsewhere as well.
    pub repeated: Vec<Repeat>,
}

impl Explanation {
    fn new<E: Expr>(mut ledger: RefMut<'_, Ledger>, expr: &E, shape: &Shape) -> Self {
        expr.term(&mut ledger.terms);
        let output_bytes = shape.elements() * size_of::<E::Elem>();
        Self { passes: ledger.passes.clone(), peak_bytes: ledger.peak, output_bytes, repeated: ledger.terms.repeated() }
    }

    /// How many requests are made to the allocator.
    pub fn requests(&self) -> usize {
        self.passes.iter().filter(|pass| pass.bytes > 0).count()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Pass { id, formula, shape, element, bytes, in_place, in_output } in &self.passes {
            write!(f, "%{id} = {formula}: {element}{shape}, ")?;
            match in_place {
                Some(old) => writeln!(f, "in the place of %{old}")?,
                None if *in_output => writeln!(f, "in the output")?,
                None => writeln!(f, "{bytes} bytes")?,
            }
        }
        for Repeat { formula, times } in &self.repeated {
            writeln!(f, "{formula} is computed {times} times: evaluate it first, and use the tensor")?;
        }
        write!(f, "peak: {} bytes, result: {} bytes", self.peak_bytes, self.output_bytes)
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
/// Formulas call tensors by their type and shape, and a second one that has both, or has the same elements in another order, `f32[2, 3]#2`, a third one
/// `f32[2, 3]#3`.
///
/// What stands twice is computed twice, also by reference and within [`materialise`](Expr::materialise). It is told, unless it is plain
/// arithmetic; a function that was given to [`map`](Expr::map) is the same only where it is called by the same node:
///
/// ```
/// use tenzor_expr::{Expr, View, eval, explain};
/// use tenzor_memory::TensorAllocator;
///
/// let alloc = TensorAllocator::new();
/// let (x, y) = (View::new(&[0.5_f32; 6], [2, 3])?, View::new(&[2.0_f32; 6], [2, 3])?);
/// let plan = explain(&((x * 2.0).exp() * y + (x * 2.0).exp()))?;
/// assert_eq!(plan.to_string(), "\
/// %1 = ((exp((f32[2, 3] * 2)) * f32[2, 3]#2) + exp((f32[2, 3] * 2))): f32[2, 3], 24 bytes
/// exp((f32[2, 3] * 2)) is computed 2 times: evaluate it first, and use the tensor
/// peak: 24 bytes, result: 24 bytes");
/// let exp = eval(&(x * 2.0).exp(), &alloc)?;
/// assert!(explain(&(&exp * y + &exp))?.repeated.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ShapeError`] if the expression has no shape.
pub fn explain<E: Expr>(expr: &E) -> Result<Explanation, ShapeError> {
    let shape = expr.shape()?;
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let context = Context::planning(&Global, Rc::clone(&ledger));
    drop(materialise(&context, expr.prepare(&context, &shape), &shape));
    Ok(Explanation::new(ledger.borrow_mut(), expr, &shape))
}

/// Tells what [`eval_into`](crate::eval_into) would do, as [`explain`] does: what is written to the output requests nothing.
///
/// ```
/// use tenzor_expr::{Expr, View, explain_into};
///
/// let (x, w) = (vec![0.5_f32; 64 * 512], vec![0.1_f32; 512 * 16]);
/// let (x, w) = (View::new(&x, [64, 512])?, View::new(&w, [512, 16])?);
/// let plan = explain_into(&(x.matmul(w) + 1.0).relu())?;
/// assert_eq!(plan.to_string(), "\
/// %1 = matmul(f32[64, 512], f32[512, 16]): f32[64, 16], in the output
/// %2 = relu((%1 + 1)): f32[64, 16], in the place of %1
/// peak: 0 bytes, result: 4096 bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`explain`].
pub fn explain_into<E: Expr>(expr: &E) -> Result<Explanation, ShapeError> {
    let shape = expr.shape()?;
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let context = Context::planning(&Global, Rc::clone(&ledger)).into(Output::imagined::<E::Elem>(shape.elements()));
    write_to(&context, expr, &shape);
    Ok(Explanation::new(ledger.borrow_mut(), expr, &shape))
}
