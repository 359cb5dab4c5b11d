//! Figures of a simulator on held-out runs.

use etymon_evaluate::statistics::mean;
use etymon_simulate::Judged;
use serde_json::{Value, json};

/// Means and standard deviations over watched examples and over runs.
pub struct Figures {
    /// Mean over runs, queries and steps of the squared error.
    pub mse: f64,
    /// Standard deviation over queries of their mean over runs.
    pub mse_sd_queries: f64,
    /// Standard deviation over runs of their mean over queries.
    pub mse_sd_runs: f64,
    /// Mean over the runs of which it is defined.
    pub spearman: Option<f64>,
    pub spearman_sd_runs: f64,
    /// Share of losses inside of the bands: in all, by quarters of the run, at the end.
    pub covered: Option<f64>,
    pub quarters: Vec<f64>,
    pub final_covered: Option<f64>,
}

/// Standard deviation, with n − 1; 0 of fewer than two.
fn deviation(values: &[f64]) -> f64 {
    let middle = mean(values);
    let squares: f64 = values.iter().map(|x| (x - middle).powi(2)).sum();
    if values.len() < 2 { 0.0 } else { (squares / (values.len() - 1) as f64).sqrt() }
}

impl Figures {
    /// None without runs.
    pub fn new(judged: &[Judged]) -> Option<Self> {
        let n_queries = judged.first()?.mse.len();
        let of_runs: Vec<f64> = judged.iter().map(|j| mean(&j.mse)).collect();
        let of_query = |q: usize| mean(&judged.iter().map(|j| j.mse[q]).collect::<Vec<_>>());
        let of_queries: Vec<f64> = (0..n_queries).map(of_query).collect();
        let correlations: Vec<f64> = judged.iter().filter_map(|j| j.final_spearman).collect();
        let all = |of: &dyn Fn(&Judged) -> Option<f64>| {
            let values: Vec<f64> = judged.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| mean(&values))
        };
        Some(Self {
            mse: mean(&of_runs),
            mse_sd_queries: deviation(&of_queries),
            mse_sd_runs: deviation(&of_runs),
            spearman: (!correlations.is_empty()).then(|| mean(&correlations)),
            spearman_sd_runs: deviation(&correlations),
            covered: all(&|j| j.covered),
            quarters: (0..4).filter_map(|k| all(&|j| j.coverage.get(k).copied())).collect(),
            final_covered: all(&|j| j.final_covered),
        })
    }

    /// For results.
    pub fn json(&self) -> Value {
        json!({
            "mse": self.mse,
            "mse_sd_over_queries": self.mse_sd_queries,
            "mse_sd_over_runs": self.mse_sd_runs,
            "final_spearman": self.spearman,
            "final_spearman_sd_over_runs": self.spearman_sd_runs,
            "coverage": self.covered,
            "coverage_by_quarter": self.quarters,
            "final_coverage": self.final_covered,
        })
    }

    /// The heads of [`row`](Self::row).
    pub const HEADS: [&'static str; 5] =
        ["MSE ± queries ± runs", "final Spearman", "in 90 % band", "by quarter", "at the end"];

    /// For tables.
    pub fn row(&self) -> Vec<String> {
        let dash = || "-".to_owned();
        let percent = |x: Option<f64>| x.map_or_else(dash, |x| format!("{:.1} %", 100.0 * x));
        let spearman = |x: f64| format!("{x:.3} ± {:.3}", self.spearman_sd_runs);
        let quarters: Vec<String> = self.quarters.iter().map(|x| format!("{:.0}", 100.0 * x)).collect();
        vec![
            format!("{:.4} ± {:.4} ± {:.4}", self.mse, self.mse_sd_queries, self.mse_sd_runs),
            self.spearman.map_or_else(dash, spearman),
            percent(self.covered),
            if quarters.is_empty() { dash() } else { quarters.join(" ") },
            percent(self.final_covered),
        ]
    }
}
