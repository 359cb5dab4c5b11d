//! Optima of small models by Newton's method, in f64: what two-stage influence is the derivative of.

use etymon_curvature::inverse::{Dense, Hessian, LinearOperator};
use etymon_data::Batch;
use etymon_model::{Model, Objective};
use etymon_tensor::{Backend, Cpu, Matrix};

pub type F64 = Cpu<f64>;
pub type Direction = Vec<Matrix<f64>>;

/// (1/n) Σ_i L_i + ε L(extra) + Σ_ℓ (λ_ℓ/2)‖θ_ℓ − c_ℓ‖² over the tapped layers of a model.
pub struct Problem<'a> {
    pub batches: &'a [Batch],
    pub extra: Option<(&'a Batch, f64)>,
    pub lambda: &'a [f64],
    pub center: Direction,
}

/// The weights of the tapped layers, the bias being the last column.
pub fn weights(model: &Model<F64>) -> Direction {
    let (backend, params) = (model.backend(), model.params());
    let join = |(weight, bias)| {
        let weight = params.get(weight);
        let Some(bias) = bias else { return weight.clone() };
        let column = backend
            .reshape(params.get(bias).clone(), etymon_tensor::Shape::new(backend.shape(weight).rows, 1))
            .unwrap();
        backend.concat_cols(&[weight, &column]).unwrap()
    };
    model.layer_params().into_iter().map(join).collect()
}

pub fn dot(x: &[Matrix<f64>], y: &[Matrix<f64>]) -> f64 {
    x.iter().zip(y).flat_map(|(x, y)| x.as_slice().iter().zip(y.as_slice())).map(|(x, y)| x * y).sum()
}

impl Problem<'_> {
    fn gradient(&self, model: &Model<F64>) -> Direction {
        let (backend, mut out) = (model.backend(), model.zero_direction());
        let n = self.batches.iter().map(Batch::n_examples).sum::<usize>() as f64;
        self.batches.iter().for_each(|b| model.add_gradient(b, Objective::TrainLoss, &mut out).unwrap());
        out.iter_mut().for_each(|g| backend.scale(1.0 / n, g));
        if let Some((batch, epsilon)) = self.extra {
            let mut one = model.zero_direction();
            model.add_gradient(batch, Objective::TrainLoss, &mut one).unwrap();
            out.iter_mut().zip(&one).for_each(|(g, one)| backend.axpy(epsilon, one, g).unwrap());
        }
        for (((g, w), c), &lambda) in out.iter_mut().zip(&weights(model)).zip(&self.center).zip(self.lambda) {
            backend.axpy(lambda, w, g).unwrap();
            backend.axpy(-lambda, c, g).unwrap();
        }
        out
    }

    /// Plain descent from a `far` model until the gradient is small, then Newton steps, to the last digits.
    pub fn minimise(&self, mut model: Model<F64>, far: bool) -> Model<F64> {
        let size = |g: &Direction| dot(g, g).sqrt();
        let mut gradient = self.gradient(&model);
        for _ in 0..20_000 {
            if !far || size(&gradient) < 1e-5 {
                break;
            }
            model = model.moved(-0.5, &gradient).unwrap();
            gradient = self.gradient(&model);
        }
        for _ in 0..12 {
            if size(&gradient) < 1e-14 {
                break;
            }
            let delta = self.hessian(&model).solve(model.backend(), &gradient, self.lambda).unwrap();
            model = model.moved(-1.0, &delta).unwrap();
            gradient = self.gradient(&model);
        }
        assert!(size(&gradient) < 1e-11, "{:e}", size(&gradient));
        model
    }

    /// The Hessian of the mean loss alone.
    pub fn hessian(&self, model: &Model<F64>) -> Dense {
        let hessian = Hessian::new(model, self.batches).unwrap();
        let apply = |v: &[Matrix<f64>]| hessian.apply(v);
        Dense::new(model.backend(), &apply, &model.zero_direction()).unwrap()
    }
}
