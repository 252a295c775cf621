use std::alloc::Layout;
use std::ptr::NonNull;
use tenzor_memory::*;

struct FromRc(std::rc::Rc<System>);

unsafe impl Backing for FromRc {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.0.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        unsafe { self.0.give_back(block, layout) };
    }
}

fn main() {
    let backing = std::rc::Rc::new(System);
    let arena = Locked::new(ComputeArena::new_in(FromRc(backing)));
    std::thread::spawn(move || drop(arena));
}
