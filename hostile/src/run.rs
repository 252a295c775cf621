//! Programs in processes of their own: started, waited for, ended when they take too long, and looked at afterwards.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tenzor_hostile::sys::{self, Limit};
use tenzor_hostile::{CANNOT, WRONG};

/// Why a scenario did not end well.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// What must hold does not.
    Failed(String),
    /// It cannot be tried on this machine.
    Cannot(String),
    /// It ended in a way that nothing forbids, and that one should know.
    Noted(String),
}

/// How a scenario ended; what it found, where it is worth a word.
pub type Outcome = Result<String, Trouble>;

/// A failure, with its reason.
pub fn failed<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Failed(what.into()))
}

/// Fails unless the condition holds.
pub fn hold(condition: bool, what: impl FnOnce() -> String) -> Result<(), Trouble> {
    if condition { Ok(()) } else { failed(what()) }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Cannot(format!("the runner itself: {error}"))
    }
}

/// Where the programs are, and what is wanted of them.
#[derive(Debug, Clone)]
pub struct Context {
    /// The folder that holds `tenzor` and `malloc`.
    pub target: PathBuf,
    /// A folder for files, which everyone can read.
    pub scratch: PathBuf,
    /// The long form.
    pub long: bool,
    /// Malloc itself is judged, as if it were Tenzor: what fails then is a mistake of the battery's, or asks for more than malloc does.
    pub malloc: bool,
}

impl Context {
    /// One number in the short form, another in the long one.
    pub fn amount(&self, short: usize, long: usize) -> usize {
        if self.long { long } else { short }
    }

    /// A program on Tenzor.
    pub fn tenzor(&self, line: &str) -> Program {
        self.program(if self.malloc { "malloc/release/victim" } else { "tenzor/release/victim" }, line)
    }

    /// A program on Tenzor, built without optimisation and with all checks.
    pub fn debug(&self, line: &str) -> Program {
        self.program(if self.malloc { "malloc/release/victim" } else { "tenzor/debug/victim" }, line)
    }

    /// The same program on the process's malloc.
    pub fn control(&self, line: &str) -> Program {
        self.program("malloc/release/victim", line)
    }

    /// A program of the build's, with the arguments in `line`.
    pub fn program(&self, path: &str, line: &str) -> Program {
        let mut program = Program::new(self.target.join(path), &self.scratch);
        program.line.extend(line.split_whitespace().map(OsString::from));
        program
    }

    /// A name for a file that nobody else uses.
    pub fn file(&self, name: &str) -> PathBuf {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        self.scratch.join(format!("{}-{name}", NUMBER.fetch_add(1, Relaxed)))
    }
}

/// A program to be started.
#[derive(Debug, Clone)]
pub struct Program {
    line: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    limits: Vec<(Limit, u64)>,
    user: Option<u32>,
    seconds: u64,
    scratch: PathBuf,
}

impl Program {
    fn new(path: PathBuf, scratch: &Path) -> Self {
        Program {
            line: vec![path.into()],
            environment: Vec::new(),
            limits: Vec::new(),
            user: None,
            seconds: 60,
            scratch: scratch.to_owned(),
        }
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.line.push(argument.as_ref().to_owned());
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Run by another program, whose words these are.
    pub fn under(mut self, words: &str) -> Self {
        self.line.splice(0..0, words.split_whitespace().map(OsString::from));
        self
    }

    /// A limit that is set before it starts.
    pub fn limit(mut self, which: Limit, bytes: u64) -> Self {
        self.limits.push((which, bytes));
        self
    }

    /// Run by another user.
    pub fn user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// How long it may take.
    pub fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Starts it.
    pub fn start(&self) -> io::Result<Running> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let output = self.scratch.join(format!("output-{number}"));
        let errors = self.scratch.join(format!("errors-{number}"));
        let mut command = Command::new(&self.line[0]);
        command.args(&self.line[1..]).envs(self.environment.iter().map(|(name, value)| (name, value)));
        // The caller's own settings are not part of any scenario.
        for (name, _) in std::env::vars_os() {
            let ours = name.to_str().is_some_and(|name| name.starts_with("TENZOR_") || name.starts_with("HOSTILE_"));
            if ours && !self.environment.iter().any(|(given, _)| *given == name) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::piped()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
        // A group of its own, so that all of it can be ended.
        command.process_group(0);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let limits = self.limits.clone();
        // SAFETY: the closure sets limits and nothing else; it does not allocate.
        unsafe {
            command.pre_exec(move || limits.iter().try_for_each(|&(which, bytes)| sys::limit_for_good(which, bytes)))
        };
        let child = command.spawn()?;
        Ok(Running { child, output, errors, start: Instant::now(), seconds: self.seconds })
    }

    /// Starts it and waits for its end.
    pub fn run(&self) -> Result<Ended, Trouble> {
        match self.start() {
            Ok(running) => Ok(running.wait()?),
            Err(error) => failed(format!("{} does not start: {error}", self.line[0].display())),
        }
    }

    /// Runs it, and its end is a good one.
    pub fn good(&self) -> Result<Ended, Trouble> {
        self.run()?.good()
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: PathBuf,
    errors: PathBuf,
    start: Instant,
    seconds: u64,
}

impl Running {
    /// Its number.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits until it printed `ready`; whether it did.
    pub fn ready(&mut self) -> bool {
        let until = self.start + Duration::from_secs(self.seconds);
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            if self.output().lines().any(|line| line == "ready") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Ends its standard input.
    pub fn close(&mut self) {
        self.child.stdin = None;
    }

    /// Ends it.
    pub fn kill(&mut self) {
        // Its whole group; that it may be gone already is fine.
        let _ = sys::signal(-self.pid(), libc::SIGKILL);
    }

    /// Waits for its end, or ends it when its time is over.
    pub fn wait(mut self) -> io::Result<Ended> {
        let until = self.start + Duration::from_secs(self.seconds);
        let mut hung = false;
        let mut pause = Duration::from_micros(200);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > until && !hung {
                hung = true;
                self.kill();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        };
        let took = self.start.elapsed();
        self.kill();
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let ended = Ended {
            how: match (hung, status.signal(), status.code()) {
                (true, ..) => How::Hung,
                (_, Some(signal), _) => How::Signal(signal),
                (_, _, code) => How::Exit(code.unwrap_or(-1)),
            },
            output: read(&self.output),
            errors: read(&self.errors),
            took,
        };
        let _ = (fs::remove_file(&self.output), fs::remove_file(&self.errors));
        Ok(ended)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Exit(i32),
    Signal(i32),
    Hung,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    pub how: How,
    pub output: String,
    pub errors: String,
    pub took: Duration,
}

impl Ended {
    /// It ended with 0.
    pub fn good(self) -> Result<Self, Trouble> {
        match self.how {
            How::Exit(0) => Ok(self),
            How::Exit(CANNOT) => Err(Trouble::Cannot(self.output.lines().next_back().unwrap_or_default().to_owned())),
            // Where nobody grants memory, the C library and std end the process of their own accord.
            How::Signal(libc::SIGABRT)
                if ["Fatal glibc error", "failed to initiate panic"].iter().any(|why| self.errors.contains(why)) =>
            {
                Err(Trouble::Noted(self.describe()))
            }
            _ => failed(self.describe()),
        }
    }

    /// Whether nothing but haste can explain this failure: no byte was wrong, nothing crashed.
    pub fn may_be_haste(text: &str) -> bool {
        !["signal", "wrong", "exit"].iter().any(|word| text.starts_with(word))
    }

    /// How it ended, in one line.
    pub fn describe(&self) -> String {
        let end = match self.how {
            How::Exit(WRONG) => String::new(),
            How::Exit(code) => format!("exit {code}; "),
            How::Signal(signal) => format!("signal {signal}; "),
            How::Hung => "hung; ".to_owned(),
        };
        let lines: Vec<&str> = self.errors.lines().filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(2)..];
        format!("{end}{}", last.join(" / ")).chars().take(300).collect()
    }

    /// A figure that it printed as `name=number`.
    pub fn figure(&self, name: &str) -> Result<f64, Trouble> {
        let number = self.output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
        number.map_or_else(|| failed(format!("{name} was not printed")), Ok)
    }
}

/// Bytes as MiB, for messages.
pub fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}
