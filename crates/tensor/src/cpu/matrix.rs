//! The tensor of the CPU backend.

use super::pool;
use super::product::Panels;
use super::scalar::Scalar;
use crate::{Shape, Transpose};
use std::sync::OnceLock;

/// A row-major matrix in memory. When it is dropped, the memory of a big one is kept for the next.
pub struct Matrix<T: Scalar> {
    rows: usize,
    cols: usize,
    data: Vec<T>,
    /// The matrix and its transpose as right operands of products, once they were wanted.
    panels: [OnceLock<Box<Panels<T>>>; 2],
}

impl<T: Scalar> Matrix<T> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows and columns.
    pub fn shape(&self) -> Shape {
        Shape::new(self.rows, self.cols)
    }

    /// The elements, row after row.
    pub fn as_slice(&self) -> &[T] {
        &self.data
    }

    /// The elements, row after row, to keep.
    pub(crate) fn into_vec(mut self) -> Vec<T> {
        std::mem::take(&mut self.data)
    }

    /// The elements, row after row, to write to.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        self.panels = Default::default();
        &mut self.data
    }

    /// The matrix (or its transpose) packed as the right operand of a product. `pack` runs the first time, and after the
    /// matrix has changed.
    pub(crate) fn panels(&self, transpose: Transpose, pack: impl FnOnce() -> Panels<T>) -> &Panels<T> {
        self.panels[usize::from(transpose == Transpose::Yes)].get_or_init(|| Box::new(pack()))
    }

    pub(crate) fn zeros(shape: Shape) -> Self {
        Self::from_vec(shape, pool::take_zeros(shape.len()))
    }

    /// Numbers of any value: for what is overwritten.
    pub(crate) fn stale(shape: Shape) -> Self {
        Self::from_vec(shape, pool::take_stale(shape.len()))
    }

    /// `data` must have `shape.len()` elements.
    pub(crate) fn from_vec(shape: Shape, data: Vec<T>) -> Self {
        debug_assert_eq!(shape.len(), data.len());
        Self { rows: shape.rows, cols: shape.cols, data, panels: Default::default() }
    }

    /// Row `i`.
    pub(crate) fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }
}

impl<T: Scalar> PartialEq for Matrix<T> {
    fn eq(&self, other: &Self) -> bool {
        self.shape() == other.shape() && self.data == other.data
    }
}

impl<T: Scalar> Clone for Matrix<T> {
    fn clone(&self) -> Self {
        let mut data = pool::take(self.data.len());
        data.extend_from_slice(&self.data);
        Self::from_vec(self.shape(), data)
    }
}

impl<T: Scalar> Drop for Matrix<T> {
    fn drop(&mut self) {
        pool::give(std::mem::take(&mut self.data));
    }
}

impl<T: Scalar> std::fmt::Debug for Matrix<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix[{}, {}]", self.rows, self.cols)
    }
}
