//! What the heap does to the process that it is a guest of: threads, their stacks and ends, forks, standard error, settings.
//!
//! Each case is a process of its own, which has one thread until it wants more: this program runs itself.
#![allow(unsafe_code, missing_docs, dead_code, clippy::expect_used, clippy::panic)]

#[path = "../global/block.rs"]
mod block;
#[path = "../common/mod.rs"]
mod common;
#[allow(unused_imports)]
#[path = "../global/forks.rs"]
mod forks;
#[allow(unused_imports)]
#[path = "../global/lives.rs"]
mod lives;
#[path = "../global/process.rs"]
mod process;
#[path = "../global/traffic.rs"]
mod traffic;

mod around_forks;
mod case;
mod first;
mod host;
mod idle;
mod privileges;
mod stderr;
mod threads;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::{env, thread};

use tenzor_memory::TenzorMalloc;

use case::{Case, judge};

#[global_allocator]
static GLOBAL: TenzorMalloc = TenzorMalloc::new();

/// All cases.
fn cases() -> impl Iterator<Item = &'static Case> {
    [idle::CASES, threads::CASES, around_forks::CASES, stderr::CASES, privileges::CASES].into_iter().flatten()
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == "--case"
    {
        let case = cases().find(|case| case.name == name).expect("a case");
        (case.body)();
        println!("to the end");
        return;
    }
    let wanted = wanted(&arguments);
    let cases: Vec<&Case> = cases().filter(|case| wanted(case.name)).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // They wait most of the time.
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    let line = judge(case).unwrap_or_else(|| {
                        failed.fetch_add(1, Relaxed);
                        "FAILED".to_owned()
                    });
                    println!("case {} ... {line}", case.name);
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "cases failed");
}

/// So many cases run at the same time.
const AT_ONCE: usize = 3;

/// As the harness of tests does: names that contain one of the words are run, and none that contains a word after `--skip`. All are called
/// `guest::…`.
fn wanted(arguments: &[String]) -> impl Fn(&str) -> bool {
    let (mut words, mut skipped) = (vec![], vec![]);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--skip" => skipped.extend(arguments.next()),
            flag if flag.starts_with('-') => {}
            _ => words.push(argument),
        }
    }
    move |name| {
        let name = format!("guest::{name}");
        let contains = |word: &&String| name.contains(word.as_str());
        (words.is_empty() || words.iter().any(&contains)) && !skipped.iter().any(&contains)
    }
}
