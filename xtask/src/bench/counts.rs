//! Counted operations: why a ratio of times is what it is.
//!
//! Floating-point operations per position, a multiply-add being two. a = d_in + 1 (the bias) and o = d_out of a tapped
//! layer, T positions of a row, Q queries.

use super::cases::{Case, Shape, Tool};

/// Queries of a run.
pub const QUERIES: f64 = 20.0;

/// Operations per position of the passes over the train set.
pub struct Counts {
    /// Model and covariances.
    pub covariance: f64,
    /// Model and eigenvalue correction.
    pub correction: f64,
    /// Model and scores of [`QUERIES`] queries.
    pub scores: f64,
}

/// Counts the passes of a tool.
pub fn count(case: &Case, tool: Tool) -> Counts {
    let model = model(&case.shape);
    let t = case.shape.length as f64;
    let mut counts = Counts { covariance: model, correction: model, scores: model };
    for (d_in, d_out) in linears(&case.shape) {
        let (a, o, blocks) = (d_in + 1.0, d_out, case.tapped as f64);
        let squares = a * a + o * o;
        // The product is symmetric: etymon computes a triangle of it.
        let covariance = if tool == Tool::Etymon { squares + a + o } else { 2.0 * squares };
        // Rotating ā and Ds and forming the gradient of those, or forming the gradient of a row and rotating it.
        let rows_first = 2.0 * squares + 2.0 * a * o;
        let gradient_first = 2.0 * a * o + 2.0 * a * o * (a + o) / t;
        let correction = match tool {
            Tool::Kronfluence => gradient_first,
            Tool::Bergson => rows_first,
            _ => rows_first.min(gradient_first),
        };
        // The gradient of a row, times every query.
        let scores = 2.0 * a * o + 2.0 * QUERIES * a * o / t;
        counts.covariance += blocks * covariance;
        counts.correction += blocks * correction;
        counts.scores += blocks * scores;
    }
    counts
}

/// Forward, and backward to the inputs (no gradients of weights): linear layers, causal half of the attention, head.
fn model(shape: &Shape) -> f64 {
    let (d, t, blocks) = (shape.d as f64, shape.length as f64, shape.blocks as f64);
    let linear: f64 = linears(shape).iter().map(|(d_in, d_out)| 4.0 * d_in * d_out).sum();
    // Two products of (T + 1)/2 positions in the forward, four in the backward.
    let attention = 6.0 * d * (t + 1.0);
    let head = 4.0 * d * shape.vocab as f64;
    blocks * (linear + attention) + head
}

/// `d_in`, `d_out` of the linear layers of a block.
fn linears(shape: &Shape) -> [(f64, f64); 4] {
    let d = shape.d as f64;
    [(d, 3.0 * d), (d, d), (d, 4.0 * d), (4.0 * d, d)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_m_takes_six_operations_per_parameter_less_the_weight_gradients() {
        let Some(case) = Case::named("M") else { return };
        let parameters = 12.0 * 12.0 * 768.0 * 768.0 + 8192.0 * 768.0;
        let counted = model(&case.shape);
        assert!(counted > 4.0 * parameters && counted < 4.4 * parameters);
    }

    #[test]
    fn kronfluence_counts_twice_the_covariances_and_never_less_than_etymon() {
        for case in Case::ALL {
            let (ours, theirs) = (count(case, Tool::Etymon), count(case, Tool::Kronfluence));
            let model = model(&case.shape);
            let ratio = (theirs.covariance - model) / (ours.covariance - model);
            assert!((1.98..2.0).contains(&ratio), "{ratio}");
            assert!(theirs.correction >= ours.correction);
            assert!((theirs.scores - ours.scores).abs() < 1.0);
        }
    }
}
