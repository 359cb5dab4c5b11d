//! Influence of training examples on queries: I(q, m) = −∇f(θ)ᵀ (G + λI)⁻¹ ∇L(z_m, θ), POSITIVE = proponent.
//!
//! [`Queries::prepare`] makes −(G + λI)⁻¹∇f of every query, at full or low rank; [`score`] takes its products with the
//! gradient of every train example in one pass, and hands blocks of scores to a [`ScoreSink`] (through [`behind`], on a
//! thread of its own). [`self_influence`] is the same with each example as its own query. [`TrakScores`] needs no inverse of
//! G: it solves with a random projection of the gradients. [`Stages`] brings queries of a fine-tuned model back to the
//! pre-trained one.

mod behind;
mod error;
mod form;
mod group;
mod kept;
mod low_rank;
mod memory;
mod norm;
mod pass;
mod plain;
mod queries;
mod score;
mod sink;
mod stages;
mod top;
mod tracin_ideal;
mod trak;

pub use behind::behind;
pub use error::{AttributionError, Result};
pub use form::Rank;
pub use group::{GroupInfluence, group_influence};
pub use kept::LayerQueries;
pub use low_rank::{LowRank, truncated_svd};
pub use memory::{query_flops, query_row_bytes, score_flops, self_influence_bytes};
pub use norm::{SquaredNorm, self_influence};
pub use plain::{
    BUCKETS, FeatureQueries, FeatureSimilarity, NgramImportance, gumbel_top_k, score_features, score_lexical,
    score_random,
};
pub use queries::{Queries, QueryValue};
pub use score::{Parts, Wanted, score, score_all, score_batch};
pub use sink::{ScoreBlock, ScoreSink, Tee};
pub use stages::{Role, StageQueries, Stages};
pub use top::{Entry, Ranked, TopK};
pub use tracin_ideal::TracInIdeal;
pub use trak::{Trak, TrakScores, trak_bytes};
