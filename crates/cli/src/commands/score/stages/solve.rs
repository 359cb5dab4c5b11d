//! The queries of the fine-tuned model, brought to both stages.

use std::cell::Cell;

use etymon_attribution::{AttributionError, Queries, Rank, StageQueries};
use etymon_curvature::inverse::{
    Damped, Dense, DenseInverse, EkfacInverse, GaussNewton, Hessian, KeptDirections, LinearOperator, Solution,
    lambda_of_gradients,
};
use etymon_curvature::{CurvatureError, Damping, Factors, Preconditioner, Spectrum, Stuck};
use etymon_data::Batch;
use etymon_model::{Model, Objective};
use etymon_tensor::{Backend, Cpu, Folds};

use super::super::job::Job;
use super::super::solver::cg;
use super::open::Both;
use crate::args::{ScoreArgs, StageCurvature};
use crate::error::{CliError, Result};
use crate::estimate::solved_at_once;
use crate::method::ScoreMethod;
use crate::open::Work;

/// Both sets of queries. Products with the Hessian are differences of gradients, for which f32 is too coarse: where they are
/// taken, all is in f64.
pub fn queries(both: &Both, job: &Job<'_>) -> Result<StageQueries<Work>> {
    let by_factors = matches!(both.finetuning.method(), ScoreMethod::Ekfac | ScoreMethod::Kfac);
    let with_hessian = both.stages.has_frozen() || (!by_factors && both.curvature() == StageCurvature::Hessian);
    if !with_hessian {
        return through(both, job, &both.whole);
    }
    let wide = both.whole.to_backend(Cpu::<f64>::new())?;
    let found = through(both, job, &wide)?;
    let (from, to) = (wide.backend(), both.whole.backend());
    let trained = both.finetuning.layers();
    Ok(StageQueries {
        pretraining: found.pretraining.to_backend(from, to, both.pretraining.layers())?,
        finetuning: found.finetuning.to_backend(from, to, trained)?,
    })
}

/// The mean eigenvalue of each layer times X, for a damping rel:X: by the factors, if there are any, or by gradients with drawn
/// labels.
pub fn mean_lambda(
    (args, method): (&ScoreArgs, ScoreMethod),
    model: &Model<Work>,
    batches: &[Batch],
    damping: Damping,
) -> Result<Vec<f64>> {
    match ekfac((args, method), model, damping)? {
        Some(ekfac) => Ok(ekfac.lambda()),
        None => {
            let objective = Objective::SampledLoss { seed: args.solve.solve_seed };
            Ok(lambda_of_gradients(model, batches, objective, damping)?)
        }
    }
}

/// The inverse by the factors of fine-tuning, if there are any.
fn ekfac<'a, B: Folds>(
    (args, method): (&ScoreArgs, ScoreMethod),
    model: &'a Model<B>,
    damping: Damping,
) -> Result<Option<EkfacInverse<'a, B>>> {
    let Some(folder) = &args.factors else { return Ok(None) };
    let factors = Factors::open(folder, model.layers())?;
    let spectrum = if method == ScoreMethod::Kfac { Spectrum::Kronecker } else { Spectrum::Corrected };
    let damped = Preconditioner::Kronecker { factors: &factors, spectrum, damping };
    Ok(EkfacInverse::new(model.backend(), damped, model.layers().len())?)
}

/// As [`queries`], on the backend of the fine-tuned model.
fn through<B: Folds>(both: &Both, job: &Job<'_>, whole: &Model<B>) -> Result<StageQueries<B>> {
    let measurement = job.args.measurement.into();
    let trained = both.stages.trained(whole);
    let plain = Preconditioner::Identity;
    let plain = Queries::prepare(whole, &both.queries, measurement, plain, Rank::Full, job.limits())?;
    let (method, damping) = (both.finetuning.method(), both.free_damping());
    let ekfac = ekfac((job.args, method), &trained, damping)?;
    let free = match &ekfac {
        Some(ekfac) => ekfac.lambda(),
        None => mean_lambda((job.args, method), &both.finetuning.inputs.opened.model, &both.batches, damping)?,
    };
    // A layer that is held near pre-training is damped by that, unless more is asked for.
    let own = |(held, damping): (Option<f64>, f64)| if held.is_some() && !both.damps_all() { 0.0 } else { damping };
    let damping: Vec<f64> = both.stages.held().zip(free).map(own).collect();
    let lambda = both.stages.lambda(&damping);
    let inverse = Inverse::new(both, job, (&trained, lambda), ekfac)?;
    let hessian = Hessian::new(whole, &both.batches)?;
    let task = job.context.reporter.task("two stages", 2 * both.queries.len() as u64, 0, "vectors");
    let models = (both.pretraining.layers(), whole);
    let at_once = solved_at_once(trained.layers(), both.queries.len(), &job.args.pass);
    let done = || task.advance(1, 0);
    let found = both.stages.transform(models, &plain, &inverse, &hessian, at_once, done).map_err(explain)?;
    task.finish();
    inverse.say_if_short(job);
    Ok(found)
}

/// What to turn where the curvature of fine-tuning is not positive.
fn explain(error: AttributionError) -> CliError {
    match error {
        AttributionError::Curvature(CurvatureError::NotDefinite)
        | AttributionError::Unsolved {
            source: CurvatureError::Solve { problem: Stuck::NotPositive { .. }, .. }, ..
        } => CliError::Usage {
            option: "--finetune-damping",
            problem: "the Hessian of fine-tuning is not positive definite: a larger damping or --proximity, or \
                      --finetune-curvature gauss-newton, make it so"
                .to_owned(),
        },
        other => other.into(),
    }
}

/// (∂² F + λ)⁻¹ on the trained layers, by the method of the score.
struct Inverse<'a, B: Backend> {
    curvature: Box<dyn LinearOperator<B> + 'a>,
    trained: &'a Model<B>,
    lambda: Vec<f64>,
    ekfac: Option<EkfacInverse<'a, B>>,
    dense: Option<DenseInverse>,
    method: ScoreMethod,
    kept: KeptDirections<B::Tensor>,
    /// The largest residual that conjugate gradients left.
    residual: Cell<f64>,
}

impl<'a, B: Folds> Inverse<'a, B> {
    /// `ekfac` is inverted with where the method needs it.
    fn new(
        both: &'a Both,
        job: &Job<'_>,
        (trained, lambda): (&'a Model<B>, Vec<f64>),
        ekfac: Option<EkfacInverse<'a, B>>,
    ) -> Result<Self> {
        let method = both.finetuning.method();
        let curvature: Box<dyn LinearOperator<B> + 'a> = match both.curvature() {
            StageCurvature::Hessian => Box::new(Hessian::new(trained, &both.batches)?),
            StageCurvature::GaussNewton => Box::new(GaussNewton::new(trained, &both.batches)),
        };
        let dense = match method {
            ScoreMethod::Dense => {
                let matrix = Dense::new(trained.backend(), curvature.as_ref(), &trained.zero_direction())?;
                Some(matrix.inverse(&lambda).map_err(|e| explain(e.into()))?)
            }
            _ => None,
        };
        let ekfac = ekfac.filter(|_| method.needs_factors()).map(|ekfac| ekfac.with_lambda(&lambda));
        let kept = KeptDirections::new(cg((job.args, method), trained.layers(), 2));
        Ok(Self { curvature, trained, lambda, ekfac, dense, method, kept, residual: Cell::new(0.0) })
    }

    /// A note where conjugate gradients ended before they were done.
    fn say_if_short(&self, job: &Job<'_>) {
        let (left, wanted) = (self.residual.get(), self.kept.options().tolerance);
        if left > wanted {
            let note = format!(
                "note: conjugate gradients of fine-tuning left a residual of {left:.1e}, above {wanted:.1e}: more --steps"
            );
            job.context.reporter.say(note);
        }
    }
}

impl<B: Folds> LinearOperator<B> for Inverse<'_, B> {
    fn apply(&self, v: &[B::Tensor]) -> etymon_curvature::Result<Vec<B::Tensor>> {
        Ok(self.apply_all(&[v])?.into_iter().next().unwrap_or_default())
    }

    fn apply_all(&self, vs: &[&[B::Tensor]]) -> etymon_curvature::Result<Vec<Vec<B::Tensor>>> {
        let backend = self.trained.backend();
        if let Some(dense) = &self.dense {
            return vs.iter().map(|v| dense.solve(backend, v)).collect();
        }
        let ekfac = self.ekfac.as_ref().map(|ekfac| ekfac as &dyn LinearOperator<B>);
        if let Some(ekfac) = ekfac.filter(|_| self.method != ScoreMethod::EkfacCg) {
            return ekfac.apply_all(vs);
        }
        let damped = Damped { backend, inner: self.curvature.as_ref(), lambda: &self.lambda };
        let solved = self.kept.solve(backend, &damped, vs, ekfac)?;
        let largest = solved.iter().map(Solution::residual).fold(self.residual.get(), f64::max);
        self.residual.set(largest);
        Ok(solved.into_iter().map(|solution| solution.x).collect())
    }
}
