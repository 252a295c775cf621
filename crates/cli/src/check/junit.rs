//! A report as JUnit's readers take it: a test case for each limit.

use super::{Told, remarks};

/// The report: one suite, of a file.
pub(super) fn report(told: &Told) -> String {
    let (tests, failures) = (told.verdict.checks.len(), told.verdict.breaches().count());
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"0\"");
    let file = escaped(&told.file);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"tenzor check\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" time=\"0\">\n  \
         <testsuite name=\"{file}\" {counts}>\n"
    );
    for check in &told.verdict.checks {
        let (figure, strictness) = (check.limit.figure, check.limit.strictness);
        text += &format!("    <testcase classname=\"{file}\" name=\"{figure} ({strictness})\" time=\"0\"");
        if check.holds {
            text += "/>\n";
        } else {
            let message = escaped(&check.to_string());
            text += &format!(">\n      <failure type=\"{strictness}\" message=\"{message}\"/>\n    </testcase>\n");
        }
    }
    let remarks = remarks(told);
    if !remarks.is_empty() {
        text += &format!("    <system-out>{}</system-out>\n", escaped(&remarks.join("\n")));
    }
    text + "  </testsuite>\n</testsuites>\n"
}

/// Text within an element or an attribute, so that it is read as it is. What XML has no way to write is replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\t' | '\n' | '\r' => escaped += &format!("&#{};", u32::from(letter)),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(letter),
        }
    }
    escaped
}

// Helpers of tests are not recognised as tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tenzor_report::{Contract, Figures};

    use super::*;

    fn told(file: &str, contract: Contract) -> Told {
        let mut figures = Figures::default();
        (figures.peak_live_bytes, figures.flaws.out_of_order) = (1000, 3);
        let verdict = contract.check(&figures).unwrap();
        Told { file: file.to_owned(), broken: verdict.broken(), verdict, figures, blessed: None }
    }

    #[test]
    fn another_reader_finds_what_was_meant() {
        let contract = Contract::default().with_max_peak(999).with_max_peak(1000);
        let report = report(&told("a<b>&\"c'\td\ne\r]]>\u{1}\u{ffff}µ.tnz", contract));
        let read = roxmltree::Document::parse(&report).unwrap();
        let suite = read.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
        assert_eq!(suite.attribute("name"), Some("a<b>&\"c'\td\ne\r]]>\u{fffd}\u{fffd}µ.tnz"));
        assert_eq!((suite.attribute("tests"), suite.attribute("failures")), (Some("2"), Some("1")));
        let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
        let failure = cases[0].first_element_child().unwrap();
        assert_eq!(failure.attribute("message"), Some("peak live: 1000 bytes, at most 999 bytes"));
        assert!(!cases[1].has_children());
        let out = suite.last_element_child().unwrap();
        assert_eq!(out.text(), Some("3 events happened without what would explain them"));
    }

    #[test]
    fn every_letter_is_read_as_it_is_or_replaced() {
        let letters: String = ('\0'..'\u{3000}').chain('\u{d7f0}'..'\u{e010}').chain('\u{fff0}'..'\u{10010}').collect();
        let escaped = escaped(&letters);
        for xml in [format!("<a b=\"{escaped}\"/>"), format!("<a>{escaped}</a>")] {
            let read = roxmltree::Document::parse(&xml).unwrap();
            let root = read.root_element();
            let found = root.attribute("b").or(root.text()).unwrap();
            let differ = found.chars().zip(letters.chars()).filter(|(found, letter)| found != letter);
            assert_eq!(found.chars().count(), letters.chars().count());
            assert!(differ.clone().all(|(found, _)| found == '\u{fffd}') && differ.count() == 29 + 2);
        }
    }
}
