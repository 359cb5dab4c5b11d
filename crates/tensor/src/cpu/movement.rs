//! Copies of rows and columns.
#![allow(unsafe_code)]

use super::check;
use super::matrix::Matrix;
use super::parallel::{Kernel, Shared, build, for_each, rows_per_block};
use super::scalar::Scalar;
use crate::{Buffer, Host, Result, Shape};

pub(crate) fn upload<T: Scalar, H: Host>(shape: Shape, data: &[H]) -> Result<Matrix<T>> {
    check::length("upload", shape, data.len(), shape.len())?;
    Ok(Matrix::from_buffer(shape, data.iter().map(|x| T::of_f64(x.to_f64())).collect()))
}

pub(crate) fn download<T: Scalar, H: Host>(x: &Matrix<T>) -> Buffer<H> {
    x.as_slice().iter().map(|x| H::of_f64(x.to_f64())).collect()
}

pub(crate) fn reshape<T: Scalar>(x: Matrix<T>, shape: Shape) -> Result<Matrix<T>> {
    check::length("reshape", shape, x.shape().len(), shape.len())?;
    Ok(Matrix::from_buffer(shape, x.into_buffer()))
}

/// Row `source(i)` of `x` for each row i.
struct Gather<'a, T: Scalar, F> {
    x: &'a Matrix<T>,
    source: F,
    block_rows: usize,
}

impl<T: Scalar, F: Fn(usize) -> usize + Sync> Kernel<T> for Gather<'_, T, F> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        let first = block * self.block_rows;
        for (i, row) in out.chunks_exact_mut(self.x.cols()).enumerate() {
            row.copy_from_slice(self.x.row((self.source)(first + i)));
        }
    }
}

fn gather<T: Scalar>(x: &Matrix<T>, rows: usize, source: impl Fn(usize) -> usize + Sync) -> Matrix<T> {
    let block_rows = rows_per_block(x.cols());
    build(Shape::new(rows, x.cols()), block_rows, &Gather { x, source, block_rows })
}

pub(crate) fn gather_rows<T: Scalar>(x: &Matrix<T>, ids: &[usize]) -> Result<Matrix<T>> {
    ids.iter().try_for_each(|&id| check::index("gather_rows", "row", id, x.rows()))?;
    Ok(gather(x, ids.len(), |i| ids[i]))
}

pub(crate) fn embedding_forward<T: Scalar>(table: &Matrix<T>, ids: &[u32]) -> Result<Matrix<T>> {
    ids.iter().try_for_each(|&id| check::index("embedding_forward", "id", id as usize, table.rows()))?;
    Ok(gather(table, ids.len(), |i| ids[i] as usize))
}

/// Columns of a task of [`scatter_add`].
const SCATTER_COLS: usize = 256;

/// Row `target(i)` of `out` += row i of `x`, in the order of i; targets must be rows of `out`, widths equal.
fn scatter_add<T: Scalar>(x: &Matrix<T>, target: impl Fn(usize) -> usize + Sync + Send, out: &mut Matrix<T>) {
    let cols = x.cols();
    let parallel = x.shape().len() >= 1 << 15;
    let out = Shared::new(out.as_mut_slice());
    for_each(cols.div_ceil(SCATTER_COLS), parallel, |task| {
        let start = task * SCATTER_COLS;
        let len = SCATTER_COLS.min(cols - start);
        for i in 0..x.rows() {
            // SAFETY: tasks write disjoint columns, and a task one row at a time.
            let row = unsafe { out.part(target(i) * cols + start, len) };
            for (o, &value) in row.iter_mut().zip(&x.row(i)[start..start + len]) {
                *o += value;
            }
        }
    });
}

pub(crate) fn scatter_rows<T: Scalar>(x: &Matrix<T>, ids: &[usize], rows: usize) -> Result<Matrix<T>> {
    check::shape("scatter_rows", "x", x.shape(), Shape::new(ids.len(), x.cols()))?;
    ids.iter().try_for_each(|&id| check::index("scatter_rows", "row", id, rows))?;
    let mut out = Matrix::zeros(Shape::new(rows, x.cols()));
    scatter_add(x, |i| ids[i], &mut out);
    Ok(out)
}

pub(crate) fn embedding_backward<T: Scalar>(dy: &Matrix<T>, ids: &[u32], dtable: &mut Matrix<T>) -> Result<()> {
    check::shape("embedding_backward", "dy", dy.shape(), Shape::new(ids.len(), dtable.cols()))?;
    ids.iter().try_for_each(|&id| check::index("embedding_backward", "id", id as usize, dtable.rows()))?;
    scatter_add(dy, |i| ids[i] as usize, dtable);
    Ok(())
}

pub(crate) fn slice_rows<T: Scalar>(x: &Matrix<T>, start: usize, len: usize) -> Result<Matrix<T>> {
    check::range("slice_rows", "row", start, len, x.rows())?;
    Ok(gather(x, len, |i| start + i))
}

pub(crate) fn write_rows<T: Scalar>(dst: &mut Matrix<T>, start: usize, src: &Matrix<T>) -> Result<()> {
    check::shape("write_rows", "src", src.shape(), Shape::new(src.rows(), dst.cols()))?;
    check::range("write_rows", "row", start, src.rows(), dst.rows())?;
    let first = start * dst.cols();
    dst.as_mut_slice()[first..first + src.as_slice().len()].copy_from_slice(src.as_slice());
    Ok(())
}

/// For each row, the head of the output is columns `start..` of `x`; what lies beyond is set to `fill`.
struct Columns<'a, T: Scalar> {
    x: &'a Matrix<T>,
    start: usize,
    cols: usize,
    fill: T,
    block_rows: usize,
}

impl<T: Scalar> Kernel<T> for Columns<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        let first = block * self.block_rows;
        for (i, row) in out.chunks_exact_mut(self.cols).enumerate() {
            let x = &self.x.row(first + i)[self.start..];
            let head = x.len().min(self.cols);
            row[..head].copy_from_slice(&x[..head]);
            row[head..].fill(self.fill);
        }
    }
}

pub(crate) fn slice_cols<T: Scalar>(x: &Matrix<T>, start: usize, len: usize) -> Result<Matrix<T>> {
    check::range("slice_cols", "column", start, len, x.cols())?;
    let block_rows = rows_per_block(len);
    let kernel = Columns { x, start, cols: len, fill: T::ZERO, block_rows };
    Ok(build(Shape::new(x.rows(), len), block_rows, &kernel))
}

pub(crate) fn append_ones<T: Scalar>(x: &Matrix<T>) -> Matrix<T> {
    let cols = x.cols() + 1;
    let block_rows = rows_per_block(cols);
    build(Shape::new(x.rows(), cols), block_rows, &Columns { x, start: 0, cols, fill: T::ONE, block_rows })
}

struct Concat<'a, 'b, T: Scalar> {
    parts: &'a [&'b Matrix<T>],
    cols: usize,
    block_rows: usize,
}

impl<T: Scalar> Kernel<T> for Concat<'_, '_, T> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        let first = block * self.block_rows;
        for (i, mut row) in out.chunks_exact_mut(self.cols).enumerate() {
            for part in self.parts {
                let (head, rest) = row.split_at_mut(part.cols());
                head.copy_from_slice(part.row(first + i));
                row = rest;
            }
        }
    }
}

pub(crate) fn concat_cols<T: Scalar>(parts: &[&Matrix<T>]) -> Result<Matrix<T>> {
    let rows = parts.first().map_or(0, |part| part.rows());
    for part in parts {
        check::shape("concat_cols", "part", part.shape(), Shape::new(rows, part.cols()))?;
    }
    let cols = parts.iter().map(|part| part.cols()).sum();
    let block_rows = rows_per_block(cols);
    Ok(build(Shape::new(rows, cols), block_rows, &Concat { parts, cols, block_rows }))
}

struct Repeat<'a, T>(&'a [T]);

impl<T: Scalar> Kernel<T> for Repeat<'_, T> {
    #[inline(always)]
    fn run(&self, _: usize, out: &mut [T], _: &mut [()]) {
        for row in out.chunks_exact_mut(self.0.len()) {
            row.copy_from_slice(self.0);
        }
    }
}

/// `rows` copies of one row.
pub(crate) fn repeat_row<T: Scalar>(row: &[T], rows: usize) -> Matrix<T> {
    build(Shape::new(rows, row.len()), rows_per_block(row.len()), &Repeat(row))
}
