//! `etymon score`.

mod check;
mod checkpoints;
mod config;
mod earlier;
mod gradients;
pub mod group;
mod hessian;
mod job;
mod load;
mod other;
mod rows;
mod share;
mod solver;
pub mod stages;
mod tables;

use std::collections::BTreeMap;

use etymon_data::{CandidateFilter, Corpus, Example, ExampleIndex, union_of};
use etymon_store::{Opened as Folder, RunFolder, require_space};
use serde_json::{Value, json};

use self::checkpoints::Checkpoint;
use self::config::Spec;
use self::gradients::Gradients;
use self::job::{Clock, Job, Scored};
use self::load::With;
use self::tables::UNFINISHED;
use super::plan::Planned;
use super::{CommandResult, Context, Outcome};
use crate::args::ScoreArgs;
use crate::choice::Choice;
use crate::error::{CliError, Result};
use crate::estimate::Phase;
use crate::method::{ScoreMethod, Way};
use crate::open::{Counted, Opened, count_examples, open_corpus, open_model};

/// Methods that share their passes, and how they stay within memory.
struct Plan {
    methods: Vec<ScoreMethod>,
    choice: Choice,
    phases: Vec<Phase>,
}

/// Everything that is opened before the work.
struct Inputs {
    methods: Vec<ScoreMethod>,
    opened: Opened,
    corpus: Corpus,
    queries: Vec<Example>,
    counted: Counted,
}

impl Inputs {
    fn open(args: &ScoreArgs) -> Result<Self> {
        let methods = check::methods(args)?;
        let mut opened = open_model(&args.model, args.pass.dtype.precision())?;
        check::factors(args, &methods, &mut opened.model)?;
        let corpus = open_corpus(&opened, &args.data)?;
        let queries = check::queries(args, &methods, &opened)?;
        check::filter(args)?;
        let counted = count_examples(&opened.model, &corpus, args.data.max_rows)?;
        Ok(Self { methods, opened, corpus, queries, counted })
    }

    /// The methods by what they share.
    fn plans(&self, args: &ScoreArgs, with: With) -> Result<Vec<Plan>> {
        let mut by_way: BTreeMap<(Way, Option<ScoreMethod>), Vec<ScoreMethod>> = BTreeMap::new();
        for &method in &self.methods {
            let alone = (method.way() != Way::Gradients).then_some(method);
            by_way.entry((method.way(), alone)).or_default().push(method);
        }
        let plan = |methods: Vec<ScoreMethod>| {
            let (model, queries) = (&self.opened.model, &self.queries[..]);
            let (choice, phases) = load::estimate(args, &methods, model, &self.counted, queries, with)?;
            Ok(Plan { methods, choice, phases })
        };
        by_way.into_values().map(plan).collect()
    }

    /// What a plan does, on all rows.
    fn job<'a>(&'a self, args: &'a ScoreArgs, plan: &'a Plan, context: Context) -> Job<'a> {
        Job {
            args,
            context,
            opened: &self.opened,
            corpus: &self.corpus,
            counted: &self.counted,
            choice: &plan.choice,
            queries: &self.queries,
            candidates: None,
            methods: &plan.methods,
            given: None,
        }
    }
}

pub fn run(args: &ScoreArgs, context: Context) -> CommandResult {
    if !args.stage.stages.is_empty() {
        return stages::run(args, context);
    }
    let inputs = Inputs::open(args)?;
    let plans = inputs.plans(args, With::Examples)?;
    let spec = Spec::new(args, &inputs.methods, &inputs.opened.model, &inputs.corpus)?;
    require_space(&args.out.out, plans.iter().flat_map(|plan| &plan.phases).map(|p| p.disk).sum())?;
    let names: Vec<&str> = inputs.methods.iter().map(|m| m.name()).collect();
    context.reporter.say(format!("score {}: {}", names.join(", "), inputs.counted.describe()));
    let several = inputs.methods.len() > 1;
    let folder = if several { Some(open(args, &args.out.out, spec.of_folder())?) } else { None };
    let candidates = candidates(args, context, &inputs)?;
    let mut results = BTreeMap::new();
    for plan in &plans {
        let job = Job { candidates: candidates.as_deref(), ..inputs.job(args, plan, context) };
        for run in score(&job, &spec, several)? {
            results.insert(run.manifest().spec.config["method"].as_str().unwrap_or_default().to_owned(), result(&run));
        }
    }
    let Some(folder) = folder else { return Ok(Outcome::Done(results.into_values().next().unwrap_or_default())) };
    let folder = match folder {
        Folder::Created(run) | Folder::Resumed(run) => run.complete(BTreeMap::new())?,
        Folder::AlreadyComplete(run) => run,
    };
    context.reporter.say(format!("scores in {}", folder.path().display()));
    Ok(Outcome::Done(json!({ "scores": folder.path(), "methods": results })))
}

/// Scores the methods of a job, each into its folder.
fn score(job: &Job<'_>, spec: &Spec, several: bool) -> Result<Vec<RunFolder>> {
    let (args, reporter) = (job.args, job.context.reporter);
    let folder = |m: ScoreMethod| if several { args.out.out.join(m.name()) } else { args.out.out.clone() };
    let mut complete = Vec::new();
    let mut runs = Vec::new();
    for &method in job.methods {
        match open(args, &folder(method), spec.of_method(args, method)?)? {
            Folder::Created(run) | Folder::Resumed(run) => runs.push((method, run)),
            Folder::AlreadyComplete(run) => {
                reporter.say(format!("{} is complete already", run.path().display()));
                run.remove(UNFINISHED)?;
                complete.push(run);
            }
        }
    }
    if runs.is_empty() {
        return Ok(complete);
    }
    // The methods whose tables are there are not scored again.
    let (methods, mut runs): (Vec<ScoreMethod>, Vec<RunFolder>) = runs.into_iter().unzip();
    job.choice.say(reporter);
    let job = Job { methods: &methods, ..*job };
    require_same_methods(&mut runs[0], &methods)?;
    let mut clock = Clock::start();
    let scored = way(&job, &mut runs, &mut clock)?;
    let seconds = clock.stop();
    // The first one last: it vouches for the tables of the others until they are complete.
    for run in runs.into_iter().rev() {
        complete.push(finish(&job, run, &scored, &methods, seconds.clone())?);
    }
    Ok(complete)
}

/// Forgets what passes for other methods left behind: their sums have other columns.
fn require_same_methods(leader: &mut RunFolder, methods: &[ScoreMethod]) -> Result<()> {
    let names = json!(methods.iter().map(|m| m.name()).collect::<Vec<_>>());
    if leader.manifest().progress["passes_for"] != names {
        leader.remove(UNFINISHED)?;
        leader.update_progress(json!({ "passes_for": names }))?;
    }
    Ok(())
}

/// Scores by the way of the job's methods.
fn way(job: &Job<'_>, runs: &mut [RunFolder], clock: &mut Clock) -> Result<Scored> {
    match job.methods[0].way() {
        Way::Checkpoints => Gradients::new(job, checkpoints::list(job.args)?)?.run(runs, clock),
        Way::Gradients => Gradients::new(job, vec![Checkpoint::opened()])?.run(runs, clock),
        Way::Projections | Way::Log | Way::Features | Way::Texts => {
            let scored = other::run(job, &mut runs[0], job.methods[0])?;
            clock.lap("scores");
            Ok(scored)
        }
    }
}

fn finish(
    job: &Job<'_>,
    mut run: RunFolder,
    scored: &Scored,
    methods: &[ScoreMethod],
    seconds: BTreeMap<String, f64>,
) -> Result<RunFolder> {
    // What was noted for resuming stays: a crash before the last line must not lose the tables.
    let mut progress = run.manifest().progress.as_object().cloned().unwrap_or_default();
    progress.insert("rows".to_owned(), json!(scored.rows));
    progress.insert("n_train".to_owned(), json!(job.args.n_train.unwrap_or(job.counted.examples)));
    progress.insert("data".to_owned(), job.counted.json());
    progress.insert("layers".to_owned(), json!(scored.layers));
    let names: Vec<&str> = methods.iter().map(|m| m.name()).collect();
    progress.insert("passes_for".to_owned(), json!(names));
    run.update_progress(Value::Object(progress))?;
    let run = run.complete(seconds)?;
    run.remove(UNFINISHED)?;
    job.context.reporter.say(format!("scores in {}", run.path().display()));
    Ok(run)
}

fn open(args: &ScoreArgs, folder: &std::path::Path, spec: etymon_store::RunSpec) -> Result<Folder> {
    Ok(RunFolder::open_or_create(folder, spec, args.out.overwrite())?)
}

/// The rows that the filter keeps, if there is one.
fn candidates(args: &ScoreArgs, context: Context, inputs: &Inputs) -> Result<Option<Vec<ExampleIndex>>> {
    let Some(keep) = check::filter(args)? else { return Ok(None) };
    let most = args.data.max_rows.map_or(usize::MAX, |n| n as usize);
    let union = union_of(&CandidateFilter::tfidf(keep).within(most).select(&inputs.corpus, &inputs.queries)?);
    context.reporter.say(format!("  tfidf:{keep} keeps {} of {} rows", union.len(), inputs.counted.examples));
    Ok(Some(union))
}

/// Opens what a score would read, and counts what it would need.
pub fn plan(args: &ScoreArgs) -> Result<Planned> {
    if !args.stage.stages.is_empty() {
        let problem = "plan each stage by itself, with --model".to_owned();
        return Err(CliError::Usage { option: "--stages", problem });
    }
    let inputs = Inputs::open(args)?;
    let plans = inputs.plans(args, With::Examples)?;
    let choice = plans[0].choice.clone();
    let phases = plans.into_iter().flat_map(|plan| plan.phases).collect();
    Ok(Planned { opened: inputs.opened, corpus: inputs.corpus, choice, phases })
}

fn result(run: &RunFolder) -> Value {
    let manifest = run.manifest();
    json!({
        "scores": run.path(),
        "rows": manifest.progress["rows"],
        "n_train": manifest.progress["n_train"],
        "data": manifest.progress["data"],
        "seconds": manifest.timings,
    })
}
