//! Counted operations of the ways to multiply queries with gradients of examples, to choose the cheapest.

use crate::Shape;

/// How ⟨query, D W_n⟩ is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contraction {
    /// Row by row, from ā and Ds alone.
    Rows,
    /// From D W_n, of which a block at a time is formed.
    Formed,
}

impl Contraction {
    /// For `queries` matrices of full rank: to form D W_n costs one multiply-add per row and element of W, and then one per
    /// pair of example and query; to apply each query to all rows costs one per row and query.
    pub fn full_rank(rows: usize, examples: usize, queries: usize) -> Self {
        let formed = rows as f64 + (examples * queries) as f64;
        let by_rows = rows as f64 * queries as f64;
        if by_rows < formed { Self::Rows } else { Self::Formed }
    }

    /// For queries U Vᵀ of rank r and W `[d_out, d_in]`: Q r (d_out + d_in) per row, or (per element of W) one per row to
    /// form D W_n, Q r to multiply the queries out, and one per pair of example and query.
    pub fn low_rank(weight: Shape, rows: usize, examples: usize, queries: usize, rank: usize) -> Self {
        let factors = (queries * rank) as f64;
        let by_rows = factors * rows as f64 * (weight.rows + weight.cols) as f64;
        let formed = weight.len() as f64 * (rows as f64 + factors + (examples * queries) as f64);
        if by_rows <= formed { Self::Rows } else { Self::Formed }
    }

    /// Whether gradients of `queries` queries of `rows` rows each are better kept as those rows than as matrices of the size
    /// of W, for examples of as many rows: Q r (d_out + d_in) per row of an example, or (per element of W) one to form
    /// D W_n and Q / r of the inner products.
    pub fn by_query_rows(weight: Shape, queries: usize, rows: usize) -> bool {
        let (queries, rows) = (queries as f64, rows as f64);
        let by_rows = queries * rows * (weight.rows + weight.cols) as f64;
        by_rows < weight.len() as f64 * (1.0 + queries / rows.max(1.0))
    }
}
