//! The examples of `tenzor-expr`, one after the other.

use std::io::{self, Write};

use anyhow::{Error, Result};
use serde::Serialize;

mod mlp;
mod repeated;
mod transformer;

type Example = fn(&mut dyn Write) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[derive(Serialize)]
struct Shown {
    title: &'static str,
    text: String,
}

/// Each under its title.
pub(crate) fn run(json: bool) -> Result<()> {
    let examples: [(&str, Example); 3] = [
        ("a·b + c − a/2, a thousand times", repeated::run),
        ("a perceptron of two layers", mlp::run),
        ("a transformer's encoder", transformer::run),
    ];
    let mut out = io::stdout().lock();
    let mut all = Vec::new();
    for (title, example) in examples {
        let mut printed = Vec::new();
        example(&mut printed).map_err(Error::from_boxed)?;
        if json {
            all.push(Shown { title, text: String::from_utf8_lossy(&printed).into_owned() });
        } else {
            writeln!(out, "── {title} ──\n")?;
            out.write_all(&printed)?;
            writeln!(out)?;
            out.flush()?;
        }
    }
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    }
    Ok(out.flush()?)
}
