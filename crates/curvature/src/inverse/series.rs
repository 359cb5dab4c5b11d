//! The stochastic Neumann series that LiSSA and ASTRA run.

use etymon_tensor::Backend;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::direction::{axpy, residual, scale, views, zeros_like};
use super::{Damped, GaussNewton, LinearOperator};
use crate::Result;

/// u ← β u + P (v − (G_b + λI) x), x ← x + α u over random parts b of the set: an approximation of (G + λI)⁻¹ v by products with
/// parts.
pub(super) struct Series<'s, 'a, B: Backend> {
    pub g: &'s GaussNewton<'a, B>,
    /// λ of each layer.
    pub lambda: &'s [f64],
    /// P; the identity if there is none.
    pub preconditioner: Option<&'s dyn LinearOperator<B>>,
    /// β (Polyak 1964); 0 is the series itself.
    pub momentum: f64,
}

impl<B: Backend> Series<'_, '_, B> {
    /// The mean x of the last half of `steps`, which takes most of the noise of the parts away, for each v and its α; all v see the
    /// same parts; and the examples that were seen. It begins with α P v.
    ///
    /// # Errors
    /// What the products meet.
    pub fn run(
        &self,
        vs: &[&[B::Tensor]],
        alphas: &[f64],
        steps: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Vec<Vec<B::Tensor>>, usize)> {
        let backend = self.g.model().backend();
        let mut xs = vs.iter().zip(alphas).map(|(v, alpha)| self.start(v, *alpha)).collect::<Result<Vec<_>>>()?;
        let mut means: Vec<_> = vs.iter().map(|v| zeros_like(backend, v)).collect();
        let mut velocities = means.clone();
        let (mut examples, weight) = (0, 1.0 / (steps - steps / 2) as f64);
        for step in 0..steps {
            let part = self.part(rng);
            examples += part.n_examples();
            let damped = Damped { backend, inner: &part, lambda: self.lambda };
            let products = damped.apply_all(&views(&xs))?;
            for (i, (v, product)) in vs.iter().zip(products).enumerate() {
                let (x, velocity) = (&mut xs[i], &mut velocities[i]);
                scale(backend, self.momentum, velocity);
                axpy(backend, 1.0, &self.precondition(residual(backend, v, &product)?)?, velocity)?;
                axpy(backend, alphas[i], velocity, x)?;
                if step >= steps / 2 {
                    axpy(backend, weight, x, &mut means[i])?;
                }
            }
        }
        Ok((means, examples))
    }

    fn start(&self, v: &[B::Tensor], alpha: f64) -> Result<Vec<B::Tensor>> {
        let mut x = self.precondition(v.to_vec())?;
        scale(self.g.model().backend(), alpha, &mut x);
        Ok(x)
    }

    fn precondition(&self, r: Vec<B::Tensor>) -> Result<Vec<B::Tensor>> {
        match self.preconditioner {
            Some(p) => p.apply(&r),
            None => Ok(r),
        }
    }

    /// A part, with the probability of its share of the examples.
    fn part(&self, rng: &mut ChaCha8Rng) -> GaussNewton<'_, B> {
        let g = self.g;
        let mut left = rng.random::<f64>() * g.n_examples() as f64;
        for part in 0..g.n_parts() {
            left -= g.part(part).n_examples() as f64;
            if left < 0.0 {
                return g.part(part);
            }
        }
        g.part(g.n_parts().saturating_sub(1))
    }
}
