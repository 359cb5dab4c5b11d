//! `etymon evaluate loo` and `leave-k-out`.

use std::collections::BTreeMap;

use etymon_evaluate::plot::{Joined, Series, series};
use etymon_evaluate::statistics::mean;
use etymon_evaluate::{Agreement, Stream, agreement, draw, names_in};
use serde_json::{Value, json};

use super::super::{CommandResult, Context};
use super::ground::Ground;
use super::verdict::{Verdict, check_out, seconds, shown};
use crate::args::{LeaveKOutArgs, LooArgs, OutArgs};
use crate::error::{CliError, Result};

/// Harmful groups that are told of.
const SHOWN: usize = 5;

pub fn leave_one_out(args: &LooArgs, context: Context) -> CommandResult {
    check_out(&args.out, "loo")?;
    let seed = context.global.seed.unwrap_or(0);
    let ground = Ground::open(&args.truth, &args.out.out, context)?;
    let rows = draw(Stream::Removals, seed, 0, ground.train.len(), args.rows)?;
    let removals = rows.into_iter().map(|row| (ground.train[row].id.clone(), vec![row])).collect();
    judge("loo", &ground, removals, &args.out, seed, context)
}

pub fn leave_k_out(args: &LeaveKOutArgs, context: Context) -> CommandResult {
    check_out(&args.out, "leave-k-out")?;
    let seed = context.global.seed.unwrap_or(0);
    let ground = Ground::open(&args.truth, &args.out.out, context)?;
    let removals = match &args.by {
        Some(column) => by_column(&ground, column)?,
        None => random_groups(ground.train.len(), args, seed)?,
    };
    judge("leave-k-out", &ground, removals, &args.out, seed, context)
}

fn random_groups(n: usize, args: &LeaveKOutArgs, seed: u64) -> Result<Vec<(String, Vec<usize>)>> {
    // Address 0 of the stream are the rows of leave-one-out.
    let group = |g: u64| Ok((format!("group-{g}"), draw(Stream::Removals, seed, 1 + g, n, args.size)?));
    (0..args.groups as u64).map(group).collect()
}

/// A group per value of a column; rows without one are in none.
fn by_column(ground: &Ground, column: &str) -> Result<Vec<(String, Vec<usize>)>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, example) in ground.train.iter().enumerate() {
        for name in example.metadata.get(column).map(names_in).unwrap_or_default() {
            groups.entry(name).or_default().push(i);
        }
    }
    if groups.len() < 2 {
        let problem = format!("`{column}` makes {} groups of the training data; at least 2 are needed", groups.len());
        return Err(CliError::Usage { option: "--by", problem });
    }
    Ok(groups.into_iter().collect())
}

/// Retrains without each group, compares changes.
fn judge(
    figure: &'static str,
    ground: &Ground,
    removals: Vec<(String, Vec<usize>)>,
    out: &OutArgs,
    seed: u64,
    context: Context,
) -> CommandResult {
    let (names, removed): (Vec<String>, Vec<Vec<usize>>) = removals.into_iter().unzip();
    let worlds: Vec<Vec<usize>> = std::iter::once(Vec::new()).chain(removed.iter().cloned()).collect();
    let retrained = ground.retrained(&worlds, vec![ground.measured()])?;
    let values = retrained.means(0);
    let (whole, without) = (&values[0], &values[1..]);
    let change = |f: &Vec<f64>| f.iter().zip(whole).map(|(f, f0)| f - f0).collect();
    let actual: Vec<Vec<f64>> = without.iter().map(change).collect();

    let mut table = vec![["method", "Pearson", "Spearman", "per query", "seconds"].map(str::to_owned).to_vec()];
    let (mut methods, mut clouds) = (Vec::new(), Vec::new());
    for folder in &ground.methods {
        let method = ground.read(folder)?;
        let found = agreement(&method, &removed, &actual, seed);
        let figures = [found.pearson, found.spearman, found.per_query].map(shown);
        let ranking = ranking(&names, &found.predicted, &actual);
        say_helpful(&method.name, &ranking, context);
        table.push([vec![method.name.clone()], figures.to_vec(), vec![seconds(method.seconds)]].concat());
        clouds.push(cloud(&method.name, &found, &actual));
        methods.push(json!({
            "method": method.name,
            "pearson": found.pearson,
            "spearman": found.spearman,
            "spearman_per_query": found.per_query,
            "seconds": method.seconds,
            "by_group": ranking.iter().map(Removed::json).collect::<Vec<_>>(),
            "predicted": found.predicted,
        }));
    }
    let title = format!("{figure}: {} removals, {} queries", removed.len(), ground.queries.len());
    let svg = series(&title, "predicted change of f, nats", "actual change of f, nats", &clouds, Joined::Points)?;
    let sizes: Vec<usize> = removed.iter().map(Vec::len).collect();
    let own = [
        ("removals", json!(names)),
        ("sizes", json!(sizes)),
        ("queries", json!(ground.query_ids())),
        ("actual", Value::from(actual)),
        ("retrainings", retrained.facts),
    ];
    let settings = ground.settings(own, seed);
    Verdict { figure, settings, methods, table, svg }.finish(&out.out, context)
}

/// A group, and the change of f without it, mean over the queries, in nats.
struct Removed<'a> {
    name: &'a str,
    predicted: f64,
    actual: f64,
}

impl Removed<'_> {
    fn json(&self) -> Value {
        json!({ "group": self.name, "predicted": self.predicted, "actual": self.actual })
    }
}

/// The groups, those first whose removal is predicted to raise f the most: what harms.
fn ranking<'a>(names: &'a [String], predicted: &[Vec<f64>], actual: &[Vec<f64>]) -> Vec<Removed<'a>> {
    let groups = names.iter().zip(predicted.iter().zip(actual));
    let mut ranking: Vec<Removed<'_>> =
        groups.map(|(name, (p, a))| Removed { name, predicted: mean(p), actual: mean(a) }).collect();
    ranking.sort_by(|a, b| b.predicted.total_cmp(&a.predicted));
    ranking
}

/// The groups at the head of the ranking, and how many of those that are said to harm really do.
fn say_helpful(method: &str, ranking: &[Removed<'_>], context: Context) {
    let harmful: Vec<&Removed<'_>> = ranking.iter().filter(|group| group.predicted > 0.0).collect();
    let confirmed = harmful.iter().filter(|group| group.actual > 0.0).count();
    let say = |line| context.reporter.say(line);
    say(format!("{method}: {} groups harm by prediction, {confirmed} of them by retraining", harmful.len()));
    for group in harmful.iter().take(SHOWN) {
        say(format!("  without {}: f {:+.3e} predicted, {:+.3e} actual", group.name, group.predicted, group.actual));
    }
}

fn cloud(name: &str, found: &Agreement, actual: &[Vec<f64>]) -> Series {
    let points = found.predicted.iter().flatten().copied().zip(actual.iter().flatten().copied());
    Series { name: name.to_owned(), points: points.collect() }
}
