//! The features of a train set, and the solve of TRAK in f64.

use etymon_tensor::Folds;
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatRef, Side, get_global_parallelism};

use crate::{AttributionError, Result};

/// Rows of features that are worked on at a time.
pub(super) const ROWS: usize = 512;

/// Φ `[N, k]`, kept in the numbers of the backend, batch by batch.
pub(super) struct Features<B: Folds> {
    backend: B,
    k: usize,
    /// Which train examples, and their features `[n, k]`.
    batches: Vec<(Vec<usize>, B::Tensor)>,
}

impl<B: Folds> Features<B> {
    pub fn new(backend: B, k: usize) -> Self {
        Self { backend, k, batches: Vec::new() }
    }

    /// Takes the features `[n, k]` of n train examples.
    pub fn push(&mut self, places: Vec<usize>, features: B::Tensor) {
        self.batches.push((places, features));
    }

    /// Number of train examples.
    pub fn n(&self) -> usize {
        self.batches.iter().map(|(places, _)| places.len()).sum()
    }

    /// Calls `work` with some hundred rows at a time, and the examples they belong to.
    fn each_block(&self, mut work: impl FnMut(&[usize], MatRef<'_, f64>)) {
        let (mut places, mut rows) = (Vec::new(), Vec::new());
        for (i, (of, features)) in self.batches.iter().enumerate() {
            places.extend_from_slice(of);
            rows.extend_from_slice(&self.backend.download::<f64>(features));
            if places.len() >= ROWS || i + 1 == self.batches.len() {
                work(&places, MatRef::from_row_major_slice(&rows, places.len(), self.k));
                places.clear();
                rows.clear();
            }
        }
    }

    /// Adds Φ (ΦᵀΦ + λI)⁻¹ φ_q of all train examples to `scores` `[N, Q]`, for φ_q `[Q, k]`, row major.
    ///
    /// # Errors
    /// ΦᵀΦ + λI that is singular.
    pub fn add_scores(&self, queries: &[f64], lambda: f64, scores: &mut [f64]) -> Result<()> {
        let n_queries = queries.len() / self.k;
        let coefficients = self.solve(MatRef::from_row_major_slice(queries, n_queries, self.k), lambda)?;
        self.each_block(|places, rows| {
            let mut out = Mat::zeros(places.len(), n_queries);
            matmul(out.as_mut(), Accum::Replace, rows, coefficients.as_ref(), 1.0, get_global_parallelism());
            for (i, &place) in places.iter().enumerate() {
                let row = &mut scores[place * n_queries..(place + 1) * n_queries];
                row.iter_mut().enumerate().for_each(|(q, score)| *score += out[(i, q)]);
            }
        });
        Ok(())
    }

    /// (ΦᵀΦ + λI)⁻¹ φ_q `[k, Q]`, by a Cholesky decomposition.
    fn solve(&self, queries: MatRef<'_, f64>, lambda: f64) -> Result<Mat<f64>> {
        let singular = || AttributionError::TrakSingular { dim: self.k, n_train: self.n() };
        if lambda == 0.0 && self.k > self.n() {
            return Err(singular());
        }
        let mut gram = Mat::<f64>::zeros(self.k, self.k);
        self.each_block(|_, rows| {
            triangular::matmul(
                gram.as_mut(),
                BlockStructure::TriangularLower,
                Accum::Add,
                rows.transpose(),
                BlockStructure::Rectangular,
                rows,
                BlockStructure::Rectangular,
                1.0,
                get_global_parallelism(),
            );
        });
        (0..self.k).for_each(|i| gram[(i, i)] += lambda);
        let largest = (0..self.k).map(|i| gram[(i, i)]).fold(0.0, f64::max);
        let decomposed = gram.llt(Side::Lower).map_err(|_| singular())?;
        // A pivot bounds the smallest eigenvalue from above. One that rounding of the features to f32 can make is none.
        let pivot = (0..self.k).map(|i| decomposed.L()[(i, i)].powi(2)).fold(f64::INFINITY, f64::min);
        if pivot <= self.k as f64 * f64::from(f32::EPSILON).powi(2) * largest {
            return Err(singular());
        }
        Ok(decomposed.solve(queries.transpose()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stdout)]
mod tests {
    use etymon_store::TensorFile;
    use etymon_tensor::{Backend, Cpu, Shape};

    use super::*;

    const N: usize = 200;
    const Q: usize = 10;
    const K: usize = 32;

    /// The golden file of traker: what it projected, and the scores it made of that.
    fn read(name: &str) -> Vec<f64> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/digits/trak_solver.safetensors");
        TensorFile::open(file.as_ref()).unwrap().read_f64(name).unwrap()
    }

    #[test]
    fn from_the_projected_gradients_of_traker_come_its_scores() {
        let (backend, all) = (Cpu::<f64>::new(), read("features"));
        let mut features = Features::new(backend, K);
        for start in (0..N).step_by(40).rev() {
            let rows = backend.upload(Shape::new(40, K), &all[start * K..(start + 40) * K]).unwrap();
            features.push((start..start + 40).collect(), rows);
        }
        let mut scores = vec![0.0; N * Q];
        features.add_scores(&read("queries"), 0.0, &mut scores).unwrap();
        let weights = read("weights");
        let ours: Vec<f64> = (0..Q * N).map(|at| scores[at % N * Q + at / N] * weights[at % N]).collect();
        let theirs = read("scores");
        // traker divides by the mean size of the entries of the inverse: one factor for all scores.
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let factor = dot(&ours, &theirs) / dot(&theirs, &theirs);
        let error: f64 = ours.iter().zip(&theirs).map(|(x, y)| (x - factor * y).powi(2)).sum();
        let relative = (error / dot(&ours, &ours)).sqrt();
        println!("relative error {relative:.1e}, factor {factor:.3e}");
        assert!(factor > 0.0 && relative < 1e-5, "{relative}");
    }
}
