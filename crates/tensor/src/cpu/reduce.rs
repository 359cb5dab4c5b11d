//! Sums and maxima in a fixed order: lane by lane, then over lanes, then over blocks.

use super::check;
use super::matrix::Matrix;
use super::parallel::{Kernel, for_blocks, rows_per_block};
use super::scalar::Scalar;
use crate::{Buffer, Result, Shape};

const LANES: usize = 32;

/// Folds the pairs of `x` and `y` into lanes by `step`, then the lanes into one by `join`.
#[inline(always)]
pub(crate) fn reduce<T: Scalar, A: Copy>(
    x: &[T],
    y: &[T],
    start: A,
    step: impl Fn(A, T, T) -> A,
    join: impl Fn(A, A) -> A,
) -> A {
    let mut lanes = [start; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let tail = xs.remainder().iter().zip(ys.remainder());
    for (a, b) in xs.zip(ys) {
        for l in 0..LANES {
            lanes[l] = step(lanes[l], a[l], b[l]);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(tail) {
        *lane = step(*lane, a, b);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] = join(lanes[l], lanes[l + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
pub(crate) fn sum<T: Scalar>(x: &[T]) -> T {
    reduce(x, x, T::ZERO, |acc, a, _| acc + a, |a, b| a + b)
}

#[inline(always)]
pub(crate) fn inner<T: Scalar>(x: &[T], y: &[T]) -> T {
    reduce(x, y, T::ZERO, |acc, a, b| a.mul_add(b, acc), |a, b| a + b)
}

#[inline(always)]
pub(crate) fn inner_f64<T: Scalar>(x: &[T], y: &[T]) -> f64 {
    reduce(x, y, 0.0, |acc: f64, a, b| a.to_f64().mul_add(b.to_f64(), acc), |a, b| a + b)
}

#[inline(always)]
pub(crate) fn sum_f64<T: Scalar>(x: &[T]) -> f64 {
    reduce(x, x, 0.0, |acc: f64, a, _| acc + a.to_f64(), |a, b| a + b)
}

#[inline(always)]
pub(crate) fn max<T: Scalar>(x: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    reduce(x, x, T::NEG_INFINITY, |acc, a, _| larger(acc, a), larger)
}

struct Dot<'a, T> {
    x: &'a [T],
    y: &'a [T],
    len: usize,
}

impl<T: Scalar> Kernel<f64> for Dot<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [f64], _: &mut [()]) {
        let from = block * self.len;
        let to = (from + self.len).min(self.x.len());
        for sum in out {
            *sum = inner_f64(&self.x[from..to], &self.y[from..to]);
        }
    }
}

/// Σ x_i y_i of two slices of the same length.
pub(crate) fn dot_slices<T: Scalar>(x: &[T], y: &[T]) -> f64 {
    let len = 1 << 14;
    let mut partials = Buffer::zeros(x.len().div_ceil(len));
    let kernel = Dot { x, y, len };
    for_blocks(&mut partials, 1, x.len(), &kernel);
    partials.iter().sum()
}

pub(crate) fn dot<T: Scalar>(x: &Matrix<T>, y: &Matrix<T>) -> Result<f64> {
    check::same("dot", "y", y, x)?;
    Ok(dot_slices(x.as_slice(), y.as_slice()))
}

struct RowDots<'a, T> {
    x: &'a [T],
    y: Option<&'a [T]>,
    cols: usize,
    block_rows: usize,
}

impl<T: Scalar> Kernel<f64> for RowDots<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [f64], _: &mut [()]) {
        let first = block * self.block_rows;
        for (i, value) in out.iter_mut().enumerate() {
            let row = (first + i) * self.cols..(first + i + 1) * self.cols;
            *value = match self.y {
                Some(y) => inner_f64(&self.x[row.clone()], &y[row]),
                None => sum_f64(&self.x[row]),
            };
        }
    }
}

/// Σ_j x_ij of each row.
pub(crate) fn row_sums<T: Scalar>(x: &Matrix<T>) -> Buffer<f64> {
    row_reduction(x, None)
}

/// Σ_j x_ij y_ij of each row; equal shapes.
pub(crate) fn row_dots<T: Scalar>(x: &Matrix<T>, y: &Matrix<T>) -> Buffer<f64> {
    row_reduction(x, Some(y.as_slice()))
}

fn row_reduction<T: Scalar>(x: &Matrix<T>, y: Option<&[T]>) -> Buffer<f64> {
    let mut out = Buffer::zeros(x.rows());
    let block_rows = rows_per_block(x.cols());
    let kernel = RowDots { x: x.as_slice(), y, cols: x.cols(), block_rows };
    for_blocks(&mut out, block_rows, x.as_slice().len(), &kernel);
    out
}

struct ColumnSums<'a, T> {
    x: &'a [T],
    cols: usize,
}

/// Rows of a block of [`add_column_sums`].
const COLUMN_BLOCK: usize = 64;

impl<T: Scalar> Kernel<T> for ColumnSums<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        let len = COLUMN_BLOCK * self.cols;
        let from = block * len;
        let to = (from + len).min(self.x.len());
        for row in self.x[from..to].chunks_exact(self.cols) {
            for (sum, &value) in out.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// out `[1, d]` += Σ_t x_tj for x `[T, d]`.
pub(crate) fn add_column_sums<T: Scalar>(x: &Matrix<T>, out: &mut Matrix<T>) -> Result<()> {
    check::shape("add_column_sums", "out", out.shape(), Shape::new(1, x.cols()))?;
    let cols = x.cols();
    if x.shape().is_empty() {
        return Ok(());
    }
    let mut partials = Buffer::zeros(x.rows().div_ceil(COLUMN_BLOCK) * cols);
    let kernel = ColumnSums { x: x.as_slice(), cols };
    for_blocks(&mut partials, cols, x.as_slice().len(), &kernel);
    add_partials(&partials, cols, 0, out.as_mut_slice());
    Ok(())
}

/// out_j += Σ_i partials_{i, offset + j}, partials `[blocks, width]`, in the order of i.
pub(crate) fn add_partials<T: Scalar>(partials: &[T], width: usize, offset: usize, out: &mut [T]) {
    if partials.is_empty() || out.is_empty() {
        return;
    }
    let mut total = Buffer::<T>::zeros(out.len());
    for partial in partials.chunks_exact(width) {
        for (sum, &value) in total.iter_mut().zip(&partial[offset..]) {
            *sum += value;
        }
    }
    for (o, &sum) in out.iter_mut().zip(total.iter()) {
        *o += sum;
    }
}
