//! Retrained measurements of other tools: two tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use etymon_data::{Place, TableRow, read_table};

use super::Truth;
use crate::{EvaluateError, Result};

/// The measurement, larger = more.
const VALUE: &str = "value";
/// A loss, which is the measurement with its sign turned.
const LOSS: &str = "loss";

impl Truth {
    /// Reads a table of measurements (columns `subset`, `query` and `value`, or `loss`, whose sign is turned) and a table of the train
    /// examples of each subset (`subset`, `train_id`), as jsonl, csv or parquet. Several rows of a subset and query are retrainings:
    /// their mean counts. Subsets and queries have the order of their first rows.
    ///
    /// # Errors
    /// Tables that cannot be read; with the row: an id that is not in `train`, an example that a subset has twice, a subset
    /// of one table that is not in the other, a subset without a measurement of some query, a value that is not finite; fewer
    /// than two subsets.
    pub fn read_tables(values: &Path, members: &Path, train: &[String]) -> Result<Self> {
        let mut kept = read_members(members, train)?;
        let measured = Measured::read(values, &kept)?;
        let wrong = |problem: String| EvaluateError::Truth { path: values.to_owned(), line: 0, problem };
        if let Some(subset) = kept.keys().find(|subset| !measured.subsets.contains(*subset)) {
            return Err(wrong(format!("has no measurement of subset `{subset}`, which {} has", members.display())));
        }
        if measured.subsets.len() < 2 {
            return Err(wrong(format!("{} subsets; at least 2 are needed", measured.subsets.len())));
        }
        let mut truth = Self { queries: measured.queries.clone(), kept: Vec::new(), values: Vec::new() };
        for subset in &measured.subsets {
            let mean = |query: &String| match measured.sums.get(&(subset.clone(), query.clone())) {
                Some((sum, n)) => Ok(sum / n),
                None => Err(wrong(format!("subset `{subset}` has no measurement of query `{query}`"))),
            };
            truth.values.push(measured.queries.iter().map(mean).collect::<Result<_>>()?);
            truth.kept.push(kept.remove(subset).unwrap_or_default().into_iter().collect());
        }
        Ok(truth)
    }
}

fn wrong(place: &Place, problem: String) -> EvaluateError {
    EvaluateError::Truth { path: place.file.clone(), line: place.line as usize, problem }
}

/// The train examples of each subset, as positions.
fn read_members(path: &Path, train: &[String]) -> Result<BTreeMap<String, BTreeSet<usize>>> {
    let positions: BTreeMap<&str, usize> = train.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    let mut members: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for row in read_table(path)? {
        let row: TableRow = row?;
        let (subset, id) = (row.id("subset")?, row.id("train_id")?);
        let Some(&position) = positions.get(id.as_str()) else {
            return Err(wrong(&row.place, format!("`{id}` is no example of the train set")));
        };
        if !members.entry(subset.clone()).or_default().insert(position) {
            return Err(wrong(&row.place, format!("subset `{subset}` has `{id}` twice")));
        }
    }
    Ok(members)
}

/// Measurements in the order of their first rows.
#[derive(Default)]
struct Measured {
    subsets: Vec<String>,
    queries: Vec<String>,
    /// Sum and number.
    sums: BTreeMap<(String, String), (f64, f64)>,
}

impl Measured {
    fn read(path: &Path, known: &BTreeMap<String, BTreeSet<usize>>) -> Result<Self> {
        let mut measured = Self::default();
        let (mut subsets, mut queries) = (BTreeSet::new(), BTreeSet::new());
        for row in read_table(path)? {
            let row = row?;
            let (subset, query) = (row.id("subset")?, row.id("query")?);
            let value = if row.has(LOSS) && !row.has(VALUE) { -row.number(LOSS)? } else { row.number(VALUE)? };
            if !known.contains_key(&subset) {
                return Err(wrong(&row.place, format!("no train example of subset `{subset}` is given")));
            }
            if subsets.insert(subset.clone()) {
                measured.subsets.push(subset.clone());
            }
            if queries.insert(query.clone()) {
                measured.queries.push(query.clone());
            }
            let (sum, n) = measured.sums.entry((subset, query)).or_default();
            *sum += value;
            *n += 1.0;
        }
        Ok(measured)
    }
}
