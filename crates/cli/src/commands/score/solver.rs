//! The inverse that the arguments of a score name, by products over some train examples.

use etymon_curvature::Preconditioner;
use etymon_curvature::inverse::{
    CgOptions, DataInf, DiagonalInverse, EkfacInverse, GaussNewton, LinearOperator, Solver, Way, lambda_of_gradients,
};
use etymon_data::Batch;
use etymon_model::{Model, Objective};

use super::hessian::{self, HessianInverse};
use crate::args::{CurvatureArg, ScoreArgs};
use crate::error::Result;
use crate::method::ScoreMethod;
use crate::open::Work;

/// Independent runs of a Neumann series that are averaged.
const REPEATS: usize = 2;

/// (G + λI)⁻¹ with G, or the true Hessian, over `batches`. λ is that of `preconditioner`, or of gradients with drawn labels where that is the identity;
/// of DataInf, of gradients with the data's labels, as in its paper; of the diagonal, relative to its own mean.
pub fn solver<'a>(
    (args, method): (&ScoreArgs, ScoreMethod),
    model: &'a Model<Work>,
    batches: &'a [Batch],
    preconditioner: Preconditioner<'_>,
) -> Result<Box<dyn LinearOperator<Work> + 'a>> {
    let seed = args.solve.solve_seed;
    if method == ScoreMethod::DataInf {
        return Ok(Box::new(DataInf::new(model, batches, Objective::TrainLoss, args.damping)?));
    }
    let drawn = Objective::SampledLoss { seed };
    if method == ScoreMethod::Diagonal {
        return Ok(Box::new(DiagonalInverse::new(model, batches, drawn, args.damping)?));
    }
    let ekfac = EkfacInverse::new(model.backend(), preconditioner, model.layers().len())?;
    let lambda = match &ekfac {
        Some(ekfac) => ekfac.lambda(),
        None => lambda_of_gradients(model, batches, drawn, args.damping)?,
    };
    if args.solve.curvature == CurvatureArg::Hessian {
        let way = if method == ScoreMethod::Dense { hessian::Way::Dense } else { hessian::Way::Cg(cg(args, method)) };
        return Ok(Box::new(HessianInverse::new(model, batches, lambda, way)?));
    }
    let starts = matches!(method, ScoreMethod::EkfacCg | ScoreMethod::Astra);
    let g = GaussNewton::new(model, batches).in_parts_of(examples_per_step(args, method));
    Ok(Box::new(Solver::new(g, lambda, ekfac.filter(|_| starts), way(args, method))?))
}

/// Train examples that a step of the method sees.
pub fn examples_per_step(args: &ScoreArgs, method: ScoreMethod) -> usize {
    let is_stochastic = matches!(method, ScoreMethod::Astra | ScoreMethod::Lissa);
    if is_stochastic { args.solve.solve_batch } else { usize::MAX }
}

fn cg(args: &ScoreArgs, method: ScoreMethod) -> CgOptions {
    CgOptions { max_steps: args.steps(method), tolerance: args.solve.tolerance }
}

fn way(args: &ScoreArgs, method: ScoreMethod) -> Way {
    let (steps, seed) = (args.steps(method), args.solve.solve_seed);
    match method {
        ScoreMethod::EkfacCg | ScoreMethod::Cg => Way::Cg(cg(args, method)),
        ScoreMethod::Astra | ScoreMethod::Lissa => Way::Neumann { steps, repeats: REPEATS, seed },
        ScoreMethod::Arnoldi => Way::Lanczos { steps, rank: steps, seed },
        _ => Way::Dense,
    }
}
