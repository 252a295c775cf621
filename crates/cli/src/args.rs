//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tenzor::memory::{Bytes, NoBytes, PoolConfig};
use tenzor_report::Percent;

use crate::contender::Task;
use crate::pool_config;

#[derive(Debug, Parser)]
#[command(name = "tenzor", version, about = ABOUT, long_about = LONG_ABOUT)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replay recorded allocations: what each allocator takes in time and memory
    #[command(long_about = REPLAY, after_long_help = REPLAY_JSON)]
    Replay(ReplayTask),
    /// Place buffers with known lifetimes in as little memory as possible
    #[command(long_about = PLAN, after_long_help = PLAN_JSON)]
    Plan(PlanTask),
    /// Compute with expressions: a repeated chain, a perceptron, a transformer's layer
    #[command(long_about = DEMO, after_long_help = DEMO_JSON)]
    Demo {
        /// Print one JSON value in place of text
        #[arg(long)]
        json: bool,
    },
    /// Look into recordings of allocations, and convert them
    #[command(long_about = TRACE, subcommand)]
    Trace(TraceCommand),
    /// Explain a recording: who holds the peak of its memory, or what changed since another
    #[command(long_about = EXPLAIN, after_long_help = EXPLAIN_JSON)]
    Explain(ExplainTask),
    /// Hold a recording to limits, or to what one was before
    #[command(long_about = CHECK, after_long_help = CHECK_JSON)]
    Check(CheckTask),
    /// Run another program over Tenzor's heap, in place of its malloc (Linux)
    #[command(long_about = RUN)]
    Run(RunTask),
    /// Tell what of a program's memory is, or would be, Tenzor's, and what stands in the way (Linux)
    #[command(long_about = DOCTOR, after_long_help = DOCTOR_JSON)]
    Doctor(DoctorTask),
    /// Print a script that completes this program's command line in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print this program's manual page, as troff
    Man,
    /// Let one allocator replay one trace: what the program starts for each row and round
    #[command(hide = true)]
    Contend(Task),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayTask {
    /// Trace files: CSV, plain or compressed by gzip; - is standard input. Without any, three embedded ones
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// How often each allocator replays each trace for its times
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// Print one JSON value in place of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PlanTask {
    /// Problems or traces: CSV, plain or compressed by gzip; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// What every space holds; without it, plans are made as low as possible
    #[arg(long, value_name = "BYTES")]
    pub(crate) capacity: Option<Bytes>,

    /// What one space holds; can be given for several
    #[arg(long = "space", value_name = "SPACE=BYTES", value_parser = space)]
    pub(crate) spaces: Vec<(u32, Bytes)>,

    /// Stop after so long, with the best plan found; 0.5 is half a second
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) deadline: Option<Duration>,

    /// Stop after so much effort, even before the deadline: a unit is 0.1 microseconds for few buffers, and 1 or 2 for many.
    /// Without either, it is 2^27
    #[arg(long, value_name = "N")]
    pub(crate) effort: Option<u64>,

    /// Search along other ways
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Write the offsets as CSV; a folder if there are several files
    #[arg(long, value_name = "OUT")]
    pub(crate) csv: Option<PathBuf>,

    /// Draw the plan: time across, addresses up; a folder if there are several files
    #[arg(long, value_name = "OUT")]
    pub(crate) svg: Option<PathBuf>,

    /// Print one JSON value in place of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TraceCommand {
    /// Tell what is in a recording
    Info {
        /// The recording, plain or compressed by gzip; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Print one JSON value in place of text
        #[arg(long)]
        json: bool,
    },
    /// Write a recording as text, or for flamegraph, pprof or Perfetto; or as a recording what others recorded
    #[command(after_long_help = CONVERT)]
    Convert {
        /// A recording; CSV as 'tenzor replay' takes it; a snapshot of PyTorch's memory; a log of RAPIDS' memory manager; a file of heaptrack's, raw or interpreted. Plain or compressed by gzip;
        /// - is standard input
        #[arg(value_name = "FROM")]
        from: PathBuf,

        /// What is written, as its end tells: .csv, .folded, .pb.gz, .perfetto-trace; otherwise a recording
        #[arg(value_name = "TO")]
        to: PathBuf,
    },
    /// Write a recording anew, compressed
    Pack {
        /// The recording
        #[arg(value_name = "FROM")]
        from: PathBuf,

        /// What is written
        #[arg(value_name = "TO")]
        to: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainTask {
    /// Recordings, plain or compressed by gzip; - is standard input
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) files: Vec<PathBuf>,

    /// Tell what changed since this recording
    #[arg(long, value_name = "OLD")]
    pub(crate) against: Option<PathBuf>,

    /// Print one JSON value in place of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("limit").required(true).multiple(true))]
pub(crate) struct CheckTask {
    /// A recording, or text as 'tenzor replay' takes it; plain or compressed by gzip; - is standard input
    #[arg(value_name = "TRACE")]
    pub(crate) file: PathBuf,

    /// No more bytes in use at once, as they were requested
    #[arg(long, value_name = "BYTES", group = "limit")]
    pub(crate) max_peak: Option<Bytes>,

    /// No more bytes held at once of what is below the allocators
    #[arg(long, value_name = "BYTES", group = "limit")]
    pub(crate) max_reserved: Option<Bytes>,

    /// No more misses in any step after the first
    #[arg(long, value_name = "N", group = "limit")]
    pub(crate) max_misses_per_step: Option<u64>,

    /// No fewer hits, as a share of the steps' requests: 0.9 or 90%
    #[arg(long, value_name = "SHARE", value_parser = share, group = "limit")]
    pub(crate) min_hit_rate: Option<f64>,

    /// No figure much worse than in this file
    #[arg(long, value_name = "BASELINE", group = "limit")]
    pub(crate) against: Option<PathBuf>,

    /// How much worse that may be
    #[arg(long, value_name = "PERCENT", default_value_t = Percent::default(), requires = "against")]
    pub(crate) within: Percent,

    /// Write the baseline anew, if no other limit is broken
    #[arg(long, requires = "against")]
    pub(crate) bless: bool,

    /// Hold what a TensorAllocator of this configuration would do with the recorded requests to the limits: default or adaptive, and settings
    #[arg(long, value_name = "CONFIG", value_parser = pool_config::parse)]
    pub(crate) simulate: Option<PoolConfig>,

    /// Take the counts of a recording that lost events, is damaged or cut off as they are
    #[arg(long)]
    pub(crate) allow_lossy: bool,

    /// What is printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,

    /// Print one JSON value: the same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,

    /// Write a report for JUnit's readers into a file as well
    #[arg(long, value_name = "OUT")]
    pub(crate) junit: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A line for each limit
    Text,
    /// One JSON value
    Json,
    /// A report for JUnit's readers
    Junit,
    /// Annotations of GitHub's workflows
    Github,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunTask {
    /// The library; without it, that of TENZOR_LIBRARY, or one beside this program or in ../lib
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Option<PathBuf>,

    /// Print tables of the memory on standard error when the program ends; of all that it starts as well, set TENZOR_STATS=1
    #[arg(long)]
    pub(crate) stats: bool,

    /// What the program starts has its own malloc again
    #[arg(long)]
    pub(crate) only_this_process: bool,

    /// Refuse the program more than this
    #[arg(long, value_name = "BYTES")]
    pub(crate) limit: Option<Bytes>,

    /// Say what runs and which variables are set, and why
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// The program, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorTask {
    /// A process's number, a program, or a library; ./7 is a file
    #[arg(value_name = "PROGRAM|PID")]
    pub(crate) target: OsString,

    /// Print one JSON value in place of text
    #[arg(long)]
    pub(crate) json: bool,
}

fn space(text: &str) -> Result<(u32, Bytes), String> {
    let (space, capacity) = text.split_once('=').ok_or("expected the form SPACE=BYTES, as 1=65536")?;
    let space = space.parse().map_err(|_| format!("{space} is no number of a space"))?;
    Ok((space, capacity.parse().map_err(|error: NoBytes| format!("{capacity}: {error}"))?))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected a number of seconds".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.parse::<f64>().ok().map(|number| number / whole).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1, or from 0% to 100%".to_owned())
}

const ABOUT: &str = "Shows what allocators take in time and memory, plans memory, and runs programs over Tenzor's heap";

const LONG_ABOUT: &str = "\
Shows what allocators take in time and memory on recorded allocations of real
programs, plans memory for buffers whose lifetimes are known, and runs other
programs over Tenzor's heap.

Numbers of bytes are shown in powers of 1024, and read as digits with K, M, G or T
(or KiB, MiB, GiB, TiB, which are the same) after them, or nothing.";

const DEMO: &str = "\
Computes with expressions, and prints what they need and what the allocator did:
a chain of element-wise operations a thousand times, a perceptron of two layers,
and twelve layers of a transformer's encoder as large as BERT-base's.";

const DEMO_JSON: &str = "\
With --json, an array: of each example its title, and what it printed (text).";

const TRACE: &str = "\
Looks into recordings of allocations, and converts them. A recording has what each
thread requested and freed, in blocks with checksums: what is damaged is told, and
left out; one that ends in the midst of a block is whole up to there.

'tenzor replay' and 'tenzor plan' read recordings as they read text.";

const CHECK: &str = "\
Holds a recording to limits, or to a baseline: what it was before. All figures are
counts, and the same recording always has the same ones:
  peak live      the most bytes in use at an instant, as they were requested
  peak reserved  the most bytes that allocators held from below at an instant
  misses a step  requests for which memory was taken from below, in the step with
                 the most of them; the first step fills the pools, and is left out
  hit rate       the share of the steps' requests that pooled memory served
A step is what lies between two marks, as for 'tenzor replay'. Where a recording
does not tell a figure that is to be held to a limit, that is an error.

With --simulate, the program's requests are served by a TensorAllocator again, in one
thread and without the program, and it is what this does that is held to the limits:
  --simulate default
  --simulate adaptive,classes_per_bucket=4
  --simulate max_pool_size=256M,max_buffers_per_bucket=16,alignment=64,limit=1G
That tells all figures, of text as well.

A baseline is a small text file, meant to be kept with a program's sources. --bless
writes it from the recording, with every figure that this tells; without --bless, no
figure of the file may be worse by more than --within says. That is a part of the
figure, rounded down: of 1000 bytes, 5% allows 1050; of a hit rate of 0.9, 0.855.

Of a recording that lost events, is damaged or cut off, counts are not exact. It is
refused, unless --allow-lossy is given.

The exit status is
  0  if all limits hold, or the baseline was written
  1  if there is trouble: a file that cannot be read, a figure that is not told
  2  if the command line is wrong
  3  if a limit that was named is broken: a hard one
  4  if none of these is, but a figure is worse than the baseline's: a soft one
Whatever is broken is told, all of it.";

const CHECK_JSON: &str = "\
Keys of the JSON object of --json:
  file
  broken                  hard or soft, the worse of what is broken, or null
  checks                  an array, of each limit:
    figure                peak_live_bytes, peak_reserved_bytes, misses_per_step or
                          hit_rate
    strictness            hard or soft
    bound                 the most; of the hit rate, the least
    baseline, within      of a soft one, what the baseline says, and the part that
                          it may be worse (text); else null
    amount                what it is
    holds                 whether that is within the limit
  figures                 what the recording tells:
    peak_live_bytes
    peak_reserved_bytes, misses_per_step, hit_rate
                          null where it does not tell
    steps, hits, misses   how many, in all steps
    tells_misses          whether it tells hits from misses
    lost, out_of_order    events that are missing, or not explained by others
    damaged, is_cut       an array of what is damaged; whether its end is missing
  blessed                 the baseline that was written, or null";

const CONVERT: &str = "\
What TO ends in tells what is written:
  .csv                         text, as 'tenzor replay' takes it
  .folded, .collapsed          collapsed stacks, for flamegraph, inferno and speedscope:
                               what was in use at the peak, in bytes; a thread, its
                               labels, and the frames of its stack, or else the class
                               of the size, as 64 KiB–128 KiB
  .pb.gz, .pprof               a profile for pprof: blocks and bytes at the peak
                               (inuse_objects, inuse_space), and of all requests
                               (alloc_objects, alloc_space)
  .perfetto-trace, .pftrace    a trace for ui.perfetto.dev: bytes in use and reserved,
                               and slices of labels; of many changes, the least, the
                               greatest and the last value of each interval
  anything else                a recording, compressed
Only a recording is written as anything but a recording.";

const EXPLAIN: &str = "\
Explains recordings of allocations, which 'tenzor trace convert' makes of text and
of what PyTorch, RMM or heaptrack recorded.

Without --against, it tells who holds the peak: what is live when the sum of the
requested bytes in use is the greatest, by the labels that the requesting thread
was in (as a/b/c), by stack where there are no labels, by size where there are no
stacks either; then by size class, by age in steps, by thread and by allocator,
where there are several. A block that was resized counts as requested by that.
Where that is less than what one holds, as live is nearly as high at another time,
it tells how much lower the peak of the whole recording would be without it.

Second is the highest instant that is separate from the peak: in between, live
fell by a tenth or more of what this instant is above what was live when the first
step began. To mend what holds the peak, and not what holds this one, gains no
more than it is lower. 'Not in it' is what holds less of it than of the peak.

With --against, it tells what changed since another recording, from the step with
the peak of each: requests in the same order, under the same labels and with the
same size are the same; what lies between such ones is taken for requests whose
size changed. The number before each change is what it adds to the peak: those
of all changes are together what the peak changed.

What of a recording is damaged, cut off or lost is told, and left out.";

const EXPLAIN_JSON: &str = "\
With --json, an array, of each recording:
  name
  bytes, blocks            live at the peak; seconds, step (from 1; 0 is before the
                           first) and event (from 0) tell when that is
  steps
  holders                  each an array of name, bytes and blocks, the sums of
                           which are the peak: labels (innermost), paths, sizes,
                           size_classes, ages, steps, threads, sources, stacks
  by                       path, stack or size: what tells most of them
  gains                    of the first of these, name and bytes: how much lower the
                           peak would be without it
  second                   null, or an instant with its holders; lower_by; not_in_it:
                           what holds less of it than of the peak
  lost, out_of_order       events
  damaged, is_cut          what was left out
With --json and --against, of each: name, against;
  old, new                 peak, steps, all and in_step (requests, bytes, hits,
                           misses), flaws (lost, out_of_order, damaged, is_cut)
  peak_change              bytes
  paths                    of all labels, path and held_change: the sum is peak_change
  causes                   a hundred at most: path; in_step, or from before; old_size
                           and new_size, null where there is no such request;
                           requests; held_change (bytes live at the peak),
                           requested_change (bytes), misses_change
  other_causes, other_held_change";

const RUN: &str = "\
Runs another program over Tenzor's heap, in place of its malloc: on Linux with
glibc, by LD_PRELOAD. The program takes the place of this one: process, signals
and exit status are its own.

It is refused, with the reason, where that cannot work or would have no effect:
for static programs, those that get privileges of their file's (set-uid, set-gid,
capabilities), those with a sanitizer or a malloc of their own, and those for
another machine or C library. Scripts are followed to their interpreter.

What else has to be said to libraries, so that they take their memory from malloc,
is set in the environment, unless it is set already:
  ARROW_DEFAULT_MEMORY_POOL=system    Arrow (pyarrow) brings an allocator
'tenzor doctor' tells of those that cannot be told.

What the program starts runs over the heap as well, unless --only-this-process is
given. A shell's script is run by the shell: then it is the shell that has it, and
what the script starts has not.

The exit status is that of the program; 125 if there is no library, 126 if the
program is refused or cannot be run, 127 if there is none of that name.";

const DOCTOR: &str = "\
Tells what of a program's memory is, or would be, Tenzor's, and what stands in the
way, on Linux.

Of a program or a library (a Python extension, too), it reads the files, that is,
the program and what the loader would load with it; nothing is run. What a program
loads later, as Python does its extensions, is seen in a process of it, or by its
own file. Each library is said to reach Tenzor, as it asks for memory by malloc or
new, or to have an allocator of its own, as its symbols tell. Where these were
removed, messages of such an allocator in it are a hint, and said to be one.

Of a process, it tells also whose malloc it has, and where its resident memory is.
Settings of the system and of the process are told of where they matter.";

const DOCTOR_JSON: &str = "\
Keys of the JSON object of --json:
  target, process       process is its number, or null
  program               the file that runs: of a script, its interpreter
  obstacle              why Tenzor's heap cannot be there, or null
  malloc                of a process: the file whose malloc it has, or null
  libraries             an array, of each file:
    file                null if the loader would not find it
    name, problem       problem is null if it could be read
    memory              tenzor, reaches, own, malloc, libc, nothing or unknown
    imports             whether it calls malloc or new
    own                 allocators of its own: name, evidence (symbols or messages)
    resident_bytes      of a process: of this file
  memory                of a process, or null: bytes that are resident; heap is null
                        where it is not known
    heap, malloc_heap, files, stack, other, resident: the sum of these
    huge, heap_huge     in huge pages, of all and of the heap
  remarks               an array: setting, value, remark";

const REPLAY_JSON: &str = "\
Keys of the JSON object of --json:
  version, rounds
  traces                      an array, of each trace:
    name, description         description is null for a file
    requests                  in the whole trace
    requests_per_step         in the step with the most of them
    distinct_sizes            requested in the steps
    steps
    peak_live_bytes           greatest sum of requested bytes in use
    setup_live_bytes          requested bytes in use when the first step begins
    activation_bytes          peak_live_bytes - setup_live_bytes
    contenders                an array, of each allocator (without ComputeArena
                              if its steps need more memory than there is):
      name                    malloc, TenzorMalloc (on Linux), TensorAllocator,
                              PlannedAllocator or ComputeArena
      step_ns                 time of a step, median
      time_to_malloc          step_ns / malloc's, median of the rounds' ratios
      minor_faults_per_step   median
      peak_reserved_bytes     taken from the layer below
      peak_reserved_to_peak_live
      activation_reserved_to_live
                              the same, setup_live_bytes subtracted from both
      peak_resident_bytes     held by the process, as the system counts it
      peak_resident_to_peak_live
      hit_rate                0 to 1, of the requests in the steps
      rounds                  step_ns and minor_faults_per_step of each round
What does not apply, or cannot be measured on this system, is null.";

const PLAN: &str = "\
Place buffers with known lifetimes in as little memory as possible.

A problem is a CSV file, plain or compressed by gzip, that names its columns:

    id,lower,upper,size

and has a buffer in each further line: alive from lower to upper, excluded. With
a column 'end' in place of 'upper', it is the last instant, included. Columns
that may be added: alignment; offset, where it has to be; gaps, in which it is
idle, as '3-5 8-9'; alias, the number of a group that shares its offset; space.
A trace (see 'tenzor replay --help') is planned as a whole, each event an
instant.

The table tells of each file, and of each space if there are several: the number
of buffers, the lower bound (no plan can be lower), the height of the plan found,
the gap between these, what is known (optimal; feasible; infeasible, and why;
unknown), the time, and the nodes of the exact search. --csv writes the problem
with the offsets; --svg draws a picture. Without --deadline, the same problem
gets the same plan each time.

The exit status is 0 only if every file has a plan within its capacity.";

const PLAN_JSON: &str = "\
With --json, an array; of each file and space: file, space, buffers, lower_bound,
height (bytes), gap (a share), status, reason, seconds, nodes.";

const REPLAY: &str = "\
Replay recorded allocations: what each allocator takes in time and memory.

Without files it replays three embedded traces, recorded from a BERT-base
encoder, a ResNet-50 inference and a training loop, over the process's malloc,
over TenzorMalloc (the process's heap, on Linux), over TensorAllocator, over
PlannedAllocator, and over ComputeArena (which serves the buffers that live
within a step, and malloc the others). Every byte of every buffer is written
when it is taken, as a tensor program does. Each allocator runs in processes of
its own, in turns with the others.

A trace is a CSV file, plain or compressed by gzip. Its first line is

    op,id,size,align,thread,seq

and each further line is one event, in the order in which they happened:

    a,ID,SIZE,ALIGN,…   request of SIZE bytes aligned to ALIGN, a power of two;
                        the buffer is called ID until it is freed
    z,ID,SIZE,ALIGN,…   the same, zeroed
    r,ID,SIZE,…         resize of ID to SIZE bytes
    f,ID,…              free of ID
    m,STEP,…            mark: step STEP begins, and the one before it ends

A line always has all six fields, numbers but for the first. Those that an op
does not need, and thread and seq, may be 0. What comes before the first mark is
set-up (loading weights, warming up) and is not timed. What follows the last mark
is one more step if it requests anything. A trace without marks is one step.
An example:

    op,id,size,align,thread,seq
    a,0,4096,64,0,0
    m,1,0,0,0,0
    a,1,1000,8,0,0
    f,1,0,0,0,0
    m,2,0,0,0,0

All files are checked before any is replayed. What is wrong with one is told as
FILE:LINE: field 'align': expected a power of two, found \"12\"";
