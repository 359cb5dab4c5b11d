//! `etymon evaluate brittleness`.

use etymon_data::{Content, Target};
use etymon_evaluate::plot::{Joined, Series, series};
use etymon_evaluate::statistics::bootstrap_mean;
use etymon_evaluate::{Observed, Probe, Stream, shuffled, top};
use serde_json::{Value, json};

use super::super::{CommandResult, Context};
use super::ground::Ground;
use super::verdict::{Verdict, check_out, shown};
use crate::args::BrittlenessArgs;
use crate::error::{CliError, Result};

/// Name of the random removals among the methods.
const RANDOM: &str = "(random)";

pub fn run(args: &BrittlenessArgs, context: Context) -> CommandResult {
    check_out(&args.out, "brittleness")?;
    let seed = context.global.seed.unwrap_or(0);
    let ground = Ground::open(&args.truth, &args.out.out, context)?;
    let n = ground.train.len();
    if let Some(&k) = args.remove.iter().find(|&&k| k >= n) {
        return Err(CliError::Usage { option: "--remove", problem: format!("{k} of {n} rows leaves none") });
    }
    let (rankings, names) = rankings(&ground, seed)?;
    // The whole train set, then [methods][queries][sizes].
    let mut removed = vec![Vec::new()];
    for ranking in rankings.iter().flatten() {
        removed.extend(args.remove.iter().map(|&k| ranking[..k].to_vec()));
    }
    let classes =
        ground.queries.iter().all(|q| matches!(q.content, Content::Features { target: Target::Class(_), .. }));
    let mut probes = vec![ground.measured()];
    if classes {
        let examples = ground.queries.clone();
        probes.push(Probe { name: "prediction", examples, observed: Observed::Prediction });
    }
    let retrained = ground.retrained(&removed, probes)?;
    let f = retrained.means(0);
    // Of several seeds the share that predicts otherwise than the same seed does on the whole train set.
    let flipped = |world: usize, q: usize| {
        let seeds = &retrained.per_seed[world];
        let differ = seeds.iter().zip(&retrained.per_seed[0]).filter(|(s, whole)| s[1][q] != whole[1][q]).count();
        differ as f64 / seeds.len() as f64
    };

    let mut table = vec![["method", "removed", "fall of f", "flipped"].map(str::to_owned).to_vec()];
    let (mut methods, mut lines) = (Vec::new(), Vec::new());
    let n_queries = ground.queries.len();
    for (m, name) in names.iter().enumerate() {
        let (mut steps, mut points) = (Vec::<Value>::new(), vec![(0.0, 0.0)]);
        for (s, &k) in args.remove.iter().enumerate() {
            let world = |q: usize| 1 + (m * n_queries + q) * args.remove.len() + s;
            let falls: Vec<f64> = (0..n_queries).map(|q| f[0][q] - f[world(q)][q]).collect();
            let flips: Vec<f64> =
                if classes { (0..n_queries).map(|q| flipped(world(q), q)).collect() } else { Vec::new() };
            let (fall, share) = (bootstrap_mean(&falls, seed), bootstrap_mean(&flips, seed));
            table.push(vec![name.clone(), k.to_string(), shown(fall), shown(share)]);
            points.extend(fall.map(|fall| (k as f64, fall.value)));
            steps.push(json!({ "removed": k, "fall": fall, "flipped": share, "falls": falls }));
        }
        lines.push(Series { name: name.clone(), points });
        methods.push(json!({ "method": name, "steps": steps }));
    }
    let title = format!("Brittleness, {n_queries} queries");
    let svg = series(&title, "proponents removed", "mean fall of f, nats", &lines, Joined::Lines)?;
    let own =
        [("remove", json!(args.remove)), ("queries", json!(ground.query_ids())), ("retrainings", retrained.facts)];
    let settings = ground.settings(own, seed);
    Verdict { figure: "brittleness", settings, methods, table, svg }.finish(&args.out.out, context)
}

/// `[methods][queries][N]` Rows by falling score.
type Rankings = Vec<Vec<Vec<usize>>>;

/// Those of the methods, and last a random order; with the names.
fn rankings(ground: &Ground, seed: u64) -> Result<(Rankings, Vec<String>)> {
    let n = ground.train.len();
    let (mut rankings, mut names) = (Vec::new(), Vec::new());
    for folder in &ground.methods {
        let method = ground.read(folder)?;
        rankings.push(method.scores.iter().map(|scores| top(scores, n)).collect());
        names.push(method.name);
    }
    // A random order that is the same for all queries: its worlds are trained once.
    let order = shuffled(Stream::Controls, seed, 0, n);
    rankings.push(vec![order; ground.queries.len()]);
    names.push(RANDOM.to_owned());
    Ok((rankings, names))
}
