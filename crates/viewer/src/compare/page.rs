//! A comparison as a page.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Agreement, Comparison, QueryComparison, TableName};
use crate::ViewerError;
use crate::page::{Scripts, html, push_json};

/// What the page reads at once.
#[derive(Serialize)]
struct Head<'a> {
    title: &'a str,
    subtitle: String,
    facts: [(&'a str, String); 3],
    tables: &'a [TableName],
    top: usize,
    mean: &'a Agreement,
    queries: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    prompt: &'a str,
    completion: &'a str,
    metadata: &'a Map<String, Value>,
    /// Mean Spearman correlation over the pairs of tables.
    spearman: Option<f64>,
}

impl<'a> From<&'a QueryComparison> for Entry<'a> {
    fn from(q: &'a QueryComparison) -> Self {
        let matrix = &q.agreement.spearman;
        let pairs = matrix.iter().enumerate().flat_map(|(a, row)| row.iter().skip(a + 1));
        let known: Vec<f64> = pairs.filter_map(|x| *x).collect();
        let spearman = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
        Self { id: &q.id, prompt: &q.prompt, completion: &q.completion, metadata: &q.metadata, spearman }
    }
}

/// The comparison as one HTML file that needs nothing else, in the frame of [`to_html`](crate::to_html): per query a
/// column per table with its strongest texts, and the matrices of agreement.
///
/// # Errors
/// When two queries share an id.
pub fn compare_to_html(comparison: &Comparison) -> Result<String, ViewerError> {
    let mut seen = std::collections::BTreeSet::new();
    if let Some(query) = comparison.queries.iter().find(|q| !seen.insert(&q.id)) {
        return Err(ViewerError::DuplicateQuery { id: query.id.clone() });
    }
    let names: Vec<&str> = comparison.tables.iter().map(|t| t.name.as_str()).collect();
    let head = Head {
        title: &comparison.title,
        subtitle: names.join(", "),
        facts: [
            ("score tables", comparison.tables.len().to_string()),
            ("train examples", comparison.n_train.to_string()),
            ("queries", comparison.queries.len().to_string()),
        ],
        tables: &comparison.tables,
        top: comparison.top,
        mean: &comparison.mean,
        queries: comparison.queries.iter().map(Entry::from).collect(),
    };
    let mut data = String::new();
    push_json(&mut data, "report", &head)?;
    for (index, query) in comparison.queries.iter().enumerate() {
        push_json(&mut data, &format!("query-{index}"), query)?;
    }
    Ok(html(Scripts::Comparison, &comparison.title, &data))
}
