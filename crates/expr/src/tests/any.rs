//! An expression whose operations are chosen at run time.

use tenzor_memory::Allocator;

use crate::block::Block;
use crate::context::Context;
use crate::expr::Expr;
use crate::node::Node;
use crate::nodes::binary::Zip;
use crate::nodes::pair::Pair;
use crate::nodes::select::Choose;
use crate::nodes::{Binary, BroadcastTo, MatMul, Permute, Reduce, Reshape, Scalar, Select, Slice, Unary};
use crate::ops::*;
use crate::settled::{Settled, SettledReader};
use crate::shape::{Shape, ShapeError, Strides};
use crate::source::{At, Leaf, LeafReader, Reader, RowSlice, Source, Tile};
use crate::tensor::View;

/// An operation chosen at run time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Any(pub(super) u8);

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
pub(super) struct AnyComparison(pub(super) u8);

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
pub(super) enum AnyNode<'t> {
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

pub(super) type PairSource<'e, A> = Pair<NodeSource<'e, A>, NodeSource<'e, A>>;

pub(super) type ChooseSource<'e, A> = Choose<Zip<AnyComparison, PairSource<'e, A>>, PairSource<'e, A>>;

pub(super) enum NodeSource<'e, A: Allocator> {
    Leaf(Leaf<'e, f64, A>),
    Scalar(Scalar<f64>),
    Unary(Box<Unary<Any, Self>>),
    Binary(Box<Zip<Any, PairSource<'e, A>>>),
    Select(Box<ChooseSource<'e, A>>),
    Settled(Box<Settled<Self, Leaf<'e, f64, A>>>),
}

pub(super) type PairReader<'s> = Pair<NodeReader<'s>, NodeReader<'s>>;

pub(super) enum NodeReader<'s> {
    Leaf(LeafReader<'s, f64>),
    Scalar(Scalar<f64>),
    Unary(Box<Unary<Any, Self>>),
    Binary(Box<Zip<Any, PairReader<'s>>>),
    Select(Box<Choose<Zip<AnyComparison, PairReader<'s>>, PairReader<'s>>>),
    Settled(Box<SettledReader<'s, Self>>),
}

pub(super) type PairScratch = (NodeScratch, NodeScratch);

#[derive(Default)]
pub(super) struct NodeScratch {
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
            AnyNode::Leaf(view) => Ok(view.shape()),
            AnyNode::Scalar($x) => $do,
            AnyNode::Unary($x) => $do,
            AnyNode::Binary($x) => $do,
            AnyNode::Select($x) => $do,
            AnyNode::Permute($x) => $do,
            AnyNode::Reshape($x) => $do,
            AnyNode::Slice($x) => $do,
            AnyNode::BroadcastTo($x) => $do,
            AnyNode::Sum($x) => $do,
            AnyNode::Mean($x) => $do,
            AnyNode::Max($x) => $do,
            AnyNode::Min($x) => $do,
            AnyNode::MatMul($x) => $do,
        }
    };
}

impl Node for AnyNode<'_> {
    type Elem = f64;
    type Source<'e, A: Allocator>
        = NodeSource<'e, A>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, f64>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        each_expr!(self, x => x.shape())
    }

    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> NodeSource<'e, A>
    where
        Self: 'e,
    {
        match self {
            AnyNode::Leaf(x) => NodeSource::Leaf(x.prepare(context)),
            AnyNode::Scalar(x) => NodeSource::Scalar(x.prepare(context)),
            AnyNode::Unary(x) => NodeSource::Unary(Box::new(x.prepare(context))),
            AnyNode::Binary(x) => NodeSource::Binary(Box::new(x.prepare(context))),
            AnyNode::Select(x) => NodeSource::Select(Box::new(x.prepare(context))),
            AnyNode::Permute(x) => x.prepare(context),
            AnyNode::Slice(x) => x.prepare(context),
            AnyNode::BroadcastTo(x) => x.prepare(context),
            AnyNode::Reshape(x) => NodeSource::Settled(Box::new(x.prepare(context))),
            AnyNode::Sum(x) => NodeSource::Leaf(x.prepare(context)),
            AnyNode::Mean(x) => NodeSource::Leaf(x.prepare(context)),
            AnyNode::Max(x) => NodeSource::Leaf(x.prepare(context)),
            AnyNode::Min(x) => NodeSource::Leaf(x.prepare(context)),
            AnyNode::MatMul(x) => NodeSource::Leaf(x.prepare(context)),
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
            Self::Scalar(x) => RowSlice(tile.fill(len, *x)),
            Self::Unary(x) => {
                let row = x.row(unary.get_or_insert_default(), here, at, len);
                RowSlice(tile.fill(len, row))
            }
            Self::Binary(x) => {
                let row = x.row(binary.get_or_insert_default(), here, at, len);
                RowSlice(tile.fill(len, row))
            }
            Self::Select(x) => {
                let row = x.row(select.get_or_insert_default(), here, at, len);
                RowSlice(tile.fill(len, row))
            }
            Self::Settled(x) => x.row(settled.get_or_insert_default(), here, at, len),
        }
    }
}
