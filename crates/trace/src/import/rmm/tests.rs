use super::*;
use crate::import::testing::{Memory, damage, events, import};
use crate::recording::{Recording, What};

const LOG: &str = "Thread,Time,Action,Pointer,Size,Stream
23110,23:59:59.998739,allocate,0x7f141ba00000,1024,0x0
23110,23:59:59.999939,allocate,0x7f141ba00410,100,0x2
0x5a47,23:59:59.999930,free,0x7f141ba00000,1024,0x0
0x5a47,00:00:00:001739,allocate,0x7f141ba00000,0,0x0
23110,00:00:01.000000,allocate failure,(nil),1099511627776,0x0
23110,00:00:01.000000,allocate,0x0,0,0x0
23110,00:00:01.000000,free,(nil),0,0x0
23110,00:00:01.000000,free,0x100,8,0x0
23112,00:00:02.000000,free,0x7f141ba00410,7,stream
";

fn import_log(log: &[u8]) -> (Result<Imported, ImportError>, Recording<Memory>) {
    import(|out| rmm(log, Limits::default(), out))
}

fn error(rows: &str) -> String {
    import_log(format!("{HEADER}\n{rows}").as_bytes()).0.unwrap_err().to_string()
}

#[test]
fn a_log_is_a_recording_in_its_order() {
    let (imported, mut recording) = import_log(LOG.as_bytes());
    assert_eq!(imported.unwrap(), Imported { events: 6, left_out: 3 });
    let large = Block { address: 0x7f14_1ba0_0000, size: 1024, align: 8, ..Block::default() };
    let small = Block { address: 0x7f14_1ba0_0410, size: 100, align: 4, ..Block::default() };
    let refused = Block { address: 0, size: 1 << 40, align: 8, ..Block::default() };
    let expected = [
        (0, 0, What::Request(large)),
        (0, 1, What::Request(small)),
        (1, 1, What::Free(large)),
        (1, 3, What::Request(Block { size: 0, ..large })),
        (0, 1001, What::Refused(refused)),
        (2, 2001, What::Free(small)),
    ];
    let found: Vec<_> = events(&mut recording).iter().map(|event| (event.thread, event.tick, event.what)).collect();
    assert_eq!(found, expected);
    let names: Vec<_> = (0..4).map(|thread| recording.name(Kind::Thread, thread).map(<[u8]>::to_vec)).collect();
    assert_eq!(names, [Some(b"23110".to_vec()), Some(b"0x5a47".to_vec()), Some(b"23112".to_vec()), None]);
}

#[test]
fn what_one_clock_tick_holds_keeps_the_order_of_its_rows() {
    let mut log = HEADER.to_owned() + "\n";
    for row in 0..5000_u64 {
        let action = if row % 10 < 5 { "allocate" } else { "free" };
        let thread = (row * 7) % 11;
        log +=
            &format!("{thread},12:00:00.{:06},{action},{:#x},64,0\n", row / 100, 4096 * (1 + row / 10 * 5 + row % 5));
    }
    let (imported, mut recording) = import_log(log.as_bytes());
    assert_eq!(imported.unwrap(), Imported { events: 5000, left_out: 0 });
    for (row, event) in events(&mut recording).iter().enumerate() {
        let row = row as u64;
        assert_eq!(event.passed, Some((0, row)));
        let is_request =
            matches!(event.what, What::Request(block) if block.address == 4096 * (1 + row / 10 * 5 + row % 5));
        assert_eq!(is_request, row % 10 < 5, "{row}");
    }
}

#[test]
fn a_request_where_a_block_is_frees_that() {
    let rows = "1,00:00:00.000000,allocate,0x100,5,0\n2,00:00:00.000000,allocate,0x100,6,0\n1,00:00:00.000000,free,0x100,6,0\n";
    let (imported, mut recording) = import_log(format!("{HEADER}\n{rows}").as_bytes());
    assert_eq!(imported.unwrap(), Imported { events: 4, left_out: 0 });
    let [five, six] = [5, 6].map(|size| Block { address: 256, size, align: 8, ..Block::default() });
    let found: Vec<_> = events(&mut recording).iter().map(|event| (event.thread, event.what)).collect();
    assert_eq!(found, [(0, What::Request(five)), (1, What::Free(five)), (1, What::Request(six)), (0, What::Free(six))]);
}

#[test]
fn the_time_of_day_goes_on() {
    let minute = 60 * SECOND;
    for (times, ticks) in [
        // Midnight, twice.
        (&[20 * 60 * minute, 10 * 60 * minute, 9 * 60 * minute + 1][..], &[0, 50_400_000, 50_400_000][..]),
        (&[DAY - 1000, 0, DAY - 2000, 5000], &[0, 1, 1, 6]),
        (&[12 * 60 * minute, 9 * 60 * minute, 6 * 60 * minute], &[0, 75_600_000, 151_200_000]),
        // Put back by an hour; out of order by a millisecond.
        (&[180 * minute, 120 * minute, 121 * minute], &[0, 0, 60_000]),
        (&[10_000, 12_000, 11_000, 13_000], &[0, 2, 2, 3]),
    ] {
        let mut clock = Clock::default();
        assert_eq!(times.iter().map(|time| clock.advance(*time)).collect::<Vec<_>>(), ticks, "{times:?}");
    }
    let mut clock = Clock { last: Some(0), elapsed: u64::MAX };
    assert_eq!(clock.advance(60 * minute), u64::MAX / TICK);
    assert_eq!((time(b"23:59:59.999999"), time(b"00:00:01:000002")), (Some(DAY - 1), Some(SECOND + 2)));
}

#[test]
fn errors_tell_the_line_and_the_field() {
    let row = |thread, time, action, pointer, size| error(&format!("{thread},{time},{action},{pointer},{size},0x0\n"));
    let time = "00:00:00.000000";
    for thread in ["", "x", "-1", "0x", "0xg", "18446744073709551616", "0x10000000000000000"] {
        let error = row(thread, time, "free", "0x0", "0");
        assert!(
            error.starts_with("line 2: field 'Thread': expected ") && error.contains(&format!("\"{thread}\"")),
            "{error}"
        );
    }
    for wrong in
        ["", "0:00:00.000000", "24:00:00.000000", "00:60:00.000000", "00:00:60.000000", "00:00:00.00000", "00:00:00"]
    {
        let expected = format!("line 2: field 'Time': expected a time, HH:MM:SS.ffffff, found \"{wrong}\"");
        assert_eq!(row("1", wrong, "free", "0x0", "0"), expected);
    }
    for pointer in ["", "16", "0x", "nil", "0x8", "0x1000000000000", "0xffffffffffffffffff"] {
        let expected = format!(
            "line 2: field 'Pointer': expected a multiple of 16 below 2^48, in hex behind 0x, found \"{pointer}\""
        );
        assert_eq!(row("1", time, "free", pointer, "0"), expected);
    }
    let expected = "line 2: field 'Size': expected an unsigned decimal number, found \"0x1\"";
    assert_eq!(row("1", time, "free", "0x0", "0x1"), expected);
    let expected = "line 2: field 'Action': expected allocate, free or allocate failure, found \"deallocate\"";
    assert_eq!(row("1", time, "deallocate", "0x0", "1"), expected);
    assert!(error("1,2\n").starts_with("line 2: expected 6 fields"));
    for header in ["", "\n", "Thread,Time,Action,Pointer,Size\n", "Time,Thread,Action,Pointer,Size,Stream\n"] {
        let error = import_log(header.as_bytes()).0.unwrap_err().to_string();
        assert!(error.starts_with("line 1: expected Thread,Time,Action,Pointer,Size,Stream, found "), "{error}");
    }
    let short = Limits::default().with_max_rows(1);
    let error = import(|out| rmm(LOG.as_bytes(), short, out)).0.unwrap_err();
    assert_eq!(error.to_string(), "line 3: expected at most 1 rows, found another");
    let rows: String = (0..=MOST_THREADS).map(|thread| format!("{thread},{time},free,0x0,0,0\n")).collect();
    let expected = "line 65538: field 'Thread': expected at most 65536 threads, found \"65536\"";
    assert_eq!(self::error(&rows), expected);
}

#[test]
fn what_cannot_be_written_is_told() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.len() == 64 { Ok(64) } else { Err(std::io::ErrorKind::StorageFull.into()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let header = crate::recording::format::Header { began: 0, process: 0, page: 4096, tick: 1_000_000 };
    let row = "1,00:00:00.000000,allocate,0x100,5,0\n";
    let log = format!("{HEADER}\n{}", row.repeat(2000));
    let error = rmm(log.as_bytes(), Limits::default(), &mut Writer::new(Full, header).unwrap()).unwrap_err();
    assert!(matches!(error, ImportError::Write(_)), "{error}");
}

#[test]
fn no_damage_panics() {
    damage(LOG.as_bytes(), import_log);
}
