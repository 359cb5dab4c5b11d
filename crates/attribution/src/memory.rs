//! What scoring holds and computes beside the model's own pass, counted from the layers.

use etymon_model::LayerSpec;
use etymon_tensor::{Contraction, Shape};

use crate::Rank;
use crate::form::Form;

/// Bytes of the gradients and bases of the widest layer while a query is preconditioned: Q_A, Q_S, Λ and its copy as it is
/// read, and four matrices of the size of the weight.
pub fn query_row_bytes(specs: &[LayerSpec]) -> u64 {
    let layer = |s: &LayerSpec| 4 * (2 * (s.d_in * s.d_in + s.d_out * s.d_out) + 6 * s.d_in * s.d_out) as u64;
    specs.iter().map(layer).max().unwrap_or(0)
}

/// Bytes of the bases and inverse spectra of all layers that self-influence holds.
pub fn self_influence_bytes(specs: &[LayerSpec]) -> u64 {
    specs.iter().map(|s| 4 * (s.d_in * s.d_in + s.d_out * s.d_out + 2 * s.d_in * s.d_out) as u64).sum()
}

/// Operations of preparing `queries` queries of `rows` rows in all: rotation of rows, the gradients, and back.
pub fn query_flops(specs: &[LayerSpec], rows: u64, queries: u64) -> f64 {
    let layer = |s: &LayerSpec| {
        let (a, b) = (s.d_in as f64, s.d_out as f64);
        2.0 * ((rows * s.positions as u64) as f64 * (a * a + b * b + a * b) + queries as f64 * a * b * (a + b))
    };
    specs.iter().map(layer).sum()
}

/// Operations of the products of `queries` queries with `examples` examples of `rows` rows in all, by the cheapest way;
/// `query_rows` are those of the longest query, where no curvature is applied.
pub fn score_flops(
    specs: &[LayerSpec],
    (rows, examples): (u64, u64),
    queries: u64,
    rank: Rank,
    query_rows: Option<usize>,
) -> f64 {
    let (n, q) = (examples as usize, queries as usize);
    let layer = |s: &LayerSpec| {
        let rows = rows * s.positions as u64;
        let t = rows as usize;
        let (weight, sides) = ((s.d_in * s.d_out) as f64, (s.d_in + s.d_out) as f64);
        let (way, by_rows) = match Form::of(s, q, rank, query_rows) {
            Form::Full => (Contraction::full_rank(t, n, q), (rows * queries) as f64 * weight),
            Form::Truncated(r) | Form::Rows(r) => (
                Contraction::low_rank(Shape::new(s.d_out, s.d_in), t, n, q, r),
                (rows * queries) as f64 * r as f64 * sides,
            ),
        };
        2.0 * if way == Contraction::Rows { by_rows } else { weight * (rows as f64 + (examples * queries) as f64) }
    };
    specs.iter().map(layer).sum()
}
