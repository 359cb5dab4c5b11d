use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Histogram, Summary, ViewerError};

/// One report: a run of one attribution method over one train set, seen from its queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// Model, data, method, damping, N, in one line.
    pub subtitle: String,
    /// Key figures of the run, name and value, shown in this order.
    pub facts: Vec<(String, String)>,
    /// Number of train examples N, the divisor of [`Row::one_more_copy`].
    pub n_train: u64,
    /// The queries, in the order of the list.
    pub queries: Vec<QueryReport>,
}

/// One query with the train examples that matter most for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryReport {
    /// Id, unique in the report.
    pub id: String,
    /// The text given; empty for a query without text.
    pub prompt: String,
    /// The text whose log-probability is explained; empty for a query without text.
    pub completion: String,
    /// Measurement f(θ), larger = more of the behaviour: log p in nats, or −½‖y−ŷ‖² for regression.
    pub measurement: f64,
    /// Other columns of the query.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Scores of the whole train set.
    pub histogram: Histogram,
    /// Key figures of the scores of the whole train set.
    pub summary: Summary,
    /// Train examples of the largest scores, largest first.
    pub proponents: Vec<Row>,
    /// Train examples of the smallest (most negative) scores, smallest first.
    pub opponents: Vec<Row>,
    /// Influence per layer, in the order of [`Row::layers`]; empty when the run kept no layer scores.
    #[serde(default)]
    pub layers: Vec<LayerShare>,
}

/// One train example in a top list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Place in its list, from 1.
    pub rank: u32,
    /// Id of the train example.
    pub train_id: String,
    /// Influence score I(q, m); positive = proponent.
    pub score: f32,
    /// Change of the measurement by one more copy of this example, I/N, in nats.
    pub one_more_copy: f64,
    /// The example's text; empty for rows of features.
    #[serde(default)]
    pub text: String,
    /// The same text by tokens, with their scores; empty when the run kept none.
    #[serde(default)]
    pub tokens: Vec<Token>,
    /// `[n_layers]` Score per layer, in the order of [`QueryReport::layers`]; empty when the run kept none.
    #[serde(default)]
    pub layers: Vec<f32>,
    /// Other columns of the example.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// One token of a train example. In JSON a pair `["text", score or null]`: a page holds very many of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(String, Option<f32>)", into = "(String, Option<f32>)")]
pub struct Token {
    /// The token's piece of text, with its blanks.
    pub text: String,
    /// Part of the row's score at the position of this token, which PREDICTS the next one; `None` where nothing is
    /// predicted.
    pub score: Option<f32>,
}

impl From<(String, Option<f32>)> for Token {
    fn from((text, score): (String, Option<f32>)) -> Self {
        Self { text, score }
    }
}

impl From<Token> for (String, Option<f32>) {
    fn from(token: Token) -> Self {
        (token.text, token.score)
    }
}

/// Influence of one layer, over the rows of a query's lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerShare {
    /// The layer's name in the model; names like `h.3.mlp.c_fc` are grouped by block and by kind.
    pub name: String,
    /// Sum of the layer's scores.
    pub signed: f64,
    /// Sum of their absolute values.
    pub absolute: f64,
}

impl LayerShare {
    /// Sums the layer scores of `rows`; `names` in the order of [`Row::layers`].
    pub fn from_rows<'a>(names: &[String], rows: impl IntoIterator<Item = &'a Row>) -> Vec<Self> {
        let mut shares: Vec<Self> =
            names.iter().map(|name| Self { name: name.clone(), signed: 0.0, absolute: 0.0 }).collect();
        for row in rows {
            for (share, &score) in shares.iter_mut().zip(&row.layers) {
                share.signed += f64::from(score);
                share.absolute += f64::from(score).abs();
            }
        }
        shares
    }
}

impl Report {
    /// Ids unique, shapes consistent, numbers finite.
    pub(crate) fn check(&self) -> Result<(), ViewerError> {
        let mut seen = std::collections::BTreeSet::new();
        for query in &self.queries {
            if !seen.insert(&query.id) {
                return Err(ViewerError::DuplicateQuery { id: query.id.clone() });
            }
            query.check()?;
        }
        Ok(())
    }
}

impl QueryReport {
    fn check(&self) -> Result<(), ViewerError> {
        let (edges, counts) = (self.histogram.edges.len(), self.histogram.counts.len());
        if edges != counts + 1 && edges + counts != 0 {
            return Err(ViewerError::HistogramShape { query: self.id.clone(), edges, counts });
        }
        let s = &self.summary;
        self.finite("the measurement", [self.measurement])?;
        self.finite("a histogram edge", self.histogram.edges.iter().copied())?;
        self.finite("a figure of the summary", [s.mean, s.std, s.min, s.max, s.top_percent_share])?;
        self.finite("a layer's influence", self.layers.iter().flat_map(|l| [l.signed, l.absolute]))?;
        self.proponents.iter().chain(&self.opponents).try_for_each(|row| self.check_row(row))
    }

    fn check_row(&self, row: &Row) -> Result<(), ViewerError> {
        if !row.layers.is_empty() && row.layers.len() != self.layers.len() {
            return Err(ViewerError::LayerShape {
                query: self.id.clone(),
                train_id: row.train_id.clone(),
                expected: self.layers.len(),
                got: row.layers.len(),
            });
        }
        let numbers = [f64::from(row.score), row.one_more_copy].into_iter();
        let parts = row.layers.iter().copied().chain(row.tokens.iter().filter_map(|t| t.score));
        self.finite(&format!("a score of train example {:?}", row.train_id), numbers.chain(parts.map(f64::from)))
    }

    fn finite(&self, place: &str, numbers: impl IntoIterator<Item = f64>) -> Result<(), ViewerError> {
        if numbers.into_iter().all(f64::is_finite) {
            return Ok(());
        }
        Err(ViewerError::NotFinite { query: self.id.clone(), place: place.to_owned() })
    }
}
