//! Problems and plans as files.

use std::io::ErrorKind;

use fastrand::Rng;
use tenzor_plan::{BufferSpec, Planner, Problem, read_csv, validate, write_csv};

use crate::common::{cases, checked, random};

#[test]
fn csv_says_what_it_means() {
    let csv = "size,id,start,end,gaps,alignment,offset,alias,space\n\
               10,a,0,4,1-1 3-3,4,,,\n\
               20,b,2,9,,,8,,\n\
               30,c,0,0,,,,5,1\n";
    let (problem, ids) = read_csv(csv.as_bytes()).unwrap();
    assert_eq!(ids, ["a", "b", "c"]);
    let expected = [
        BufferSpec::new(10, 0..5).with_gap(1..2).with_gap(3..4).with_alignment(4),
        BufferSpec::new(20, 2..10).with_offset(8),
        BufferSpec::new(30, 0..1).with_alias(5).with_space(1),
    ];
    assert_eq!(problem.buffers(), expected);
    let mut written = Vec::new();
    write_csv(&mut written, &problem, Some(&ids), None).unwrap();
    let text = String::from_utf8(written).unwrap();
    assert_eq!(
        text,
        "id,lower,upper,size,alignment,offset,gaps,alias,space\n\
         a,0,5,10,4,,1-2 3-4,,0\n\
         b,2,10,20,1,8,,,0\n\
         c,0,1,30,1,,,5,1\n"
    );
}

#[test]
fn what_is_written_is_read_again() {
    let mut rng = Rng::with_seed(5);
    let mut refused = 0;
    for case in 0..cases(2000) {
        let problem = random(&mut rng, (case % 7) as u32);
        let plan = checked(&problem);
        let mut ids: Vec<String> = (0..problem.buffers().len()).map(|index| format!("{index} \"é\"\r")).collect();
        let (mut plain, mut placed) = (Vec::new(), Vec::new());
        write_csv(&mut plain, &problem, Some(&ids), None).unwrap();
        write_csv(&mut placed, &problem, None, Some(plan.offsets())).unwrap();
        let (again, names) = read_csv(&plain[..]).unwrap();
        assert_eq!((again.buffers(), &names), (problem.buffers(), &ids));
        let fixed = read_csv(&placed[..]).unwrap().0;
        // A plan is a problem with one solution.
        assert_eq!(checked(&fixed).is_feasible(), plan.is_feasible());
        if plan.is_feasible() {
            assert_eq!(checked(&fixed).offsets(), plan.offsets());
        }
        // What could not be read is not written.
        let Some(id) = rng.choice(ids.iter_mut()) else { continue };
        *id = (0..rng.usize(..3)).map(|_| rng.choice(['0', ',', '\n', '\r', '"', ' ']).unwrap()).collect();
        let mut other = Vec::new();
        match write_csv(&mut other, &problem, Some(&ids), None) {
            Ok(()) => assert_eq!(read_csv(&other[..]).unwrap().1, ids),
            Err(error) => {
                assert!(error.kind() == ErrorKind::InvalidInput && other.is_empty());
                let text = String::from_utf8(plain).unwrap();
                let forced = names.iter().zip(&ids).fold(text, |text, (old, new)| text.replace(old, new));
                assert!(!read_csv(forced.as_bytes()).is_ok_and(|(_, read)| read == ids));
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn ids_and_offsets_are_as_many_as_buffers() {
    let mut problem = Problem::new();
    problem.push(BufferSpec::new(1, 0..1)).unwrap();
    problem.push(BufferSpec::new(1, 0..1)).unwrap();
    let is_written = |ids: Option<&[String]>, offsets: Option<&[u64]>| {
        let mut out = Vec::new();
        let result = write_csv(&mut out, &problem, ids, offsets).map_err(|error| error.kind());
        assert_eq!(result, if out.is_empty() { Err(ErrorKind::InvalidInput) } else { Ok(()) });
        result.is_ok()
    };
    let ids = ["a", "b", "c"].map(String::from);
    for count in 0..=3 {
        assert_eq!(is_written(Some(&ids[..count]), None), count == 2);
        assert_eq!(is_written(None, Some(&[0, 1, 2][..count])), count == 2);
    }
    assert!(!is_written(Some(&["a", "a"].map(String::from)), None));
}

#[test]
fn every_error_of_a_file_names_its_place() {
    for (csv, message) in [
        ("", "line 1: expected a line that names the columns, found an empty file"),
        ("id,lower,upper\n", "line 1: field 'size': expected a column of that name, found none"),
        ("id,lower,upper,end,size\n", "line 1: field 'upper': expected it once, found it twice"),
        ("id,lower,upper,size\na,1,2\n", "line 2: expected 4 fields (id,lower,upper,size), found 3"),
        ("id,lower,upper,size\na,1,x,3\n", "line 2: field 'upper': expected an unsigned decimal number, found \"x\""),
        ("id,lower,upper,size\na,1,-2,3\n", "line 2: field 'upper': expected an unsigned decimal number, found \"-2\""),
        ("id,lower,upper,size\n,1,2,3\n", "line 2: field 'id': expected a name, found \"\""),
        ("id,lower,upper,size\na,1,2,3\na,1,2,3\n", "line 3: field 'id': expected a name of its own, found \"a\""),
        ("id,lower,upper,size\n\na,1,2,3\n", "line 2: expected a row, found an empty line"),
        (
            "id,lower,upper,size\na,3,2,3\n",
            "line 2: expected a possible buffer, found a lifetime that ends at 2, before it starts at 3",
        ),
        ("id,lower,upper,size,gaps\na,1,9,3,2\n", "line 2: field 'gaps': expected windows such as 3-5, found \"2\""),
        (
            "id,lower,end,size\na,1,18446744073709551615,3\n",
            "line 2: field 'upper': expected an end within 64 bits, found 18446744073709551615",
        ),
        (
            "id,lower,upper,size,space\na,1,2,3,4294967296\n",
            "line 2: field 'space': expected a number of 32 bits, found 4294967296",
        ),
    ] {
        assert_eq!(read_csv(csv.as_bytes()).unwrap_err().to_string(), message);
    }
}

#[test]
fn mutated_files_never_panic() {
    let mut rng = Rng::with_seed(6);
    for case in 0..cases(20_000) {
        let mut csv = Vec::new();
        write_csv(&mut csv, &random(&mut rng, (case % 7) as u32), None, None).unwrap();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..csv.len());
            csv[at] = b"0123456789,-\n xae"[rng.usize(..17)];
        }
        if let Ok((problem, _)) = read_csv(&csv[..]) {
            let plan = Planner::new().with_effort(1000).plan(&problem);
            assert!(!plan.is_feasible() || validate(&problem, plan.offsets()).is_ok());
        }
    }
}
