//! The whole matrix of a small model, and its exact solves in f64.

use etymon_tensor::{Backend, Shape};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::LinearOperator;
use super::direction::zeros_like;
use crate::{CurvatureError, Result};

/// Weights beyond which the matrix is not formed: 16 384² numbers of f64 are 2 GiB.
const MOST: usize = 16_384;

/// G `[p, p]` in f64, over the p weights of all tapped layers, each row major, one layer after the other.
#[derive(Clone, Debug)]
pub struct Dense {
    matrix: Mat<f64>,
    shapes: Vec<Shape>,
}

impl Dense {
    /// Forms it by p products with unit directions of the shapes of `like`.
    ///
    /// # Errors
    /// A model of too many weights, and what the products meet.
    pub fn new<B: Backend>(backend: &B, a: &impl LinearOperator<B>, like: &[B::Tensor]) -> Result<Self> {
        let shapes: Vec<Shape> = like.iter().map(|x| backend.shape(x)).collect();
        let p = shapes.iter().map(|s| s.len()).sum();
        Self::check(p)?;
        let mut matrix = Mat::zeros(p, p);
        let mut column = 0;
        for (layer, shape) in shapes.iter().enumerate() {
            for i in 0..shape.len() {
                let mut unit = vec![0.0f64; shape.len()];
                unit[i] = 1.0;
                let mut v = zeros_like(backend, like);
                v[layer] = backend.upload(*shape, &unit)?;
                for (row, x) in flat(backend, &a.apply(&v)?).into_iter().enumerate() {
                    matrix[(row, column)] = x;
                }
                column += 1;
            }
        }
        let symmetric = Mat::from_fn(p, p, |i, j| 0.5 * (matrix[(i, j)] + matrix[(j, i)]));
        Ok(Self { matrix: symmetric, shapes })
    }

    /// Whether a matrix of this many weights is formed at all.
    ///
    /// # Errors
    /// Too many.
    pub fn check(weights: usize) -> Result<()> {
        if weights > MOST {
            return Err(CurvatureError::TooManyWeights { weights, most: MOST });
        }
        Ok(())
    }

    /// The matrix.
    pub fn matrix(&self) -> &Mat<f64> {
        &self.matrix
    }

    /// (G + λI)⁻¹ v, by a Cholesky decomposition.
    ///
    /// # Errors
    /// A matrix that is not positive definite: a larger λ makes it so.
    pub fn solve<B: Backend>(&self, backend: &B, v: &[B::Tensor], lambda: &[f64]) -> Result<Vec<B::Tensor>> {
        let mut damped = self.matrix.clone();
        let of_weights = self.shapes.iter().zip(lambda).flat_map(|(s, &l)| std::iter::repeat_n(l, s.len()));
        of_weights.enumerate().for_each(|(i, l)| damped[(i, i)] += l);
        let v = flat(backend, v);
        let right = Mat::from_fn(v.len(), 1, |i, _| v[i]);
        let solved = damped.llt(Side::Lower).map_err(|_| CurvatureError::NotDefinite)?.solve(right);
        let mut start = 0;
        let part = |shape: &Shape| {
            let numbers: Vec<f64> = (start..start + shape.len()).map(|i| solved[(i, 0)]).collect();
            start += shape.len();
            Ok(backend.upload(*shape, &numbers)?)
        };
        self.shapes.iter().map(part).collect()
    }
}

fn flat<B: Backend>(backend: &B, v: &[B::Tensor]) -> Vec<f64> {
    v.iter().flat_map(|x| backend.download::<f64>(x)).collect()
}
