//! `etymon quickstart --compare`: a few queries, scored with every method, on one page.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{QUERIES, SHOWN, TRAINED, step_of, write_text};
use crate::commands::Context;
use crate::error::Result;
use crate::method::ScoreMethod;

/// Proponents of each method on the page.
const LISTED: &str = "5";
/// Train examples that the solvers take products over, those of a step of a stochastic series, and dimensions of TRAK: with the
/// defaults there are at least eight times as many products.
const SMALL: [&str; 6] = ["--solve-rows", "100", "--solve-batch", "8", "--trak-dim", "64"];

/// The methods that rank train examples for a query of this model: not `dense`, whose matrix would be too large, nor
/// `self-influence`, which has no queries.
pub fn methods() -> impl Iterator<Item = &'static str> {
    let left_out = [ScoreMethod::Dense, ScoreMethod::SelfInfluence];
    let all = ScoreMethod::value_variants().iter();
    all.filter(move |method| !left_out.contains(method)).map(|method| method.name())
}

/// Scores with all methods in one command and writes the page, in the folder of a quickstart that is done.
pub fn compare(out: &Path, overwrite: bool, context: Context) -> Result<PathBuf> {
    let at = |name: &str| out.join(name).display().to_string();
    let asked = |line: &&str| SHOWN.iter().any(|id| line.contains(&format!("\"id\":\"{id}\"")));
    let few: String = QUERIES.lines().filter(asked).map(|line| format!("{line}\n")).collect();
    write_text(&out.join("data/few.jsonl"), &few)?;
    let (model, factors, train) = (at("run/model"), at("factors"), at("data/train.jsonl"));
    let (run, few, scores, page) = (at(TRAINED), at("data/few.jsonl"), at("methods"), at("compare.html"));
    let names: Vec<&str> = methods().collect();
    let list = names.join(",");
    let mut score = vec!["score", "--model", &model, "--factors", &factors, "--checkpoints", &run, "--log", &run];
    score.extend(["--data", &train, "--queries", &few, "--method", &list, "--out", &scores]);
    score.extend(SMALL);
    if overwrite {
        score.push("--overwrite");
    }
    step_of(&score, context)?;
    let folders: Vec<String> = names.iter().map(|name| format!("{scores}/{name}")).collect();
    let mut page_of = vec!["compare"];
    page_of.extend(folders.iter().map(String::as_str));
    page_of.extend(["-k", LISTED, "-o", &page, "--title", "Every method on the quickstart"]);
    step_of(&page_of, context)?;
    Ok(out.join("compare.html"))
}
