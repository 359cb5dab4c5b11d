//! `etymon evaluate qld`.

use etymon_evaluate::plot::bars;
use etymon_evaluate::statistics::bootstrap_mean;
use etymon_evaluate::{Interval, Stream, draw, top};
use serde_json::json;

use super::super::{CommandResult, Context};
use super::ground::{Ground, part_of};
use super::verdict::{Verdict, check_out, seconds, shown};
use crate::args::QldArgs;
use crate::error::Result;

pub fn run(args: &QldArgs, context: Context) -> CommandResult {
    check_out(&args.out, "qld")?;
    let seed = context.global.seed.unwrap_or(0);
    let ground = Ground::open(&args.truth, &args.out.out, context)?;
    let (n, n_queries) = (ground.train.len(), ground.queries.len());
    let k = part_of("--fraction", args.fraction, n)?;
    let methods = ground.methods.iter().map(|folder| ground.read(folder)).collect::<Result<Vec<_>>>()?;
    // The whole train set, the random removals, then each query of each method.
    let mut removed = vec![Vec::new()];
    for r in 0..args.controls as u64 {
        removed.push(draw(Stream::Controls, seed, r, n, k)?);
    }
    removed.extend(methods.iter().flat_map(|method| method.scores.iter().map(|scores| top(scores, k))));
    let retrained = ground.retrained(&removed, vec![ground.measured()])?;
    let values = retrained.means(0);
    let (whole, rest) = (&values[0], &values[1..]);
    let (random, tops) = rest.split_at(args.controls);
    // How far f falls: the rise of the query's loss.
    let fall = |f: &[f64], q: usize| whole[q] - f[q];
    let by_chance: Vec<f64> =
        (0..n_queries).map(|q| random.iter().map(|f| fall(f, q)).sum::<f64>() / random.len() as f64).collect();

    let mut table = vec![["removed", "rise of the loss", "over random", "seconds"].map(str::to_owned).to_vec()];
    let (mut results, mut plotted) = (Vec::new(), Vec::<(String, Interval)>::new());
    let chance = bootstrap_mean(&by_chance, seed);
    table.push(vec!["(random)".to_owned(), shown(chance), "-".to_owned(), "-".to_owned()]);
    plotted.extend(chance.map(|mean| ("(random)".to_owned(), mean)));
    for (method, worlds) in methods.iter().zip(tops.chunks(n_queries)) {
        let falls: Vec<f64> = worlds.iter().enumerate().map(|(q, f)| fall(f, q)).collect();
        let over: Vec<f64> = falls.iter().zip(&by_chance).map(|(x, y)| x - y).collect();
        let (mean, over) = (bootstrap_mean(&falls, seed), bootstrap_mean(&over, seed));
        table.push(vec![method.name.clone(), shown(mean), shown(over), seconds(method.seconds)]);
        plotted.extend(mean.map(|mean| (method.name.clone(), mean)));
        let name = &method.name;
        results.push(
            json!({ "method": name, "qld": mean, "over_random": over, "per_query": falls, "seconds": method.seconds }),
        );
    }
    let title = format!("Query loss without the top {k} of {n} rows, {n_queries} queries");
    let svg = bars(&title, "mean rise of the query's loss, nats, with 95 % interval", &plotted)?;
    let own = [
        ("fraction", json!(args.fraction)),
        ("removed", json!(k)),
        ("controls", json!(args.controls)),
        ("random", json!(chance)),
        ("random_per_query", json!(by_chance)),
        ("queries", json!(ground.query_ids())),
        ("retrainings", retrained.facts),
    ];
    let settings = ground.settings(own, seed);
    Verdict { figure: "qld", settings, methods: results, table, svg }.finish(&args.out.out, context)
}
