//! ⟨query, D W_n⟩ of examples and queries, without ever holding all of a gradient: a block of several D W_n is formed, and
//! multiplied with the same block of the queries. Queries of low rank are multiplied out block by block.
#![allow(unsafe_code)]

use super::check;
use super::examples::{Examples, Packed, Tile, Tiles};
use super::folds::low_rank_token_dots;
use super::matrix::Matrix;
use super::parallel::{Shared, for_each_task};
use super::product::{Blocks, Mode, Panels, Side, Threads, View, ViewMut, add_dots, add_products, product};
use super::reduce::{add_partials, row_dots};
use super::scalar::Scalar;
use crate::{Buffer, Contraction, Precision, Result, Segment, Shape, Transpose};

/// Rows and columns of the blocks: long rows where queries are read as they are, and closer to square where a block of each
/// is multiplied out, from factors that are then read less often.
const BLOCK: (usize, usize) = (16, 768);
const BLOCK_OF_FACTORS: (usize, usize) = (64, 384);
/// Numbers of the blocks of several D W_n that a thread holds: few in its second-level cache, where a product is a few
/// inner products, and more where it is a matrix product.
const FEW: usize = 1 << 17;
const MANY: usize = 1 << 20;
/// Examples from which on the products of a block are matrix products, for which operands are packed.
const MANY_EXAMPLES: usize = 40;
/// Partial sums that the work is divided into.
const PARTIALS: usize = 32;

pub(crate) fn example_dots<T: Scalar>(
    precision: Precision,
    dout: &Matrix<T>,
    input: &Matrix<T>,
    segments: &[Segment],
    queries: &Matrix<T>,
) -> Result<Matrix<T>> {
    let examples = Examples::new(precision, "example_dots", dout, input, segments)?;
    let shape = examples.shape();
    check::shape("example_dots", "queries", queries.shape(), Shape::new(queries.rows(), shape.len()))?;
    match Contraction::full_rank(examples.tokens(), segments.len(), queries.rows()) {
        Contraction::Rows => Ok(dots_by_query(&examples, queries)),
        Contraction::Formed => Ok(dots_by_forming(&examples, &Queries::Full(queries))),
    }
}

pub(crate) fn low_rank_example_dots<T: Scalar>(
    precision: Precision,
    dout: &Matrix<T>,
    input: &Matrix<T>,
    segments: &[Segment],
    u: &Matrix<T>,
    v: &Matrix<T>,
    rank: usize,
) -> Result<Matrix<T>> {
    const OP: &str = "low_rank_example_dots";
    let examples = Examples::new(precision, OP, dout, input, segments)?;
    let shape = examples.shape();
    check::shape(OP, "u", u.shape(), Shape::new(u.rows(), shape.rows))?;
    check::shape(OP, "v", v.shape(), Shape::new(u.rows(), shape.cols))?;
    let count = check::queries(OP, u.rows(), rank)?;
    match Contraction::low_rank(shape, examples.tokens(), segments.len(), count, rank) {
        Contraction::Rows => {
            let tokens = low_rank_token_dots(precision, dout, input, u, v, rank)?;
            super::folds::segment_sums(&tokens, segments)
        }
        Contraction::Formed => {
            let per_query: Buffer<Segment> = (0..count).map(|q| Segment { start: q * rank, len: rank }).collect();
            let (u, v) = (View::of(u, Transpose::Yes), View::of(v, Transpose::No));
            let factors = Packed {
                dout: Panels::pack_segments(precision, Threads::Pool, u, Side::Left, &per_query),
                input: Panels::pack_segments(precision, Threads::Pool, v, Side::Right, &per_query),
            };
            Ok(dots_by_forming(&examples, &Queries::Factors { factors, count }))
        }
    }
}

/// Σ_t (Ds_tᵀ P) ā_t of each example, query by query.
fn dots_by_query<T: Scalar>(examples: &Examples<'_, T>, queries: &Matrix<T>) -> Matrix<T> {
    let Shape { rows, cols } = examples.shape();
    let count = queries.rows();
    let mut out = Matrix::zeros(Shape::new(examples.segments.len(), count));
    for query in 0..count {
        let query_view = View::new(queries.row(query), rows, cols, cols);
        let seen = product(examples.precision, View::of(examples.dout, Transpose::No), query_view);
        let tokens = row_dots(&seen, examples.input);
        for (n, segment) in examples.segments.iter().enumerate() {
            out.as_mut_slice()[n * count + query] = T::of_f64(tokens[segment.range()].iter().sum());
        }
    }
    out
}

/// Where blocks of queries come from.
enum Queries<'a, T: Scalar> {
    /// `[Q, d_out · d_in]`.
    Full(&'a Matrix<T>),
    /// U and V packed, one run of r steps per query.
    Factors { factors: Packed<T>, count: usize },
}

impl<T: Scalar> Queries<'_, T> {
    fn count(&self) -> usize {
        match self {
            Self::Full(all) => all.rows(),
            Self::Factors { count, .. } => *count,
        }
    }

    fn block(&self) -> (usize, usize) {
        match self {
            Self::Full(_) => BLOCK,
            Self::Factors { .. } => BLOCK_OF_FACTORS,
        }
    }
}

/// Blocks of several D W_n one below the other, times the same block of all queries, summed over the blocks `[n, Q]`.
fn dots_by_forming<T: Scalar>(examples: &Examples<'_, T>, queries: &Queries<'_, T>) -> Matrix<T> {
    let (shape, n, count) = (examples.shape(), examples.segments.len(), queries.count());
    let mut out = Matrix::zeros(Shape::new(n, count));
    if n * count == 0 {
        return out;
    }
    let (rows, cols) = queries.block();
    let tiles = Tiles { shape, rows, cols };
    let group = tiles.count().div_ceil(PARTIALS).max(1);
    let groups = tiles.count().div_ceil(group);
    let packed = examples.pack();
    let mut partials = Buffer::zeros(groups * n * count);
    let shared = Shared::new(&mut partials);
    for_each_task(groups, examples.is_big(), |task| {
        // SAFETY: each task has its own partial sum.
        let partial = unsafe { shared.part(task * n * count, n * count) };
        for i in task * group..tiles.count().min((task + 1) * group) {
            add_tile(&packed, queries, tiles.get(i), shape.cols, partial, n);
        }
    });
    add_partials(&partials, n * count, 0, out.as_mut_slice());
    out
}

/// partial `[n, Q]` += the dots of one block.
fn add_tile<T: Scalar>(
    packed: &Packed<T>,
    queries: &Queries<'_, T>,
    tile: Tile,
    width: usize,
    partial: &mut [T],
    n: usize,
) {
    let (len, count) = (tile.rows * tile.cols, queries.count());
    let room = if n < MANY_EXAMPLES { FEW } else { MANY };
    let (lefts, rights) = match queries {
        Queries::Full(_) => ((room / len).max(1), count),
        // Queries are multiplied out anew for each group of examples, so that is as large as can be.
        Queries::Factors { .. } => ((MANY / len).max(1), (room / len).max(1)),
    };
    let mut gradient_blocks = Buffer::stale(lefts.min(n) * len);
    let mut query_blocks = Buffer::stale(if matches!(queries, Queries::Full(_)) { 0 } else { rights.min(count) * len });
    for first in (0..n).step_by(lefts) {
        let left = form(packed, first, lefts.min(n - first), tile, &mut gradient_blocks);
        for first_query in (0..count).step_by(rights) {
            let right = match queries {
                Queries::Full(all) => {
                    let data = &all.as_slice()[tile.row * width + tile.col..];
                    Blocks::new(data, count, all.cols(), tile.rows, tile.cols, width)
                }
                Queries::Factors { factors, .. } => {
                    form(factors, first_query, rights.min(count - first_query), tile, &mut query_blocks)
                }
            };
            let out = &mut partial[first * count + first_query..];
            if n < MANY_EXAMPLES { add_dots(left, right, out, count) } else { add_products(left, right, out, count) }
        }
    }
}

/// The block `tile` of the products over `members` runs from `first` on, to `blocks`, which has room for them.
fn form<'a, T: Scalar>(
    packed: &Packed<T>,
    first: usize,
    members: usize,
    tile: Tile,
    blocks: &'a mut [T],
) -> Blocks<'a, T> {
    let len = tile.rows * tile.cols;
    for (i, block) in blocks.chunks_exact_mut(len).take(members).enumerate() {
        packed.form(first + i, tile, Mode::Replace, &ViewMut::new(block, tile.rows, tile.cols, tile.cols));
    }
    Blocks::new(blocks, members, len, tile.rows, tile.cols, tile.cols)
}
