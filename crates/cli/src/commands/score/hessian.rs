//! (H + λI)⁻¹ with the true Hessian, whose products need f64.

use etymon_curvature::Result;
use etymon_curvature::inverse::{CgOptions, Damped, Dense, DenseInverse, Hessian, KeptDirections, LinearOperator};
use etymon_data::Batch;
use etymon_model::Model;
use etymon_tensor::{Backend, Cpu};

use crate::open::Work;

type Exact = Cpu<f64>;

/// How H is solved with.
pub enum Way {
    /// Conjugate gradients.
    Cg(CgOptions),
    /// The matrix itself.
    Dense,
}

/// Takes and gives directions of the working backend; in between all is f64.
pub struct HessianInverse<'a> {
    work: &'a Work,
    exact: Model<Exact>,
    batches: &'a [Batch],
    lambda: Vec<f64>,
    made: Made,
}

enum Made {
    Cg(KeptDirections<<Exact as Backend>::Tensor>),
    Dense(DenseInverse),
}

impl<'a> HessianInverse<'a> {
    /// Over all examples of the batches.
    ///
    /// # Errors
    /// What the products meet, and a model too large for a dense matrix.
    pub fn new(model: &'a Model<Work>, batches: &'a [Batch], lambda: Vec<f64>, way: Way) -> Result<Self> {
        let exact = model.to_backend(Exact::new())?;
        let made = match way {
            Way::Cg(options) => Made::Cg(KeptDirections::new(options)),
            Way::Dense => {
                let h = Hessian::new(&exact, batches)?;
                Made::Dense(Dense::new(exact.backend(), &h, &exact.zero_direction())?.inverse(&lambda)?)
            }
        };
        Ok(Self { work: model.backend(), exact, batches, lambda, made })
    }

    fn solve(&self, v: &[<Exact as Backend>::Tensor]) -> Result<Vec<<Exact as Backend>::Tensor>> {
        let backend = self.exact.backend();
        match &self.made {
            Made::Dense(dense) => dense.solve(backend, v),
            Made::Cg(kept) => {
                let h = Hessian::new(&self.exact, self.batches)?;
                let damped = Damped { backend, inner: &h, lambda: &self.lambda };
                let solved = kept.solve(backend, &damped, &[v], None)?;
                Ok(solved.into_iter().next().map(|solution| solution.x).unwrap_or_default())
            }
        }
    }
}

impl LinearOperator<Work> for HessianInverse<'_> {
    fn apply(&self, v: &[<Work as Backend>::Tensor]) -> Result<Vec<<Work as Backend>::Tensor>> {
        let exact = self.exact.backend();
        let up = |x| Ok(exact.upload(self.work.shape(x), &self.work.download::<f64>(x))?);
        let wide = v.iter().map(up).collect::<Result<Vec<_>>>()?;
        let down = |x| Ok(self.work.upload(exact.shape(x), &exact.download::<f64>(x))?);
        self.solve(&wide)?.iter().map(down).collect()
    }
}
