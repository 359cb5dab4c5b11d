//! What all ways of scoring share: the opened inputs, the rows to score, the small tables at the end.

use std::collections::BTreeMap;
use std::time::Instant;

use etymon_attribution::{Queries, QueryValue, ScoreBlock, ScoreSink, TopK};
use etymon_curvature::{Factors, Preconditioner, Spectrum};
use etymon_data::{Batch, BatchLimits, Corpus, DataError, Example, ExampleIndex, Spread};
use etymon_model::Model;
use etymon_store::RunFolder;

use super::rows::{Known, write_queries, write_top};
use super::solver::examples_per_step;
use super::tables::{Sums, TablePlan, Tables, replay};
use crate::args::ScoreArgs;
use crate::choice::Choice;
use crate::commands::Context;
use crate::error::Result;
use crate::method::ScoreMethod;
use crate::open::{Counted, Opened, Work, stacked};
use crate::progress::Task;

/// Everything that was opened and chosen for a score.
pub struct Job<'a> {
    pub args: &'a ScoreArgs,
    pub context: Context,
    pub opened: &'a Opened,
    pub corpus: &'a Corpus,
    pub counted: &'a Counted,
    pub choice: &'a Choice,
    /// None for self-influence alone.
    pub queries: &'a [Example],
    /// The rows to score, if not all.
    pub candidates: Option<&'a [ExampleIndex]>,
    /// The methods that are scored together.
    pub methods: &'a [ScoreMethod],
    /// Where the gradients of the queries come from, if not from the opened model.
    pub given: Option<&'a dyn Given>,
}

/// Gradients of queries that come from another model than the one whose examples are scored.
pub trait Given {
    /// −u of every query on the layers of the scored model, and whether the inverse is in it already.
    fn queries(&self) -> Result<(&Queries<Work>, bool)>;
}

/// What a way of scoring has done.
pub struct Scored {
    /// Rows of each table.
    pub rows: u64,
    /// Names of the layers of per-layer scores.
    pub layers: Vec<String>,
}

/// Seconds per phase, and in all.
pub struct Clock {
    started: Instant,
    lap: Instant,
    seconds: BTreeMap<String, f64>,
}

impl Clock {
    pub fn start() -> Self {
        Self { started: Instant::now(), lap: Instant::now(), seconds: BTreeMap::new() }
    }

    /// Ends a phase, or one more part of it.
    pub fn lap(&mut self, phase: &str) {
        *self.seconds.entry(phase.to_owned()).or_default() += self.lap.elapsed().as_secs_f64();
        self.lap = Instant::now();
    }

    pub fn stop(mut self) -> BTreeMap<String, f64> {
        self.seconds.insert("total".to_owned(), self.started.elapsed().as_secs_f64());
        self.seconds
    }
}

/// A stream of examples.
pub type Rows<'a> = Box<dyn Iterator<Item = std::result::Result<Example, DataError>> + Send + 'a>;

impl Job<'_> {
    /// Ids of the queries.
    pub fn ids(&self) -> Vec<String> {
        self.queries.iter().map(|q| q.id.clone()).collect()
    }

    /// Scores into one table, by a way that needs no sums over layers; `score` gets the rows that are not done, and a sink.
    /// Returns the rows of the table.
    pub fn simple(
        &self,
        run: &mut RunFolder,
        values: &[QueryValue],
        score: impl FnOnce(Rows<'_>, &mut dyn ScoreSink) -> Result<()>,
    ) -> Result<Scored> {
        let mut top = TopK::new(self.args.top, values.len());
        let plan = TablePlan {
            folder: run.path().to_owned(),
            columns: values.iter().map(|v| v.id.clone()).collect(),
            parts: Default::default(),
        };
        let mut tables = Tables::open(run, vec![plan], Sums { layers: &[], of: 0 }, self.opened.encoder.as_ref())?;
        let done = tables.done().scores;
        if done > 0 {
            self.context.reporter.say(format!("  resuming after {done} rows"));
            self.replay(&tables, std::slice::from_mut(&mut top))?;
        }
        let task = self.task(done);
        score(self.examples(done), &mut Keeping { tables: &mut tables, top: &mut top, progress: Progress(&task) })?;
        task.finish();
        let rows = tables.finish()?;
        self.write_small(run, values, &top.finish(), &[])?;
        Ok(Scored { rows, layers: Vec::new() })
    }

    /// Gives the rows that an earlier run has written to the tops, one per table.
    pub fn replay(&self, tables: &Tables<'_>, tops: &mut [TopK]) -> Result<()> {
        for (folder, top) in tables.folders().zip(tops) {
            replay(folder, self.examples(0), top)?;
        }
        Ok(())
    }

    /// The bar of a pass that begins after `done` rows.
    pub fn task(&self, done: u64) -> Task {
        let total = self.candidates.map_or(self.counted.examples, |c| c.len() as u64);
        self.context.reporter.task("scores", total, done, "rows")
    }

    /// Writes the tables of queries and top rows; `known` are, per query, the parts of scores, if there are any.
    pub fn write_small(
        &self,
        run: &RunFolder,
        values: &[QueryValue],
        ranked: &[etymon_attribution::Ranked],
        known: &[BTreeMap<ExampleIndex, Known>],
    ) -> Result<()> {
        write_queries(run.path(), self.opened, self.queries, values)?;
        write_top(run.path(), self.opened, values, known, ranked)
    }

    /// All rows of the data, up to --max-rows.
    pub fn examples_of_all(&self) -> impl Iterator<Item = std::result::Result<Example, DataError>> + Send + '_ {
        let most = usize::try_from(self.counted.examples).unwrap_or(usize::MAX);
        self.corpus.examples().on_this_thread().take(most)
    }

    /// The examples to score, from row `first` of the table on.
    pub fn examples(&self, first: u64) -> Rows<'_> {
        let most = self.args.data.max_rows.unwrap_or(u64::MAX);
        match self.candidates {
            None => {
                let stream = self.corpus.examples_from(ExampleIndex(first)).on_this_thread();
                Box::new(stream.take(usize::try_from(most.saturating_sub(first)).unwrap_or(usize::MAX)))
            }
            Some(all) => {
                let wanted = &all[(first as usize).min(all.len())..];
                let start = wanted.first().copied().unwrap_or(ExampleIndex(u64::MAX));
                let keep = move |e: &std::result::Result<Example, DataError>| match e {
                    Ok(example) => wanted.binary_search(&example.index).is_ok(),
                    Err(_) => true,
                };
                // After the last candidate, nothing more is read.
                Box::new(self.corpus.examples_from(start).on_this_thread().filter(keep).take(wanted.len()))
            }
        }
    }

    /// The batches of train examples that an inverse by products goes over: evenly spread, in steps of the method.
    pub fn solve_batches(&self, method: ScoreMethod) -> Result<Vec<Batch>> {
        let n = examples_per_step(self.args, method);
        let spread = Spread::new(self.args.solve.solve_rows as u64, self.counted.examples);
        let mut examples = self.examples_of_all().filter(|e| e.as_ref().map_or(true, |e| spread.contains(e.index.0)));
        let mut batches = Vec::new();
        loop {
            let step = examples.by_ref().take(n).collect::<std::result::Result<Vec<_>, _>>()?;
            if step.is_empty() {
                return Ok(batches);
            }
            batches.extend(stacked(step.into_iter().map(Ok), self.limits())?);
        }
    }

    /// The factors for the layers of a model, if they are given.
    pub fn factors(&self, model: &Model<Work>) -> Result<Option<Factors>> {
        let folder = self.args.factors.as_ref();
        Ok(folder.map(|folder| Factors::open(folder, model.layers())).transpose()?)
    }

    /// The damped view of factors that a method takes; the identity where there are none.
    pub fn preconditioner<'f>(&self, factors: Option<&'f Factors>, method: ScoreMethod) -> Preconditioner<'f> {
        let Some(factors) = factors else { return Preconditioner::Identity };
        let spectrum = if method == ScoreMethod::Kfac { Spectrum::Kronecker } else { Spectrum::Corrected };
        Preconditioner::Kronecker { factors, spectrum, damping: self.args.damping }
    }

    pub fn limits(&self) -> BatchLimits {
        BatchLimits { max_rows: self.choice.batch_rows, max_examples: usize::MAX }
    }
}

/// One table, its top, and the bar.
struct Keeping<'a, 't> {
    tables: &'a mut Tables<'t>,
    top: &'a mut TopK,
    progress: Progress<'a>,
}

impl ScoreSink for Keeping<'_, '_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        self.tables.block(block)?;
        self.top.block(block)?;
        self.progress.block(block)
    }
}

/// Moves a bar.
pub struct Progress<'a>(pub &'a Task);

impl ScoreSink for Progress<'_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        self.0.advance(block.examples.len() as u64, block.examples.iter().map(|e| e.n_tokens() as u64).sum());
        Ok(())
    }
}
