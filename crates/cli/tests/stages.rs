//! Two stages on the command line: fine-tuning that is tied, scores of both stages, and retraining of both.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Lm, ok, reference, refused};
use etymon_store::{LayerTable, ScoreTable, TokenTable};
use serde_json::Value;

const N: usize = 48;

fn rows(n: usize, classes: usize, salt: usize) -> String {
    let value = |i: usize, j: usize| ((i * 37 + j * 101 + i * i * 13 + i * j * 7 + salt * 31) % 97) as f64 / 48.0 - 1.0;
    let row = |i: usize| {
        let x: Vec<f64> = (0..4).map(|j| value(i, j) + if j == i % classes { 0.7 } else { 0.0 }).collect();
        let source = if i % 5 < 2 { "web" } else { "books" };
        format!("{{\"id\": \"r{i}\", \"features\": {x:?}, \"label\": {}, \"source\": \"{source}\"}}\n", i % classes)
    };
    (0..n).map(row).collect()
}

/// A pre-training of three classes, and fine-tunings on two with a new head: frozen below, and near.
fn prepared() -> Lm {
    let temp = Lm::new();
    let write = |name: &str, text: &str| std::fs::write(temp.at(name), text).unwrap();
    write("pre.jsonl", &rows(N, 3, 0));
    write("fine.jsonl", &rows(24, 2, 3));
    write("q.jsonl", &rows(5, 2, 8));
    let how = "epochs = 800\nbatch_size = 48\nlr = 0.1\nschedule = \"cosine\"\noptimizer = \"sgd\"\nweight_decay = 0.05\nreduction = \"example_mean\"\n";
    let new = "[architecture]\nmodel_type = \"mlp\"\nsizes = [4, 5, 3]\nactivation = \"tanh\"\n";
    write("pre.toml", &format!("out = \"pre\"\ndata = [\"pre.jsonl\"]\n{how}{new}"));
    for (name, tie) in [("fixed", "frozen = \"layers.0\""), ("updated", "proximity = 0.5"), ("loose", "")] {
        let from = format!("out = \"{name}\"\nmodel = \"pre/model\"\ndata = [\"fine.jsonl\"]\n{how}");
        write(&format!("{name}.toml"), &format!("{from}[finetune]\nnew_head = true\noutputs = 2\n{tie}\n"));
    }
    for name in ["pre", "fixed", "updated", "loose"] {
        ok(&["train", &temp.at(&format!("{name}.toml"))]);
    }
    temp
}

fn score(temp: &Lm, fine: &str, out: &str, more: &[&str]) -> Value {
    let stages = format!("{},{}", temp.at("pre"), temp.at(fine));
    let (data, queries, out) = (temp.at("pre.jsonl"), temp.at("q.jsonl"), temp.at(out));
    let base = ["score", "--stages", &stages, "--data", &data, "--queries", &queries, "--out", &out];
    ok(&[&base[..], &["--damping", "abs:0.05"], more].concat())
}

/// All scores of a table, query after query.
fn table(temp: &Lm, name: &str) -> Vec<f64> {
    let table = ScoreTable::open(Path::new(&temp.at(name))).unwrap();
    let column = |q: usize| table.column(&format!("r{q}")).unwrap();
    (0..5).flat_map(column).map(f64::from).collect()
}

fn relative_error(x: &[f64], y: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut x.iter().zip(y).map(|(x, y)| x - y)) / norm(&mut y.iter().copied())
}

#[test]
fn both_stages_are_scored_and_conjugate_gradients_agree_with_the_dense_solve() {
    let temp = prepared();
    for fine in ["fixed", "updated"] {
        let (dense, cg) = (format!("{fine}-dense"), format!("{fine}-cg"));
        let more = ["--finetune-damping", "abs:0.05", "--per-layer"];
        let found = score(&temp, fine, &dense, &[&["--method", "dense"], &more[..]].concat());
        let solving = ["--method", "cg", "--tolerance", "1e-6", "--steps", "200"];
        score(&temp, fine, &cg, &[&solving[..], &more[..]].concat());
        for stage in ["pretraining", "finetuning"] {
            let [x, y] = [&cg, &dense].map(|out| table(&temp, &format!("{out}/{stage}")));
            assert_eq!(y.len(), 5 * if stage == "pretraining" { N } else { 24 });
            let error = relative_error(&x, &y);
            assert!(error < 1e-3, "{fine}, {stage}: {error}");
        }
        let query = &found["queries"][0];
        let share = query["share_of_pretraining"].as_f64().unwrap();
        assert!(share > 0.0 && share < 1.0, "{query}");
        assert!(query["finetuning"]["strongest"]["train_id"].as_str().unwrap().starts_with('r'));
        let page = temp.at(&format!("{fine}.html"));
        assert_eq!(ok(&["report", &temp.at(&dense), "-o", &page])["queries"], 10);
        assert!(std::fs::read_to_string(&page).unwrap().contains("r0 · finetuning"));
        // The same again is there already; other settings are not mixed up with it.
        score(&temp, fine, &dense, &[&["--method", "dense"], &more[..]].concat());
    }
}

#[test]
fn fine_tuning_is_inverted_in_a_way_of_its_own_where_that_is_asked_for() {
    let temp = prepared();
    let (model, data, factors) = (temp.at("pre/model"), temp.at("pre.jsonl"), temp.at("f"));
    ok(&["fit", "--model", &model, "--data", &data, "--out", &factors]);
    let damping = ["--finetune-damping", "abs:0.05"];
    score(&temp, "updated", "dense", &[&["--method", "dense"], &damping[..]].concat());
    let mixed = ["--method", "ekfac", "--factors", &factors, "--finetune-method", "dense"];
    score(&temp, "updated", "mixed", &[&mixed[..], &damping].concat());
    let error = |stage: &str| {
        let [x, y] = ["mixed", "dense"].map(|out| table(&temp, &format!("{out}/{stage}")));
        relative_error(&x, &y)
    };
    let [fine, pre] = ["finetuning", "pretraining"].map(error);
    assert!(fine < 1e-6 && pre > 1e-3, "finetuning {fine}, pretraining {pre}");
}

#[test]
fn ekfac_of_both_stages_with_a_firm_pull_is_that_with_a_frozen_embedding() {
    let temp = prepared();
    let fit = |model: &str, data: &str| {
        let (model, data, out) = (temp.at(&format!("{model}/model")), temp.at(data), temp.at(&format!("f-{model}")));
        ok(&["fit", "--model", &model, "--data", &data, "--out", &out]);
        out
    };
    let (pre, fixed) = (fit("pre", "pre.jsonl"), fit("fixed", "fine.jsonl"));
    let factors = ["--method", "ekfac", "--factors", &pre, "--finetune-factors", &fixed];
    score(&temp, "fixed", "frozen", &factors);
    // A firm pull turns (G + ρ)⁻¹ρ into 1, while the blocks of EK-FAC know nothing of the head.
    let bare = format!("{},{}", temp.at("pre"), temp.at("fixed/model"));
    let (data, queries, fine) = (temp.at("pre.jsonl"), temp.at("q.jsonl"), temp.at("fine.jsonl"));
    let base = ["score", "--stages", &bare, "--data", &data, "--queries", &queries, "--finetune-data", &fine];
    let out = temp.at("firm");
    let more = ["--damping", "abs:0.05", "--proximity", "abs:1e6", "--out", &out];
    ok(&[&base[..], &factors, &more].concat());
    let plain = temp.at("plain");
    let more = ["--damping", "abs:0.05", "--proximity", "abs:1e7", "--out", &plain];
    ok(&[&base[..], &factors, &more].concat());
    let error = relative_error(&table(&temp, "firm/pretraining"), &table(&temp, "plain/pretraining"));
    assert!(error < 1e-4, "{error}");
    let crossed = relative_error(&table(&temp, "frozen/pretraining"), &table(&temp, "plain/pretraining"));
    assert!(crossed > 1e-3, "the response of the head counts: {crossed}");
}

#[test]
fn layers_and_tokens_of_a_language_model_sum_to_the_scores_of_both_stages() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "40"]);
    let (pre, queries) = (reference("lm"), reference("lm/query.jsonl"));
    let config = format!(
        "out = \"fine\"\nmodel = \"{pre}\"\ndata = [\"{queries}\"]\nsteps = 4\nbatch_size = 4\nlr = 1e-3\n[finetune]\nproximity = 0.01\n"
    );
    std::fs::write(lm.at("fine.toml"), config).unwrap();
    ok(&["train", &lm.at("fine.toml")]);
    let (model, factors) = (lm.at("fine/model"), lm.at("fine-factors"));
    ok(&["fit", "--model", &model, "--data", &queries, "--out", &factors]);
    let (stages, data, out) = (format!("{pre},{}", lm.at("fine")), reference("lm/train.jsonl"), lm.at("s"));
    let base =
        ["score", "--stages", &stages, "--data", &data, "--max-rows", "40", "--queries", &queries, "--out", &out];
    let more = ["--method", "ekfac", "--factors", &lm.at("factors"), "--finetune-factors", &factors];
    ok(&[&base[..], &more, &["--per-layer", "--per-token", "all"]].concat());
    for stage in ["pretraining", "finetuning"] {
        let folder = Path::new(&out).join(stage);
        let scores = ScoreTable::open(&folder).unwrap().column("q1").unwrap();
        let layers = LayerTable::open(&folder).unwrap().column("q1").unwrap();
        let tokens = TokenTable::open(&folder).unwrap().column("q1").unwrap();
        let most = scores.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        assert!(most > 0.0, "{stage}");
        for (score, parts) in scores.iter().zip(layers.chunks(layers.len() / scores.len())) {
            let sum: f32 = parts.iter().sum();
            assert!((sum - score).abs() < 1e-4 * most, "{stage}: layers sum to {sum}, the score is {score}");
        }
        let [sum, total] = [&tokens, &scores].map(|x| x.iter().map(|&x| f64::from(x)).sum::<f64>());
        assert!((sum - total).abs() < 1e-3 * f64::from(most), "{stage}: tokens sum to {sum}, scores to {total}");
    }
}

#[test]
fn both_stages_are_retrained_and_harmful_groups_are_listed() {
    let temp = prepared();
    score(&temp, "updated", "s", &["--method", "dense", "--finetune-damping", "abs:0.05"]);
    let stages = format!("{},{}", temp.at("pre.toml"), temp.at("updated.toml"));
    let (queries, scores, out) = (temp.at("q.jsonl"), temp.at("s/pretraining"), temp.at("e"));
    let base = ["evaluate", "leave-k-out", "--stages", &stages, "--queries", &queries, "--scores", &scores];
    let found = ok(&[&base[..], &["--groups", "12", "--size", "1", "--removal", "shrink", "--out", &out]].concat());
    let method = &found["methods"][0];
    let pearson = method["pearson"]["value"].as_f64().unwrap();
    assert!(pearson > 0.8, "{pearson}");
    let groups = method["by_group"].as_array().unwrap();
    let predicted: Vec<f64> = groups.iter().map(|g| g["predicted"].as_f64().unwrap()).collect();
    assert!(groups.len() == 12 && predicted.is_sorted_by(|a, b| a >= b), "{predicted:?}");
    // The second stage counts: another one, with the same first, is trained anew.
    let other = format!("{},{}", temp.at("pre.toml"), temp.at("fixed.toml"));
    let args = ["evaluate", "leave-k-out", "--stages", &other, "--queries", &queries, "--scores", &scores];
    let again = ok(&[&args[..], &["--groups", "12", "--size", "1", "--removal", "shrink", "--out", &out]].concat());
    let trained = |result: &Value| result["settings"]["retrainings"]["trained"].as_u64().unwrap();
    assert_eq!((trained(&again), trained(&found) > 10), (trained(&found), true));
}

#[test]
fn stages_that_do_not_fit_together_are_refused_before_any_folder() {
    let temp = prepared();
    let (data, queries, out) = (temp.at("pre.jsonl"), temp.at("q.jsonl"), temp.at("no"));
    let (pre, fixed) = (temp.at("pre"), temp.at("fixed"));
    let both = |a: &str, b: &str| format!("{a},{b}");
    let dense = ["--method", "dense"];
    for (stages, more, words) in [
        (both(&pre, &fixed), &["--method", "ekfac"][..], "--finetune-factors"),
        (both(&pre, &fixed), &["--method", "grad-dot"], "one of ekfac"),
        (both(&pre, &fixed), &["--method", "cg", "--finetune-method", "bm25"], "--finetune-method: two stages"),
        (pre.clone(), &dense, "expected two"),
        (both(&fixed, &temp.at("updated")), &dense, "is not what was fine-tuned"),
        (both(&pre, &temp.at("loose")), &dense, "goes from one stage to the other"),
        (both(&pre, &temp.at("fixed/model")), &dense, "--finetune-data"),
    ] {
        let base = ["score", "--stages", &stages, "--data", &data, "--queries", &queries, "--out", &out];
        let text = refused(&[&base[..], more].concat());
        assert!(text.contains(words), "{stages} {more:?}: {text}");
    }
    let fine = temp.at("fine.jsonl");
    let bare = both(&pre, &temp.at("fixed/model"));
    let base = ["score", "--stages", &bare, "--data", &data, "--queries", &queries, "--out", &out];
    let text = refused(&[&base[..], &dense, &["--finetune-data", &fine]].concat());
    assert!(text.contains("--proximity"), "{text}");
    assert!(!Path::new(&out).exists(), "no folder before the input is sound");
    assert!(refused(&["score", "--data", &data, "--queries", &queries, "--out", &out]).contains("--model"));
}
