//! `tenzor check` from outside: what it says of limits and baselines, in each format, and with which status it ends.

// Helpers of tests are not recognised as tests.
#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tenzor_trace::recording::Writer;
use tenzor_trace::recording::format::{Block, Header, Record};

fn at(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("check");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

fn file(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    fs::write(at(name), content).unwrap();
    at(name)
}

/// 1000 bytes at most, of which a pool holds 1024; in the second step one of two requests is a miss, so that of four in all two are hits.
const HAPPENED: [Record; 14] = {
    const fn block(address: u64, size: u64, missed: bool) -> Block {
        Block { address, size, missed, align: 6, zeroed: false, source: 1 }
    }
    [
        Record::Step(1),
        Record::Taken(block(0x1000, 512, false)),
        Record::Request(block(0x1000, 500, true)),
        Record::Free(block(0x1000, 500, false)),
        Record::Request(block(0x1000, 400, false)),
        Record::Free(block(0x1000, 400, false)),
        Record::Step(2),
        Record::Request(block(0x1000, 500, false)),
        Record::Taken(block(0x2000, 512, false)),
        Record::Request(block(0x2000, 500, true)),
        Record::Free(block(0x1000, 500, false)),
        Record::Free(block(0x2000, 500, false)),
        Record::Given(block(0x2000, 512, false)),
        Record::Step(3),
    ]
};

fn recorded(lost: u64) -> Vec<u8> {
    let header = Header { began: 0, process: 1, page: 4096, tick: 1_000_000 };
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    if lost > 0 {
        writer.lost(0, lost).unwrap();
    }
    HAPPENED.iter().for_each(|record| writer.record(0, 0, *record).unwrap());
    writer.finish().unwrap()
}

fn check(file: &PathBuf, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tenzor")).arg("check").arg(file).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Trouble: nothing is printed but what it is.
fn trouble(output: &Output, expected: &str) {
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{said}");
    assert!(said.contains(expected), "{said}");
}

#[test]
fn limits_hold_at_their_bounds_and_break_beyond() {
    let trace = file("limits.tnz", recorded(0));
    for (holds, breaks, said) in [
        (["--max-peak", "1000"], ["--max-peak", "999"], "peak live: 1000 bytes, at most 999 bytes"),
        (["--max-reserved", "1K"], ["--max-reserved", "1023"], "peak reserved: 1024 bytes (1 KiB), at most 1023 bytes"),
        (["--max-misses-per-step", "1"], ["--max-misses-per-step", "0"], "misses a step: 1, at most 0"),
        (["--min-hit-rate", "50%"], ["--min-hit-rate", "0.51"], "hit rate: 0.5, at least 0.51"),
    ] {
        let held = check(&trace, &holds);
        assert_eq!((held.status.code(), text(&held.stderr)), (Some(0), ""), "{holds:?}");
        assert!(text(&held.stdout).contains("  holds   hard  "), "{held:?}");
        let broken = check(&trace, &breaks);
        assert_eq!(broken.status.code(), Some(3), "{breaks:?}");
        assert!(text(&broken.stdout).contains(&format!("  BROKEN  hard  {said}\n")), "{broken:?}");
        assert_eq!(text(&broken.stderr), format!("{}: 1 of 1 limits is broken\n", trace.display()));
    }
    let all = ["--max-peak=1", "--max-reserved=1", "--max-misses-per-step=0", "--min-hit-rate=1"];
    let broken = check(&trace, &all);
    assert_eq!((broken.status.code(), text(&broken.stdout).matches("BROKEN").count()), (Some(3), 4));
    // Who does not read to the end is told by the status all the same.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenzor"));
    command.arg("check").arg(&trace).args(all).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn a_baseline_is_written_compared_with_and_written_anew() {
    let trace = file("baseline.tnz", recorded(0));
    let baseline = at("baseline.txt");
    let _ = fs::remove_file(&baseline);
    let against = ["--against", baseline.to_str().unwrap()];
    let with = |more: &[&str]| check(&trace, &[&against, more].concat());
    trouble(&with(&[]), "baseline.txt: there is no such baseline; with --bless beside --against, it is written");
    let blessed = with(&["--bless"]);
    assert!(blessed.status.success() && text(&blessed.stdout).contains("baseline.txt: written anew"), "{blessed:?}");
    let written = fs::read_to_string(&baseline).unwrap();
    let figures =
        "version = 1\nhit_rate = 0.5\nmisses_per_step = 1\npeak_live_bytes = 1000\npeak_reserved_bytes = 1024\n";
    assert!(written.starts_with("# ") && written.ends_with(figures) && written.lines().count() == 6, "{written}");
    assert_eq!(with(&["--within", "0%"]).status.code(), Some(0));

    // It was better before: by just the part that is allowed, and by more.
    for (before, within, status) in [("953", "5%", 0), ("952", "5%", 4), ("952", "5.1%", 0), ("1001", "0%", 0)] {
        let old = written.replace("= 1000", &format!("= {before}"));
        fs::write(&baseline, &old).unwrap();
        assert_eq!(with(&["--within", within]).status.code(), Some(status), "{before} {within}");
        assert_eq!(fs::read_to_string(&baseline).unwrap(), old, "nothing is written without --bless");
    }
    fs::write(&baseline, written.replace("= 1000", "= 952")).unwrap();
    let soft = with(&[]);
    assert_eq!(soft.status.code(), Some(4));
    let said = "  BROKEN  soft  peak live: 1000 bytes, at most 999 bytes: 5% above the baseline's 952 bytes\n";
    assert!(text(&soft.stdout).contains(said), "{soft:?}");
    // The hard ones are the worse, and stand in the way of a new baseline.
    assert_eq!(with(&["--max-peak", "1"]).status.code(), Some(3));
    let old = fs::read_to_string(&baseline).unwrap();
    assert_eq!(with(&["--max-peak", "1", "--bless"]).status.code(), Some(3));
    assert_eq!(fs::read_to_string(&baseline).unwrap(), old);
    assert!(with(&["--max-peak", "1000", "--bless"]).status.success());
    assert_eq!(fs::read_to_string(&baseline).unwrap(), written);
    assert!(!at("baseline.txt.part").exists());

    fs::write(&baseline, "version = 1\npeak_live_bytes = 12 cats\n").unwrap();
    let line =
        "baseline.txt:2: field 'peak_live_bytes': expected a whole number below 2^64, in digits, found \"12 cats\"";
    trouble(&with(&[]), line);
    fs::write(&baseline, vec![b'#'; 1 << 21]).unwrap();
    trouble(&with(&[]), "baseline.txt:1: expected at most 65536 bytes");
    let folder = at("").to_str().unwrap().to_owned();
    trouble(&check(&trace, &["--against", &folder]), "check");
}

#[test]
fn text_tells_its_peak_and_no_misses() {
    let csv = "op,id,size,align,thread,seq\nm,1,0,0,0,0\na,1,100,8,0,0\nr,1,300,0,0,0\nf,1,0,0,0,0\nm,2,0,0,0,0\n";
    let trace = file("text.csv", csv);
    assert_eq!(check(&trace, &["--max-peak", "300"]).status.code(), Some(0));
    assert_eq!(check(&trace, &["--max-peak", "299"]).status.code(), Some(3));
    for (limit, why) in [
        ("--max-reserved=1", "text.csv: it does not tell its peak reserved: nothing in it says"),
        ("--max-misses-per-step=1", "text.csv: it does not tell its misses a step: nothing in it tells misses"),
        ("--min-hit-rate=0", "text.csv: it does not tell its hit rate: nothing in it tells misses"),
    ] {
        trouble(&check(&trace, &[limit]), why);
    }
    let baseline = at("text.txt");
    assert!(check(&trace, &["--against", baseline.to_str().unwrap(), "--bless"]).status.success());
    assert!(fs::read_to_string(&baseline).unwrap().ends_with("version = 1\npeak_live_bytes = 300\n"));
    // What the baseline has, the recording has to tell.
    fs::write(&baseline, "version = 1\nhit_rate = 0.5\n").unwrap();
    trouble(&check(&trace, &["--against", baseline.to_str().unwrap()]), "it does not tell its hit rate");
    let wrong = file("wrong.csv", csv.replace(",8,", ",7,"));
    trouble(&check(&wrong, &["--max-peak", "1"]), "wrong.csv:3: field 'align': expected a power of two");
    trouble(&check(&at("nowhere"), &["--max-peak", "1"]), "nowhere");
}

#[test]
fn simulations_tell_what_recordings_do_not() {
    let step = "a,1,1000000,64,0,0\na,2,1000,64,0,0\nf,1,0,0,0,0\nf,2,0,0,0,0\n";
    let csv = format!("op,id,size,align,thread,seq\nm,1,0,0,0,0\n{step}m,2,0,0,0,0\n{step}m,3,0,0,0,0\n");
    let trace = file("simulated.csv", &csv);
    let untold = check(&trace, &["--max-reserved", "1G"]);
    trouble(&untold, "\n--simulate CONFIG tells what a TensorAllocator of that configuration would do\n");
    let with = |config: &str| {
        let limits = ["--max-reserved", "2M", "--max-misses-per-step", "0", "--min-hit-rate", "50%"];
        check(&trace, &[&limits[..], &["--simulate", config]].concat())
    };
    for config in ["default", "max_pool_size=2M,classes_per_bucket=4"] {
        assert_eq!(with(config).status.code(), Some(0), "{config}");
    }
    let none = with("max_pool_size=0");
    let said = text(&none.stdout);
    assert!(none.status.code() == Some(3) && said.contains("misses a step: 2, at most 0"), "{said}");
    assert!(said.contains("hit rate: 0, at least 0.5"), "{said}");
    trouble(&with("limit=100K"), "simulated.csv: at event 1, marks not counted: cannot allocate 1000000 bytes");
    assert_eq!(with("size=1").status.code(), Some(2));
    // A recording of the same requests.
    let recording = file("simulated.tnz", recorded(0));
    let simulated = check(&recording, &["--simulate", "default", "--max-peak", "1000", "--json"]);
    let told: Value = serde_json::from_slice(&simulated.stdout).unwrap();
    assert_eq!((&told["figures"]["hits"], &told["figures"]["misses"]), (&1.into(), &3.into()), "{told}");
    let lossy = file("simulated-lossy.tnz", recorded(3));
    trouble(&check(&lossy, &["--simulate", "default", "--max-peak", "1000"]), "not exact: 3 events are missing");
    let allowed = check(&lossy, &["--simulate", "default", "--max-peak", "1000", "--allow-lossy"]);
    assert!(
        allowed.status.success() && text(&allowed.stdout).contains("not exact: 3 events are missing"),
        "{allowed:?}"
    );
    let mut damaged = recorded(0);
    damaged[200] ^= 1;
    let damaged = file("simulated-damaged.tnz", damaged);
    let refused = check(&damaged, &["--simulate", "default", "--max-peak", "1000", "--allow-lossy"]);
    trouble(&refused, "simulated-damaged.tnz: block 1, at byte 64");
}

#[test]
fn what_is_not_exact_is_refused_unless_that_is_allowed() {
    let whole = recorded(0);
    let mut damaged = whole.clone();
    damaged[200] ^= 1;
    for (name, content, why) in [
        ("lossy.tnz", recorded(7), "lossy.tnz: what is counted in it is not exact: 7 events are missing"),
        ("cut.tnz", whole[..whole.len() - 1].to_vec(), "it ends in the midst of a block"),
        ("damaged.tnz", damaged, "block 1, at byte 64, was changed"),
    ] {
        let trace = file(name, content);
        let refused = check(&trace, &["--max-peak", "1G"]);
        trouble(&refused, why);
        assert!(text(&refused.stderr).contains("\n--allow-lossy takes the counts as they are\n"));
        let allowed = check(&trace, &["--max-peak", "1G", "--allow-lossy"]);
        assert_eq!(allowed.status.code(), Some(0));
        assert!(text(&allowed.stdout).contains("  the counts are not exact: "), "{allowed:?}");
    }
}

#[test]
fn each_format_tells_the_same() {
    let trace = file("formats, 5%.tnz", recorded(0));
    let junit = at("report.xml");
    let baseline = file("formats.txt", "version = 1\nmisses_per_step = 0\n");
    let limits = ["--max-peak", "999", "--min-hit-rate", "0.5", "--against", baseline.to_str().unwrap()];
    let with = |more: &[&str]| {
        let output = check(&trace, &[&limits, more].concat());
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        text(&output.stdout).to_owned()
    };
    let json: Value = serde_json::from_str(&with(&["--json"])).unwrap();
    assert_eq!(with(&["--format", "json"]), with(&["--json"]));
    assert_eq!((&json["broken"], &json["blessed"]), (&"hard".into(), &Value::Null));
    let peak = &json["checks"][0];
    for (key, value) in [("figure", "peak_live_bytes"), ("strictness", "hard")] {
        assert_eq!(peak[key], value);
    }
    assert_eq!((&peak["bound"], &peak["amount"], &peak["holds"]), (&999.into(), &1000.into(), &false.into()));
    let soft = &json["checks"][2];
    assert_eq!((&soft["baseline"], &soft["within"], &soft["holds"]), (&0.into(), &"5%".into(), &false.into()));
    assert_eq!((&json["figures"]["hits"], &json["figures"]["steps"]), (&2.into(), &2.into()));

    let annotations = with(&["--format", "github"]);
    let lines: Vec<&str> = annotations.lines().collect();
    let name = trace.display().to_string().replace('%', "%25");
    let expected = [
        format!("::error title=tenzor check%3A peak live::{name}: peak live: 1000 bytes, at most 999 bytes"),
        format!("{name}: hit rate: 0.5, at least 0.5"),
        format!(
            "::warning title=tenzor check%3A misses a step::{name}: misses a step: 1, at most 0: 5%25 above the baseline's 0"
        ),
    ];
    assert_eq!(lines, expected);

    let printed = with(&["--format", "junit"]);
    let shown = with(&["--junit", junit.to_str().unwrap()]);
    assert!(shown.contains("BROKEN") && fs::read_to_string(&junit).unwrap() == printed, "{shown}");
    let read = roxmltree::Document::parse(&printed).unwrap();
    let failures = read.descendants().filter(|node| node.has_tag_name("failure")).count();
    let suite = read.root_element().first_element_child().unwrap();
    assert_eq!((failures, suite.attribute("failures"), suite.attribute("tests")), (2, Some("2"), Some("3")));
    assert_eq!(suite.attribute("name"), trace.to_str());
    trouble(&check(&trace, &["--max-peak", "1G", "--junit", "/no/such/folder/report.xml"]), "report.xml");
}

#[test]
fn wrong_usage_is_told_from_broken_limits() {
    let trace = file("usage.tnz", recorded(0));
    for arguments in [
        &[][..],
        &["--bless"],
        &["--max-peak", "1", "--within", "5%"],
        &["--against", "x", "--within", "5"],
        &["--max-peak", "1 cat"],
        &["--min-hit-rate", "1.5"],
        &["--min-hit-rate", "nan"],
        &["--max-peak", "1", "--json", "--format", "text"],
        &["--max-misses-per-step", "-1"],
    ] {
        assert_eq!(check(&trace, arguments).status.code(), Some(2), "{arguments:?}");
    }
}
