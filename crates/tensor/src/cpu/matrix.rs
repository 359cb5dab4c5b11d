//! The tensor of the CPU backend.

use super::pool;
use super::scalar::Scalar;
use crate::Shape;

/// A row-major matrix in memory. When it is dropped, the memory of a big one is kept for the next.
#[derive(PartialEq)]
pub struct Matrix<T: Scalar> {
    rows: usize,
    cols: usize,
    data: Vec<T>,
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
        &mut self.data
    }

    pub(crate) fn zeros(shape: Shape) -> Self {
        Self { rows: shape.rows, cols: shape.cols, data: pool::take_zeros(shape.len()) }
    }

    /// `data` must have `shape.len()` elements.
    pub(crate) fn from_vec(shape: Shape, data: Vec<T>) -> Self {
        debug_assert_eq!(shape.len(), data.len());
        Self { rows: shape.rows, cols: shape.cols, data }
    }

    /// Row `i`.
    pub(crate) fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }
}

impl<T: Scalar> Clone for Matrix<T> {
    fn clone(&self) -> Self {
        let mut data = pool::take(self.data.len());
        data.extend_from_slice(&self.data);
        Self { rows: self.rows, cols: self.cols, data }
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
