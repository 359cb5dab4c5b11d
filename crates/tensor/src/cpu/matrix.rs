//! The tensor of the CPU backend.

use super::product::Panels;
use super::scalar::Scalar;
use crate::{Buffer, Shape, Transpose};
use std::sync::OnceLock;

/// A row-major matrix in memory, which is kept for the next when it is dropped.
pub struct Matrix<T: Scalar> {
    rows: usize,
    cols: usize,
    data: Buffer<T>,
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
    pub(crate) fn into_buffer(self) -> Buffer<T> {
        self.data
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
        Self::from_buffer(shape, Buffer::zeros(shape.len()))
    }

    /// Numbers of any value: for what is overwritten.
    pub(crate) fn stale(shape: Shape) -> Self {
        Self::from_buffer(shape, Buffer::stale(shape.len()))
    }

    /// `data` must have `shape.len()` elements.
    pub(crate) fn from_buffer(shape: Shape, data: Buffer<T>) -> Self {
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
        Self::from_buffer(self.shape(), self.data.clone())
    }
}

impl<T: Scalar> std::fmt::Debug for Matrix<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Matrix[{}, {}]", self.rows, self.cols)
    }
}
