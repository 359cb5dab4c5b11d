//! `etymon quickstart`: the whole job on the shipped text, with the commands that a person would type.

mod every_method;

use std::collections::BTreeMap;
use std::path::Path;

use clap::Parser;
use etymon_store::write_atomic;
use etymon_viewer::{QueryReport, Row};
use serde_json::{Value, json};

use super::report::read_report;
use super::{CommandResult, Context, Outcome, print, top};
use crate::args::{Cli, Command, QuickstartArgs};
use crate::error::{CliError, Result};

const TRAIN: &str = include_str!("../../assets/quickstart/train.jsonl");
const QUERIES: &str = include_str!("../../assets/quickstart/queries.jsonl");
const CONFIG: &str = include_str!("../../assets/quickstart/train.toml");

/// Share of the fact queries that must have a paraphrase of their fact as top proponent.
const EXPECTED: f64 = 0.9;
/// Queries whose ranking is printed, and that `--compare` asks every method.
const SHOWN: [&str; 3] = ["fact-001", "fact-012", "Genesis 1:1"];
/// The folder of the training.
const TRAINED: &str = "run";

pub fn run(args: &QuickstartArgs, context: Context) -> CommandResult {
    let out = &args.out;
    let at = |name: &str| out.join(name).display().to_string();
    let data = out.join("data");
    let seed = context.global.seed.unwrap_or(0);
    write_text(&data.join("train.jsonl"), TRAIN)?;
    write_text(&data.join("queries.jsonl"), QUERIES)?;
    write_text(&out.join("train.toml"), &CONFIG.replace("seed = 0", &format!("seed = {seed}")))?;
    context.reporter.say(
        "etymon quickstart: verses of the King James Bible with a hundred invented facts mixed in.\n\
         A small GPT-2 learns them; then EK-FAC influence tells which training texts a prediction comes from.\n",
    );
    let (train, queries, model) = (at("data/train.jsonl"), at("data/queries.jsonl"), at("run/model"));
    let (factors, scores, page) = (at("factors"), at("scores"), at("report.html"));
    let mut steps: Vec<Vec<&str>> = vec![
        vec!["train", ""],
        vec!["fit", "--model", &model, "--data", &train, "--out", &factors],
        vec![
            "score",
            "--model",
            &model,
            "--factors",
            &factors,
            "--data",
            &train,
            "--queries",
            &queries,
            "--out",
            &scores,
            "--per-layer",
            "--per-token",
        ],
        vec!["report", &scores, "-o", &page, "--title", "etymon quickstart"],
    ];
    let config = at("train.toml");
    steps[0][1] = &config;
    for mut step in steps {
        if args.overwrite && step[0] != "report" {
            step.push("--overwrite");
        }
        step_of(&step, context)?;
    }
    let compared = args.compare.then(|| every_method::compare(out, args.overwrite, context)).transpose()?;
    conclude(out, Path::new(&page), compared.as_deref(), context)
}

/// Shows a command and runs it.
pub fn step_of(step: &[&str], context: Context) -> Result<()> {
    let shown: Vec<String> =
        step.iter().map(|w| if w.contains(' ') { format!("'{w}'") } else { (*w).to_owned() }).collect();
    context.reporter.say(format!("$ etymon {}", shown.join(" ")));
    let parsed = Cli::try_parse_from(std::iter::once("etymon").chain(step.iter().copied()))
        .map_err(|e| CliError::Usage { option: "quickstart", problem: e.to_string() })?;
    match &parsed.command {
        Command::Train(args) => super::train::run(args, context)?,
        Command::Fit(args) => super::fit::run(args, context)?,
        Command::Score(args) => super::score::run(args, context)?,
        Command::Report(args) => super::report::run(args, context)?,
        Command::Compare(args) => super::compare::run(args, context)?,
        _ => Outcome::Done(Value::Null),
    };
    context.reporter.say("");
    Ok(())
}

/// Prints rankings and the check: is a paraphrase of the fact the top proponent of each fact query?
fn conclude(out: &Path, page: &Path, compared: Option<&Path>, context: Context) -> CommandResult {
    let report = read_report(&out.join("scores"), String::new(), None)?;
    let facts = facts_of_rows()?;
    let mut verdicts: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
    for query in &report.queries {
        if let Some(kind) = query.metadata.get("kind").and_then(Value::as_str) {
            verdicts.entry(kind).or_default().push((&query.id, is_hit(query, &facts)));
        }
    }
    if !context.global.json {
        for query in report.queries.iter().filter(|q| SHOWN.contains(&q.id.as_str())) {
            top::show(query, 4);
        }
    }
    let tally = |kind: &str| {
        let of = verdicts.get(kind).map_or(&[][..], Vec::as_slice);
        (of.iter().filter(|(_, hit)| *hit).count(), of.len())
    };
    let ((hits, n), (flipped, n_flipped), (verses, n_verses)) = (tally("fact"), tally("flipped"), tally("verse"));
    if !context.global.json {
        print(&format!(
            "Top proponent is a paraphrase of the asked fact: {hits} of {n} fact queries\n\
             Facts trained only in the other order:           {flipped} of {n_flipped} (the reversal probe)\n\
             Top proponent is the asked verse itself:         {verses} of {n_verses}"
        ));
        let missed: Vec<&str> =
            verdicts.get("fact").into_iter().flatten().filter(|(_, hit)| !hit).map(|(id, _)| *id).collect();
        if !missed.is_empty() {
            print(&format!("Missed: {}", missed.join(", ")));
        }
        print(&format!("\nRead them all: {}", page.display()));
        if let Some(compared) = compared {
            print(&format!("Every method side by side: {}", compared.display()));
        }
    }
    let value = json!({
        "report": page,
        "comparison": compared,
        "scores": out.join("scores"),
        "fact_queries": n, "fact_hits": hits,
        "flipped_queries": n_flipped, "flipped_hits": flipped,
        "verse_queries": n_verses, "verse_hits": verses,
    });
    let passed = hits as f64 >= EXPECTED * n as f64;
    Ok(if passed { Outcome::Done(value) } else { Outcome::Found(value) })
}

/// Whether the top proponent states the fact (or is the verse) that the query asks for.
fn is_hit(query: &QueryReport, facts: &BTreeMap<String, String>) -> bool {
    let Some(first): Option<&Row> = query.proponents.first() else { return false };
    let asked = |key: &str| query.metadata.get(key).and_then(Value::as_str);
    match (asked("fact"), asked("expect")) {
        (Some(fact), _) => facts.get(&first.train_id).is_some_and(|f| f == fact),
        (None, Some(verse)) => first.train_id == verse,
        (None, None) => false,
    }
}

/// Train id → fact.
fn facts_of_rows() -> Result<BTreeMap<String, String>> {
    let rows = TRAIN.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(rows.filter_map(|row| Some((row["id"].as_str()?.to_owned(), row["fact"].as_str()?.to_owned()))).collect())
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    // The same text again must not change the file: runs are resumed by the fingerprints of their inputs.
    Ok(write_atomic(path, |to| to.write_all(text.as_bytes()))?)
}
