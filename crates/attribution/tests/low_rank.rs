//! The randomized truncation against the best one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use etymon_attribution::truncated_svd;
use etymon_tensor::{Backend, Cpu, Shape, Transpose};
use faer::Mat;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A random matrix whose singular values fall like 1/k.
fn decaying(rows: usize, cols: usize) -> Mat<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut random = |r, c| Mat::from_fn(r, c, |_, _| rng.random::<f64>() - 0.5);
    let (left, right) = (random(rows, rows.min(cols)), random(rows.min(cols), cols));
    let scaled = Mat::from_fn(rows, rows.min(cols), |i, j| left[(i, j)] / (j + 1) as f64);
    scaled * right
}

#[test]
fn the_error_is_within_two_percent_of_the_best_of_that_rank() {
    let backend = Cpu::<f32>::new();
    for (rows, cols) in [(90, 140), (150, 61), (64, 64)] {
        let m = decaying(rows, cols);
        let data: Vec<f64> = (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))).map(|at| m[at]).collect();
        let tensor = backend.upload(Shape::new(rows, cols), &data).unwrap();
        let singular = m.singular_values().unwrap();
        for rank in [1, 8, 32] {
            let low = truncated_svd(&backend, &tensor, rank, 3).unwrap().unwrap();
            let product = backend.matmul(&low.u, Transpose::Yes, &low.v, Transpose::No).unwrap();
            let product: Vec<f64> = backend.download(&product).into_vec();
            let error = product.iter().zip(&data).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
            let best = singular[rank..].iter().map(|s| s * s).sum::<f64>().sqrt();
            println!("[{rows}, {cols}] rank {rank}: {:.4} of the best", error / best);
            assert!(error < 1.02 * best, "[{rows}, {cols}] rank {rank}: {error} against {best}");
        }
    }
}

#[test]
fn a_zero_matrix_has_a_truncation() {
    let backend = Cpu::<f32>::new();
    let low = truncated_svd(&backend, &backend.zeros(Shape::new(20, 30)), 4, 0).unwrap().unwrap();
    assert!(backend.download::<f64>(&low.v).iter().all(|x| x.abs() < 1e-12));
}
