//! The progress bar, on standard error and only if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::contender::Contender;
use crate::source::Source;

pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for so many replays.
    pub(crate) fn new(replays: u64) -> Self {
        // indicatif draws nothing where this is no terminal.
        let bar = ProgressBar::with_draw_target(Some(replays), ProgressDrawTarget::stderr());
        let template = "{bar:32} {percent:>3} %  {wide_msg}";
        Self(bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// Calls `replay`, one of those the bar counts, and shows meanwhile which it is.
    pub(crate) fn replay<T>(&self, source: &Source, contender: Contender, replay: impl FnOnce() -> T) -> T {
        self.0.set_message(format!("{}, {}", source.name, contender.name()));
        let result = replay();
        self.0.inc(1);
        result
    }

    /// Calls `print`, which prints lines of its own, with the bar out of their way.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
