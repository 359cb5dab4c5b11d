//! The inverse that the arguments of a score name, by products over some train examples.

use etymon_curvature::Preconditioner;
use etymon_curvature::inverse::{
    CgOptions, DataInf, EkfacInverse, GaussNewton, LinearOperator, Solver, Way, lambda_of_gradients,
};
use etymon_data::Batch;
use etymon_model::{Model, Objective};

use crate::args::{ScoreArgs, ScoreMethod};
use crate::error::Result;
use crate::open::Work;

/// Independent runs of a Neumann series that are averaged.
const REPEATS: usize = 2;

/// (G + λI)⁻¹ with G over `batches`. λ is that of `preconditioner`, or of gradients with drawn labels where that is the identity;
/// of DataInf, of gradients with the data's labels, as in its paper.
pub fn solver<'a>(
    args: &ScoreArgs,
    model: &'a Model<Work>,
    batches: &'a [Batch],
    preconditioner: Preconditioner<'_>,
) -> Result<Box<dyn LinearOperator<Work> + 'a>> {
    let seed = args.solve.solve_seed;
    if args.method == ScoreMethod::DataInf {
        return Ok(Box::new(DataInf::new(model, batches, Objective::TrainLoss, args.damping)?));
    }
    let ekfac = EkfacInverse::new(model.backend(), preconditioner, model.layers().len())?;
    let lambda = match &ekfac {
        Some(ekfac) => ekfac.lambda(),
        None => lambda_of_gradients(model, batches, Objective::SampledLoss { seed }, args.damping)?,
    };
    let starts = matches!(args.method, ScoreMethod::EkfacCg | ScoreMethod::Astra);
    let g = GaussNewton::new(model, batches);
    Ok(Box::new(Solver::new(g, lambda, ekfac.filter(|_| starts), way(args, seed))?))
}

fn way(args: &ScoreArgs, seed: u64) -> Way {
    let steps = args.steps();
    match args.method {
        ScoreMethod::EkfacCg | ScoreMethod::Cg => {
            Way::Cg(CgOptions { max_steps: steps, tolerance: args.solve.tolerance })
        }
        ScoreMethod::Astra | ScoreMethod::Lissa => Way::Neumann { steps, repeats: REPEATS, seed },
        ScoreMethod::Arnoldi => Way::Lanczos { steps, rank: steps, seed },
        _ => Way::Dense,
    }
}
