//! Linear datamodeling score (Park et al. 2023, 2303.14186, §2).

use crate::statistics::{Interval, bootstrap_mean, spearman};
use crate::{Method, Truth};

/// How well the scores of a method add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Lds {
    /// `[Q]` Spearman over subsets between f(θ*(S_j)) and Σ_{m∈S_j} I(q, m). Where it is not defined (all sums equal, or
    /// all measurements) it is 0: the scores tell nothing.
    pub per_query: Vec<f64>,
    /// Queries for which it is not defined.
    pub undefined: usize,
    /// Mean over queries, bootstrapped over queries.
    pub mean: Option<Interval>,
}

/// The LDS of a method; the queries of `method` are those of `truth`, in its order.
pub fn lds(method: &Method, truth: &Truth, seed: u64) -> Lds {
    let mut undefined = 0;
    let mut of_query = |(q, scores): (usize, &Vec<f32>)| {
        let predicted: Vec<f64> =
            truth.kept.iter().map(|kept| kept.iter().map(|&m| f64::from(scores[m])).sum()).collect();
        let actual: Vec<f64> = truth.values.iter().map(|values| values[q]).collect();
        spearman(&predicted, &actual).unwrap_or_else(|| {
            undefined += 1;
            0.0
        })
    };
    let per_query: Vec<f64> = method.scores.iter().enumerate().map(&mut of_query).collect();
    let mean = bootstrap_mean(&per_query, seed);
    Lds { per_query, undefined, mean }
}

/// How far retrainings of the same subset agree: Spearman over subsets between the means of the first and of the second
/// half of the seeds, mean over queries. No score can be expected to do much better than its square root. `values` is
/// `[M][seeds][Q]`; `None` for less than two seeds.
pub fn reliability(values: &[Vec<Vec<f64>>]) -> Option<f64> {
    let seeds = values.first()?;
    let (half, n_queries) = (seeds.len() / 2, seeds.first()?.len());
    if half == 0 {
        return None;
    }
    let sums = |of: &dyn Fn(&Vec<Vec<f64>>) -> f64| values.iter().map(of).collect::<Vec<f64>>();
    let each: Vec<f64> = (0..n_queries)
        .filter_map(|q| {
            let first = sums(&|seeds| seeds[..half].iter().map(|v| v[q]).sum());
            let second = sums(&|seeds| seeds[half..2 * half].iter().map(|v| v[q]).sum());
            spearman(&first, &second)
        })
        .collect();
    (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64)
}
