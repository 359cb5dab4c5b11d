//! `etymon evaluate lds`.

use etymon_evaluate::plot::bars;
use etymon_evaluate::{Interval, Lds, Method, Stream, Truth, draw, find_methods, lds, reliability};
use etymon_model::Measurement;
use serde_json::{Value, json};

use super::super::{CommandResult, Context};
use super::ground::{Ground, complement, part_of, say_if_other};
use super::verdict::{Verdict, check_out, seconds, shown};
use crate::args::{LdsArgs, TruthArgs};
use crate::error::Result;

pub fn run(args: &LdsArgs, context: Context) -> CommandResult {
    check_out(&args.out, "lds")?;
    let seed = context.global.seed.unwrap_or(0);
    let (truth, methods, settings) = match &args.config {
        Some(config) => retrained(args, config.clone(), seed, context)?,
        None => given(args, seed, context)?,
    };
    let judged: Vec<(Method, Lds)> =
        methods.into_iter().map(|method| (lds(&method, &truth, seed), method)).map(|(l, m)| (m, l)).collect();
    let mut table = vec![["method", "LDS", "undefined", "seconds"].map(str::to_owned).to_vec()];
    let mut plotted: Vec<(String, Interval)> = Vec::new();
    for (method, score) in &judged {
        let undefined = score.undefined.to_string();
        table.push(vec![method.name.clone(), shown(score.mean), undefined, seconds(method.seconds)]);
        plotted.extend(score.mean.map(|mean| (method.name.clone(), mean)));
    }
    let title = format!("LDS, {} subsets, {} queries", truth.kept.len(), truth.queries.len());
    let svg = bars(&title, "mean Spearman over queries, with 95 % interval", &plotted)?;
    let methods = judged.iter().map(|(method, score)| as_json(method, score, &truth)).collect();
    Verdict { figure: "lds", settings, methods, table, svg }.finish(&args.out.out, context)
}

/// Retrains on random subsets; leaves `truth.jsonl`.
fn retrained(
    args: &LdsArgs,
    config: std::path::PathBuf,
    seed: u64,
    context: Context,
) -> Result<(Truth, Vec<Method>, Value)> {
    let opened = TruthArgs {
        config,
        stages: Vec::new(),
        queries: args.queries.clone(),
        scores: args.scores.clone(),
        max_queries: args.max_queries,
        measurement: args.measurement,
        retrain: args.retrain.clone(),
    };
    let ground = Ground::open(&opened, &args.out.out, context)?;
    let n = ground.train.len();
    let size = part_of("--alpha", args.alpha, n)?;
    let kept =
        (0..args.subsets as u64).map(|j| Ok(draw(Stream::Subsets, seed, j, n, size)?)).collect::<Result<Vec<_>>>()?;
    let removed: Vec<Vec<usize>> = kept.iter().map(|kept| complement(kept, n)).collect();
    let retrained = ground.retrained(&removed, vec![ground.measured()])?;
    let truth = Truth { queries: ground.query_ids(), kept, values: retrained.means(0) };
    truth.write(&args.out.out.join("truth.jsonl"), &ground.train_ids())?;
    let per_seed: Vec<Vec<Vec<f64>>> =
        retrained.per_seed.iter().map(|seeds| seeds.iter().map(|probes| probes[0].clone()).collect()).collect();
    let own = [
        ("subsets", json!(args.subsets)),
        ("alpha", json!(args.alpha)),
        ("subset_size", json!(size)),
        ("seeds_per_subset", json!(args.retrain.seeds)),
        ("reliability", json!(reliability(&per_seed))),
        ("retrainings", retrained.facts),
    ];
    let settings = ground.settings(own, seed);
    let methods = ground.methods.iter().map(|folder| ground.read(folder)).collect::<Result<Vec<_>>>()?;
    Ok((truth, methods, settings))
}

/// Takes retrained measurements from a file.
fn given(args: &LdsArgs, seed: u64, context: Context) -> Result<(Truth, Vec<Method>, Value)> {
    let folders = find_methods(&args.scores)?;
    let train = folders.first().map(|folder| folder.train_ids()).transpose()?.unwrap_or_default();
    let path = args.truth.clone().unwrap_or_default();
    let mut truth = match &args.members {
        Some(members) => Truth::read_tables(&path, members, &train)?,
        None => Truth::read(&path, &train)?,
    };
    let most = args.max_queries.unwrap_or(usize::MAX);
    truth.queries.truncate(most);
    truth.values.iter_mut().for_each(|values| values.truncate(most));
    let methods = folders.iter().map(|f| Ok(f.read(&train, &truth.queries)?)).collect::<Result<Vec<_>>>()?;
    let measured = Measurement::from(args.measurement).name();
    methods.iter().for_each(|method| say_if_other(method, measured, context));
    let settings = json!({
        "truth": path,
        "members": args.members,
        "subsets": truth.kept.len(),
        "n_train": train.len(),
        "n_queries": truth.queries.len(),
        "seed": seed,
    });
    Ok((truth, methods, settings))
}

fn as_json(method: &Method, score: &Lds, truth: &Truth) -> Value {
    let per_query: serde_json::Map<String, Value> =
        truth.queries.iter().zip(&score.per_query).map(|(q, &value)| (q.clone(), json!(value))).collect();
    json!({
        "method": method.name,
        "lds": score.mean,
        "undefined": score.undefined,
        "seconds": method.seconds,
        "per_query": per_query,
    })
}
