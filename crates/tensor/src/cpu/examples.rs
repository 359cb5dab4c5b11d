//! The primitives of the folds that form gradients of examples D W_n = Σ_t Ds_t ā_tᵀ, a block of each at a time.
#![allow(unsafe_code)]

use super::check;
use super::elementwise::square;
use super::gemm::{Threads, View, ViewMut, gemm, product};
use super::matrix::Matrix;
use super::parallel::{Shared, dispatch, for_each, for_each_with};
use super::reduce::{add_partials, reduce, row_dots};
use super::scalar::Scalar;
use crate::{Accumulate, Result, Segment, Shape, Transpose};

/// Largest block of one D W_n that a thread holds.
const TILE_ROWS: usize = 64;
const TILE_COLS: usize = 1024;
/// Bytes of the blocks of several D W_n that a thread holds in [`example_dots`].
const GROUP_BYTES: usize = 4 << 20;
/// Partial sums that [`example_dots`] is divided into.
const PARTIALS: usize = 32;

/// Ds, ā and the rows of the examples.
struct Examples<'a, T: Scalar> {
    dout: &'a Matrix<T>,
    input: &'a Matrix<T>,
    segments: &'a [Segment],
}

/// Rows and columns of a block of D W_n.
#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
}

impl<'a, T: Scalar> Examples<'a, T> {
    fn new(op: &'static str, dout: &'a Matrix<T>, input: &'a Matrix<T>, segments: &'a [Segment]) -> Result<Self> {
        check::shape(op, "input", input.shape(), Shape::new(dout.rows(), input.cols()))?;
        check::segments(op, segments, dout.rows())?;
        Ok(Self { dout, input, segments })
    }

    /// The shape of one D W_n.
    fn shape(&self) -> Shape {
        Shape::new(self.dout.cols(), self.input.cols())
    }

    /// Tokens of all examples.
    fn tokens(&self) -> usize {
        self.segments.iter().map(|s| s.len).sum()
    }

    /// Whether each row is an example of its own, so that D W_n is an outer product.
    fn is_rank_one(&self) -> bool {
        self.segments.len() == self.dout.rows()
            && self.segments.iter().enumerate().all(|(i, s)| *s == Segment { start: i, len: 1 })
    }

    fn is_big(&self) -> bool {
        self.tokens() * self.shape().len() > 1 << 18
    }

    /// A block of D W_n into `out` `[tile.rows, tile.cols]`.
    fn form(&self, segment: Segment, tile: Tile, out: ViewMut<'_, T>) {
        let left = View::block(self.dout, segment.start, segment.len, tile.row, tile.rows);
        let right = View::block(self.input, segment.start, segment.len, tile.col, tile.cols);
        gemm(Threads::One, T::ONE, left.t(), right, Accumulate::Replace, out);
    }

    /// The blocks that D W_n is cut into.
    fn tiles(&self) -> Vec<Tile> {
        let Shape { rows, cols } = self.shape();
        let cut = |limit: usize, size: usize| {
            let width = size.div_ceil(size.div_ceil(limit).max(1)).max(1);
            (0..size).step_by(width).map(move |start| (start, width.min(size - start)))
        };
        cut(TILE_ROWS, rows)
            .flat_map(|(row, rows)| cut(TILE_COLS, cols).map(move |(col, cols)| Tile { row, rows, col, cols }))
            .collect()
    }
}

pub(crate) fn example_gradients<T: Scalar>(
    dout: &Matrix<T>,
    input: &Matrix<T>,
    segments: &[Segment],
) -> Result<Matrix<T>> {
    let examples = Examples::new("example_gradients", dout, input, segments)?;
    let shape = examples.shape();
    let mut out = Matrix::zeros(Shape::new(segments.len(), shape.len()));
    let tiles = examples.tiles();
    let shared = Shared::new(out.as_mut_slice());
    for_each(segments.len() * tiles.len(), examples.is_big(), |task| {
        let (n, tile) = (task / tiles.len(), tiles[task % tiles.len()]);
        let start = n * shape.len() + tile.row * shape.cols + tile.col;
        // SAFETY: each task writes its own block of its own example.
        let block = unsafe { ViewMut::shared(&shared, start, tile.rows, tile.cols, shape.cols) };
        examples.form(segments[n], tile, block);
    });
    Ok(out)
}

/// acc += block ∘ block, where rows of acc are `stride` apart.
struct AddSquares<'a, 'b, T> {
    block: &'a [T],
    tile: Tile,
    acc: &'a Shared<'b, T>,
    stride: usize,
}

impl<T: Scalar> pulp::NullaryFnOnce for AddSquares<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Tile { row, col, cols, .. } = self.tile;
        for (i, values) in self.block.chunks_exact(cols).enumerate() {
            // SAFETY: a task owns its tile of acc, and takes one row at a time.
            let acc = unsafe { self.acc.part((row + i) * self.stride + col, cols) };
            for (a, &x) in acc.iter_mut().zip(values) {
                *a = x.mul_add(x, *a);
            }
        }
    }
}

pub(crate) fn square_accumulate<T: Scalar>(
    dout: &Matrix<T>,
    input: &Matrix<T>,
    segments: &[Segment],
    acc: &mut Matrix<T>,
) -> Result<()> {
    let examples = Examples::new("square_accumulate", dout, input, segments)?;
    let shape = examples.shape();
    check::shape("square_accumulate", "acc", acc.shape(), shape)?;
    if examples.is_rank_one() {
        let (left, right) = (square(dout), square(input));
        let (left, right) = (View::of(&left, Transpose::Yes), View::of(&right, Transpose::No));
        gemm(Threads::Pool, T::ONE, left, right, Accumulate::Add, ViewMut::of(acc));
        return Ok(());
    }
    let tiles = examples.tiles();
    let acc = Shared::new(acc.as_mut_slice());
    let scratch = || vec![T::ZERO; TILE_ROWS * TILE_COLS];
    for_each_with(tiles.len(), examples.is_big(), scratch, |scratch, task| {
        let tile = tiles[task];
        let block = &mut scratch[..tile.rows * tile.cols];
        for &segment in segments {
            examples.form(segment, tile, ViewMut::new(block, tile.rows, tile.cols, tile.cols));
            dispatch(AddSquares { block, tile, acc: &acc, stride: shape.cols });
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
    dout: &Matrix<T>,
    input: &Matrix<T>,
    segments: &[Segment],
    weight: &Matrix<T>,
) -> Result<Vec<f64>> {
    let examples = Examples::new("weighted_squares", dout, input, segments)?;
    check::shape("weighted_squares", "weight", weight.shape(), examples.shape())?;
    if examples.is_rank_one() {
        let seen = product(View::of(&square(dout), Transpose::No), View::of(weight, Transpose::No));
        return Ok(row_dots(&seen, &square(input)));
    }
    let tiles = examples.tiles();
    let mut partials = vec![0.0; tiles.len() * segments.len()];
    let shared = Shared::new(&mut partials);
    let scratch = || vec![T::ZERO; TILE_ROWS * TILE_COLS];
    for_each_with(tiles.len(), examples.is_big(), scratch, |scratch, task| {
        let tile = tiles[task];
        let block = &mut scratch[..tile.rows * tile.cols];
        // SAFETY: each task has its own row of the partials.
        let sums = unsafe { shared.part(task * segments.len(), segments.len()) };
        for (sum, &segment) in sums.iter_mut().zip(segments) {
            examples.form(segment, tile, ViewMut::new(block, tile.rows, tile.cols, tile.cols));
            *sum = dispatch(WeightedSquares { block, tile, weight });
        }
    });
    let mut totals = vec![0.0; segments.len()];
    for partial in partials.chunks_exact(segments.len().max(1)) {
        totals.iter_mut().zip(partial).for_each(|(total, value)| *total += value);
    }
    Ok(totals)
}

pub(crate) fn example_dots<T: Scalar>(
    dout: &Matrix<T>,
    input: &Matrix<T>,
    segments: &[Segment],
    queries: &Matrix<T>,
) -> Result<Matrix<T>> {
    let examples = Examples::new("example_dots", dout, input, segments)?;
    let shape = examples.shape();
    check::shape("example_dots", "queries", queries.shape(), Shape::new(queries.rows(), shape.len()))?;
    // Multiply-adds per element of W: forming costs one per token and then one per pair of example and query; applying
    // each query to all rows costs one per row and query.
    let forming = examples.tokens() + segments.len() * queries.rows();
    let applying = dout.rows() * queries.rows();
    if applying < forming { Ok(dots_by_query(&examples, queries)) } else { Ok(dots_by_forming(&examples, queries)) }
}

/// Σ_t (Ds_tᵀ P) ā_t of each example, query by query.
fn dots_by_query<T: Scalar>(examples: &Examples<'_, T>, queries: &Matrix<T>) -> Matrix<T> {
    let Shape { rows, cols } = examples.shape();
    let count = queries.rows();
    let mut out = Matrix::zeros(Shape::new(examples.segments.len(), count));
    for query in 0..count {
        let query_view = View::new(queries.row(query), rows, cols, cols);
        let seen = product(View::of(examples.dout, Transpose::No), query_view);
        let tokens = row_dots(&seen, examples.input);
        for (n, segment) in examples.segments.iter().enumerate() {
            out.as_mut_slice()[n * count + query] = T::of_f64(tokens[segment.range()].iter().sum());
        }
    }
    out
}

/// How [`dots_by_forming`] cuts its work: `rows` of W and `examples` at a time.
struct Cut {
    rows: usize,
    examples: usize,
}

impl Cut {
    fn new<T>(shape: Shape, examples: usize) -> Self {
        let budget = GROUP_BYTES / size_of::<T>() / shape.cols.max(1);
        let rows = (budget / examples.max(1) / 8 * 8).clamp(8, TILE_ROWS).min(shape.rows.max(1));
        Self { rows, examples: (budget / rows).max(1) }
    }
}

/// Blocks of several D W_n one below the other, times the same block of all queries. The sums are kept as `[Q, examples]`:
/// that way round the product reads the queries where they are, and packs the smaller side.
fn dots_by_forming<T: Scalar>(examples: &Examples<'_, T>, queries: &Matrix<T>) -> Matrix<T> {
    let (shape, segments) = (examples.shape(), examples.segments);
    let out_shape = Shape::new(segments.len(), queries.rows());
    let cut = Cut::new::<T>(shape, segments.len());
    let slices: Vec<usize> = (0..shape.rows).step_by(cut.rows).collect();
    let per_partial = slices.len().div_ceil(PARTIALS).max(1);
    let groups: Vec<&[usize]> = slices.chunks(per_partial).collect();
    let mut partials = vec![T::ZERO; groups.len() * out_shape.len()];
    let shared = Shared::new(&mut partials);
    for_each_with(groups.len(), examples.is_big(), Vec::new, |scratch: &mut Vec<T>, task| {
        // SAFETY: each task has its own partial sum.
        let partial = unsafe { shared.part(task * out_shape.len(), out_shape.len()) };
        for &row in groups[task] {
            let tile = Tile { row, rows: cut.rows.min(shape.rows - row), col: 0, cols: shape.cols };
            for (i, members) in segments.chunks(cut.examples).enumerate() {
                let start = (i * cut.examples).min(partial.len());
                let count = queries.rows();
                let out = ViewMut::new(&mut partial[start..], count, members.len(), segments.len());
                add_dots(examples, members, tile, queries, scratch, out);
            }
        }
    });
    let mut sums = vec![T::ZERO; out_shape.len()];
    add_partials(&partials, out_shape.len(), 0, &mut sums);
    let mut out = Matrix::zeros(out_shape);
    for (n, row) in out.as_mut_slice().chunks_exact_mut(queries.rows().max(1)).enumerate() {
        row.iter_mut().zip(sums[n..].iter().step_by(segments.len())).for_each(|(o, &sum)| *o = sum);
    }
    out
}

/// out `[Q, members]` += ⟨block of query, block of D W_n⟩.
fn add_dots<T: Scalar>(
    examples: &Examples<'_, T>,
    members: &[Segment],
    tile: Tile,
    queries: &Matrix<T>,
    scratch: &mut Vec<T>,
    out: ViewMut<'_, T>,
) {
    let len = tile.rows * tile.cols;
    scratch.resize(scratch.len().max(members.len() * len), T::ZERO);
    for (block, &segment) in scratch.chunks_exact_mut(len.max(1)).zip(members) {
        examples.form(segment, tile, ViewMut::new(block, tile.rows, tile.cols, tile.cols));
    }
    let gradients = View::new(scratch, members.len(), len, len);
    let queries = View::block(queries, 0, queries.rows(), tile.row * tile.cols, len);
    gemm(Threads::One, T::ONE, queries, gradients.t(), Accumulate::Add, out);
}
