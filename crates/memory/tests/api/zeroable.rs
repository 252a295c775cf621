//! Structs of every form that may be all zero.

use std::collections::HashMap;
use std::marker::PhantomData;

use tenzor_memory::{TensorAllocator, Zeroable};

/// With attributes and words of all kinds.
#[derive(Clone, Copy, Zeroable)]
#[repr(C)]
pub(crate) struct Named {
    /// The first.
    pub(crate) first: u8,
    #[allow(clippy::type_complexity)]
    pub second: Option<fn(&'static str, [u8; 3]) -> Option<HashMap<u8, u16>>>,
    pub(super) r#type: (f32, f64),
}

#[derive(Zeroable)]
struct Tuple(pub u8, pub(crate) u16, pub (u8, u16), (f32,));

#[derive(Zeroable)]
struct Unit;

#[derive(Zeroable)]
struct Empty {}

#[derive(Debug, Zeroable)]
struct Generic<'a, T: Copy + 'a = f32, F = fn() -> u8, const N: usize = 3>
where
    T: Into<f64>,
    Option<F>: Copy,
{
    values: [T; N],
    function: PhantomData<F>,
    borrowed: PhantomData<&'a T>,
}

#[derive(Zeroable)]
struct TupleWhere<T>(PhantomData<T>, u8)
where
    T: Iterator<Item = u8>;

mod elsewhere {
    pub(super) use tenzor_memory as memory;
}

#[derive(elsewhere::memory::Zeroable)]
#[zeroable(crate = "elsewhere::memory")]
struct Elsewhere(u64);

macro_rules! made {
    ($visibility:vis $name:ident { $($field_visibility:vis $field:ident: $type:ty),* }) => {
        #[derive(Zeroable)]
        $visibility struct $name { $($field_visibility $field: $type),* }
    };
}

made!(pub(crate) Made { pub(crate) a: u8, b: Option<&'static u8> });
made!(Private { a: [u8; 2] });

#[test]
fn structs_are_zeroed() {
    let alloc = TensorAllocator::new();
    let named = alloc.alloc_zeroed::<Named>(10).expect("memory");
    assert_eq!((named[9].first, named[9].second.is_none(), named[9].r#type), (0, true, (0.0, 0.0)));
    let tuple = alloc.alloc_zeroed::<Tuple>(1).expect("memory");
    assert_eq!((tuple[0].0, tuple[0].1, tuple[0].2, tuple[0].3), (0, 0, (0, 0), (0.0,)));
    assert_eq!(alloc.alloc_zeroed::<Unit>(3).expect("no size").len(), 3);
    assert_eq!(alloc.alloc_zeroed::<Empty>(3).expect("no size").len(), 3);
    let generic = alloc.alloc_zeroed::<Generic<'_>>(2).expect("memory");
    assert_eq!((generic[1].values, generic[1].function, generic[1].borrowed), ([0.0; 3], PhantomData, PhantomData));
    assert_eq!(alloc.alloc_zeroed::<Generic<'_, u8, fn(), 7>>(2).expect("memory")[1].values, [0; 7]);
    let tuple = alloc.alloc_zeroed::<TupleWhere<std::vec::IntoIter<u8>>>(1).expect("memory");
    assert_eq!((tuple[0].0, tuple[0].1), (PhantomData, 0));
    assert_eq!(alloc.alloc_zeroed::<Elsewhere>(1).expect("memory")[0].0, 0);
    let made = alloc.alloc_zeroed::<Made>(1).expect("memory");
    assert_eq!((made[0].a, &made[0].b), (0, &None));
    assert_eq!(alloc.alloc_zeroed::<Private>(1).expect("memory")[0].a, [0; 2]);
}
