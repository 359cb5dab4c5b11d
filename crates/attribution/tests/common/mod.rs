//! What the tests of this crate share: reading references, fitting in memory, comparing matrices.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.
#![allow(dead_code)]

pub mod counting;
pub mod optimum;
pub mod passes;

use std::path::{Path, PathBuf};

use etymon_attribution::{Parts, Queries, Rank, Result, ScoreBlock, ScoreSink, score};
use etymon_curvature::{
    CorrectionTap, Corrections, CovarianceTap, Covariances, Factors, Preconditioner, eigendecompose,
};
use etymon_data::{Batch, BatchLimits, Batches, Corpus, CorpusOptions, Example, Padding};
use etymon_model::{Consumer, Measurement, Model, Objective};
use etymon_store::TensorFile;
use etymon_tensor::Folds;

pub fn reference(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference").join(part)
}

pub fn tensors(part: &str) -> TensorFile {
    TensorFile::open(&reference(part)).unwrap()
}

pub fn rows(part: &str) -> Vec<Example> {
    Corpus::open(&[reference(part)], None, CorpusOptions::default()).unwrap().read_all().unwrap()
}

pub fn limits(max_rows: usize) -> BatchLimits {
    BatchLimits { max_rows, max_examples: usize::MAX }
}

/// What a fit made.
pub struct Fitted {
    pub covariances: Covariances,
    pub corrections: Corrections,
    pub factors: Factors,
}

/// Fits EK-FAC in memory, the train set cut into `shards` parts.
pub fn fit<B: Folds>(
    model: &Model<B>,
    examples: &[Example],
    objective: Objective,
    limits: BatchLimits,
    shards: usize,
    padding: Padding,
) -> Fitted {
    let (backend, specs) = (model.backend(), model.layers());
    let size = examples.len().div_ceil(shards);
    let mut covariances = Covariances::empty(specs);
    for shard in examples.chunks(size) {
        let mut tap = CovarianceTap::new(backend, specs, Covariances::empty(specs)).unwrap();
        for group in Batches::new(shard.iter().cloned().map(Ok), limits) {
            let batch = Batch::stack(&group.unwrap(), padding).unwrap();
            model.run(&batch, objective, Consumer::Tap(&mut tap)).unwrap();
        }
        covariances.merge(&tap.finish()).unwrap();
    }
    let bases = eigendecompose(covariances.clone(), specs, |_| ()).unwrap();
    let undone = Factors::new(specs.to_vec(), bases.clone(), None);
    let layers = undone.layers(backend).unwrap();
    let mut corrections = Corrections::empty(specs);
    for shard in examples.chunks(size) {
        let mut tap = CorrectionTap::new(backend, specs, &layers, Corrections::empty(specs)).unwrap();
        for group in Batches::new(shard.iter().cloned().map(Ok), limits) {
            let batch = Batch::stack(&group.unwrap(), padding).unwrap();
            model.run(&batch, objective, Consumer::Tap(&mut tap)).unwrap();
        }
        corrections.merge(&tap.finish()).unwrap();
    }
    let factors = Factors::new(specs.to_vec(), bases, Some(corrections.means()));
    Fitted { covariances, corrections, factors }
}

/// All scores in memory, `[Q, N]`, with the parts asked for.
#[derive(Default)]
pub struct Scores {
    pub n_queries: usize,
    pub total: Vec<f64>,
    /// `[Q, N]` per layer.
    pub layers: Vec<Vec<f64>>,
    /// Sums over tokens `[Q, N]`.
    pub token_sums: Vec<f64>,
    blocks: Vec<Vec<f64>>,
    layer_blocks: Vec<Vec<Vec<f64>>>,
    token_blocks: Vec<Vec<f64>>,
}

impl Scores {
    pub fn new(n_queries: usize) -> Self {
        Self { n_queries, ..Self::default() }
    }

    /// `[Q, N]` from the rows `[N, Q]` that came in.
    pub fn finish(mut self) -> Self {
        let q = self.n_queries;
        let turn = |rows: &[Vec<f64>]| (0..q).flat_map(|j| rows.iter().map(move |r| r[j])).collect::<Vec<f64>>();
        self.total = turn(&self.blocks);
        let n_layers = self.layer_blocks.first().map_or(0, Vec::len);
        self.layers =
            (0..n_layers).map(|l| turn(&self.layer_blocks.iter().map(|r| r[l].clone()).collect::<Vec<_>>())).collect();
        self.token_sums = turn(&self.token_blocks);
        self
    }
}

impl ScoreSink for Scores {
    fn block(&mut self, block: &ScoreBlock<'_>) -> Result<()> {
        let q = self.n_queries;
        let row = |x: &[f32], i: usize| x[i * q..(i + 1) * q].iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        for i in 0..block.examples.len() {
            self.blocks.push(row(block.scores, i));
            if let Some(layers) = block.layers {
                self.layer_blocks.push(layers.iter().map(|l| row(l, i)).collect());
            }
            if let Some(tokens) = block.tokens {
                assert_eq!(tokens[i].len(), block.examples[i].n_rows() * q);
                let sum = |j: usize| tokens[i].iter().skip(j).step_by(q).map(|&x| f64::from(x)).sum();
                self.token_blocks.push((0..q).map(sum).collect());
            }
        }
        Ok(())
    }
}

pub fn prepare<B: Folds>(
    model: &Model<B>,
    queries: &[Example],
    preconditioner: Preconditioner<'_>,
    rank: Rank,
) -> Queries<B> {
    Queries::prepare(model, queries, Measurement::LogLikelihood, preconditioner, rank, limits(1000)).unwrap()
}

pub fn score_all<B: Folds>(
    model: &Model<B>,
    queries: &Queries<B>,
    examples: &[Example],
    limits: BatchLimits,
    parts: Parts,
) -> Scores {
    let mut sink = Scores::new(queries.len());
    score(model, queries, examples.iter().cloned().map(Ok), limits, parts, &mut sink).unwrap();
    sink.finish()
}

/// ‖x − y‖ / ‖y‖.
pub fn relative_error(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut x.iter().zip(y).map(|(x, y)| x - y)) / norm(&mut y.iter().copied())
}

pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| f(x - mx, y - my)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}
