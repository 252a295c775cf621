//! Wrong frees, standard error that is not, and signals.

use std::time::{Duration, Instant};

use tenzor_hostile::sys;

use super::List;
use crate::run::{Context, How, Outcome, Program, hold};

const KINDS: [&str; 14] = [
    "double",
    "double-beside",
    "double-large",
    "resized",
    "interior",
    "interior-odd",
    "stack",
    "static",
    "mapping",
    "nowhere",
    "far",
    "larger",
    "smaller",
    "small-as-run",
];

pub fn add(list: &mut List, _: &Context) {
    for kind in KINDS {
        let line = format!("misuse {kind} -");
        let (release, debug, quiet) = (line.clone(), line.clone(), line);
        list.add(format!("misuse {kind}"), move |context| misused(context.tenzor(&release)));
        list.add(format!("misuse {kind}: debug build"), move |context| misused(context.debug(&debug)));
        if kind == "double" {
            list.add("misuse double: silenced but for this line", move |context| {
                misused(context.tenzor(&quiet).env("TENZOR_QUIET", "1"))
            });
        }
    }
    list.add("misuse double: a file has the place of standard error", |context| {
        let file = context.file("no-standard-error");
        let ended = context.tenzor("misuse double").arg(&file).run()?;
        let written = std::fs::read(&file)?;
        hold(written.is_empty(), || format!("the file has {} bytes", written.len()))?;
        hold(ended.how == How::Signal(libc::SIGABRT), || ended.describe())?;
        Ok(String::new())
    });
    for (word, quiet) in [("said, once", "0"), ("not said where that is silenced", "1")] {
        list.add(format!("nothing can be given back: that is {word}"), move |context| {
            let ended = context.tenzor("says-once -").env("TENZOR_QUIET", quiet).good()?;
            let lines = ended.errors.lines().filter(|line| line.starts_with("tenzor")).count();
            hold(lines == usize::from(quiet == "0"), || format!("{lines} lines: {}", ended.errors.trim()))?;
            Ok(ended.errors.trim().to_owned())
        });
    }
    list.add("nothing can be given back: a file has the place of standard error", |context| {
        let file = context.file("no-standard-error");
        context.tenzor("says-once").arg(&file).good()?;
        let written = std::fs::read(&file)?;
        hold(written.is_empty(), || format!("the file has {} bytes", written.len()))?;
        Ok(String::new())
    });
    for (name, value) in [("TENZOR_DECAY_MS", "soon"), ("TENZOR_LIMIT", "much"), ("TENZOR_HUGE_PAGES", "maybe")] {
        list.add(format!("a wrong {name} is said"), move |context| {
            let ended = context.tenzor("traffic 1 0 none").env(name, value).good()?;
            hold(ended.errors.contains(name), || format!("standard error says: {:?}", ended.errors))?;
            Ok(String::new())
        });
        list.add(format!("a wrong {name}, silenced"), move |context| {
            let ended = context.tenzor("traffic 1 0 none").env(name, value).env("TENZOR_QUIET", "1").good()?;
            hold(ended.errors.is_empty(), || format!("standard error says: {:?}", ended.errors))?;
            Ok(String::new())
        });
    }
    list.good("alarms at a high rate", |context| context.tenzor("alarms").seconds(120));
    list.add("stopped and continued", stopped);
}

/// The program ends by SIGABRT, and its last words name the address.
fn misused(program: Program) -> Outcome {
    let ended = program.seconds(10).run()?;
    hold(ended.how == How::Signal(libc::SIGABRT), || ended.describe())?;
    let address = ended.output.lines().find_map(|line| line.strip_prefix("address="));
    let named = address.is_some_and(|address| ended.errors.to_lowercase().contains(address));
    hold(named, || format!("the line does not name {}: {}", address.unwrap_or("?"), ended.errors.trim()))?;
    Ok(ended.errors.lines().next_back().unwrap_or_default().to_owned())
}

fn stopped(context: &Context) -> Outcome {
    let mut running = context.tenzor("patient").seconds(120).start()?;
    if running.ready() {
        let until = Instant::now() + Duration::from_secs(context.amount(4, 30) as u64);
        let mut pause = 1;
        while Instant::now() < until {
            let sent = sys::signal(running.pid(), libc::SIGSTOP);
            std::thread::sleep(Duration::from_millis(pause % 30));
            if sent.and_then(|()| sys::signal(running.pid(), libc::SIGCONT)).is_err() {
                break;
            }
            pause = pause * 7 % 101;
            std::thread::sleep(Duration::from_millis(pause));
        }
    }
    running.close();
    let ended = running.wait()?.good()?;
    hold(ended.figure("refused")? == 0.0, || "requests were refused, and nothing forbids them".into())?;
    Ok(String::new())
}
