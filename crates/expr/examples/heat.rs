//! The heat equation on a plate whose rim keeps its temperature: five slices of one tensor, put back by joins.

use std::error::Error;

use tenzor_expr::{Expr, Tensor, concat, eval};
use tenzor_memory::TensorAllocator;

const SIZE: usize = 66;

fn main() -> Result<(), Box<dyn Error>> {
    let alloc = TensorAllocator::new();
    let mut plate = Tensor::from_fn_in([SIZE, SIZE], |i| if i < SIZE { 1.0_f64 } else { 0.0 }, &alloc)?;
    for _ in 0..500 {
        let u = plate.view();
        let [north, south] = [u.slice(0, ..-2), u.slice(0, 2..)].map(|rows| rows.slice(1, 1..SIZE - 1));
        let inner = u.slice(0, 1..SIZE - 1);
        let [west, here, east] = [inner.slice(1, ..-2), inner.slice(1, 1..SIZE - 1), inner.slice(1, 2..)];
        let next = here + 0.2 * (north + south + west + east - 4.0 * here);
        // The rim stays.
        let middle = concat([inner.slice(1, ..1).boxed(), next.boxed(), inner.slice(1, -1..).boxed()], 1);
        let whole = concat([u.slice(0, ..1).boxed(), middle.boxed(), u.slice(0, -1..).boxed()], 0);
        let later = eval(&whole, &alloc)?;
        drop(whole);
        plate = later;
    }
    println!("{plate:.2}");
    let mean = eval(&plate.mean(..), &alloc)?;
    println!(
        "mean {:.6}; {} of {} requests were misses",
        mean.item()?,
        alloc.stats().pool_misses,
        alloc.stats().allocations
    );
    Ok(())
}
