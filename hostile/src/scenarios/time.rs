//! Costs that must not grow with what exists. Times are compared within one program, or against malloc, and the least of several counts.

use super::List;
use crate::run::{Context, Outcome, Trouble, hold};

pub fn add(list: &mut List, _: &Context) {
    list.alone("a realloc within a class takes no lock", |context| {
        let ended = context.tenzor("realloc-in-class").good()?;
        let (pairs, reallocs) = (ended.figure("pairs")?, ended.figure("reallocs")?);
        let text = format!("{:.1} times an allocation and its free", reallocs / pairs);
        hold(reallocs <= 2.0 * pairs, || text.clone())?;
        Ok(text)
    });
    list.alone("a request beside 30,000 free ranges", |context| {
        let (few, many) = (context.tenzor("ranges 300").good()?, context.tenzor("ranges 30000").good()?);
        let mut said = String::new();
        for name in ["request", "large"] {
            let (few, many) = (few.figure(name)?, many.figure(name)?);
            said = format!("{said}{name} {many} ns, beside 300 {few} ns; ");
            hold(many <= 2.5 * few + 20.0, || said.clone())?;
        }
        let malloc = context.control("ranges 30000").good()?.figure("request")?;
        let said = format!("{said}on malloc {malloc} ns");
        if many.figure("request")? > 2.5 * malloc { Err(Trouble::Noted(said)) } else { Ok(said) }
    });
    list.alone("alignments up to 2^46 are refused or granted at once", |context| {
        let ended = context.tenzor("alignments").good()?;
        Ok(format!("2^36 in {} µs", ended.figure("shift-36")? / 1e3))
    });
    list.alone("a request while 3 GB are trimmed", long_trim);
}

fn long_trim(context: &Context) -> Outcome {
    // Others may have the machine for a while, too.
    let mut longest = f64::MAX;
    for _ in 0..3 {
        longest = longest.min(context.tenzor("long-trim").good()?.figure("longest")? / 1e6);
        if longest < 10.0 {
            break;
        }
    }
    hold(longest < 10.0, || format!("the longest took {longest:.1} ms"))?;
    Ok(format!("the longest took {longest:.1} ms"))
}
