//! `etymon evaluate tail-patch`.

use etymon_data::{BatchLimits, Example};
use etymon_evaluate::plot::bars;
use etymon_evaluate::statistics::bootstrap_mean;
use etymon_evaluate::{Interval, Patch, Stream, draw, tail_patch, top};
use etymon_model::Objective;
use etymon_train::evaluate;
use serde_json::json;

use super::super::{CommandResult, Context};
use super::ground::{Ground, trained_model};
use super::verdict::{Verdict, check_out, seconds, shown};
use crate::args::TailPatchArgs;
use crate::error::{CliError, Result};

pub fn run(args: &TailPatchArgs, context: Context) -> CommandResult {
    check_out(&args.out, "tail-patch")?;
    if !(args.lr > 0.0 && args.lr.is_finite()) {
        return Err(CliError::Usage { option: "--lr", problem: format!("must be > 0, is {}", args.lr) });
    }
    if !args.truth.stages.is_empty() {
        return Err(CliError::Usage { option: "--stages", problem: "a step on one model has one stage".to_owned() });
    }
    let seed = context.global.seed.unwrap_or(0);
    let ground = Ground::open(&args.truth, &args.out.out, context)?;
    let model = trained_model(&ground.job, args.model.as_ref())?;
    let (n, rows) = (ground.train.len(), ground.plan.micro_batch_rows);
    let limits = BatchLimits { max_rows: rows, max_examples: usize::MAX };
    let before = evaluate(&model, &ground.queries, Objective::Measurement(ground.measurement), limits)?;
    let patch = Patch { learning_rate: args.lr, micro_batch_rows: rows };
    let step = |q: usize, rows: &[usize]| -> Result<f64> {
        let examples: Vec<Example> = rows.iter().map(|&i| ground.train[i].clone()).collect();
        Ok(tail_patch(&model, &ground.queries[q], before[q], ground.measurement, examples, patch)?)
    };
    let controls = (0..args.controls as u64)
        .map(|r| Ok(draw(Stream::Controls, seed, r, n, args.k)?))
        .collect::<Result<Vec<_>>>()?;
    let steps = ground.queries.len() * (ground.methods.len() + controls.len());
    let bar = context.reporter.task("tail-patch", steps as u64, 0, "steps");
    let mut by_chance = Vec::new();
    for q in 0..ground.queries.len() {
        let changes = controls.iter().map(|rows| step(q, rows)).collect::<Result<Vec<f64>>>()?;
        by_chance.push(changes.iter().sum::<f64>() / changes.len() as f64);
        bar.advance(controls.len() as u64, 0);
    }

    let mut table = vec![["step on", "rise of f", "over random", "seconds"].map(str::to_owned).to_vec()];
    let (mut methods, mut plotted) = (Vec::new(), Vec::<(String, Interval)>::new());
    let chance = bootstrap_mean(&by_chance, seed);
    table.push(vec!["(random)".to_owned(), shown(chance), "-".to_owned(), "-".to_owned()]);
    plotted.extend(chance.map(|mean| ("(random)".to_owned(), mean)));
    for folder in &ground.methods {
        let method = ground.read(folder)?;
        let mut rises = Vec::new();
        for (q, scores) in method.scores.iter().enumerate() {
            rises.push(step(q, &top(scores, args.k))?);
            bar.advance(1, 0);
        }
        let over: Vec<f64> = rises.iter().zip(&by_chance).map(|(x, y)| x - y).collect();
        let (mean, over) = (bootstrap_mean(&rises, seed), bootstrap_mean(&over, seed));
        table.push(vec![method.name.clone(), shown(mean), shown(over), seconds(method.seconds)]);
        plotted.extend(mean.map(|mean| (method.name.clone(), mean)));
        let (name, seconds) = (&method.name, method.seconds);
        methods
            .push(json!({ "method": name, "rise": mean, "over_random": over, "per_query": rises, "seconds": seconds }));
    }
    bar.finish();
    let title = format!("Tail-patch on the top {}, {} queries", args.k, ground.queries.len());
    let svg = bars(&title, "mean rise of f, nats, with 95 % interval", &plotted)?;
    let own = [
        ("k", json!(args.k)),
        ("lr", json!(args.lr)),
        ("model", json!(args.model)),
        ("controls", json!(args.controls)),
        ("random", json!(chance)),
        ("random_per_query", json!(by_chance)),
        ("queries", json!(ground.query_ids())),
    ];
    let settings = ground.settings(own, seed);
    Verdict { figure: "tail-patch", settings, methods, table, svg }.finish(&args.out.out, context)
}
