//! The values that a tensor has while it is updated.

use std::marker::PhantomData;

use crate::context::Context;
use crate::item::Item;
use crate::node::Node;
use crate::shape::{Shape, ShapeError, Strides};
use crate::source::{Leaf, RowSlice};
use crate::terms::{Term, Terms};

/// The values of a tensor before its [update](crate::Tensor::update), to be said what becomes of them.
///
/// It knows which tensor it stands for, and does not point there: outside of that update it has no values, and evaluations fail.
#[derive(Clone, Copy, Debug)]
pub struct Current<T> {
    pub(crate) number: u64,
    pub(crate) shape: Shape,
    pub(crate) element: PhantomData<T>,
}

impl<T: Item> Node for Current<T> {
    type Elem = T;
    type Source<'e>
        = Leaf<'e, T>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, T>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        Ok(self.shape)
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let identity = (self.number as usize, Strides::row_major(&self.shape));
        let name = terms.name(format!("{}{}", T::NAME, self.shape), identity);
        terms.plain::<T>(name)
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Leaf<'e, T> {
        Leaf::current(context.current(self.number).into(), &self.shape, to, context)
    }
}
