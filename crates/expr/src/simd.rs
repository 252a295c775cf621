//! Which vectors the passes use, and how a pass is compiled for each.

use std::io::Write;
use std::sync::OnceLock;

use pulp::{Arch, Simd as Vectors, WithSimd};

/// The vectors of a processor: the levels of x86-64. Processors of other kinds have one level, `Base`.
///
/// Sums, products, quotients and square roots, and all that is made of them, are the same to the last bit at all levels. The elementary
/// functions (`exp`, `ln`, `tanh`, `sigmoid`, `gelu`, `silu`, and with them `softmax`) are the same at `V3` and `V4`, which multiply and add with one rounding, and
/// differ at `Base` within the errors that [`Element`](crate::Element) names.
///
/// ```
/// use tenzor_expr::{Eval, Expr, Simd, View};
/// use tenzor_memory::TensorAllocator;
///
/// let alloc = TensorAllocator::new();
/// let x = View::new(&[0.5_f32, 2.0], [2])?;
/// let (narrow, wide) = (Eval::new(&alloc).simd(Simd::V3).eval(&x.exp())?, Eval::new(&alloc).simd(Simd::V4).eval(&x.exp())?);
/// assert_eq!(narrow.as_slice(), wide.as_slice());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Simd {
    /// What every processor has.
    Base,
    /// 256 bits: AVX2 and fused multiply-add.
    V3,
    /// 512 bits: AVX-512.
    V4,
}

impl Simd {
    /// The widest of this processor.
    pub fn widest() -> Self {
        Level::of(Arch::new()).simd
    }
}

/// A level that this processor has.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    simd: Simd,
    arch: Arch,
}

impl Level {
    /// What the environment variable `TENZOR_SIMD` says, `base`, `v3` or `v4`; without it the widest.
    pub(crate) fn chosen() -> Self {
        static CHOSEN: OnceLock<Level> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            Self::at_most(match std::env::var("TENZOR_SIMD").as_deref() {
                Ok("base") => Simd::Base,
                Ok("v3") => Simd::V3,
                Ok("v4") | Err(_) => Simd::V4,
                Ok(other) => {
                    complain(other);
                    Simd::V4
                }
            })
        })
    }

    /// The widest that is no wider.
    pub(crate) fn at_most(simd: Simd) -> Self {
        let widest = Self::of(Arch::new());
        if widest.simd <= simd {
            return widest;
        }
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if simd == Simd::V3
            && let Some(v3) = pulp::x86::V3::try_new()
        {
            return Self { simd, arch: Arch::V3(v3) };
        }
        Self { simd: Simd::Base, arch: Arch::Scalar }
    }

    /// Whether it has the instructions of AVX2.
    pub(crate) fn has_avx2(self) -> bool {
        self.simd >= Simd::V3
    }

    /// Runs what is compiled for each level.
    #[inline]
    pub(crate) fn dispatch<K: WithSimd>(self, kernel: K) -> K::Output {
        self.arch.dispatch(kernel)
    }

    fn of(arch: Arch) -> Self {
        let simd = match arch {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V3(_) => Simd::V3,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Arch::V4(_) => Simd::V4,
            _ => Simd::Base,
        };
        Self { simd, arch }
    }
}

/// Says, unless the process wants it quiet, that there are no such vectors.
fn complain(name: &str) {
    if std::env::var_os("TENZOR_QUIET").is_none_or(|quiet| quiet != "1") {
        // Where it cannot be said, that is no reason to panic.
        let _ = writeln!(std::io::stderr(), "tenzor: TENZOR_SIMD={name} is none of base, v3 and v4, and was ignored");
    }
}

/// How passes run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    /// Whether large work is split between the threads of rayon's pool.
    pub(crate) parallel: bool,
    pub(crate) level: Level,
}

impl Mode {
    /// On the calling thread, with the vectors that are chosen for the process.
    pub(crate) fn sequential() -> Self {
        Self { parallel: false, level: Level::chosen() }
    }
}

/// A loop to be compiled for several generations of processors. What it calls has to be inlined to be so as well.
pub(crate) trait Kernel {
    type Output;

    /// `FUSED`: whether a product and a sum with one rounding are one instruction.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Runs a kernel with the vectors of a level.
#[inline]
pub(crate) fn vectorised<K: Kernel>(level: Level, kernel: K) -> K::Output {
    struct Dispatched<K>(K);

    impl<K: Kernel> WithSimd for Dispatched<K> {
        type Output = K::Output;

        #[inline(always)]
        fn with_simd<S: Vectors>(self, _: S) -> K::Output {
            // Of what has vectors here, only WebAssembly has no such instruction.
            if S::F32_LANES > 1 && !cfg!(target_family = "wasm") { self.0.run::<true>() } else { self.0.run::<false>() }
        }
    }

    level.dispatch(Dispatched(kernel))
}
