//! The work of `etymon score`: pass after pass over the groups of layers, then the small tables.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use etymon_attribution::{Parts, Queries, QueryValue, Rank, Ranked, ScoreBlock, ScoreSink, Tee, TopK, behind};
use etymon_attribution::{score, self_influence};
use etymon_curvature::{Factors, Preconditioner, Spectrum};
use etymon_data::{Batch, BatchLimits, Batches, Corpus, DataError, Example, ExampleIndex, Padding, Spread};
use etymon_model::Model;
use etymon_store::RunFolder;
use etymon_tensor::Backend;

use super::Context;
use super::score::{measurement, rank};
use super::solver::solver;
use crate::args::{PerToken, ScoreArgs, ScoreMethod};
use crate::choice::Choice;
use crate::earlier::{Adding, Earlier};
use crate::error::Result;
use crate::open::{Counted, Opened, Work};
use crate::progress::Task;
use crate::tables::{Known, Tables, add_parts, layers_done, replay, write_queries, write_top};

/// Everything that was opened and chosen for a score.
pub struct Job<'a> {
    pub args: &'a ScoreArgs,
    pub context: Context,
    pub opened: &'a Opened,
    pub corpus: &'a Corpus,
    pub counted: &'a Counted,
    pub choice: Choice,
    /// None for self-influence.
    pub queries: &'a [Example],
    /// The rows to score, if not all.
    pub candidates: Option<Vec<ExampleIndex>>,
    pub clock: Clock,
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
    fn lap(&mut self, phase: &str) {
        *self.seconds.entry(phase.to_owned()).or_default() += self.lap.elapsed().as_secs_f64();
        self.lap = Instant::now();
    }

    pub fn stop(mut self) -> BTreeMap<String, f64> {
        self.seconds.insert("total".to_owned(), self.started.elapsed().as_secs_f64());
        self.seconds
    }
}

impl Job<'_> {
    /// Scores into the folder; returns the rows.
    pub fn run(&mut self, run: &mut RunFolder) -> Result<u64> {
        let mut top = TopK::new(self.args.top, self.queries.len().max(1));
        let all = 0..self.opened.model.layers().len();
        let mut values = vec![QueryValue { id: "self".to_owned(), measurement: 0.0 }];
        let (mut rows, mut whole) = (0, None);
        for layers in self.choice.groups.clone().after(layers_done(run)) {
            let model = self.opened.model.with_layers(layers.clone());
            model.backend().release_memory();
            let prepared = (!self.args.self_influence).then(|| self.prepare(&model)).transpose()?;
            self.clock.lap("queries");
            rows = self.pass(run, &model, &layers, prepared.as_ref(), &mut top)?;
            self.clock.lap("scores");
            values = prepared.as_ref().map_or(values, |queries| queries.values.clone());
            whole = prepared.filter(|_| layers == all);
        }
        write_queries(run.path(), self.opened, self.queries, &values)?;
        let ranked = top.finish();
        let known = self.parts_of_top(&ranked, whole)?;
        write_top(run.path(), self.opened, &values, &known, &ranked)?;
        self.clock.lap("top");
        Ok(rows)
    }

    /// The queries, ready for the layers of a model.
    fn prepare(&self, model: &Model<Work>) -> Result<Queries<Work>> {
        self.context.reporter.say(format!("  preparing {} queries", self.queries.len()));
        let factors = self.factors(model)?;
        let (measurement, rank) = (measurement(self.args), rank(self.args));
        let preconditioner = self.preconditioner(factors.as_ref());
        if self.args.method.solves() {
            let plain = Preconditioner::Identity;
            let queries = Queries::prepare(model, self.queries, measurement, plain, Rank::Full, self.limits())?;
            return self.solve(model, &queries, preconditioner);
        }
        Ok(Queries::prepare(model, self.queries, measurement, preconditioner, rank, self.limits())?)
    }

    /// The queries, multiplied with an inverse by products over some train examples.
    fn solve(
        &self,
        model: &Model<Work>,
        queries: &Queries<Work>,
        preconditioner: Preconditioner<'_>,
    ) -> Result<Queries<Work>> {
        let spread = Spread::new(self.args.solve.solve_rows as u64, self.counted.examples);
        let examples = self.examples_of_all().filter(|e| e.as_ref().map_or(true, |e| spread.contains(e.index.0)));
        let batches: Vec<Batch> = Batches::new(examples, self.limits())
            .map(|group| Ok(Batch::stack(&group?, Padding::None)?))
            .collect::<Result<_>>()?;
        let task = self.context.reporter.task("solving", queries.len() as u64, 0, "queries");
        let inverse = solver(self.args, model, &batches, preconditioner)?;
        let solved = queries.precondition(model, inverse.as_ref(), rank(self.args), |_| task.advance(1, 0))?;
        task.finish();
        Ok(solved)
    }

    fn factors(&self, model: &Model<Work>) -> Result<Option<Factors>> {
        let folder = self.args.factors.as_ref().filter(|_| self.args.method.takes_factors());
        Ok(folder.map(|folder| Factors::open(folder, model.layers())).transpose()?)
    }

    fn preconditioner<'f>(&self, factors: Option<&'f Factors>) -> Preconditioner<'f> {
        let Some(factors) = factors else { return Preconditioner::Identity };
        let spectrum = if self.args.method == ScoreMethod::Kfac { Spectrum::Kronecker } else { Spectrum::Corrected };
        Preconditioner::Kronecker { factors, spectrum, damping: self.args.damping }
    }

    /// One pass over the train set for the layers of one group, of which `model` is; returns the rows of the table. The
    /// scores of the groups before are added, so that those of the last group are of all layers: `top` sees these.
    fn pass(
        &self,
        run: &mut RunFolder,
        model: &Model<Work>,
        layers: &Range<usize>,
        queries: Option<&Queries<Work>>,
        top: &mut TopK,
    ) -> Result<u64> {
        let specs = self.opened.model.layers();
        let parts = Parts { layers: self.args.per_layer, tokens: self.args.per_token == Some(PerToken::All) };
        let selves = || vec!["self".to_owned()];
        let ids = queries.map_or_else(selves, |queries| queries.values.iter().map(|v| v.id.clone()).collect());
        let earlier = Earlier::open(run.path(), layers.start, parts)?;
        let mut tables = Tables::open(run, &ids, specs, layers.end, parts, self.opened.encoder.as_ref())?;
        let done = tables.rows_done();
        if done > 0 {
            self.context.reporter.say(format!("  resuming after {done} rows"));
        }
        let is_last = layers.end == specs.len();
        if is_last && done > 0 {
            replay(tables.path(), self.examples(0), top)?;
        }
        let earlier = earlier.as_ref().map(|earlier| earlier.rows(tables.done())).transpose()?;
        let total = self.candidates.as_ref().map_or(self.counted.examples, |c| c.len() as u64);
        let task = self.context.reporter.task("scores", total, done, "rows");
        let factors = if queries.is_none() { self.factors(model)? } else { None };
        let mut progress = Progress(&task);
        let rest = self.examples(done);
        behind(&mut tables, |tables| {
            let mut sinks: Vec<&mut dyn ScoreSink> = vec![tables, &mut progress];
            if is_last {
                sinks.push(top);
            }
            let mut sink = Adding { earlier, sink: &mut Tee(sinks) };
            match queries {
                Some(queries) => score(model, queries, rest, self.limits(), parts, &mut sink),
                None => self_influence(model, self.preconditioner(factors.as_ref()), rest, self.limits(), &mut sink),
            }
        })?;
        task.finish();
        tables.finish()
    }

    /// The parts of the scores of the top rows, per query, where they are asked for. `whole` are the queries for all
    /// layers, if these are still at hand.
    fn parts_of_top(
        &self,
        ranked: &[Ranked],
        mut whole: Option<Queries<Work>>,
    ) -> Result<Vec<BTreeMap<ExampleIndex, Known>>> {
        let mut known: Vec<_> = ranked.iter().map(|_| BTreeMap::new()).collect();
        let wanted = Parts { layers: self.args.per_layer, tokens: self.args.per_token.is_some() };
        if wanted == Parts::default() {
            return Ok(known);
        }
        let total = (ranked.len() * self.choice.groups.len()) as u64;
        let task = self.context.reporter.task("top rows", total, 0, "queries");
        for layers in self.choice.groups.iter() {
            let model = self.opened.model.with_layers(layers);
            let queries = whole.take().map_or_else(|| self.prepare(&model), Ok)?;
            for (q, (lists, known)) in ranked.iter().zip(&mut known).enumerate() {
                add_parts(&model, &queries.only(model.backend(), q)?, lists, wanted, self.limits(), known)?;
                task.advance(1, 0);
            }
        }
        task.finish();
        Ok(known)
    }

    /// All rows of the data, up to --max-rows.
    fn examples_of_all(&self) -> impl Iterator<Item = std::result::Result<Example, DataError>> {
        self.corpus.examples().take(usize::try_from(self.counted.examples).unwrap_or(usize::MAX))
    }

    /// The examples to score, from row `first` of the table on.
    fn examples(&self, first: u64) -> Box<dyn Iterator<Item = std::result::Result<Example, DataError>> + Send + '_> {
        let most = self.args.data.max_rows.unwrap_or(u64::MAX);
        match &self.candidates {
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

    fn limits(&self) -> BatchLimits {
        BatchLimits { max_rows: self.choice.batch_rows, max_examples: usize::MAX }
    }
}

struct Progress<'a>(&'a Task);

impl ScoreSink for Progress<'_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        self.0.advance(block.examples.len() as u64, block.examples.iter().map(|e| e.n_tokens() as u64).sum());
        Ok(())
    }
}
