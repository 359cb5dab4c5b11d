//! Inner products of blocks of several matrices with blocks of several others.
#![allow(unsafe_code)]

use super::super::parallel::dispatch;
use super::super::scalar::Scalar;
use super::unit::Unit;
use super::{Threads, View, ViewMut, gemm};
use crate::{Accumulate, Precision};

/// Blocks `[rows, cols]` of several matrices: element (i, j) of matrix m is at `m · between + i · stride + j`.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a, T> {
    data: &'a [T],
    pub(super) count: usize,
    pub(super) between: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) stride: usize,
}

impl<'a, T> Blocks<'a, T> {
    /// `count` blocks from the head of `data`.
    pub(crate) fn new(data: &'a [T], count: usize, between: usize, rows: usize, cols: usize, stride: usize) -> Self {
        let needed = if count * rows * cols == 0 { 0 } else { (count - 1) * between + (rows - 1) * stride + cols };
        Self { data: &data[..needed], count, between, rows, cols, stride }
    }

    #[inline(always)]
    pub(super) fn row(&self, matrix: usize, i: usize) -> &'a [T] {
        let start = matrix * self.between + i * self.stride;
        &self.data[start..start + self.cols]
    }

    /// Pointer to row `i` of a matrix, of which `cols` elements exist.
    #[inline(always)]
    pub(super) fn at(&self, matrix: usize, i: usize) -> *const T {
        self.row(matrix, i).as_ptr()
    }
}

/// out_{m, q} += Σ_ij left_{m, ij} right_{q, ij}; rows of out are `stride` apart.
pub(crate) fn add_dots<T: Scalar>(left: Blocks<'_, T>, right: Blocks<'_, T>, out: &mut [T], stride: usize) {
    assert!(left.rows == right.rows && left.cols == right.cols, "blocks of inner products do not fit");
    assert!(left.count * right.count == 0 || out.len() >= (left.count - 1) * stride + right.count);
    match Unit::of::<T>(Precision::F32) {
        #[cfg(target_arch = "x86_64")]
        Unit::Avx512 => {
            // SAFETY: the unit is chosen for f32 alone, and where the machine has it; the bounds are checked above.
            unsafe {
                let (left, right) = (&*(&raw const left).cast(), &*(&raw const right).cast());
                super::avx512::add_dots(left, right, out.as_mut_ptr().cast(), stride);
            }
        }
        _ => dispatch(Portable { left, right, out, stride }),
    }
}

/// The same as matrix products, row by row of the blocks: for many matrices on both sides.
pub(crate) fn add_products<T: Scalar>(left: Blocks<'_, T>, right: Blocks<'_, T>, out: &mut [T], stride: usize) {
    assert!(left.rows == right.rows && left.cols == right.cols, "blocks of inner products do not fit");
    let (m, q, cols) = (left.count, right.count, left.cols);
    for i in 0..left.rows {
        let x = View::new(&left.data[i * left.stride..], m, cols, left.between);
        let y = View::new(&right.data[i * right.stride..], q, cols, right.between);
        let out = ViewMut::new(out, m, q, stride);
        gemm(Precision::F32, Threads::One, T::ONE, x, y.t(), Accumulate::Add, &out);
    }
}

struct Portable<'a, 'b, T> {
    left: Blocks<'a, T>,
    right: Blocks<'a, T>,
    out: &'b mut [T],
    stride: usize,
}

impl<T: Scalar> pulp::NullaryFnOnce for Portable<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for q in 0..self.right.count {
            for m in 0..self.left.count {
                let row = |i| super::super::reduce::inner(self.left.row(m, i), self.right.row(q, i));
                self.out[m * self.stride + q] += (0..self.left.rows).map(row).sum::<T>();
            }
        }
    }
}
