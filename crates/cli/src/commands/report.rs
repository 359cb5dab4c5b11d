//! `etymon report`.

use std::collections::BTreeMap;
use std::path::Path;

use etymon_store::{Manifest, QueryRow, RunFolder, ScoreTable, TopRow, TopSide, write_atomic};
use etymon_viewer::{Histogram, LayerShare, QueryReport, Report, Row, Summary, Token, to_html};
use serde_json::{Value, json};

use super::score::stages::{FINETUNING, PRETRAINING, STAGES, read_summary};
use super::{CommandResult, Context, Outcome};
use crate::args::ReportArgs;
use crate::error::Result;

/// Bins of the score histogram.
const BINS: usize = 61;

pub fn run(args: &ReportArgs, context: Context) -> CommandResult {
    let report = match stages(&args.scores)? {
        true => read_stages(&args.scores, &args.title)?,
        false => read_report(&args.scores, args.title.clone(), None)?,
    };
    let html = to_html(&report)?;
    write_atomic(&args.output, |to| to.write_all(html.as_bytes()))?;
    context.reporter.say(format!("report in {}", args.output.display()));
    Ok(Outcome::Done(json!({ "report": args.output, "queries": report.queries.len() })))
}

/// Whether a folder holds the tables of two stages.
fn stages(folder: &Path) -> Result<bool> {
    let file = folder.join("manifest.json");
    Ok(file.exists() && Manifest::read(&file)?.spec.kind == STAGES)
}

/// Both stages in one page: each query twice, beside each other, with the share of its influence that each stage has.
fn read_stages(folder: &Path, title: &str) -> Result<Report> {
    let summary = read_summary(folder)?;
    let read = |stage: &str| read_report(&folder.join(stage), title.to_owned(), None);
    let (mut report, finetuning) = (read(PRETRAINING)?, read(FINETUNING)?);
    let pairs = std::mem::take(&mut report.queries).into_iter().zip(finetuning.queries);
    for ((first, second), share) in pairs.zip(summary.shares()) {
        for (query, stage, share) in [(first, PRETRAINING, share), (second, FINETUNING, 1.0 - share)] {
            let id = format!("{} · {stage} ({:.1} %)", query.id, 100.0 * share);
            report.queries.push(QueryReport { id, ..query });
        }
    }
    report.facts.push(("fine-tuning examples".to_owned(), finetuning.n_train.to_string()));
    Ok(report)
}

/// Reads a score folder into a report; `only` keeps some queries.
pub fn read_report(folder: &Path, title: String, only: Option<&[String]>) -> Result<Report> {
    let run = RunFolder::open_complete(folder, "scores")?;
    let manifest = run.manifest();
    let (config, progress) = (&manifest.spec.config, &manifest.progress);
    let names: Vec<String> = strings(&progress["layers"]);
    let n_train = progress["n_train"].as_u64().unwrap_or(0);
    let mut top: BTreeMap<String, Vec<TopRow>> = BTreeMap::new();
    for row in TopRow::read_all(&run.file("top.parquet"))? {
        top.entry(row.query_id.clone()).or_default().push(row);
    }
    let table = ScoreTable::open(folder)?;
    let mut queries = Vec::new();
    for query in QueryRow::read_all(&run.file("queries.parquet"))? {
        if only.is_some_and(|ids| !ids.contains(&query.query_id)) {
            continue;
        }
        let rows = top.remove(&query.query_id).unwrap_or_default();
        let scores = table.column(&query.query_id)?;
        queries.push(query_report(query, rows, &scores, &names, n_train));
    }
    Ok(Report {
        title,
        subtitle: subtitle(config, &manifest.spec.inputs),
        facts: facts(config, progress),
        n_train,
        queries,
    })
}

fn query_report(query: QueryRow, rows: Vec<TopRow>, scores: &[f32], names: &[String], n_train: u64) -> QueryReport {
    let (proponents, opponents): (Vec<_>, Vec<_>) = rows.into_iter().partition(|r| r.side == TopSide::Proponent);
    let list = |rows: Vec<TopRow>| rows.into_iter().map(|r| row(r, n_train)).collect::<Vec<_>>();
    let (proponents, opponents) = (list(proponents), list(opponents));
    let has_layers = proponents.iter().any(|r| !r.layers.is_empty());
    let layers =
        if has_layers { LayerShare::from_rows(names, proponents.iter().chain(&opponents)) } else { Vec::new() };
    QueryReport {
        id: query.query_id,
        prompt: query.prompt.or(query.text).unwrap_or_default(),
        completion: query.completion.unwrap_or_default(),
        measurement: query.measurement,
        metadata: query.metadata,
        histogram: Histogram::from_scores(scores.iter().copied(), BINS),
        summary: Summary::from_scores(scores.iter().copied()),
        proponents,
        opponents,
        layers,
    }
}

fn row(row: TopRow, n_train: u64) -> Row {
    let scores = row.token_scores.unwrap_or_default();
    let last = scores.len().saturating_sub(1);
    let tokens = row.tokens.unwrap_or_default().into_iter().zip(scores).enumerate();
    Row {
        rank: row.rank,
        train_id: row.train_id,
        score: row.score,
        one_more_copy: f64::from(row.score) / n_train.max(1) as f64,
        text: row.text.unwrap_or_default(),
        tokens: tokens.map(|(i, (text, score))| Token { text, score: (i < last).then_some(score) }).collect(),
        layers: row.layer_scores.unwrap_or_default(),
        metadata: row.metadata,
    }
}

fn subtitle(config: &Value, inputs: &BTreeMap<String, etymon_store::Fingerprint>) -> String {
    let path = |prefix: &str| {
        let found = inputs.iter().find(|(key, _)| key.starts_with(prefix)).map(|(_, f)| f.path.clone());
        found.map(|p| p.display().to_string()).unwrap_or_default()
    };
    let method = config["method"].as_str().unwrap_or_default();
    let damping = config["damping"].as_str().map(|d| format!(", damping {d}")).unwrap_or_default();
    format!("{method}{damping}, model {}, data {}", folder_of(&path("model/")), path("data/"))
}

fn folder_of(file: &str) -> String {
    let path = Path::new(file);
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(path).display().to_string()
}

fn facts(config: &Value, progress: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut facts = vec![
        ("method".to_owned(), text(&config["method"])),
        ("measurement".to_owned(), text(&config["measurement"])),
        ("train examples".to_owned(), text(&progress["n_train"])),
        ("scored".to_owned(), text(&progress["rows"])),
        ("layers".to_owned(), strings(&progress["layers"]).len().to_string()),
    ];
    for key in ["damping", "rank", "filter"] {
        if !config[key].is_null() {
            facts.push((key.to_owned(), text(&config[key])));
        }
    }
    facts
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}
