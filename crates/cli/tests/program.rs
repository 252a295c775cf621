//! The program from outside: what it prints, and with which status it ends.

// Helpers of tests are not recognised as tests.
#![allow(clippy::unwrap_used)]
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

const HEADER: &str = "op,id,size,align,thread,seq";

/// 4096 bytes of set-up; in each of two steps three requests of 100 000, 300 and 300 bytes, one of which grows by 2700; one buffer
/// of 64 bytes is handed from step to step.
const SMALL: &str = "a,0,4096,64,0,0
z,1,64,8,0,0
m,1,0,0,0,0
a,2,100000,8,0,0
a,3,300,8,0,0
z,4,300,8,0,0
r,3,3000,0,0,0
f,2,0,0,0,0
f,3,0,0,0,0
f,4,0,0,0,0
f,1,0,0,0,0
z,5,64,8,0,0
m,2,0,0,0,0
a,2,100000,8,0,0
a,3,300,8,0,0
z,4,300,8,0,0
r,3,3000,0,0,0
f,2,0,0,0,0
f,3,0,0,0,0
f,4,0,0,0,0
f,5,0,0,0,0
z,6,64,8,0,0
m,3,0,0,0,0
";

fn tenzor() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tenzor"))
}

fn file(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).unwrap();
    path
}

fn trace_file(name: &str, lines: &str) -> PathBuf {
    file(name, format!("{HEADER}\n{lines}"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn replay(path: &PathBuf) -> Output {
    let mut command = tenzor();
    command.args(["replay", "--json", "--rounds", "1"]).arg(path);
    command.output().unwrap()
}

#[test]
fn the_facts_of_a_small_trace_are_exact() {
    let path = trace_file("small.csv", SMALL);
    let output = replay(&path);
    let report = json(&output);
    assert_eq!(report["rounds"], 1);
    let trace = &report["traces"][0];
    assert_eq!(trace["name"], path.to_str().unwrap());
    for (key, value) in [
        ("requests", 10),
        ("requests_per_step", 4),
        ("distinct_sizes", 3),
        ("steps", 2),
        ("peak_live_bytes", 4096 + 64 + 100_000 + 3000 + 300),
        ("setup_live_bytes", 4096 + 64),
        ("activation_bytes", 100_000 + 3000 + 300),
    ] {
        assert_eq!(trace[key], value, "{key}");
    }
    assert!(output.stderr.is_empty(), "no progress in a pipe");
}

/// What a command prints that gets an input.
fn fed(arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut command = tenzor();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_ref()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn standard_input_is_a_file() {
    let replayed = fed(&["replay", "--json", "--rounds", "1", "-"], format!("{HEADER}\n{SMALL}"));
    assert_eq!(json(&replayed)["traces"][0]["requests"], 10);
    assert_eq!(json(&fed(&["plan", "--json", "-"], PROBLEM))[0]["file"], "standard input");
    let wrong = fed(&["plan", "-"], "id,lower,upper,size\na,0,x,1\n");
    assert!(text(&wrong.stderr).starts_with("standard input:2: field 'upper'"));
}

#[test]
fn every_contender_reports_every_figure() {
    let report = json(&replay(&trace_file("figures.csv", SMALL)));
    let contenders = report["traces"][0]["contenders"].as_array().unwrap();
    let names: Vec<_> = contenders.iter().map(|contender| &contender["name"]).collect();
    let heap = cfg!(all(target_os = "linux", target_pointer_width = "64")).then_some("TenzorMalloc");
    let expected: Vec<_> =
        ["malloc"].into_iter().chain(heap).chain(["TensorAllocator", "PlannedAllocator", "ComputeArena"]).collect();
    assert_eq!(names, expected);
    for contender in contenders {
        for key in ["step_ns", "time_to_malloc"] {
            assert!(contender[key].as_f64().unwrap() > 0.0, "{key} of {contender}");
        }
        let rounds = contender["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 1);
        assert_eq!(rounds[0]["step_ns"], contender["step_ns"]);
    }
    assert_eq!(contenders[0]["time_to_malloc"], 1.0);
    for contender in &contenders[1..] {
        assert!(contender["peak_reserved_to_peak_live"].as_f64().unwrap() >= 1.0);
        assert!(contender["activation_reserved_to_live"].as_f64().unwrap() >= 1.0);
    }
    let hit_rates: Vec<_> = contenders.iter().map(|contender| contender["hit_rate"].as_f64()).collect();
    assert!(matches!(hit_rates[..], [None, .., Some(0.0..=1.0), None, None]), "{hit_rates:?}");
}

#[test]
fn the_embedded_traces_are_what_their_readme_says() {
    let output = tenzor().args(["replay", "--json", "--rounds", "1"]).output().unwrap();
    let report = json(&output);
    let traces = report["traces"].as_array().unwrap();
    let mb = |bytes: &Value| format!("{:.1}", bytes.as_f64().unwrap() / 1e6);
    let facts: Vec<_> = traces
        .iter()
        .map(|trace| {
            let counts = ["requests_per_step", "distinct_sizes", "steps"].map(|key| trace[key].as_u64().unwrap());
            (trace["name"].as_str().unwrap(), mb(&trace["peak_live_bytes"]), mb(&trace["activation_bytes"]), counts)
        })
        .collect();
    let expected = [
        ("bert1", "444.8", "7.1", [1931, 13, 3]),
        ("resnet", "143.1", "37.9", [2361, 48, 3]),
        ("train", "130.8", "109.2", [1902, 35, 4]),
    ];
    let expected =
        expected.map(|(name, peak, activations, counts)| (name, peak.to_owned(), activations.to_owned(), counts));
    assert_eq!(facts, expected);
    assert!(output.stderr.is_empty(), "no progress in a pipe");
}

#[test]
fn a_malformed_trace_is_refused_with_its_place() {
    for (name, content, problem) in [
        ("align.csv", format!("{HEADER}\na,0,8,12,0,0\n"), r#":2: field 'align': expected a power of two, found "12""#),
        (
            "free.csv",
            format!("{HEADER}\na,0,8,8,0,0\nf,1,0,0,0,0\n"),
            r#":3: field 'id': expected the id of a live buffer, found "1""#,
        ),
        ("short.csv", format!("{HEADER}\na,0\n"), ":2: expected 6 fields (op,id,size,align,thread,seq), found 2"),
        ("header.csv", "nonsense".into(), r#":1: expected the header op,id,size,align,thread,seq, found "nonsense""#),
        ("empty.csv", String::new(), ":1: expected the header op,id,size,align,thread,seq, found an empty file"),
        ("nothing.csv", format!("{HEADER}\n"), ": expected a step with requests in it, found none"),
        (
            "setup.csv",
            format!("{HEADER}\na,0,8,8,0,0\nm,1,0,0,0,0\n"),
            ": expected a step with requests in it, found none",
        ),
    ] {
        let path = file(name, content);
        let output = replay(&path);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(text(&output.stderr), format!("{}{problem}\n", path.display()));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn all_files_are_checked_before_any_is_replayed() {
    let good = trace_file("good.csv", SMALL);
    let bad = file("bad.csv", "");
    let missing = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("missing.csv");
    let output = tenzor().arg("replay").args([&good, &bad, &missing]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let errors: Vec<_> = text(&output.stderr).lines().collect();
    assert_eq!(errors.len(), 2);
    assert!(errors[0].starts_with(&format!("{}:1: ", bad.display())));
    assert_eq!(errors[1], format!("{}: {}", missing.display(), fs::read(&missing).unwrap_err()));
}

#[test]
fn gzip_is_read_and_broken_gzip_refused() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(format!("{HEADER}\n{SMALL}").as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    // By its first bytes, whatever its name.
    let report = json(&replay(&file("compressed.csv", &whole)));
    assert_eq!(report["traces"][0]["requests"], 10);
    let output = replay(&file("cut.csv.gz", &whole[..whole.len() / 2]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("expected readable input, found "));
}

#[test]
fn a_trace_beyond_the_machine_is_refused() {
    let path = trace_file("huge.csv", &format!("a,0,{},8,0,0\n", 1u64 << 60));
    let output = replay(&path);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with(&path.display().to_string()));
}

#[test]
fn tables_name_all_contenders() {
    let path = trace_file("table.csv", SMALL);
    let output = tenzor().args(["replay", "--rounds", "2"]).arg(&path).output().unwrap();
    let shown = text(&output.stdout);
    assert!(shown.starts_with(path.to_str().unwrap()));
    assert!(shown.contains("2 steps, 4 requests a step in 3 sizes; peak live 104.9 KiB, of it activations 100.9 KiB"));
    for name in ["\nmalloc ", "\nTensorAllocator ", "\nPlannedAllocator ", "\nComputeArena "] {
        assert!(shown.contains(name), "{shown}");
    }
    assert!(output.stderr.is_empty());
}

#[test]
fn the_demo_explains_and_counts() {
    let output = tenzor().arg("demo").output().unwrap();
    assert!(output.status.success());
    let text = text(&output.stdout);
    for part in
        ["%2 = relu((%1 + f32[1, 2048])): f32[64, 2048], in the place of %1", "99.5 % hits", "a transformer's encoder"]
    {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

fn plan(files: &[&PathBuf], arguments: &[&str]) -> Output {
    tenzor().arg("plan").args(files).args(arguments).output().unwrap()
}

const PROBLEM: &str = "id,lower,upper,size\na,0,3,30\nb,1,4,20\nc,3,6,30\nd,4,7,20\n";

#[test]
fn problems_and_traces_are_planned() {
    let problem = file("problem.csv", PROBLEM);
    let trace = trace_file("planned.csv", SMALL);
    let output = plan(&[&problem, &trace], &[]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let shown = text(&output.stdout);
    let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..7], [problem.to_str().unwrap(), "4", "50", "50", "0.00", "%", "optimal"]);
    assert!(shown.lines().nth(2).unwrap().contains(trace.to_str().unwrap()), "{shown}");

    let rows = json(&plan(&[&problem], &["--json"]));
    assert_eq!((&rows[0]["height"], &rows[0]["status"]), (&50.into(), &"optimal".into()));
}

#[test]
fn plans_are_written_and_drawn() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (csv, svg) = (folder.join("out.csv"), folder.join("out.svg"));
    let problem = file("drawn.csv", PROBLEM);
    let output = plan(&[&problem], &["--csv", csv.to_str().unwrap(), "--svg", svg.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = std::fs::read_to_string(&csv).unwrap();
    assert!(written.starts_with("id,lower,upper,size,offset\na,0,3,30,"), "{written}");
    let drawn = std::fs::read_to_string(&svg).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("optimal") && drawn.contains("peak: 50 B"));
    // What was written has one solution.
    assert!(plan(&[&csv], &[]).status.success());
    let both = folder.join("both");
    let output = plan(&[&problem, &csv], &["--svg", both.to_str().unwrap()]);
    assert!(output.status.success() && both.join("drawn.plan.svg").exists() && both.join("out.plan.svg").exists());
}

#[test]
fn a_plan_beyond_its_capacity_is_a_failure() {
    let problem = file("tight.csv", PROBLEM);
    assert!(plan(&[&problem], &["--capacity", "50"]).status.success());
    let output = plan(&[&problem], &["--capacity", "49"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("infeasible: 50 are alive at 1"));
    assert!(text(&output.stderr).contains("1 of 1 files have no plan within their capacity"));
    assert_eq!(plan(&[&problem], &["--space", "0=49"]).status.code(), Some(1));
    let wrong = file("wrong.csv", "id,lower,upper,size\na,0,x,1\n");
    let output = plan(&[&wrong], &[]);
    assert_eq!(output.status.code(), Some(1));
    let message = format!("{}:2: field 'upper': expected an unsigned decimal number, found \"x\"\n", wrong.display());
    assert_eq!(text(&output.stderr), message);
}

#[test]
fn nobody_left_to_read_is_no_failure() {
    let path = trace_file("pipe.csv", SMALL);
    let mut command = tenzor();
    command.args(["replay", "--rounds", "1"]).arg(&path);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn wrong_usage_is_told_from_failure() {
    for arguments in [&["replay", "--rounds", "0"][..], &["plan"], &["plan", "--rounds", "1", "x"], &["bogus"]] {
        let output = tenzor().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("Usage") || text(&output.stderr).contains("--help"));
    }
}

#[test]
fn without_a_command_it_helps() {
    let output = tenzor().output().unwrap();
    assert!(output.status.success());
    for command in ["replay", "plan", "demo", "check", "run", "doctor", "completions", "man"] {
        assert!(text(&output.stdout).contains(&format!("\n  {command} ")), "{command}");
    }
}

#[test]
fn sizes_have_units() {
    let problem = file("units.csv", "id,lower,upper,size\na,0,1,1024\n");
    assert!(plan(&[&problem], &["--capacity", "1KiB"]).status.success());
    assert!(plan(&[&problem], &["--space", "0=1k"]).status.success());
    let output = plan(&[&problem], &["--capacity", "1 cat"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("expected bytes, with K, M, G or T after them"));
}

#[test]
fn what_is_compressed_otherwise_is_named() {
    for (name, start) in [("xz", &b"\xfd7zXZ\0"[..]), ("zstd", b"\x28\xb5\x2f\xfd"), ("bzip2", b"BZh9")] {
        let path = file(&format!("compressed.{name}"), start);
        for output in [replay(&path), plan(&[&path], &[])] {
            assert_eq!(output.status.code(), Some(1));
            assert!(text(&output.stderr).contains(&format!("compressed by {name}; only gzip is read")));
        }
    }
}

#[test]
fn shells_and_manuals_know_it() {
    let output = tenzor().args(["completions", "bash"]).output().unwrap();
    assert!(output.status.success() && text(&output.stdout).contains("_tenzor()"));
    let output = tenzor().arg("man").output().unwrap();
    assert!(output.status.success() && text(&output.stdout).contains(".TH tenzor 1"));
    let output = tenzor().args(["demo", "--json"]).output().unwrap();
    assert_eq!(json(&output).as_array().unwrap().len(), 3);
}

#[test]
fn help_explains_the_format() {
    let output = tenzor().args(["replay", "--help"]).output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stdout).contains(HEADER));
}

fn trace(arguments: &[&std::ffi::OsStr]) -> Output {
    tenzor().arg("trace").args(arguments).output().unwrap()
}

#[test]
fn recordings_are_made_of_text_packed_told_of_and_replayed() {
    let text_file = trace_file("to-record.csv", SMALL);
    let at = |name: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (recording, packed, back) = (at("small.tnz"), at("small-packed.tnz"), at("small-back.csv"));
    let held = |output: Output| assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    held(trace(&["convert".as_ref(), text_file.as_ref(), recording.as_ref()]));
    held(trace(&["pack".as_ref(), recording.as_ref(), packed.as_ref()]));
    held(trace(&["convert".as_ref(), packed.as_ref(), back.as_ref()]));
    assert!(fs::metadata(&packed).unwrap().len() < fs::metadata(&recording).unwrap().len());
    let piped = at("small-piped.csv");
    held(fed(&["trace", "convert", "-", piped.to_str().unwrap()], fs::read(&recording).unwrap()));
    assert_eq!(fs::read(&piped).unwrap(), fs::read(&back).unwrap());
    for file in [&recording, &packed] {
        let told = json(&trace(&["info".as_ref(), "--json".as_ref(), file.as_ref()]));
        let facts = [
            ("requests", 10),
            ("frees", 8),
            ("resizes", 2),
            ("steps", 3),
            ("peak_live_bytes", 107_460),
            ("lost", 0),
            ("out_of_order", 0),
        ];
        facts.iter().for_each(|(key, value)| assert_eq!(told[key], *value, "{key}"));
        let told = trace(&["info".as_ref(), file.as_ref()]);
        let events = "10 requests, 8 frees, 2 resizes, 0 refusals, 3 steps";
        assert!(text(&told.stdout).contains(events), "{told:?}");
    }
    let facts = |file: &PathBuf| {
        let report = json(&replay(file));
        let keys = ["requests", "steps", "peak_live_bytes", "setup_live_bytes"];
        keys.map(|key| report["traces"][0][key].clone())
    };
    for file in [&recording, &packed, &back] {
        assert_eq!(facts(file), facts(&text_file));
    }
    let planned = tenzor().args(["plan", "--json"]).arg(&packed).output().unwrap();
    assert!(planned.status.success(), "{planned:?}");
}

#[test]
fn recordings_are_written_for_other_programs() {
    let at = |name: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (text_file, recording) = (trace_file("to-export.csv", SMALL), at("export.tnz"));
    assert!(trace(&["convert".as_ref(), text_file.as_ref(), recording.as_ref()]).status.success());
    let write = |from: &PathBuf, name: &str| trace(&["convert".as_ref(), from.as_ref(), at(name).as_ref()]);
    for name in
        ["export.folded", "export.collapsed", "export.pb.gz", "export.pprof", "export.perfetto-trace", "export.pftrace"]
    {
        let written = write(&recording, name);
        assert!(written.status.success() && written.stderr.is_empty(), "{name}: {written:?}");
        let refused = write(&text_file, &format!("never-{name}"));
        assert!(
            !refused.status.success() && text(&refused.stderr).contains("to-export.csv: is no recording"),
            "{refused:?}"
        );
        assert!(!at(&format!("never-{name}")).exists());
    }
    let read = |name: &str| fs::read(at(name)).unwrap();
    let lines = [
        "thread_0;64 B–128 B 64",
        "thread_0;256 B–512 B 300",
        "thread_0;2 KiB–4 KiB 3000",
        "thread_0;4 KiB–8 KiB 4096",
    ];
    let lines = lines.into_iter().chain(["thread_0;64 KiB–128 KiB 100000"]).map(|line| format!("{line}\n"));
    assert_eq!(text(&read("export.folded")), lines.collect::<String>());
    assert_eq!(read("export.collapsed"), read("export.folded"));
    assert_eq!(read("export.pprof"), read("export.pb.gz"));
    assert_eq!(read("export.pftrace"), read("export.perfetto-trace"));
    let mut profile = Vec::new();
    flate2::read::GzDecoder::new(&read("export.pb.gz")[..]).read_to_end(&mut profile).unwrap();
    let has = |bytes: &[u8], name: &str| bytes.windows(name.len()).any(|part| part == name.as_bytes());
    assert!(
        has(&profile, "inuse_space") && has(&profile, "64 KiB–128 KiB") && has(&read("export.pftrace"), "live bytes")
    );
    let help = tenzor().args(["trace", "convert", "--help"]).output().unwrap();
    [".folded", ".pb.gz", ".perfetto-trace"].iter().for_each(|end| assert!(text(&help.stdout).contains(end), "{end}"));
}

#[test]
fn damaged_recordings_are_told_of_and_leave_no_file() {
    let text_file = trace_file("to-damage.csv", SMALL);
    let at = |name: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (whole, damaged, cut, out) = (at("whole.tnz"), at("damaged.tnz"), at("cut.tnz"), at("never.csv"));
    assert!(trace(&["convert".as_ref(), text_file.as_ref(), whole.as_ref()]).status.success());
    let mut bytes = fs::read(&whole).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    bytes[200] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let told = json(&trace(&["info".as_ref(), "--json".as_ref(), damaged.as_ref()]));
    assert!(told["damaged"][0].as_str().unwrap().starts_with("block 1, at byte 64, was changed"), "{told}");
    assert_eq!(json(&trace(&["info".as_ref(), "--json".as_ref(), cut.as_ref()]))["is_cut"], true);
    let refused = trace(&["convert".as_ref(), damaged.as_ref(), out.as_ref()]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("damaged.tnz: block 1, at byte 64"));
    assert!(!out.exists() && !at("never.csv.part").exists());
    for name in ["never.folded", "never.pb.gz", "never.pftrace"] {
        let refused = trace(&["convert".as_ref(), damaged.as_ref(), at(name).as_ref()]);
        assert!(!refused.status.success() && text(&refused.stderr).contains("damaged.tnz: block 1, at byte 64"));
        assert!(!at(name).exists() && !at(&format!("{name}.part")).exists());
    }
    for (file, expected) in [(&text_file, "is no recording"), (&at("nothing-there"), "nothing-there")] {
        let refused = trace(&["info".as_ref(), file.as_ref()]);
        assert!(!refused.status.success() && text(&refused.stderr).contains(expected), "{refused:?}");
    }
}

#[test]
fn what_others_recorded_becomes_recordings() {
    let at = |name: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let rmm =
        "Thread,Time,Action,Pointer,Size,Stream\n7,10:00:00.000001,allocate,0x7f0000000000,1000,0x0\n7,10:00:00.5,";
    let inputs: [(&str, &[u8], u64); 3] = [
        ("heaptrack.raw", b"v 10400 3\nt 7f00 0\n+ 48 1 55d0\n", 0x48),
        ("rmm.csv", &rmm.as_bytes()[..rmm.rfind('\n').unwrap() + 1], 1000),
        ("snapshot.pickle", b"(dVdevice_traces\n(((dVaction\nValloc\nsVaddr\nI4096\nsVsize\nI100\nslls.", 100),
    ];
    for (name, content, peak) in inputs {
        let (from, to) = (file(name, content), at(&format!("{name}.tnz")));
        let converted = trace(&["convert".as_ref(), from.as_ref(), to.as_ref()]);
        assert!(converted.status.success(), "{name}: {converted:?}");
        let told = json(&trace(&["info".as_ref(), "--json".as_ref(), to.as_ref()]));
        assert_eq!((&told["requests"], &told["peak_live_bytes"]), (&1.into(), &peak.into()), "{name}");
    }
    let refused = trace(&["convert".as_ref(), file("cut.rmm", rmm).as_ref(), at("cut-rmm.tnz").as_ref()]);
    let line = "cut.rmm: line 3: expected 6 fields";
    assert!(!refused.status.success() && text(&refused.stderr).contains(line), "{refused:?}");
}
