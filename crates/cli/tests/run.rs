//! `tenzor run` and `tenzor doctor`, with small programs of C. Needs a C compiler.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The library, built once. `None` where the program comes by itself, from a registry.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../preload");
        if !source.exists() {
            return None;
        }
        let target = source.join("target/library");
        let mut build = Command::new(env!("CARGO"));
        // What is asked of this build is not asked of that one.
        for (name, _) in std::env::vars_os() {
            let kinds = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_", "CARGO_TARGET_", "CARGO_PROFILE_"];
            if kinds.iter().any(|kind| name.to_string_lossy().starts_with(kind)) {
                build.env_remove(&name);
            }
        }
        build.args(["build", "--release", "--quiet", "--lib", "--target-dir"]).arg(&target).current_dir(&source);
        assert!(build.status().unwrap().success(), "the library does not build");
        Some(target.join("release/libtenzor_malloc.so").canonicalize().unwrap())
    });
    made.as_deref()
}

fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("run");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiles a program or library; `None` if the compiler cannot.
fn compiled(name: &str, source: &str, arguments: &[&str]) -> Option<PathBuf> {
    let (to, from) = (folder().join(name), folder().join(format!("{name}.c")));
    fs::write(&from, source).unwrap();
    let made = Command::new("cc").args(["-w", "-o"]).args([&to, &from]).args(arguments).output().unwrap();
    made.status.success().then_some(to)
}

fn script(name: &str, text: &str) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// With an environment that has nothing of what is set.
fn tenzor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenzor"));
    for name in ["TENZOR_LIBRARY", "TENZOR_STATS", "LD_PRELOAD", "ARROW_DEFAULT_MEMORY_POOL"] {
        command.env_remove(name);
    }
    command
}

fn run<S: AsRef<OsStr>>(arguments: &[&str], program: &[S]) -> Output {
    let mut command = tenzor();
    command.arg("run").args(arguments).args(program);
    command.env("TENZOR_LIBRARY", library().unwrap()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program that is refused, with the status and a part of the reason.
fn refused<S: AsRef<OsStr>>(program: &[S], status: i32, why: &str) {
    let output = run(&[], program);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.starts_with("tenzor run: ") && said.contains(why), "{said}");
    assert!(output.stdout.is_empty());
}

/// Prints its arguments and what of its environment is set, and ends as it is told.
const SHOW: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
int main(int count, char **words) {
    char *names[] = {"LD_PRELOAD", "TENZOR_LIMIT", "TENZOR_STATS", "TENZOR_ONLY_THIS_PROCESS", "ARROW_DEFAULT_MEMORY_POOL"};
    for (int i = 0; i < count; i++) printf("%s\n", words[i]);
    for (int i = 0; i < 5; i++) printf("%s=%s\n", names[i], getenv(names[i]) ? getenv(names[i]) : "");
    fflush(stdout);
    if (count > 1 && !strcmp(words[1], "raise")) raise(atoi(words[2]));
    return count > 1 ? atoi(words[1]) : 0;
}
"#;

fn show() -> &'static Path {
    static SHOW_MADE: OnceLock<PathBuf> = OnceLock::new();
    SHOW_MADE.get_or_init(|| compiled("show", SHOW, &[]).unwrap())
}

#[test]
fn a_program_runs_as_itself() {
    let Some(library) = library() else { return };
    let program = show().to_str().unwrap();
    let output = run(&[], &[program, "7", "--stats", "-v"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let library = library.display();
    let expected = format!(
        "{program}\n7\n--stats\n-v\nLD_PRELOAD={library}\nTENZOR_LIMIT=\nTENZOR_STATS=\n\
         TENZOR_ONLY_THIS_PROCESS=\nARROW_DEFAULT_MEMORY_POOL=system\n"
    );
    assert_eq!(text(&output.stdout), expected);
    let killed = run(&[], &[program, "raise", "15"]);
    assert_eq!(killed.status.signal(), Some(15));
}

#[test]
fn what_is_asked_for_is_set() {
    let Some(library) = library() else { return };
    let output = run(&["--stats", "--limit", "1G", "-v"], &[show()]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}");
    assert!(out.contains("\nTENZOR_LIMIT=1073741824\nTENZOR_STATS=") && !out.contains("TENZOR_STATS=\n"), "{out}");
    for said in ["ARROW_DEFAULT_MEMORY_POOL=system: Arrow", "resident memory", "requests "] {
        assert!(err.contains(said), "{said} is not in\n{err}");
    }
    // The library has taken the two out of the environment by then.
    let output = run(&["--only-this-process"], &[show()]);
    assert!(text(&output.stdout).contains("\nLD_PRELOAD=\n"), "{}", text(&output.stdout));
    // What the user has set stays.
    let mut command = tenzor();
    command.arg("run").arg("--library").arg(library).arg(show());
    let other = folder().join("other.so");
    compiled("other.so", "int other(void) { return 0; }", &["-shared", "-fPIC"]).unwrap();
    let output = command.env("ARROW_DEFAULT_MEMORY_POOL", "mimalloc").env("LD_PRELOAD", &other).output().unwrap();
    let expected = format!("\nLD_PRELOAD={}:{}\n", library.display(), other.display());
    let out = text(&output.stdout);
    assert!(out.contains(&expected) && out.contains("MEMORY_POOL=mimalloc\n"), "{out}");
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    if library().is_none() {
        return;
    }
    const EMPTY: &str = "int main(void) { return 0; }";
    refused(&["no-such-program"], 127, "no-such-program: there is no such program in PATH");
    refused(&["./no/such/program"], 127, "No such file");
    refused(&["/"], 126, "is a folder");
    refused(&[&script("text", "neither")], 126, "neither an ELF program nor a script");
    let own = "#include <stddef.h>\nvoid *malloc(size_t n) { return 0; } int main(void) { return 0; }";
    refused(&[compiled("own", own, &["-rdynamic", "-fno-builtin"]).unwrap()], 126, "has a malloc of its own");
    let musl = compiled("musl", EMPTY, &["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"]).unwrap();
    refused(&[musl], 126, "stands on the C library musl");
    // As if it were for another processor: the number of AArch64.
    let other = compiled("arm", EMPTY, &[]).unwrap();
    let mut bytes = fs::read(&other).unwrap();
    bytes[18] = 183;
    fs::write(&other, bytes).unwrap();
    refused(&[other], 126, "is for 64-bit AArch64, and the library is for 64-bit x86-64");
    for (kind, argument) in [("static", "-static"), ("address", "-fsanitize=address"), ("thread", "-fsanitize=thread")]
    {
        match compiled(kind, EMPTY, &[argument]) {
            Some(program) => refused(&[program], 126, if kind == "static" { "is static" } else { kind }),
            None => eprintln!("skipped: the compiler has no {argument}"),
        }
    }
}

#[test]
fn privileges_of_a_file_are_seen() {
    if library().is_none() {
        return;
    }
    let program = compiled("privileged", "int main(void) { return 0; }", &[]).unwrap();
    if chown(&program, Some(65534), Some(65534)).is_err() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    for (mode, why) in [(0o4755, "set-uid"), (0o2755, "set-gid")] {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        refused(&[&program], 126, why);
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(run(&[], &[&program]).status.success());
    let capable = Command::new("setcap").arg("cap_net_raw+ep").arg(&program).status();
    if !capable.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no capabilities can be given");
        return;
    }
    // For root they are nothing new.
    assert!(run(&[], &[&program]).status.success());
    let mut command = tenzor();
    command.arg("run").arg("--library").arg(library().unwrap()).arg(&program).uid(65534);
    match command.output() {
        Ok(output) => {
            assert_eq!(output.status.code(), Some(126));
            assert!(text(&output.stderr).contains("capabilities"), "{}", text(&output.stderr));
        }
        Err(error) => eprintln!("skipped: others may not run this: {error}"),
    }
}

#[test]
fn scripts_are_followed() {
    if library().is_none() {
        return;
    }
    let by = |line: String| script("script", &format!("#!{line}\n"));
    let output = run(&[], &[by(show().display().to_string()).to_str().unwrap(), "3"]);
    // The interpreter has the script's name as its first argument, which is the number 0.
    assert!(text(&output.stdout).contains("script\n3\nLD_PRELOAD=/"), "{}", text(&output.stdout));
    let static_one = compiled("interpreter", "int main(void) { return 0; }", &["-static"]);
    if let Some(interpreter) = static_one {
        refused(&[by(interpreter.display().to_string())], 126, "interpreter: is static");
        refused(&[by(format!("/usr/bin/env -S A=b {}", interpreter.display()))], 126, "interpreter: is static");
    }
    refused(&[by("/no/such/interpreter -x".into())], 126, "its interpreter /no/such/interpreter does not exist");
    refused(&[by("/usr/bin/env no-such-program".into())], 127, "no-such-program");
    let itself = folder().join("itself");
    script("itself", &format!("#!{}\n", itself.display()));
    refused(&[itself], 126, "script of a script");
}

#[test]
fn the_library_is_looked_for() {
    let Some(library) = library() else { return };
    let alone = tenzor().args(["run", "true"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(125));
    assert!(text(&alone.stderr).contains("cargo build --release"), "{}", text(&alone.stderr));
    let wrong = tenzor().args(["run", "--library", "/no/such.so", "true"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(125));
    let other = tenzor().args(["run", "--library"]).arg(show()).arg("true").output().unwrap();
    assert!(text(&other.stderr).contains("has no malloc"), "{}", text(&other.stderr));

    // Beside the program, and in ../lib; a path with a space can be that of a program, and not that of the library.
    for (place, lib, works) in [("beside", "", true), ("apart", "../lib", true), ("with space", "", false)] {
        let bin = folder().join(place).join("bin");
        fs::create_dir_all(bin.join(lib)).unwrap();
        let here = bin.join("tenzor");
        fs::copy(env!("CARGO_BIN_EXE_tenzor"), &here).unwrap();
        fs::copy(library, bin.join(lib).join("libtenzor_malloc.so")).unwrap();
        let mut command = Command::new(&here);
        command.env_remove("TENZOR_LIBRARY").env_remove("LD_PRELOAD").arg("run").arg(show());
        let output = command.output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        if works {
            assert!(out.contains("LD_PRELOAD=/"), "{out}{err}");
        } else {
            assert_eq!(output.status.code(), Some(125));
            assert!(err.contains("cannot be given a path with ' '"), "{err}");
        }
    }
    let spaced = folder().join("with space/show it");
    fs::copy(show(), &spaced).unwrap();
    assert!(run(&[], &[&spaced]).status.success());
}

fn doctor(target: impl AsRef<OsStr>) -> Value {
    let output = tenzor().args(["doctor", "--json"]).arg(target).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn said(target: impl AsRef<OsStr>) -> String {
    let output = tenzor().arg("doctor").arg(target).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The row of a file.
fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["libraries"].as_array().unwrap().iter().find(|row| row["name"].as_str().unwrap().starts_with(name)).unwrap()
}

#[test]
fn libraries_tell_whose_memory_they_use() {
    let shared = ["-shared", "-fPIC"];
    let call = "#include <stdlib.h>\nvoid *call(void) { return malloc(99); }\n";
    let jemalloc = "void *je_sdallocx(void) { return 0; }\n";
    let message = "const char *say(void) { return \"<jemalloc>: Error in something\\n\"; }\n";
    let make = |name: &str, source: &str, more: &[&str]| compiled(name, source, &[&shared[..], more].concat()).unwrap();

    let kind = |path: &Path| {
        let report = doctor(path);
        let row = &report["libraries"][0];
        (row["memory"].as_str().unwrap().to_owned(), row["own"].to_string())
    };
    let evidence = |evidence: &str| format!("[{{\"evidence\":\"{evidence}\",\"name\":\"jemalloc\"}}]");
    assert_eq!(kind(&make("calls.so", call, &[])), ("reaches".into(), "[]".into()));
    assert_eq!(kind(&make("none.so", "int none(void) { return 0; }", &[])), ("nothing".into(), "[]".into()));
    assert_eq!(kind(&make("je.so", &[call, jemalloc].concat(), &[])), ("own".into(), evidence("symbols")));
    // A symbol that nobody else sees.
    let hidden = format!("__attribute__((used)) static {jemalloc}");
    assert_eq!(kind(&make("hidden.so", &hidden, &[])), ("own".into(), evidence("symbols")));
    assert_eq!(kind(&make("stripped.so", message, &["-s"])), ("own".into(), evidence("messages")));
    assert_eq!(kind(&make("says.so", message, &[])), ("nothing".into(), "[]".into()));
    let malloc = make("malloc.so", "void *malloc(unsigned long n) { return 0; }", &["-fno-builtin"]);
    assert_eq!(kind(&malloc), ("malloc".into(), "[]".into()));

    let text = said(folder().join("stripped.so"));
    assert!(text.contains("it seems") && text.contains("messages of jemalloc"), "{text}");
}

#[test]
fn what_a_program_needs_is_found_as_the_loader_does() {
    let folder = folder().join("needs");
    fs::create_dir_all(folder.join("deep")).unwrap();
    let inner = compiled("needs/deep/libinner.so", "void mi_malloc(void) {}", &["-shared", "-fPIC"]).unwrap();
    let source = "void mi_malloc(void); void outer(void) { mi_malloc(); }";
    let paths = ["-shared", "-fPIC", "-Wl,-rpath,$ORIGIN/deep", inner.to_str().unwrap()];
    let outer = compiled("needs/libouter.so", source, &paths).unwrap();
    let program = |name: &str, more: &str| {
        let source = "void outer(void); int main(void) { outer(); return 0; }";
        let needs = format!("-Wl,--allow-shlib-undefined,-rpath-link,{}/deep", folder.display());
        compiled(name, source, &[outer.to_str().unwrap(), &needs, more]).unwrap()
    };
    let report = doctor(program("needs/program", "-Wl,-rpath,$ORIGIN"));
    assert_eq!(report["obstacle"], Value::Null);
    assert_eq!(row(&report, "libc.so")["memory"], "libc");
    // The linker notes the paths as they were given to it; what runs is the same.
    let needed = doctor(outer);
    assert_eq!(row(&needed, "libinner.so")["own"][0]["name"], "mimalloc");
    assert_eq!(row(&report, "libinner.so")["memory"], "own");
    fs::rename(&inner, folder.join("deep/gone.so")).unwrap();
    let missing = doctor(folder.join("program"));
    assert_eq!(row(&missing, "libinner.so")["memory"], "unknown");
    assert_eq!(row(&missing, "libinner.so")["file"], Value::Null);

    let own = "#include <stddef.h>\nvoid *malloc(size_t n) { return 0; } int main(void) { return 0; }";
    let own = said(compiled("needs/own", own, &["-rdynamic", "-fno-builtin"]).unwrap());
    assert!(own.contains("cannot serve it: it has a malloc of its own"), "{own}");
    let script = said(script("doctored", "#!/bin/sh\n"));
    assert!(script.contains("a script, which"), "{script}");
}

/// A process that has 64 MiB from `malloc`, each byte of them written, until it is dropped.
struct Held(Child);

impl Held {
    fn start(preload: Option<&Path>) -> Self {
        let source = r#"
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <unistd.h>
            int main(void) {
                for (int i = 0; i < 64; i++) memset(malloc(1 << 20), 1, 1 << 20);
                puts("ready"); fflush(stdout);
                return getchar();
            }"#;
        static MADE: OnceLock<PathBuf> = OnceLock::new();
        let mut command = Command::new(MADE.get_or_init(|| compiled("held", source, &["-fno-builtin"]).unwrap()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env_remove("LD_PRELOAD");
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn number(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_tells_where_its_memory_is() {
    const HELD: u64 = 64 << 20;
    let Some(library) = library() else { return };
    let (with, without) = (Held::start(Some(library)), Held::start(None));
    let bytes = |report: &Value, name: &str| report["memory"][name].as_u64().unwrap();

    let report = doctor(with.number());
    assert_eq!(report["malloc"], library.to_str().unwrap());
    assert_eq!(row(&report, "libtenzor_malloc.so")["memory"], "tenzor");
    assert_eq!(row(&report, "held")["memory"], "reaches");
    let heap = bytes(&report, "heap");
    assert!((HELD..HELD + (8 << 20)).contains(&heap), "{heap}");
    let parts = ["heap", "malloc_heap", "files", "stack", "other"].map(|name| bytes(&report, name));
    assert_eq!(parts.iter().sum::<u64>(), bytes(&report, "resident"));

    let report = doctor(without.number());
    assert!(report["malloc"].as_str().unwrap().contains("libc.so"));
    assert_eq!(bytes(&report, "heap"), 0);
    assert!(bytes(&report, "other") >= HELD);

    assert!(said(with.number()).contains("Its malloc is Tenzor's: "));
    assert!(said(without.number()).contains("Its malloc is the C library's; Tenzor's heap is not there"));

    let none = tenzor().args(["doctor", "4294967295"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    assert_eq!(text(&none.stderr), "process 4294967295: there is none of this number\n");
}
