//! What can be set of the process's heap, by the program or by `TENZOR_*` environment variables.

use std::ffi::CStr;
use std::time::Duration;

use super::threads::current;
use super::{Central, cache, central_lock, drain, purger, shards};
use crate::bytes::{FORM, number, parse};
use crate::heap_config::{HeapConfig, HeapSettings, HugePages};
use crate::os;
use crate::pressure;

/// Applies what a configuration says, from now on.
pub(crate) fn configure(config: &HeapConfig) {
    let cache = current();
    let settings = {
        let mut central = central_lock();
        central.settings.apply(config);
        central.begin_again(cache);
        central.settings
    };
    heed(&settings);
    for shard in shards::all() {
        shard.enter().map(purger::keep_within_idle_limit);
    }
}

/// What follows from the settings elsewhere.
pub(super) fn heed(settings: &HeapSettings) {
    pressure::set_period(purger::period(settings));
    shards::heed(settings);
    cache::give_leases(!settings.checks.value);
    if settings.checks.value {
        drain(current());
    }
    purger::heed(settings);
}

/// What is in force.
pub(crate) fn config() -> HeapSettings {
    central_lock().settings
}

impl Central {
    /// Applies the environment variables, once: before the first request is served, or as soon as there is an environment. What cannot be
    /// understood is reported on standard error and has no effect.
    #[cold]
    pub(super) fn heed_environment(&mut self) {
        if self.heeds_environment || !os::has_environment() {
            return;
        }
        self.heeds_environment = true;
        os::be_quiet(os::environment(c"TENZOR_QUIET").is_some_and(|text| text.to_bytes() == b"1"));
        let settings = &mut self.settings;
        settings.decay.set_by_environment(variable(
            c"TENZOR_DECAY_MS",
            "milliseconds, or 'never'",
            |text| match text {
                b"never" => Some(None),
                digits => number(digits).map(|ms| Some(Duration::from_millis(ms as u64))),
            },
        ));
        settings.limit.set_by_environment(variable(c"TENZOR_LIMIT", FORM, |text| parse(text).map(Some)));
        settings.idle_limit.set_by_environment(variable(c"TENZOR_IDLE_LIMIT", FORM, |text| parse(text).map(Some)));
        settings.huge_pages.set_by_environment(variable(
            c"TENZOR_HUGE_PAGES",
            "auto, always or never",
            |text| match text {
                b"auto" => Some(HugePages::Auto),
                b"always" => Some(HugePages::Always),
                b"never" => Some(HugePages::Never),
                _ => None,
            },
        ));
        settings
            .background
            .set_by_environment(variable(c"TENZOR_BACKGROUND", YES_OR_NO, |text| yes(text).map(Into::into)));
        settings.checks.set_by_environment(variable(c"TENZOR_CHECK", YES_OR_NO, yes));
        // The next request may be the first.
        cache::give_leases(!settings.checks.value);
    }
}

const YES_OR_NO: &str = "0 or 1";

fn yes(text: &[u8]) -> Option<bool> {
    match text {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

/// Reads a variable without allocating.
fn variable<T>(name: &CStr, expected: &str, parse: fn(&[u8]) -> Option<T>) -> Option<T> {
    let text = os::environment(name)?.to_bytes();
    let value = parse(text);
    if value.is_none() {
        os::complain(format_args!(
            "{}: expected {expected}, found \"{}\"",
            name.to_bytes().escape_ascii(),
            text.escape_ascii()
        ));
    }
    value
}
