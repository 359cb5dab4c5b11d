//! Responses of many train examples: one small file for each, so that an interrupted run goes on.

use std::path::{Path, PathBuf};

use etymon_data::{Batch, Example, Padding};
use etymon_model::{Consumer, Measurement, Model, Objective};
use etymon_store::{read_json, write_json_atomic};
use etymon_tensor::Backend;
use etymon_train::Workers;
use serde::{Deserialize, Serialize};

use super::minimise::Minimiser;
use super::objective::Proximal;
use super::{PbrfError, Result};

/// What moving towards θˢ(ε) of one train example did to the queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The train example.
    pub train_id: String,
    /// Gradients of the objective that were computed.
    pub evaluations: u64,
    /// As [`Solution::residual`](super::Solution).
    pub residual: f64,
    /// Whether the minimiser reached its tolerance.
    pub converged: bool,
    /// `[Q]` f(θˢ(ε)) − f(θˢ) of each query, in the order of the queries.
    pub changes: Vec<f64>,
}

/// Told after each train example.
pub type Change<'a> = dyn Fn(&Response) + Sync + 'a;

/// A folder of responses, all of one objective, minimiser, ε and list of queries: what is there is taken for an answer.
#[derive(Clone, Debug)]
pub struct ResponseFolder {
    /// Where the files are.
    pub path: PathBuf,
    /// ε.
    pub epsilon: f64,
    /// How objectives are minimised.
    pub by: Minimiser,
    /// f.
    pub measurement: Measurement,
}

impl ResponseFolder {
    /// The responses of the train examples `wanted`, in their order: those that are there are read, the others computed
    /// by `workers` threads, each with a train example of its own. No result depends on `workers`.
    ///
    /// # Errors
    /// What the model, the minimiser or the disk refuses. Responses that were finished before are kept.
    pub fn respond<B: Backend>(
        &self,
        proximal: &Proximal<B>,
        wanted: &[Example],
        queries: &[Example],
        workers: usize,
        told: &Change<'_>,
    ) -> Result<Vec<Response>> {
        let before = single(|| values(proximal.base(), queries, self.measurement))?;
        Workers { runs: workers, threads: 1 }.run(wanted.len(), |i| {
            told(&self.one(proximal, &wanted[i], queries, &before)?);
            Ok::<_, PbrfError>(())
        })?;
        wanted.iter().map(|e| Ok(read_json(&self.file(e))?)).collect()
    }

    fn one<B: Backend>(
        &self,
        proximal: &Proximal<B>,
        example: &Example,
        queries: &[Example],
        before: &[f64],
    ) -> Result<Response> {
        let file = self.file(example);
        if file.exists() {
            return Ok(read_json(&file)?);
        }
        let solution = proximal.minimise(example, self.epsilon, self.by)?;
        let after = values(&solution.model, queries, self.measurement)?;
        let response = Response {
            train_id: example.id.clone(),
            evaluations: solution.evaluations,
            residual: solution.residual,
            converged: solution.converged,
            changes: after.iter().zip(before).map(|(after, before)| after - before).collect(),
        };
        write_json_atomic(&file, &response)?;
        Ok(response)
    }

    fn file(&self, example: &Example) -> PathBuf {
        let name = format!("{:07}.json", example.index.0);
        Path::new(&self.path).join(name)
    }
}

/// On a pool of one thread: sums are then made in one order, and workers do not wait for each other.
fn single<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build()?.install(work)
}

/// f(θ) of each query.
fn values<B: Backend>(model: &Model<B>, queries: &[Example], measurement: Measurement) -> Result<Vec<f64>> {
    let objective = Objective::Measurement(measurement);
    let value = |query: &Example| {
        let batch = Batch::stack(std::slice::from_ref(query), Padding::None)?;
        Ok(model.run(&batch, objective, Consumer::Values)?.iter().sum())
    };
    queries.iter().map(value).collect()
}
