use super::super::value::{Value, Word};
use super::{Pickle, read};

const LIMIT: u64 = 1 << 20;

fn error(pickle: &[u8]) -> String {
    read(pickle, LIMIT).unwrap_err().to_string()
}

fn top(pickle: &[u8]) -> Value {
    read(pickle, LIMIT).unwrap().top
}

#[test]
fn numbers_and_texts_are_read_however_they_are_written() {
    let cases: [(&[u8], i64); 14] = [
        (b"K\xff.", 255),
        (b"M\xff\xfe.", 0xfeff),
        (b"J\xff\xff\xff\xff.", -1),
        (b"I-17\n.", -17),
        (b"I7\n.", 7),
        (b"L12L\n.", 12),
        (b"L-9223372036854775808L\n.", i64::MIN),
        (b"\x8a\x00.", 0),
        (b"\x8a\x01\x80.", -128),
        (b"\x8a\x02\x80\x00.", 128),
        (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", i64::MAX),
        (b"\x8b\x03\x00\x00\x00\xff\xff\xff.", -1),
        (b"\x8b\x10\x00\x00\x00\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0.", 5),
        (b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\xffK\x01.", 1),
    ];
    for (pickle, number) in cases {
        assert_eq!(top(pickle), Value::Number(number), "{}", pickle.escape_ascii());
    }
    assert_eq!(top(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00."), Value::Large(u64::MAX));
    assert_eq!(top(b"L9223372036854775808L\n."), Value::Large(1 << 63));
    let addr: [&[u8]; 8] = [
        b"Vaddr\n.",
        b"S'addr'\n.",
        b"S\"addr\"\n.",
        b"U\x04addr.",
        b"T\x04\0\0\0addr.",
        b"X\x04\0\0\0addr.",
        b"\x8c\x04addr.",
        b"\x8d\x04\0\0\0\0\0\0\0addr.",
    ];
    for pickle in addr {
        assert_eq!(top(pickle), Value::Word(Word::Addr), "{}", pickle.escape_ascii());
    }
    let long = [&b"L"[..], &[b'9'; 100], b"L\n."].concat();
    let others: [&[u8]; 16] = [
        &long,
        b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x01.",
        b"L18446744073709551616L\n.",
        b"N.",
        b"\x88.",
        b"\x89.",
        b"I01\n.",
        b"I00\n.",
        b"F1.5\n.",
        b"G\x3f\xf8\0\0\0\0\0\0.",
        b"C\x04addr.",
        b"B\x04\0\0\0addr.",
        b"\x8e\x04\0\0\0\0\0\0\0addr.",
        b"\x96\x04\0\0\0\0\0\0\0addr.",
        b"Vaddress and what is longer than all that is kept of it\n.",
        b"S\n.",
    ];
    for pickle in others {
        assert_eq!(top(pickle), Value::Other, "{}", pickle.escape_ascii());
    }
}

#[test]
fn lists_and_dicts_are_built_as_python_does_it() {
    let list = |pickle: &[u8]| {
        let Pickle { top, heap, .. } = read(pickle, LIMIT).unwrap();
        heap.list(top).map(<[Value]>::to_vec)
    };
    let numbers = |numbers: &[i64]| Some(numbers.iter().map(|number| Value::Number(*number)).collect::<Vec<_>>());
    let cases: [(&[u8], &[i64]); 10] = [
        (b"].", &[]),
        (b").", &[]),
        (b"]K\x01a.", &[1]),
        (b"](K\x01K\x02e.", &[1, 2]),
        (b"(K\x01K\x02l.", &[1, 2]),
        (b"(K\x01K\x02t.", &[1, 2]),
        (b"K\x01\x85.", &[1]),
        (b"K\x01K\x02\x86.", &[1, 2]),
        (b"K\x01K\x02K\x03\x87.", &[1, 2, 3]),
        (b"]K\x01K\x020a(K\x031.", &[1]),
    ];
    for (pickle, expected) in cases {
        assert_eq!(list(pickle), numbers(expected), "{}", pickle.escape_ascii());
    }
    assert_eq!(list(b"K\x07q\x000K\x08\x940h\x00j\x01\0\0\0\x86."), numbers(&[7, 8]));
    assert_eq!(list(b"]\x94K\x01a0h\x00K\x02ah\x00K\x03a."), numbers(&[1, 2, 3]), "by reference");
    let Pickle { top, heap, .. } = read(&b"}(Vaddr\nK\x01Vother\nK\x02Vaddr\nK\x03u."[..], LIMIT).unwrap();
    assert_eq!(heap.dict(top), Some(&[(Word::Addr, Value::Number(3))][..]));
    assert!(read(&b"\x8f(K\x01\x90(K\x02\x91\x86."[..], LIMIT).is_ok(), "sets");
}

#[test]
fn what_would_run_something_is_refused_by_name_and_place() {
    let refused = [
        (b'c', "GLOBAL"),
        (0x93, "STACK_GLOBAL"),
        (b'R', "REDUCE"),
        (b'b', "BUILD"),
        (b'i', "INST"),
        (b'o', "OBJ"),
        (0x81, "NEWOBJ"),
        (0x92, "NEWOBJ_EX"),
        (0x82, "EXT1"),
        (0x83, "EXT2"),
        (0x84, "EXT4"),
        (b'P', "PERSID"),
        (b'Q', "BINPERSID"),
        (0x97, "NEXT_BUFFER"),
        (0x98, "READONLY_BUFFER"),
    ];
    for (opcode, name) in refused {
        let error = error(&[b')', b')', opcode, b'\n', b'\n', b'.']);
        assert!(error.starts_with(&format!("byte 2: {name} loads or calls something")), "{error}");
    }
    assert_eq!(error(b"\xff."), "byte 0: there is no opcode 0xff");
    // Whatever an opcode finds on the stack, it does something, or is an error there.
    for opcode in 0..=u8::MAX {
        for before in ["", "(", "N", "NN", "]", "](", "]N", "}N", "}NN", "}(N", "(N", "N("] {
            let pickle = [before.as_bytes(), &[opcode, 0, 0, 0, 0, 0, 0, 0, 0, b'\n', b'.']].concat();
            drop(read(&pickle[..], LIMIT));
        }
    }
}

#[test]
fn what_cannot_be_done_is_told_with_its_place() {
    let cases: [(&[u8], &str); 17] = [
        (b"", "byte 0: the input ends in the midst of a pickle"),
        (b".", "byte 0: a value is taken from where there is none"),
        (b"N(.", "byte 2: a value is taken from where there is none"),
        (b"N0N00", "byte 4: there is no mark"),
        (b"(N\x86", "byte 2: a value is taken from where there is none"),
        (b"]a", "byte 1: a value is taken from where there is none"),
        (b"NNa", "byte 2: something is appended to what is no list"),
        (b"]NNs", "byte 3: a key is set in what is no dict"),
        (b"}(Nu", "byte 3: a key has no value"),
        (b"](\x90", "byte 2: something is added to what is no set"),
        (b"h\x00", "byte 0: what is referred to is not in the memo"),
        (b"Np3\n", "byte 1: a place in the memo is beyond all that can be in use"),
        (b"Npx\n", "byte 1: a place in the memo is no number"),
        (b"I1x\n", "byte 0: a number is none"),
        (b"\x8b\xff\xff\xff\xff", "byte 0: a length is less than nothing"),
        (b"\x80\x06", "byte 0: the pickle is of a protocol that is not known here"),
        // A claim of 2⁶⁴ - 1 bytes takes none.
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "byte 9: the input ends in the midst of a pickle"),
    ];
    for (pickle, expected) in cases {
        assert_eq!(read(pickle, 2000).unwrap_err().to_string(), expected);
    }
}
