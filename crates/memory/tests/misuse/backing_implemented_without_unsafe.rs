use tenzor_memory::*;

struct Null;

impl Backing for Null {
    fn allocate(&self, _: std::alloc::Layout) -> Result<std::ptr::NonNull<u8>, Refused> {
        Err(Refused)
    }

    unsafe fn deallocate(&self, _: std::ptr::NonNull<u8>, _: std::alloc::Layout) {}
}

fn main() {}
