//! What is resident, committed, dumped; and another kernel's idea of the calls.

use std::time::Duration;

use super::{List, needs};
use crate::run::{Context, Outcome, Trouble, hold, mib};

const MIB: f64 = 1_048_576.0;

pub fn add(list: &mut List, context: &Context) {
    for which in ["zeroed", "zeroed-again", "capacity"] {
        list.alone(format!("sparse: {which}, at once"), move |context| sparse(context, which, 0));
        if context.long {
            list.alone(format!("sparse: {which}, after 60 s"), move |context| sparse(context, which, 60));
        }
    }
    list.add("huge pages: never", |context| huge_pages(context, "never"));
    list.add("huge pages: always", |context| huge_pages(context, "always"));
    list.alone("a GiB freed and trimmed is not committed", |context| uncommitted(context, "whole"));
    list.alone("what was freed and trimmed in parts is not committed", |context| uncommitted(context, "parts"));
    list.add("a core dump is as large as what is resident", core);
    list.alone("qemu-user: starts within twice malloc's time", emulated_start);
    list.add("qemu-user: traffic", |context| {
        needs("qemu-x86_64", "qemu-user")?;
        context.tenzor("traffic 1 1 none").under("qemu-x86_64").seconds(240).good().map(|_| String::new())
    });
}

/// At most 1.5 times malloc's resident bytes, plus 4 MiB.
fn sparse(context: &Context, which: &str, seconds: usize) -> Outcome {
    let line = format!("sparse {which} {seconds}");
    let ours = context.tenzor(&line).seconds(120).good()?;
    let malloc = context.control(&line).seconds(120).good()?;
    let name = if seconds == 0 { "at-once" } else { "later" };
    let (ours, malloc) = (ours.figure(name)?, malloc.figure(name)?);
    let text = format!("{} resident, on malloc {}", mib(ours), mib(malloc));
    hold(ours <= 1.5 * malloc + 4.0 * MIB, || text.clone())?;
    Ok(text)
}

fn huge_pages(context: &Context, setting: &str) -> Outcome {
    let mode = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    if setting == "always" && (mode.is_empty() || mode.contains("[never]")) {
        return Err(Trouble::Cannot("the system grants no huge pages".into()));
    }
    if setting == "never" && mode.contains("[always]") {
        return Err(Trouble::Cannot("the system grants huge pages to everyone".into()));
    }
    let huge = context.tenzor("huge-pages").env("TENZOR_HUGE_PAGES", setting).good()?.figure("huge")?;
    let right = if setting == "never" { huge == 0.0 } else { huge >= 100.0 * MIB };
    hold(right, || format!("of 128 MiB, {} lie in huge pages", mib(huge)))?;
    Ok(mib(huge))
}

/// Neither in VmData nor in Committed_AS. The latter is the whole machine's, and others move it.
fn uncommitted(context: &Context, how: &str) -> Outcome {
    let line = format!("uncommitted {how}");
    let malloc = context.control(&line).good()?;
    let ours = context.tenzor(&line).run()?;
    let (data, malloc_data) = (ours.figure("data")?, malloc.figure("data")?);
    let (committed, malloc_committed) = (ours.figure("committed")?, malloc.figure("committed")?);
    hold(data <= malloc_data + 64.0 * MIB, || format!("VmData {}, on malloc {}", mib(data), mib(malloc_data)))?;
    hold(committed <= malloc_committed + 300.0 * MIB, || format!("Committed_AS grew by {}", mib(committed)))?;
    ours.good().map(|_| format!("VmData {}, on malloc {}", mib(data), mib(malloc_data)))
}

fn core(context: &Context) -> Outcome {
    needs("gcore", "gdb")?;
    let mut running = context.tenzor("core").seconds(60).start()?;
    if !running.ready() {
        running.kill();
        return running.wait()?.good().map(|_| String::new());
    }
    let prefix = context.file("core");
    let pid = running.pid().to_string();
    let dump = std::process::Command::new("timeout").args(["40", "gcore", "-o"]).arg(&prefix).arg(&pid).output();
    let said = running.output();
    running.kill();
    running.wait()?;
    let file = format!("{}.{pid}", prefix.display());
    let size = std::fs::metadata(&file).map(|file| file.len() as f64);
    let _ = std::fs::remove_file(&file);
    let dump = dump?;
    if dump.status.code() == Some(124) {
        return crate::run::failed("gcore is not done after 40 s");
    }
    let Ok(size) = size else {
        return Err(Trouble::Cannot(format!(
            "gcore: {}",
            String::from_utf8_lossy(&dump.stderr).lines().next_back().unwrap_or("")
        )));
    };
    let resident = said.lines().find_map(|line| line.strip_prefix("resident=")?.parse::<f64>().ok()).unwrap_or(0.0);
    hold(size <= resident + 8.0 * MIB, || format!("{} for {} resident", mib(size), mib(resident)))?;
    Ok(format!("{} for {} resident", mib(size), mib(resident)))
}

fn emulated_start(context: &Context) -> Outcome {
    needs("qemu-x86_64", "qemu-user")?;
    let mut least = [Duration::MAX; 2];
    for _ in 0..3 {
        for (program, least) in [context.control("nothing"), context.tenzor("nothing")].iter().zip(&mut least) {
            let ended = program.clone().under("qemu-x86_64").seconds(60).run()?;
            *least = (*least).min(ended.took);
            ended.good()?;
        }
        // Far off is far off.
        if least[1] > least[0] * 10 {
            break;
        }
    }
    let text = format!("{:.2} s, on malloc {:.2}", least[1].as_secs_f64(), least[0].as_secs_f64());
    hold(least[1] <= least[0] * 2, || text.clone())?;
    Ok(text)
}
