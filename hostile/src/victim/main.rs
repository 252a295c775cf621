//! The programs that things are done to: `victim PROGRAM ARGUMENTS`. Each ends with 0 where all that must hold did hold.

mod block;
mod calls;
mod forks;
mod heap;
mod limits;
mod memory;
mod misuse;
mod pools;
mod threads;
mod time;
mod traffic;

use std::str::FromStr;

use tenzor_hostile::{cannot, wrong};

use traffic::{Amount, Crew, Refusals, Traffic};

/// Before `main`, and before std or anything else of the program's has made a request.
#[used]
// SAFETY: the section holds pointers to functions of this type, which the loader calls once.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        forks::register_early();
        tenzor_hostile::filter::from_environment();
        calls::before_main();
    }
    before_main
};

/// The arguments of the command line, one after the other.
struct Arguments(std::env::Args);

impl Arguments {
    fn word(&mut self) -> String {
        self.0.next().unwrap_or_else(|| wrong!("an argument is missing"))
    }

    fn number<T: FromStr>(&mut self) -> T {
        self.word().parse().unwrap_or_else(|_| wrong!("an argument is no number"))
    }
}

fn main() {
    let mut arguments = Arguments(std::env::args());
    arguments.word();
    let program = arguments.word();
    let rest = &mut arguments;
    match program.as_str() {
        "nothing" => println!("{}", "x".repeat(100)),
        "traffic" => traffic_alone(rest.number(), rest.number(), &rest.word()),
        "patient" => patient(),
        "filtered" => calls::filtered(&rest.word(), rest.number(), &rest.word()),
        "gives-back" => calls::gives_back(&rest.word()),
        "says-once" => calls::says_once(&rest.word()),
        "limited" => limits::limited(&rest.word(), rest.number()),
        "on-the-way" => limits::on_the_way(&rest.word(), rest.number()),
        "hole" => limits::hole(&rest.word()),
        "strangers" => limits::strangers(&rest.word(), &rest.word(), rest.number()),
        "marked" => limits::marked(&rest.word(), rest.number()),
        "locked-pages" => limits::locked_pages(rest.number()),
        "tenths" => limits::tenths(&rest.word(), rest.number()),
        "later" => limits::later(rest.number()),
        "too-much" => limits::too_much(&rest.word()),
        "commit-limit" => limits::commit_limit(),
        "lock-all" => limits::lock_all(&rest.word()),
        "lock-half" => limits::lock_half(rest.number()),
        "map-count" => limits::map_count(),
        "map-share" => limits::map_share(),
        "small-limit" => limits::small_limit(&rest.word()),
        "core" => memory::core(),
        "uncommitted" => memory::uncommitted(&rest.word()),
        "sparse" => memory::sparse(&rest.word(), rest.number()),
        "huge-pages" => memory::huge_pages(),
        "stacks" => threads::stacks(),
        "threads" => threads::many(rest.number()),
        "single" => threads::single(&rest.word()),
        "unshare" => threads::unshare(),
        "idle" => threads::idle(&rest.word()),
        "guest" => threads::guest(),
        "forks" => forks::forks(rest.number(), rest.number()),
        "signal-forks" => forks::in_a_signal(),
        "fork-forks" => forks::forks_of_forks(),
        "pool-forks" => pools::forks(rest.number()),
        "pool-asked" => pools::fork_while_asked(),
        "pool-stats" => pools::fork_with_stock(),
        "pool-fence" => pools::no_fence(),
        "plain-pools" => pools::traffic(),
        "misuse" => misuse::misuse(&rest.word(), &rest.word()),
        "alarms" => misuse::alarms(),
        "realloc-in-class" => time::realloc_in_class(),
        "ranges" => time::ranges(rest.number()),
        "alignments" => time::alignments(),
        "long-trim" => time::long_trim(),
        other => wrong!("no program {other}"),
    }
}

fn refusals(word: &str) -> Refusals {
    if word == "fine" { Refusals::Fine } else { Refusals::None }
}

/// Rounds of traffic, and nothing else: what is done comes from outside.
fn traffic_alone(rounds: usize, crew: usize, word: &str) {
    let (mut traffic, crew) = (Traffic::new(1, Amount::MEDIUM), Crew::new(crew));
    for number in 0..rounds {
        traffic::round(&mut traffic, &crew, number, refusals(word));
    }
    traffic.free();
    crew.end();
    if refusals(word) == Refusals::None {
        heap::consistent();
        heap::trim();
        heap::consistent();
    }
}

/// Rounds until standard input ends; then whatever was done from outside is over, and nothing may be refused any more.
fn patient() {
    let (mut traffic, crew) = (Traffic::new(2, Amount::MUCH), Crew::new(3));
    let mut number = 0;
    println!("ready");
    loop {
        traffic::round(&mut traffic, &crew, number, Refusals::Fine);
        number += 1;
        let mut input = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor is looked at.
        if unsafe { libc::poll(&raw mut input, 1, 0) } == 1 {
            break;
        }
    }
    println!("rounds={number}");
    println!("refused={}", traffic.refused);
    traffic::finish(traffic, crew, number);
}

/// For programs that need Tenzor's own names, in the control.
#[allow(dead_code, reason = "only one of the two builds uses it")]
fn only_with_tenzor() -> ! {
    cannot!("only with Tenzor")
}
