//! The reader against files as they should be, as they should not be, and as chance makes them.

use std::alloc::Layout;
use std::io;

use super::*;

fn parse(lines: &str) -> Result<Trace, ParseError> {
    Trace::parse(format!("{HEADER}\n{lines}").as_bytes())
}

const SMALL: &str = "a,7,100,8,0,1
m,1,0,0,0,2
a,9,50,4,0,3
z,3,60,16,0,4
r,9,80,4,0,5
f,9,80,4,0,6
a,9,10,1,0,7
m,2,0,0,0,8
f,9,0,0,0,9
m,5,0,0,0,10
f,3,0,0,0,11
";

#[test]
fn facts_are_exact() {
    let trace = parse(SMALL).unwrap();
    assert_eq!((trace.requests(), trace.requests_per_step()), (4, 3));
    assert_eq!((trace.distinct_sizes(), trace.slots()), (3, 3));
    assert_eq!(trace.peak_live_bytes(), 240);
    assert_eq!(trace.setup_live_bytes(), 100);
    let steps: Vec<_> = trace.steps().map(<[Event]>::len).collect();
    assert_eq!(steps, [5, 1]);
    assert_eq!((trace.setup().len(), trace.tail().len()), (1, 1));
}

#[test]
fn a_byte_order_mark_is_no_error() {
    let marked = format!("\u{feff}{HEADER}\n{SMALL}");
    assert_eq!(Trace::parse(marked.as_bytes()).unwrap().requests(), 4);
    assert!(Trace::parse("\u{feff}".as_bytes()).is_err());
}

#[test]
fn slots_are_dense_and_escapes_are_known() {
    let layout = |size, align| Layout::from_size_align(size, align).unwrap();
    let allocate = |slot, layout, zeroed, escapes| Event::Allocate { slot, layout, zeroed, escapes };
    let expected = [
        allocate(0, layout(100, 8), false, true),
        Event::Mark { step: 1 },
        allocate(1, layout(50, 4), false, false),
        allocate(2, layout(60, 16), true, true),
        Event::Resize { slot: 1, layout: layout(80, 4) },
        Event::Free { slot: 1 },
        allocate(1, layout(10, 1), false, true),
        Event::Mark { step: 2 },
        Event::Free { slot: 1 },
        Event::Mark { step: 5 },
        Event::Free { slot: 2 },
    ];
    assert_eq!(parse(SMALL).unwrap().events(), expected);
}

#[test]
fn without_marks_it_is_one_step() {
    let trace = parse("a,1,8,8,0,0\nf,1,8,8,0,0").unwrap();
    let step = trace.steps().next().unwrap();
    assert_eq!((step, trace.steps().len()), (trace.events(), 1));
    assert!(matches!(step[0], Event::Allocate { escapes: false, .. }));
    assert_eq!(parse("").unwrap().steps().len(), 0);
}

#[test]
fn carriage_returns_and_empty_last_lines_are_accepted() {
    let text = format!("{HEADER}\n{SMALL}\n\n").replace('\n', "\r\n");
    let trace = Trace::parse(text.as_bytes()).unwrap();
    assert_eq!(trace.events(), parse(SMALL).unwrap().events());
}

/// Lines (`;` ends each) and the message they get.
const WRONG: &str = r#"
a,1,8,8,0 => line 2: expected 6 fields (op,id,size,align,thread,seq), found 5
a,1,8,8,0,0,0 => line 2: expected 6 fields (op,id,size,align,thread,seq), found 7
a,1,8,8,0,0;;f,1,8,8,0,0 => line 3: expected a row, found an empty line
x,1,8,8,0,0 => line 2: field 'op': expected one of a, z, r, f, m, found "x"
a,-1,8,8,0,0 => line 2: field 'id': expected an unsigned decimal number, found "-1"
a,1,,8,0,0 => line 2: field 'size': expected an unsigned decimal number, found ""
a,1,8,8,NUL,0 => line 2: field 'thread': expected an unsigned decimal number, found "\x00"
a,1,8,8,0,ä => line 2: field 'seq': expected an unsigned decimal number, found "\xc3\xa4"
f,18446744073709551616,0,0,0,0 => line 2: field 'id': expected a number below 2^64, found "18446744073709551616"
a,1,8,12,0,0 => line 2: field 'align': expected a power of two, found "12"
z,1,8,0,0,0 => line 2: field 'align': expected a power of two, found "0"
a,1,MAX,2,0,0 => line 2: field 'size': expected at most MAX when rounded up to the alignment, found "MAX"
a,1,8,8,0,0;r,1,MAX,0,0,0 => line 3: field 'size': expected at most MAX when rounded up to the alignment, found "MAX"
a,1,MAX,1,0,0;a,2,MAX,1,0,0;a,3,MAX,1,0,0 => line 4: field 'size': expected live bytes below 2^64 in sum, found "MAX"
a,1,8,8,0,0;z,1,8,8,0,0 => line 3: field 'id': expected an id that is not live, found "1"
a,1,8,8,0,0;r,2,8,8,0,0 => line 3: field 'id': expected the id of a live buffer, found "2"
a,1,8,8,0,0;f,1,8,8,0,0;f,1,8,8,0,0 => line 4: field 'id': expected the id of a live buffer, found "1"
m,0,0,0,0,0 => line 2: field 'id': expected a step number above 0, found "0"
m,2,0,0,0,0;m,2,0,0,0,0 => line 3: field 'id': expected a step number above 2, found "2"
"#;

#[test]
fn every_error_names_its_place() {
    let cases = WRONG.replace("MAX", &isize::MAX.to_string());
    for case in cases.trim().lines() {
        let (lines, expected) = case.split_once(" => ").unwrap();
        // It takes three sizes of 64 bits.
        if usize::BITS < 64 && expected.contains("2^64") {
            continue;
        }
        let lines = lines.replace(';', "\n").replace("NUL", "\0");
        assert_eq!(parse(&lines).unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_header_is_required() {
    let found = |text: &[u8]| Trace::parse(text).unwrap_err().to_string();
    let expected = format!("line 1: expected the header {HEADER}, found ");
    assert_eq!(found(b""), format!("{expected}an empty file"));
    assert_eq!(found(b"a,1\n"), format!("{expected}\"a,1\""));
    let cut = r"\xff".repeat(40);
    assert_eq!(found(&[0xff; 60]), format!("{expected}\"{cut}…\""));
}

#[test]
fn limits_hold() {
    let text = format!("{HEADER}\n{SMALL}");
    let parse = |max_bytes, max_line_bytes, max_rows| {
        let limits = Limits { max_bytes, max_line_bytes, max_rows };
        Trace::parse_within(text.as_bytes(), limits).map_err(|error| error.to_string())
    };
    let (bytes, line) = (text.len() as u64, HEADER.len());
    assert!(parse(bytes, line, 11).is_ok());
    let events = parse(bytes, line, 10).unwrap_err();
    assert_eq!(events, "line 12: expected at most 10 rows, found another");
    let input = parse(bytes - 1, line, 11).unwrap_err();
    let most = bytes - 1;
    assert!(input.ends_with(&format!("expected at most {most} bytes of input, found more")));
    let line = parse(bytes, line - 1, 11).unwrap_err();
    assert!(line.starts_with("line 1: expected a line of at most 26 bytes"));
    // A line without end is not read to its end.
    assert!(Trace::parse(io::BufReader::new(io::repeat(b'1'))).is_err());
}

#[test]
fn mutations_never_panic() {
    let mut numbers = fastrand::Rng::with_seed(1);
    let mut random = |below| numbers.usize(..below);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut text = format!("{HEADER}\n{SMALL}").into_bytes();
        for _ in 0..=random(3) {
            let at = random(text.len());
            match random(4) {
                0 => text[at] = b"0123456789,azrfm\n\r\0\xff"[random(20)],
                1 => text.truncate(at + 1),
                2 => text.insert(at, b'9'),
                _ => {
                    let digits = &b"18446744073709551615"[random(20)..];
                    text.splice(at..at, digits.iter().copied());
                }
            }
        }
        accepted += usize::from(Trace::parse(text.as_slice()).is_ok());
    }
    assert!((1..20_000).contains(&accepted));
}

#[test]
fn quotes_hold_what_would_end_a_field() {
    let quoted = parse("\"a\",\"1\",8,\"8\",0,0").unwrap();
    assert_eq!(quoted.events(), parse("a,1,8,8,0,0").unwrap().events());
    let open = parse("a,1,8,8,0,\"0").unwrap_err();
    assert_eq!(open.expected(), "quotes that are closed on their line");
    let carriage_return = parse("a,1,8,8,0,0\rf,1,0,0,0,0").unwrap_err();
    assert_eq!(carriage_return.found(), "11");
}

#[test]
fn what_is_written_reads_as_it_was() {
    let trace = parse(SMALL).unwrap();
    let mut written = Vec::new();
    trace.write(&mut written).unwrap();
    let again = Trace::parse(&written[..]).unwrap();
    assert_eq!(again.events(), trace.events());
    assert_eq!((again.setup(), again.tail()), (trace.setup(), trace.tail()));
}
