//! `etymon simulate` on logs of a known world.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

mod common;

use std::path::Path;

use common::{Lm, ok, reference, refused};
use etymon_store::TrainingLog;

/// Twelve examples, of which the losses of three queries fall or rise by known amounts; the batches differ by run.
fn record(folder: &Path, run: usize, n_steps: usize) {
    let name = format!("run-{run:04}");
    let mut log = TrainingLog::open(&folder.join(&name).join("log"), &name);
    let queries = ["q0", "q1", "q2"].map(str::to_owned);
    let mut losses = [2.0, 1.5, 3.0 + 0.01 * run as f64];
    for t in 0..=n_steps {
        log.losses(t as u64, &queries, &losses).unwrap();
        if t == n_steps {
            break;
        }
        let batch = [(7 * t + 3 * run) % 12, (5 * t * t + run) % 12];
        log.step(t as u64, 0.1, &batch.map(|i| format!("t{i:02}")), 1.0).unwrap();
        for (q, loss) in losses.iter_mut().enumerate() {
            for i in batch {
                *loss += *loss * -0.01 * ((i + q) % 4) as f64 + 0.005 * ((i * (q + 1)) % 5) as f64;
            }
        }
    }
    log.flush().unwrap();
}

#[test]
fn a_simulator_is_fitted_on_logs_and_judged_by_runs_held_out() {
    let temp = Lm::new();
    let runs = temp.folder.path().join("runs");
    (0..10).for_each(|run| record(&runs, run, 40));
    let (log, sim, out) = (temp.at("runs"), temp.at("sim"), temp.at("out"));

    let fit = ["simulate", "fit", "--log", &log, "--hold-out", "2", "--out", &sim];
    let fitted = ok(&fit);
    assert_eq!((&fitted["n_train"], &fitted["n_queries"]), (&12.into(), &3.into()));
    assert!(fitted["held_out"]["mse"].as_f64().unwrap() < 1e-4, "{fitted}");
    assert_eq!(ok(&fit)["held_out"], fitted["held_out"], "read from its folder");
    let simulator = etymon_simulate::Simulator::open(sim.as_ref()).unwrap();
    assert_eq!(simulator.query_ids(), ["q0", "q1", "q2"]);
    assert!(refused(&[&fit[..], &["--kind", "additive"]].concat()).contains("kind"));

    let evaluated = ok(&["simulate", "evaluate", "--log", &log, "--hold-out", "2", "--out", &out]);
    let mse = |i: usize| evaluated["methods"][i]["figures"]["mse"].as_f64().unwrap();
    assert_eq!(evaluated["methods"][2]["method"], "additive");
    assert!(mse(0) < 0.1 * mse(1) && mse(0) < 0.1 * mse(2), "{evaluated}");
    assert!(std::fs::read_to_string(temp.at("out/evaluate.svg")).unwrap().starts_with("<svg"));
}

#[test]
fn logs_that_cannot_be_fitted_are_refused_with_a_reason() {
    let temp = Lm::new();
    let runs = temp.folder.path().join("runs");
    record(&runs, 0, 4);
    let (log, out) = (temp.at("runs"), temp.at("out"));
    let args =
        |log: &str, more: &[&str]| refused(&[&["simulate", "evaluate", "--log", log, "--out", &out], more].concat());
    assert!(args(&temp.at("nothing"), &[]).contains("no training log"));
    assert!(args(&log, &[]).contains("8 cannot be held out"));
    assert!(args(&log, &["--lambda", "0"]).contains("positive"));
    record(&runs, 1, 1);
    std::fs::rename(runs.join("run-0000"), runs.join("run-0002")).unwrap();
    let text = args(&log, &["--hold-out", "1", "--lambda", "1"]);
    assert!(text.contains("in no run that the simulator was fitted on") && text.contains("--unseen mean"), "{text}");
    assert!(!Path::new(&out).exists(), "nothing is left of a command that is refused");
}

/// Plain gradient descent on sums, in small steps: what TracIn describes. Three runs; the first one again, with checkpoints, and
/// its scores of the watched rows.
fn descents(temp: &Lm) -> (String, String) {
    let watched = std::fs::read_to_string(reference("digits/query.csv")).unwrap();
    let few: Vec<&str> = watched.lines().take(6).collect();
    std::fs::write(temp.at("watch.csv"), few.join("\n") + "\n").unwrap();
    let train = reference("digits/train.csv");
    let text = format!(
        "out = \"set\"\ndata = [\"{train}\"]\nwatch = [\"watch.csv\"]\nlabel = \"y\"\nbatch_size = 100\noptimizer = \"sgd\"\n\
         momentum = 0.0\nlr = {RATE:e}\nreduction = \"sum\"\n[architecture]\nmodel_type = \"mlp\"\nsizes = [64, 16, 10]\n\
         activation = \"relu\"\ntask = \"classification\"\n"
    );
    std::fs::write(temp.at("train.toml"), &text).unwrap();
    let with_checkpoints = text.replace("[architecture]", "checkpoint_every = 3\n[architecture]");
    std::fs::write(temp.at("checkpoints.toml"), with_checkpoints).unwrap();
    let (set, one, scores) = (temp.at("set"), temp.at("one"), temp.at("scores"));
    ok(&["train", &temp.at("train.toml"), "--runs", "4"]);
    ok(&["train", &temp.at("checkpoints.toml"), "--out", &one]);
    let (model, watch) = (temp.at("one/model"), temp.at("watch.csv"));
    let score = ["score", "--method", "tracin-cp", "--model", &model, "--checkpoints", &one, "--data", &train];
    ok(&[&score[..], &["--label", "y", "--queries", &watch, "--out", &scores]].concat());
    (set, scores)
}

const RATE: f64 = 1e-5;

#[test]
fn tracin_scores_simulate_gradient_descent_in_their_own_scale_and_better_than_nothing() {
    let temp = Lm::new();
    let (set, scores) = descents(&temp);
    let (sim, out) = (temp.at("sim"), temp.at("out"));
    let fit = ["simulate", "fit", "--log", &set, "--scores", &scores, "--hold-out", "1", "--out", &sim];
    let fitted = ok(&[&fit[..], &["--kind", "tracin-cp"]].concat());
    let checkpoints = std::fs::read_dir(temp.at("one"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("checkpoint-"));
    // Scores are sums of rate · product over checkpoints, a step is −rate · product: the scale is 1 / Σ rates.
    let scale = fitted["fit"]["scale"].as_f64().unwrap() * RATE * checkpoints.count() as f64;
    assert!((scale - 1.0).abs() < 0.1, "{scale}: {fitted}");
    let log = ["--log", &set, "--hold-out", "1", "--unseen", "mean", "--out", &out];
    let evaluated = ok(&[&["simulate", "evaluate", "--scores", &scores][..], &log].concat());
    let tracin = &evaluated["methods"][4];
    assert_eq!(tracin["method"], "tracin-cp");
    assert_eq!(tracin["figures"]["mse"], fitted["held_out"]["mse"]);

    let refuse = |more: &[&str]| refused(&[&["simulate", "evaluate"][..], &log, more].concat());
    assert!(refuse(&["--kinds", "tracin-cp"]).contains("--scores"));
    assert!(refuse(&["--kinds", "linear", "--scores", &scores]).contains("tracin-cp"));
    assert!(refuse(&["--scores", &temp.at("one")]).contains("scores"));
    let other = temp.folder.path().join("other");
    (0..9).for_each(|run| record(&other, run, 10));
    let text = refused(&[
        "simulate",
        "fit",
        "--kind",
        "tracin-cp",
        "--scores",
        &scores,
        "--log",
        &temp.at("other"),
        "--out",
        &out,
    ]);
    assert!(text.contains("no query `q0`"), "{text}");
}
