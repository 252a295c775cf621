//! Plugins that bring the allocator along, in a host that knows nothing of it.

use super::List;
use crate::run::{Context, Ended, Outcome, Program, Trouble, hold, mib};

const GIB: f64 = 1_073_741_824.0;

pub fn add(list: &mut List, _: &Context) {
    list.add("plugin: loaded and unloaded 300 times", |context| reloaded(context, "reload", 300));
    list.add("plugin: the same, from threads that end", |context| reloaded(context, "threads", 300));
    list.add("plugin: 300 copies", copies);
    list.add("plugin: at work when main ends", |context| {
        host(context, "end").arg(plug(context)).good().map(|_| String::new())
    });
    for (name, value) in [("TENZOR_BACKGROUND", "0"), ("TENZOR_BACKGROUND", "1"), ("TENZOR_DECAY_MS", "100")] {
        list.add(format!("plugin: unloaded, {name}={value}"), move |context| {
            let ended = host(context, "threads").arg(plug(context)).arg("3").arg("3").env(name, value).good()?;
            alive(ended)
        });
    }
}

fn host(context: &Context, how: &str) -> Program {
    context.program("malloc/release/hostile", &format!("host {how}")).seconds(240)
}

fn plug(context: &Context) -> std::path::PathBuf {
    context.target.join(if context.malloc { "malloc/release/libplug.so" } else { "tenzor/release/libplug.so" })
}

fn alive(ended: Ended) -> Outcome {
    hold(ended.output.ends_with("alive\n"), || "the host did not come to its end".into())?;
    Ok(String::new())
}

/// One file: its statics survive, and a reload costs nothing. The host idles for longer than the decay afterwards.
fn reloaded(context: &Context, how: &str, count: usize) -> Outcome {
    let ended = host(context, how).arg(plug(context)).arg(count.to_string()).arg("6").good()?;
    let addresses = ended.figure("addresses")?;
    // What `keep` keeps, 3 MiB each time, is the plugin's own.
    let kept = if how == "threads" { 3.0 * count as f64 * 1_048_576.0 } else { 0.0 };
    let resident = ended.figure("resident")?;
    hold(addresses <= 2.0 * (kept + 100e6) + 2.0 * GIB, || format!("{:.1} GiB of addresses", addresses / GIB))?;
    hold(resident <= 1.1 * kept + 100e6, || format!("{} resident, {} of it kept", mib(resident), mib(kept)))?;
    alive(ended)?;
    Ok(format!("{:.1} GiB of addresses, {} resident", addresses / GIB, mib(resident)))
}

/// As many files as loads: each has a heap of its own until the process ends.
fn copies(context: &Context) -> Outcome {
    let count = 300;
    let prefix = context.file("copy");
    let copied = (0..count).try_for_each(|copy| {
        let name = format!("{}{copy}.so", prefix.display());
        std::fs::copy(plug(context), name).map(|_| ())
    });
    let ended = copied
        .map_err(Trouble::from)
        .and_then(|()| host(context, "copies").arg(&prefix).arg(count.to_string()).arg("6").good());
    for copy in 0..count {
        let _ = std::fs::remove_file(format!("{}{copy}.so", prefix.display()));
    }
    let ended = ended?;
    let (addresses, resident) = (ended.figure("addresses")?, ended.figure("resident")?);
    hold(addresses <= f64::from(count) * GIB + GIB, || format!("{:.1} GiB of addresses", addresses / GIB))?;
    // 3 MiB are kept by each, and 2 MiB more were in use.
    hold(resident <= f64::from(count) * 8.0 * 1_048_576.0, || format!("{} resident", mib(resident)))?;
    alive(ended)?;
    Ok(format!("{:.1} GiB of addresses, {} resident", addresses / GIB, mib(resident)))
}
