//! What is called how in a recording.

use std::fmt::Write;

use tenzor_trace::recording::Recording;
use tenzor_trace::recording::names::{Kind, addresses, text};

use crate::labels::{Labels, Path};

/// The names of a recording, and numbers where there is none.
#[derive(Debug)]
pub(crate) struct Names<'a, R>(pub(crate) &'a Recording<R>);

/// What has no label.
pub(crate) const NO_LABEL: &str = "(no label)";

impl<R> Names<'_, R> {
    fn text(&self, kind: Kind, number: u64) -> Option<String> {
        let name = self.0.name(kind, u32::try_from(number).ok()?)?;
        (!name.is_empty()).then(|| text(name).into_owned())
    }

    fn label(&self, label: u64) -> String {
        self.text(Kind::Label, label).unwrap_or_else(|| format!("label {label}"))
    }

    /// The innermost label of a path.
    pub(crate) fn innermost(&self, labels: &Labels, path: Path) -> String {
        labels.inside_out(path).next().map_or_else(|| NO_LABEL.to_owned(), |label| self.label(label))
    }

    /// All of a path's labels, as `a/b/c`.
    pub(crate) fn path(&self, labels: &Labels, path: Path) -> String {
        let mut names: Vec<_> = labels.inside_out(path).map(|label| self.label(label)).collect();
        names.reverse();
        if names.is_empty() { NO_LABEL.to_owned() } else { names.join("/") }
    }

    /// A thread, by its number and name.
    pub(crate) fn thread(&self, thread: u32) -> String {
        match self.text(Kind::Thread, thread.into()) {
            Some(name) => format!("{name} (thread {thread})"),
            None => format!("thread {thread}"),
        }
    }

    /// An allocator.
    pub(crate) fn source(&self, source: u16) -> String {
        let unnamed = || if source == 0 { "heap".to_owned() } else { format!("source {source}") };
        self.text(Kind::Source, source.into()).unwrap_or_else(unnamed)
    }

    /// A stack's addresses, the innermost first.
    pub(crate) fn stack(&self, stack: Option<u32>) -> String {
        let Some(stack) = stack else { return "(no stack)".to_owned() };
        let Some(frames) = self.0.name(Kind::Stack, stack) else { return format!("stack {stack}") };
        let mut shown = String::new();
        for address in addresses(frames) {
            let _ = write!(shown, "{}{address:#x}", if shown.is_empty() { "" } else { " " });
        }
        shown
    }
}
