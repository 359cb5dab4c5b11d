//! Rotary position embeddings.

use super::check;
use super::matrix::Matrix;
use super::parallel::{Kernel, for_blocks, rows_per_block};
use super::scalar::Scalar;
use crate::{Buffer, Result, RotaryStyle, TensorError};

/// cos and sin of each pair `[distinct positions, pairs]`, and the row of the table for each row of the batch.
struct Table<T: Scalar> {
    cos: Buffer<T>,
    sin: Buffer<T>,
    rows: Buffer<usize>,
}

impl<T: Scalar> Table<T> {
    fn new(positions: &[u32], frequencies: &[f64], inverse: bool) -> Self {
        let mut distinct = Buffer::from(positions);
        distinct.sort_unstable();
        distinct.dedup();
        let sign = if inverse { -1.0 } else { 1.0 };
        let len = distinct.len() * frequencies.len();
        let (mut cos, mut sin) = (Buffer::with_capacity(len), Buffer::with_capacity(len));
        for &position in distinct.iter() {
            for frequency in frequencies {
                let (s, c) = (sign * f64::from(position) * frequency).sin_cos();
                cos.push(T::of_f64(c));
                sin.push(T::of_f64(s));
            }
        }
        Self { cos, sin, rows: positions.iter().map(|p| distinct.partition_point(|q| q < p)).collect() }
    }
}

struct Rotate<'a, T: Scalar> {
    table: &'a Table<T>,
    style: RotaryStyle,
    pairs: usize,
    head_dim: usize,
    cols: usize,
    block_rows: usize,
}

impl<T: Scalar> Kernel<T> for Rotate<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, x: &mut [T], _: &mut [()]) {
        let first = block * self.block_rows;
        for (i, row) in x.chunks_exact_mut(self.cols).enumerate() {
            let start = self.table.rows[first + i] * self.pairs;
            let cos = &self.table.cos[start..start + self.pairs];
            let sin = &self.table.sin[start..start + self.pairs];
            for head in row.chunks_exact_mut(self.head_dim) {
                match self.style {
                    RotaryStyle::Halves => turn_halves(&mut head[..2 * self.pairs], cos, sin),
                    RotaryStyle::Interleaved => turn_pairs(&mut head[..2 * self.pairs], cos, sin),
                }
            }
        }
    }
}

#[inline(always)]
fn turn_halves<T: Scalar>(x: &mut [T], cos: &[T], sin: &[T]) {
    let (left, right) = x.split_at_mut(cos.len());
    for (((l, r), &c), &s) in left.iter_mut().zip(right).zip(cos).zip(sin) {
        (*l, *r) = (*l * c - *r * s, *r * c + *l * s);
    }
}

#[inline(always)]
fn turn_pairs<T: Scalar>(x: &mut [T], cos: &[T], sin: &[T]) {
    for ((pair, &c), &s) in x.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (l, r) = (pair[0], pair[1]);
        pair[0] = l * c - r * s;
        pair[1] = r * c + l * s;
    }
}

pub(crate) fn rotary<T: Scalar>(
    x: &mut Matrix<T>,
    head_dim: usize,
    positions: &[u32],
    frequencies: &[f64],
    style: RotaryStyle,
    inverse: bool,
) -> Result<()> {
    const OP: &str = "rotary";
    check::length(OP, x.shape(), positions.len(), x.rows())?;
    if head_dim == 0 || !x.cols().is_multiple_of(head_dim) {
        return Err(TensorError::Config { op: OP, what: "columns are not a multiple of head_dim" });
    }
    if 2 * frequencies.len() > head_dim {
        return Err(TensorError::Config { op: OP, what: "more frequencies than pairs in a head" });
    }
    if frequencies.is_empty() || x.shape().is_empty() {
        return Ok(());
    }
    let table = Table::new(positions, frequencies, inverse);
    let (cols, work) = (x.cols(), x.shape().len());
    let block_rows = rows_per_block(cols);
    let kernel = Rotate { table: &table, style, pairs: frequencies.len(), head_dim, cols, block_rows };
    for_blocks(x.as_mut_slice(), block_rows * cols, work, &kernel);
    Ok(())
}
