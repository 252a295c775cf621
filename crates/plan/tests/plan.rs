//! The planner against brute force, its judge against planted mistakes, and its files.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::reversed_empty_ranges)]

use std::alloc::Layout;
use std::io::ErrorKind;
use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tenzor_plan::{
    BufferSpec, Plan, Planner, Problem, ProblemError, Proof, SpacePlan, Status, Violation, read_csv, validate,
    write_csv,
};
use tenzor_trace::{Event, Trace};

/// How many cases a test takes where it takes `most` if nothing is said: as `TENZOR_TEST_OPS`, of a million, says.
fn cases(most: u64) -> u64 {
    std::env::var("TENZOR_TEST_OPS")
        .map_or(1_000_000, |ops| ops.parse::<u64>().unwrap())
        .saturating_mul(most)
        .div_ceil(1_000_000)
}

/// When a buffer is in use.
fn uses(spec: &BufferSpec) -> Vec<Range<u64>> {
    let mut uses = Vec::new();
    let mut begin = spec.lifetime.start;
    for gap in &spec.gaps {
        uses.push(begin..gap.start);
        begin = gap.end;
    }
    uses.push(begin..spec.lifetime.end);
    uses
}

fn meet(a: &BufferSpec, b: &BufferSpec) -> bool {
    let together = |a: &Range<u64>, b: &Range<u64>| a.start.max(b.start) < a.end.min(b.end);
    a.size > 0 && b.size > 0 && uses(a).iter().any(|a| uses(b).iter().any(|b| together(a, b)))
}

/// The least height of a space, by trying every order: in that of the offsets of a best placement, each group that is put to the
/// lowest place that is free lands no higher than there.
struct BruteForce<'p> {
    /// Buffers that share an offset.
    groups: Vec<Vec<&'p BufferSpec>>,
    /// Of two groups, the sizes of each two buffers that meet.
    meets: Vec<Vec<Vec<(u64, u64)>>>,
    placed: Vec<Option<u64>>,
    best: u64,
}

impl<'p> BruteForce<'p> {
    fn least_height(problem: &'p Problem, space: u32) -> Option<u64> {
        let mut groups: Vec<Vec<&BufferSpec>> = Vec::new();
        for spec in problem.buffers().iter().filter(|spec| spec.space == space) {
            match groups.iter_mut().find(|group| spec.alias.is_some() && group[0].alias == spec.alias) {
                Some(group) => group.push(spec),
                None => groups.push(vec![spec]),
            }
        }
        let placed = groups.iter().map(|group| group.iter().find_map(|spec| spec.offset)).collect();
        let pairs = |a: &[&BufferSpec], b: &[&BufferSpec]| -> Vec<(u64, u64)> {
            let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
            pairs.filter(|(a, b)| meet(a, b)).map(|(a, b)| (a.size, b.size)).collect()
        };
        let meets = groups.iter().map(|a| groups.iter().map(|b| pairs(a, b)).collect()).collect();
        let mut this = Self { groups, meets, placed, best: u64::MAX };
        for a in 0..this.groups.len() {
            for b in 0..a {
                if let (Some(at), Some(other)) = (this.placed[a], this.placed[b])
                    && this.clash(a, at, b, other)
                {
                    return None;
                }
            }
        }
        let height = (0..this.groups.len()).filter_map(|group| this.top(group)).max().unwrap_or(0);
        this.search(height);
        Some(this.best)
    }

    /// Where the highest buffer of a placed group ends that is ever in use.
    fn top(&self, group: usize) -> Option<u64> {
        let offset = self.placed[group]?;
        let used = |spec: &&&BufferSpec| uses(spec).iter().any(|range| !range.is_empty());
        self.groups[group].iter().filter(used).filter(|spec| spec.size > 0).map(|spec| offset + spec.size).max()
    }

    fn clash(&self, a: usize, at: u64, b: usize, other: u64) -> bool {
        self.meets[a][b].iter().any(|&(size, beside)| at < other + beside && other < at + size)
    }

    fn search(&mut self, height: u64) {
        if height >= self.best {
            return;
        }
        let left: Vec<usize> = (0..self.groups.len()).filter(|&group| self.placed[group].is_none()).collect();
        if left.is_empty() {
            self.best = height;
        }
        for group in left {
            let is_free = |offset: u64| {
                let aligned = self.groups[group].iter().all(|spec| offset.is_multiple_of(spec.alignment));
                let others = (0..self.groups.len()).filter_map(|other| Some((other, self.placed[other]?)));
                aligned && others.into_iter().all(|(other, at)| !self.clash(group, offset, other, at))
            };
            let offset = (0..).find(|&offset| is_free(offset));
            self.placed[group] = offset;
            let top = self.top(group).unwrap_or(0);
            self.search(height.max(top));
            self.placed[group] = None;
        }
    }
}

/// A small random problem of a kind: plain, or with alignments, gaps, fixed offsets, groups, spaces, or all of it.
fn random(rng: &mut Rng, kind: u32) -> Problem {
    let mut problem = Problem::new();
    let has = |feature: u32| kind == 6 || kind == feature;
    for _ in 0..rng.usize(1..=8) {
        let start = rng.u64(..10);
        let mut spec = BufferSpec::new(rng.u64(0..7), start..start + rng.u64(0..6));
        if has(1) {
            spec.alignment = [1, 1, 2, 3, 4][rng.usize(..5)];
        }
        if has(2) && rng.bool() {
            let mut time = spec.lifetime.start;
            while time < spec.lifetime.end && rng.u8(..4) > 0 {
                let gap = rng.u64(time..=spec.lifetime.end);
                time = rng.u64(gap..=spec.lifetime.end);
                spec = spec.with_gap(gap..time);
            }
        }
        if has(3) && rng.u8(..4) == 0 {
            spec.offset = Some(rng.u64(..10) * spec.alignment);
        }
        if has(4) && rng.bool() {
            spec.alias = Some(rng.u32(..3));
        }
        if has(5) {
            spec.space = spec.alias.unwrap_or_else(|| rng.u32(..3)) % 3;
        }
        // What the others do not agree with is left out.
        let _ = problem.push(spec);
    }
    problem
}

fn checked(problem: &Problem) -> Plan {
    let plan = Planner::new().plan(problem);
    if plan.is_feasible() {
        assert_eq!(validate(problem, plan.offsets()), Ok(()), "{problem:?}");
    }
    plan
}

#[test]
fn brute_force_agrees() {
    let mut rng = Rng::with_seed(1);
    let (mut infeasible, mut aligned) = (0, 0);
    for case in 0..cases(10_000) {
        let mut problem = random(&mut rng, (case % 7) as u32);
        for space in 0..problem.spaces() {
            let plan = checked(&problem);
            let result = plan.spaces()[space as usize];
            let Some(least) = BruteForce::least_height(&problem, space) else {
                let Status::Infeasible { proof: Proof::Fixed { .. } } = result.status else {
                    panic!("{result:?}, but fixed buffers overlap in {problem:?}");
                };
                infeasible += 1;
                continue;
            };
            assert_eq!((result.height, result.status), (least, Status::Optimal), "{problem:?}");
            assert_eq!(result.lower_bound, least);
            problem.set_capacity(space, Some(least)).unwrap();
            assert_eq!(checked(&problem).spaces()[space as usize].height, least);
            if least > 0 {
                problem.set_capacity(space, Some(least - 1)).unwrap();
                let SpacePlan { status, lower_bound, .. } = checked(&problem).spaces()[space as usize];
                assert!(matches!(status, Status::Infeasible { .. }), "{status:?} below {least} in {problem:?}");
                assert_eq!(lower_bound, least, "{status:?} {problem:?}");
                aligned += u32::from(matches!(status, Status::Infeasible { proof: Proof::Searched }));
            }
            problem.set_capacity(space, None).unwrap();
        }
    }
    assert!(infeasible > 0 && aligned > 0);
}

/// Only the order of times counts. Those of `random` are so close to each other that they are looked up in a table, and then they are not.
#[test]
fn sparse_times_make_the_same_plan() {
    let mut rng = Rng::with_seed(8);
    for case in 0..cases(2000) {
        let problem = random(&mut rng, (case % 7) as u32);
        let shift = rng.u64(..1 << 60);
        let sparse = |time: u64| 1000 * time + shift;
        let mut other = Problem::new();
        for spec in problem.buffers() {
            let range = |range: &Range<u64>| sparse(range.start)..sparse(range.end);
            let (lifetime, gaps) = (range(&spec.lifetime), spec.gaps.iter().map(range).collect());
            let mut spec = spec.clone();
            (spec.lifetime, spec.gaps) = (lifetime, gaps);
            other.push(spec).unwrap();
        }
        let (plan, other) = (checked(&problem), checked(&other));
        assert_eq!(plan.offsets(), other.offsets(), "{problem:?}");
        for (space, other) in plan.spaces().iter().zip(other.spaces()) {
            let peak_time = if space.height > 0 { sparse(space.peak_time) } else { 0 };
            let mut space = *space;
            space.peak_time = peak_time;
            assert_eq!(space, *other);
        }
    }
}

#[test]
fn the_judge_notices_every_mistake() {
    let mut problem = Problem::new();
    problem.set_capacity(0, Some(100)).unwrap();
    for spec in [
        BufferSpec::new(40, 0..4).with_alignment(8),
        BufferSpec::new(20, 2..6).with_gap(3..5),
        BufferSpec::new(20, 3..5).with_offset(40),
        BufferSpec::new(10, 5..8).with_alias(1),
        BufferSpec::new(10, 5..9).with_alias(1),
        BufferSpec::new(10, 0..9).with_space(1),
    ] {
        problem.push(spec).unwrap();
    }
    let good = [0, 40, 40, 60, 60, 0];
    assert_eq!(validate(&problem, &good), Ok(()));
    let with = |index: usize, offset: u64| {
        let mut offsets = good;
        offsets[index] = offset;
        validate(&problem, &offsets)
    };
    assert_eq!(validate(&problem, &good[1..]), Err(Violation::Count));
    assert_eq!(with(0, 4), Err(Violation::Alignment(0)));
    assert_eq!(with(0, u64::MAX - 7), Err(Violation::Overflow(0)));
    assert_eq!(with(0, 64), Err(Violation::Capacity(0)));
    assert_eq!(with(0, 8), Err(Violation::Overlap(0, 1)));
    assert_eq!(with(1, 21), Err(Violation::Overlap(0, 1)));
    assert_eq!(with(2, 41), Err(Violation::Fixed(2)));
    assert_eq!(with(4, 61), Err(Violation::Alias(3, 4)));
    // Only the buffer's other use, behind its gap, meets the group.
    assert_eq!(with(1, 55), Err(Violation::Overlap(1, 3)));
    assert_eq!(with(5, 40), Ok(()));
}

/// The judge itself against the definition, on placements that are wrong more often than not.
#[test]
fn the_judge_agrees_with_the_definition() {
    let mut rng = Rng::with_seed(2);
    let mut good = 0;
    for case in 0..cases(100_000) {
        let problem = random(&mut rng, (case % 7) as u32);
        let mut offsets: Vec<u64> = Vec::new();
        for spec in problem.buffers() {
            // Most groups share their offset.
            let mut beside = offsets.iter().zip(problem.buffers());
            let other = beside.find(|(_, other)| spec.alias.is_some() && other.alias == spec.alias);
            let shared = other.map(|(&offset, _)| offset).filter(|_| rng.u8(..10) > 0);
            offsets.push(spec.offset.or(shared).unwrap_or_else(|| rng.u64(..12)));
        }
        let buffers = problem.buffers();
        let is_wrong = (0..buffers.len()).any(|a| {
            let (spec, at) = (&buffers[a], offsets[a]);
            !at.is_multiple_of(spec.alignment)
                || (0..a).any(|b| {
                    let (other, beside) = (&buffers[b], offsets[b]);
                    let one_group = spec.alias.is_some() && spec.alias == other.alias;
                    let overlap = at < beside + other.size && beside < at + spec.size;
                    if one_group { at != beside } else { spec.space == other.space && meet(spec, other) && overlap }
                })
        });
        assert_eq!(validate(&problem, &offsets).is_err(), is_wrong, "{problem:?} at {offsets:?}");
        good += u32::from(!is_wrong);
    }
    assert!(good > 0);
}

/// A group of a hundred thousand buffers, all alive together, takes no longer than as many that lie above one another.
#[test]
fn the_judge_takes_large_groups() {
    let count = 100_000;
    let fastest = |is_group: bool| {
        let mut problem = Problem::new();
        for index in 0..count {
            let mut spec = BufferSpec::new(1 + index % 7, index..2 * count - index);
            spec.alias = is_group.then_some(1);
            problem.push(spec).unwrap();
        }
        let offsets: Vec<u64> = (0..count).map(|index| if is_group { 0 } else { 7 * index }).collect();
        let time = |_| {
            let start = Instant::now();
            assert_eq!(validate(&problem, &offsets), Ok(()));
            start.elapsed()
        };
        (0..3).map(time).min().unwrap()
    };
    assert!(fastest(true) < 16 * fastest(false));
}

#[test]
fn impossible_buffers_are_refused() {
    let mut problem = Problem::new();
    let spec = |size| BufferSpec::new(size, 0..5);
    let refused = |problem: &mut Problem, spec: BufferSpec| problem.push(spec).unwrap_err();
    assert_eq!(refused(&mut problem, BufferSpec::new(1, 5..4)), ProblemError::Lifetime(5..4));
    assert_eq!(refused(&mut problem, spec(1).with_gap(2..6)), ProblemError::Gap { gap: 2..6, lifetime: 0..5 });
    let overlapping = spec(1).with_gap(2..4).with_gap(3..5);
    assert_eq!(refused(&mut problem, overlapping), ProblemError::Gap { gap: 3..5, lifetime: 0..5 });
    assert_eq!(
        refused(&mut problem, spec(1).with_alignment(0)),
        ProblemError::Alignment { alignment: 0, offset: None }
    );
    let crooked = spec(1).with_alignment(8).with_offset(4);
    assert_eq!(refused(&mut problem, crooked), ProblemError::Alignment { alignment: 8, offset: Some(4) });
    assert_eq!(refused(&mut problem, spec(1).with_space(1 << 20)), ProblemError::Space(1 << 20));
    assert_eq!(refused(&mut problem, spec(u64::MAX)), ProblemError::TooLarge);
    assert_eq!(refused(&mut problem, spec(1).with_alignment(u64::MAX)), ProblemError::TooLarge);
    problem.push(spec(1 << 61)).unwrap();
    assert_eq!(refused(&mut problem, spec((1 << 61) + 1)), ProblemError::TooLarge);
    problem.push(spec(1).with_alias(7).with_offset(6).with_alignment(3)).unwrap();
    for odd in [spec(1).with_space(1), spec(1).with_offset(3), spec(1).with_alignment(4)] {
        assert_eq!(refused(&mut problem, odd.with_alias(7)), ProblemError::Alias(7));
    }
    assert_eq!(problem.buffers().len(), 2);
    assert_eq!(checked(&problem).height(), (1 << 61) + 7);
}

#[test]
fn nothing_takes_no_room() {
    assert_eq!(checked(&Problem::new()).height(), 0);
    let mut problem = Problem::new();
    problem.push(BufferSpec::new(0, 0..10)).unwrap();
    problem.push(BufferSpec::new(10, 5..5)).unwrap();
    problem.push(BufferSpec::new(10, 5..9).with_gap(5..9)).unwrap();
    let plan = checked(&problem);
    assert_eq!((plan.height(), plan.status()), (0, Status::Optimal));
}

#[test]
fn a_plan_is_the_same_each_time_and_ends_at_its_deadline() {
    let mut rng = Rng::with_seed(3);
    let mut problem = Problem::new();
    for _ in 0..300 {
        let start = rng.u64(..1000);
        problem.push(BufferSpec::new(rng.u64(1..1000), start..start + rng.u64(1..400))).unwrap();
    }
    let planner = Planner::new().with_effort(1 << 20).with_seed(7);
    let plan = planner.plan(&problem);
    assert_eq!(validate(&problem, plan.offsets()), Ok(()));
    assert_eq!(planner.plan(&problem), plan);
    let mut heights = Vec::new();
    let start = Instant::now();
    let deadline = Duration::from_millis(200);
    let endless = Planner::new().with_effort(u64::MAX).with_deadline(deadline);
    let plan = endless.plan_with(&problem, &mut |progress| heights.push((progress.height, progress.lower_bound)));
    assert_eq!(validate(&problem, plan.offsets()), Ok(()));
    // What it takes to notice, and a machine that does something else.
    assert!(plan.status() == Status::Optimal || start.elapsed() < 50 * deadline);
    assert!(heights.is_sorted_by(|a, b| a.0 >= b.0 && a.1 <= b.1) && heights.last().unwrap().0 == plan.height());
}

#[test]
fn an_exceeded_deadline_is_not_called_infeasible() {
    let mut rng = Rng::with_seed(4);
    let mut problem = Problem::new();
    for _ in 0..2000 {
        let start = rng.u64(..1000);
        problem.push(BufferSpec::new(rng.u64(1..1000), start..start + rng.u64(1..400))).unwrap();
    }
    let lower = checked_within(&problem, Duration::ZERO).spaces()[0].lower_bound;
    problem.set_capacity(0, Some(lower)).unwrap();
    let plan = checked_within(&problem, Duration::ZERO);
    let Status::Unknown { bracket: (least, height) } = plan.status() else { panic!("{:?}", plan.status()) };
    assert!(least == lower && height > lower && !plan.is_feasible());
}

/// The same buffers in a thousand spaces do not take a thousand times as long.
#[test]
fn many_spaces_are_planned_as_fast_as_one() {
    let fastest = |spaces: u32| {
        let mut problem = Problem::new();
        for index in 0..50_000 {
            problem.push(BufferSpec::new(64, index..index + 1).with_space(index as u32 % spaces)).unwrap();
        }
        let time = |_| {
            let start = Instant::now();
            assert_eq!(checked(&problem).height(), 64);
            start.elapsed()
        };
        (0..3).map(time).min().unwrap()
    };
    assert!(fastest(1 << 10) < 8 * fastest(1));
}

/// Three spaces with the same buffers, whose alignments leave every search something to do, and one of them.
fn copies() -> (Problem, Problem) {
    let mut rng = Rng::with_seed(7);
    let (mut three, mut one) = (Problem::new(), Problem::new());
    for _ in 0..200 {
        let start = rng.u64(..1000);
        let spec = BufferSpec::new(rng.u64(1..100), start..start + rng.u64(1..400)).with_alignment(rng.u64(1..9));
        one.push(spec.clone()).unwrap();
        for space in 0..3 {
            three.push(spec.clone().with_space(space)).unwrap();
        }
    }
    (three, one)
}

#[test]
fn spaces_share_the_effort() {
    let (three, one) = copies();
    let effort = 200_000;
    let alone = Planner::new().with_effort(effort).plan(&one).spaces()[0];
    assert!(alone.nodes > 0 && alone.status != Status::Optimal);
    let mut told = Vec::new();
    let plan = Planner::new().with_effort(3 * effort).plan_with(&three, &mut |progress| told.push(progress.space));
    assert_eq!(plan.spaces(), [alone; 3]);
    // None waits for a first answer until another one has its last.
    assert_eq!(told[..3], [0, 1, 2]);
}

/// A slow machine needs more time until each has begun its exact search; without turns, only the first one ever does.
#[test]
fn spaces_share_the_time() {
    let problem = copies().0;
    let all_searched = |milliseconds| {
        let plan = Planner::new().with_deadline(Duration::from_millis(milliseconds)).plan(&problem);
        plan.spaces().iter().all(|space| space.nodes > 0)
    };
    assert!([1000, 4000, 16_000].into_iter().any(all_searched));
}

fn checked_within(problem: &Problem, deadline: Duration) -> Plan {
    let plan = Planner::new().with_deadline(deadline).plan(problem);
    let mut unlimited = problem.clone();
    unlimited.set_capacity(0, None).unwrap();
    assert_eq!(validate(&unlimited, plan.offsets()), Ok(()));
    plan
}

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

#[test]
fn a_trace_becomes_a_problem() {
    let csv = "op,id,size,align,thread,seq\n\
               a,1,100,64,0,0\nm,1,0,0,0,0\na,2,50,8,0,0\nr,2,70,0,0,0\nf,2,0,0,0,0\na,3,30,8,0,0\n";
    let problem = Problem::from_trace(&Trace::parse(csv.as_bytes()).unwrap()).unwrap();
    let expected = [
        BufferSpec::new(50, 2..3).with_alignment(8).with_alias(0),
        BufferSpec::new(70, 3..4).with_alignment(8).with_alias(0),
        BufferSpec::new(100, 0..6).with_alignment(64),
        BufferSpec::new(30, 5..6).with_alignment(8),
    ];
    assert_eq!(problem.buffers(), expected);
    assert_eq!(checked(&problem).height(), 104 + 70);
}

#[test]
fn a_slot_that_is_taken_anew_was_free() {
    let allocate = |slot, size| {
        let layout = Layout::from_size_align(size, 1).unwrap();
        Event::Allocate { slot, layout, zeroed: false, escapes: false }
    };
    let problem = Problem::from_events(&[allocate(0, 10), allocate(1, 20), allocate(0, 30), Event::Free { slot: 0 }]);
    let expected = [BufferSpec::new(10, 0..2), BufferSpec::new(30, 2..3), BufferSpec::new(20, 1..4)];
    assert_eq!(problem.unwrap().buffers(), expected);
}

/// The public instances, where they are at hand.
#[test]
fn hard_instances_are_solved() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/planning");
    let Ok(files) = std::fs::read_dir(folder) else { return };
    let mut count = 0;
    for path in files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "csv")) {
        let (mut problem, _) = read_csv(&std::fs::read(&path).unwrap()[..]).unwrap();
        problem.set_capacity(0, Some(1 << 20)).unwrap();
        assert!(checked(&problem).is_feasible(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 6);
}
