//! What can be set of the process's heap, and who set it.

use std::time::Duration;

/// The settings of the process's heap, that of [`TenzorMalloc`](crate::TenzorMalloc) and [`Pages`](crate::Pages).
///
/// Field by field: what is not set stays as it is. Where an environment variable has set a field its word stands, as it is that of
/// whoever runs the program; [`ignore_environment`](Self::ignore_environment) reverses that.
///
/// ```
/// use std::time::Duration;
/// use tenzor_memory::{HeapConfig, HugePages, Origin, TenzorMalloc};
///
/// let heap = TenzorMalloc::new();
/// heap.configure(&HeapConfig::new().with_limit(8 << 30).with_decay(Duration::from_secs(10)));
/// heap.configure(&HeapConfig::new().with_decay(None)); // the limit stays
/// assert_eq!(heap.config().limit.value, Some(8 << 30));
/// assert_eq!(heap.config().decay.value, None);
/// assert_eq!(heap.config().huge_pages.value, HugePages::Auto);
/// assert_eq!(heap.config().huge_pages.origin, Origin::Default);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapConfig {
    pub(crate) limit: Option<Option<usize>>,
    pub(crate) idle_limit: Option<Option<usize>>,
    pub(crate) decay: Option<Option<Duration>>,
    pub(crate) huge_pages: Option<HugePages>,
    pub(crate) background: Option<Background>,
    pub(crate) checks: Option<bool>,
    pub(crate) ignores_environment: bool,
}

impl HeapConfig {
    /// Nothing is set.
    pub const fn new() -> Self {
        Self {
            limit: None,
            idle_limit: None,
            decay: None,
            huge_pages: None,
            background: None,
            checks: None,
            ignores_environment: false,
        }
    }

    /// Sets the most bytes, in whole pages, that may be in use; a request beyond is refused. `None` for no limit, the default.
    #[must_use]
    pub fn with_limit(self, bytes: impl Into<Option<usize>>) -> Self {
        Self { limit: Some(bytes.into()), ..self }
    }

    /// Sets the most bytes, in whole pages, that may be kept free for reuse. `None` for no limit, the default: what is kept follows
    /// what the program needed of late.
    #[must_use]
    pub fn with_idle_limit(self, bytes: impl Into<Option<usize>>) -> Self {
        Self { idle_limit: Some(bytes.into()), ..self }
    }

    /// Sets how long memory is kept that is free and not reached for; `None` for ever. Default: 4 seconds.
    #[must_use]
    pub fn with_decay(self, decay: impl Into<Option<Duration>>) -> Self {
        Self { decay: Some(decay.into()), ..self }
    }

    /// Sets where huge pages are asked for. Default: [`HugePages::Auto`].
    #[must_use]
    pub fn with_huge_pages(self, huge_pages: HugePages) -> Self {
        Self { huge_pages: Some(huge_pages), ..self }
    }

    /// Sets whether a thread may give idle memory back: never for `false`, always for `true`. Default: [`Background::Auto`].
    #[must_use]
    pub fn with_background(self, background: impl Into<Background>) -> Self {
        Self { background: Some(background.into()), ..self }
    }

    /// Sets whether each free of a small block is checked at once, whether the block is in use: then no thread has a stock of its own, and a
    /// request takes the heap's lock. For looking for mistakes; set early, as what threads have in stock by then stays. Default: no, and a second
    /// free is seen once both have left the stocks.
    #[must_use]
    pub fn with_checks(self, checks: bool) -> Self {
        Self { checks: Some(checks), ..self }
    }

    /// What is set here counts even where an environment variable says otherwise.
    #[must_use]
    pub fn ignore_environment(self) -> Self {
        Self { ignores_environment: true, ..self }
    }
}

/// Where the heap asks for huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HugePages {
    /// Where they pay.
    #[default]
    Auto,
    /// Wherever one fits.
    Always,
    /// Nowhere.
    Never,
}

/// Who gives idle memory back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Background {
    /// The program's own requests while it has one thread, and a thread once it has more.
    #[default]
    Auto,
    /// A thread, also where the program has one only.
    Always,
    /// The program's own requests.
    Never,
}

impl From<bool> for Background {
    fn from(background: bool) -> Self {
        if background { Self::Always } else { Self::Never }
    }
}

/// Who set a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody: it is the default.
    #[default]
    Default,
    /// An environment variable.
    Environment,
    /// The program, by a [`HeapConfig`].
    Program,
}

/// A value in force, and who set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting<T> {
    /// What is in force.
    pub value: T,
    /// Who set it.
    pub origin: Origin,
}

impl<T> Setting<T> {
    pub(crate) const fn default_of(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }

    pub(crate) fn set_by_environment(&mut self, value: Option<T>) {
        if let Some(value) = value {
            *self = Self { value, origin: Origin::Environment };
        }
    }

    pub(crate) fn set_by_program(&mut self, value: Option<T>, ignores_environment: bool) {
        if let Some(value) = value
            && (self.origin != Origin::Environment || ignores_environment)
        {
            *self = Self { value, origin: Origin::Program };
        }
    }
}

/// The settings of the process's heap that are in force, each with who set it. See [`HeapConfig`] for what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapSettings {
    /// The most bytes that may be in use. `TENZOR_LIMIT`.
    pub limit: Setting<Option<usize>>,
    /// The most bytes that may be kept free. `TENZOR_IDLE_LIMIT`.
    pub idle_limit: Setting<Option<usize>>,
    /// How long free memory is kept. `TENZOR_DECAY_MS`.
    pub decay: Setting<Option<Duration>>,
    /// Where huge pages are asked for. `TENZOR_HUGE_PAGES`.
    pub huge_pages: Setting<HugePages>,
    /// Who gives memory back. `TENZOR_BACKGROUND`.
    pub background: Setting<Background>,
    /// Whether each free is checked at once. `TENZOR_CHECK`.
    pub checks: Setting<bool>,
}

impl HeapSettings {
    pub(crate) const fn new() -> Self {
        Self {
            limit: Setting::default_of(None),
            idle_limit: Setting::default_of(None),
            decay: Setting::default_of(Some(Duration::from_secs(4))),
            huge_pages: Setting::default_of(HugePages::Auto),
            background: Setting::default_of(Background::Auto),
            checks: Setting::default_of(false),
        }
    }

    /// Applies what the program sets.
    pub(crate) fn apply(&mut self, config: &HeapConfig) {
        let ignores = config.ignores_environment;
        self.limit.set_by_program(config.limit, ignores);
        self.idle_limit.set_by_program(config.idle_limit, ignores);
        self.decay.set_by_program(config.decay, ignores);
        self.huge_pages.set_by_program(config.huge_pages, ignores);
        self.background.set_by_program(config.background, ignores);
        self.checks.set_by_program(config.checks, ignores);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_unless_it_is_ignored() {
        let mut settings = HeapSettings::new();
        settings.limit.set_by_environment(Some(Some(1)));
        let config = HeapConfig::new().with_limit(2).with_idle_limit(3);
        settings.apply(&config);
        assert_eq!(settings.limit, Setting { value: Some(1), origin: Origin::Environment });
        assert_eq!(settings.idle_limit, Setting { value: Some(3), origin: Origin::Program });
        settings.apply(&config.ignore_environment());
        assert_eq!(settings.limit, Setting { value: Some(2), origin: Origin::Program });
        // What is not set stays.
        settings.apply(&HeapConfig::new().with_background(false).ignore_environment());
        assert_eq!((settings.limit.value, settings.decay), (Some(2), HeapSettings::new().decay));
        assert_eq!(settings.background.value, Background::Never);
    }
}
