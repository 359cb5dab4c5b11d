//! One interface to all inverses by products: what is shared between queries is made once.

use std::cell::{Cell, RefCell};

use etymon_tensor::Backend;

use super::direction::{only, relative_residuals};
use super::{
    AstraOptions, CgOptions, Damped, Dense, DenseInverse, EkfacInverse, GaussNewton, KeptDirections, Lanczos,
    LinearOperator, LissaOptions, Solution, astra, largest_eigenvalue, lissa,
};
use crate::Result;

/// Power iterations for a step size; their estimate is from below, for which [`CAUTION`] makes up.
const POWER_STEPS: usize = 12;
/// Share of 1 / (largest eigenvalue) that a step of a Neumann series takes.
const CAUTION: f64 = 0.5;
/// Parts of the set, evenly spread, whose largest eigenvalues are estimated for a step size.
const MEASURED_PARTS: usize = 8;

/// λ of the EK-FAC inverse that preconditions conjugate gradients, over that of the system. Kronecker factors see curvature where G
/// has none, and a small λ would make much of it: a larger one takes up to 40 % fewer products (docs/convergence.md).
const PRECONDITIONED: f64 = 100.0;
/// The same of ASTRA.
const PRECONDITIONED_SERIES: f64 = 10.0;

/// How (G + λI)⁻¹ is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// Conjugate gradients, preconditioned by EK-FAC where that is given. What they learn of one query serves the next.
    Cg(CgOptions),
    /// LiSSA, with a step size chosen by power iterations.
    Lissa {
        /// Steps of one part each.
        steps: usize,
        /// Independent runs that are averaged.
        repeats: usize,
        /// Of the order of parts.
        seed: u64,
    },
    /// ASTRA, with a step size chosen by power iterations, preconditioned by EK-FAC where that is given.
    Astra {
        /// Steps of one part each.
        steps: usize,
        /// Ends a query whose relative residual is at most this.
        tolerance: f64,
        /// Of the order of parts.
        seed: u64,
    },
    /// The leading eigenpairs of λ^(−½) G λ^(−½), which one shift then damps, whatever λ is in each layer.
    Lanczos {
        /// Products.
        steps: usize,
        /// Pairs that are kept.
        rank: usize,
        /// Of the start.
        seed: u64,
    },
    /// The matrix itself, for small models.
    Dense,
}

/// (G + λI)⁻¹ by products with G.
pub struct Solver<'a, B: Backend> {
    g: GaussNewton<'a, B>,
    lambda: Vec<f64>,
    ekfac: Option<EkfacInverse<'a, B>>,
    made: Made<B::Tensor>,
    products: Cell<f64>,
    solved: RefCell<Vec<Solved>>,
}

/// How one right-hand side was solved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Solved {
    /// Products with G over the whole set for it alone.
    pub products: f64,
    /// ‖v − (G + λI) x‖ / ‖v‖ of the solution: known of conjugate gradients, measured of the others, 0 of a dense solve.
    pub residual: f64,
}

enum Made<T> {
    Cg(KeptDirections<T>),
    Lissa(LissaOptions),
    Astra(AstraOptions),
    Lanczos(Lanczos<T>),
    Dense(DenseInverse),
}

impl<'a, B: Backend> Solver<'a, B> {
    /// Makes what all queries share, with a λ per layer; `ekfac` preconditions conjugate gradients and ASTRA, with more damping.
    ///
    /// # Errors
    /// What the products meet, and a model too large for a dense matrix.
    pub fn new(
        g: GaussNewton<'a, B>,
        lambda: Vec<f64>,
        mut ekfac: Option<EkfacInverse<'a, B>>,
        way: Way,
    ) -> Result<Self> {
        let (backend, like) = (g.model().backend(), g.model().zero_direction());
        let mut products = 0.0;
        let made = match way {
            Way::Cg(options) => {
                ekfac = ekfac.map(|ekfac| more_damped(ekfac, PRECONDITIONED, &lambda));
                Made::Cg(KeptDirections::new(options))
            }
            Way::Lissa { steps, repeats, seed } => {
                let (largest, spent) = largest_of_parts(&g, &lambda, None, &like, seed)?;
                products += spent;
                Made::Lissa(LissaOptions { steps, step_size: CAUTION / largest, repeats, seed })
            }
            Way::Astra { steps, tolerance, seed } => {
                ekfac = ekfac.map(|ekfac| more_damped(ekfac, PRECONDITIONED_SERIES, &lambda));
                let (largest, spent) = largest_of_parts(&g, &lambda, ekfac.as_ref(), &like, seed)?;
                products += spent;
                Made::Astra(AstraOptions { steps, tolerance, step_size: CAUTION / largest, seed })
            }
            Way::Lanczos { steps, rank, seed } => {
                let scaled = |v: &[B::Tensor]| Ok(by_root(backend, &lambda, &g.apply(&by_root(backend, &lambda, v))?));
                let pairs = Lanczos::new(backend, &scaled, &like, (steps, rank), seed)?;
                products += steps as f64;
                Made::Lanczos(pairs)
            }
            Way::Dense => {
                products += like.iter().map(|x| backend.shape(x).len() as f64).sum::<f64>();
                Made::Dense(Dense::new(backend, &g, &like)?.inverse(&lambda)?)
            }
        };
        Ok(Self { g, lambda, ekfac, made, products: Cell::new(products), solved: RefCell::default() })
    }

    /// Products with G over the whole set so far, for all queries.
    pub fn products(&self) -> f64 {
        self.products.get()
    }

    /// What was solved since it was last asked, in order.
    pub fn take_solved(&self) -> Vec<Solved> {
        self.solved.take()
    }

    fn solve_all(&self, vs: &[&[B::Tensor]]) -> Result<Vec<Solution<B::Tensor>>> {
        let backend = self.g.model().backend();
        let ekfac = self.ekfac.as_ref().map(|p| p as &dyn LinearOperator<B>);
        let damped = Damped { backend, inner: &self.g, lambda: &self.lambda };
        let found = |x, residual| Solution { x, products: 0.0, residuals: vec![residual] };
        match &self.made {
            Made::Cg(kept) => kept.solve(backend, &damped, vs, ekfac),
            Made::Lissa(options) => lissa(&self.g, &self.lambda, vs, *options),
            Made::Astra(options) => astra(&self.g, &self.lambda, vs, ekfac, *options),
            Made::Lanczos(pairs) => {
                let scaled = |v: &[B::Tensor]| by_root(backend, &self.lambda, v);
                let x = |v: &&[B::Tensor]| Ok(scaled(&pairs.solve(backend, &scaled(v), 1.0)?));
                let xs = vs.iter().map(x).collect::<Result<Vec<_>>>()?;
                let residuals = relative_residuals(backend, &damped, &xs, vs, self.products.get())?;
                let measured = xs.into_iter().zip(residuals).map(|(x, residual)| found(x, residual));
                Ok(measured.map(|found| Solution { products: 1.0, ..found }).collect())
            }
            Made::Dense(dense) => vs.iter().map(|v| Ok(found(dense.solve(backend, v)?, 0.0))).collect(),
        }
    }
}

impl<B: Backend> LinearOperator<B> for Solver<'_, B> {
    fn apply(&self, v: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
        Ok(only(self.apply_all(&[v])?))
    }

    fn apply_all(&self, vs: &[&[B::Tensor]]) -> Result<Vec<Vec<B::Tensor>>> {
        let solutions = self.solve_all(vs)?;
        let solved = solutions.iter().map(|s| Solved { products: s.products, residual: s.residual() });
        self.solved.borrow_mut().extend(solved);
        self.products.set(self.products.get() + solutions.iter().map(|s| s.products).sum::<f64>());
        Ok(solutions.into_iter().map(|s| s.x).collect())
    }
}

/// The largest eigenvalue of P (G_b + λI) among some parts b, and the products that it took. A step of a series sees one part:
/// with the eigenvalue of the whole set, which is smaller, a series of small parts diverges.
fn largest_of_parts<B: Backend>(
    g: &GaussNewton<'_, B>,
    lambda: &[f64],
    p: Option<&EkfacInverse<'_, B>>,
    like: &[B::Tensor],
    seed: u64,
) -> Result<(f64, f64)> {
    let (backend, n) = (g.model().backend(), g.n_parts());
    let p = p.map(|p| p as &dyn LinearOperator<B>);
    let (mut largest, mut products) = (0.0f64, 0.0);
    for i in 0..n.min(MEASURED_PARTS) {
        let part = g.part(i * n / n.min(MEASURED_PARTS));
        let damped = Damped { backend, inner: &part, lambda };
        largest = largest.max(largest_eigenvalue(backend, &damped, p, like, POWER_STEPS, seed)?);
        products += (POWER_STEPS * part.n_examples()) as f64 / g.n_examples().max(1) as f64;
    }
    Ok((largest, products))
}

/// EK-FAC with a damping of `times` λ.
fn more_damped<'a, B: Backend>(ekfac: EkfacInverse<'a, B>, times: f64, lambda: &[f64]) -> EkfacInverse<'a, B> {
    ekfac.with_lambda(&lambda.iter().map(|lambda| times * lambda).collect::<Vec<_>>())
}

/// λ^(−½) v.
fn by_root<B: Backend>(backend: &B, lambda: &[f64], v: &[B::Tensor]) -> Vec<B::Tensor> {
    let mut out = v.to_vec();
    out.iter_mut().zip(lambda).for_each(|(x, l)| backend.scale(l.sqrt().recip(), x));
    out
}
