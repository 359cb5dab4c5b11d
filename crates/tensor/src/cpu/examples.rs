//! The primitives of the folds that form gradients of examples D W_n = Σ_t Ds_t ā_tᵀ, a block of each at a time.
#![allow(unsafe_code)]

use super::check;
use super::elementwise::square;
use super::matrix::Matrix;
use super::parallel::{Shared, dispatch, for_each, for_each_task};
use super::product::{Mode, Panels, Side, Threads, View, ViewMut, add_wide, block_of_run, product};
use super::reduce::{reduce, row_dots};
use super::scalar::Scalar;
use crate::{Buffer, Precision, Result, Segment, Shape, Transpose};

/// Rows and columns of the block of D W_n that a task forms at a time.
const TILE_ROWS: usize = 96;
const TILE_COLS: usize = 768;

/// Ds, ā and the rows of the examples.
pub(super) struct Examples<'a, T: Scalar> {
    pub(super) precision: Precision,
    pub(super) dout: &'a Matrix<T>,
    pub(super) input: &'a Matrix<T>,
    pub(super) segments: &'a [Segment],
}

/// Rows and columns of a block of D W_n.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) col: usize,
    pub(super) cols: usize,
}

/// The blocks of at most `rows` by `cols` that a matrix is cut into, row after row.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub(super) shape: Shape,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Tiles {
    pub(super) fn count(self) -> usize {
        self.shape.rows.div_ceil(self.rows) * self.shape.cols.div_ceil(self.cols)
    }

    pub(super) fn get(self, i: usize) -> Tile {
        let across = self.shape.cols.div_ceil(self.cols);
        let (row, col) = (i / across * self.rows, i % across * self.cols);
        Tile { row, rows: self.rows.min(self.shape.rows - row), col, cols: self.cols.min(self.shape.cols - col) }
    }
}

impl Tile {
    fn row_range(self) -> std::ops::Range<usize> {
        self.row..self.row + self.rows
    }

    fn col_range(self) -> std::ops::Range<usize> {
        self.col..self.col + self.cols
    }
}

impl<'a, T: Scalar> Examples<'a, T> {
    pub(super) fn new(
        precision: Precision,
        op: &'static str,
        dout: &'a Matrix<T>,
        input: &'a Matrix<T>,
        segments: &'a [Segment],
    ) -> Result<Self> {
        check::shape(op, "input", input.shape(), Shape::new(dout.rows(), input.cols()))?;
        check::segments(op, segments, dout.rows())?;
        Ok(Self { precision, dout, input, segments })
    }

    /// The shape of one D W_n.
    pub(super) fn shape(&self) -> Shape {
        Shape::new(self.dout.cols(), self.input.cols())
    }

    /// Tokens of all examples.
    pub(super) fn tokens(&self) -> usize {
        self.segments.iter().map(|s| s.len).sum()
    }

    /// Whether each row is an example of its own, so that D W_n is an outer product.
    fn is_rank_one(&self) -> bool {
        self.segments.len() == self.dout.rows()
            && self.segments.iter().enumerate().all(|(i, s)| *s == Segment { start: i, len: 1 })
    }

    /// The blocks of one D W_n.
    fn tiles(&self) -> Tiles {
        Tiles { shape: self.shape(), rows: TILE_ROWS, cols: TILE_COLS }
    }

    pub(super) fn is_big(&self) -> bool {
        self.tokens() * self.shape().len() > 1 << 18
    }

    /// Ds and ā packed, one run per example.
    pub(super) fn pack(&self) -> Packed<T> {
        let threads = if self.is_big() { Threads::Pool } else { Threads::One };
        let (dout, input) = (View::of(self.dout, Transpose::Yes), View::of(self.input, Transpose::No));
        Packed {
            dout: Panels::pack_segments(self.precision, threads, dout, Side::Left, self.segments),
            input: Panels::pack_segments(self.precision, threads, input, Side::Right, self.segments),
        }
    }
}

/// Two packed operands with the same runs: D W_n is the product over run n.
pub(super) struct Packed<T> {
    pub(super) dout: Panels<T>,
    pub(super) input: Panels<T>,
}

impl<T: Scalar> Packed<T> {
    /// A block of the product over one run, to `out` `[tile.rows, tile.cols]`.
    pub(super) fn form(&self, run: usize, tile: Tile, mode: Mode, out: &ViewMut<'_, T>) {
        block_of_run(&self.dout, &self.input, run, tile.row_range(), tile.col_range(), mode, out);
    }
}

pub(crate) fn example_gradients<T: Scalar>(
    precision: Precision,
    dout: &Matrix<T>,
    input: &Matrix<T>,
    segments: &[Segment],
) -> Result<Matrix<T>> {
    let examples = Examples::new(precision, "example_gradients", dout, input, segments)?;
    let shape = examples.shape();
    let mut out = Matrix::zeros(Shape::new(segments.len(), shape.len()));
    let (tiles, packed) = (examples.tiles(), examples.pack());
    let shared = Shared::new(out.as_mut_slice());
    for_each(segments.len() * tiles.count(), examples.is_big(), |task| {
        let (n, tile) = (task / tiles.count(), tiles.get(task % tiles.count()));
        let start = n * shape.len() + tile.row * shape.cols + tile.col;
        // SAFETY: each task writes its own block of its own example.
        let block = unsafe { ViewMut::shared(&shared, start, tile.rows, tile.cols, shape.cols) };
        packed.form(n, tile, Mode::Replace, &block);
    });
    Ok(out)
}

pub(crate) fn square_accumulate<T: Scalar>(
    precision: Precision,
    dout: &Matrix<T>,
    input: &Matrix<T>,
    segments: &[Segment],
    acc: &mut Matrix<f64>,
) -> Result<()> {
    let examples = Examples::new(precision, "square_accumulate", dout, input, segments)?;
    let shape = examples.shape();
    check::shape("square_accumulate", "acc", acc.shape(), shape)?;
    if examples.is_rank_one() {
        let (left, right) = (square(dout), square(input));
        add_wide(precision, View::of(&left, Transpose::Yes), View::of(&right, Transpose::No), acc);
        return Ok(());
    }
    let (tiles, packed) = (examples.tiles(), examples.pack());
    let shared = Shared::new(acc.as_mut_slice());
    for_each_task(tiles.count(), examples.is_big(), |task| {
        let tile = tiles.get(task);
        let mut block = Buffer::zeros(tile.rows * tile.cols);
        let out = ViewMut::new(&mut block, tile.rows, tile.cols, tile.cols);
        (0..segments.len()).for_each(|n| packed.form(n, tile, Mode::AddSquares, &out));
        for (i, sums) in block.chunks_exact(tile.cols).enumerate() {
            // SAFETY: each task has its own block of acc, and takes one row at a time.
            let acc = unsafe { shared.part((tile.row + i) * shape.cols + tile.col, tile.cols) };
            acc.iter_mut().zip(sums).for_each(|(a, sum)| *a += sum.to_f64());
        }
    });
    Ok(())
}

/// Σ weight ∘ block ∘ block.
struct WeightedSquares<'a, T: Scalar> {
    block: &'a [T],
    tile: Tile,
    weight: &'a Matrix<T>,
}

impl<T: Scalar> pulp::NullaryFnOnce for WeightedSquares<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let Tile { row, col, cols, .. } = self.tile;
        let mut total = 0.0;
        for (i, values) in self.block.chunks_exact(cols).enumerate() {
            let weight = &self.weight.row(row + i)[col..col + cols];
            let step = |sum: T, x: T, w: T| (x * x).mul_add(w, sum);
            total += reduce(values, weight, T::ZERO, step, |a, b| a + b).to_f64();
        }
        total
    }
}

pub(crate) fn weighted_squares<T: Scalar>(
    precision: Precision,
    dout: &Matrix<T>,
    input: &Matrix<T>,
    segments: &[Segment],
    weight: &Matrix<T>,
) -> Result<Buffer<f64>> {
    let examples = Examples::new(precision, "weighted_squares", dout, input, segments)?;
    check::shape("weighted_squares", "weight", weight.shape(), examples.shape())?;
    if examples.is_rank_one() {
        let seen = product(precision, View::of(&square(dout), Transpose::No), View::of(weight, Transpose::No));
        return Ok(row_dots(&seen, &square(input)));
    }
    let (tiles, packed) = (examples.tiles(), examples.pack());
    let mut partials = Buffer::zeros(tiles.count() * segments.len());
    let shared = Shared::new(&mut partials);
    for_each_task(tiles.count(), examples.is_big(), |task| {
        let tile = tiles.get(task);
        let mut block = Buffer::stale(tile.rows * tile.cols);
        // SAFETY: each task has its own row of the partials.
        let sums = unsafe { shared.part(task * segments.len(), segments.len()) };
        for (n, sum) in sums.iter_mut().enumerate() {
            packed.form(n, tile, Mode::Replace, &ViewMut::new(&mut block, tile.rows, tile.cols, tile.cols));
            *sum = dispatch(WeightedSquares { block: &block, tile, weight });
        }
    });
    let mut totals = Buffer::<f64>::zeros(segments.len());
    for partial in partials.chunks_exact(segments.len().max(1)) {
        totals.iter_mut().zip(partial).for_each(|(total, value)| *total += value);
    }
    Ok(totals)
}
