//! Annotations of GitHub's workflows: commands in what a step prints, a line for each.

use super::{Told, remarks};
use tenzor_report::Strictness;

/// An error for each hard limit that is broken, a warning for each soft one, and plain lines for the rest.
pub(super) fn annotations(told: &Told) -> String {
    let mut text = String::new();
    for check in &told.verdict.checks {
        let message = data(&format!("{}: {check}", told.file));
        if check.holds {
            text += &format!("{message}\n");
            continue;
        }
        let command = match check.limit.strictness {
            Strictness::Hard => "error",
            Strictness::Soft => "warning",
        };
        let title = property(&format!("tenzor check: {}", check.limit.figure));
        text += &format!("::{command} title={title}::{message}\n");
    }
    for remark in remarks(told) {
        text += &format!("{}\n", data(&format!("{}: {remark}", told.file)));
    }
    text
}

/// What stands behind a command: one line, which would otherwise end it, or begin another.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// What stands within a command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_command_before_its_time() {
        assert_eq!(data("5%\r\n::error::"), "5%25%0D%0A::error::");
        assert_eq!(property("a: b, 5%"), "a%3A b%2C 5%25");
    }
}
