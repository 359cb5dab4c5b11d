//! The ridge regressions of the queries.

use etymon_evaluate::Stream;
use rand::RngExt;
use rayon::prelude::*;

use super::design::Problem;
use super::operator::Operator;
use super::ridge::{Gram, Ridge, Solver};
use crate::Result;

/// What was fitted for one query.
#[derive(Clone, Debug)]
pub(crate) struct QueryFit {
    /// `[p]` A, then B, of these what the kind has.
    pub theta: Vec<f64>,
    /// Draws from the posterior N(θ, σ² (XᵀX + λI)⁻¹), less θ.
    pub draws: Vec<Vec<f64>>,
    /// σ², the variance of the residuals of a row.
    pub noise: f64,
}

/// The fits of all queries, `[λ][Q]`.
///
/// # Errors
/// A λ that is too small for a system to be solved.
pub(crate) fn fit_all(
    problem: &Problem,
    lambdas: &[f64],
    draws: usize,
    seed: u64,
    told: &(dyn Fn() + Sync),
) -> Result<(Solver, Vec<Vec<QueryFit>>)> {
    let operator = |q: usize| Operator { kind: problem.kind, design: &problem.design, levels: &problem.levels[q] };
    let solver = Solver::cheapest(&operator(0), 1 + draws);
    let n_queries = problem.changes.len();
    let per_query: Vec<Vec<QueryFit>> = if problem.kind.has_a() {
        let of_query = |q: usize| {
            let gram = Gram::new(operator(q), solver);
            let fits = each_lambda(gram, lambdas, |ridge| fit_query(ridge, problem, q, draws, seed));
            told();
            fits
        };
        (0..n_queries).into_par_iter().map(of_query).collect::<Result<_>>()?
    } else {
        // X has no losses in it: one system for all queries.
        let of_lambda = |ridge: &Ridge<'_>| {
            let of_query = |q: usize| fit_query(ridge, problem, q, draws, seed);
            (0..n_queries).into_par_iter().map(of_query).collect::<Vec<_>>()
        };
        let fits = each_lambda(Gram::new(operator(0), solver), lambdas, of_lambda)?;
        (0..n_queries).for_each(|_| told());
        return Ok((solver, fits));
    };
    let mut per_lambda: Vec<Vec<QueryFit>> = lambdas.iter().map(|_| Vec::with_capacity(n_queries)).collect();
    for fits in per_query {
        per_lambda.iter_mut().zip(fits).for_each(|(list, fit)| list.push(fit));
    }
    Ok((solver, per_lambda))
}

/// Does something with the system of each λ; the last one takes the memory of the matrix.
fn each_lambda<'a, T>(gram: Gram<'a>, lambdas: &[f64], with: impl Fn(&Ridge<'a>) -> T) -> Result<Vec<T>> {
    let Some((&last, others)) = lambdas.split_last() else { return Ok(Vec::new()) };
    let mut out = others.iter().map(|&lambda| Ok(with(&gram.ridge(lambda)?))).collect::<Result<Vec<T>>>()?;
    out.push(with(&gram.into_ridge(last)?));
    Ok(out)
}

fn fit_query(ridge: &Ridge<'_>, problem: &Problem, q: usize, draws: usize, seed: u64) -> QueryFit {
    let x = ridge.operator();
    let (rows, p, lambda) = (x.design.n_rows(), x.n_params(), ridge.lambda());
    // Unit draws w ~ N(0, (XᵀX + λI)⁻¹) by perturbed regressions: w = w₀ + ridge(e − X w₀), w₀ ~ N(0, I/λ), e ~ N(0, I).
    let priors: Vec<(Vec<f64>, Vec<f64>)> = (0..draws)
        .map(|k| {
            let mut rng = Stream::Posterior.rng(seed, (q * draws + k) as u64);
            let prior: Vec<f64> = (0..p).map(|_| normal(&mut rng) / lambda.sqrt()).collect();
            let target = x.apply(&prior).iter().map(|x| normal(&mut rng) - x).collect();
            (prior, target)
        })
        .collect();
    let own = std::iter::once(problem.changes[q].clone());
    let targets: Vec<Vec<f64>> = own.chain(priors.iter().map(|(_, target)| target.clone())).collect();
    let mut solved = ridge.solve(&targets).into_iter();
    let theta = solved.next().unwrap_or_default();
    let sum = |(prior, _): &(Vec<f64>, _), x: Vec<f64>| prior.iter().zip(x).map(|(p, x)| p + x).collect();
    let mut drawn: Vec<Vec<f64>> = priors.iter().zip(solved).map(|(prior, x)| sum(prior, x)).collect();
    let residuals: f64 = x.apply(&theta).iter().zip(&problem.changes[q]).map(|(a, b)| (a - b).powi(2)).sum();
    // tr X (XᵀX + λI)⁻¹ Xᵀ = p − λ tr (XᵀX + λI)⁻¹, the trace from the draws.
    let squares: f64 = drawn.iter().flatten().map(|w| w * w).sum();
    let free = if draws == 0 { 0.0 } else { (p as f64 - lambda * squares / draws as f64).max(0.0) };
    let noise = residuals / (rows as f64 - free).max(1.0);
    drawn.iter_mut().flatten().for_each(|w| *w *= noise.sqrt());
    QueryFit { theta, draws: drawn, noise }
}

/// A unit normal number by Box and Muller.
fn normal(rng: &mut impl rand::Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
