//! Several score tables over the same train examples and queries, beside each other.

mod page;
mod terminal;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::correlation::{mid_ranks, pearson};

pub use page::compare_to_html;
pub use terminal::compare_to_terminal;

/// Score tables side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Heading of the page.
    pub title: String,
    /// `[M]` The tables.
    pub tables: Vec<TableName>,
    /// Number of train examples.
    pub n_train: u64,
    /// k of the overlaps.
    pub top: usize,
    /// Mean over the queries.
    pub mean: Agreement,
    /// The queries.
    pub queries: Vec<QueryComparison>,
}

/// What a score table is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableName {
    /// Short and unique: the method where it tells the tables apart.
    pub name: String,
    /// Folder, damping, and the like.
    pub detail: String,
}

/// How the scores of each two of M tables agree. Symmetric; `None` where undefined, as for a constant column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// `[M, M]` Rank correlation, equal scores sharing the mean of their ranks.
    pub spearman: Vec<Vec<Option<f64>>>,
    /// `[M, M]` Linear correlation.
    pub pearson: Vec<Vec<Option<f64>>>,
    /// `[M, M]` Share of the k highest scores of one among the k highest of the other, ties by position.
    pub overlap: Vec<Vec<Option<f64>>>,
}

/// One query.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueryComparison {
    /// Its id.
    pub id: String,
    /// The text given; empty for a query without text.
    pub prompt: String,
    /// The text explained; empty for a query without text.
    pub completion: String,
    /// Its other columns.
    pub metadata: Map<String, Value>,
    /// How the tables agree on it.
    pub agreement: Agreement,
    /// `[M]` The strongest proponents by each table, strongest first.
    pub lists: Vec<Vec<ComparedRow>>,
}

/// A strong proponent by one of the tables.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedRow {
    /// Its place in the train set, from 0.
    pub row: usize,
    /// Its id.
    pub train_id: String,
    /// Its score in this table.
    pub score: f32,
    /// `[M]` Its rank in each table, from 1, by falling score and then by position.
    pub ranks: Vec<u64>,
    /// Its text, where it is known.
    pub text: String,
}

/// What the columns `[M, N]` of one query say: how they agree (overlap of the `top` highest), and of each the `list`
/// highest as (row, score, its rank in every column).
pub fn compare_columns(columns: &[Vec<f32>], top: usize, list: usize) -> (Agreement, Vec<Vec<RankedRow>>) {
    let wide: Vec<Vec<f64>> = columns.iter().map(|c| c.iter().map(|&s| f64::from(s)).collect()).collect();
    let ranks: Vec<Vec<f64>> = wide.iter().map(|c| mid_ranks(c)).collect();
    let orders: Vec<Vec<usize>> = columns.iter().map(|c| falling(c)).collect();
    let tops: Vec<BTreeSet<usize>> = orders.iter().map(|o| o.iter().take(top).copied().collect()).collect();
    let overlap = |a: usize, b: usize| {
        let k = tops[a].len();
        (k > 0).then(|| tops[a].intersection(&tops[b]).count() as f64 / k as f64)
    };
    let m = columns.len();
    let agreement = Agreement {
        spearman: matrix(m, |a, b| pearson(&ranks[a], &ranks[b])),
        pearson: matrix(m, |a, b| pearson(&wide[a], &wide[b])),
        overlap: matrix(m, overlap),
    };
    let mut places = vec![vec![0u64; wide.first().map_or(0, Vec::len)]; m];
    for (place, order) in places.iter_mut().zip(&orders) {
        order.iter().enumerate().for_each(|(rank, &row)| place[row] = rank as u64 + 1);
    }
    let ranked = |(order, column): (&Vec<usize>, &Vec<f32>)| {
        let entry = |&row: &usize| RankedRow {
            row,
            score: column[row],
            ranks: places.iter().map(|place| place[row]).collect(),
        };
        order.iter().take(list).map(entry).collect()
    };
    (agreement, orders.iter().zip(columns).map(ranked).collect())
}

/// A row of the train set among the highest of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedRow {
    /// Its place in the train set, from 0.
    pub row: usize,
    /// Its score.
    pub score: f32,
    /// `[M]` Its rank in each column, from 1.
    pub ranks: Vec<u64>,
}

impl Agreement {
    /// The mean of some agreements of M tables; of each pair over those in which it is defined.
    pub fn mean(of: &[&Self], m: usize) -> Self {
        let mean = |part: fn(&Self) -> &Vec<Vec<Option<f64>>>| {
            matrix(m, |a, b| {
                let known: Vec<f64> = of.iter().filter_map(|x| part(x)[a][b]).collect();
                (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
            })
        };
        Self { spearman: mean(|x| &x.spearman), pearson: mean(|x| &x.pearson), overlap: mean(|x| &x.overlap) }
    }
}

fn matrix(m: usize, entry: impl Fn(usize, usize) -> Option<f64>) -> Vec<Vec<Option<f64>>> {
    let mut all = vec![vec![None; m]; m];
    for a in 0..m {
        for b in a..m {
            all[a][b] = entry(a, b);
            all[b][a] = all[a][b];
        }
    }
    all
}

/// Rows by falling score, then by position.
fn falling(column: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..column.len()).collect();
    order.sort_by(|&i, &j| column[j].total_cmp(&column[i]).then(i.cmp(&j)));
    order
}
