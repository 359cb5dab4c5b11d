//! Scores at reduced precision of products, against f32, on the trained language model of the references.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use etymon_attribution::{Parts, Queries, Rank, score};
use etymon_curvature::{Damping, Factors, FitObserver, FitOptions, Labels, Phase, Preconditioner, Spectrum, fit};
use etymon_data::{BatchLimits, Corpus, CorpusOptions};
use etymon_model::{LayerGroups, Measurement, load};
use etymon_tensor::{Cpu, Precision};

struct Silent;

impl FitObserver for Silent {
    fn begin(&mut self, _: Phase, _: u64, _: u64) {}
    fn advance(&mut self, _: u64, _: u64) {}
    fn end(&mut self) {}
}

/// `[N, Q]` scores, fitted and scored at one precision.
fn scores(precision: Precision) -> (Vec<f32>, usize) {
    let lm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/lm");
    let model = load(Cpu::with_precision(precision), &lm).unwrap();
    let open = |name: &str| Corpus::open(&[lm.join(name)], None, CorpusOptions::default()).unwrap();
    let limits = BatchLimits { max_rows: 1024, max_examples: usize::MAX };
    let options = FitOptions {
        labels: Labels::Model { seed: 0 },
        correction: true,
        max_examples: None,
        sample: None,
        shard_examples: 1024,
        limits,
        groups: LayerGroups::one(model.layers()),
    };
    let folder = tempfile::tempdir().unwrap();
    fit(&model, &open("train.jsonl"), &options, folder.path(), &mut Silent).unwrap();
    let factors = Factors::open(folder.path(), model.layers()).unwrap();
    let preconditioner =
        Preconditioner::Kronecker { factors: &factors, spectrum: Spectrum::Corrected, damping: Damping::default() };
    let queries = open("query.jsonl").read_all().unwrap();
    let queries =
        Queries::prepare(&model, &queries, Measurement::LogLikelihood, preconditioner, Rank::Full, limits).unwrap();
    let mut sink = Flat(Vec::new());
    score(&model, &queries, open("train.jsonl").examples(), limits, Parts::default(), &mut sink).unwrap();
    (sink.0, queries.len())
}

struct Flat(Vec<f32>);

impl etymon_attribution::ScoreSink for Flat {
    fn block(&mut self, block: &etymon_attribution::ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        self.0.extend_from_slice(block.scores);
        Ok(())
    }
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let cov = |a: &[f64], ma: f64, b: &[f64], mb: f64| a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum::<f64>();
    cov(x, mx, y, my) / (cov(x, mx, x, mx) * cov(y, my, y, my)).sqrt()
}

fn top(x: &[f64], k: usize) -> BTreeSet<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[b].total_cmp(&x[a]));
    order.into_iter().take(k).collect()
}

#[test]
fn scores_at_reduced_precision_follow_those_of_f32() {
    let (exact, n_queries) = scores(Precision::F32);
    for (precision, least, least_overlap) in [(Precision::Bf16x3, 0.99999, 0.99), (Precision::Bf16, 0.999, 0.9)] {
        let (reduced, _) = scores(precision);
        let column = |all: &[f32], q: usize| -> Vec<f64> {
            all.iter().skip(q).step_by(n_queries).map(|&x| f64::from(x)).collect()
        };
        let (mut worst, mut overlap) = (1.0f64, 0.0);
        for q in 0..n_queries {
            let (x, y) = (column(&exact, q), column(&reduced, q));
            worst = worst.min(pearson(&x, &y));
            overlap += top(&x, 20).intersection(&top(&y, 20)).count() as f64 / 20.0 / n_queries as f64;
        }
        println!("{}: worst Pearson over queries {worst:.7}, top-20 overlap {overlap:.3}", precision.name());
        assert!(worst >= least, "{}: Pearson {worst}", precision.name());
        assert!(overlap >= least_overlap, "{}: top-20 overlap {overlap}", precision.name());
    }
}
