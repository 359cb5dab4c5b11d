//! Truncated singular value decomposition of preconditioned query gradients.

use etymon_tensor::{Backend, Shape, Transpose};
use faer::{Mat, MatRef};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Result;
use etymon_tensor::TensorError;

/// Columns beyond the rank that the range finder draws, and its power iterations (Halko, Martinsson & Tropp 2011).
const OVERSAMPLING: usize = 10;
const POWER_ITERATIONS: usize = 3;

/// Factors of a rank-r approximation M ≈ uᵀ v.
pub struct LowRank<B: Backend> {
    /// `[r, d_out]` left singular vectors as rows, times the singular values.
    pub u: B::Tensor,
    /// `[r, d_in]` right singular vectors as rows.
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
    let mut range = orthonormal(&download(backend, &start(backend, m, cols, width, seed)?));
    for _ in 0..POWER_ITERATIONS {
        let q = upload(backend, &range)?;
        let back = orthonormal(&download(backend, &backend.matmul(m, Transpose::Yes, &q, Transpose::No)?));
        let q = upload(backend, &back)?;
        range = orthonormal(&download(backend, &backend.matmul(m, Transpose::No, &q, Transpose::No)?));
    }
    // Mᵀ Q = V Σ Wᵀ, hence M ≈ Q (Mᵀ Q)ᵀ = (Q W Σ) Vᵀ.
    let small = download(backend, &backend.matmul(m, Transpose::Yes, &upload(backend, &range)?, Transpose::No)?);
    let Ok(svd) = small.thin_svd() else { return Ok(None) };
    let rank = rank.min(width);
    let (v, w, sigma) = (svd.U(), svd.V(), svd.S().column_vector());
    let left = &range * w;
    let u = Mat::from_fn(rank, rows, |r, i| left[(i, r)] * sigma[r]);
    let v = Mat::from_fn(rank, cols, |r, j| v[(j, r)]);
    Ok(Some(LowRank { u: upload(backend, &u)?, v: upload(backend, &v)? }))
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

fn orthonormal(x: &Mat<f64>) -> Mat<f64> {
    x.qr().compute_thin_Q()
}

fn download<B: Backend>(backend: &B, x: &B::Tensor) -> Mat<f64> {
    let Shape { rows, cols } = backend.shape(x);
    MatRef::from_row_major_slice(&backend.download::<f64>(x), rows, cols).to_owned()
}

fn upload<B: Backend>(backend: &B, x: &Mat<f64>) -> std::result::Result<B::Tensor, TensorError> {
    let data: Vec<f64> = (0..x.nrows()).flat_map(|i| (0..x.ncols()).map(move |j| x[(i, j)])).collect();
    backend.upload(Shape::new(x.nrows(), x.ncols()), &data)
}
