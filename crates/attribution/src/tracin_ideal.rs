//! TracIn-Ideal (Pruthi et al. 2020, 2002.08484, §3.1): what the steps of a recorded run did to a query's loss.

use std::collections::BTreeMap;
use std::path::Path;

use etymon_data::{DataError, Example};
use etymon_store::{loss_segments, read_steps};

use crate::{AttributionError, Result, ScoreBlock, ScoreSink};

/// Examples of a block.
const BLOCK: usize = 1024;

/// score(q, m) = Σ over steps t that contained m of (L_t(q) − L_{t+1}(q)) / |B_t|: POSITIVE = the steps lowered the loss of
/// the query, which is f := −L raised.
///
/// Where losses were measured every k steps, the change over the k steps is divided among all examples of their batches,
/// Σ |B_t|. An example that a batch has twice counts twice. Steps before a query's first measurement or after its last one
/// add nothing. So the scores of a query add up to its first loss less its last one. (The paper has batches of one example;
/// the division among a batch is ours.)
#[derive(Clone, Debug, PartialEq)]
pub struct TracInIdeal {
    n_queries: usize,
    /// `[Q]` by train id.
    scores: BTreeMap<String, Vec<f64>>,
}

impl TracInIdeal {
    /// Reads the log of `run` in `folder`, for queries that it watched.
    ///
    /// # Errors
    /// A log that cannot be read or has no step of the run, a query that was not measured twice, a loss that is not finite,
    /// and a step between two measurements that is not in the log.
    pub fn read(folder: &Path, run: &str, queries: &[String]) -> Result<Self> {
        if queries.is_empty() {
            return Err(AttributionError::NoQueries);
        }
        let rows = read_steps(folder)?.into_iter().filter(|row| row.run == run);
        let steps: BTreeMap<u64, Vec<String>> = rows.map(|row| (row.step, row.train_ids)).collect();
        if steps.is_empty() {
            return Err(AttributionError::NoSteps { run: run.to_owned() });
        }
        let mut scores: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (q, losses) in measured(folder, run, queries)?.into_iter().enumerate() {
            for (&(from, before), &(to, after)) in losses.iter().zip(&losses[1..]) {
                let batches = between(&steps, run, from, to)?;
                let n: usize = batches.iter().map(|batch| batch.len()).sum();
                for id in batches.into_iter().flatten() {
                    let row = scores.entry(id.clone()).or_insert_with(|| vec![0.0; queries.len()]);
                    row[q] += (before - after) / n as f64;
                }
            }
        }
        Ok(Self { n_queries: queries.len(), scores })
    }

    /// `[Q]` scores of an example by its id; none if no measured step contained it.
    pub fn scores(&self, train_id: &str) -> Option<&[f64]> {
        self.scores.get(train_id).map(Vec::as_slice)
    }

    /// Gives the scores of a train set to a sink, in its order; examples that no step contained have 0.
    ///
    /// # Errors
    /// Data that cannot be read, and errors of the sink.
    pub fn emit(
        &self,
        examples: impl Iterator<Item = std::result::Result<Example, DataError>>,
        sink: &mut dyn ScoreSink,
    ) -> Result<()> {
        let mut examples = examples.peekable();
        while examples.peek().is_some() {
            let block = examples.by_ref().take(BLOCK).collect::<std::result::Result<Vec<_>, _>>()?;
            let mut scores = vec![0.0f32; block.len() * self.n_queries];
            for (example, row) in block.iter().zip(scores.chunks_exact_mut(self.n_queries)) {
                let known = self.scores.get(&example.id).into_iter().flatten();
                row.iter_mut().zip(known).for_each(|(x, &score)| *x = score as f32);
            }
            sink.block(&ScoreBlock { examples: &block, scores: &scores, layers: None, tokens: None })?;
        }
        Ok(())
    }
}

/// The losses of each query by rising step, at least two.
fn measured(folder: &Path, run: &str, queries: &[String]) -> Result<Vec<Vec<(u64, f64)>>> {
    let mut losses: BTreeMap<&str, BTreeMap<u64, f64>> =
        queries.iter().map(|q| (q.as_str(), BTreeMap::new())).collect();
    for rows in loss_segments(folder)? {
        for row in rows?.1.into_iter().filter(|row| row.run == run) {
            let Some(of_query) = losses.get_mut(row.query_id.as_str()) else { continue };
            if !row.loss.is_finite() {
                let what = format!("its loss before step {} of run `{run}`", row.step);
                return Err(AttributionError::NotFinite { id: row.query_id, what });
            }
            of_query.insert(row.step, row.loss);
        }
    }
    let of_query = |query: &String| {
        let list: Vec<_> =
            losses.get(query.as_str()).into_iter().flatten().map(|(&step, &loss)| (step, loss)).collect();
        if list.len() < 2 {
            return Err(AttributionError::NotWatched { query: query.clone(), run: run.to_owned(), times: list.len() });
        }
        Ok(list)
    };
    queries.iter().map(of_query).collect()
}

/// The batches of steps `from..to`.
fn between<'a>(steps: &'a BTreeMap<u64, Vec<String>>, run: &str, from: u64, to: u64) -> Result<Vec<&'a Vec<String>>> {
    let batch = |step| steps.get(&step).ok_or_else(|| AttributionError::NoStep { run: run.to_owned(), step });
    (from..to).map(batch).collect()
}
