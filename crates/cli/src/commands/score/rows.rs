//! The small tables at the end of a score: queries, and the top rows with their parts.

use std::collections::BTreeMap;
use std::path::Path;

use etymon_attribution::{Entry, Parts, QueryValue, Ranked, ScoreBlock, ScoreSink, Wanted, score_all};
use etymon_data::{BatchLimits, Content, Encoder, Example, ExampleIndex};
use etymon_model::Model;
use etymon_store::{QueryRow, TopRow, TopSide};

use crate::error::Result;
use crate::open::{Opened, Work};

/// The text of each token of an example, `#id` where there is no tokenizer.
pub fn pieces(encoder: Option<&Encoder>, example: &Example) -> Vec<String> {
    let ids = example.token_ids();
    let decoded = encoder.and_then(|e| e.pieces(ids).ok());
    decoded.unwrap_or_else(|| ids.iter().map(|id| format!("#{id} ")).collect())
}

/// Writes `queries.parquet`.
pub fn write_queries(folder: &Path, opened: &Opened, examples: &[Example], values: &[QueryValue]) -> Result<()> {
    let by_id: BTreeMap<&str, &Example> = examples.iter().map(|e| (e.id.as_str(), e)).collect();
    let row = |value: &QueryValue| {
        let example = by_id.get(value.id.as_str()).copied();
        let (prompt, completion) = example.map(|e| prompt_and_completion(opened, e)).unwrap_or_default();
        QueryRow {
            query_id: value.id.clone(),
            text: example.map(|e| e.text.clone()).filter(|text| !text.is_empty()),
            prompt,
            completion,
            measurement: value.measurement,
            metadata: example.map(|e| e.metadata.clone()).unwrap_or_default(),
        }
    };
    let rows: Vec<QueryRow> = values.iter().map(row).collect();
    Ok(QueryRow::write_all(&folder.join("queries.parquet"), &rows)?)
}

/// What is given and what is explained, as text.
fn prompt_and_completion(opened: &Opened, example: &Example) -> (Option<String>, Option<String>) {
    let (Some(encoder), Content::Tokens { ids, loss_start }) = (&opened.encoder, &example.content) else {
        return (None, None);
    };
    let decoded = |ids: &[u32]| encoder.decode(ids).ok().filter(|text| !text.is_empty());
    (decoded(&ids[..*loss_start]), decoded(&ids[*loss_start..]))
}

/// Writes `top.parquet`; `known` are, per query, the parts of scores.
pub fn write_top(
    folder: &Path,
    opened: &Opened,
    values: &[QueryValue],
    known: &[BTreeMap<ExampleIndex, Known>],
    ranked: &[Ranked],
) -> Result<()> {
    let mut rows = Vec::new();
    for (q, (value, lists)) in values.iter().zip(ranked).enumerate() {
        let known = |example: &Example| known.get(q)?.get(&example.index);
        for (side, list) in [(TopSide::Proponent, &lists.proponents), (TopSide::Opponent, &lists.opponents)] {
            for (i, entry) in list.iter().enumerate() {
                rows.push(top_row(opened, &value.id, side, i, entry, known(&entry.example)));
            }
        }
    }
    Ok(TopRow::write_all(&folder.join("top.parquet"), &rows)?)
}

/// The parts of one example's score on one query.
#[derive(Default)]
pub struct Known {
    /// `[n_layers]`.
    layers: Option<Vec<f32>>,
    /// `[rows]`.
    tokens: Option<Vec<f32>>,
    /// The squared norm of the example's gradient, where it was asked for.
    norm: f64,
}

impl Known {
    /// Multiplies the parts.
    pub fn scale(&mut self, factor: f64) {
        let parts = self.layers.iter_mut().chain(&mut self.tokens).flatten();
        parts.for_each(|x| *x = (f64::from(*x) * factor) as f32);
    }

    /// Divides the parts by the norm, which must have been asked for.
    pub fn divide_by_norm(&mut self) {
        self.scale(if self.norm > 0.0 { self.norm.sqrt().recip() } else { 0.0 });
    }
}

fn top_row(opened: &Opened, query: &str, side: TopSide, place: usize, entry: &Entry, known: Option<&Known>) -> TopRow {
    let example = &entry.example;
    let token_scores = known.and_then(|k| k.tokens.clone()).map(|mut scores| {
        // The last token predicts nothing.
        scores.resize(example.n_tokens(), 0.0);
        scores
    });
    TopRow {
        query_id: query.to_owned(),
        side,
        rank: place as u32 + 1,
        train_id: example.id.clone(),
        score: entry.score,
        text: Some(example.text.clone()).filter(|text| !text.is_empty()),
        tokens: token_scores.as_ref().map(|_| pieces(opened.encoder.as_ref(), example)),
        token_scores,
        layer_scores: known.and_then(|k| k.layers.clone()),
        metadata: example.metadata.clone(),
    }
}

/// Runs the listed examples of one query for the parts of their scores at the layers of a model, and the norm beside them, if
/// there is one; adds them, times a weight, to `known`, of the layers before.
pub fn add_parts(
    model: &Model<Work>,
    wanted: Wanted<'_, Work>,
    ranked: &Ranked,
    (parts, weight): (Parts, f32),
    limits: BatchLimits,
    known: &mut BTreeMap<ExampleIndex, Known>,
) -> Result<()> {
    let listed = ranked.proponents.iter().chain(&ranked.opponents);
    let unique: BTreeMap<ExampleIndex, &Example> = listed.map(|e| (e.example.index, e.example.as_ref())).collect();
    Ok(score_all(model, wanted, unique.into_values().cloned().map(Ok), limits, parts, &mut Collect { known, weight })?)
}

/// Keeps the parts of the scores on one query, and the norm.
struct Collect<'a> {
    known: &'a mut BTreeMap<ExampleIndex, Known>,
    weight: f32,
}

impl ScoreSink for Collect<'_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        let width = block.scores.len() / block.examples.len().max(1);
        for (i, example) in block.examples.iter().enumerate() {
            let known = self.known.entry(example.index).or_default();
            known.norm += block.scores[i * width..(i + 1) * width].get(1).copied().map_or(0.0, f64::from);
            if let Some(layers) = block.layers {
                known.layers.get_or_insert_default().extend(layers.iter().map(|layer| self.weight * layer[i]));
            }
            if let Some(tokens) = block.tokens {
                let sums = known.tokens.get_or_insert_with(|| vec![0.0; tokens[i].len()]);
                sums.iter_mut().zip(tokens[i].iter()).for_each(|(sum, x)| *sum += self.weight * x);
            }
        }
        Ok(())
    }
}
