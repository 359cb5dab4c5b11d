//! The whole matrix of a small model, and its exact solves in f64.

use etymon_tensor::{Backend, Shape};
use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, Side};

use super::LinearOperator;
use super::direction::zeros_like;
use crate::{CurvatureError, Result};

/// Weights beyond which the matrix is not formed: 20 000² numbers of f64 are 3 GiB, and its decomposition is as large.
const MOST: usize = 20_000;
/// Unit directions that are multiplied with in one pass.
const COLUMNS: usize = 16;

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
    pub fn new<B: Backend>(backend: &B, a: &dyn LinearOperator<B>, like: &[B::Tensor]) -> Result<Self> {
        let shapes: Vec<Shape> = like.iter().map(|x| backend.shape(x)).collect();
        let p = shapes.iter().map(|s| s.len()).sum();
        Self::check(p)?;
        let units: Vec<(usize, usize)> =
            shapes.iter().enumerate().flat_map(|(layer, shape)| (0..shape.len()).map(move |i| (layer, i))).collect();
        let unit = |&(layer, i): &(usize, usize)| {
            let mut numbers = vec![0.0f64; shapes[layer].len()];
            numbers[i] = 1.0;
            let mut v = zeros_like(backend, like);
            v[layer] = backend.upload(shapes[layer], &numbers)?;
            Ok(v)
        };
        let mut matrix = Mat::zeros(p, p);
        for (start, columns) in (0..p).step_by(COLUMNS).zip(units.chunks(COLUMNS)) {
            let directions = columns.iter().map(unit).collect::<Result<Vec<_>>>()?;
            let products = a.apply_all(&directions.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            for (column, product) in products.iter().enumerate() {
                let numbers = flat(backend, product).into_iter().enumerate();
                numbers.for_each(|(row, x)| matrix[(row, start + column)] = x);
            }
        }
        for column in 0..p {
            for row in 0..column {
                let mean = 0.5 * (matrix[(row, column)] + matrix[(column, row)]);
                (matrix[(row, column)], matrix[(column, row)]) = (mean, mean);
            }
        }
        Ok(Self { matrix, shapes })
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

    /// (G + λI)⁻¹ with a λ per layer, by a Cholesky decomposition, in place of the matrix.
    ///
    /// # Errors
    /// A matrix that is not positive definite: a larger λ makes it so.
    pub fn inverse(mut self, lambda: &[f64]) -> Result<DenseInverse> {
        let of_weights = self.shapes.iter().zip(lambda).flat_map(|(s, &l)| std::iter::repeat_n(l, s.len()));
        of_weights.enumerate().for_each(|(i, l)| self.matrix[(i, i)] += l);
        let decomposed = self.matrix.llt(Side::Lower).map_err(|_| CurvatureError::NotDefinite)?;
        Ok(DenseInverse { decomposed, shapes: self.shapes })
    }

    /// (G + λI)⁻¹ v, for one v and λ.
    ///
    /// # Errors
    /// As [`inverse`](Self::inverse).
    pub fn solve<B: Backend>(&self, backend: &B, v: &[B::Tensor], lambda: &[f64]) -> Result<Vec<B::Tensor>> {
        self.clone().inverse(lambda)?.solve(backend, v)
    }
}

/// (G + λI)⁻¹ of a [`Dense`] G, decomposed once for all right-hand sides.
#[derive(Clone, Debug)]
pub struct DenseInverse {
    decomposed: Llt<f64>,
    shapes: Vec<Shape>,
}

impl DenseInverse {
    /// (G + λI)⁻¹ v.
    ///
    /// # Errors
    /// What the backend meets.
    pub fn solve<B: Backend>(&self, backend: &B, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        let v = flat(backend, v);
        let solved = self.decomposed.solve(Mat::from_fn(v.len(), 1, |i, _| v[i]));
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
