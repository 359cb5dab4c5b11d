//! TRAK on the digits against retraining and against traker 0.3.2 (tests/reference/README.md).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::sync::OnceLock;
use std::time::Instant;

use common::{limits, pearson, reference, rows, tensors};
use etymon_attribution::{Trak, TrakScores};
use etymon_model::Model;
use etymon_tensor::{Backend, Cpu};

type Work = Cpu<f32>;
const N: usize = 1400;
const Q: usize = 100;

/// The models of the ensemble.
fn models() -> Vec<Model<Work>> {
    let (config, weights) = (reference("digits/config.json"), tensors("digits/ensemble.safetensors"));
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    let one = |number: usize| {
        let mut model = Model::new(Work::new(), config.clone(), 0).unwrap();
        let backend = *model.backend();
        for (i, tensor) in model.params_mut().iter_mut().enumerate() {
            let what = ["weight", "bias"][i % 2];
            let values = weights.read_f32(&format!("model{number}.layers.{}.{what}", i / 2)).unwrap();
            *tensor = backend.upload(tensor.shape(), &values).unwrap();
        }
        model
    };
    (0..10).map(one).collect()
}

/// The numbers of models that scores are compared at.
const MODELS: [usize; 3] = [1, 5, 10];

/// `[Q][N]` with the first 1, 5 and 10 models, for two seeds of the projection.
fn trak() -> &'static [Vec<Vec<Vec<f64>>>] {
    static SCORES: OnceLock<Vec<Vec<Vec<Vec<f64>>>>> = OnceLock::new();
    SCORES.get_or_init(|| {
        let (models, train, queries) = (models(), rows("digits/train.csv"), rows("digits/query.csv"));
        let of_seed = |seed| {
            let mut scores = TrakScores::new(Trak { dim: 512, seed, lambda: 0.0 }, Q).unwrap();
            let mut out = Vec::new();
            for (number, model) in models.iter().enumerate() {
                let start = Instant::now();
                scores.add(model, &queries, train.iter().cloned().map(Ok), limits(512), |_| ()).unwrap();
                if number == 0 {
                    println!("{:.0} train examples/s", N as f64 / start.elapsed().as_secs_f64());
                }
                if MODELS.contains(&(number + 1)) {
                    out.push((0..Q).map(|q| (0..N).map(|m| scores.score(m, q)).collect()).collect());
                }
            }
            out
        };
        [0, 1].map(of_seed).to_vec()
    })
}

/// Places of the values, ties shared.
fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&i, &j| x[i].total_cmp(&x[j]));
    let mut out = vec![0.0; x.len()];
    for same in order.chunk_by(|&i, &j| x[i] == x[j]) {
        let below = x.iter().filter(|&&y| y < x[same[0]]).count();
        same.iter().for_each(|&i| out[i] = below as f64 + 0.5 * (same.len() - 1) as f64);
    }
    out
}

fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y))
}

/// Mean over queries of the rank correlation of two `[Q][N]`.
fn agreement(x: &[Vec<f64>], y: &[Vec<f64>]) -> f64 {
    x.iter().zip(y).map(|(x, y)| spearman(x, y)).sum::<f64>() / Q as f64
}

/// Linear datamodeling score: how well sums of scores over halves of the train set order the losses after retraining.
fn lds(scores: &[Vec<f64>]) -> f64 {
    let truth = tensors("digits/lds.safetensors");
    let (masks, losses) = (truth.bytes("masks").unwrap(), truth.read_f64("query_loss").unwrap());
    let subsets = losses.len() / Q;
    let member = |subset: usize, m: usize| masks[subset * (N / 8) + m / 8] >> (7 - m % 8) & 1 == 1;
    let of_query = |q: usize| {
        let sum = |s: usize| (0..N).filter(|&m| member(s, m)).map(|m| scores[q][m]).sum::<f64>();
        let predicted: Vec<f64> = (0..subsets).map(sum).collect();
        let gained: Vec<f64> = (0..subsets).map(|s| -losses[s * Q + q]).collect();
        spearman(&predicted, &gained)
    };
    (0..Q).map(of_query).sum::<f64>() / Q as f64
}

/// traker's ranks with some models, `[Q][N]`.
fn traker(n_models: usize) -> Vec<Vec<f64>> {
    let ranks = tensors("digits/trak.safetensors").read_f64(&format!("scores.{n_models}")).unwrap();
    ranks.chunks(N).map(<[f64]>::to_vec).collect()
}

#[test]
fn retraining_on_halves_is_predicted_as_well_as_by_traker_and_better_with_more_models() {
    for (i, of_traker) in [0.244, 0.364, 0.402].into_iter().enumerate() {
        let ours: Vec<f64> = trak().iter().map(|scores| lds(&scores[i])).collect();
        println!("{} models: LDS {ours:.3?}, traker {of_traker}", MODELS[i]);
        assert!(ours.iter().all(|x| (x - of_traker).abs() < 0.03), "{} models: {ours:?}", MODELS[i]);
    }
}

#[test]
fn we_agree_with_traker_as_well_as_two_projections_of_ours_with_each_other() {
    // Two seeds of traker: 0.203 and 0.441 (scripts/golden_trak.py).
    for (i, of_traker) in [(0, 0.203), (2, 0.441)] {
        let [a, b] = [0, 1].map(|seed| &trak()[seed][i]);
        let (between, with) = (agreement(a, b), agreement(a, &traker(MODELS[i])));
        println!("{} models: rank correlation {between:.3} between two seeds, {with:.3} with traker", MODELS[i]);
        for x in [between, with] {
            assert!((x - of_traker).abs() < 0.02, "{} models: {x} {of_traker}", MODELS[i]);
        }
    }
}
