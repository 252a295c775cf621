//! Sandboxes: each call refused in each likely way, before the first request and while running; and calls that fail now and then.

use super::{List, control_is_good, needs};
use crate::run::{Context, How, Outcome, Trouble, failed};

const ERRORS: [&str; 5] = ["EPERM", "ENOSYS", "ENOMEM", "EAGAIN", "EINVAL"];

/// The calls that no program on plain malloc does without: no memory, no fault of Tenzor's. Refused, they are refused to the caller.
const NEEDED: [&str; 1] = ["mmap"];

/// The calls that the heap may lose for good and still serve everything.
const DISPENSABLE: [&str; 20] = [
    "madvise",
    "mremap",
    "mprotect",
    "munmap",
    "mincore",
    "membarrier",
    "clone",
    "sched",
    "prctl",
    "prlimit",
    "getrandom",
    "sysinfo",
    "open",
    "read",
    "fstat",
    "rseq",
    "signals",
    "times",
    "yield",
    "brk",
];

/// Of these, a heap that is to give memory back makes some: a sandbox that kills for them does not want it to. They are noted, not judged.
const OF_MEMORY: [&str; 4] = ["madvise", "mremap", "mincore", "mprotect"];

pub fn add(list: &mut List, context: &Context) {
    for call in DISPENSABLE {
        let errors: &[&str] = if context.long { &ERRORS } else { &ERRORS[..2] };
        for &error in
            errors.iter().chain(["madvise", "membarrier", "sched", "prctl"].contains(&call).then_some(&"NOTHING"))
        {
            filtered(list, &format!("{call}={error}"), "none");
        }
    }
    for call in ["madvise", "mremap", "munmap"] {
        filtered(list, &format!("{call}=ENOMEM"), "none");
        filtered(list, &format!("{call}=EINVAL"), "none");
    }
    for call in NEEDED {
        for error in ["ENOMEM", "EPERM", "EAGAIN"] {
            filtered(list, &format!("{call}={error}"), "fine");
            let rules = format!("{call}={error}");
            list.good(format!("sandbox {rules}: before anything was granted"), move |context| {
                context.tenzor("nothing").env("HOSTILE_FILTER", &rules).env("HOSTILE_FIRST", "fine")
            });
        }
    }
    for rules in [
        "noreplace=EINVAL",
        "noreplace=EPERM",
        "mprotect=EPERM,madvise=EPERM",
        "mprotect=EPERM,mremap=EPERM,madvise=EPERM",
        "mremap=ENOMEM,madvise=NOTHING",
        "mincore=NOTHING",
        "madvise=NOTHING,mincore=NOTHING",
        "membarrier=ENOSYS,clone=EPERM",
        "madvise=EPERM,membarrier=EPERM,mremap=EPERM,mincore=EPERM,sched=EPERM,open=EPERM,sysinfo=EPERM,fstat=EPERM,prctl=EPERM",
    ] {
        filtered(list, rules, "none");
    }
    filtered(list, "mmap=ENOMEM,mprotect=ENOMEM", "fine");
    for rules in [
        "none",
        "noreplace=ENOSYS",
        "madvise=EPERM",
        "madvise=ENOSYS",
        "mprotect=EPERM",
        "mremap=EPERM",
        "mprotect=EPERM,mremap=EPERM",
        "clone=EPERM",
    ] {
        list.add(format!("sandbox {rules}: what is freed goes back"), move |context| {
            let line = format!("gives-back {rules}");
            control_is_good(&context.control(&line))?;
            context.tenzor(&line).good().map(|_| String::new())
        });
    }
    for call in DISPENSABLE {
        killed(list, call);
    }
    for rules in ["membarrier=EPERM", "membarrier=ENOSYS", "madvise=NOTHING", "mremap=EPERM"] {
        list.good(format!("sandbox {rules}: pools, before the first request"), move |context| {
            context.tenzor("plain-pools").env("HOSTILE_FILTER", rules)
        });
    }
    list.good("sandbox membarrier=EPERM: pools with another thread's stock", |context| context.tenzor("pool-fence"));
    for call in ["madvise", "mremap", "mprotect", "mmap"] {
        for each in if context.long { vec![1, 2, 3, 5, 7, 11] } else { vec![1, 3] } {
            // Without any there is no memory, and a program in Rust ends.
            if (call, each) == ("mmap", 1) {
                continue;
            }
            let error = format!("error={}", if call == "madvise" { "EAGAIN" } else { "ENOMEM" });
            list.add(format!("strace: every {each}. {call} fails"), move |context| {
                injected(context, call, &error, each)
            });
        }
    }
    list.add("strace: madvise succeeds without acting", |context| injected(context, "madvise", "retval=0", 1));
    list.add("strace: membarrier fails", |context| injected(context, "membarrier", "error=EPERM", 1));
}

/// The filter before the first request and while running; threads beside.
fn filtered(list: &mut List, rules: &str, refusals: &'static str) {
    // Its own threads are the program's affair.
    let crew = if rules.contains("clone") { 0 } else { 2 };
    let (before, running) = (rules.to_owned(), rules.to_owned());
    if refusals == "none" {
        list.add(format!("sandbox {rules}: before the first request"), move |context| {
            let line = format!("traffic 1 {crew} none");
            if control_is_good(&context.control(&line).env("HOSTILE_FILTER", &before)).is_ok() {
                return context.tenzor(&line).env("HOSTILE_FILTER", &before).good().map(|_| String::new());
            }
            // std does not come to `main` in it; the allocator does.
            let ended = context.tenzor("nothing").env("HOSTILE_FILTER", &before).env("HOSTILE_FIRST", "none").good();
            ended.map(|_| "before main".to_owned())
        });
    }
    list.add(format!("sandbox {rules}: while running"), move |context| {
        let line = format!("filtered {running} 2 {refusals}");
        control_is_good(&context.control(&line))?;
        match context.tenzor(&line).good() {
            // Whether a purge zeroes is asked at the start. A kernel does not change its mind; a filter can.
            Err(Trouble::Failed(text)) if running.contains("madvise=NOTHING") && text.starts_with("wrong: zeroed") => {
                Err(Trouble::Noted(text))
            }
            other => other.map(|_| String::new()),
        }
    });
}

/// A program with one thread, in a sandbox that ends it for a call, while running: none that it would not make on malloc.
fn killed(list: &mut List, call: &'static str) {
    list.add(format!("sandbox {call}=KILL: one thread, while running"), move |context| {
        let line = format!("filtered {call}=KILL 0 none");
        control_is_good(&context.control(&line))?;
        let ended = context.tenzor(&line).run()?;
        if ended.how == How::Signal(libc::SIGSYS) {
            let text = format!("ended for {call}, which it does not make on malloc");
            return if OF_MEMORY.contains(&call) { Err(Trouble::Noted(text)) } else { failed(text) };
        }
        ended.good().map(|_| String::new())
    });
}

/// Every `each`th call of a kind fails, from the start of the program's own work on.
fn injected(context: &Context, call: &str, how: &str, each: usize) -> Outcome {
    needs("strace", "strace")?;
    // How many there are before the program's own: the loader's and std's.
    let log = context.file("strace");
    let trace = format!("strace -f -o {} -e trace={call}", log.display());
    match context.control("nothing").under(&trace).good() {
        Err(Trouble::Failed(text)) => return Err(Trouble::Cannot(format!("strace: {text}"))),
        other => other?,
    };
    let first = std::fs::read_to_string(&log)?.lines().filter(|line| line.contains(&format!("{call}("))).count();
    // The heap's own start is left to it where nothing would be served without.
    let first = first + if call == "mmap" || call == "mprotect" { 4 } else { each };
    let inject = format!("strace -f -o {} -e trace={call} -e inject={call}:{how}:when={first}+{each}", log.display());
    let refusals = if call == "mmap" || call == "mprotect" { "fine" } else { "none" };
    let crew = if call == "mmap" || call == "mprotect" || each == 1 { 0 } else { 2 };
    let line = format!("traffic 3 {crew} {refusals}");
    let ended = context.tenzor(&line).under(&inject).seconds(120).good();
    let injected = std::fs::read_to_string(&log)?.lines().filter(|line| line.contains("INJECTED")).count();
    ended?;
    if injected == 0 {
        return Err(Trouble::Noted(format!("no {call} was made, so none failed")));
    }
    Ok(format!("{injected} failed"))
}
