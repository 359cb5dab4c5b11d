//! The inverse that the arguments of a score name, by products over some train examples.

use etymon_attribution::{AttributionError, Queries, Rank};
use etymon_curvature::inverse::{
    CgOptions, DataInf, DiagonalInverse, EkfacInverse, GaussNewton, LinearOperator, Solved, Solver, Way,
    lambda_of_gradients,
};
use etymon_curvature::{CurvatureError, Preconditioner};
use etymon_data::Batch;
use etymon_model::{LayerSpec, Model, Objective};
use etymon_tensor::Matrix;

use super::hessian::{self, HessianInverse};
use super::job::Job;
use crate::args::{CurvatureArg, ScoreArgs};
use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::estimate::{held_directions, solved_at_once};
use crate::method::ScoreMethod;
use crate::open::Work;

/// Independent runs of LiSSA that are averaged.
pub const REPEATS: usize = 2;

/// Relative residual above which a solution that no tolerance was given for is called rough.
const ROUGH: f64 = 0.1;

/// (G + λI)⁻¹, or what stands for it.
pub enum Inverse<'a> {
    /// By products with G.
    Solver(Solver<'a, Work>),
    DataInf(DataInf<'a, Work>),
    Diagonal(DiagonalInverse<'a, Work>),
    Ekfac(EkfacInverse<'a, Work>),
    Hessian(Box<HessianInverse<'a>>),
}

/// (G + λI)⁻¹ by the factors of `preconditioner`, or by products over `batches` where the method solves.
pub fn inverse<'a>(
    (job, method): (&Job<'_>, ScoreMethod),
    model: &'a Model<Work>,
    batches: &'a [Batch],
    preconditioner: Preconditioner<'_>,
) -> Result<Inverse<'a>> {
    if method == ScoreMethod::Dense {
        job.context.reporter.say(format!("  forming the dense matrix: {} products", model.n_tapped()));
    }
    if method.solves() {
        return solver((job.args, method), model, batches, preconditioner);
    }
    let missing = || CliError::Usage { option: "--factors", problem: "is missing".to_owned() };
    Ok(Inverse::Ekfac(EkfacInverse::new(model.backend(), preconditioner, model.layers().len())?.ok_or_else(missing)?))
}

/// (G + λI)⁻¹ with G, or the true Hessian, over `batches`. λ is that of `preconditioner`, or of gradients with drawn labels where
/// that is the identity; of DataInf, of gradients with the data's labels, as in its paper; of the diagonal, relative to its own mean.
fn solver<'a>(
    (args, method): (&ScoreArgs, ScoreMethod),
    model: &'a Model<Work>,
    batches: &'a [Batch],
    preconditioner: Preconditioner<'_>,
) -> Result<Inverse<'a>> {
    let (seed, specs) = (args.solve.solve_seed, model.layers());
    if method == ScoreMethod::DataInf {
        return Ok(Inverse::DataInf(DataInf::new(model, batches, Objective::TrainLoss, args.damping)?));
    }
    let drawn = Objective::SampledLoss { seed };
    if method == ScoreMethod::Diagonal {
        return Ok(Inverse::Diagonal(DiagonalInverse::new(model, batches, drawn, args.damping)?));
    }
    let ekfac = EkfacInverse::new(model.backend(), preconditioner, model.layers().len())?;
    let lambda = match &ekfac {
        Some(ekfac) => ekfac.lambda(),
        None => lambda_of_gradients(model, batches, drawn, args.damping)?,
    };
    if args.solve.curvature == CurvatureArg::Hessian {
        let way = if method == ScoreMethod::Dense {
            hessian::Way::Dense
        } else {
            hessian::Way::Cg(cg((args, method), specs, 2))
        };
        return Ok(Inverse::Hessian(Box::new(HessianInverse::new(model, batches, lambda, way)?)));
    }
    let g = GaussNewton::new(model, batches).in_parts_of(examples_per_step(args, method));
    let solver = Solver::new(g, lambda, ekfac.filter(|_| method.preconditions()), way((args, method), specs));
    Ok(Inverse::Solver(solver.map_err(|source| named((args, method), source.into()))?))
}

/// Queries whose gradients are `plain`, multiplied with an inverse. What it says of them: how far each came with -v, and a
/// warning where that is not far enough.
pub fn precondition(
    job: &Job<'_>,
    method: ScoreMethod,
    model: &Model<Work>,
    (plain, inverse): (&Queries<Work>, &Inverse<'_>),
    rank: Rank,
) -> Result<Queries<Work>> {
    let task = job.context.reporter.task(method.name(), plain.len() as u64, 0, "queries");
    let at_once = solved_at_once(model.layers(), plain.len(), &job.args.pass);
    let solved = plain.precondition(model, inverse, (rank, at_once), |_| task.advance(1, 0));
    let solved = solved.map_err(|source| named((job.args, method), source))?;
    task.finish();
    let names: Vec<String> = plain.values.iter().map(|v| format!("query `{}`", v.id)).collect();
    report(job.context, (job.args, method), &names, &inverse.take_solved());
    Ok(solved)
}

/// An error of a solve, with method and damping.
pub fn named((args, method): (&ScoreArgs, ScoreMethod), source: AttributionError) -> CliError {
    match source {
        AttributionError::Unsolved { .. } | AttributionError::Curvature(CurvatureError::Solve { .. }) => {
            CliError::Solve { method: method.name(), damping: args.damping, source }
        }
        other => other.into(),
    }
}

/// Tells how far the solves of `names` came, as [`precondition`] does.
pub fn report(context: Context, (args, method): (&ScoreArgs, ScoreMethod), names: &[String], solved: &[Solved]) {
    for (name, solved) in names.iter().zip(solved) {
        let (products, residual) = (solved.products, solved.residual);
        context.reporter.detail(format!("  {name}: relative residual {residual:.1e} after {products:.0} products"));
    }
    if let Some(text) = warning((args, method), names, solved) {
        context.reporter.say(text);
    }
}

/// The warning of solutions that are rough, if any is.
fn warning((args, method): (&ScoreArgs, ScoreMethod), names: &[String], solved: &[Solved]) -> Option<String> {
    let tolerance = args.solve.tolerance;
    let (most, limit) = match method {
        ScoreMethod::EkfacCg | ScoreMethod::Cg => (tolerance, format!("--tolerance {tolerance:e}")),
        _ => (ROUGH, ROUGH.to_string()),
    };
    let rough = solved.iter().zip(names).filter(|(solved, _)| solved.residual > most);
    let count = rough.clone().count();
    let (worst, name) = rough.max_by(|(a, _), (b, _)| a.residual.total_cmp(&b.residual))?;
    let knobs = format!("raise --steps (now {}) or --damping (now {})", args.steps(method), args.damping);
    Some(format!(
        "warning: {} did not converge: relative residual {:.1e} of {name} after {:.0} products, above {limit} ({count} of {} \
         solves): {knobs}",
        method.name(),
        worst.residual,
        worst.products,
        solved.len(),
    ))
}

/// Train examples that a step of the method sees.
pub fn examples_per_step(args: &ScoreArgs, method: ScoreMethod) -> usize {
    let is_stochastic = matches!(method, ScoreMethod::Astra | ScoreMethod::Lissa);
    if is_stochastic { args.solve.solve_batch } else { usize::MAX }
}

/// Of numbers that take `width` times the bytes of f32.
pub fn cg((args, method): (&ScoreArgs, ScoreMethod), specs: &[LayerSpec], width: usize) -> CgOptions {
    let held = held_directions(specs, &args.pass) / width;
    CgOptions { max_steps: args.steps(method), tolerance: args.solve.tolerance, held }
}

fn way((args, method): (&ScoreArgs, ScoreMethod), specs: &[LayerSpec]) -> Way {
    let (steps, seed) = (args.steps(method), args.solve.solve_seed);
    match method {
        ScoreMethod::EkfacCg | ScoreMethod::Cg => Way::Cg(cg((args, method), specs, 1)),
        ScoreMethod::Astra => Way::Astra { steps, tolerance: args.solve.tolerance, seed },
        ScoreMethod::Lissa => Way::Lissa { steps, repeats: REPEATS, seed },
        ScoreMethod::Arnoldi => Way::Lanczos { steps, rank: steps, seed },
        _ => Way::Dense,
    }
}

impl Inverse<'_> {
    /// As [`Solver::take_solved`]; nothing of those that do not iterate.
    pub fn take_solved(&self) -> Vec<Solved> {
        if let Self::Solver(solver) = self { solver.take_solved() } else { Vec::new() }
    }

    fn operator(&self) -> &dyn LinearOperator<Work> {
        match self {
            Self::Solver(solver) => solver,
            Self::DataInf(datainf) => datainf,
            Self::Diagonal(diagonal) => diagonal,
            Self::Ekfac(ekfac) => ekfac,
            Self::Hessian(hessian) => hessian.as_ref(),
        }
    }
}

impl LinearOperator<Work> for Inverse<'_> {
    fn apply(&self, v: &[Matrix<f32>]) -> etymon_curvature::Result<Vec<Matrix<f32>>> {
        self.operator().apply(v)
    }

    fn apply_all(&self, vs: &[&[Matrix<f32>]]) -> etymon_curvature::Result<Vec<Vec<Matrix<f32>>>> {
        self.operator().apply_all(vs)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use etymon_curvature::Stuck;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        score: ScoreArgs,
    }

    fn args(more: &[&str]) -> ScoreArgs {
        let base = ["score", "--model", "m", "--data", "d", "--queries", "q", "--out", "s"];
        Line::try_parse_from([&base[..], more].concat()).map(|line| line.score).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn solutions_that_are_rough_are_named_with_the_knobs_to_turn() {
        let names = ["query `a`", "query `b`", "query `c`"].map(str::to_owned);
        let solved = [1e-4, 0.02, 0.01].map(|residual| Solved { products: 50.0, residual });
        let cg = warning((&args(&[]), ScoreMethod::Cg), &names, &solved);
        let text = "warning: cg did not converge: relative residual 2.0e-2 of query `b` after 50 products, above --tolerance \
                    1e-3 (2 of 3 solves): raise --steps (now 50) or --damping (now rel:0.1)";
        assert_eq!(cg.as_deref(), Some(text));
        assert_eq!(warning((&args(&["--tolerance", "0.05"]), ScoreMethod::Cg), &names, &solved), None);
        assert_eq!(warning((&args(&[]), ScoreMethod::Astra), &names, &solved), None);
        assert_eq!(warning((&args(&[]), ScoreMethod::Dense), &names, &[]), None);
    }

    #[test]
    fn a_failed_solve_names_query_method_and_damping_and_the_knob() {
        let problem = Stuck::NotPositive { what: "the damped curvature", value: -2e-3 };
        let source = CurvatureError::Solve { right_side: 3, products: 7.0, problem };
        let error = named(
            (&args(&["--damping", "abs:1e-9"]), ScoreMethod::EkfacCg),
            AttributionError::Unsolved { id: "q7".to_owned(), source },
        );
        assert_eq!(
            error.to_string(),
            "ekfac-cg with --damping abs:1e-9: query `q7`: after 7 products, the damped curvature is -2.0e-3 along a direction of \
             length 1: it is not positive definite"
        );
        assert!(error.help().is_some_and(|help| help.contains("raise --damping")));
    }
}
