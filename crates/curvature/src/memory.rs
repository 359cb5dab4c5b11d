//! What the phases of a fit hold and compute beside the model's own pass, counted from the layers.

use etymon_model::LayerSpec;

use crate::RotationOrder;

/// Square f64 matrices of the widest layer that a decomposition holds: the matrix, its reduction, its eigenvectors, two of the
/// divide-and-conquer step, and one for what fits were measured to take on top (125 to 134 MiB where 5 made it 118).
const WORKSPACE: u64 = 6;
/// Elements of a page of memory, in f64.
const PAGE: u64 = 512;

/// Bytes that the phases of a fit hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FitMemory {
    /// A and S of all layers.
    pub covariance: u64,
    /// The most that is held while covariances become eigenbases, one layer after the other.
    pub eigen: u64,
    /// Eigenbases on the backend.
    pub bases: u64,
    /// Sums of squares of all layers.
    pub correction: u64,
}

impl FitMemory {
    /// Of these layers.
    pub fn of(specs: &[LayerSpec]) -> Self {
        let covariance = specs.iter().enumerate().map(|(i, s)| layer_sums(i, s)).sum();
        let (mut left, mut bases, mut eigen): (u64, u64, u64) = (covariance, 0, covariance);
        for (i, spec) in specs.iter().enumerate() {
            let widths = squares(i, spec);
            bases += 4 * widths.iter().sum::<u64>();
            eigen = eigen.max(left + bases + 8 * WORKSPACE * widths[0].max(widths[1]));
            left -= layer_sums(i, spec);
        }
        let correction = specs.iter().map(|s| 8 * (s.d_out * s.d_in) as u64).sum();
        Self { covariance, eigen, bases, correction }
    }
}

/// Numbers of A (0 when it is another layer's) and of S.
fn squares(i: usize, spec: &LayerSpec) -> [u64; 2] {
    let square = |d: usize| (d * d) as u64;
    [if spec.input.0 == i { square(spec.d_in) } else { 0 }, square(spec.d_out)]
}

/// Bytes of one layer's sums: rows are written up to their diagonal, and memory exists by whole pages.
fn layer_sums(i: usize, spec: &LayerSpec) -> u64 {
    squares(i, spec).into_iter().map(|n| 8 * (n.midpoint(n + n.isqrt() * PAGE)).min(n)).sum()
}

/// Operations of the covariances over `rows` rows: one triangle of each.
pub fn covariance_flops(specs: &[LayerSpec], rows: u64) -> f64 {
    let layer = |(i, s): (usize, &LayerSpec)| s.positions as u64 * squares(i, s).iter().sum::<u64>();
    let numbers: u64 = specs.iter().enumerate().map(layer).sum();
    rows as f64 * numbers as f64
}

/// Operations of the eigendecompositions, counted as 9 d³ each (reduction, its inversion, and the small problem).
pub fn eigen_flops(specs: &[LayerSpec]) -> f64 {
    let widths = specs.iter().enumerate().flat_map(|(i, s)| squares(i, s));
    widths.map(|n| 9.0 * (n as f64).powf(1.5)).sum()
}

/// Operations of the correction over `rows` rows of `examples` examples, in the order that is chosen for a typical one.
pub fn correction_flops(specs: &[LayerSpec], rows: u64, examples: u64) -> f64 {
    let layer = |s: &LayerSpec| {
        let rows = rows * s.positions as u64;
        let (a, b, rows_f) = (s.d_in as f64, s.d_out as f64, rows as f64);
        let turned = match RotationOrder::cheaper(rows as usize, examples as usize, s.d_in, s.d_out) {
            RotationOrder::RowsFirst => rows_f * (a * a + b * b),
            RotationOrder::GradientFirst => examples as f64 * a * b * (a + b),
        };
        2.0 * (turned + rows_f * a * b)
    };
    specs.iter().map(layer).sum()
}
