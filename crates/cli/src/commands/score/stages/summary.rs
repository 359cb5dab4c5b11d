//! How much of a query comes from which stage.

use std::path::Path;

use etymon_store::{QueryRow, RunFolder, ScoreTable};
use serde_json::{Value, json};

use super::{FINETUNING, PRETRAINING};
use crate::error::Result;

/// Kind of the folder that holds the tables of both stages.
pub const KIND: &str = "scores-of-stages";

/// Both stages of every query.
pub struct Summary {
    queries: Vec<Query>,
}

struct Query {
    id: String,
    measurement: f64,
    stages: [Part; 2],
}

/// The scores of one stage on one query.
struct Part {
    /// Σ |I| / N, in nats: what one more copy of every example would move f by, whatever the direction.
    mass: f64,
    /// The part of it that raises f.
    positive: f64,
    /// The strongest proponent, and I / N.
    best: Option<(String, f64)>,
}

/// Reads the tables of both stages.
pub fn read(folder: &Path) -> Result<Summary> {
    let folders = [PRETRAINING, FINETUNING].map(|name| folder.join(name));
    let tables = [ScoreTable::open(&folders[0])?, ScoreTable::open(&folders[1])?];
    let ids = [tables[0].train_ids()?, tables[1].train_ids()?];
    let mut counts = [1.0; 2];
    for (count, folder) in counts.iter_mut().zip(&folders) {
        let run = RunFolder::open_complete(folder, "scores")?;
        *count = run.manifest().progress["n_train"].as_f64().unwrap_or(1.0).max(1.0);
    }
    let mut queries = Vec::new();
    for query in QueryRow::read_all(&folders[1].join("queries.parquet"))? {
        let part = |stage: usize| -> Result<Part> {
            Ok(Part::of(&tables[stage].column(&query.query_id)?, &ids[stage], counts[stage]))
        };
        let stages = [part(0)?, part(1)?];
        queries.push(Query { id: query.query_id, measurement: query.measurement, stages });
    }
    Ok(Summary { queries })
}

impl Part {
    fn of(scores: &[f32], ids: &[String], n: f64) -> Self {
        let effect = |x: &f32| f64::from(*x) / n;
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
        Self {
            mass: scores.iter().map(|x| effect(x).abs()).sum(),
            positive: scores.iter().map(|x| effect(x).max(0.0)).sum(),
            best: best.map(|i| (ids[i].clone(), effect(&scores[i]))),
        }
    }

    fn json(&self) -> Value {
        let best = self.best.as_ref().map(|(id, effect)| json!({ "train_id": id, "effect": effect }));
        json!({ "mass": self.mass, "positive": self.positive, "strongest": best })
    }
}

impl Query {
    /// The part of the mass that is of pre-training.
    fn share(&self) -> f64 {
        let [first, second] = &self.stages;
        first.mass / (first.mass + second.mass).max(f64::MIN_POSITIVE)
    }
}

impl Summary {
    /// The part of the influence on each query that is of pre-training.
    pub fn shares(&self) -> Vec<f64> {
        self.queries.iter().map(Query::share).collect()
    }

    /// A line per query.
    pub fn table(&self) -> Vec<Vec<String>> {
        let head = ["query", "f", "of pre-training", "strongest there", "I/N", "strongest in fine-tuning", "I/N"];
        let mut table = vec![head.map(str::to_owned).to_vec()];
        for query in &self.queries {
            let mut row =
                vec![query.id.clone(), format!("{:.4}", query.measurement), format!("{:.1} %", 100.0 * query.share())];
            for part in &query.stages {
                let (id, effect) = part.best.clone().unwrap_or_default();
                row.extend([id, format!("{effect:+.2e}")]);
            }
            table.push(row);
        }
        table
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let query = |q: &Query| {
            json!({
                "query": q.id,
                "measurement": q.measurement,
                "share_of_pretraining": q.share(),
                "pretraining": q.stages[0].json(),
                "finetuning": q.stages[1].json(),
            })
        };
        self.queries.iter().map(query).collect()
    }
}
