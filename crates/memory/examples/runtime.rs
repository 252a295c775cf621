//! A small runtime: tensors of any element type in structs, with the allocator behind a pointer; operators as trait objects; tenants with limits; shared memory
//! as a backing; foreign memory taken in, and memory handed out to C.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::error::Error;
use std::ptr::NonNull;
use std::sync::Arc;

use tenzor_memory::allocator_api2::alloc::{AllocError as Unit, Allocator};
use tenzor_memory::{
    AllocError, AllocErrorKind, Backing, Budget, Buffer, ComputeArena, Locked, PoolConfig, Refused, SharedAllocator,
    System, TensorAllocator,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum DType {
    F32,
    I8,
}

impl DType {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::I8 => 1,
        }
    }
}

/// A tensor as runtimes have it: bytes, type, shape; shared.
#[derive(Clone)]
struct Tensor {
    storage: Arc<Buffer<u8, SharedAllocator>>,
    dtype: DType,
    shape: Vec<usize>,
}

impl Tensor {
    fn zeros(dtype: DType, shape: &[usize], alloc: &SharedAllocator) -> Result<Self, AllocError> {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        Ok(Self { storage: Arc::new(Buffer::zeroed_in(bytes, alloc.clone())?), dtype, shape: shape.into() })
    }

    fn as_slice<T: bytemuck::Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&self.storage)
    }

    fn make_mut<T: bytemuck::Pod>(&mut self) -> Option<&mut [T]> {
        Some(bytemuck::cast_slice_mut(Arc::get_mut(&mut self.storage)?))
    }
}

trait Op: Send + Sync {
    fn run(&self, x: &Tensor, alloc: &SharedAllocator) -> Result<Tensor, AllocError>;
}

struct Scale(f32);

impl Op for Scale {
    fn run(&self, x: &Tensor, alloc: &SharedAllocator) -> Result<Tensor, AllocError> {
        let mut y = Tensor::zeros(x.dtype, &x.shape, alloc)?;
        for (y, x) in y.make_mut::<f32>().into_iter().flatten().zip(x.as_slice::<f32>()) {
            *y = x * self.0;
        }
        Ok(y)
    }
}

/// Operators neither know nor care what serves them.
fn run(alloc: &SharedAllocator) -> Result<Tensor, AllocError> {
    let mut x = Tensor::zeros(DType::F32, &[4, 8], alloc)?;
    x.make_mut::<f32>().into_iter().for_each(|x| x.fill(2.0));
    let ops: [Box<dyn Op>; 2] = [Box::new(Scale(2.0)), Box::new(Scale(3.0))];
    ops.iter().try_fold(x, |x, op| op.run(&x, alloc))
}

/// Memory that another process can map.
#[cfg(target_os = "linux")]
struct Memfd;

// SAFETY: each block is a mapping of its own, as large as asked, and aligned to a page.
#[cfg(target_os = "linux")]
unsafe impl Backing for Memfd {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if layout.size() == 0 || layout.align() > 4096 {
            return System.obtain(layout);
        }
        // SAFETY: a new file, and a new mapping of it.
        let block = unsafe {
            let file = libc::memfd_create(c"tensor".as_ptr(), 0);
            if file < 0 {
                return Err(Refused);
            }
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let is_sized = libc::ftruncate(file, layout.size() as libc::off_t) == 0;
            let block = libc::mmap(std::ptr::null_mut(), layout.size(), access, libc::MAP_SHARED, file, 0);
            libc::close(file);
            if is_sized { block } else { libc::MAP_FAILED }
        };
        if block == libc::MAP_FAILED { Err(Refused) } else { NonNull::new(block.cast()).ok_or(Refused) }
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 || layout.align() > 4096 {
            // SAFETY: it came from there.
            return unsafe { System.give_back(block, layout) };
        }
        // SAFETY: it was mapped with this size.
        unsafe { libc::munmap(block.as_ptr().cast(), layout.size()) };
    }
}

/// Memory of somebody else's, with what frees it.
struct Foreign {
    free: unsafe extern "C" fn(*mut libc::c_void),
}

// SAFETY: it grants nothing, and frees what it was put together with.
unsafe impl Allocator for Foreign {
    fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, Unit> {
        Err(Unit)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, _: Layout) {
        // SAFETY: the caller's word.
        unsafe { (self.free)(ptr.as_ptr().cast()) };
    }
}

/// All of it.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let pool = TensorAllocator::new();
    let pooled = SharedAllocator::new(pool.clone());
    let scratch = SharedAllocator::new(Locked::new(ComputeArena::new()));
    for alloc in [&pooled, &scratch] {
        let y = run(alloc)?;
        assert_eq!(y.as_slice::<f32>()[0], 12.0);
        let there = std::thread::spawn(move || y.as_slice::<f32>()[31]).join();
        assert_eq!(there.ok(), Some(12.0));
        assert_eq!(Tensor::zeros(DType::I8, &[3], alloc)?.as_slice::<i8>(), [0; 3]);
    }

    let backings: Vec<Arc<dyn Backing + Send + Sync>> = vec![
        Arc::new(System),
        #[cfg(target_os = "linux")]
        Arc::new(Memfd),
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Arc::new(tenzor_memory::Pages),
    ];
    for backing in backings {
        let alloc = TensorAllocator::with_config_in(PoolConfig::default().with_alignment(4096), backing);
        let buffer = alloc.alloc_zeroed::<u8>(1 << 20)?;
        assert_eq!((buffer.as_ptr().addr() % 4096, buffer.alignment()), (0, 4096));
    }

    // Taken in.
    // SAFETY: so many elements are written; the block is `free`'s, and is given up here.
    let imported: Buffer<f32, SharedAllocator> = unsafe {
        let ptr = NonNull::new(libc::malloc(400).cast::<f32>()).ok_or("no memory")?;
        (0..100).for_each(|i| ptr.add(i).write(i as f32));
        Buffer::from_raw_parts(ptr, 100, 16, SharedAllocator::new(Foreign { free: libc::free }))
    };
    assert_eq!(imported[99], 99.0);

    // Handed out, and back.
    let (ptr, len, alignment, owner) = Buffer::filled_in(10, 1.0_f32, pooled.clone())?.into_raw_parts();
    let context: *mut SharedAllocator = Box::into_raw(Box::new(owner));
    // SAFETY: the parts of just now.
    drop(unsafe { Buffer::from_raw_parts(ptr, len, alignment, *Box::from_raw(context)) });

    // Tenants.
    let host = Budget::new("host", 8 << 20);
    let tenants = ["a", "b", "c", "d"].map(|name| TensorAllocator::new_in(host.within(name, 3 << 20)));
    let held: Vec<_> = tenants.iter().map(|tenant| tenant.alloc_zeroed::<u8>(5 << 19)).collect();
    assert_eq!(held.iter().filter(|held| held.is_ok()).count(), 3);
    for error in held.iter().filter_map(|held| held.as_ref().err()) {
        println!("{error}");
        assert_eq!((error.kind(), error.limit()), (AllocErrorKind::OverLimit, Some(8 << 20)));
    }
    println!("{}", host.usage());
    assert_eq!(pool.stats().bytes_in_use, 0);
    Ok(())
}
