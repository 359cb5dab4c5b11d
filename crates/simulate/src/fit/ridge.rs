//! argmin ‖Xθ − y‖² + λ‖θ‖², in f64, by the solver of the fewest operations.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt;
use faer::{MatMut, MatRef, Par};

use super::lsqr::lsqr;
use super::operator::Operator;
use crate::{Result, SimulateError};

/// Unknowns of the largest dense system: 16 384² numbers are 2 GiB.
const MOST_DENSE: usize = 16_384;
/// Iterations of LSQR that are counted when solvers are compared.
const ITERATIONS: f64 = 200.0;
/// What an operation on scattered numbers costs, in operations of a dense decomposition. Measured: `examples/fit_time.rs`.
const SCATTERED: f64 = 16.0;

/// How a ridge regression is solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// The normal equations (XᵀX + λI) θ = Xᵀy, by Cholesky: unknowns² numbers.
    Normal,
    /// θ = Xᵀ (XXᵀ + λI)⁻¹ y (Woodbury), by Cholesky: rows² numbers.
    Woodbury,
    /// LSQR (Paige and Saunders 1982) on the sparse X: no matrix.
    Lsqr,
}

impl Solver {
    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal equations",
            Self::Woodbury => "Woodbury",
            Self::Lsqr => "LSQR",
        }
    }

    /// The cheapest one by counted operations, for `solves` right-hand sides.
    pub(crate) fn cheapest(x: &Operator<'_>, solves: usize) -> Self {
        let (rows, p, solves) = (x.design.n_rows() as f64, x.n_params() as f64, solves as f64);
        let entries = x.design.n_entries() as f64 * p / x.design.n_columns.max(1) as f64;
        let width = entries / rows.max(1.0);
        let dense = |d: f64| if d > MOST_DENSE as f64 { f64::INFINITY } else { d * d * d / 3.0 + 2.0 * solves * d * d };
        let normal = dense(p) + SCATTERED * entries * width;
        let woodbury = dense(rows) + SCATTERED * rows * entries / 2.0;
        let iterative = SCATTERED * ITERATIONS * 4.0 * entries * solves;
        if iterative < normal.min(woodbury) {
            Self::Lsqr
        } else if woodbury < normal {
            Self::Woodbury
        } else {
            Self::Normal
        }
    }
}

/// XᵀX or XXᵀ of one query, for several λ.
pub(crate) struct Gram<'a> {
    x: Operator<'a>,
    solver: Solver,
    /// The lower triangle, column by column; empty for LSQR.
    matrix: Vec<f64>,
    size: usize,
}

/// One λ: everything that its solves share.
pub(crate) struct Ridge<'a> {
    x: Operator<'a>,
    solver: Solver,
    lambda: f64,
    /// The Cholesky factor, column by column.
    factor: Vec<f64>,
    size: usize,
}

impl<'a> Gram<'a> {
    pub fn new(x: Operator<'a>, solver: Solver) -> Self {
        let size = match solver {
            Solver::Normal => x.n_params(),
            Solver::Woodbury => x.design.n_rows(),
            Solver::Lsqr => 0,
        };
        let mut matrix = vec![0.0; size * size];
        match solver {
            Solver::Normal => x.add_gram(&mut matrix),
            Solver::Woodbury => x.add_kernel(&mut matrix),
            Solver::Lsqr => {}
        }
        Self { x, solver, matrix, size }
    }

    /// Decomposes the system of a λ; the matrix stays for the next one.
    ///
    /// # Errors
    /// A system that is not positive definite: λ is too small.
    pub fn ridge(&self, lambda: f64) -> Result<Ridge<'a>> {
        decompose(self.x, self.solver, lambda, self.matrix.clone(), self.size)
    }

    /// As [`ridge`](Self::ridge), in the memory of the matrix.
    ///
    /// # Errors
    /// As there.
    pub fn into_ridge(self, lambda: f64) -> Result<Ridge<'a>> {
        decompose(self.x, self.solver, lambda, self.matrix, self.size)
    }
}

fn decompose(x: Operator<'_>, solver: Solver, lambda: f64, mut factor: Vec<f64>, size: usize) -> Result<Ridge<'_>> {
    factor.iter_mut().step_by(size + 1).for_each(|diagonal| *diagonal += lambda);
    if size > 0 {
        let mut memory =
            MemBuffer::new(llt::factor::cholesky_in_place_scratch::<f64>(size, Par::Seq, Default::default()));
        let matrix = MatMut::from_column_major_slice_mut(&mut factor, size, size);
        let stack = MemStack::new(&mut memory);
        llt::factor::cholesky_in_place(matrix, Default::default(), Par::Seq, stack, Default::default())
            .map_err(|_| SimulateError::NotDefinite { lambda })?;
    }
    Ok(Ridge { x, solver, lambda, factor, size })
}

impl Ridge<'_> {
    /// X.
    pub fn operator(&self) -> &Operator<'_> {
        &self.x
    }

    /// λ.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }

    /// θ `[p]` for each y `[R]`.
    pub fn solve(&self, targets: &[Vec<f64>]) -> Vec<Vec<f64>> {
        match self.solver {
            Solver::Normal => self.triangular(&targets.iter().map(|y| self.x.adjoint(y)).collect::<Vec<_>>()),
            Solver::Woodbury => self.triangular(targets).iter().map(|u| self.x.adjoint(u)).collect(),
            Solver::Lsqr => targets.iter().map(|y| lsqr(&self.x, y, self.lambda)).collect(),
        }
    }

    fn triangular(&self, right: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut columns = right.concat();
        let factor = MatRef::from_column_major_slice(&self.factor, self.size, self.size);
        let rhs = MatMut::from_column_major_slice_mut(&mut columns, self.size, right.len());
        let mut memory = MemBuffer::new(llt::solve::solve_in_place_scratch::<f64>(self.size, right.len(), Par::Seq));
        llt::solve::solve_in_place(factor, rhs, Par::Seq, MemStack::new(&mut memory));
        columns.chunks_exact(self.size.max(1)).map(<[f64]>::to_vec).collect()
    }
}
