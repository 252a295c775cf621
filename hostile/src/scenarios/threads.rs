//! Small threads, many threads, and the heap's own.

use super::{List, control_is_good};
use crate::run::{Context, Ended, Outcome, Program, Trouble, hold, mib};

pub fn add(list: &mut List, _: &Context) {
    for debug in [false, true] {
        let word = if debug { "debug" } else { "release" };
        list.add(format!("stacks of 16 KiB, {word} build"), move |context| {
            let program = if debug { context.debug("stacks") } else { context.tenzor("stacks") };
            control_is_good(&context.control("stacks"))?;
            program.good().map(|_| String::new())
        });
    }
    list.alone("16,000 threads", many);
    for word in ["free", "kill"] {
        let name = format!("one thread stays one, and memory goes back ({word})");
        list.good(name, move |context| context.tenzor(&format!("single {word}")).env("TENZOR_DECAY_MS", "500"));
    }
    list.add("one thread frees 100 MB and enters a user namespace", |context| {
        control_is_good(&context.control("unshare"))?;
        context.tenzor("unshare").good().map(|_| String::new())
    });
    list.add("background, by default: a thread, and memory goes back by itself", |context| {
        purged(idle(context, "idle").good()?, Some(true))
    });
    list.add("background=0: no thread, and memory goes back in calls", |context| {
        purged(idle(context, "calls").env("TENZOR_BACKGROUND", "0").good()?, Some(false))
    });
    list.add("background=1: a thread even for a program with one", |context| {
        purged(idle(context, "alone").env("TENZOR_BACKGROUND", "1").good()?, Some(true))
    });
    list.add("background, where no thread can be had: memory goes back in calls", |context| {
        purged(idle(context, "refused").good()?, None)
    });
    list.good("the heap's thread is a guest", |context| context.tenzor("guest"));
}

fn idle(context: &Context, word: &str) -> Program {
    context.tenzor(&format!("idle {word}")).env("TENZOR_DECAY_MS", "500")
}

/// Of 400 MiB that were freed four seconds ago, at most a quarter is still there; a thread was seen or not.
fn purged(ended: Ended, thread: Option<bool>) -> Outcome {
    let resident = ended.figure("resident")?;
    hold(resident < f64::from(100 << 20), || format!("{} stay resident", mib(resident)))?;
    let seen = ended.figure("purger")? == 1.0;
    hold(thread.is_none_or(|wanted| wanted == seen), || {
        format!("tenzor-purge was {}seen", if seen { "" } else { "not " })
    })?;
    Ok(mib(resident))
}

/// Started within 1.5 times malloc's time, and gone without a trace.
fn many(context: &Context) -> Outcome {
    let mut least = [f64::MAX; 2];
    let mut resident = [f64::MAX; 2];
    for _ in 0..context.amount(2, 5) {
        for which in 0..2 {
            let line = "threads 16000";
            let program = if which == 0 { context.control(line) } else { context.tenzor(line) };
            let ended = program.env("TENZOR_DECAY_MS", "500").seconds(90).good().map_err(|trouble| match trouble {
                Trouble::Failed(text) if which == 0 => Trouble::Cannot(format!("on malloc: {text}")),
                other => other,
            })?;
            least[which] = least[which].min(ended.figure("start")? / 1e6);
            resident[which] = resident[which].min(ended.figure("resident")?);
        }
        if least[1] > 10.0 * least[0] {
            break;
        }
    }
    let text = format!(
        "{:.2} s, on malloc {:.2}; afterwards {}, on malloc {}",
        least[1],
        least[0],
        mib(resident[1]),
        mib(resident[0])
    );
    hold(least[1] <= 1.5 * least[0], || text.clone())?;
    // What the caches held is free again, and no more of it stays than would of malloc's.
    hold(resident[1] <= 1.5 * resident[0] + f64::from(4 << 20), || text.clone())?;
    Ok(text)
}
