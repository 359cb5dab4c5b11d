//! `etymon group`.

use std::collections::BTreeMap;
use std::path::Path;

use etymon_attribution::{Queries, Rank, group_influence};
use etymon_curvature::Preconditioner;
use etymon_data::{Batch, Corpus, ExampleIndex};
use etymon_evaluate::names_in;
use etymon_store::{GroupRow, Opened as Folder, RunFolder, RunSpec, fingerprint};
use serde_json::{Value, json};

use super::Inputs;
use super::config::Spec;
use super::job::{Clock, Job};
use super::load::With;
use super::rows::write_queries;
use super::solver::{inverse, named, precondition, report};
use crate::args::{CurvatureArg, GroupArgs, ScoreArgs};
use crate::commands::{CommandResult, Context, Outcome, aligned, print};
use crate::error::{CliError, Result};
use crate::open::stacked;

/// Groups of each query that are printed.
const SHOWN: usize = 20;

/// The rows of each group, ascending, by its name.
type Groups = BTreeMap<String, Vec<ExampleIndex>>;

pub fn run(args: &GroupArgs, context: Context) -> CommandResult {
    if !args.method.inverts() {
        let problem = format!("{} is no inverse of the curvature, which groups need", args.method.name());
        return Err(CliError::Usage { option: "--method", problem });
    }
    if args.solve.curvature == CurvatureArg::Hessian {
        let problem = "groups take Gauss-Newton products over their examples: gauss-newton".to_owned();
        return Err(CliError::Usage { option: "--curvature", problem });
    }
    let score = args.score();
    let inputs = Inputs::open(&score)?;
    let groups = groups(args, &inputs.corpus)?;
    let plans = inputs.plans(&score, With::Groups)?;
    let spec = spec(args, &score, &inputs)?;
    let n_groups = groups.len();
    context.reporter.say(format!("{n_groups} groups, {} queries, {}", inputs.queries.len(), inputs.counted.describe()));
    let run = match RunFolder::open_or_create(&args.out.out, spec, args.out.overwrite())? {
        Folder::AlreadyComplete(run) => run,
        Folder::Created(run) | Folder::Resumed(run) => {
            let mut clock = Clock::start();
            let job = inputs.job(&score, &plans[0], context);
            influences(args, &job, &groups, &run, &mut clock)?;
            run.complete(clock.stop())?
        }
    };
    let rows = GroupRow::read_all(&run.file("groups.parquet"))?;
    let n_train = args.n_train.unwrap_or(inputs.counted.examples);
    if !context.global.json {
        aligned(&table(&rows, n_train)).iter().for_each(|line| print(line));
    }
    context.reporter.say(format!("groups.parquet in {}", run.path().display()));
    Ok(Outcome::Done(json!({
        "groups": rows.iter().map(row_json).collect::<Vec<_>>(),
        "n_train": n_train,
        "out": run.path(),
        "seconds": run.manifest().timings,
    })))
}

/// Prepares the queries, takes group after group, and writes the tables.
fn influences(args: &GroupArgs, job: &Job<'_>, groups: &Groups, run: &RunFolder, clock: &mut Clock) -> Result<()> {
    let (model, method) = (&job.opened.model, args.method);
    let factors = if method.takes_factors() { job.factors(model)? } else { None };
    let preconditioner = job.preconditioner(factors.as_ref(), method);
    let batches = if method.solves() { job.solve_batches(method)? } else { Vec::new() };
    let inverse = inverse((job, method), model, &batches, preconditioner)?;
    let measurement = args.measurement.into();
    let plain = Preconditioner::Identity;
    let plain = Queries::prepare(model, job.queries, measurement, plain, Rank::Full, job.limits())?;
    let queries = precondition(job, method, model, (&plain, &inverse), Rank::Full)?;
    clock.lap("queries");
    let task = job.context.reporter.task("groups", groups.len() as u64, 0, "groups");
    let n_train = args.n_train.unwrap_or(job.counted.examples) as usize;
    let mut rows = Vec::with_capacity(groups.len() * queries.len());
    for (name, members) in groups {
        let members = Job { candidates: Some(members), ..*job };
        let batches = stacked(members.examples(0), job.limits())?;
        let examples = batches.iter().map(Batch::n_examples).sum::<usize>() as u32;
        let found = group_influence(model, &queries, &batches, &inverse, n_train);
        let found = found.map_err(|source| named((job.args, method), source))?;
        rows.extend(queries.values.iter().zip(found).map(|(query, found)| GroupRow {
            group: name.clone(),
            examples,
            query_id: query.id.clone(),
            first: found.first,
            second: found.second,
        }));
        task.advance(1, 0);
    }
    task.finish();
    let names: Vec<String> = groups.keys().map(|name| format!("group `{name}`")).collect();
    report(job.context, (job.args, method), &names, &inverse.take_solved());
    clock.lap("groups");
    write_queries(run.path(), job.opened, job.queries, &queries.values)?;
    Ok(GroupRow::write_all(&run.file("groups.parquet"), &rows)?)
}

/// Everything that determines the table.
fn spec(args: &GroupArgs, score: &ScoreArgs, inputs: &Inputs) -> Result<RunSpec> {
    let spec = Spec::new(score, &inputs.methods, &inputs.opened.model, &inputs.corpus)?;
    let mut spec = RunSpec { kind: "groups".to_owned(), ..spec.of_method(score, args.method)? };
    if let Some(fields) = spec.config.as_object_mut() {
        fields.insert("by".to_owned(), json!(args.by));
        fields.insert("ids".to_owned(), json!(args.ids));
    }
    for (i, path) in args.ids.iter().enumerate() {
        spec.inputs.insert(format!("ids/{i:05}"), fingerprint(path)?);
    }
    Ok(spec)
}

/// Reads the train set once for the members of the groups.
fn groups(args: &GroupArgs, corpus: &Corpus) -> Result<Groups> {
    let listed = listed(&args.ids)?;
    let mut groups: Groups = listed.values().flatten().map(|name| (name.clone(), Vec::new())).collect();
    let mut found = 0;
    for example in corpus.examples().take(args.data.max_rows.map_or(usize::MAX, |n| n as usize)) {
        let example = example?;
        let names = match &args.by {
            Some(column) => example.metadata.get(column).map(names_in).unwrap_or_default(),
            None => listed.get(&example.id).cloned().unwrap_or_default(),
        };
        found += usize::from(!names.is_empty());
        for name in names {
            let members = groups.entry(name).or_default();
            if members.last() != Some(&example.index) {
                members.push(example.index);
            }
        }
    }
    if let Some(column) = args.by.as_ref().filter(|_| groups.is_empty()) {
        let problem = format!("no row of the training data has a value in the column `{column}`");
        return Err(CliError::Usage { option: "--by", problem });
    }
    if found < listed.len() {
        let problem = format!("{} of {} ids are no rows of the training data", listed.len() - found, listed.len());
        return Err(CliError::Usage { option: "--ids", problem });
    }
    Ok(groups)
}

/// The names of the groups of each train id, from files with an id per line.
fn listed(files: &[std::path::PathBuf]) -> Result<BTreeMap<String, Vec<String>>> {
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let ids = read_lines(path)?;
        let usage = |problem| CliError::Usage { option: "--ids", problem };
        if ids.is_empty() {
            return Err(usage(format!("{} has no id", path.display())));
        }
        if listed.values().flatten().any(|known| *known == name) {
            return Err(usage(format!("two files have the name `{name}`, which names their groups")));
        }
        ids.into_iter().for_each(|id| listed.entry(id).or_default().push(name.clone()));
    }
    Ok(listed)
}

/// The lines of a file that are not empty, without white space around them.
fn read_lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|source| {
        let problem = format!("{} cannot be read: {source}", path.display());
        CliError::Usage { option: "--ids", problem }
    })?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn row_json(row: &GroupRow) -> Value {
    json!({
        "group": row.group, "examples": row.examples, "query": row.query_id, "first": row.first, "second": row.second,
    })
}

/// Per query the groups with the largest effect of second order, positive or negative.
fn table(rows: &[GroupRow], n_train: u64) -> Vec<Vec<String>> {
    let mut queries: Vec<&str> = Vec::new();
    rows.iter().map(|row| row.query_id.as_str()).for_each(|q| {
        if !queries.contains(&q) {
            queries.push(q);
        }
    });
    let head = ["query", "group", "rows", "first order", "second order", "f without it"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for query in queries {
        let mut of_query: Vec<&GroupRow> = rows.iter().filter(|row| row.query_id == query).collect();
        of_query.sort_by(|a, b| b.second.abs().total_cmp(&a.second.abs()));
        let left = of_query.len().saturating_sub(SHOWN);
        for row in of_query.into_iter().take(SHOWN) {
            let figures = [row.first, row.second].map(|x| format!("{x:.4}"));
            let change = format!("{:+.3e}", -row.second / n_train as f64);
            let names = vec![query.to_owned(), row.group.clone(), row.examples.to_string()];
            table.push([names, figures.to_vec(), vec![change]].concat());
        }
        if left > 0 {
            table.push(vec![query.to_owned(), format!("({left} more)")]);
        }
    }
    table
}
