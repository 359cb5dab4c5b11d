//! The primitives of the folds that need no gradient of an example: covariances, and dots of tokens and segments.

use super::check;
use super::matrix::Matrix;
use super::parallel::{Kernel, build, for_blocks};
use super::product::{View, product, syrk};
use super::reduce::row_dots;
use super::scalar::Scalar;
use crate::{Precision, Result, Segment, Shape, Transpose};

pub(crate) fn syrk_accumulate<T: Scalar>(precision: Precision, x: &Matrix<T>, acc: &mut Matrix<f64>) -> Result<()> {
    check::shape("syrk_accumulate", "acc", acc.shape(), Shape::new(x.cols(), x.cols()))?;
    syrk(precision, x, acc);
    Ok(())
}

struct AddSquares<'a, T>(&'a [T]);

impl<T: Scalar> Kernel<f64> for AddSquares<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, acc: &mut [f64], _: &mut [()]) {
        let start = block * SQUARES_BLOCK;
        let x = &self.0[start..start + acc.len()];
        for (a, x) in acc.iter_mut().zip(x) {
            *a += x.to_f64() * x.to_f64();
        }
    }
}

const SQUARES_BLOCK: usize = 1 << 14;

pub(crate) fn add_squares<T: Scalar>(x: &Matrix<T>, acc: &mut Matrix<f64>) -> Result<()> {
    check::shape("add_squares", "acc", acc.shape(), x.shape())?;
    for_blocks(acc.as_mut_slice(), SQUARES_BLOCK, x.shape().len(), &AddSquares(x.as_slice()));
    Ok(())
}

pub(crate) fn token_dots<T: Scalar>(
    precision: Precision,
    dout: &Matrix<T>,
    input: &Matrix<T>,
    query: &Matrix<T>,
) -> Result<Matrix<T>> {
    check::shape("token_dots", "input", input.shape(), Shape::new(dout.rows(), input.cols()))?;
    check::shape("token_dots", "query", query.shape(), Shape::new(dout.cols(), input.cols()))?;
    let seen = product(precision, View::of(dout, Transpose::No), View::of(query, Transpose::No));
    let dots = row_dots(&seen, input).iter().map(|&dot| T::of_f64(dot)).collect();
    Ok(Matrix::from_buffer(Shape::new(dout.rows(), 1), dots))
}

/// Σ_r left_{t, q r} right_{t, q r}.
struct RankSums<'a, T: Scalar> {
    left: &'a Matrix<T>,
    right: &'a Matrix<T>,
    rank: usize,
}

const RANK_ROWS: usize = 16;

impl<T: Scalar> Kernel<T> for RankSums<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        let first = block * RANK_ROWS;
        let queries = self.left.cols() / self.rank;
        for (i, row) in out.chunks_exact_mut(queries).enumerate() {
            let left = self.left.row(first + i).chunks_exact(self.rank);
            let right = self.right.row(first + i).chunks_exact(self.rank);
            for ((o, l), r) in row.iter_mut().zip(left).zip(right) {
                *o = l.iter().zip(r).fold(T::ZERO, |sum, (&l, &r)| l.mul_add(r, sum));
            }
        }
    }
}

pub(crate) fn low_rank_token_dots<T: Scalar>(
    precision: Precision,
    dout: &Matrix<T>,
    input: &Matrix<T>,
    u: &Matrix<T>,
    v: &Matrix<T>,
    rank: usize,
) -> Result<Matrix<T>> {
    const OP: &str = "low_rank_token_dots";
    check::shape(OP, "input", input.shape(), Shape::new(dout.rows(), input.cols()))?;
    check::shape(OP, "u", u.shape(), Shape::new(u.rows(), dout.cols()))?;
    check::shape(OP, "v", v.shape(), Shape::new(u.rows(), input.cols()))?;
    let count = check::queries(OP, u.rows(), rank)?;
    let left = product(precision, View::of(dout, Transpose::No), View::of(u, Transpose::Yes));
    let right = product(precision, View::of(input, Transpose::No), View::of(v, Transpose::Yes));
    let shape = Shape::new(dout.rows(), count);
    Ok(build(shape, RANK_ROWS, &RankSums { left: &left, right: &right, rank }))
}

struct SegmentSums<'a, T: Scalar> {
    x: &'a Matrix<T>,
    segments: &'a [Segment],
}

impl<T: Scalar> Kernel<T> for SegmentSums<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        out.fill(T::ZERO);
        for t in self.segments[block].range() {
            for (sum, &value) in out.iter_mut().zip(self.x.row(t)) {
                *sum += value;
            }
        }
    }
}

pub(crate) fn segment_sums<T: Scalar>(x: &Matrix<T>, segments: &[Segment]) -> Result<Matrix<T>> {
    check::segments("segment_sums", segments, x.rows())?;
    Ok(build(Shape::new(segments.len(), x.cols()), 1, &SegmentSums { x, segments }))
}
