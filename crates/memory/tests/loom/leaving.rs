//! Parcels whose owner leaves while others free what is in them.

use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::cells::model;
use crate::parcel::{Parcel, bits};

/// What went back to the heap of a parcel, as `heap` takes it under its lock.
fn give_pages(parcel: &Parcel, gone: &Mutex<u64>, these: impl FnOnce() -> u64) {
    let mut gone = gone.lock().expect("no panics");
    let these = these();
    let these = these | if parcel.is_abandoned() { parcel.take_noted() } else { 0 };
    assert_eq!(*gone & these, 0, "these went back before");
    *gone |= these;
}

/// An owner that leaves its parcel, while two others free blocks of it.
#[test]
fn what_others_free_while_an_owner_leaves_goes_back_once() {
    model(3, || {
        let shared = Arc::new((Parcel::none(), Mutex::new(0_u64)));
        let parcel = &shared.0;
        parcel.begin(std::ptr::dangling_mut(), 6);
        assert_eq!([(); 2].map(|()| parcel.grant(2)), [Some(0), Some(2)]);
        parcel.has_free();
        let others: Vec<_> = [0, 2]
            .map(|first| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (parcel, gone) = &*shared;
                    // As `shards` does it.
                    let noted = !parcel.is_abandoned() && parcel.note(bits(first, 2));
                    if noted && parcel.is_abandoned() {
                        give_pages(parcel, gone, || 0);
                    } else if !noted {
                        assert!(parcel.note(bits(first, 2)), "it is in use");
                        give_pages(parcel, gone, || 0);
                    }
                })
            })
            .into();
        parcel.collect();
        let first = parcel.grant(2);
        assert!(first.is_some(), "two pages were free");
        if let Some(first) = first {
            parcel.take_back(first, 2);
        }
        parcel.collect();
        give_pages(parcel, &shared.1, || {
            let free = parcel.take_out();
            parcel.abandon();
            free
        });
        for thread in others {
            thread.join().expect("no panics");
        }
        assert_eq!(*shared.1.lock().expect("no panics"), bits(0, 6), "pages were lost");
    });
}

/// An owner that grants, collects, and leaves, while another frees a block of it, and is to be told how large that is: the pages behind it were free when it was
/// granted, and none of them is where a block began.
#[test]
fn the_pages_of_a_block_are_as_many_as_were_granted() {
    model(3, || {
        let parcel = Arc::new(Parcel::none());
        parcel.begin(std::ptr::dangling_mut(), 8);
        assert_eq!(parcel.grant(7), Some(0));
        parcel.take_back(0, 7);
        assert_eq!(parcel.grant(2), Some(0));
        let other = {
            let parcel = parcel.clone();
            thread::spawn(move || {
                assert_eq!(parcel.block(0), Some(2));
                parcel.note(bits(0, 2));
            })
        };
        assert_eq!(parcel.grant(2), Some(2));
        parcel.take_out();
        other.join().expect("no panics");
    });
}
