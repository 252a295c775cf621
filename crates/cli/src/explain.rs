//! `tenzor explain`: who holds the peak of a recording, and what changed between two.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use tenzor_report::{changes, peak};

use crate::args::ExplainTask;
use crate::{recordings, source};

/// What is told of a recording, and what that is called.
#[derive(Serialize)]
struct Named<T> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<String>,
    #[serde(flatten)]
    told: T,
}

pub(crate) fn run(task: &ExplainTask) -> Result<()> {
    let (mut text, mut values) = (String::new(), Vec::new());
    for file in &task.files {
        let name = source::name(file);
        let mut recording = recordings::open(file)?;
        match &task.against {
            None => {
                let told = peak(&mut recording);
                text.push_str(&format!("{name}\n{told}"));
                values.push(serde_json::to_value(Named { name, against: None, told })?);
            }
            Some(old) => {
                let told = changes(&mut recordings::open(old)?, &mut recording);
                let old = source::name(old);
                text.push_str(&format!("{name}, against {old}\n{told}"));
                values.push(serde_json::to_value(Named { name, against: Some(old), told })?);
            }
        }
    }
    let mut out = io::stdout().lock();
    if task.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&values)?)?;
    } else {
        write!(out, "{text}")?;
    }
    Ok(out.flush()?)
}
