//! The examples of `tenzor-expr`, one after the other.

use std::io::{self, Write};

use anyhow::{Error, Result};

#[path = "../../expr/examples/mlp.rs"]
mod mlp;
#[path = "../../expr/examples/repeated.rs"]
mod repeated;
#[path = "../../expr/examples/transformer.rs"]
mod transformer;

type Example = fn(&mut dyn Write) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Each under its title.
pub(crate) fn run() -> Result<()> {
    let examples: [(&str, Example); 3] = [
        ("a·b + c − a/2, a thousand times", repeated::run),
        ("a perceptron of two layers", mlp::run),
        ("a transformer's encoder", transformer::run),
    ];
    let mut out = io::stdout().lock();
    for (title, example) in examples {
        writeln!(out, "── {title} ──\n")?;
        // An error of writing has to be found again by its type.
        example(&mut out).map_err(|error| {
            error.downcast::<io::Error>().map_or_else(Error::from_boxed, |error| Error::from(*error))
        })?;
        writeln!(out)?;
    }
    Ok(())
}
