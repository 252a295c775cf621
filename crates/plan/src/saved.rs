//! Saved plans: little-endian numbers between a name and a checksum.
//!
//! | bytes | |
//! |---|---|
//! | 8 | `TNZPLAN1`: the name and the version of the format |
//! | 4 | the number of plans, at most [`MAX_PLANS`] |
//! | | of each plan: |
//! | 4 | the number of actions |
//! | 1 + 8 or 4 each | an action: the log2 of a request's alignment and its size, or 255 and the number of the request that is freed |
//! | 8 each | the offset of each request, all ones for a buffer that is not in the block |
//! | 8 | FNV-1a of everything before |
//!
//! A file is read piece by piece, so that none makes more room than it has bytes. What it says is then checked as if somebody wished us ill:
//! the checksum is for accidents, [`StepPlan::new`] is for safety.

use std::fmt;
use std::io::{self, Read, Write};

use super::step::{Action, ELSEWHERE, StepPlan};

const NAME: &[u8; 8] = b"TNZPLAN1";
const FREED: u8 = u8::MAX;

/// The most plans in a file.
const MAX_PLANS: u32 = 64;

/// Why saved plans cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlanFileError {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It does not begin as a file of plans, or is of another version.
    NotPlans,
    /// It ends early, or goes on where it should end.
    Length,
    /// It is not what was written.
    Checksum,
    /// It says something that no plan says: an impossible size, a free of what is not there, buffers that overlap.
    Impossible,
}

impl fmt::Display for PlanFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot read the plans: {error}"),
            Self::NotPlans => f.write_str("not a file of plans, or one of another version"),
            Self::Length => f.write_str("the file of plans is too short or too long"),
            Self::Checksum => f.write_str("the file of plans was changed since it was written"),
            Self::Impossible => f.write_str("the file of plans tells an impossible plan"),
        }
    }
}

impl std::error::Error for PlanFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

/// A reader or writer, and the checksum of what went through it.
struct Summed<S> {
    stream: S,
    sum: u64,
}

impl<S> Summed<S> {
    fn new(stream: S) -> Self {
        Self { stream, sum: 0xcbf2_9ce4_8422_2325 }
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.sum = (self.sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

impl<W: Write> Summed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.add(bytes);
        self.stream.write_all(bytes)
    }
}

impl<R: Read> Summed<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], PlanFileError> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PlanFileError::Length,
            _ => PlanFileError::Unreadable(error),
        })?;
        self.add(&bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, PlanFileError> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Writes plans.
///
/// # Errors
/// What the writer reports; and [`InvalidInput`](io::ErrorKind::InvalidInput), before anything is written, if there are more than 64.
pub fn write_plans<'p>(
    plans: impl IntoIterator<Item = &'p StepPlan, IntoIter: ExactSizeIterator>,
    out: impl Write,
) -> io::Result<()> {
    let plans = plans.into_iter();
    if plans.len() > MAX_PLANS as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a file has at most {MAX_PLANS} plans")));
    }
    let mut out = Summed::new(io::BufWriter::new(out));
    out.put(NAME)?;
    out.put(&(plans.len() as u32).to_le_bytes())?;
    for plan in plans {
        out.put(&(plan.actions().len() as u32).to_le_bytes())?;
        for action in plan.actions() {
            match *action {
                Action::Request { size, align } => {
                    out.put(&[align.trailing_zeros() as u8])?;
                    out.put(&(size as u64).to_le_bytes())?;
                }
                Action::Free { request } => {
                    out.put(&[FREED])?;
                    out.put(&request.to_le_bytes())?;
                }
            }
        }
        for &offset in plan.offsets() {
            let offset = if offset == ELSEWHERE { u64::MAX } else { offset as u64 };
            out.put(&offset.to_le_bytes())?;
        }
    }
    let sum = out.sum;
    out.put(&sum.to_le_bytes())?;
    out.stream.flush()
}

/// Reads plans.
///
/// # Errors
/// What is wrong with the file, if anything: nothing that no plan would say is taken from it.
pub fn read_plans(input: impl Read) -> Result<Vec<StepPlan>, PlanFileError> {
    let mut input = Summed::new(io::BufReader::new(input));
    if input.take().ok() != Some(*NAME) {
        return Err(PlanFileError::NotPlans);
    }
    let count = u32::from_le_bytes(input.take()?);
    if count > MAX_PLANS {
        return Err(PlanFileError::Impossible);
    }
    let mut plans = Vec::new();
    for _ in 0..count {
        let actions = u32::from_le_bytes(input.take()?);
        if actions as usize > StepPlan::MAX_ACTIONS {
            return Err(PlanFileError::Impossible);
        }
        plans.push(plan(&mut input, actions)?);
    }
    let sum = input.sum;
    if input.number()? != sum {
        return Err(PlanFileError::Checksum);
    }
    if input.take::<1>().is_ok() {
        return Err(PlanFileError::Length);
    }
    let plans = plans.into_iter().map(|(actions, offsets)| StepPlan::new(actions, offsets));
    plans.collect::<Option<_>>().ok_or(PlanFileError::Impossible)
}

/// The actions and offsets of a plan, not yet checked against each other.
fn plan<R: Read>(input: &mut Summed<R>, count: u32) -> Result<(Vec<Action>, Vec<usize>), PlanFileError> {
    let (mut actions, mut requests) = (Vec::new(), 0);
    for _ in 0..count {
        let [kind] = input.take()?;
        actions.push(if kind == FREED {
            Action::Free { request: u32::from_le_bytes(input.take()?) }
        } else {
            requests += 1;
            let size = usize::try_from(input.number()?).map_err(|_| PlanFileError::Impossible)?;
            Action::Request { size, align: 1_usize.checked_shl(kind.into()).ok_or(PlanFileError::Impossible)? }
        });
    }
    let mut offsets = Vec::new();
    for _ in 0..requests {
        let offset = match input.number()? {
            u64::MAX => Ok(ELSEWHERE),
            offset => usize::try_from(offset),
        };
        offsets.push(offset.map_err(|_| PlanFileError::Impossible)?);
    }
    Ok((actions, offsets))
}
