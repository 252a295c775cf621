//! One reading of a recording, and what of it is missing.

use std::fmt;
use std::io::{Read, Seek};
use std::ops::ControlFlow;

use serde::Serialize;
use tenzor_trace::recording::{Event, Recording};

use crate::words::count;

/// What of a recording is missing, or not as it should be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Flaws {
    /// How many events are missing, as the recorder had no room for them.
    pub lost: u64,
    /// How many events happened without what would explain them.
    pub out_of_order: u64,
    /// What of it is damaged, and was left out.
    pub damaged: Vec<String>,
    /// It ends in the midst of a block.
    pub is_cut: bool,
}

/// The most damages that are shown, where they are not what is asked for.
const DAMAGES: usize = 3;

/// The most damages that are kept.
const MOST_DAMAGES: usize = 100;

impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, ": what is told may be too little", DAMAGES)
    }
}

impl Flaws {
    /// A line for each, with so many damages, and what follows from lost events.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>, if_lost: &str, damages: usize) -> fmt::Result {
        let mut line = |name: &str, told: &str| writeln!(f, "  {name:<14}{told}");
        if self.lost > 0 {
            line("lost", &format!("{}{if_lost}", count(self.lost, "event")))?;
        }
        if self.out_of_order > 0 {
            line("out of order", &count(self.out_of_order, "event"))?;
        }
        if self.is_cut {
            line("ends", "in the midst of a block, which is left out")?;
        }
        for damage in self.damaged.iter().take(damages) {
            line("damaged", damage)?;
        }
        if self.damaged.len() > damages {
            line("damaged", &format!("{} more", self.damaged.len() - damages))?;
        }
        Ok(())
    }
}

/// Reads the events in their order, which is the same each time, with the number of each, until there is enough. What is damaged is left out, and told.
pub(crate) fn pass<R: Read + Seek>(
    recording: &mut Recording<R>,
    mut see: impl FnMut(u64, &Event) -> ControlFlow<()>,
) -> Flaws {
    let mut damaged: Vec<String> = recording.damages().iter().map(ToString::to_string).collect();
    let is_cut = recording.is_cut();
    let (mut number, mut events) = (0, recording.events());
    for event in events.by_ref() {
        match event {
            Ok(event) => {
                if see(number, &event).is_break() {
                    break;
                }
                number += 1;
            }
            Err(error) if damaged.len() < MOST_DAMAGES => damaged.push(error.to_string()),
            Err(_) => {}
        }
    }
    Flaws { lost: events.lost(), out_of_order: events.forced(), damaged, is_cut }
}
