//! Operands and destinations of products: strided views of matrices.
#![allow(unsafe_code)]

use super::super::matrix::Matrix;
use super::super::parallel::Shared;
use super::super::scalar::Scalar;
use crate::{Shape, Transpose};
use std::marker::PhantomData;

/// An operand `[rows, cols]` with strides, one of which is 1.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

/// Elements that rows `stride` apart span.
const fn span(rows: usize, cols: usize, stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * stride + cols }
}

impl<'a, T: Scalar> View<'a, T> {
    /// `[rows, cols]` from the head of `data`, rows `stride` apart.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        Self { data: &data[..span(rows, cols, stride)], rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// `[rows, cols]` of a matrix, from row `row` and column `col` on.
    pub(crate) fn block(m: &'a Matrix<T>, row: usize, rows: usize, col: usize, cols: usize) -> Self {
        let start = (row * m.cols() + col).min(m.as_slice().len());
        Self::new(&m.as_slice()[start..], rows, cols, m.cols())
    }

    /// A matrix, or its transpose.
    pub(crate) fn of(m: &'a Matrix<T>, transpose: Transpose) -> Self {
        let view = Self::new(m.as_slice(), m.rows(), m.cols(), m.cols());
        match transpose {
            Transpose::No => view,
            Transpose::Yes => view.t(),
        }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// A destination `[rows, cols]` with contiguous rows `stride` apart.
pub(crate) struct ViewMut<'a, T> {
    pub(super) ptr: *mut T,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) stride: usize,
    marker: PhantomData<&'a mut [T]>,
}

// SAFETY: a view is exclusive, like the `&mut [T]` that it stands for.
unsafe impl<T: Send> Send for ViewMut<'_, T> {}
// SAFETY: as above; the tasks that share one write to different parts of it.
unsafe impl<T: Send> Sync for ViewMut<'_, T> {}

impl<'a, T: Scalar> ViewMut<'a, T> {
    /// `[rows, cols]` from the head of `data`, rows `stride` apart.
    pub(crate) fn new(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        let ptr = data[..span(rows, cols, stride)].as_mut_ptr();
        Self { ptr, rows, cols, stride, marker: PhantomData }
    }

    /// A whole matrix.
    pub(crate) fn of(m: &'a mut Matrix<T>) -> Self {
        let Shape { rows, cols } = m.shape();
        Self::new(m.as_mut_slice(), rows, cols, cols)
    }

    /// `[rows, cols]` from element `start` of a shared slice.
    ///
    /// # Safety
    /// Nothing else may access these elements while the view is alive.
    pub(crate) unsafe fn shared(all: &'a Shared<'_, T>, start: usize, rows: usize, cols: usize, stride: usize) -> Self {
        let ptr = all.at(start, span(rows, cols, stride));
        Self { ptr, rows, cols, stride, marker: PhantomData }
    }
}
