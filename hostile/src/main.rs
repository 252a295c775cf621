//! Runs the battery: `hostile TARGET [--long] [--system] [--malloc] [--only WORD] [--list]`. TARGET is the folder that `ci/hostile` builds into.
//! Ends with 1 where anything failed; what cannot be tried on this machine is said.

mod host;
mod run;
mod scenarios;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use run::{Context, Ended, Outcome, Trouble};
use scenarios::{Kind, Scenario};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "host") {
        host::host(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let only = arguments.iter().position(|argument| argument == "--only").and_then(|at| arguments.get(at + 1));
    let Some(target) = arguments.first().filter(|word| !word.starts_with('-')) else {
        eprintln!("usage: hostile TARGET [--long] [--system] [--malloc] [--only WORD] [--list]");
        return ExitCode::from(2);
    };
    let scratch = std::env::temp_dir().join(format!("tenzor-hostile-{}", std::process::id()));
    let made = std::fs::create_dir_all(&scratch)
        .and_then(|()| std::fs::set_permissions(&scratch, std::fs::Permissions::from_mode(0o755)));
    if let Err(error) = made {
        eprintln!("error: {}: {error}", scratch.display());
        return ExitCode::from(2);
    }
    let target = std::fs::canonicalize(target).unwrap_or_else(|_| PathBuf::from(target));
    let context = Context { target, scratch, long: has("--long"), malloc: has("--malloc") };
    let mut chosen = scenarios::all(&context);
    chosen.retain(|scenario| only.is_none_or(|word| scenario.name.contains(word.as_str())));
    if has("--list") {
        chosen.iter().for_each(|scenario| println!("{}", scenario.name));
        let _ = std::fs::remove_dir_all(&context.scratch);
        return ExitCode::SUCCESS;
    }
    let report = Report { start: Instant::now(), counts: Default::default() };
    let (together, alone): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|scenario| scenario.kind == Kind::Together);
    run_together(&together, &report, &context);
    for scenario in alone {
        if scenario.kind == Kind::System && !has("--system") {
            let why = Trouble::Cannot("changes settings of the whole machine: --system".into());
            report.say(&scenario, &Err(why), Duration::ZERO);
        } else {
            report.run(&scenario, &context);
        }
    }
    let _ = std::fs::remove_dir_all(&context.scratch);
    report.end()
}

/// What nobody measures runs two at a time.
fn run_together(scenarios: &[Scenario], report: &Report, context: &Context) {
    let next = Mutex::new(scenarios.iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().map(|mut next| next.next());
                    let Ok(Some(scenario)) = taken else { return };
                    report.run(scenario, context);
                }
            });
        }
    });
}

struct Report {
    start: Instant,
    /// Good ones, failed ones, those that cannot be tried, those with a note.
    counts: [AtomicUsize; 4],
}

impl Report {
    fn run(&self, scenario: &Scenario, context: &Context) {
        let start = Instant::now();
        let mut outcome = (scenario.body)(context);
        // Times and sizes at an instant depend on who else has the machine; what is wrong is wrong at once.
        if let Err(Trouble::Failed(text)) = &outcome
            && Ended::may_be_haste(text)
        {
            println!("{}: {text}; once more", scenario.name);
            outcome = (scenario.body)(context);
        }
        self.say(scenario, &outcome, start.elapsed());
    }

    fn say(&self, scenario: &Scenario, outcome: &Outcome, took: Duration) {
        let (which, word, text) = match outcome {
            Ok(text) => (0, "ok", text),
            Err(Trouble::Failed(text)) => (1, "FAILED", text),
            Err(Trouble::Cannot(text)) => (2, "cannot be tried here", text),
            Err(Trouble::Noted(text)) => (3, "noted", text),
        };
        self.counts[which].fetch_add(1, Relaxed);
        let colon = if text.is_empty() { "" } else { ": " };
        println!("{} ({:.1} s): {word}{colon}{text}", scenario.name, took.as_secs_f64());
    }

    fn end(&self) -> ExitCode {
        let [good, failed, cannot, noted] = [0, 1, 2, 3].map(|which| self.counts[which].load(Relaxed));
        let seconds = self.start.elapsed().as_secs();
        println!("{good} ok, {failed} failed, {cannot} cannot be tried here, {noted} noted, in {seconds} s");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
