//! Methods that are products of prepared queries with the gradients of train examples: pass after pass over checkpoints and
//! groups of layers, each for all methods together.

use std::collections::BTreeMap;

use etymon_attribution::{
    Parts, Queries, QueryValue, Rank, Ranked, ScoreSink, SquaredNorm, Tee, TopK, Wanted, behind, score_all,
};
use etymon_curvature::Preconditioner;
use etymon_data::ExampleIndex;
use etymon_model::{Model, Objective};
use etymon_store::RunFolder;
use etymon_tensor::Backend;

use super::checkpoints::{Checkpoint, Pass, passes};
use super::config::rank;
use super::earlier::{Adding, Earlier};
use super::job::{Clock, Job, Progress, Scored};
use super::rows::{Known, add_parts};
use super::share::{Share, Sharing};
use super::solver::{inverse, precondition};
use super::tables::{Sums, TablePlan, Tables, layers_done};
use crate::args::PerToken;
use crate::error::Result;
use crate::method::{Metric, ScoreMethod};
use crate::open::Work;

/// The methods of a job that share their passes.
pub struct Gradients<'a> {
    job: &'a Job<'a>,
    checkpoints: Vec<Checkpoint>,
    /// Methods whose queries are prepared; the columns of a block are theirs, one after the other.
    bases: Vec<ScoreMethod>,
    /// Norms in the columns after these.
    metrics: Vec<Metric>,
    /// One per method of the job.
    shares: Vec<Share>,
    /// Names of the layers of all checkpoints.
    names: Vec<String>,
}

/// What a pass multiplies with.
struct Prepared {
    sets: Vec<Queries<Work>>,
    norms: Vec<SquaredNorm<Work>>,
}

impl<'a> Gradients<'a> {
    /// Finds out what the methods share.
    pub fn new(job: &'a Job<'a>, checkpoints: Vec<Checkpoint>) -> Result<Self> {
        let (mut bases, mut metrics) = (Vec::new(), Vec::new());
        for &method in job.methods {
            if job.args.scores_selves(method) {
                include(&mut metrics, method.metric());
            } else {
                include(&mut bases, Some(method.base()));
                include(&mut metrics, method.divided_by());
            }
        }
        let names = |checkpoint: &Checkpoint| {
            job.opened.model.layers().iter().map(|l| checkpoint.name_of(&l.name)).collect::<Vec<_>>()
        };
        let names = checkpoints.iter().flat_map(names).collect();
        let mut gradients = Self { job, checkpoints, bases, metrics, shares: Vec::new(), names };
        gradients.shares = job.methods.iter().map(|&method| gradients.share(method)).collect::<Result<_>>()?;
        Ok(gradients)
    }

    /// The share of a method in the blocks.
    fn share(&self, method: ScoreMethod) -> Result<Share> {
        let (q, norms) = (self.job.queries.len(), self.n_queries());
        let place = |metric: Option<Metric>| self.metrics.iter().position(|&m| Some(m) == metric).map(|i| norms + i);
        if self.job.args.scores_selves(method) {
            let column = place(method.metric()).unwrap_or(norms);
            let (columns, ids) = (column..column + 1, vec!["self".to_owned()]);
            return Ok(Share { ids, columns, norm: None, factors: None, is_norm: true });
        }
        let first = q * self.bases.iter().position(|&base| base == method.base()).unwrap_or(0);
        let factors = (method == ScoreMethod::GradCos).then(|| self.inverse_norms()).transpose()?;
        let norm = place(method.divided_by());
        Ok(Share { ids: self.job.ids(), columns: first..first + q, norm, factors, is_norm: false })
    }

    /// Columns of queries in a block.
    fn n_queries(&self) -> usize {
        self.bases.len() * self.job.queries.len()
    }

    /// 1 / ‖∇f‖ of each query.
    fn inverse_norms(&self) -> Result<Vec<f64>> {
        let job = self.job;
        let mut squares = vec![0.0; job.queries.len()];
        for layers in job.choice.groups.iter() {
            let model = job.opened.model.with_layers(layers);
            let norm = SquaredNorm::new(&model, Preconditioner::Identity)?;
            let part =
                norm.of(&model, job.queries, Objective::Measurement(job.args.measurement.into()), job.limits())?;
            squares.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        Ok(squares.into_iter().map(|x| if x > 0.0 { x.sqrt().recip() } else { 0.0 }).collect())
    }

    /// Scores into the folders of the methods; the first one's manifest keeps what is needed to resume.
    pub fn run(&self, runs: &mut [RunFolder], clock: &mut Clock) -> Result<Scored> {
        let mut tops: Vec<TopK> = self.shares.iter().map(|s| TopK::new(self.job.args.top, s.ids.len())).collect();
        let (n_layers, groups) = (self.job.opened.model.layers().len(), &self.job.choice.groups);
        let all = 0..n_layers;
        let (mut rows, mut values, mut whole) = (0, Vec::new(), None);
        for pass in passes(self.checkpoints.len(), n_layers, groups, layers_done(&runs[0])) {
            let model = self.model(&pass)?;
            model.backend().release_memory();
            let prepared = self.prepare(&model)?;
            clock.lap("queries");
            rows = self.pass(runs, &model, &pass, &prepared, &mut tops)?;
            clock.lap("scores");
            values = prepared.sets.first().map_or(values, |queries| queries.values.clone());
            whole = (self.checkpoints.len() == 1 && pass.layers == all).then_some(prepared);
        }
        let ranked: Vec<Vec<Ranked>> = tops.into_iter().map(TopK::finish).collect();
        let mut known = self.parts_of_tops(&ranked, whole)?;
        for (((run, share), ranked), known) in runs.iter().zip(&self.shares).zip(&ranked).zip(&mut known) {
            share.complete(known);
            let selves = [QueryValue { id: "self".to_owned(), measurement: 0.0 }];
            self.job.write_small(run, if share.is_norm { &selves } else { &values }, ranked, known)?;
        }
        clock.lap("top");
        Ok(Scored { rows, layers: self.names.clone() })
    }

    /// The model of a pass.
    fn model(&self, pass: &Pass) -> Result<Model<Work>> {
        let model = self.checkpoints[pass.checkpoint].model(self.job.args, self.job.opened)?;
        Ok(model.with_layers(pass.layers.clone()))
    }

    /// Queries and norms, ready for the layers of a model.
    fn prepare(&self, model: &Model<Work>) -> Result<Prepared> {
        let sets = self.bases.iter().map(|&base| self.queries(model, base)).collect::<Result<_>>()?;
        let norm = |&metric: &Metric| {
            let factors = if metric == Metric::Identity { None } else { self.job.factors(model)? };
            let curvature = if metric == Metric::Kfac { ScoreMethod::Kfac } else { ScoreMethod::Ekfac };
            Ok(SquaredNorm::new(model, self.job.preconditioner(factors.as_ref(), curvature))?)
        };
        Ok(Prepared { sets, norms: self.metrics.iter().map(norm).collect::<Result<_>>()? })
    }

    /// The queries, prepared by a method.
    fn queries(&self, model: &Model<Work>, method: ScoreMethod) -> Result<Queries<Work>> {
        let job = self.job;
        job.context.reporter.say(format!("  preparing {} queries for {}", job.queries.len(), method.name()));
        let factors = if method.takes_factors() { job.factors(model)? } else { None };
        let (measurement, rank) = (job.args.measurement.into(), rank(job.args));
        let preconditioner = job.preconditioner(factors.as_ref(), method);
        if let Some(given) = job.given {
            let (queries, is_ready) = given.queries()?;
            return if is_ready { Ok(queries.clone()) } else { self.solve(model, method, queries, preconditioner) };
        }
        if method.solves() {
            let plain = Preconditioner::Identity;
            let queries = Queries::prepare(model, job.queries, measurement, plain, Rank::Full, job.limits())?;
            return self.solve(model, method, &queries, preconditioner);
        }
        Ok(Queries::prepare(model, job.queries, measurement, preconditioner, rank, job.limits())?)
    }

    /// The queries, multiplied with an inverse by products over some train examples.
    fn solve(
        &self,
        model: &Model<Work>,
        method: ScoreMethod,
        queries: &Queries<Work>,
        preconditioner: Preconditioner<'_>,
    ) -> Result<Queries<Work>> {
        let job = self.job;
        let batches = if method.solves() { job.solve_batches(method)? } else { Vec::new() };
        let inverse = inverse((job, method), model, &batches, preconditioner)?;
        precondition(job, method, model, (queries, &inverse), rank(job.args))
    }

    /// One pass over the train set; returns the rows of the tables. The scores of the passes before are added, so that those
    /// of the last one are of all layers: only then they are shared out.
    fn pass(
        &self,
        runs: &mut [RunFolder],
        model: &Model<Work>,
        pass: &Pass,
        prepared: &Prepared,
        tops: &mut [TopK],
    ) -> Result<u64> {
        let job = self.job;
        let is_last = pass.end == self.names.len();
        let parts = Parts { layers: job.args.per_layer, tokens: job.args.per_token == Some(PerToken::All) };
        let start = pass.end - pass.layers.len();
        let earlier = Earlier::open(runs[0].path(), start, parts)?;
        let plans = if is_last { self.last_plans(runs, parts) } else { vec![self.plan_of_sums(&runs[0], pass, parts)] };
        let sums = Sums { layers: &self.names[..pass.end], of: self.names.len() };
        let mut tables = Tables::open(&mut runs[0], plans, sums, job.opened.encoder.as_ref())?;
        let done = tables.done();
        if done.scores > 0 {
            job.context.reporter.say(format!("  resuming after {} rows", done.scores));
            if is_last {
                job.replay(&tables, tops)?;
            }
        }
        let earlier = earlier.as_ref().map(|earlier| earlier.rows(done)).transpose()?;
        let task = job.task(done.scores);
        let (rest, weight) = (job.examples(done.scores), self.checkpoints[pass.checkpoint].weight as f32);
        let (all, queries) = (self.n_queries() + self.metrics.len(), self.n_queries());
        let mut sharing;
        let writer: &mut (dyn ScoreSink + Send) = if is_last {
            sharing = Sharing { shares: &self.shares, all, queries, tables: &mut tables, tops };
            &mut sharing
        } else {
            &mut tables
        };
        let sets: Vec<&Queries<Work>> = prepared.sets.iter().collect();
        let wanted = Wanted { queries: &sets, norms: &prepared.norms };
        behind(writer, |writer| {
            let mut progress = Progress(&task);
            let mut both = Tee(vec![writer, &mut progress]);
            let mut sink = Adding { earlier, weight, sink: &mut both };
            score_all(model, wanted, rest, job.limits(), parts, &mut sink)
        })?;
        task.finish();
        tables.finish()
    }

    /// The tables of the methods.
    fn last_plans(&self, runs: &[RunFolder], parts: Parts) -> Vec<TablePlan> {
        let plan = |(share, run): (&Share, &RunFolder)| TablePlan {
            folder: run.path().to_owned(),
            columns: share.ids.clone(),
            parts: (share.parts(parts), share.ids.len()),
        };
        self.shares.iter().zip(runs).map(plan).collect()
    }

    /// The table of the sums up to a pass: the columns of the blocks, whatever they will be.
    fn plan_of_sums(&self, run: &RunFolder, pass: &Pass, parts: Parts) -> TablePlan {
        let queries = self.n_queries();
        TablePlan {
            folder: run.file(&super::tables::sums_folder(pass.end)),
            columns: (0..queries + self.metrics.len()).map(|i| format!("column {i}")).collect(),
            parts: (parts, queries),
        }
    }

    /// The parts of the scores of the top rows, per method and query, where they are asked for. `whole` is what was prepared
    /// for all layers, if it is still at hand.
    fn parts_of_tops(
        &self,
        ranked: &[Vec<Ranked>],
        mut whole: Option<Prepared>,
    ) -> Result<Vec<Vec<BTreeMap<ExampleIndex, Known>>>> {
        let mut known: Vec<Vec<_>> =
            ranked.iter().map(|lists| lists.iter().map(|_| BTreeMap::new()).collect()).collect();
        let args = self.job.args;
        let parts = Parts { layers: args.per_layer, tokens: args.per_token.is_some() };
        if parts == Parts::default() {
            return Ok(known);
        }
        let passes = passes(self.checkpoints.len(), self.job.opened.model.layers().len(), &self.job.choice.groups, 0);
        let lists = self.shares.iter().filter(|s| !s.is_norm).map(|s| s.ids.len()).sum::<usize>();
        let task = self.job.context.reporter.task("top rows", (lists * passes.len()) as u64, 0, "queries");
        for pass in &passes {
            let model = self.model(pass)?;
            let prepared = whole.take().map_or_else(|| self.prepare(&model), Ok)?;
            let weight = self.checkpoints[pass.checkpoint].weight as f32;
            for (i, share) in self.shares.iter().enumerate().filter(|(_, share)| !share.is_norm) {
                let set = &prepared.sets[share.columns.start / share.ids.len().max(1)];
                let norms =
                    share.norm.map_or(&[][..], |norm| std::slice::from_ref(&prepared.norms[norm - self.n_queries()]));
                for (q, (lists, known)) in ranked[i].iter().zip(&mut known[i]).enumerate() {
                    let query = set.only(model.backend(), q)?;
                    let wanted = Wanted { queries: &[&query], norms };
                    add_parts(&model, wanted, lists, (parts, weight), self.job.limits(), known)?;
                    task.advance(1, 0);
                }
            }
        }
        task.finish();
        Ok(known)
    }
}

/// Adds an item that is not there yet.
fn include<T: PartialEq>(list: &mut Vec<T>, item: Option<T>) {
    if let Some(item) = item.filter(|item| !list.contains(item)) {
        list.push(item);
    }
}
