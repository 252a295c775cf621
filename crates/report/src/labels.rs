//! The labels under which threads do what they do.

use std::collections::HashMap;

use tenzor_trace::recording::{Event, What};

/// A path of labels, by its number; 0 is that of no label.
pub(crate) type Path = u32;

/// Labels that are nested more deeply than this count as the one around them.
const DEEPEST: usize = 64;

/// The paths of labels, and which of them each thread is in. Memory for each path that there was, and for each label that is not left.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// The path around each, and its own label; without that of no label.
    paths: Vec<(Path, u64)>,
    numbers: HashMap<(Path, u64), Path>,
    threads: HashMap<u32, Vec<(u64, Path)>>,
}

impl Labels {
    /// A label is entered or left. One that is left though others were entered since takes these with it, as their ends were lost; one that nobody entered is none.
    pub(crate) fn happen(&mut self, event: &Event) {
        match event.what {
            What::Enter(label) => {
                let around = self.of(event.thread);
                let inside = self.threads.entry(event.thread).or_default();
                let path = if inside.len() < DEEPEST {
                    *self.numbers.entry((around, label)).or_insert_with(|| {
                        self.paths.push((around, label));
                        self.paths.len() as Path
                    })
                } else {
                    around
                };
                inside.push((label, path));
            }
            What::Leave(label) => {
                if let Some(inside) = self.threads.get_mut(&event.thread)
                    && let Some(at) = inside.iter().rposition(|(entered, _)| *entered == label)
                {
                    inside.truncate(at);
                }
            }
            _ => {}
        }
    }

    /// Where a thread is.
    pub(crate) fn of(&self, thread: u32) -> Path {
        self.threads.get(&thread).and_then(|inside| inside.last()).map_or(0, |(_, path)| *path)
    }

    /// A path's labels, the innermost first.
    pub(crate) fn inside_out(&self, path: Path) -> impl Iterator<Item = u64> {
        let mut next = path;
        std::iter::from_fn(move || {
            let (around, label) = *self.paths.get((next as usize).checked_sub(1)?)?;
            next = around;
            Some(label)
        })
    }
}
