//! Which settings are told of: those that change what a program has of Tenzor's heap, where they are not as they usually are.

use std::fs;

use serde::Serialize;

use super::process::{Memory, Process};
use crate::bytes::bytes;
use crate::program::Program;

#[derive(Debug, Serialize)]
pub(super) struct Remark {
    pub(super) setting: String,
    pub(super) value: String,
    pub(super) remark: String,
}

fn remark(setting: &str, value: impl ToString, remark: impl Into<String>) -> Remark {
    Remark { setting: setting.to_owned(), value: value.to_string(), remark: remark.into() }
}

pub(super) fn of_script(program: &Program) -> Remark {
    let by = program.binaries.last().map(|binary| binary.path.display().to_string()).unwrap_or_default();
    remark(
        "script",
        program.file.display(),
        format!(
            "a script, which {by} runs: that is what is looked at here. What the script starts in turn is not seen; it has Tenzor's heap as well."
        ),
    )
}

pub(super) fn of_python(is_process: bool) -> Remark {
    let later = "Extension modules are loaded later: they are seen in a process, or by their own files.";
    remark(
        "pymalloc",
        "Python",
        format!(
            "Python has its objects of up to 512 bytes in pages that it maps for itself, for good reasons: these are not Tenzor's. Larger ones, and what \
             arrays and buffers hold, are. {}",
            if is_process { "" } else { later }
        ),
    )
}

/// The system's, and those of a process, or of this one for a program that would be started.
pub(super) fn remarks(process: Option<&Process>, memory: Option<&Memory>) -> Vec<Remark> {
    let mut all = Vec::new();
    of_huge_pages(process, memory, &mut all);
    of_addresses(process, &mut all);
    of_group(process, &mut all);
    if let Some(process) = process {
        of_environment(process, &mut all);
    }
    all
}

/// What a file of the system's says, of one line.
fn system(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The choice in brackets.
fn chosen(path: &str) -> Option<String> {
    let text = system(path)?;
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(chosen, _)| chosen.to_owned())
}

fn of_huge_pages(process: Option<&Process>, memory: Option<&Memory>, all: &mut Vec<Remark>) {
    const FOLDER: &str = "/sys/kernel/mm/transparent_hugepage";
    let Some(enabled) = chosen(&format!("{FOLDER}/enabled")) else {
        all.push(remark(
            "transparent_hugepage",
            "none",
            "This kernel has no transparent huge pages: large buffers are touched first in pages of 4 KiB, each a fault.",
        ));
        return;
    };
    let status =
        process.map_or_else(|| system("/proc/self/status").unwrap_or_default(), |process| process.status.clone());
    let setting = "transparent_hugepage/enabled";
    match &*enabled {
        "never" => {
            all.push(remark(
                setting,
                enabled,
                "No huge pages: large buffers are touched first in pages of 4 KiB, each a fault. With madvise the heap asks for them where they pay.",
            ));
            return;
        }
        "always" => {
            all.push(remark(
                setting,
                enabled,
                "The first byte in 2 MiB takes all of it, in all programs' memory, whether the heap asks for that or not: buffers of which little is touched \
                 take more memory. With madvise the heap asks where it pays.",
            ));
            let none = system(&format!("{FOLDER}/khugepaged/max_ptes_none"));
            if let Some(none) = none.filter(|none| none.parse().is_ok_and(|none: u32| none > 255)) {
                all.push(remark(
                    "khugepaged/max_ptes_none",
                    none,
                    "The kernel makes huge pages of 2 MiB of which little is used, behind the heap's back: memory that was given back may be resident again.",
                ));
            }
        }
        _ => {}
    }
    if status.lines().any(|line| line.starts_with("THP_enabled:") && line.ends_with('0')) {
        all.push(remark(
            "THP_enabled",
            "0",
            "Huge pages are switched off for this process (prctl): large buffers are touched first in pages of 4 KiB, each a fault.",
        ));
        return;
    }
    if let Some(defrag) = chosen(&format!("{FOLDER}/defrag")) {
        match &*defrag {
            "always" => all.push(remark(
                "transparent_hugepage/defrag",
                defrag,
                "Where there is no free huge page, a first touch waits until the kernel has made one, in all programs.",
            )),
            "defer" | "never" => all.push(remark(
                "transparent_hugepage/defrag",
                defrag,
                "Where there is no free huge page, the heap gets small ones, though it asked: with madvise the kernel makes one.",
            )),
            _ => {}
        }
    }
    let variable = process.and_then(|process| process.variable("TENZOR_HUGE_PAGES"));
    if let (Some(Memory { heap: Some(heap @ 0x400_0000..), heap_huge: 0, .. }), true) =
        (memory, variable != Some("never"))
    {
        all.push(remark(
            "AnonHugePages",
            "0",
            format!("None of the heap's {} are in huge pages. It asks for them where blocks of a size were found filled before.", bytes(*heap)),
        ));
    }
}

fn of_addresses(process: Option<&Process>, all: &mut Vec<Remark>) {
    const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";
    if system(OVERCOMMIT).as_deref() == Some("2") {
        let ratio = system("/proc/sys/vm/overcommit_ratio").unwrap_or_default();
        all.push(remark(
            "vm.overcommit_memory",
            format!("2, with vm.overcommit_ratio {ratio}"),
            "The system counts addresses in place of memory, and may refuse them while memory is free. The heap takes few more than it uses, a sixteenth or \
             32 MiB; but a fork counts all of the process once more.",
        ));
    }
    let most = system("/proc/sys/vm/max_map_count").and_then(|most| most.parse::<usize>().ok());
    let used = process.map_or(0, Process::mappings);
    if let Some(most) = most.filter(|&most| most < 65_530 || used > most / 2) {
        let used = process.map(|_| format!("; the process has {used}")).unwrap_or_default();
        all.push(remark(
            "vm.max_map_count",
            format!("{most}{used}"),
            "Memory that moves cuts mappings, for which the heap uses a quarter of these; then nothing moves any more, and more memory is needed for the \
             same buffers. 65530 is usual.",
        ));
    }
    let limits =
        process.map_or_else(|| system("/proc/self/limits").unwrap_or_default(), |process| process.limits.clone());
    for (limit, name) in [("Max address space", "RLIMIT_AS"), ("Max data size", "RLIMIT_DATA")] {
        let value = limits.lines().find_map(|line| line.strip_prefix(limit)?.split_whitespace().next()?.parse().ok());
        if let Some(value) = value {
            all.push(remark(
                name,
                bytes(value),
                "The process may have so many addresses: what is free in the heap counts as well, and what is larger is refused at once. A TENZOR_LIMIT below \
                 that has it refused with a line that says why.",
            ));
        }
    }
}

/// The limit of the control group, of either version.
fn of_group(process: Option<&Process>, all: &mut Vec<Remark>) {
    let groups = process.map_or_else(|| system("/proc/self/cgroup").unwrap_or_default(), Process::groups);
    // Within a container its own group is the root of what it sees.
    let of = |group: &str| [group.to_owned(), String::new()];
    let files = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next()?, fields.next()?) {
            ("", group) => Some(of(group).map(|group| format!("/sys/fs/cgroup{group}/memory.max"))),
            (kinds, group) if kinds.split(',').any(|kind| kind == "memory") => {
                Some(of(group).map(|group| format!("/sys/fs/cgroup/memory{group}/memory.limit_in_bytes")))
            }
            _ => None,
        }
    });
    let limits = files.flatten().filter_map(|file| system(&file)?.parse::<u64>().ok());
    // What is no limit is a number near the most that there is.
    if let Some(limit) = limits.filter(|&limit| limit < 1 << 60).min() {
        let ours = process.and_then(|process| process.variable("TENZOR_LIMIT"));
        let advice = match ours {
            Some(ours) => format!("TENZOR_LIMIT is {ours}."),
            None => {
                "A TENZOR_LIMIT below it has requests refused instead, and free memory given back first.".to_owned()
            }
        };
        all.push(remark(
            "control group",
            bytes(limit),
            format!("Whatever of the group's goes beyond is ended by the system. {advice}"),
        ));
    }
}

/// What the process was started with.
fn of_environment(process: &Process, all: &mut Vec<Remark>) {
    let ours = process.variables().filter(|(name, _)| name.starts_with("TENZOR_") && *name != "TENZOR_LIBRARY");
    let ours: Vec<_> = ours.map(|(name, value)| format!("{name}={value}")).collect();
    if !ours.is_empty() {
        all.push(remark("environment", ours.join(" "), "Set for Tenzor's heap when the process was started."));
    }
    for (name, value) in process.variables() {
        if name.starts_with("MALLOC_") || name == "GLIBC_TUNABLES" && value.contains("glibc.malloc") {
            all.push(remark(name, value, "This is for the C library's malloc, and does nothing under Tenzor's."));
        } else if name == "PYTHONMALLOC" && value.starts_with("malloc") {
            all.push(remark(
                name,
                value,
                "Python's small objects come from malloc, and so from Tenzor's heap where it is there, and not from pages of its own.",
            ));
        }
    }
}
