//! Forks, with threads and handlers.

use super::{List, control_is_good};
use crate::run::Context;

pub fn add(list: &mut List, _: &Context) {
    for early in [false, true] {
        let word = if early { "on both sides" } else { "registered late" };
        list.good(format!("forks under 8 threads, handlers {word}"), move |context| {
            let count = context.amount(if early { 200 } else { 100 }, 500);
            let program = context.tenzor(&format!("forks {count} 8")).seconds(240);
            if early { program.env("HOSTILE_EARLY", "1") } else { program }
        });
        list.good(format!("forks from threads and children, handlers {word}"), move |context| {
            let program = context.tenzor("fork-forks").seconds(120);
            if early { program.env("HOSTILE_EARLY", "1") } else { program }
        });
        list.good(format!("forks without membarrier, handlers {word}"), move |context| {
            let program = context.tenzor("forks 40 8").env("HOSTILE_FILTER", "membarrier=EPERM").seconds(120);
            if early { program.env("HOSTILE_EARLY", "1") } else { program }
        });
    }
    list.good("forks under 8 threads, debug build", |context| {
        context.debug("forks 40 8").env("HOSTILE_EARLY", "1").seconds(240)
    });
    list.add("forks in a signal's handler", |context| {
        control_is_good(&context.control("signal-forks"))?;
        context.tenzor("signal-forks").good().map(|_| String::new())
    });
    list.good("forks with pools in use", |context| {
        context.tenzor(&format!("pool-forks {}", context.amount(40, 500))).seconds(400)
    });
    list.good("a fork while another thread's request is at the backing", |context| context.tenzor("pool-asked"));
    list.good("a fork while another thread's stock is half of the books", |context| context.tenzor("pool-stats"));
    list.good("the same without membarrier", |context| {
        context.tenzor("pool-stats").env("HOSTILE_FILTER", "membarrier=EPERM")
    });
}
