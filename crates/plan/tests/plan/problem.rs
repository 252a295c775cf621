//! What is a problem, and what a trace is as one.

use std::alloc::Layout;

use tenzor_plan::{BufferSpec, Problem, ProblemError, Status};
use tenzor_trace::{Event, Trace};

use crate::common::checked;

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
