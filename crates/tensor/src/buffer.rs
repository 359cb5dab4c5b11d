//! Lists in host memory that is kept for the next ones.

use std::ops::{Deref, DerefMut};

use crate::pool::{self, HasPools};
use crate::{Label, Scalar, Segment};

/// An element of a [`Buffer`]. Sealed.
pub trait Pooled: HasPools + Copy + Send {}

impl<T: HasPools + Copy + Send> Pooled for T {}

pool::has_pools!(f32, f64, u32, usize, Segment, Label);

/// A list of which the memory is kept for the next ones when it is dropped (unless it is small): what is made anew for
/// each batch costs no allocation from the third batch on.
pub struct Buffer<T: Pooled> {
    data: Vec<T>,
    /// Elements to give back to the pool, 0 where the memory is not from there.
    taken: usize,
}

impl<T: Pooled> Buffer<T> {
    /// An empty list with room for `len` elements.
    pub fn with_capacity(len: usize) -> Self {
        let (mut data, taken) = pool::take(len, Vec::with_capacity);
        data.clear();
        Self { data, taken }
    }

    /// The elements, to keep.
    pub fn into_vec(mut self) -> Vec<T> {
        let data = std::mem::take(&mut self.data);
        drop(self);
        data
    }

    /// Removes elements that equal the one before them.
    pub fn dedup(&mut self)
    where
        T: PartialEq,
    {
        self.data.dedup();
    }

    /// Appends elements.
    pub fn extend_from_slice(&mut self, elements: &[T]) {
        self.data.extend_from_slice(elements);
    }

    /// Appends an element.
    pub fn push(&mut self, element: T) {
        self.data.push(element);
    }
}

impl<T: Scalar> Buffer<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        // Fresh pages are zero already: the allocator does not touch them.
        let mut fresh = false;
        let (mut data, taken) = pool::take(len, |capacity| {
            fresh = true;
            vec![T::ZERO; capacity]
        });
        if !fresh {
            data.clear();
            data.resize(len, T::ZERO);
        }
        data.truncate(len);
        Self { data, taken }
    }

    /// `len` numbers of any value, those of an earlier use where there was one: for what is overwritten.
    pub(crate) fn stale(len: usize) -> Self {
        let (mut data, taken) = pool::take(len, |capacity| vec![T::ZERO; capacity]);
        if data.len() < len {
            data.resize(len, T::ZERO);
        }
        data.truncate(len);
        Self { data, taken }
    }
}

impl<T: Pooled> Drop for Buffer<T> {
    fn drop(&mut self) {
        pool::give(self.taken, std::mem::take(&mut self.data));
    }
}

impl<T: Pooled> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data
    }
}

impl<T: Pooled> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data
    }
}

impl<T: Pooled> From<Vec<T>> for Buffer<T> {
    fn from(data: Vec<T>) -> Self {
        Self { data, taken: 0 }
    }
}

impl<T: Pooled> From<&[T]> for Buffer<T> {
    fn from(elements: &[T]) -> Self {
        let mut out = Self::with_capacity(elements.len());
        out.data.extend_from_slice(elements);
        out
    }
}

impl<T: Pooled> FromIterator<T> for Buffer<T> {
    /// Of kept memory where the iterator knows its length.
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let elements = elements.into_iter();
        let mut out = Self::with_capacity(elements.size_hint().0);
        out.data.extend(elements);
        out
    }
}

impl<T: Pooled> IntoIterator for Buffer<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<T: Pooled> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl<T: Pooled> Default for Buffer<T> {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl<T: Pooled + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl<T: Pooled + std::fmt::Debug> std::fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.data.fmt(f)
    }
}
