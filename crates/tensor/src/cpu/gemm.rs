//! Matrix products: the only place that calls the `gemm` crate. Transposes are strides, never copies.
#![allow(unsafe_code)]

use super::check;
use super::matrix::Matrix;
use super::movement;
use super::parallel::Shared;
use super::pool;
use super::scalar::Scalar;
use crate::{Accumulate, Result, Shape, Transpose};
use gemm::Parallelism;
use std::marker::PhantomData;

/// Where a product runs.
#[derive(Clone, Copy)]
pub(crate) enum Threads {
    /// On the calling thread: inside of parallel tasks.
    One,
    /// On the thread pool, when big enough.
    Pool,
}

impl Threads {
    fn parallelism(self) -> Parallelism {
        match self {
            Self::One => Parallelism::None,
            Self::Pool => Parallelism::Rayon(0),
        }
    }
}

/// An operand `[rows, cols]` with strides.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
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

    pub(crate) fn of(m: &'a Matrix<T>, transpose: Transpose) -> Self {
        let view = Self::new(m.as_slice(), m.rows(), m.cols(), m.cols());
        match transpose {
            Transpose::No => view,
            Transpose::Yes => view.t(),
        }
    }

    pub(crate) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// A destination `[rows, cols]` with contiguous rows `stride` apart.
pub(crate) struct ViewMut<'a, T> {
    ptr: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    marker: PhantomData<&'a mut [T]>,
}

impl<'a, T: Scalar> ViewMut<'a, T> {
    /// `[rows, cols]` from the head of `data`, rows `stride` apart.
    pub(crate) fn new(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        let ptr = data[..span(rows, cols, stride)].as_mut_ptr();
        Self { ptr, rows, cols, stride, marker: PhantomData }
    }

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

/// `out (+)= alpha · a b`.
pub(crate) fn gemm<T: Scalar>(
    threads: Threads,
    alpha: T,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: Accumulate,
    out: ViewMut<'_, T>,
) {
    assert!(a.rows == out.rows && b.cols == out.cols && a.cols == b.rows, "operands of a product do not fit");
    // SAFETY: the constructors of the views checked that every element the strides reach exists; out is exclusive.
    unsafe { raw(threads, alpha, a, b, accumulate, out.ptr, out.stride) }
}

/// # Safety
/// `out` must be valid for exclusive writes of `[a.rows, b.cols]` with rows `stride` apart; it is read only to
/// accumulate.
unsafe fn raw<T: Scalar>(
    threads: Threads,
    alpha: T,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: Accumulate,
    out: *mut T,
    stride: usize,
) {
    // SAFETY: by the contract of this function, and the views are checked where they are made.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out,
            1,
            stride as isize,
            accumulate == Accumulate::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::ONE,
            alpha,
            false,
            false,
            false,
            threads.parallelism(),
        );
    }
}

/// a b as a new matrix; the inner dimensions must agree.
pub(crate) fn product<T: Scalar>(a: View<'_, T>, b: View<'_, T>) -> Matrix<T> {
    assert!(a.cols == b.rows, "operands of a product do not fit");
    let shape = Shape::new(a.rows, b.cols);
    let mut data: Vec<T> = pool::take(shape.len());
    // SAFETY: the capacity is `[a.rows, b.cols]`; without accumulation `gemm` writes every element (zeros for an empty
    // inner dimension) and reads none.
    unsafe {
        raw(Threads::Pool, T::ONE, a, b, Accumulate::Replace, data.as_mut_ptr(), shape.cols);
        data.set_len(shape.len());
    }
    Matrix::from_vec(shape, data)
}

fn op_shape<T: Scalar>(m: &Matrix<T>, transpose: Transpose) -> Shape {
    match transpose {
        Transpose::No => m.shape(),
        Transpose::Yes => Shape::new(m.cols(), m.rows()),
    }
}

/// The shape of op(a) op(b), or an error that names b.
fn product_shape<T: Scalar>(a: &Matrix<T>, ta: Transpose, b: &Matrix<T>, tb: Transpose) -> Result<Shape> {
    let (left, right) = (op_shape(a, ta), op_shape(b, tb));
    let expected = match tb {
        Transpose::No => Shape::new(left.cols, right.cols),
        Transpose::Yes => Shape::new(right.cols, left.cols),
    };
    check::shape("matmul", "b", b.shape(), expected)?;
    Ok(Shape::new(left.rows, right.cols))
}

pub(crate) fn matmul_into<T: Scalar>(
    alpha: f64,
    a: &Matrix<T>,
    ta: Transpose,
    b: &Matrix<T>,
    tb: Transpose,
    accumulate: Accumulate,
    out: &mut Matrix<T>,
) -> Result<()> {
    check::shape("matmul_into", "out", out.shape(), product_shape(a, ta, b, tb)?)?;
    gemm(Threads::Pool, T::of_f64(alpha), View::of(a, ta), View::of(b, tb), accumulate, ViewMut::of(out));
    Ok(())
}

pub(crate) fn matmul<T: Scalar>(a: &Matrix<T>, ta: Transpose, b: &Matrix<T>, tb: Transpose) -> Result<Matrix<T>> {
    product_shape(a, ta, b, tb)?;
    Ok(product(View::of(a, ta), View::of(b, tb)))
}

pub(crate) fn linear_forward<T: Scalar>(
    x: &Matrix<T>,
    weight: &Matrix<T>,
    bias: Option<&Matrix<T>>,
) -> Result<Matrix<T>> {
    check::shape("linear_forward", "weight", weight.shape(), Shape::new(weight.rows(), x.cols()))?;
    let (a, b) = (View::of(x, Transpose::No), View::of(weight, Transpose::Yes));
    let Some(bias) = bias else { return Ok(product(a, b)) };
    check::shape("linear_forward", "bias", bias.shape(), Shape::new(1, weight.rows()))?;
    let mut y = movement::repeat_row(bias.as_slice(), x.rows());
    gemm(Threads::Pool, T::ONE, a, b, Accumulate::Add, ViewMut::of(&mut y));
    Ok(y)
}

pub(crate) fn linear_backward<T: Scalar>(dy: &Matrix<T>, weight: &Matrix<T>) -> Result<Matrix<T>> {
    check::shape("linear_backward", "weight", weight.shape(), Shape::new(dy.cols(), weight.cols()))?;
    Ok(product(View::of(dy, Transpose::No), View::of(weight, Transpose::No)))
}
