//! Settings of the whole machine. Each is put back, whatever happens.

use std::fs;

use super::{Kind, List};
use crate::run::{Context, Outcome, Trouble};

pub fn add(list: &mut List, _: &Context) {
    list.kind(Kind::System, "max_map_count lowered: the host's own mmap is served", |context| {
        let _lowered = Setting::new("max_map_count", "4096")?;
        context.tenzor("map-count").good().map(|_| String::new())
    });
    list.kind(Kind::System, "overcommit mode 1: nothing is refused", |context| {
        let _mode = Setting::new("overcommit_memory", "1")?;
        judged(context, "too-much granted")
    });
    list.kind(Kind::System, "overcommit mode 2: by the commit limit", |context| {
        // Twice what there is, so that nobody else is refused anything.
        let _ratio = Setting::new("overcommit_ratio", "200")?;
        let _mode = Setting::new("overcommit_memory", "2")?;
        judged(context, "commit-limit")
    });
}

fn judged(context: &Context, line: &str) -> Outcome {
    super::control_is_good(&context.control(line))?;
    context.tenzor(line).good().map(|_| String::new())
}

/// A setting that is put back when dropped.
struct Setting {
    path: String,
    before: String,
}

impl Setting {
    fn new(name: &str, value: &str) -> Result<Self, Trouble> {
        let path = format!("/proc/sys/vm/{name}");
        let before = fs::read_to_string(&path);
        match before.and_then(|before| fs::write(&path, value).map(|()| before)) {
            Ok(before) => Ok(Setting { path, before }),
            Err(error) => Err(Trouble::Cannot(format!("{path}: {error}"))),
        }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, self.before.trim()) {
            eprintln!("error: {} stays changed, it was {}: {error}", self.path, self.before.trim());
        }
    }
}
