//! The passes over a train set on small models, with what each batch allocates.

use etymon_attribution::{Parts, Rank, Result, ScoreBlock, ScoreSink, score, self_influence};
use etymon_curvature::{
    CorrectionTap, Corrections, CovarianceTap, Covariances, Damping, Factors, Preconditioner, Spectrum, eigendecompose,
};
use etymon_data::{Batch, Content, Example, ExampleIndex, Padding};
use etymon_model::{Consumer, Model, Objective, Tap};
use etymon_tensor::Cpu;
use serde_json::{Value, json};

use super::counting::Allocations;
use super::{limits, prepare};

type Work = Cpu<f32>;

/// Sequences of a batch, and their tokens.
const SEQUENCES: usize = 16;
const TOKENS: usize = 65;
/// Batches that `score` takes as one window.
const WINDOW: usize = 4;

/// Small models of two families.
pub fn models() -> [(&'static str, Value); 2] {
    let gpt2 = json!({
        "model_type": "gpt2", "vocab_size": 1024, "n_positions": 64, "n_embd": 96, "n_layer": 2, "n_head": 3,
    });
    let llama = json!({
        "model_type": "llama", "vocab_size": 1024, "max_position_embeddings": 64, "hidden_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 256,
    });
    [("gpt2", gpt2), ("llama", llama)]
}

/// `n` sequences of one length; the loss starts at token `loss_start`.
pub fn sequences(n: usize, loss_start: usize) -> Vec<Example> {
    let token = |i: usize, t: usize| ((i * 31 + t * 17 + i * t) % 1024) as u32;
    let example = |i: usize| Example {
        index: ExampleIndex(i as u64),
        id: i.to_string(),
        content: Content::Tokens { ids: (0..TOKENS).map(|t| token(i, t)).collect(), loss_start },
        text: String::new(),
        metadata: serde_json::Map::new(),
    };
    (0..n).map(example).collect()
}

/// A pass.
#[derive(Clone, Copy, Debug)]
pub enum Pass {
    Covariance,
    Correction,
    Score(Rank),
    Parts(Rank),
    SelfInfluence,
}

/// What the passes need.
pub struct Passes {
    model: Model<Work>,
    factors: Factors,
    examples: Vec<Example>,
}

impl Passes {
    /// A random model, and factors fitted on the first batch.
    pub fn new(json: Value, n_batches: usize, loss_start: usize) -> Self {
        let model = Model::new(Work::new(), json, 0).unwrap();
        let examples = sequences(n_batches * SEQUENCES, loss_start);
        let specs = model.layers().to_vec();
        let mut tap = CovarianceTap::new(model.backend(), &specs, Covariances::empty(&specs)).unwrap();
        run(&model, &examples[..SEQUENCES], &mut tap);
        let bases = eigendecompose(tap.finish(), &specs, |_| ()).unwrap();
        let lambda = specs.iter().map(|s| vec![1.0; s.d_in * s.d_out]).collect();
        Self { factors: Factors::new(specs, bases, Some(lambda)), model, examples }
    }

    /// What each batch of a pass allocates on this thread.
    pub fn allocations(&self, pass: Pass) -> Vec<Allocations> {
        let (backend, specs) = (self.model.backend(), self.model.layers());
        match pass {
            Pass::Covariance => {
                let mut tap = CovarianceTap::new(backend, specs, Covariances::empty(specs)).unwrap();
                self.run_all(&mut tap)
            }
            Pass::Correction => {
                let layers = self.factors.layers(backend).unwrap();
                let mut tap = CorrectionTap::new(backend, specs, &layers, Corrections::empty(specs)).unwrap();
                self.run_all(&mut tap)
            }
            Pass::Score(rank) => self.score(rank, Parts::default(), WINDOW),
            Pass::Parts(rank) => self.score(rank, Parts { layers: true, tokens: true }, 1),
            Pass::SelfInfluence => {
                let mut sink = Counts { batches: WINDOW, counts: Vec::new() };
                let examples = self.examples.iter().cloned().map(Ok);
                let most = limits(SEQUENCES * (TOKENS - 1));
                Allocations::take();
                self_influence(&self.model, self.ekfac(), examples, most, &mut sink).unwrap();
                sink.counts
            }
        }
    }

    fn ekfac(&self) -> Preconditioner<'_> {
        let (spectrum, damping) = (Spectrum::Corrected, Damping::default());
        Preconditioner::Kronecker { factors: &self.factors, spectrum, damping }
    }

    fn run_all(&self, tap: &mut dyn Tap<Work>) -> Vec<Allocations> {
        self.examples.chunks(SEQUENCES).map(|examples| run(&self.model, examples, tap)).collect()
    }

    fn score(&self, rank: Rank, parts: Parts, batches: usize) -> Vec<Allocations> {
        let queries = prepare(&self.model, &self.examples[..5], self.ekfac(), rank);
        let mut sink = Counts { batches, counts: Vec::new() };
        let examples = self.examples.iter().cloned().map(Ok);
        Allocations::take();
        score(&self.model, &queries, examples, limits(SEQUENCES * (TOKENS - 1)), parts, &mut sink).unwrap();
        sink.counts
    }
}

fn run(model: &Model<Work>, examples: &[Example], tap: &mut dyn Tap<Work>) -> Allocations {
    let batch = Batch::stack(examples, Padding::None).unwrap();
    Allocations::take();
    model.run(&batch, Objective::SampledLoss { seed: 1 }, Consumer::Tap(tap)).unwrap();
    Allocations::take()
}

/// Notes what was allocated from block to block: the mean over the batches of a window, at least one for any.
struct Counts {
    batches: usize,
    counts: Vec<Allocations>,
}

impl ScoreSink for Counts {
    fn block(&mut self, _: &ScoreBlock<'_>) -> Result<()> {
        let window = Allocations::take();
        let share = |n: u64| n.div_ceil(self.batches as u64);
        let (count, bytes, large) = (share(window.count), share(window.bytes), share(window.large));
        self.counts.push(Allocations { count, bytes, large, largest: window.largest });
        Allocations::take();
        Ok(())
    }
}
