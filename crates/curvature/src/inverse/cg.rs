//! Conjugate gradients, for several right-hand sides that share what they learn about the matrix.

use std::cell::RefCell;

use etymon_tensor::{Backend, Shape};

use super::conjugate::Extended;
use super::direction::{dot, scale, views};
use super::stack::Stack;
use super::{ConjugateDirections, LinearOperator, Solution};
use crate::{CurvatureError, Result, Stuck};

/// A relative residual at which rounding, not A, decides what is positive: nothing is left to solve.
const EXACT: f64 = 1e-7;

/// When to stop, and how much to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CgOptions {
    /// Most steps, of one product each.
    pub max_steps: usize,
    /// ‖v − A x‖ / ‖v‖ that is enough.
    pub tolerance: f64,
    /// Most conjugate directions that are held, beside the newest of each right-hand side: two vectors over the weights each.
    pub held: usize,
}

/// Solves A x = v for each v of `vs`, A symmetric positive definite, as [`ConjugateGradients`] does from no directions on.
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
    KeptDirections::new(options).solve(backend, a, vs, preconditioner)
}

/// Solves of one matrix, one after the other, of which each begins with what those before it learnt.
pub struct KeptDirections<T> {
    options: CgOptions,
    directions: RefCell<ConjugateDirections<T>>,
}

impl<T: Clone> KeptDirections<T> {
    /// Nothing is learnt yet.
    pub fn new(options: CgOptions) -> Self {
        Self { options, directions: RefCell::new(ConjugateDirections::new(options.held)) }
    }

    /// When each solve stops.
    pub fn options(&self) -> CgOptions {
        self.options
    }

    /// As [`conjugate_gradients`]; A must be the same in each call.
    ///
    /// # Errors
    /// As [`conjugate_gradients`].
    pub fn solve<B: Backend<Tensor = T>>(
        &self,
        backend: &B,
        a: &dyn LinearOperator<B>,
        vs: &[&[T]],
        preconditioner: Option<&dyn LinearOperator<B>>,
    ) -> Result<Vec<Solution<T>>> {
        let mut directions = self.directions.borrow_mut();
        ConjugateGradients::new(backend, (a, &mut *directions), vs, preconditioner, self.options)?.finish()
    }
}

/// Iterations on A x = v for several v at once (block conjugate gradients, O'Leary 1980): a step is one product with A for each v
/// that is not solved yet, in one pass of the operator over its data, and each v is minimised along the directions of all. A new
/// direction is made conjugate to all that are held, not to the last alone as in exact arithmetic (Hestenes & Stiefel 1952), so that
/// rounding costs no steps; those of earlier calls are used before any product is made. With a preconditioner M ≈ A⁻¹ the first
/// directions are M v: what M finds alone is among what one step finds.
pub struct ConjugateGradients<'a, B: Backend> {
    /// In full precision: what A's products lack in digits costs steps, what is lost between them would be lost to the solution.
    backend: B,
    a: &'a dyn LinearOperator<B>,
    directions: &'a mut ConjugateDirections<B::Tensor>,
    preconditioner: Option<&'a dyn LinearOperator<B>>,
    options: CgOptions,
    shapes: Vec<Shape>,
    /// Solutions of the right-hand sides, brought to unit length.
    x: Stack<B::Tensor>,
    /// What they lack.
    r: Stack<B::Tensor>,
    sides: Vec<RightSide>,
}

/// One right-hand side on its way.
struct RightSide {
    /// ‖v‖.
    size: f64,
    products: f64,
    residuals: Vec<f64>,
    /// Whether there is nothing to solve, or nothing left.
    ended: bool,
}

impl<'a, B: Backend> ConjugateGradients<'a, B> {
    /// At what the directions held, which must be those of the same A, give.
    ///
    /// # Errors
    /// What the products meet, and a v that is not finite.
    pub fn new(
        backend: &B,
        (a, directions): (&'a dyn LinearOperator<B>, &'a mut ConjugateDirections<B::Tensor>),
        vs: &[&[B::Tensor]],
        preconditioner: Option<&'a dyn LinearOperator<B>>,
        options: CgOptions,
    ) -> Result<Self> {
        let backend = backend.in_full_precision();
        let (mut sides, mut units) = (Vec::with_capacity(vs.len()), Vec::with_capacity(vs.len()));
        for (right_side, v) in vs.iter().enumerate() {
            let size = dot(&backend, v, v)?.sqrt();
            if !size.is_finite() {
                return Err(CurvatureError::Solve { right_side, products: 0.0, problem: Stuck::NotFinite });
            }
            let ended = size == 0.0;
            let mut unit = v.to_vec();
            scale(&backend, if ended { 0.0 } else { 1.0 / size }, &mut unit);
            units.push(unit);
            sides.push(RightSide { size, products: 0.0, residuals: if ended { vec![0.0] } else { Vec::new() }, ended });
        }
        let shapes = vs.first().map_or_else(Vec::new, |v| v.iter().map(|v| backend.shape(v)).collect());
        let r = Stack::of(&backend, &views(&units))?;
        let x = r.zeros(&backend);
        let mut all = Self { backend, a, directions, preconditioner, options, shapes, x, r, sides };
        if !all.directions.is_empty() {
            all.directions.descend(&all.backend, (&mut all.x, &mut all.r))?;
            all.measure()?;
        }
        Ok(all)
    }

    /// One step for each right-hand side that has neither come to the tolerance nor run out of steps; whether there was any.
    ///
    /// # Errors
    /// What the products meet, and [`CurvatureError::Solve`] where A or the preconditioner is not positive definite, or numbers
    /// overflow.
    pub fn step(&mut self) -> Result<bool> {
        let (mut open, mut searches) = (Vec::new(), Vec::new());
        let is_open = |side: &RightSide| side.is_open(self.options);
        let wanted: Vec<usize> = (0..self.sides.len()).filter(|&i| is_open(&self.sides[i])).collect();
        if wanted.is_empty() {
            return Ok(false);
        }
        let residuals = self.r.select(&self.backend, &wanted)?.split(&self.backend, &self.shapes)?;
        for (side, r) in wanted.into_iter().zip(residuals) {
            if let Some(z) = self.search(side, &r)? {
                open.push(side);
                searches.push(z);
            }
        }
        if open.is_empty() {
            return Ok(false);
        }
        let z = Stack::of(&self.backend, &views(&searches))?;
        match self.directions.extend(&self.backend, self.a, z, &self.shapes)? {
            Extended::By(products) => {
                let share = products as f64 / open.len() as f64;
                open.iter().for_each(|&side| self.sides[side].products += share);
                self.directions.step(&self.backend, (&mut self.x, &mut self.r))?;
                self.measure()?;
            }
            Extended::Exhausted => open.iter().for_each(|&side| self.sides[side].ended = true),
            Extended::NotPositive { value, row } => self.check(open[row], "the damped curvature", value)?,
        }
        Ok(true)
    }

    /// The preconditioned residual of a right-hand side, of unit length; none where rounding ends its search.
    fn search(&mut self, side: usize, r: &[B::Tensor]) -> Result<Option<Vec<B::Tensor>>> {
        let mut z = match self.preconditioner {
            Some(p) => p.apply(r)?,
            None => r.to_vec(),
        };
        let slope = dot(&self.backend, r, &z)? / dot(&self.backend, r, r)?;
        self.check(side, "the preconditioner", slope)?;
        let size = dot(&self.backend, &z, &z)?.sqrt();
        scale(&self.backend, 1.0 / size, &mut z);
        Ok(if self.sides[side].ended { None } else { Some(z) })
    }

    /// Takes the residuals down.
    fn measure(&mut self) -> Result<()> {
        for (i, residual) in self.r.sizes(&self.backend)?.into_iter().enumerate() {
            if !residual.is_finite() {
                return Err(self.stuck(i, Stuck::NotFinite));
            }
            if self.sides[i].size > 0.0 {
                self.sides[i].residuals.push(residual);
            }
        }
        Ok(())
    }

    /// Whether yᵀ M y of a unit y is positive. It ends the search where it is not because of rounding.
    fn check(&mut self, side: usize, what: &'static str, value: f64) -> Result<()> {
        if !value.is_finite() {
            return Err(self.stuck(side, Stuck::NotFinite));
        }
        if value <= 0.0 && self.sides[side].residual() > EXACT {
            return Err(self.stuck(side, Stuck::NotPositive { what, value }));
        }
        self.sides[side].ended |= value <= 0.0;
        Ok(())
    }

    fn stuck(&self, right_side: usize, problem: Stuck) -> CurvatureError {
        CurvatureError::Solve { right_side, products: self.sides[right_side].products, problem }
    }

    /// Most products that any right-hand side took.
    pub fn products(&self) -> f64 {
        self.sides.iter().map(|side| side.products).fold(0.0, f64::max)
    }

    /// The solutions so far, one per right-hand side.
    ///
    /// # Errors
    /// What the backend meets.
    pub fn solutions(&self) -> Result<Vec<Solution<B::Tensor>>> {
        let xs = self.x.split(&self.backend, &self.shapes)?;
        let solution = |(side, mut x): (&RightSide, Vec<B::Tensor>)| {
            scale(&self.backend, side.size, &mut x);
            Solution { x, products: side.products, residuals: side.residuals.clone() }
        };
        Ok(self.sides.iter().zip(xs).map(solution).collect())
    }

    /// Steps until all are solved or out of steps, and the solutions.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn finish(mut self) -> Result<Vec<Solution<B::Tensor>>> {
        while self.step()? {}
        self.solutions()
    }
}

impl RightSide {
    fn residual(&self) -> f64 {
        self.residuals.last().copied().unwrap_or(1.0)
    }

    fn is_open(&self, options: CgOptions) -> bool {
        !self.ended && self.residual() > options.tolerance && self.products < options.max_steps as f64
    }
}
