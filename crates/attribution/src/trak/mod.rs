//! TRAK (Park et al. 2023, 2303.14186): influence on a linearised model in a random projection of its gradients.

mod project;
mod solve;

use etymon_data::{Batch, BatchLimits, Batches, DataError, Example, Padding};
use etymon_model::{LayerSpec, Model};
use etymon_tensor::{Buffer, Folds};

use crate::pass::{BatchScores, Columns, WINDOW, WindowScores, each_window};
use crate::{AttributionError, Result, ScoreSink};
use project::{Projection, block_rows};
use solve::{Features, ROWS};

/// Examples that are read for one block of scores.
const BLOCK: usize = 1024;

/// The choices of TRAK.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trak {
    /// k, the dimension of the projection. Below the number of train examples, unless λ > 0.
    pub dim: usize,
    /// Seed of the projections.
    pub seed: u64,
    /// λ, added to ΦᵀΦ, in its unit: squared gradients, summed over the train set. 0 in the paper.
    pub lambda: f64,
}

/// Scores of train examples on queries, averaged over models (trained on parts of the train set, or checkpoints).
///
/// With f the margin log p − log(1 − p) of the label, and φ(z) = Pᵀ ∇f(z, θ_c) / √k for a random P `[p, k]` of ±1 over the
/// weights of the tapped layers of model c, drawn anew for each model (as `traker` does),
///
/// τ(q, m) = mean_c φ_c(q)ᵀ (Φ_cᵀΦ_c + λI)⁻¹ φ_c(z_m) · mean_c (1 − p_c(z_m)),
///
/// where 1 − p is the derivative of the loss by the margin, up to its sign. POSITIVE = proponent: training on z_m raises the
/// margin of q. P has the factor 1/√k, so that φᵀφ estimates ∇fᵀ∇f and λ means the same at each k: without λ it cancels. The
/// mean over models is plain, as in the paper, where `traker` divides each (ΦᵀΦ)⁻¹ by the mean size of its entries.
///
/// For sequences f is the sum of the margins of the predicted tokens, and p the probability of their mean margin,
/// σ(f / positions); for classifiers that is p itself. Regression has no margin, and is refused.
///
/// Φ `[N, k]` of one model is held at a time, in the numbers of the backend, and τ `[N, Q]` in f64; see [`trak_bytes`].
#[derive(Clone, Debug)]
pub struct TrakScores {
    options: Trak,
    n_queries: usize,
    n_models: usize,
    /// `[N]` Sums of 1 − p.
    weights: Vec<f64>,
    /// `[N, Q]` Sums of φ_qᵀ (ΦᵀΦ + λI)⁻¹ φ_m.
    scores: Vec<f64>,
}

impl TrakScores {
    /// No model yet.
    ///
    /// # Errors
    /// A dimension of 0, a λ that is negative or not finite, or no query.
    pub fn new(options: Trak, n_queries: usize) -> Result<Self> {
        if options.dim == 0 || !options.lambda.is_finite() || options.lambda < 0.0 {
            return Err(AttributionError::TrakOptions { dim: options.dim, lambda: options.lambda });
        }
        if n_queries == 0 {
            return Err(AttributionError::NoQueries);
        }
        Ok(Self { options, n_queries, n_models: 0, weights: Vec::new(), scores: Vec::new() })
    }

    /// Adds the next model: one pass over the queries and one over the train set. Models are numbered in the order in which
    /// they come, and the number chooses the projection. `progress` hears of the number of train examples done.
    ///
    /// # Errors
    /// Data that the model does not take, gradients that are not finite, another number of queries or train examples than
    /// before, a regression model, and λ = 0 where ΦᵀΦ is singular. What was added before stays.
    pub fn add<B: Folds>(
        &mut self,
        model: &Model<B>,
        queries: &[Example],
        examples: impl Iterator<Item = std::result::Result<Example, DataError>> + Send,
        limits: BatchLimits,
        mut progress: impl FnMut(usize),
    ) -> Result<()> {
        let Trak { dim, seed, lambda } = self.options;
        let projection = Projection::new(model.layers(), dim, seed, self.n_models);
        let queries = query_features(model, &projection, queries, limits)?;
        require_count("queries", self.n_queries, queries.len() / dim)?;
        let mut features = Features::new(model.backend().clone(), dim);
        let mut weights = Vec::new();
        each_window(model, examples, limits, WINDOW, |window| {
            let first = weights.len();
            weights.resize(first + window.examples.len(), 0.0);
            for part in &window.batches {
                let (rows, margins) = projection.features(model, &part.batch)?;
                let sums = model.backend().row_sums(&rows);
                for ((&place, margin), sum) in part.places.iter().zip(&margins[..]).zip(&sums[..]) {
                    let example = &window.examples[place];
                    if !(margin + sum).is_finite() {
                        return Err(AttributionError::ScoreNotFinite { id: example.id.clone() });
                    }
                    weights[first + place] = 1.0 / (1.0 + (margin / example.n_loss_rows() as f64).exp());
                }
                features.push(part.places.iter().map(|place| first + place).collect(), rows);
            }
            progress(weights.len());
            Ok(())
        })?;
        if self.n_models > 0 {
            require_count("train examples", self.weights.len(), weights.len())?;
        }
        self.scores.resize(weights.len() * self.n_queries, 0.0);
        features.add_scores(&queries, lambda, &mut self.scores)?;
        self.weights.resize(weights.len(), 0.0);
        self.weights.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += weight);
        self.n_models += 1;
        Ok(())
    }

    /// τ of a train example on a query, both by their place.
    pub fn score(&self, example: usize, query: usize) -> f64 {
        let models = self.n_models as f64;
        self.scores[example * self.n_queries + query] / models * (self.weights[example] / models)
    }

    /// Gives all scores to the sink, in the order of the train set, which is read once more.
    ///
    /// # Errors
    /// No model, another number of train examples than the models saw, scores that are not finite, and what the sink meets.
    pub fn emit(
        &self,
        examples: impl Iterator<Item = std::result::Result<Example, DataError>>,
        sink: &mut dyn ScoreSink,
    ) -> Result<()> {
        if self.n_models == 0 {
            return Err(AttributionError::NoModel);
        }
        let mut first = 0;
        let mut block = Vec::new();
        let mut examples = examples.peekable();
        while let Some(example) = examples.next() {
            block.push(example?);
            if block.len() == BLOCK || examples.peek().is_none() {
                let end = first + block.len();
                if end > self.weights.len() {
                    break;
                }
                let mut scores = WindowScores::new(block.len(), Columns::of(self.n_queries));
                let of = |i| (0..self.n_queries).map(move |q| self.score(i, q));
                let totals: Buffer<f64> = (first..end).flat_map(of).collect();
                let places: Vec<usize> = (0..block.len()).collect();
                scores.put(&places, BatchScores { totals, ..BatchScores::default() });
                scores.emit(&block, sink)?;
                block.clear();
                first = end;
            }
        }
        require_count("train examples", self.weights.len(), first + block.len())
    }
}

/// φ of all queries `[Q, k]`, row major.
fn query_features<B: Folds>(
    model: &Model<B>,
    projection: &Projection,
    queries: &[Example],
    limits: BatchLimits,
) -> Result<Vec<f64>> {
    for query in queries {
        model.check(query).map_err(|source| AttributionError::Query { id: query.id.clone(), source })?;
    }
    let mut out = Vec::new();
    for group in Batches::new(queries.iter().cloned().map(Ok), limits) {
        let group = group?;
        let (rows, _) = projection.features(model, &Batch::stack(&group, Padding::None)?)?;
        for (query, sum) in group.iter().zip(&model.backend().row_sums(&rows)[..]) {
            if !sum.is_finite() {
                return Err(AttributionError::NotFinite { id: query.id.clone(), what: "its gradient".to_owned() });
            }
        }
        out.extend_from_slice(&model.backend().download::<f64>(&rows));
    }
    Ok(out)
}

fn require_count(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(AttributionError::Count { what, expected, got }) }
}

/// About the bytes that [`TrakScores`] holds beside the model's own pass, on a backend over f32, for batches of at most
/// `batch` examples: Φ `[N, k]`, and a quarter more that the pools of matrices keep idle; τ and the weights in f64; ΦᵀΦ and
/// its decomposition in f64; the queries, twice in f64; a block of signs, its packed copy and the gradients `[batch, rows]`
/// it is multiplied with; and the features of some batches on their way to f64.
pub fn trak_bytes(n_train: u64, n_queries: u64, batch: u64, dim: u64, specs: &[LayerSpec]) -> u64 {
    let rows = |s: &LayerSpec| (block_rows(s, dim as usize) * s.d_in) as u64;
    let block = specs.iter().map(rows).max().unwrap_or(0);
    let held = 5 * n_train * dim + 8 * n_train * (n_queries + 2) + 16 * dim * dim + 16 * n_queries * dim;
    held + (8 * dim + 4 * batch) * block + 8 * (ROWS as u64 + batch) * (2 * dim + n_queries)
}
