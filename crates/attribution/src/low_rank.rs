//! Truncated singular value decomposition of preconditioned query gradients.

use etymon_tensor::{Backend, Shape, Transpose};
use faer::{Mat, MatRef, Side};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Result;
use etymon_tensor::TensorError;

/// Columns beyond the rank that the range finder draws, and its power iterations (Halko, Martinsson & Tropp 2011).
const OVERSAMPLING: usize = 10;
const POWER_ITERATIONS: usize = 2;
/// Directions of a range whose squared length is below this share of the longest one are rounding.
const NEGLIGIBLE: f64 = 1e-13;

/// Factors of a rank-r approximation M ≈ uᵀ v.
pub struct LowRank<B: Backend> {
    /// `[r, d_out]` left singular vectors as rows.
    pub u: B::Tensor,
    /// `[r, d_in]` right singular vectors as rows, times the singular values.
    pub v: B::Tensor,
}

/// The best rank-`rank` approximation of M `[d_out, d_in]`, by randomized range finding with power iterations (exact
/// when the rank is close to the smaller side). `None` when the decomposition does not converge.
///
/// # Errors
/// What the backend meets.
pub fn truncated_svd<B: Backend>(backend: &B, m: &B::Tensor, rank: usize, seed: u64) -> Result<Option<LowRank<B>>> {
    let Shape { rows, cols } = backend.shape(m);
    let width = (rank + OVERSAMPLING).min(rows).min(cols);
    let Some(mut range) = orthonormal(&download(backend, &start(backend, m, cols, width, seed)?)) else {
        return Ok(None);
    };
    for _ in 0..POWER_ITERATIONS {
        let back = backend.matmul(m, Transpose::Yes, &upload(backend, &range)?, Transpose::No)?;
        let Some(back) = orthonormal(&download(backend, &back)) else { return Ok(None) };
        let forth = backend.matmul(m, Transpose::No, &upload(backend, &back)?, Transpose::No)?;
        let Some(next) = orthonormal(&download(backend, &forth)) else { return Ok(None) };
        range = next;
    }
    // Mᵀ Q = V Σ Wᵀ, hence M ≈ Q (Mᵀ Q)ᵀ = (Q W) (Mᵀ Q W)ᵀ.
    let small = download(backend, &backend.matmul(m, Transpose::Yes, &upload(backend, &range)?, Transpose::No)?);
    let gram = small.transpose() * &small;
    let Ok(eigen) = gram.self_adjoint_eigen(Side::Lower) else { return Ok(None) };
    // Eigenvalues ascend: the last `rank` columns of W belong to the largest singular values.
    let rank = rank.min(range.ncols());
    let w = eigen.U().subcols(range.ncols() - rank, rank);
    Ok(Some(LowRank {
        u: upload(backend, &(&range * w).transpose().to_owned())?,
        v: upload(backend, &(small * w).transpose().to_owned())?,
    }))
}

/// M Ω with a random Ω `[cols, width]`.
fn start<B: Backend>(
    backend: &B,
    m: &B::Tensor,
    cols: usize,
    width: usize,
    seed: u64,
) -> std::result::Result<B::Tensor, TensorError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let omega: Vec<f64> = (0..cols * width).map(|_| rng.random::<f64>() - 0.5).collect();
    let omega = backend.upload(Shape::new(cols, width), &omega)?;
    backend.matmul(m, Transpose::No, &omega, Transpose::No)
}

/// An orthonormal basis of the columns of x `[d, l]`, l ≪ d, by the eigenvectors of xᵀ x: cheaper than Householder
/// reflections, and accurate enough in f64 for a range that is iterated.
fn orthonormal(x: &Mat<f64>) -> Option<Mat<f64>> {
    let gram = x.transpose() * x;
    let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
    let values = eigen.S().column_vector();
    let largest = values.iter().copied().fold(0.0, f64::max);
    let kept = (0..values.nrows()).filter(|&i| values[i] > NEGLIGIBLE * largest).count().max(1);
    let first = values.nrows() - kept;
    let u = eigen.U();
    let scale = |i: usize| if values[i] > 0.0 { 1.0 / values[i].sqrt() } else { 0.0 };
    let turn = Mat::from_fn(u.nrows(), kept, |r, c| u[(r, first + c)] * scale(first + c));
    Some(x * turn)
}

fn download<B: Backend>(backend: &B, x: &B::Tensor) -> Mat<f64> {
    let Shape { rows, cols } = backend.shape(x);
    MatRef::from_row_major_slice(&backend.download::<f64>(x), rows, cols).to_owned()
}

fn upload<B: Backend>(backend: &B, x: &Mat<f64>) -> std::result::Result<B::Tensor, TensorError> {
    let data: Vec<f64> = (0..x.nrows()).flat_map(|i| (0..x.ncols()).map(move |j| x[(i, j)])).collect();
    backend.upload(Shape::new(x.nrows(), x.ncols()), &data)
}
