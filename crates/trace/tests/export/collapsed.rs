//! Collapsed stacks, read by inferno.

use inferno::flamegraph;

use crate::each_history;
use crate::history::{Held, Read, bytes, sums};

fn write(recording: &mut Read) -> String {
    let mut out = Vec::new();
    recording.write_collapsed(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// A block's frames, as they are to be.
fn frames(held: &Held) -> String {
    let (thread, labels, stack) = &held.holder;
    let thread = match thread {
        0 => "main".to_owned(),
        1 => "worker:1".to_owned(),
        2 => "\u{fffd}\u{fffd}\u{fffd}".to_owned(),
        thread => format!("thread_{thread}"),
    };
    let labels = labels
        .iter()
        .map(|label| ["encoder", "layer_3", "a:b\u{fffd}c \u{fffd}", "label_3", "x 1_2", "label_5"][*label as usize]);
    let stack: &[&str] = match stack {
        Some(0) => &["lib:x.so 2+0x1", "program+0x23ff", "program+0x410"],
        Some(1) => &["program+0x410", "program+0x2400"],
        Some(2) => &["0x9999"],
        Some(3) => &["stack_3"],
        Some(_) => &["stack_4"],
        None => &[],
    };
    let mut frames: Vec<String> = [thread].into_iter().chain(labels.map(str::to_owned)).collect();
    frames.extend(stack.iter().map(|frame| (*frame).to_owned()));
    if frames.len() == 1 {
        let power = |bytes: u64| {
            if bytes < 1024 {
                format!("{bytes} B")
            } else if bytes < 1 << 20 {
                format!("{} KiB", bytes >> 10)
            } else {
                format!("{} MiB", bytes >> 20)
            }
        };
        let lower = 1 << held.size.ilog2();
        frames.push(format!("{}–{}", power(lower), power(2 * lower)));
    }
    frames.join(";")
}

#[test]
fn stacks_are_those_of_what_is_in_use_at_the_peak() {
    each_history(|recording, oracle| {
        let written = write(recording);
        let expected = sums(oracle.at_peak().iter().filter(|held| held.size > 0).map(|held| (frames(held), held.size)));
        let lines = written.lines().map(|line| line.rsplit_once(' ').unwrap());
        let read = sums(lines.map(|(frames, bytes)| (frames.to_owned(), bytes.parse().unwrap())));
        assert_eq!(read, expected);
        assert_eq!(read.values().sum::<u64>(), oracle.peak());
    });
}

/// A number as inferno shows it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[test]
fn inferno_finds_as_many_bytes_of_each_thread() {
    each_history(|recording, oracle| {
        let written = write(recording);
        if oracle.peak() == 0 {
            assert!(written.is_empty());
            return;
        }
        let mut options = flamegraph::Options::default();
        (options.count_name, options.min_width) = ("bytes".to_owned(), 0.0);
        let mut svg = Vec::new();
        flamegraph::from_lines(&mut options, written.lines(), &mut svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        let of = |thread| {
            bytes(&oracle.at_peak().iter().filter(|held| held.holder.0 == thread).cloned().collect::<Vec<_>>())
        };
        let threads = ["main", "worker:1", "\u{fffd}\u{fffd}\u{fffd}", "thread_3", "thread_4"];
        let threads = threads.iter().enumerate().map(|(thread, name)| (*name, of(thread as u32)));
        for (name, bytes) in threads.chain([("all", oracle.peak())]).filter(|(_, bytes)| *bytes > 0) {
            let title = format!("<title>{name} ({} bytes,", grouped(bytes));
            assert!(svg.contains(&title), "{title}");
        }
    });
}
