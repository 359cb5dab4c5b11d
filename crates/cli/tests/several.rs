//! Several methods in one command.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Lm, etymon, ok, reference, refused, strs};
use etymon_store::{ScoreTable, TopRow};
use serde_json::Value;

/// Query id → scores of the train set.
fn columns(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let table = ScoreTable::open(folder).unwrap();
    table.queries().iter().map(|q| (q.clone(), table.column(q).unwrap())).collect()
}

fn close(x: &[f32], y: &[f64], tolerance: f64, what: &str) {
    let size = y.iter().map(|y| y * y).sum::<f64>().sqrt();
    let error = x.iter().zip(y).map(|(&x, y)| (f64::from(x) - y).powi(2)).sum::<f64>().sqrt();
    assert!(x.len() == y.len() && error <= tolerance * size, "{what}: {:e}", error / size);
}

const ALL: &str =
    "ekfac,kfac,grad-dot,grad-cos,relatif,self-influence,feature-dot,feature-cos,feature-l2,bm25,ngram,random";

#[test]
fn all_methods_of_one_command_are_those_of_commands_of_their_own() {
    let lm = Lm::new();
    lm.fit(&[]);
    let args = |out: &str, method: &str| -> Vec<String> {
        lm.score_args(out).into_iter().chain(["--method".to_owned(), method.to_owned()]).collect()
    };
    let result = ok(&strs(&args("all", ALL)));
    let all = PathBuf::from(lm.at("all"));
    assert_eq!(result["methods"].as_object().unwrap().len(), 12);
    for method in ALL.split(',') {
        ok(&strs(&args(method, method)));
        let (one, many) = (columns(Path::new(&lm.at(method))), columns(&all.join(method)));
        for (query, scores) in &one {
            let wide: Vec<f64> = scores.iter().map(|&x| f64::from(x)).collect();
            close(&many[query], &wide, 1e-5, method);
            assert!(scores.iter().any(|&x| x != scores[0]), "{method} tells examples apart");
        }
        let [top_one, top_many] = [lm.at(method), all.join(method).display().to_string()]
            .map(|f| TopRow::read_all(&Path::new(&f).join("top.parquet")).unwrap());
        let ids = |rows: &[TopRow]| rows.iter().take(5).map(|r| r.train_id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&top_one), ids(&top_many), "{method}");
    }
    // RelatIF is influence over the root of self-influence.
    let [ekfac, relatif, selves] = ["ekfac", "relatif", "self-influence"].map(|m| columns(&all.join(m)));
    for (query, scores) in &ekfac {
        let divided = |(x, s): (&f32, &f32)| f64::from(*x) / f64::from(*s).sqrt();
        let expected: Vec<f64> = scores.iter().zip(&selves["self"]).map(divided).collect();
        close(&relatif[query], &expected, 1e-5, "relatif");
    }
    // Again, with one method more: the others are complete, and stay.
    let said = etymon(&strs(&args("all", "ekfac,tracin-cp"))).status;
    assert!(!said.success(), "tracin-cp needs checkpoints");
    let again = etymon(&strs(&args("all", "ekfac,bm25,arnoldi")));
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success() && text.matches("is complete already").count() == 2, "{text}");
}

#[test]
fn the_cosine_is_that_of_the_gradients_alone() {
    let (folder, at) = places();
    let (model, train) = (reference("digits"), reference("digits/train.csv"));
    let few: Vec<String> = std::fs::read_to_string(&train).unwrap().lines().take(40).map(str::to_owned).collect();
    std::fs::write(at("few.csv"), few.join("\n") + "\n").unwrap();
    // Queries that are train rows: f = −L has the gradient of the row, so that the cosine with itself is 1.
    let base = ["score", "--model", &model, "--data", &at("few.csv"), "--queries", &at("few.csv")];
    ok(&[&base[..], &["--method", "grad-cos,grad-dot", "--out", &at("s")]].concat());
    ok(&[
        "score",
        "--model",
        &model,
        "--data",
        &at("few.csv"),
        "--method",
        "grad-dot",
        "--self-influence",
        "--out",
        &at("n"),
    ]);
    let (cosines, dots) = (columns(&folder.path().join("s/grad-cos")), columns(&folder.path().join("s/grad-dot")));
    let squares = &columns(&folder.path().join("n"))["self"];
    let ids = ScoreTable::open(&folder.path().join("s/grad-dot")).unwrap().queries().to_vec();
    for (q, id) in ids.iter().enumerate() {
        let norm = |i: usize| f64::from(squares[i]).sqrt();
        let expected: Vec<f64> = dots[id].iter().enumerate().map(|(i, &x)| f64::from(x) / norm(i) / norm(q)).collect();
        close(&cosines[id], &expected, 1e-5, id);
        assert!((cosines[id][q] - 1.0).abs() < 1e-5, "{}", cosines[id][q]);
    }
}

#[test]
fn tracin_adds_up_checkpoints_by_their_learning_rates_and_layers_of_all_of_them() {
    let (folder, at) = places();
    let config = format!(
        "out = \"{}\"\ndata = [\"{}\"]\nsteps = 20\ncheckpoint_every = 8\nlr = 0.1\nschedule = \"cosine\"\noptimizer = \"sgd\"\n\
         max_tokens = 8\n[architecture]\nmodel_type = \"mlp\"\nsizes = [64, 16, 10]\nactivation = \"relu\"\n\
         task = \"classification\"\n",
        at("run"),
        reference("digits/train.csv")
    )
    .replace("max_tokens = 8\n", "");
    std::fs::write(at("train.toml"), config).unwrap();
    ok(&["train", &at("train.toml")]);
    let (train, queries) = (reference("digits/train.csv"), at("q.csv"));
    let few: Vec<String> =
        std::fs::read_to_string(reference("digits/query.csv")).unwrap().lines().take(4).map(str::to_owned).collect();
    std::fs::write(&queries, few.join("\n") + "\n").unwrap();
    let score = |model: &str, method: &str, out: &str, more: &[&str]| {
        let base =
            ["score", "--model", model, "--data", &train, "--queries", &queries, "--method", method, "--out", out];
        ok(&[&base[..], &["--max-rows", "90"], more].concat())
    };
    score(&at("run/model"), "tracin-cp", &at("cp"), &["--checkpoints", &at("run"), "--per-layer"]);
    let summed = columns(Path::new(&at("cp")));
    let mut expected: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (step, name) in [(8.0, "checkpoint-000008"), (16.0, "checkpoint-000016")] {
        let rate = 0.1 * 0.5 * (1.0 + (std::f64::consts::PI * step / 20.0).cos());
        score(&at(&format!("run/{name}")), "grad-dot", &at(name), &[]);
        for (query, scores) in columns(Path::new(&at(name))) {
            let sums = expected.entry(query).or_insert_with(|| vec![0.0; scores.len()]);
            sums.iter_mut().zip(scores).for_each(|(sum, x)| *sum += rate * f64::from(x));
        }
    }
    for (query, sums) in &expected {
        close(&summed[query], sums, 1e-5, query);
    }
    let layers: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("cp/manifest.json")).unwrap()).unwrap();
    let layers = layers["progress"]["layers"].as_array().unwrap().clone();
    assert_eq!(layers.len(), 4);
    assert_eq!(layers[0], "checkpoint-000008/layers.0");
    for row in TopRow::read_all(&folder.path().join("cp/top.parquet")).unwrap() {
        let parts: f32 = row.layer_scores.unwrap().iter().sum();
        assert!((parts - row.score).abs() <= 1e-4 * row.score.abs().max(1e-3), "{parts} {}", row.score);
    }
}

#[test]
fn tracin_ideal_reads_the_log_of_the_training() {
    let (_folder, at) = places();
    let queries: Vec<String> =
        std::fs::read_to_string(reference("digits/query.csv")).unwrap().lines().take(4).map(str::to_owned).collect();
    std::fs::write(at("q.csv"), queries.join("\n") + "\n").unwrap();
    let config = format!(
        "out = \"{}\"\ndata = [\"{}\"]\nwatch = [\"{}\"]\nepochs = 1\nbatch_size = 100\n[architecture]\n\
         model_type = \"mlp\"\nsizes = [64, 16, 10]\nactivation = \"relu\"\ntask = \"classification\"\n",
        at("run"),
        reference("digits/train.csv"),
        at("q.csv")
    );
    std::fs::write(at("train.toml"), config).unwrap();
    ok(&["train", &at("train.toml")]);
    let (model, log) = (at("run/model"), at("run"));
    let (train, queries) = (reference("digits/train.csv"), at("q.csv"));
    let base = ["score", "--model", &model, "--data", &train, "--queries", &queries, "--method", "tracin-ideal"];
    ok(&[&base[..], &["--log", &log, "--out", &at("s")]].concat());
    let losses = etymon_store::read_losses(&Path::new(&log).join("log")).unwrap();
    for (query, scores) in columns(Path::new(&at("s"))) {
        // In one epoch every example is in one step: all changes add up to the change of the whole run.
        let total: f64 = scores.iter().map(|&x| f64::from(x)).sum();
        let of_query: Vec<f64> = losses.iter().filter(|l| l.query_id == query).map(|l| l.loss).collect();
        let change = of_query[0] - of_query[of_query.len() - 1];
        assert!((total - change).abs() < 1e-4 * change.abs().max(1.0), "{query}: {total} {change}");
    }
    let text = refused(&[&base[..], &["--out", &at("t")]].concat());
    assert!(text.contains("--log"), "{text}");
}

#[test]
fn what_a_method_lacks_is_said_before_any_work() {
    let (_folder, at) = places();
    let (model, train, queries) = (reference("digits"), reference("digits/train.csv"), reference("digits/query.csv"));
    let out = at("no");
    let base = ["score", "--model", &model, "--data", &train, "--queries", &queries, "--out", &out];
    for (more, words) in [
        (&["--method", "grad-dot,relatif"][..], &["--factors", "relatif"][..]),
        (&["--method", "tracin-cp"], &["--checkpoints", "tracin-cp"]),
        (&["--method", "random,grad-dot", "--per-layer"], &["--per-layer", "random"]),
        (&["--method", "nonsense"], &["nonsense"]),
        (&["--method", "bm25"], &["token"]),
    ] {
        let text = refused(&[&base[..], more].concat());
        assert!(words.iter().all(|word| text.contains(word)), "{more:?}: {text}");
    }
    let listed = ok(&["methods"]);
    assert_eq!(listed["methods"].as_array().unwrap().len(), 23);
}

fn places() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    (folder, move |name: &str| root.join(name).display().to_string())
}
