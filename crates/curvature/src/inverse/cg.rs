//! Conjugate gradients, for several right-hand sides in lockstep.

use etymon_tensor::Backend;

use super::direction::{axpy, dot, residual, scale, zeros_like};
use super::{LinearOperator, Solution};
use crate::{CurvatureError, Result, Stuck};

/// A relative residual at which rounding, not A, decides what is positive: nothing is left to solve.
const EXACT: f64 = 1e-7;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CgOptions {
    /// Most steps, of one product each.
    pub max_steps: usize,
    /// ‖v − A x‖ / ‖v‖ that is enough.
    pub tolerance: f64,
}

/// Solves A x = v for each v of `vs`, A symmetric positive definite (Hestenes & Stiefel 1952), as [`ConjugateGradients`] does.
///
/// # Errors
/// What the products meet, and [`CurvatureError::Solve`].
pub fn conjugate_gradients<B: Backend>(
    backend: &B,
    a: &dyn LinearOperator<B>,
    vs: &[&[B::Tensor]],
    preconditioner: Option<&dyn LinearOperator<B>>,
    options: CgOptions,
) -> Result<Vec<Solution<B::Tensor>>> {
    let mut all = ConjugateGradients::new(backend, a, vs, preconditioner, options)?;
    while all.step()? {}
    Ok(all.finish())
}

/// Iterations on A x = v for several v at once: a step is one product with A for each v that is not solved yet, in one pass of
/// the operator over its data. Each takes the steps that it would take alone. With a preconditioner P ≈ A⁻¹ they start at P v,
/// for one product more, else at 0.
pub struct ConjugateGradients<'a, B: Backend> {
    backend: &'a B,
    a: &'a dyn LinearOperator<B>,
    preconditioner: Option<&'a dyn LinearOperator<B>>,
    options: CgOptions,
    searches: Vec<Search<B::Tensor>>,
}

/// One right-hand side on its way.
struct Search<T> {
    solution: Solution<T>,
    /// Position among the right-hand sides.
    right_side: usize,
    /// ‖v‖.
    size: f64,
    /// v − A x.
    r: Vec<T>,
    /// Empty before the first step.
    direction: Vec<T>,
    /// ⟨r, P r⟩.
    slope: f64,
    /// Whether there is nothing to solve, or nothing left.
    ended: bool,
}

impl<'a, B: Backend> ConjugateGradients<'a, B> {
    /// At the starts.
    ///
    /// # Errors
    /// What the products meet, and a v that is not finite.
    pub fn new(
        backend: &'a B,
        a: &'a dyn LinearOperator<B>,
        vs: &[&[B::Tensor]],
        preconditioner: Option<&'a dyn LinearOperator<B>>,
        options: CgOptions,
    ) -> Result<Self> {
        let search = |(right_side, v): (usize, &&[B::Tensor])| {
            let size = dot(backend, v, v)?.sqrt();
            let ended = size == 0.0;
            let residuals = if ended { vec![0.0] } else { Vec::new() };
            let solution = Solution { x: zeros_like(backend, v), products: 0.0, residuals };
            let search = Search { solution, right_side, size, r: v.to_vec(), direction: Vec::new(), slope: 0.0, ended };
            if size.is_finite() { Ok(search) } else { Err(search.stuck(Stuck::NotFinite)) }
        };
        let searches = vs.iter().enumerate().map(search).collect::<Result<_>>()?;
        let mut all = Self { backend, a, preconditioner, options, searches };
        if let Some(p) = preconditioner {
            all.start_at(p)?;
        }
        Ok(all)
    }

    fn start_at(&mut self, p: &dyn LinearOperator<B>) -> Result<()> {
        let (backend, a) = (self.backend, self.a);
        let mut open: Vec<_> = self.searches.iter_mut().filter(|search| !search.ended).collect();
        for search in &mut open {
            search.solution.x = p.apply(&search.r)?;
        }
        let starts: Vec<&[B::Tensor]> = open.iter().map(|search| &search.solution.x[..]).collect();
        let products = a.apply_all(&starts)?;
        for (search, product) in open.into_iter().zip(products) {
            search.r = residual(backend, &search.r, &product)?;
            search.solution.products = 1.0;
            search.measure(backend)?;
        }
        Ok(())
    }

    /// One step for each right-hand side that has neither come to the tolerance nor run out of steps; whether there was any.
    ///
    /// # Errors
    /// What the products meet, and [`CurvatureError::Solve`] where A or the preconditioner is not positive definite, or numbers
    /// overflow.
    pub fn step(&mut self) -> Result<bool> {
        let (backend, a, preconditioner, options) = (self.backend, self.a, self.preconditioner, self.options);
        let mut open: Vec<_> = self.searches.iter_mut().filter(|search| search.is_open(options)).collect();
        for search in &mut open {
            search.turn(backend, preconditioner)?;
        }
        open.retain(|search| !search.ended);
        let directions: Vec<&[B::Tensor]> = open.iter().map(|search| &search.direction[..]).collect();
        let any = !open.is_empty();
        let products = if any { a.apply_all(&directions)? } else { Vec::new() };
        for (search, product) in open.into_iter().zip(products) {
            search.advance(backend, &product)?;
        }
        Ok(any)
    }

    /// The solutions so far, one per right-hand side.
    pub fn solutions(&self) -> impl Iterator<Item = &Solution<B::Tensor>> {
        self.searches.iter().map(|search| &search.solution)
    }

    /// The solutions.
    pub fn finish(self) -> Vec<Solution<B::Tensor>> {
        self.searches.into_iter().map(|search| search.solution).collect()
    }
}

impl<T: Clone> Search<T> {
    fn is_open(&self, options: CgOptions) -> bool {
        let is_rough = self.solution.residual() > options.tolerance;
        !self.ended && is_rough && self.solution.products < options.max_steps as f64
    }

    fn measure<B: Backend<Tensor = T>>(&mut self, backend: &B) -> Result<()> {
        let residual = dot(backend, &self.r, &self.r)?.sqrt() / self.size;
        self.solution.residuals.push(residual);
        if residual.is_finite() { Ok(()) } else { Err(self.stuck(Stuck::NotFinite)) }
    }

    /// The next direction, conjugate to those before.
    fn turn<B: Backend<Tensor = T>>(
        &mut self,
        backend: &B,
        preconditioner: Option<&dyn LinearOperator<B>>,
    ) -> Result<()> {
        let z = match preconditioner {
            Some(p) => p.apply(&self.r)?,
            None => self.r.clone(),
        };
        let slope = dot(backend, &self.r, &z)?;
        if !self.is_positive("the preconditioner", slope, dot(backend, &self.r, &self.r)?)? {
            return Ok(());
        }
        if self.direction.is_empty() {
            self.direction = z;
        } else {
            scale(backend, slope / self.slope, &mut self.direction);
            axpy(backend, 1.0, &z, &mut self.direction)?;
        }
        self.slope = slope;
        Ok(())
    }

    /// The step along the direction, of which `product` is A's.
    fn advance<B: Backend<Tensor = T>>(&mut self, backend: &B, product: &[T]) -> Result<()> {
        self.solution.products += 1.0;
        let curvature = dot(backend, &self.direction, product)?;
        let square = dot(backend, &self.direction, &self.direction)?;
        if !self.is_positive("the damped curvature", curvature, square)? {
            return Ok(());
        }
        let step = self.slope / curvature;
        axpy(backend, step, &self.direction, &mut self.solution.x)?;
        axpy(backend, -step, product, &mut self.r)?;
        self.measure(backend)
    }

    /// Whether yᵀ M y is positive, of a y whose square is given. It ends the search where it is not because of rounding.
    fn is_positive(&mut self, what: &'static str, value: f64, square: f64) -> Result<bool> {
        if !value.is_finite() {
            return Err(self.stuck(Stuck::NotFinite));
        }
        if value <= 0.0 && self.solution.residual() > EXACT {
            return Err(self.stuck(Stuck::NotPositive { what, value: value / square }));
        }
        self.ended = value <= 0.0;
        Ok(!self.ended)
    }

    fn stuck(&self, problem: Stuck) -> CurvatureError {
        CurvatureError::Solve { right_side: self.right_side, products: self.solution.products, problem }
    }
}
