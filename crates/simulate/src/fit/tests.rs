//! The solvers against a plain dense solve of the explicit design matrix.

use etymon_evaluate::Stream;
use rand::RngExt;

use super::design::Problem;
use super::operator::Operator;
use super::ridge::{Gram, Solver};
use crate::{Curriculum, Kind, Recorded, Run};

const N: usize = 7;

/// Random batches (with repetitions, some empty) and losses; measured every `every` steps.
fn recorded(n_runs: usize, n_steps: usize, every: usize) -> Recorded {
    let run = |r: usize| {
        let mut rng = Stream::Subsets.rng(3, r as u64);
        let mut batch = || (0..rng.random_range(0..4)).map(|_| rng.random_range(0..N)).collect();
        let batches: Vec<Vec<usize>> = (0..n_steps).map(|_| batch()).collect();
        let measured: Vec<u64> = (0..=n_steps as u64).step_by(every).collect();
        let losses = measured.iter().flat_map(|_| [rng.random::<f64>() + 0.5, rng.random::<f64>()]).collect();
        let curriculum = Curriculum { batches, learning_rates: vec![0.1; n_steps] };
        Run { name: format!("r{r}"), curriculum, measured, losses }
    };
    let ids = |prefix: &str, n| (0..n).map(|i| format!("{prefix}{i}")).collect();
    Recorded { train_ids: ids("t", N), query_ids: ids("q", 2), runs: (0..n_runs).map(run).collect() }
}

/// Row by row from the definition: [L_{t−1} · times, times].
fn explicit(recorded: &Recorded, kind: Kind, q: usize) -> (Vec<Vec<f64>>, Vec<f64>) {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for run in &recorded.runs {
        for k in 1..run.measured.len() {
            let mut times = vec![0.0; N];
            for t in run.measured[k - 1]..run.measured[k] {
                run.curriculum.batches[t as usize].iter().for_each(|&i| times[i] += 1.0);
            }
            let before = run.losses[(k - 1) * 2 + q];
            let scaled: Vec<f64> = times.iter().map(|x| x * before).collect();
            x.push(match kind {
                Kind::Linear => [scaled, times].concat(),
                Kind::Multiplicative => scaled,
                _ => times,
            });
            y.push(run.losses[k * 2 + q] - before);
        }
    }
    (x, y)
}

/// Gaussian elimination with pivots of (XᵀX + λI) θ = Xᵀy.
fn ridge_ref(x: &[Vec<f64>], y: &[f64], lambda: f64) -> Vec<f64> {
    let p = x[0].len();
    let mut m = vec![vec![0.0; p + 1]; p];
    for (row, y) in x.iter().zip(y) {
        for i in 0..p {
            (0..p).for_each(|j| m[i][j] += row[i] * row[j]);
            m[i][p] += row[i] * y;
        }
    }
    (0..p).for_each(|i| m[i][i] += lambda);
    for k in 0..p {
        let pivot = (k..p).max_by(|&a, &b| m[a][k].abs().total_cmp(&m[b][k].abs())).unwrap();
        m.swap(k, pivot);
        for i in (0..p).filter(|&i| i != k) {
            let factor = m[i][k] / m[k][k];
            (k..=p).for_each(|j| m[i][j] -= factor * m[k][j]);
        }
    }
    (0..p).map(|i| m[i][p] / m[i][i]).collect()
}

#[test]
fn every_solver_gives_the_dense_solution_of_the_explicit_design_matrix() {
    for (n_runs, n_steps, every) in [(1, 6, 1), (5, 12, 1), (4, 12, 3)] {
        let recorded = recorded(n_runs, n_steps, every);
        for kind in [Kind::Linear, Kind::Multiplicative, Kind::Additive] {
            let problem = Problem::new(&recorded, kind, 0.0);
            for q in 0..2 {
                let (x, y) = explicit(&recorded, kind, q);
                let operator = Operator { kind, design: &problem.design, levels: &problem.levels[q] };
                assert_eq!(problem.changes[q], y);
                for lambda in [1e-2, 1.0, 30.0] {
                    let expected = ridge_ref(&x, &y, lambda);
                    for solver in [Solver::Normal, Solver::Woodbury, Solver::Lsqr] {
                        let ridge = Gram::new(operator, solver).ridge(lambda).unwrap();
                        let got = ridge.solve(&[y.clone(), vec![0.0; y.len()]]);
                        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
                        let off: Vec<f64> = got[0].iter().zip(&expected).map(|(a, b)| a - b).collect();
                        assert!(norm(&off) < 1e-9 * norm(&expected), "{kind:?} {solver:?} {lambda}: {off:?}");
                        assert_eq!(norm(&got[1]), 0.0);
                    }
                }
            }
        }
    }
}

#[test]
fn the_cheapest_solver_follows_the_shape_of_the_problem() {
    let of = |recorded: &Recorded| {
        let problem = Problem::new(recorded, Kind::Linear, 0.0);
        let x = Operator { kind: Kind::Linear, design: &problem.design, levels: &problem.levels[0] };
        Solver::cheapest(&x, 1)
    };
    assert_eq!(of(&recorded(20, 50, 1)), Solver::Normal);
    assert_eq!(of(&recorded(1, 3, 1)), Solver::Woodbury);
    let mut wide = recorded(20, 50, 1);
    wide.train_ids = (0..200_000).map(|i| format!("t{i}")).collect();
    wide.runs = (0..400).map(|i| wide.runs[i % 20].clone()).collect();
    assert_eq!(of(&wide), Solver::Lsqr);
}
