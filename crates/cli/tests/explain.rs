//! `tenzor explain` from outside.

// Helpers of tests are not recognised as tests.
#![allow(clippy::unwrap_used)]
use std::ffi::OsStr;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tenzor_trace::recording::Writer;
use tenzor_trace::recording::format::{Block, Header, Record};
use tenzor_trace::recording::names::Kind;

fn at(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Weights, and three steps: attention, of as many bytes, and a perceptron.
fn recording(name: &str, attention: u64) -> PathBuf {
    let header = Header { began: 0, process: 1, page: 4096, tick: 1_000_000 };
    let mut writer = Writer::new(Cursor::new(Vec::new()), header).unwrap();
    for (label, name) in (0..).zip(["model", "attention", "mlp"]) {
        writer.name(Kind::Label, label, name.as_bytes()).unwrap();
    }
    let block = |address, size| Block { address, size, align: 4, ..Block::default() };
    let mut tick = 0;
    let mut put = |record| {
        tick += 10;
        writer.record(0, tick, record).unwrap();
    };
    put(Record::Enter(0));
    put(Record::Request(block(0x10, 40_000)));
    for step in 0..3 {
        put(Record::Step(step));
        for (label, size) in [(1, attention), (2, 30_000)] {
            put(Record::Enter(label));
            put(Record::Request(block(0x20, size)));
            put(Record::Request(Block { missed: step == 0, ..block(0x30, 500) }));
            put(Record::Free(block(0x30, 500)));
            put(Record::Free(block(0x20, size)));
            put(Record::Leave(label));
        }
    }
    fs::write(at(name), writer.finish().unwrap().into_inner()).unwrap();
    at(name)
}

fn explain<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tenzor")).arg("explain").args(arguments).output().unwrap()
}

fn said(output: &Output) -> &str {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

fn json<S: AsRef<OsStr>>(arguments: &[S]) -> Value {
    let all: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).chain([OsStr::new("--json")]).collect();
    serde_json::from_str(said(&explain(&all))).unwrap()
}

#[test]
fn who_holds_the_peak_is_told() {
    let file = recording("explain-model.tnz", 60_000);
    let expected = format!(
        "{}
  peak live     98.1 KiB in 3 blocks, at 0.060 s, in step 1 of 3
                 60 %   59.1 KiB in 2 blocks    model/attention, without which the peak is 29.3 KiB lower
                 40 %   39.1 KiB in 1 block     model
  by label      attention 60 %, model 40 %
  by size       32–64 KiB 100 %, 256–512 B <1 %
  by age        in this step 60 %, before the first step 40 %
  second        98.1 KiB, as high, at 0.190 s, in step 2 of 3
  not in it     nothing: the same hold as much of it
",
        file.display()
    );
    assert_eq!(said(&explain(&[&file])), expected);
    let told = json(&[&file, &file]);
    assert_eq!(told.as_array().unwrap().len(), 2);
    let told = &told[0];
    assert_eq!((&told["name"], &told["bytes"]), (&file.to_str().unwrap().into(), &100_500.into()));
    assert_eq!((&told["step"], &told["steps"], &told["second"]["lower_by"]), (&1.into(), &3.into(), &0.into()));
    for of in ["labels", "paths", "sizes", "size_classes", "ages", "steps", "threads", "sources", "stacks"] {
        let rows = told["holders"][of].as_array().unwrap();
        assert_eq!(rows.iter().map(|row| row["bytes"].as_u64().unwrap()).sum::<u64>(), 100_500, "{of}");
    }
    assert_eq!(told["holders"]["paths"][0]["name"], "model/attention");
    assert_eq!((&told["lost"], &told["is_cut"], &told["damaged"]), (&0.into(), &false.into(), &Value::Array(vec![])));
}

#[test]
fn what_changed_is_told() {
    let (old, new) = (recording("explain-old.tnz", 60_000), recording("explain-new.tnz", 80_000));
    let against = OsStr::new("--against");
    let expected = format!(
        "{}, against {}
  peak live     98.1 KiB → 117.7 KiB (+19.5 KiB, 20 %)
                at 0.060 s, in step 1 of 3
  in all        13 requests, as before; 11 hits, as before; 2 misses, as before
  in that step  4 requests, as before; 2 hits, as before; 2 misses, as before
  +19.5 KiB     model/attention: 1 request of 58.6 KiB has 78.1 KiB now
",
        new.display(),
        old.display()
    );
    assert_eq!(said(&explain(&[new.as_os_str(), against, old.as_os_str()])), expected);
    let told = &json(&[new.as_os_str(), against, old.as_os_str()])[0];
    assert_eq!((&told["peak_change"], &told["against"]), (&20_000.into(), &old.to_str().unwrap().into()));
    let cause = &told["causes"][0];
    assert_eq!(
        (&cause["path"], &cause["old_size"], &cause["new_size"]),
        (&"model/attention".into(), &60_000.into(), &80_000.into())
    );
    let same = explain(&[old.as_os_str(), against, old.as_os_str()]);
    let text = said(&same);
    assert!(
        text.ends_with("  the same      all requests of the step with the peak, and all that is live then\n"),
        "{text}"
    );
    assert_eq!(json(&[old.as_os_str(), against, old.as_os_str()])[0]["causes"], Value::Array(vec![]));
}

#[test]
fn what_is_damaged_is_told_and_what_is_none_refused() {
    let whole = fs::read(recording("explain-whole.tnz", 60_000)).unwrap();
    let (damaged, cut, other) = (at("explain-damaged.tnz"), at("explain-cut.tnz"), at("explain-other.csv"));
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    // The block of events is the last.
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let told = explain(&[&damaged]);
    assert!(said(&told).contains("nothing is requested in it\n  damaged       block 2, at byte"), "{told:?}");
    assert!(said(&explain(&[&cut])).contains("\n  ends          in the midst of a block"));
    assert_eq!(json(&[&cut])[0]["is_cut"], true);
    let told = explain(&[cut.as_os_str(), OsStr::new("--against"), at("explain-whole.tnz").as_os_str()]);
    assert!(said(&told).contains("  the new one:\n  ends"), "{told:?}");
    fs::write(&other, "op,id,size,align,thread,seq\n").unwrap();
    for (file, expected) in [(&other, "explain-other.csv: is no recording"), (&at("nothing"), "nothing: No such file")]
    {
        for arguments in [vec![file.as_os_str()], vec![cut.as_os_str(), OsStr::new("--against"), file.as_os_str()]] {
            let refused = explain(&arguments);
            assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
            let error = std::str::from_utf8(&refused.stderr).unwrap();
            assert!(error.contains(expected), "{error}");
        }
    }
    assert_eq!(explain::<&str>(&[]).status.code(), Some(2));
}
