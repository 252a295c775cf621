use super::*;
use crate::import::testing::{Memory, damage, events, import};
use crate::recording::names::addresses;
use crate::recording::{Recording, What};

const RAW_FILE: &str = "v 10400 3
x 4 ./me
X ./me -c first
t this is no trace
I am no machine

m
I 1000 5e2921
S 7 leak:me
m 1 -
m 1 x 55d8e286c000 0 1a20 2000 5af9
t 7ff09f880b9f 0
t 7ff09f86ab03 1
+ 11c00 2 5560970cd540
+ 8 0 5560970cd548
t 7ff09f86ab07 1
+ 1d8 3 5560970df1e0
c a
R 49a
# remark
+ 78 2 5560970cd540
- 5560970cd548
- 5560970df1e0
- 5560970df1e0
c 9
- 5560970cd540
- 55609";

fn import_raw(raw: &[u8]) -> (Result<Imported, ImportError>, Recording<Memory>) {
    import(|out| heaptrack(raw, Limits::default(), out))
}

fn error(lines: &str) -> String {
    import_raw(format!("v 10400 3\n{lines}").as_bytes()).0.unwrap_err().to_string()
}

#[test]
fn a_raw_file_is_a_recording() {
    let (imported, mut recording) = import_raw(RAW_FILE.as_bytes());
    assert_eq!(imported.unwrap(), Imported { events: 8, left_out: 2 });
    let block = |address, size, align| Block { address, size, align, ..Block::default() };
    let (large, small) = (block(0x5560_970c_d540, 0x11c00, 4), block(0xd560_970c_d540, 8, 3));
    let (third, later) = (block(0x5560_970d_f1e0, 0x1d8, 4), Block { size: 0x78, ..large });
    let expected = [
        (0, Some(2), What::Request(large)),
        (0, None, What::Request(small)),
        (0, Some(3), What::Request(third)),
        (10, None, What::Free(large)),
        (10, Some(2), What::Request(later)),
        (10, None, What::Free(small)),
        (10, None, What::Free(third)),
        (10, None, What::Free(later)),
    ];
    let found: Vec<_> = events(&mut recording).iter().map(|event| (event.tick, event.stack, event.what)).collect();
    assert_eq!(found, expected);
    let stack = |number| recording.name(Kind::Stack, number).map(|name| addresses(name).collect::<Vec<_>>());
    assert_eq!(stack(1), None, "no request has it");
    assert_eq!(stack(2), Some(vec![0x7ff0_9f86_ab03, 0x7ff0_9f88_0b9f]));
    assert_eq!(stack(3), Some(vec![0x7ff0_9f86_ab07, 0x7ff0_9f88_0b9f]));
}

const INTERPRETED: &str = "v 10400 3
X ./me
I 1000 5e2921
s 4 main
i 7ff09f880b9f 1 1
i 7ff09f86ab03 1 1 1 20 1 1 30
t 1 0
t 2 1
t 0 0
a 64 2
a 64 1
+ 0
+ 1
c 5
+ 0
- 1
- 1
+ 0
- 0

# strings: 1
";

#[test]
fn an_interpreted_file_is_a_recording_whose_blocks_have_other_addresses() {
    let (imported, mut recording) = import_raw(INTERPRETED.as_bytes());
    assert_eq!(imported.unwrap(), Imported { events: 6, left_out: 1 });
    let block = |number: u64| Block { address: number << 12, size: 100, align: 4, ..Block::default() };
    let expected = [
        (0, Some(2), What::Request(block(1))),
        (0, Some(1), What::Request(block(2))),
        (5, Some(2), What::Request(block(3))),
        (5, None, What::Free(block(2))),
        (5, Some(2), What::Request(block(2))),
        (5, None, What::Free(block(2))),
    ];
    let found: Vec<_> = events(&mut recording).iter().map(|event| (event.tick, event.stack, event.what)).collect();
    assert_eq!(found, expected);
    let stack = |number| recording.name(Kind::Stack, number).map(|name| addresses(name).collect::<Vec<_>>());
    assert_eq!(stack(2), Some(vec![0x7ff0_9f86_ab03, 0x7ff0_9f88_0b9f]));
    assert_eq!(stack(1), Some(vec![0x7ff0_9f88_0b9f]));
}

#[test]
fn deep_stacks_have_their_innermost_addresses() {
    let mut raw = "v 10400 3\n".to_owned();
    (0..100).for_each(|ip| raw += &format!("t {ip:x} {ip:x}\n"));
    raw += "+ 1 64 10\n";
    let (imported, recording) = import_raw(raw.as_bytes());
    assert_eq!(imported.unwrap().events, 1);
    let stack = recording.name(Kind::Stack, 100).unwrap();
    assert_eq!(addresses(stack).collect::<Vec<_>>(), (36..100).rev().collect::<Vec<_>>());
}

#[test]
fn lines_that_are_not_looked_at_may_be_long() {
    let long = "y".repeat(10_000);
    let raw = format!("v 10400 3\nx {long}\nX {long}\n{long}\n+{long}\nm 1 -\nm 5 {long}\n+ 10 0 10\n# {long}");
    let (imported, _) = import_raw(raw.as_bytes());
    assert_eq!(imported.unwrap(), Imported { events: 1, left_out: 0 });
    let symbols = format!("v 10400 3\ns {long}\ni 4a10 1{}\nt 1 0\na 10 1\n+ 0\n", " 1 1 1".repeat(100));
    let (imported, recording) = import_raw(symbols.as_bytes());
    assert_eq!(imported.unwrap(), Imported { events: 1, left_out: 0 });
    assert_eq!(recording.name(Kind::Stack, 1), Some(&0x4a10_u64.to_le_bytes()[..]));
    let limits = Limits::default().with_max_bytes(35_000);
    let (imported, _) = import(|out| heaptrack(raw.as_bytes(), limits, out));
    assert_eq!(imported.unwrap_err().to_string(), "line 5: expected at most 35000 bytes of input, found more");
}

#[test]
fn errors_tell_the_line_and_the_field() {
    let version = "heaptrack's version and that of its format, v HEX HEX";
    for (raw, expected) in [
        ("", format!("line 1: expected {version}, found an empty file")),
        ("v 10400 3", format!("line 1: expected {version}, found \"v 10400 3\"")),
        ("w 10400 3\n", format!("line 1: expected {version}, found \"w 10400 3\"")),
        ("v 10400\n", "line 1: field 'format': expected a number in hex, found the end of the line".into()),
        ("v 10400 4\n", "line 1: field 'format': expected a version up to 3, found 4".into()),
        ("v10400 3\n", "line 1: field 'heaptrack': expected a number in hex, found \"v10400\"".into()),
    ] {
        assert_eq!(import_raw(raw.as_bytes()).0.unwrap_err().to_string(), expected);
    }
    let address = "field 'address': expected a multiple of 8 below 2^47, or of 16 below 2^48, that is not 0";
    for (lines, expected) in [
        ("+ 1 0\n", "field 'address': expected a number in hex, found the end of the line".into()),
        ("+ x 0 10\n", "field 'size': expected a number in hex, found \"x\"".into()),
        (
            "+ 11112222333344445 0 10\n",
            "field 'size': expected a number below 2^64, found \"11112222333344445\"".into(),
        ),
        ("+ 1 1 10\n", "field 'trace': expected the number of one of 0 't' lines before, found 1".into()),
        ("t 1 1\n", "field 'parent': expected the number of one of 0 't' lines before, found 1".into()),
        ("- 10 2\n", "expected the end of the line, found \"2\"".into()),
        ("-  10\n", "field 'address': expected a number in hex, found \"\"".into()),
        ("- 0\n", format!("{address}, found 0")),
        ("- 14\n", format!("{address}, found 14")),
        ("- 800000000008\n", format!("{address}, found 800000000008")),
        ("+ 1 0 1000000000000\n", format!("{address}, found 1000000000000")),
        ("c 1000000000000\n", "field 'time': expected a time below 2^48, found 281474976710656".into()),
        ("i 1\n", "field 'module': expected a number in hex, found the end of the line".into()),
        ("a 1\n", "field 'trace': expected a number in hex, found the end of the line".into()),
        ("z\n", "expected one of the lines t, +, -, c, s, i, a, x, X, I, m, S, R, A, #, found \"z\"".into()),
    ] {
        assert_eq!(error(lines), format!("line 2: {expected}"));
    }
    for (lines, expected) in [
        ("t 10 0\ns 4 main\n", "expected one of the lines of a raw file, found \"s 4 main\""),
        ("- 10\na 10 0\n", "expected one of the lines of a raw file, found \"a 10 0\""),
        ("s 4 main\nt 1 0\n", "field 'ip': expected the number of one of 0 'i' lines before, found 1"),
        ("a 10 0\n+ 1\n", "field 'info': expected the number of one of 1 'a' lines before, found 1"),
        (
            "a 10 0\n- ffffffffffffffff\n",
            "field 'info': expected the number of one of 1 'a' lines before, found 18446744073709551615",
        ),
        ("a 10 1\n+ 0\n", "field 'trace': expected the number of one of 0 't' lines before, found 1"),
        ("a 10 0\n+ 10 0 10\n", "expected the end of the line, found \"0\""),
    ] {
        assert_eq!(error(lines), format!("line 3: {expected}"));
    }
    let expected = "line 4: expected a line I or m behind the command line, found the end of the file";
    assert_eq!(error("X me\n+ 1 0 10\n"), expected);
    let long = format!("+ {}\n", "1".repeat(300));
    assert!(error(&long).starts_with("line 2: expected a line of at most 256 bytes, found \"+ 111"));
    let limits = Limits::default().with_max_rows(2);
    let limited = |raw: &[u8]| import(|out| heaptrack(raw, limits, out)).0;
    assert!(limited(b"v 1 1\nA\nA\n").is_ok());
    assert_eq!(
        limited(b"v 1 1\nA\nA\nA\n").unwrap_err().to_string(),
        "line 4: expected at most 2 lines after the first, found another"
    );
}

#[test]
fn what_cannot_be_read_is_told() {
    use std::error::Error;
    use std::io::{BufReader, Error as IoError, Read};
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(IoError::other("torn"))
        }
    }
    let input = BufReader::new(b"v 1 1\nA\n".chain(Broken));
    let error = import(|out| heaptrack(input, Limits::default(), out)).0.unwrap_err();
    assert_eq!(error.to_string(), "line 3: expected readable input, found torn");
    assert!(error.source().and_then(Error::source).is_some());
}

#[test]
fn no_damage_panics() {
    damage(RAW_FILE.as_bytes(), import_raw);
    damage(INTERPRETED.as_bytes(), import_raw);
}
