//! A session that owns its plan and its tensors, as every runtime has one.

use tenzor_memory::{AllocError, Buffer, Handle, HandleBuffer, PlannedAllocator, TensorAllocator};

type Tensor = HandleBuffer<f32, PlannedAllocator>;

struct Session {
    alloc: Handle<PlannedAllocator>,
    weights: Vec<Tensor>,
    last: Option<Tensor>,
}

impl Session {
    fn new(layers: usize, len: usize) -> Result<Self, AllocError> {
        let alloc = Handle::new(PlannedAllocator::new(TensorAllocator::new()));
        let weights = (0..layers).map(|_| Buffer::filled_in(len, 2.0, alloc.clone())).collect::<Result<_, _>>()?;
        Ok(Self { alloc, weights, last: None })
    }

    fn run(&mut self, x: &[f32]) -> Result<f32, AllocError> {
        let alloc = self.alloc.clone();
        alloc.step(|alloc| {
            let mut hidden = alloc.alloc_from_slice(x)?;
            for w in &self.weights {
                hidden = alloc.alloc_from_fn(hidden.len(), |i| hidden[i] * w[i])?;
            }
            let sum = hidden.iter().sum();
            self.last = Some(hidden.into_owned());
            Ok(sum)
        })
    }
}

/// Fifty rounds.
pub(crate) fn main() -> Result<(), AllocError> {
    let mut session = Session::new(8, 10_000)?;
    let x = vec![1.0; 10_000];
    for _ in 0..50 {
        assert_eq!(session.run(&x)?, 2_560_000.0);
    }
    println!("{}", session.alloc.stats());
    assert!(session.alloc.stats().followed >= 46);
    // The result is there as long as somebody has it.
    let last = session.last.take();
    drop(session);
    assert_eq!(last.and_then(|last| last.last().copied()), Some(256.0));
    Ok(())
}
