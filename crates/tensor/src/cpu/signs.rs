//! Parts of a matrix of random signs.

use std::ops::Range;

use super::matrix::Matrix;
use super::parallel::{Kernel, build, rows_per_block};
use super::scalar::Scalar;
use crate::signs::WORD;
use crate::{Shape, Signs};

struct Fill {
    signs: Signs,
    first_row: usize,
    cols: usize,
    block_rows: usize,
}

impl<T: Scalar> Kernel<T> for Fill {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        let first = self.first_row + block * self.block_rows;
        for (i, row) in out.chunks_exact_mut(self.cols).enumerate() {
            for (word, part) in row.chunks_mut(WORD).enumerate() {
                let bits = self.signs.word(first + i, word);
                for (at, x) in part.iter_mut().enumerate() {
                    *x = if bits >> at & 1 == 0 { T::ONE } else { -T::ONE };
                }
            }
        }
    }
}

pub(crate) fn random_signs<T: Scalar>(signs: Signs, rows: Range<usize>, cols: usize) -> Matrix<T> {
    let block_rows = rows_per_block(cols);
    let fill = Fill { signs, first_row: rows.start, cols: cols.max(1), block_rows };
    build(Shape::new(rows.len(), cols), block_rows, &fill)
}
