//! Similarity of the last hidden state (Hanawa et al. 2021, 2006.04528).

use etymon_data::{Batch, BatchLimits, Batches, DataError, Example, Padding};
use etymon_model::Model;
use etymon_tensor::{Buffer, Folds};

use crate::pass::{BatchScores, Columns, pass};
use crate::{AttributionError, Result, ScoreSink};

/// How two features h and h' are compared; larger = more similar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureSimilarity {
    /// h · h'.
    Dot,
    /// h · h' / (‖h‖ ‖h'‖); 0 if one is zero.
    Cosine,
    /// −‖h − h'‖².
    L2,
}

/// The features of queries.
#[derive(Clone, Debug)]
pub struct FeatureQueries {
    similarity: FeatureSimilarity,
    /// `[Q, d]`.
    features: Vec<f64>,
    n_queries: usize,
    d: usize,
}

impl FeatureQueries {
    /// The features of `queries`: [`Model::features`], of a sequence the mean over the rows that predict its completion.
    ///
    /// # Errors
    /// No query, or queries that the model does not take (named) or of which a feature is not finite.
    pub fn prepare<B: Folds>(
        model: &Model<B>,
        queries: &[Example],
        similarity: FeatureSimilarity,
        limits: BatchLimits,
    ) -> Result<Self> {
        if queries.is_empty() {
            return Err(AttributionError::NoQueries);
        }
        for query in queries {
            model.check(query).map_err(|source| AttributionError::Query { id: query.id.clone(), source })?;
        }
        let mut features = Vec::new();
        for group in Batches::new(queries.iter().cloned().map(Ok), limits) {
            features.extend_from_slice(&model.features(&Batch::stack(&group?, Padding::None)?)?);
        }
        let d = features.len() / queries.len();
        if let Some(i) = features.iter().position(|x| !x.is_finite()) {
            let (id, what) = (queries[i / d].id.clone(), "its last hidden state".to_owned());
            return Err(AttributionError::NotFinite { id, what });
        }
        Ok(Self { similarity, features, n_queries: queries.len(), d })
    }

    /// Scores `[n, Q]` of examples with features `[n, d]`.
    fn similarities(&self, examples: &[f64]) -> Buffer<f64> {
        let mut scores = Buffer::zeros(examples.len() / self.d * self.n_queries);
        let rows = examples.chunks_exact(self.d).zip(scores.chunks_exact_mut(self.n_queries));
        for (h, scores) in rows {
            for (query, score) in self.features.chunks_exact(self.d).zip(scores) {
                *score = self.similarity.of(query, h);
            }
        }
        scores
    }
}

impl FeatureSimilarity {
    fn of(self, x: &[f64], y: &[f64]) -> f64 {
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        match self {
            Self::Dot => dot(x, y),
            Self::Cosine => {
                let norms = (dot(x, x) * dot(y, y)).sqrt();
                if norms > 0.0 { dot(x, y) / norms } else { 0.0 }
            }
            Self::L2 => -x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>(),
        }
    }
}

/// Scores `examples` by the similarity of their features with those of the queries, in one pass of forwards.
///
/// Of a train sequence the feature is the mean over the rows that carry a loss term, as its loss is a sum over them.
///
/// # Errors
/// As [`score`](crate::score).
pub fn score_features<B: Folds>(
    model: &Model<B>,
    queries: &FeatureQueries,
    examples: impl Iterator<Item = std::result::Result<Example, DataError>> + Send,
    limits: BatchLimits,
    sink: &mut dyn ScoreSink,
) -> Result<()> {
    pass(model, examples, limits, Columns::of(queries.n_queries), sink, |batch| {
        let totals = queries.similarities(&model.features(batch)?);
        Ok(BatchScores { totals, ..BatchScores::default() })
    })
}
