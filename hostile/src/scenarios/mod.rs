//! What is tried, and what must hold: each scenario is a name and what runs and judges it.

mod calls;
mod forks;
mod limits;
mod memory;
mod misuse;
mod plugins;
mod system;
mod threads;
mod time;

use crate::run::{Context, Outcome, Program, Trouble};

/// Beside what else it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Beside any other: nothing is measured but the program's own memory.
    Together,
    /// Alone: it is measured against another.
    Alone,
    /// Alone, last, and only where that is wanted: it changes a setting of the whole machine.
    System,
}

type Body = Box<dyn Fn(&Context) -> Outcome + Send + Sync>;

/// Something to try.
pub struct Scenario {
    pub name: String,
    pub kind: Kind,
    pub body: Body,
}

/// The list that is made.
#[derive(Default)]
struct List(Vec<Scenario>);

impl List {
    fn add(&mut self, name: impl Into<String>, body: impl Fn(&Context) -> Outcome + Send + Sync + 'static) {
        self.kind(Kind::Together, name, body);
    }

    fn alone(&mut self, name: impl Into<String>, body: impl Fn(&Context) -> Outcome + Send + Sync + 'static) {
        self.kind(Kind::Alone, name, body);
    }

    fn kind(
        &mut self,
        kind: Kind,
        name: impl Into<String>,
        body: impl Fn(&Context) -> Outcome + Send + Sync + 'static,
    ) {
        self.0.push(Scenario { name: name.into(), kind, body: Box::new(body) });
    }

    /// A program that ends well by its own judgement, and nothing else is looked at.
    fn good(&mut self, name: impl Into<String>, program: impl Fn(&Context) -> Program + Send + Sync + 'static) {
        self.add(name, move |context| program(context).good().map(|_| String::new()));
    }
}

/// All there is, in the order in which it runs: what changes the machine comes last.
pub fn all(context: &Context) -> Vec<Scenario> {
    let mut list = List::default();
    for part in [
        limits::add,
        calls::add,
        memory::add,
        misuse::add,
        threads::add,
        forks::add,
        plugins::add,
        time::add,
        system::add,
    ] {
        part(&mut list, context);
    }
    list.0.sort_by_key(|scenario| scenario.kind);
    list.0
}

/// A program of the machine's that a scenario needs.
fn needs(tool: &str, package: &str) -> Result<(), Trouble> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&paths).any(|folder| folder.join(tool).exists()) {
        return Ok(());
    }
    Err(Trouble::Cannot(format!("{tool} is not installed (Debian's {package})")))
}

/// Where the program on malloc does not end well either, the surroundings are to blame.
fn control_is_good(control: &Program) -> Result<(), Trouble> {
    match control.good() {
        Err(Trouble::Failed(text)) => Err(Trouble::Cannot(format!("on malloc it does not end well either: {text}"))),
        other => other.map(|_| ()),
    }
}
