//! Random expressions, and beside each its value, by following each index by itself.

use crate::axes::Axes;
use crate::expr::Expr;
use crate::nodes::{Boxed, Scalar, concat, stack};
use crate::shape::{MAX_RANK, Shape, ShapeErrorKind};
use crate::tensor::View;

/// A value by the book: a shape, and each element where its indices say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Naive {
    pub(super) shape: Vec<usize>,
    pub(super) elements: Vec<f64>,
}

impl Naive {
    fn of(shape: &[usize], mut element: impl FnMut(&[usize]) -> f64) -> Self {
        let count = shape.iter().product();
        let elements = (0..count).map(|i| element(&indices(shape, i))).collect();
        Self { shape: shape.to_vec(), elements }
    }

    /// The element at some indices, but for that along an axis.
    fn along(&self, at: &[usize], axis: usize, i: usize) -> f64 {
        let mut at = at.to_vec();
        at[axis] = i;
        self.get(&at)
    }

    /// The element at some indices, of which leading ones may be too many, and those along a size of 1 do not matter.
    fn get(&self, at: &[usize]) -> f64 {
        let at = &at[at.len() - self.shape.len()..];
        let linear =
            self.shape.iter().zip(at).fold(0, |linear, (&size, &i)| linear * size + if size == 1 { 0 } else { i });
        self.elements[linear]
    }
}

pub(super) fn indices(shape: &[usize], mut linear: usize) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (i, &size) in at.iter_mut().zip(shape).rev() {
        *i = linear % size;
        linear /= size;
    }
    at
}

pub(super) fn stretched(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
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
pub(super) struct Maker<'t> {
    pub(super) random: fastrand::Rng,
    pub(super) pool: &'t [f64],
}

/// An expression whose type says nothing, so that random ones can be made.
type AnyNode<'t> = Boxed<'t, f64>;

pub(super) type Made<'t> = Option<(AnyNode<'t>, Naive)>;

impl<'t> Maker<'t> {
    fn size(&mut self) -> usize {
        let least = usize::from(self.random.u8(..4) > 0);
        [0, 1, 1, 2, 2, 3, 3, 4, 5, 7][self.random.usize(least..10)]
    }

    fn leaf(&mut self, shape: &[usize]) -> (AnyNode<'t>, Naive) {
        let count: usize = shape.iter().product();
        let first = self.random.usize(..self.pool.len() - count);
        let elements = &self.pool[first..first + count];
        let view = View::new(elements, shape).unwrap();
        (view.boxed(), Naive { shape: shape.to_vec(), elements: elements.to_vec() })
    }

    /// Something that goes together with a shape, mostly.
    fn beside(&mut self, shape: &[usize], depth: u32) -> Made<'t> {
        if depth > 0 && self.random.u8(..4) == 0 {
            return self.any(depth - 1);
        }
        if self.random.u8(..6) == 0 {
            let value = f64::from(self.random.i8(-2..3));
            return Some((Scalar(value).boxed(), Naive { shape: vec![], elements: vec![value] }));
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
    fn reshuffled(&mut self, node: AnyNode<'t>, naive: Naive) -> Made<'t> {
        let rank = naive.shape.len();
        let node = match self.random.u8(..3) {
            0 if rank > 0 => {
                // A sum of one element each has a block.
                let shape = Shape::new(&[&naive.shape[..], &[1]].concat()).ok()?;
                node.reshape(shape).sum(rank).boxed()
            }
            1 if rank > 1 => {
                let order = [&(1..rank).collect::<Vec<_>>()[..], &[0]].concat();
                let back = [&[rank - 1][..], &(0..rank - 1).collect::<Vec<_>>()].concat();
                node.permute(&order).permute(&back).boxed()
            }
            _ => (-(-node)).boxed(),
        };
        Some((node, naive))
    }

    /// An expression and its value; `None` where it was found to have none, as it should be.
    pub(super) fn any(&mut self, depth: u32) -> Made<'t> {
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
        let op = self.random.u8(..);
        match self.random.u8(..22) {
            0 => {
                let value = Naive::of(&shape, |at| {
                    let x = value.get(at);
                    match op % 3 {
                        0 => -x,
                        1 if x < 0.0 => 0.0,
                        1 => x,
                        _ => x.abs(),
                    }
                });
                let node = match op % 3 {
                    0 => (-x).boxed(),
                    1 => x.relu().boxed(),
                    _ => x.abs().boxed(),
                };
                Some((node, value))
            }
            1..=4 => {
                let (y, other) = self.beside(&shape, depth)?;
                let (x, y, value, other) = if self.random.bool() { (x, y, value, other) } else { (y, x, other, value) };
                let node = match op % 5 {
                    0 => (x + y).boxed(),
                    1 => (x - y).boxed(),
                    2 => (x * y).boxed(),
                    3 => x.maximum(y).boxed(),
                    _ => x.minimum(y).boxed(),
                };
                let naive = stretched(&value.shape, &other.shape).map(|shape| {
                    Naive::of(&shape, |at| {
                        let (x, y) = (value.get(at), other.get(at));
                        match op % 5 {
                            0 => x + y,
                            1 => x - y,
                            2 => x * y,
                            _ if x.is_nan() || y.is_nan() => f64::NAN,
                            3 => x.max(y),
                            _ => x.min(y),
                        }
                    })
                });
                self.settle(node, naive)
            }
            5 => {
                let (y, other) = self.beside(&shape, depth)?;
                let (yes, yes_value) = self.beside(&shape, depth)?;
                let (no, no_value) = self.beside(&shape, depth)?;
                let node = match op % 6 {
                    0 => x.lt(y).where_(yes, no).boxed(),
                    1 => x.le(y).where_(yes, no).boxed(),
                    2 => x.gt(y).where_(yes, no).boxed(),
                    3 => x.ge(y).where_(yes, no).boxed(),
                    4 => x.equals(y).where_(yes, no).boxed(),
                    _ => x.differs(y).where_(yes, no).boxed(),
                };
                let naive = stretched(&shape, &other.shape)
                    .and_then(|shape| stretched(&shape, &stretched(&yes_value.shape, &no_value.shape)?))
                    .map(|shape| {
                        let holds = |at: &[usize]| {
                            let (x, y) = (value.get(at), other.get(at));
                            match op % 6 {
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
                self.settle(node, naive)
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
                Some((x.permute(&order).boxed(), naive))
            }
            7 => {
                let sizes = self.refactored(value.elements.len());
                let node = x.reshape(&sizes[..]).boxed();
                let naive = Naive { shape: sizes, elements: value.elements };
                Some((node, naive))
            }
            8 if rank > 0 => {
                let axis = self.random.usize(..rank);
                let start = self.random.usize(..=shape[axis]);
                let end = self.random.usize(start..=shape[axis]);
                let step = [1, 1, 1, 2, 3, -1, -2, isize::MIN][self.random.usize(..8)];
                let taken: Vec<usize> = match step {
                    1.. => (start..end).step_by(step.unsigned_abs()).collect(),
                    _ => (start..end).rev().step_by(step.unsigned_abs()).collect(),
                };
                let mut sizes = shape;
                sizes[axis] = taken.len();
                let naive = Naive::of(&sizes, |at| {
                    let mut from = at.to_vec();
                    from[axis] = taken[at[axis]];
                    value.get(&from)
                });
                Some((x.stepped(axis, start..end, step).boxed(), naive))
            }
            13 if rank > 0 => {
                let axis = self.random.usize(..rank);
                let index = self.random.usize(..=shape[axis]);
                let naive = (index < shape[axis]).then(|| {
                    let mut sizes = shape;
                    sizes.remove(axis);
                    Naive::of(&sizes, |at| value.get(&[&at[..axis], &[index], &at[axis..]].concat()))
                });
                self.settle(x.index_axis(axis, index).boxed(), naive)
            }
            14 => {
                let axis = self.random.usize(..=rank);
                let mut sizes = shape;
                sizes.insert(axis, 1);
                let node = x.unsqueeze(axis).boxed();
                self.settle(node, Some(Naive { shape: sizes, elements: value.elements }))
            }
            9 if rank < MAX_RANK => {
                let mut sizes = [&[self.random.usize(1..4)][..], &shape].concat();
                for size in &mut sizes {
                    if *size == 1 && self.random.bool() {
                        *size = 3;
                    }
                }
                let node = x.broadcast_to(&sizes[..]).boxed();
                Some((node, Naive::of(&sizes, |at| value.get(at))))
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
                self.settle(x.matmul(y).boxed(), Some(naive))
            }
            15 if rank > 0 => self.gathered(x, &value),
            16 => self.joined(x, value),
            17 if rank > 0 => {
                let axis = self.random.usize(..rank);
                let naive = Naive::of(&shape, |at| (0..=at[axis]).map(|i| value.along(at, axis, i)).sum());
                Some((x.cumsum(axis).boxed(), naive))
            }
            18 => self.vectors(x, &value),
            19 if rank > 0 => self.searched(x, &value),
            _ => self.reduced(x, &value),
        }
    }

    /// Elements by their indices.
    fn gathered(&mut self, x: AnyNode<'t>, value: &Naive) -> Made<'t> {
        let shape = &value.shape;
        let axis = self.random.usize(..shape.len());
        let (before, after) = (&shape[..axis], &shape[axis + 1..]);
        let within: Vec<usize> = (0..self.random.usize(..3)).map(|_| self.size()).collect();
        let count: usize = within.iter().product();
        if shape[axis] == 0 || value.elements.len() * count > 10_000 {
            return Some((x, value.clone()));
        }
        // Those of another expression's largest elements.
        let size = shape[axis];
        let (y, other) = self.leaf(&[&[size], &within[..]].concat());
        let indices = Naive::of(&within, |at| {
            let one = |i: usize| other.get(&[&[i], at].concat());
            (1..size).fold(0, |best, i| if one(i) > one(best) { i } else { best }) as f64
        });
        let sizes = [before, &within, after].concat();
        let naive = Naive::of(&sizes, |at| {
            let (outer, rest) = at.split_at(axis);
            let (place, inner) = rest.split_at(within.len());
            value.get(&[outer, &[indices.get(place) as usize], inner].concat())
        });
        self.settle(x.gather(axis, y.argmax(0)).boxed(), Some(naive))
    }

    /// One behind the other.
    fn joined(&mut self, x: AnyNode<'t>, value: Naive) -> Made<'t> {
        let rank = value.shape.len();
        let stacks = rank == 0 || self.random.bool();
        let axis = self.random.usize(..rank + usize::from(stacks));
        let (mut nodes, mut values) = (vec![x], vec![value.clone()]);
        for _ in 0..self.random.usize(..4) {
            let mut sizes = value.shape.clone();
            if !stacks {
                sizes[axis] = self.size();
            }
            let (node, naive) = self.leaf(&sizes);
            let (node, naive) = self.reshuffled(node, naive)?;
            let place = self.random.usize(..=nodes.len());
            nodes.insert(place, node);
            values.insert(place, naive);
        }
        if stacks {
            let mut sizes = value.shape;
            sizes.insert(axis, values.len());
            let naive = Naive::of(&sizes, |at| values[at[axis]].get(&[&at[..axis], &at[axis + 1..]].concat()));
            return self.settle(stack(nodes, axis).boxed(), Some(naive));
        }
        let mut sizes = value.shape;
        sizes[axis] = values.iter().map(|value| value.shape[axis]).sum();
        let naive = Naive::of(&sizes, |at| {
            let mut at = at.to_vec();
            let mut parts = values.iter();
            loop {
                let part = parts.next().unwrap();
                if at[axis] < part.shape[axis] {
                    return part.get(&at);
                }
                at[axis] -= part.shape[axis];
            }
        });
        Some((concat(nodes, axis).boxed(), naive))
    }

    /// Products with a vector, on either side.
    fn vectors(&mut self, x: AnyNode<'t>, value: &Naive) -> Made<'t> {
        let shape = value.shape.clone();
        let Some(last) = shape.len().checked_sub(1) else { return Some((x, value.clone())) };
        let is_right = last == 0 || self.random.bool();
        let axis = if is_right { last } else { last - 1 };
        let (y, other) = self.leaf(&[shape[axis]]);
        let (y, other) = self.reshuffled(y, other)?;
        let sizes = [&shape[..axis], &shape[axis + 1..]].concat();
        let naive = Naive::of(&sizes, |at| {
            let product = |i: usize| other.get(&[i]) * value.get(&[&at[..axis], &[i], &at[axis..]].concat());
            (0..shape[axis]).map(product).sum::<f64>() + 0.0
        });
        let node = match is_right {
            true if last == 0 && self.random.bool() => x.dot(y).boxed(),
            true => x.matmul(y).boxed(),
            false => y.matmul(x).boxed(),
        };
        self.settle(node, Some(naive))
    }

    /// Where the largest or smallest elements are.
    fn searched(&mut self, x: AnyNode<'t>, value: &Naive) -> Made<'t> {
        let shape = &value.shape;
        let axis = self.random.usize(..shape.len());
        let (is_largest, keeps) = (self.random.bool(), self.random.bool());
        let size = shape[axis];
        let mut sizes = shape.clone();
        if keeps {
            sizes[axis] = 1;
        } else {
            sizes.remove(axis);
        }
        let naive = (size > 0).then(|| {
            Naive::of(&[&sizes[..], &[size]].concat(), |at| {
                let (at, place) = at.split_at(sizes.len());
                let mut from = at.to_vec();
                if !keeps {
                    from.insert(axis, 0);
                }
                let one = |i: usize| value.along(&from, axis, i);
                let best = (1..size).fold(0, |best, i| {
                    let (x, y) = (one(i), one(best));
                    let is_beyond = if is_largest { x > y } else { x < y };
                    if is_beyond || x.is_nan() && !y.is_nan() { i } else { best }
                });
                f64::from(best == place[0])
            })
        });
        let node = match (is_largest, keeps) {
            (true, true) => x.argmax(axis).keep_dims().one_hot(size).boxed(),
            (true, false) => x.argmax(axis).one_hot(size).boxed(),
            (false, true) => x.argmin(axis).keep_dims().one_hot(size).boxed(),
            (false, false) => x.argmin(axis).one_hot(size).boxed(),
        };
        self.settle(node, naive)
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

    fn reduced(&mut self, x: AnyNode<'t>, value: &Naive) -> Made<'t> {
        let rank = value.shape.len();
        let axes: Vec<usize> = (0..rank).filter(|_| self.random.bool()).collect();
        let keeps = self.random.bool();
        let kept: Vec<usize> = (0..rank).filter(|axis| !axes.contains(axis)).collect();
        let sizes: Vec<usize> = kept.iter().map(|&axis| value.shape[axis]).collect();
        let within: Vec<usize> = axes.iter().map(|&axis| value.shape[axis]).collect();
        let count: usize = within.iter().product();
        let kind = self.random.u8(..8);
        // Other quotients are not exact, nor are other squares.
        let is_small = value.elements.iter().all(|x| x.abs() < 1000.0);
        let is_exact = count.is_power_of_two() && (kind == 1 || is_small && count < 256);
        let kind = if matches!(kind, 1 | 4) && !is_exact { 0 } else { kind };
        // How many of more elements there are, one would need too many elements to tell.
        let kind = if kind == 5 && count * sizes.iter().product::<usize>() > 10_000 { 6 } else { kind };
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
                4 => {
                    let mean = values.clone().sum::<f64>() / count as f64;
                    values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / count as f64
                }
                5 => values.filter(|&x| x > 0.0).count() as f64,
                6 => f64::from(values.clone().any(|x| x > 0.0)),
                7 => f64::from(values.clone().all(|x| x > 0.0)),
                _ => values.fold(f64::INFINITY, |x, y| if x.is_nan() || x < y { x } else { y }),
            }
        });
        if keeps {
            naive.shape = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { value.shape[axis] }).collect();
        }
        if kind == 5 {
            // As there is nothing else to be done with numbers of elements: where they are.
            let counts = naive.clone();
            naive = Naive::of(&[&counts.shape[..], &[count + 1]].concat(), |at| {
                let (at, place) = at.split_at(counts.shape.len());
                f64::from(counts.get(at) == place[0] as f64)
            });
        }
        let has_none = matches!(kind, 2 | 3) && within.contains(&0);
        let naive = (!has_none).then_some(naive);
        let axes = Axes::from(&axes[..]);
        macro_rules! node {
            ($reduced:expr) => {{
                let node = $reduced;
                if keeps { node.keep_dims().boxed() } else { node.boxed() }
            }};
        }
        let node = match kind {
            0 => node!(x.sum(axes)),
            1 => node!(x.mean(axes)),
            2 => node!(x.max(axes)),
            4 => node!(x.var(axes)),
            5 if keeps => x.gt(0.0).count(axes).keep_dims().one_hot(count + 1).boxed(),
            5 => x.gt(0.0).count(axes).one_hot(count + 1).boxed(),
            6 if keeps => x.gt(0.0).any(axes).keep_dims().cast::<f64>().boxed(),
            6 => x.gt(0.0).any(axes).cast::<f64>().boxed(),
            7 if keeps => x.gt(0.0).all(axes).keep_dims().cast::<f64>().boxed(),
            7 => x.gt(0.0).all(axes).cast::<f64>().boxed(),
            _ => node!(x.min(axes)),
        };
        self.settle(node, naive)
    }

    /// An expression has a shape if and only if it has a value.
    fn settle(&mut self, node: AnyNode<'t>, naive: Option<Naive>) -> Made<'t> {
        let Some(naive) = naive else {
            assert!(node.shape().is_err(), "a shape where there is none");
            return None;
        };
        if naive.shape.len() > MAX_RANK {
            assert_eq!(node.shape(), Err(ShapeErrorKind::Rank { rank: naive.shape.len() }.into()));
            return None;
        }
        Some((node, naive))
    }
}
