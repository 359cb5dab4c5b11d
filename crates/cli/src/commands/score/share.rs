//! What a method's own table takes from a pass that several methods share.

use std::collections::BTreeMap;
use std::ops::Range;

use etymon_attribution::{Parts, ScoreBlock, ScoreSink, TopK};
use etymon_data::ExampleIndex;
use etymon_tensor::Buffer;

use super::rows::Known;
use super::tables::Tables;

/// The columns of one method in the blocks of a shared pass, and what they are divided by.
#[derive(Clone, Debug)]
pub struct Share {
    /// Names of the columns of its own table.
    pub ids: Vec<String>,
    /// Its columns in the shared blocks.
    pub columns: Range<usize>,
    /// The column of the squared norm by whose root each row is divided.
    pub norm: Option<usize>,
    /// What each of its columns is multiplied with.
    pub factors: Option<Vec<f64>>,
    /// Whether its columns are norms, which have no parts.
    pub is_norm: bool,
}

/// Scores of one method `[n, Q]`, per layer `[n, Q]`, per example `[rows, Q]`.
pub struct OwnScores {
    pub scores: Vec<f32>,
    pub layers: Option<Vec<Buffer<f32>>>,
    pub tokens: Option<Vec<Buffer<f32>>>,
}

impl Share {
    /// The parts that its table has, of those that are asked for.
    pub fn parts(&self, asked: Parts) -> Parts {
        if self.is_norm { Parts::default() } else { asked }
    }

    /// Its scores in a block with `all` columns, of which the first `queries` have parts.
    pub fn of(&self, block: &ScoreBlock<'_>, all: usize, queries: usize) -> OwnScores {
        let n = block.examples.len();
        let weights: Vec<f64> = (0..n).map(|i| self.row_weight(&block.scores[i * all..(i + 1) * all])).collect();
        let cut = |from: &[f32], width: usize, weight: &dyn Fn(usize) -> f64| -> Vec<f32> {
            let rows = from.chunks_exact(width).enumerate();
            rows.flat_map(|(i, row)| self.cut(row, weight(i)).collect::<Vec<_>>()).collect()
        };
        let by_row = |i: usize| weights[i];
        let layer = |x: &Buffer<f32>| cut(x, queries, &by_row).into();
        let tokens = |(x, weight): (&Buffer<f32>, &f64)| cut(x, queries, &|_| *weight).into();
        let whole = !self.is_norm;
        OwnScores {
            scores: cut(block.scores, all, &by_row),
            layers: block.layers.filter(|_| whole).map(|x| x.iter().map(layer).collect()),
            tokens: block.tokens.filter(|_| whole).map(|x| x.iter().zip(&weights).map(tokens).collect()),
        }
    }

    /// Brings the parts of the top rows, per query, to the scale of the scores.
    pub fn complete(&self, known: &mut [BTreeMap<ExampleIndex, Known>]) {
        for (q, known) in known.iter_mut().enumerate() {
            for parts in known.values_mut() {
                if self.norm.is_some() {
                    parts.divide_by_norm();
                }
                if let Some(factors) = &self.factors {
                    parts.scale(factors[q]);
                }
            }
        }
    }

    /// What a row is multiplied with. An example whose gradient is zero has scores of zero.
    fn row_weight(&self, row: &[f32]) -> f64 {
        let weight = |squares: f64| if squares > 0.0 { squares.sqrt().recip() } else { 0.0 };
        self.norm.map_or(1.0, |norm| weight(f64::from(row[norm])))
    }

    fn cut<'a>(&'a self, row: &'a [f32], weight: f64) -> impl Iterator<Item = f32> + 'a {
        let factor = |j: usize| self.factors.as_ref().map_or(1.0, |factors| factors[j]);
        row[self.columns.clone()].iter().enumerate().map(move |(j, &x)| (f64::from(x) * weight * factor(j)) as f32)
    }
}

/// Hands each method its share: to its table, and to its top.
pub struct Sharing<'a, 't> {
    /// The shares, in the order of the tables.
    pub shares: &'a [Share],
    /// Columns of a block.
    pub all: usize,
    /// Those of queries.
    pub queries: usize,
    /// One table per share.
    pub tables: &'a mut Tables<'t>,
    /// One per share.
    pub tops: &'a mut [TopK],
}

impl ScoreSink for Sharing<'_, '_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        for (i, share) in self.shares.iter().enumerate() {
            let own = share.of(block, self.all, self.queries);
            let (layers, tokens) = (own.layers.as_deref(), own.tokens.as_deref());
            let block = ScoreBlock { examples: block.examples, scores: &own.scores, layers, tokens };
            self.tables.write(i, &block)?;
            self.tops[i].block(&block)?;
        }
        self.tables.written(block.examples.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(columns: Range<usize>, norm: Option<usize>, factors: Option<Vec<f64>>) -> Share {
        Share { ids: Vec::new(), columns, norm, factors, is_norm: false }
    }

    #[test]
    fn a_share_is_its_columns_divided_by_the_norm_of_each_row_and_parts_add_up_to_it() {
        let row = |id: &str| etymon_data::Example {
            index: ExampleIndex(0),
            id: id.to_owned(),
            content: etymon_data::Content::Tokens { ids: vec![0, 1, 2], loss_start: 1 },
            text: String::new(),
            metadata: serde_json::Map::new(),
        };
        let examples = [row("a"), row("b")];
        // Two methods of one query each, and a squared norm.
        let scores = [1.0, 8.0, 16.0, 3.0, 5.0, 0.0];
        let layers = [Buffer::from(vec![1.0, 6.0, 3.0, 1.0]), Buffer::from(vec![0.0, 2.0, 0.0, 4.0])];
        let tokens = [Buffer::from(vec![1.0, 3.0, 0.0, 5.0]), Buffer::from(vec![2.0, 1.0, 1.0, 4.0])];
        let block = ScoreBlock { examples: &examples, scores: &scores, layers: Some(&layers), tokens: Some(&tokens) };
        let plain = share(0..1, None, None).of(&block, 3, 2);
        assert_eq!(plain.scores, [1.0, 3.0]);
        let cosine = share(1..2, Some(2), Some(vec![0.5])).of(&block, 3, 2);
        assert_eq!(cosine.scores, [1.0, 0.0], "8 / 4 / 2, and a gradient of zero");
        let layers = cosine.layers.unwrap();
        assert_eq!([layers[0][0] + layers[1][0], layers[0][1] + layers[1][1]], [1.0, 0.0]);
        assert_eq!(cosine.tokens.unwrap()[0].iter().sum::<f32>(), 1.0);
    }
}
