//! Directions that are conjugate with respect to a matrix A.

use etymon_tensor::{Backend, Shape};
use faer::{Mat, Side};

use super::LinearOperator;
use super::direction::views;
use super::stack::Stack;
use crate::{CurvatureError, Result};

/// What is less than this share is rounding: of a direction what is left once those held are taken from it, of the largest curvature
/// the negative one of another direction.
const ROUNDING: f64 = 1e-6;
/// Least eigenvalue of the cosines between new directions, over the largest, of a combination that counts as one of its own.
const INDEPENDENT: f64 = 1e-6;

/// Conjugate directions P of a matrix A, Pᵀ A P = I, with their products A P. They are what was learnt about A, and serve any
/// right-hand side (Erhel & Guyomarc'h 2000 keep those of one system for the next; here all systems add to them, in blocks).
#[derive(Clone, Debug)]
pub struct ConjugateDirections<T> {
    blocks: Vec<Block<T>>,
    most: usize,
    /// The largest curvature along a unit direction so far.
    largest: f64,
}

#[derive(Clone, Debug)]
struct Block<T> {
    p: Stack<T>,
    ap: Stack<T>,
}

/// What came of new directions.
pub(super) enum Extended {
    /// As many products with A were made as this.
    By(usize),
    /// All are combinations of those held, or A has no curvature along them that rounding leaves.
    Exhausted,
    /// yᵀ A y < 0 (or NaN) of a unit direction, to which this one of the new contributes most.
    NotPositive { value: f64, row: usize },
}

impl<T: Clone> ConjugateDirections<T> {
    /// None yet, of which at most `most` are held: the first, since those of leading eigenvalues are among them, and always the
    /// newest block, without which conjugate gradients do not go on.
    pub fn new(most: usize) -> Self {
        Self { blocks: Vec::new(), most, largest: 0.0 }
    }

    /// How many are held.
    pub fn len<B: Backend<Tensor = T>>(&self, backend: &B) -> usize {
        self.blocks.iter().map(|block| block.p.len(backend)).sum()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Adds those of `z` that are new, of unit length each, made conjugate to those held and to each other.
    pub(super) fn extend<B: Backend<Tensor = T>>(
        &mut self,
        backend: &B,
        a: &dyn LinearOperator<B>,
        mut z: Stack<T>,
        shapes: &[Shape],
    ) -> Result<Extended> {
        self.conjugate(backend, &mut z)?;
        let Some(independent) = independent(&z.dots(backend, &z)?)? else { return Ok(Extended::Exhausted) };
        let mut z = z.combine(backend, &independent)?;
        // Once is not enough: in f32 rounding then costs several times the steps.
        self.conjugate(backend, &mut z)?;
        let products = a.apply_all(&views(&z.split(backend, shapes)?))?;
        let az = Stack::of(backend, &views(&products))?;
        let (values, vectors) = eigen(&z.dots(backend, &az)?)?;
        let least = values.first().copied().unwrap_or(f64::NAN);
        self.largest = values.iter().copied().fold(self.largest, f64::max);
        if least.is_nan() || least < -ROUNDING * self.largest {
            let of = independent * vectors.col(0);
            let row = (0..of.nrows()).max_by(|&x, &y| of[x].abs().total_cmp(&of[y].abs())).unwrap_or(0);
            return Ok(Extended::NotPositive { value: least, row });
        }
        // What is negative by rounding says how little else is known.
        let kept: Vec<usize> = (0..values.len()).filter(|&i| values[i] > (-least).max(0.0)).collect();
        if kept.is_empty() {
            return Ok(Extended::Exhausted);
        }
        let unit = Mat::from_fn(values.len(), kept.len(), |i, j| vectors[(i, kept[j])] / values[kept[j]].sqrt());
        self.push(backend, Block { p: z.combine(backend, &unit)?, ap: az.combine(backend, &unit)? });
        Ok(Extended::By(values.len()))
    }

    /// Takes from each of `z` its part in the directions held, so that Pᵀ A z = 0.
    fn conjugate<B: Backend<Tensor = T>>(&self, backend: &B, z: &mut Stack<T>) -> Result<()> {
        for block in &self.blocks {
            let along = block.ap.dots(backend, z)?;
            z.add(backend, -1.0, &along, &block.p)?;
        }
        Ok(())
    }

    fn push<B: Backend<Tensor = T>>(&mut self, backend: &B, block: Block<T>) {
        while !self.is_empty() && self.len(backend) + block.p.len(backend) > self.most {
            self.blocks.pop();
        }
        self.blocks.push(block);
    }

    /// The best x, by xᵀ A x / 2 − xᵀ v, along all directions held, with its residual r.
    pub(super) fn descend<B: Backend<Tensor = T>>(
        &self,
        backend: &B,
        xr: (&mut Stack<T>, &mut Stack<T>),
    ) -> Result<()> {
        self.blocks.iter().try_for_each(|block| block.descend(backend, (&mut *xr.0, &mut *xr.1)))
    }

    /// The same along the newest alone.
    pub(super) fn step<B: Backend<Tensor = T>>(&self, backend: &B, xr: (&mut Stack<T>, &mut Stack<T>)) -> Result<()> {
        self.blocks.last().map_or(Ok(()), |block| block.descend(backend, xr))
    }
}

impl<T: Clone> Block<T> {
    fn descend<B: Backend<Tensor = T>>(&self, backend: &B, (x, r): (&mut Stack<T>, &mut Stack<T>)) -> Result<()> {
        let along = self.p.dots(backend, r)?;
        x.add(backend, 1.0, &along, &self.p)?;
        r.add(backend, -1.0, &along, &self.ap)
    }
}

/// Orthonormal combinations, one per column, of directions with these products with each other, which had unit length before
/// parts were taken from them; none if nothing but rounding is left.
fn independent(products: &Mat<f64>) -> Result<Option<Mat<f64>>> {
    let n = products.nrows();
    let size: Vec<f64> = (0..n).map(|i| products[(i, i)].sqrt()).collect();
    let rows: Vec<usize> = (0..n).filter(|&i| size[i] > ROUNDING).collect();
    let cosine = |i: usize, j: usize| products[(rows[i], rows[j])] / (size[rows[i]] * size[rows[j]]);
    let (values, vectors) = eigen(&Mat::from_fn(rows.len(), rows.len(), cosine))?;
    let largest = values.iter().copied().fold(0.0, f64::max);
    let kept: Vec<usize> = (0..rows.len()).filter(|&i| values[i] > INDEPENDENT * largest).collect();
    let mut combinations = Mat::zeros(n, kept.len());
    for (i, &row) in rows.iter().enumerate() {
        for (j, &k) in kept.iter().enumerate() {
            combinations[(row, j)] = vectors[(i, k)] / (values[k].sqrt() * size[row]);
        }
    }
    Ok(if kept.is_empty() { None } else { Some(combinations) })
}

/// Eigenvalues, rising, and eigenvectors, one per column, of a small symmetric matrix; NaN where that has any.
fn eigen(matrix: &Mat<f64>) -> Result<(Vec<f64>, Mat<f64>)> {
    let n = matrix.nrows();
    if n == 0 || (0..n).any(|i| (0..n).any(|j| !matrix[(i, j)].is_finite())) {
        return Ok((vec![f64::NAN; n], Mat::zeros(n, n)));
    }
    let even = Mat::from_fn(n, n, |i, j| 0.5 * (matrix[(i, j)] + matrix[(j, i)]));
    let found = even.self_adjoint_eigen(Side::Lower).map_err(|_| CurvatureError::Krylov { steps: n })?;
    Ok(((0..n).map(|i| found.S().column_vector()[i]).collect(), found.U().to_owned()))
}
