//! Limits of the host's, marks on pages, and mappings that appear in holes.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tenzor_hostile::sys::{self, Limit};

use super::List;
use crate::run::{Context, Outcome, Trouble, failed, hold, mib};

const GIB: u64 = 1 << 30;

pub fn add(list: &mut List, context: &Context) {
    for (which, limit) in [("as", Limit::Addresses), ("data", Limit::Data)] {
        for rounds in if context.long { 20..32 } else { 8..11 } {
            list.good(format!("limit {which}: set and lifted within, {rounds} rounds"), move |context| {
                context.tenzor(&format!("limited {which} {rounds}")).seconds(200)
            });
        }
        list.good(format!("limit {which}: blocks that fit, while all is trimmed"), move |context| {
            context.tenzor(&format!("on-the-way {which} {}", context.amount(200, 2000))).seconds(200)
        });
        list.good(format!("limit {which}: a buffer grows (hole)"), move |context| {
            context.tenzor(&format!("hole {which}"))
        });
        list.good(format!("limit {which}: the same, debug build"), move |context| {
            context.debug(&format!("hole {which}"))
        });
        list.add(format!("limit {which}: set and lifted from outside"), move |context| from_outside(context, limit));
        list.good(format!("limit {which}: strangers' pages appear in holes"), move |context| {
            let file = context.file("strangers");
            let rounds = context.amount(5, 40).to_string();
            context.tenzor(&format!("strangers {which}")).arg(file).arg(rounds).seconds(300)
        });
    }
    for mark in ["locked", "not-dumped", "not-forked", "merged"] {
        for (word, old) in [("", false), (", as older kernels move", true)] {
            list.good(format!("marked pages: {mark}{word}"), move |context| {
                let program = context.tenzor(&format!("marked {mark} {}", context.amount(4, 30))).seconds(200);
                if old { preloaded(context, program) } else { program }
            });
        }
    }
    for line in ["limited as 7", "limited data 7", "hole as", "hole data"] {
        list.good(format!("older kernels' mremap: {line}"), move |context| {
            preloaded(context, context.tenzor(line)).seconds(120)
        });
    }
    for limit in [64_u64 << 10, 1 << 20, 8 << 20] {
        list.good(format!("locked pages in blocks that grow, {} KiB may be locked", limit >> 10), move |context| {
            context.tenzor(&format!("locked-pages {limit}"))
        });
    }
    for how in ["requests", "host", "mixed"] {
        for limit in if context.long { vec![GIB, 2 * GIB, 4 * GIB, 16 * GIB] } else { vec![GIB, 4 * GIB] } {
            list.add(format!("nine tenths of {} GiB of addresses: {how}", limit / GIB), move |context| {
                let line = format!("tenths {how} {limit}");
                super::control_is_good(&context.control(&line).limit(Limit::Addresses, limit))?;
                let ended = context.tenzor(&line).limit(Limit::Addresses, limit).run()?;
                let usable = ended.figure("usable").unwrap_or(0.0);
                ended.good().map(|_| format!("{usable} %"))
            });
        }
    }
    list.add("a limit on addresses set later leaves the host its part", later);
    list.good("a single request beyond memory and swap", |context| context.tenzor("too-much refused"));
    list.alone("everything locked, by root", |context| locked(context, "early"));
    list.alone("everything locked, by root, after much was used", |context| locked(context, "late"));
    for limit in [128_u64 << 20, GIB] {
        list.add(format!("everything locked within half of {} MiB, by nobody", limit >> 20), move |context| {
            let line = format!("lock-half {limit}");
            super::control_is_good(&context.control(&line))?;
            let ended = context.tenzor(&line).good()?;
            Ok(format!("of {}", mib(ended.figure("limit")?)))
        });
    }
    list.good("mappings: a quarter of what the system allows", |context| context.tenzor("map-share"));
    list.good("a limit in the environment is heeded", |context| {
        context.tenzor("small-limit heeded").env("TENZOR_LIMIT", "1M")
    });
    list.add("a limit in the environment of a set-uid program's caller is ignored", set_uid);
}

fn preloaded(context: &Context, program: crate::run::Program) -> crate::run::Program {
    program.env("LD_PRELOAD", context.target.join("tenzor/release/libold_mremap.so"))
}

/// Limits come and go as an administrator's `prlimit` would set them, at any moment.
fn from_outside(context: &Context, which: Limit) -> Outcome {
    let mut running = context.tenzor("patient").seconds(120).start()?;
    if !running.ready() {
        return running.wait()?.good().map(|_| String::new());
    }
    let until = Instant::now() + Duration::from_secs(context.amount(6, 60) as u64);
    let pid = running.pid();
    let name = if which == Limit::Data { "VmData" } else { "VmSize" };
    let mut step = 1_u64;
    while Instant::now() < until {
        let used = sys::field(&format!("/proc/{pid}/status"), name).unwrap_or(0);
        step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let room = (step >> 33) % (256 << 20);
        let bytes = [used + room, used.saturating_sub(room), used, 1 << 20][(step >> 30) as usize % 4];
        if sys::limit(pid, which, Some(bytes)).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5 + step % 60));
        if sys::limit(pid, which, None).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(step % 20));
    }
    running.close();
    let ended = running.wait()?.good()?;
    Ok(format!("{} rounds, {} refused", ended.figure("rounds")?, ended.figure("refused")?))
}

/// What is reserved stays below twice the peak plus 1 GiB; the rest of a limit is the host's, as with malloc.
fn later(context: &Context) -> Outcome {
    let line = format!("later {}", 8 * GIB);
    let wanted = context.control(&line).good()?.figure("mapped")?;
    let got = context.tenzor(&line).run()?;
    let mapped = got.figure("mapped").unwrap_or(0.0);
    let margin = (2 * (200 << 20) + GIB) as f64;
    hold(mapped >= wanted - margin, || format!("the host got {} under 8 GiB, on malloc {}", mib(mapped), mib(wanted)))?;
    got.good().map(|_| format!("{}, on malloc {}", mib(mapped), mib(wanted)))
}

/// A privileged program with everything locked: what is resident, against malloc.
fn locked(context: &Context, when: &str) -> Outcome {
    let line = format!("lock-all {when}");
    let control = context.control(&line).good()?;
    let ours = context.tenzor(&line).good()?;
    for name in ["start-resident", "full-resident", "trimmed-resident", "trimmed-locked"] {
        let (ours, malloc) = (ours.figure(name)?, control.figure(name)?);
        // The program's own pages are locked as well, and it is larger by the allocator's code.
        let own = if name == "trimmed-locked" { 4 << 20 } else { 2 << 20 };
        // Tables stay, some 1/900 of the most that was mapped; and half a MiB may be free in the thread's parcels.
        let slack = f64::from(own + if when == "late" { 1 << 20 } else { 0 });
        hold(ours <= malloc + slack, || format!("{name} {}, on malloc {}", mib(ours), mib(malloc)))?;
    }
    Ok(String::new())
}

/// A program that belongs to root and runs as root, started by nobody.
fn set_uid(context: &Context) -> Outcome {
    if !sys::is_root() {
        return Err(Trouble::Cannot("only root can make such a program".into()));
    }
    let copy = context.file("set-uid");
    std::fs::copy(context.target.join("tenzor/release/victim"), &copy)?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755))?;
    for (name, value) in [("TENZOR_LIMIT", "1K"), ("TENZOR_LIMIT", "1M"), ("TENZOR_DECAY_MS", "nonsense")] {
        let program = context.program(&copy.to_string_lossy(), "small-limit ignored");
        let ended = program.user(65534).env(name, value).good()?;
        if !ended.errors.is_empty() {
            return failed(format!("it speaks of its caller's {name}: {}", ended.errors.trim()));
        }
    }
    Ok(String::new())
}
