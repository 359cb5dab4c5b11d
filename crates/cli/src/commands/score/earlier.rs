//! Scores of earlier groups of layers: read from their table, and added to those of the next group.

use std::collections::VecDeque;
use std::path::Path;

use etymon_attribution::{AttributionError, Parts, ScoreBlock, ScoreSink};
use etymon_store::{Block, LayerTable, RowKeys, ScoreTable, StoreError, TokenTable, WideTable};
use etymon_tensor::Buffer;

use super::tables::{DoneRows, sums_folder};

/// Rows read at a time.
const ROWS: usize = 1024;

/// The tables of the sums over the first layers.
pub struct Earlier {
    n_layers: usize,
    scores: ScoreTable,
    layers: Option<LayerTable>,
    tokens: Option<TokenTable>,
}

impl Earlier {
    /// Opens the tables of the first `n_layers` layers; none before the first group.
    pub fn open(run: &Path, n_layers: usize, parts: Parts) -> Result<Option<Self>, StoreError> {
        if n_layers == 0 {
            return Ok(None);
        }
        let folder = run.join(sums_folder(n_layers));
        Ok(Some(Self {
            n_layers,
            scores: ScoreTable::open(&folder)?,
            layers: parts.layers.then(|| LayerTable::open(&folder)).transpose()?,
            tokens: parts.tokens.then(|| TokenTable::open(&folder)).transpose()?,
        }))
    }

    /// Their rows after those that are done.
    pub fn rows(&self, done: DoneRows) -> Result<EarlierRows<'_>, StoreError> {
        Ok(EarlierRows {
            n_layers: self.n_layers,
            n_queries: self.layers.as_ref().map_or(0, |x| x.queries().len()),
            scores: Floats::after(done.scores, &self.scores)?,
            layers: self.layers.as_ref().map(|x| Floats::after(done.scores * self.n_layers as u64, x)).transpose()?,
            tokens: self.tokens.as_ref().map(|x| Floats::after(done.tokens, x)).transpose()?,
        })
    }
}

/// The rows of [`Earlier`], in the order of the train set.
pub struct EarlierRows<'a> {
    n_layers: usize,
    /// Columns of the table of layers.
    n_queries: usize,
    scores: Floats<'a>,
    layers: Option<Floats<'a>>,
    tokens: Option<Floats<'a>>,
}

/// Multiplies the scores that come by with a weight, and adds what is `earlier`, if anything.
pub struct Adding<'a> {
    pub earlier: Option<EarlierRows<'a>>,
    pub weight: f32,
    pub sink: &'a mut dyn ScoreSink,
}

impl Adding<'_> {
    /// Gives the weighted block on.
    fn add(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        let Some(earlier) = &mut self.earlier else { return self.sink.block(block) };
        let (scores, layers, tokens) = earlier.add(block).map_err(AttributionError::sink)?;
        let (layers, tokens) = (layers.as_deref(), tokens.as_deref());
        self.sink.block(&ScoreBlock { examples: block.examples, scores: &scores, layers, tokens })
    }
}

impl ScoreSink for Adding<'_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        if self.weight == 1.0 {
            return self.add(block);
        }
        let weigh = |x: &[f32]| x.iter().map(|x| x * self.weight).collect::<Buffer<f32>>();
        let all = |x: &[Buffer<f32>]| x.iter().map(|x| weigh(x)).collect::<Vec<_>>();
        let (scores, layers, tokens) = (weigh(block.scores), block.layers.map(all), block.tokens.map(all));
        let (layers, tokens) = (layers.as_deref(), tokens.as_deref());
        self.add(&ScoreBlock { examples: block.examples, scores: &scores, layers, tokens })
    }
}

/// Scores `[n, Q]`, per layer `[n, Q]`, and per example `[rows, Q]`.
type Sums = (Vec<f32>, Option<Vec<Buffer<f32>>>, Option<Vec<Buffer<f32>>>);

impl EarlierRows<'_> {
    fn add(&mut self, block: &ScoreBlock<'_>) -> Result<Sums, StoreError> {
        let scores = self.scores.plus(block.scores)?;
        let layers = match (&mut self.layers, block.layers) {
            (Some(earlier), Some(layers)) => {
                let n = block.examples.len() * self.n_queries;
                let mut all = vec![Buffer::with_capacity(n); self.n_layers];
                let rows = earlier.take(n * self.n_layers)?;
                for (i, row) in rows.chunks_exact(self.n_queries).enumerate() {
                    all[i % self.n_layers].extend_from_slice(row);
                }
                all.extend_from_slice(layers);
                Some(all)
            }
            _ => None,
        };
        let tokens = match (&mut self.tokens, block.tokens) {
            (Some(earlier), Some(tokens)) => {
                Some(tokens.iter().map(|x| Ok(earlier.plus(x)?.into())).collect::<Result<_, StoreError>>()?)
            }
            _ => None,
        };
        Ok((scores, layers, tokens))
    }
}

/// The numbers of a table, row after row.
struct Floats<'a> {
    blocks: Box<dyn Iterator<Item = Result<Vec<f32>, StoreError>> + 'a>,
    held: VecDeque<f32>,
}

impl<'a> Floats<'a> {
    /// After `rows` rows.
    fn after<K: RowKeys>(rows: u64, table: &'a WideTable<K>) -> Result<Self, StoreError> {
        let scores = |block: Result<Block<K>, StoreError>| block.map(|block| block.scores);
        let mut floats = Self { blocks: Box::new(table.blocks(ROWS).map(scores)), held: VecDeque::new() };
        for _ in 0..rows {
            floats.take(table.queries().len())?;
        }
        Ok(floats)
    }

    fn take(&mut self, n: usize) -> Result<Vec<f32>, StoreError> {
        while self.held.len() < n {
            let Some(block) = self.blocks.next() else { break };
            self.held.extend(block?);
        }
        Ok(self.held.drain(..n.min(self.held.len())).collect())
    }

    fn plus(&mut self, x: &[f32]) -> Result<Vec<f32>, StoreError> {
        Ok(self.take(x.len())?.iter().zip(x).map(|(x, y)| x + y).collect())
    }
}
