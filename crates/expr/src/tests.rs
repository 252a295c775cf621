//! Random expressions against a naive interpreter that follows each index by itself.
//!
//! An expression's type says what it does, so random ones need a type that can do everything: [`Node`]. Its leaves are small whole numbers
//! and its operations exact, so that results agree to the last bit whatever the order of the additions.

use tenzor_memory::{Allocator, TensorAllocator};

use crate::context::{Block, Context};
use crate::eval::Eval;
use crate::explain::explain;
use crate::expr::Expr;
use crate::ops::*;
use crate::product::MatMul;
use crate::reduce::{Max, Mean, Min, Reduce, Sum};
use crate::shape::{Axes, MAX_RANK, Shape, ShapeError, Strides};
use crate::source::{At, Leaf, LeafReader, Reader, Row, Slice as RowSlice, Source, Tile};
use crate::tensor::{Tensor, View};
use crate::view::{BroadcastTo, Permute, Reshape, Settled, SettledReader, Slice};
use crate::{eval, eval_into};

/// An operation chosen at run time.
#[derive(Clone, Copy, Debug)]
struct Any(u8);

impl UnaryOp<f64> for Any {
    const NAME: &'static str = "any";

    fn apply(self, x: f64) -> f64 {
        match self.0 % 3 {
            0 => Neg.apply(x),
            1 => Relu.apply(x),
            _ => Abs.apply(x),
        }
    }
}

impl BinaryOp<f64> for Any {
    type Output = f64;
    const NAME: &'static str = "any";

    fn apply(self, x: f64, y: f64) -> f64 {
        match self.0 % 5 {
            0 => Add.apply(x, y),
            1 => Sub.apply(x, y),
            2 => Mul.apply(x, y),
            3 => Maximum.apply(x, y),
            _ => Minimum.apply(x, y),
        }
    }

    fn take_over<A: Allocator>(block: impl FnOnce() -> Option<Block<f64, A>>) -> Option<Block<f64, A>> {
        block()
    }

    fn here(here: &[f64]) -> &[f64] {
        here
    }
}

/// A comparison chosen at run time.
#[derive(Clone, Copy, Debug)]
struct AnyComparison(u8);

impl BinaryOp<f64> for AnyComparison {
    type Output = bool;
    const NAME: &'static str = "any";

    fn apply(self, x: f64, y: f64) -> bool {
        match self.0 % 6 {
            0 => Less.apply(x, y),
            1 => LessOrEqual.apply(x, y),
            2 => Greater.apply(x, y),
            3 => GreaterOrEqual.apply(x, y),
            4 => Equal.apply(x, y),
            _ => NotEqual.apply(x, y),
        }
    }
}

/// Any expression.
enum Node<'t> {
    Leaf(View<'t, f64>),
    Scalar(Scalar<f64>),
    Unary(Box<Unary<Any, Self>>),
    Binary(Box<Binary<Any, Self, Self>>),
    Select(Box<Select<Binary<AnyComparison, Self, Self>, Self, Self>>),
    Permute(Box<Permute<Self>>),
    Reshape(Box<Reshape<Self>>),
    Slice(Box<Slice<Self>>),
    BroadcastTo(Box<BroadcastTo<Self>>),
    Sum(Box<Reduce<Sum, Self>>),
    Mean(Box<Reduce<Mean, Self>>),
    Max(Box<Reduce<Max, Self>>),
    Min(Box<Reduce<Min, Self>>),
    MatMul(Box<MatMul<Self, Self>>),
}

type PairSource<'e, A> = Pair<NodeSource<'e, A>, NodeSource<'e, A>>;

type ChooseSource<'e, A> = Choose<Zip<AnyComparison, PairSource<'e, A>>, PairSource<'e, A>>;

enum NodeSource<'e, A: Allocator> {
    Leaf(Leaf<'e, f64, A>),
    Scalar(Scalar<f64>),
    Unary(Box<Unary<Any, Self>>),
    Binary(Box<Zip<Any, PairSource<'e, A>>>),
    Select(Box<ChooseSource<'e, A>>),
    Settled(Box<Settled<Self, Leaf<'e, f64, A>>>),
}

type PairReader<'s> = Pair<NodeReader<'s>, NodeReader<'s>>;

enum NodeReader<'s> {
    Leaf(LeafReader<'s, f64>),
    Scalar(Scalar<f64>),
    Unary(Box<Unary<Any, Self>>),
    Binary(Box<Zip<Any, PairReader<'s>>>),
    Select(Box<Choose<Zip<AnyComparison, PairReader<'s>>, PairReader<'s>>>),
    Settled(Box<SettledReader<'s, Self>>),
}

type PairScratch = (NodeScratch, NodeScratch);

#[derive(Default)]
struct NodeScratch {
    tile: Tile<f64>,
    leaf: Tile<f64>,
    unary: Option<Box<Self>>,
    binary: Option<Box<PairScratch>>,
    select: Option<Box<(PairScratch, PairScratch)>>,
    settled: Option<Box<(Tile<f64>, Self)>>,
}

macro_rules! each_expr {
    ($self:ident, $x:ident => $do:expr) => {
        match $self {
            Node::Leaf(view) => Ok(view.shape()),
            Node::Scalar($x) => $do,
            Node::Unary($x) => $do,
            Node::Binary($x) => $do,
            Node::Select($x) => $do,
            Node::Permute($x) => $do,
            Node::Reshape($x) => $do,
            Node::Slice($x) => $do,
            Node::BroadcastTo($x) => $do,
            Node::Sum($x) => $do,
            Node::Mean($x) => $do,
            Node::Max($x) => $do,
            Node::Min($x) => $do,
            Node::MatMul($x) => $do,
        }
    };
}

impl Expr for Node<'_> {
    type Elem = f64;
    type Source<'e, A: Allocator>
        = NodeSource<'e, A>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, f64>
    where
        Self: 'e;

    fn shape(&self) -> Result<Shape, ShapeError> {
        each_expr!(self, x => x.shape())
    }

    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> NodeSource<'e, A>
    where
        Self: 'e,
    {
        match self {
            Node::Leaf(x) => NodeSource::Leaf(x.prepare(context)),
            Node::Scalar(x) => NodeSource::Scalar(x.prepare(context)),
            Node::Unary(x) => NodeSource::Unary(Box::new(x.prepare(context))),
            Node::Binary(x) => NodeSource::Binary(Box::new(x.prepare(context))),
            Node::Select(x) => NodeSource::Select(Box::new(x.prepare(context))),
            Node::Permute(x) => x.prepare(context),
            Node::Slice(x) => x.prepare(context),
            Node::BroadcastTo(x) => x.prepare(context),
            Node::Reshape(x) => NodeSource::Settled(Box::new(x.prepare(context))),
            Node::Sum(x) => NodeSource::Leaf(x.prepare(context)),
            Node::Mean(x) => NodeSource::Leaf(x.prepare(context)),
            Node::Max(x) => NodeSource::Leaf(x.prepare(context)),
            Node::Min(x) => NodeSource::Leaf(x.prepare(context)),
            Node::MatMul(x) => NodeSource::Leaf(x.prepare(context)),
        }
    }
}

macro_rules! each_source {
    ($self:ident, $unboxed:ident, $x:ident => $do:expr) => {
        match $self {
            Self::Leaf($x) => $do,
            Self::Scalar($x) => $do,
            Self::Unary(boxed) => {
                let $x = boxed.$unboxed();
                $do
            }
            Self::Binary(boxed) => {
                let $x = boxed.$unboxed();
                $do
            }
            Self::Select(boxed) => {
                let $x = boxed.$unboxed();
                $do
            }
            Self::Settled(boxed) => {
                let $x = boxed.$unboxed();
                $do
            }
        }
    };
}

impl<A: Allocator> Source<A> for NodeSource<'_, A> {
    type Item = f64;
    type Reader<'s>
        = NodeReader<'s>
    where
        Self: 's;

    fn reader(&self) -> NodeReader<'_> {
        match self {
            Self::Leaf(x) => NodeReader::Leaf(x.reader()),
            Self::Scalar(x) => NodeReader::Scalar(*x),
            Self::Unary(x) => NodeReader::Unary(Box::new(x.reader())),
            Self::Binary(x) => NodeReader::Binary(Box::new(x.reader())),
            Self::Select(x) => NodeReader::Select(Box::new(x.reader())),
            Self::Settled(x) => NodeReader::Settled(Box::new(x.reader())),
        }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        each_source!(self, as_mut, x => Source::<A>::relayout(x, change));
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Block<f64, A>> {
        each_source!(self, as_mut, x => x.take_over(shape))
    }

    fn is_here(&self) -> bool {
        each_source!(self, as_ref, x => Source::<A>::is_here(x))
    }

    fn leaf(&self) -> Option<LeafReader<'_, f64>> {
        each_source!(self, as_ref, x => Source::<A>::leaf(x))
    }

    fn text(&self) -> String {
        each_source!(self, as_ref, x => Source::<A>::text(x))
    }
}

impl Reader for NodeReader<'_> {
    type Item = f64;
    type Scratch = NodeScratch;
    type Row<'r>
        = RowSlice<'r, f64>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        each_source!(self, as_ref, x => x.all(holds))
    }

    fn reads_here(&self) -> bool {
        each_source!(self, as_ref, x => x.reads_here())
    }

    fn is_sliced(&self, axis: usize) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.is_sliced(axis),
            _ => false,
        }
    }

    /// More than anything, so that also small work is split between threads.
    fn cost(&self) -> usize {
        1 << 20
    }

    fn row<'r>(&'r self, scratch: &'r mut NodeScratch, here: &'r [f64], at: &At, len: usize) -> RowSlice<'r, f64> {
        let NodeScratch { tile, leaf, unary, binary, select, settled } = scratch;
        match self {
            Self::Leaf(x) => x.row(leaf, here, at, len),
            Self::Scalar(x) => tile.fill(len, |_| x.0),
            Self::Unary(x) => {
                let row = x.row(unary.get_or_insert_default(), here, at, len);
                tile.fill(len, |i| row.at(i))
            }
            Self::Binary(x) => {
                let row = x.row(binary.get_or_insert_default(), here, at, len);
                tile.fill(len, |i| row.at(i))
            }
            Self::Select(x) => {
                let row = x.row(select.get_or_insert_default(), here, at, len);
                tile.fill(len, |i| row.at(i))
            }
            Self::Settled(x) => x.row(settled.get_or_insert_default(), here, at, len),
        }
    }
}

/// A value by the book: a shape, and each element where its indices say.
#[derive(Clone, Debug, PartialEq)]
struct Naive {
    shape: Vec<usize>,
    elements: Vec<f64>,
}

impl Naive {
    fn of(shape: &[usize], mut element: impl FnMut(&[usize]) -> f64) -> Self {
        let count = shape.iter().product();
        let elements = (0..count).map(|i| element(&indices(shape, i))).collect();
        Self { shape: shape.to_vec(), elements }
    }

    /// The element at some indices, of which leading ones may be too many, and those along a size of 1 do not matter.
    fn get(&self, at: &[usize]) -> f64 {
        let at = &at[at.len() - self.shape.len()..];
        let linear =
            self.shape.iter().zip(at).fold(0, |linear, (&size, &i)| linear * size + if size == 1 { 0 } else { i });
        self.elements[linear]
    }
}

fn indices(shape: &[usize], mut linear: usize) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (i, &size) in at.iter_mut().zip(shape).rev() {
        *i = linear % size;
        linear /= size;
    }
    at
}

fn stretched(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Makes expressions and, beside each, its value.
struct Maker<'t> {
    random: fastrand::Rng,
    pool: &'t [f64],
}

type Made<'t> = Option<(Node<'t>, Naive)>;

impl<'t> Maker<'t> {
    fn size(&mut self) -> usize {
        let least = usize::from(self.random.u8(..4) > 0);
        [0, 1, 1, 2, 2, 3, 3, 4, 5, 7][self.random.usize(least..10)]
    }

    fn leaf(&mut self, shape: &[usize]) -> (Node<'t>, Naive) {
        let count: usize = shape.iter().product();
        let first = self.random.usize(..self.pool.len() - count);
        let elements = &self.pool[first..first + count];
        let view = View::new(elements, shape).unwrap();
        (Node::Leaf(view), Naive { shape: shape.to_vec(), elements: elements.to_vec() })
    }

    /// Something that goes together with a shape, mostly.
    fn beside(&mut self, shape: &[usize], depth: u32) -> Made<'t> {
        if depth > 0 && self.random.u8(..4) == 0 {
            return self.any(depth - 1);
        }
        if self.random.u8(..6) == 0 {
            let value = f64::from(self.random.i8(-2..3));
            return Some((Node::Scalar(Scalar(value)), Naive { shape: vec![], elements: vec![value] }));
        }
        let from = if self.random.bool() { 0 } else { self.random.usize(..=shape.len()) };
        let mut sizes = shape[from..].to_vec();
        for size in &mut sizes {
            if self.random.u8(..4) == 0 {
                *size = 1;
            }
        }
        let (node, naive) = self.leaf(&sizes);
        if depth > 0 && self.random.bool() { self.reshuffled(node, naive) } else { Some((node, naive)) }
    }

    /// The same shape and elements in the same order, in a block of its own or along other steps.
    fn reshuffled(&mut self, node: Node<'t>, naive: Naive) -> Made<'t> {
        let rank = naive.shape.len();
        let node = match self.random.u8(..3) {
            0 if rank > 0 => {
                // A sum of one element each has a block.
                let shape = Shape::new(&[&naive.shape[..], &[1]].concat()).ok()?;
                let column = Node::Reshape(Box::new(Reshape::new(node, Ok(shape))));
                Node::Sum(Box::new(Reduce::new(column, Axes::from(rank))))
            }
            1 if rank > 1 => {
                let order = [&(1..rank).collect::<Vec<_>>()[..], &[0]].concat();
                let back = [&[rank - 1][..], &(0..rank - 1).collect::<Vec<_>>()].concat();
                let turned = Node::Permute(Box::new(Permute::new(node, &order)));
                Node::Permute(Box::new(Permute::new(turned, &back)))
            }
            _ => Node::Unary(Box::new(Unary { op: Any(0), x: Node::Unary(Box::new(Unary { op: Any(0), x: node })) })),
        };
        Some((node, naive))
    }

    /// An expression and its value; `None` where it was found to have none, as it should be.
    fn any(&mut self, depth: u32) -> Made<'t> {
        if depth == 0 {
            let rank = self.random.usize(..5);
            let shape: Vec<usize> = (0..rank).map(|_| self.size()).collect();
            return Some(self.leaf(&shape));
        }
        let (x, value) = self.any(depth - 1)?;
        if value.elements.len() > 1000 {
            return Some((x, value));
        }
        let shape = value.shape.clone();
        let rank = shape.len();
        let op = Any(self.random.u8(..));
        match self.random.u8(..13) {
            0 => {
                let value = Naive::of(&shape, |at| {
                    let x = value.get(at);
                    match op.0 % 3 {
                        0 => -x,
                        1 if x < 0.0 => 0.0,
                        1 => x,
                        _ => x.abs(),
                    }
                });
                Some((Node::Unary(Box::new(Unary { op, x })), value))
            }
            1..=4 => {
                let (y, other) = self.beside(&shape, depth)?;
                let (x, y, value, other) = if self.random.bool() { (x, y, value, other) } else { (y, x, other, value) };
                let node = Binary::new(op, x, y);
                let naive = stretched(&value.shape, &other.shape).map(|shape| {
                    Naive::of(&shape, |at| {
                        let (x, y) = (value.get(at), other.get(at));
                        match op.0 % 5 {
                            0 => x + y,
                            1 => x - y,
                            2 => x * y,
                            _ if x.is_nan() || y.is_nan() => f64::NAN,
                            3 => x.max(y),
                            _ => x.min(y),
                        }
                    })
                });
                self.settle(Node::Binary(Box::new(node)), naive)
            }
            5 => {
                let (y, other) = self.beside(&shape, depth)?;
                let (yes, yes_value) = self.beside(&shape, depth)?;
                let (no, no_value) = self.beside(&shape, depth)?;
                let node = Select::new(Binary::new(AnyComparison(op.0), x, y), yes, no);
                let naive = stretched(&shape, &other.shape)
                    .and_then(|shape| stretched(&shape, &stretched(&yes_value.shape, &no_value.shape)?))
                    .map(|shape| {
                        let holds = |at: &[usize]| {
                            let (x, y) = (value.get(at), other.get(at));
                            match op.0 % 6 {
                                0 => x < y,
                                1 => x <= y,
                                2 => x > y,
                                3 => x >= y,
                                4 => x == y,
                                _ => x != y,
                            }
                        };
                        Naive::of(&shape, |at| if holds(at) { yes_value.get(at) } else { no_value.get(at) })
                    });
                self.settle(Node::Select(Box::new(node)), naive)
            }
            6 => {
                let mut order: Vec<usize> = (0..rank).collect();
                self.random.shuffle(&mut order);
                let sizes: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
                let naive = Naive::of(&sizes, |at| {
                    let mut from = vec![0; rank];
                    order.iter().zip(at).for_each(|(&axis, &i)| from[axis] = i);
                    value.get(&from)
                });
                Some((Node::Permute(Box::new(Permute::new(x, &order))), naive))
            }
            7 => {
                let sizes = self.refactored(value.elements.len());
                let node = Reshape::new(x, Shape::new(&sizes));
                let naive = Naive { shape: sizes, elements: value.elements };
                Some((Node::Reshape(Box::new(node)), naive))
            }
            8 if rank > 0 => {
                let axis = self.random.usize(..rank);
                let start = self.random.usize(..=shape[axis]);
                let end = self.random.usize(start..=shape[axis]);
                let mut sizes = shape;
                sizes[axis] = end - start;
                let naive = Naive::of(&sizes, |at| {
                    let mut from = at.to_vec();
                    from[axis] += start;
                    value.get(&from)
                });
                Some((Node::Slice(Box::new(Slice::new(x, axis, start..end))), naive))
            }
            9 if rank < MAX_RANK => {
                let mut sizes = [&[self.random.usize(1..4)][..], &shape].concat();
                for size in &mut sizes {
                    if *size == 1 && self.random.bool() {
                        *size = 3;
                    }
                }
                let node = BroadcastTo::new(x, Shape::new(&sizes));
                Some((Node::BroadcastTo(Box::new(node)), Naive::of(&sizes, |at| value.get(at))))
            }
            10 if rank >= 2 => {
                let (k, n) = (shape[rank - 1], self.size());
                let outer = if self.random.bool() { vec![] } else { shape[..rank - 2].to_vec() };
                let (y, other) = self.leaf(&[&outer[..], &[k, n]].concat());
                let (y, other) = self.reshuffled(y, other)?;
                let sizes = [&shape[..rank - 1], &[n]].concat();
                let naive = Naive::of(&sizes, |at| {
                    let (row, column) = (&at[..rank - 1], at[rank - 1]);
                    let product = |i| {
                        let right = [&row[..rank - 2], &[i, column]].concat();
                        value.get(&[row, &[i]].concat()) * other.get(&right)
                    };
                    (0..k).map(product).sum::<f64>() + 0.0
                });
                let node = MatMul::new(Pair { left: x, right: y });
                self.settle(Node::MatMul(Box::new(node)), Some(naive))
            }
            _ => self.reduced(x, &value),
        }
    }

    fn refactored(&mut self, count: usize) -> Vec<usize> {
        let mut sizes = vec![count];
        while sizes.len() < 4 && self.random.bool() {
            let axis = self.random.usize(..sizes.len());
            let factor = [1, 2, 3, 5][self.random.usize(..4)];
            if sizes[axis] % factor == 0 {
                sizes[axis] /= factor;
                sizes.insert(axis, factor);
            }
        }
        sizes
    }

    fn reduced(&mut self, x: Node<'t>, value: &Naive) -> Made<'t> {
        let rank = value.shape.len();
        let axes: Vec<usize> = (0..rank).filter(|_| self.random.bool()).collect();
        let keeps = self.random.bool();
        let kept: Vec<usize> = (0..rank).filter(|axis| !axes.contains(axis)).collect();
        let sizes: Vec<usize> = kept.iter().map(|&axis| value.shape[axis]).collect();
        let within: Vec<usize> = axes.iter().map(|&axis| value.shape[axis]).collect();
        let count: usize = within.iter().product();
        let kind = self.random.u8(..4);
        // Other quotients are not exact.
        let kind = if kind == 1 && !count.is_power_of_two() { 0 } else { kind };
        let mut naive = Naive::of(&sizes, |at| {
            let one = |i: usize| {
                let mut from = vec![0; rank];
                kept.iter().zip(at).for_each(|(&axis, &i)| from[axis] = i);
                axes.iter().zip(indices(&within, i)).for_each(|(&axis, i)| from[axis] = i);
                value.get(&from)
            };
            let values = (0..count).map(one);
            match kind {
                0 => values.sum::<f64>() + 0.0,
                1 => (values.sum::<f64>() + 0.0) / count as f64,
                2 => values.fold(f64::NEG_INFINITY, |x, y| if x.is_nan() || x > y { x } else { y }),
                _ => values.fold(f64::INFINITY, |x, y| if x.is_nan() || x < y { x } else { y }),
            }
        });
        if keeps {
            naive.shape = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { value.shape[axis] }).collect();
        }
        let has_none = kind >= 2 && within.contains(&0);
        let naive = (!has_none).then_some(naive);
        let axes = Axes::from(&axes[..]);
        macro_rules! node {
            ($op:ident) => {{
                let node = Reduce::<$op, _>::new(x, axes);
                Node::$op(Box::new(if keeps { node.keep_dims() } else { node }))
            }};
        }
        let node = match kind {
            0 => node!(Sum),
            1 => node!(Mean),
            2 => node!(Max),
            _ => node!(Min),
        };
        self.settle(node, naive)
    }

    /// An expression has a shape if and only if it has a value.
    fn settle(&mut self, node: Node<'t>, naive: Option<Naive>) -> Made<'t> {
        let Some(naive) = naive else {
            assert!(node.shape().is_err(), "a shape where there is none");
            return None;
        };
        if naive.shape.len() > MAX_RANK {
            assert_eq!(node.shape(), Err(ShapeError::Rank { rank: naive.shape.len() }));
            return None;
        }
        Some((node, naive))
    }
}

fn cases(least: u64) -> u64 {
    std::env::var("TENZOR_TEST_OPS").ok().and_then(|n| n.parse().ok()).unwrap_or(least)
}

#[test]
fn random_expressions_have_the_values_they_should_and_need_what_was_explained() {
    let mut random = fastrand::Rng::with_seed(1);
    let pool: Vec<f64> = (0..10_000).map(|_| f64::from(random.i8(-2..3))).collect();
    let (mut compared, mut refused) = (0_u64, 0_u64);
    for seed in 0..cases(100_000) {
        let mut maker = Maker { random: fastrand::Rng::with_seed(seed), pool: &pool };
        let depth = 1 + maker.random.u32(..5);
        let Some((node, naive)) = maker.any(depth) else {
            refused += 1;
            continue;
        };
        // Beyond, sums are not exact.
        if naive.elements.iter().any(|x| x.abs() > 1e9) || naive.elements.len() > 100_000 {
            continue;
        }
        let shape = node.shape().unwrap();
        assert_eq!(shape[..], naive.shape, "seed {seed}");
        let plan = explain(&node).unwrap();
        let alloc = TensorAllocator::new();
        let result = eval(&node, &alloc).unwrap();
        let is_equal =
            |elements: &[f64]| elements.iter().zip(&naive.elements).all(|(a, b)| a == b || a.is_nan() && b.is_nan());
        assert!(is_equal(result.as_slice()), "seed {seed}:\n{plan}\n{:?}\n{:?}", result.as_slice(), naive.elements);
        let stats = alloc.stats();
        assert_eq!(
            (stats.allocations as usize, stats.peak_bytes_in_use),
            (plan.requests(), plan.peak_bytes),
            "seed {seed}:\n{plan}"
        );
        assert_eq!(stats.bytes_in_use, plan.output_bytes, "seed {seed}");
        drop(result);
        assert_eq!(alloc.stats().bytes_in_use, 0, "seed {seed}");
        let alone = Eval::new(&alloc).sequential().eval(&node).unwrap();
        assert!(is_equal(alone.as_slice()), "seed {seed}");
        let mut into = vec![7.0; shape.elements()];
        eval_into(&node, &mut into).unwrap();
        assert!(is_equal(&into), "seed {seed}");
        compared += 1;
    }
    assert!(compared > 4 * refused, "{compared} compared, {refused} refused");
}

/// A short expression is computed by a way of its own, which another, that differs in nothing but a view, does not go.
#[test]
fn short_expressions_have_the_values_of_others() {
    fn is_short(expr: impl Expr) -> bool {
        expr.as_row(&expr.shape().unwrap()).is_some()
    }

    fn check<E: Expr<Elem: PartialEq> + Copy>(expr: E) {
        let alloc = TensorAllocator::new();
        let general = expr.broadcast_to(expr.shape().unwrap());
        assert!(!is_short(general));
        let value = eval(&expr, &alloc).unwrap();
        assert_eq!(value.as_slice(), eval(&general, &alloc).unwrap().as_slice());
        assert_eq!(value.shape(), expr.shape().unwrap());
        let mut output = vec![E::Elem::default(); value.as_slice().len()];
        eval_into(&expr, &mut output).unwrap();
        assert_eq!(value.as_slice(), output);
        assert_eq!(explain(&expr).unwrap().requests(), usize::from(!output.is_empty()));
    }

    for sizes in [&[][..], &[0], &[1], &[7], &[2, 3], &[3, 0], &[1, 5, 1], &[128, 128], &[128, 129]] {
        let shape = Shape::new(sizes).unwrap();
        let elements =
            |seed: usize| -> Vec<f64> { (0..shape.elements()).map(|i| (i * seed % 13) as f64 - 6.0).collect() };
        let (a, b, c) = (elements(7), elements(11), elements(5));
        let view = |elements| View::new(elements, shape).unwrap();
        let (a, b, c) = (view(&a), view(&b), view(&c));
        assert!(is_short(a * b + c - a / 2.0));
        check(a);
        check(a * b + c - a / 2.0);
        check(2.0 - a.abs().maximum(b).relu());
        check(a.lt(b));
        check(a.lt(b).where_(c * 2.0, 1.0));
    }

    let elements: Vec<f64> = (0..6).map(f64::from).collect();
    let matrix = View::new(&elements, [2, 3]).unwrap();
    let row = Tensor::from_slice_in(&elements[..3], [3], TensorAllocator::new()).unwrap();
    let row = &row;
    let column = View::new(&elements[..2], [2, 1]).unwrap();
    for wrong in
        [is_short(matrix + row), is_short(column + matrix), is_short(column * row), is_short(-matrix.transpose())]
    {
        assert!(!wrong);
    }
    assert!(!is_short(matrix.lt(row).where_(matrix, 0.0)) && !is_short(matrix - matrix.sum(1).keep_dims()));
    check(matrix + row);
    check(column * row);
}

/// An array whose axes were exchanged is in another order than its shape.
#[cfg(feature = "ndarray")]
#[test]
fn short_expressions_read_turned_arrays_in_order() {
    let array = ndarray::array![[1.0, 2.0], [3.0, 4.0]];
    let turned = View::try_from(array.t()).unwrap();
    let mut output = [0.0; 4];
    eval_into(&(turned + 0.0), &mut output).unwrap();
    assert_eq!(output, [1.0, 3.0, 2.0, 4.0]);
}
