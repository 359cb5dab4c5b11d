//! The binary end to end, on the reference models.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use std::path::{Path, PathBuf};

use common::{Lm, ok, reference, refused, relative_error, strs};
use etymon_store::{LayerTable, ScoreTable, ScoreTableWriter, TopRow, TopSide};
use serde_json::Value;

#[test]
fn fit_score_top_and_report_of_a_language_model_agree_with_the_reference() {
    let lm = Lm::new();
    assert_eq!(lm.fit(&[])["examples"], 300);
    let args = lm.score_args("scores");
    let scored = ok(&[&strs(&args)[..], &["--per-layer", "--per-token", "all", "--top", "7"]].concat());
    assert_eq!((scored["rows"].as_u64(), scored["n_train"].as_u64()), (Some(300), Some(300)));

    let folder = PathBuf::from(lm.at("scores"));
    let truth = etymon_store::TensorFile::open(Path::new(&reference("lm/ekfac_f64.safetensors"))).unwrap();
    let expected = truth.read_f64("ekfac").unwrap();
    let table = ScoreTable::open(&folder).unwrap();
    assert_eq!(table.train_ids().unwrap()[..2], ["v000", "v001"]);
    for (q, id) in table.queries().iter().enumerate() {
        let error = relative_error(&table.column(id).unwrap(), &expected[q * 300..(q + 1) * 300]);
        assert!(error < 2e-3, "{id}: {error:e}");
    }
    assert_eq!(LayerTable::open(&folder).unwrap().n_rows(), 300 * 8);
    let tokens = etymon_store::TokenTable::open(&folder).unwrap();
    let scores = table.column("q0").unwrap();
    let sum: f64 = tokens.column("q0").unwrap().iter().map(|&x| f64::from(x)).sum();
    let total: f64 = scores.iter().map(|&x| f64::from(x)).sum();
    assert!((sum - total).abs() < 1e-3 * total.abs().max(1.0), "tokens sum to {sum}, scores to {total}");

    let top = TopRow::read_all(&folder.join("top.parquet")).unwrap();
    assert_eq!(top.len(), 8 * 2 * 7);
    let best = scores.iter().copied().fold(f32::MIN, f32::max);
    let first = top.iter().find(|r| r.query_id == "q0" && r.side == TopSide::Proponent && r.rank == 1).unwrap();
    assert_eq!(first.score, best);
    let parts: f32 = first.token_scores.as_ref().unwrap().iter().sum();
    assert!((parts - best).abs() < 1e-3 * best.abs());
    assert_eq!(first.layer_scores.as_ref().unwrap().len(), 8);

    let listed = ok(&["top", &lm.at("scores"), "--query", "q0", "-k", "3"]);
    assert_eq!(listed["queries"][0]["proponents"][0]["train_id"], first.train_id.as_str());
    assert_eq!(listed["queries"][0]["proponents"].as_array().unwrap().len(), 3);
    let page = lm.at("report.html");
    ok(&["report", &lm.at("scores"), "-o", &page]);
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("q7") && html.contains(&first.train_id));
}

#[test]
fn a_command_that_is_done_is_not_done_again_and_other_settings_are_refused() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "40"]);
    let manifest = lm.folder.path().join("factors/manifest.json");
    let before = std::fs::read_to_string(&manifest).unwrap();
    lm.fit(&["--max-rows", "40"]);
    assert_eq!(before, std::fs::read_to_string(&manifest).unwrap());
    let (model, data, out) = (reference("lm"), reference("lm/train.jsonl"), lm.at("factors"));
    let base = ["fit", "--model", &model, "--data", &data, "--out", &out, "--labels", "data", "--max-rows", "50"];
    let text = refused(&base);
    assert!(text.contains("max_rows") && text.contains("40") && text.contains("50"), "{text}");
    assert!(text.contains("--overwrite"), "{text}");
    assert_eq!(ok(&[&base[..], &["--overwrite"]].concat())["examples"], 50);
}

#[test]
fn an_interrupted_score_goes_on_and_ends_as_if_never_interrupted() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "50"]);
    let args = lm.score_args("whole");
    ok(&[&strs(&args)[..], &["--top", "5"]].concat());
    let (whole, cut) = (PathBuf::from(lm.at("whole")), PathBuf::from(lm.at("cut")));
    let table = ScoreTable::open(&whole).unwrap();
    let first = table.blocks(100).next().unwrap().unwrap();

    // What a run leaves behind that was killed after it had saved 100 rows.
    std::fs::create_dir(&cut).unwrap();
    let mut writer = ScoreTableWriter::open(&cut, table.queries()).unwrap();
    writer.block(&first.keys.train_ids, &first.scores).unwrap();
    writer.finish().unwrap();
    std::fs::write(cut.join("scores-00001.parquet.part"), "half a file").unwrap();
    let text = std::fs::read_to_string(whole.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["status"] = "running".into();
    manifest["progress"] = serde_json::json!({"score_files": 1, "layer_files": 0, "token_files": 0});
    std::fs::write(cut.join("manifest.json"), manifest.to_string()).unwrap();

    let args = lm.score_args("cut");
    let resumed = ok(&[&strs(&args)[..], &["--top", "5"]].concat());
    assert_eq!(resumed["rows"], 300);
    let again = ScoreTable::open(&cut).unwrap();
    assert_eq!(again.train_ids().unwrap(), table.train_ids().unwrap());
    for query in table.queries() {
        let (x, y) = (again.column(query).unwrap(), table.column(query).unwrap());
        let y: Vec<f64> = y.into_iter().map(f64::from).collect();
        assert!(relative_error(&x, &y) < 1e-6, "{query}");
    }
    let names = |folder: &Path| -> Vec<(String, String)> {
        let rows = TopRow::read_all(&folder.join("top.parquet")).unwrap();
        rows.into_iter().map(|r| (r.query_id, r.train_id)).collect()
    };
    assert_eq!(names(&cut), names(&whole));
}

#[test]
fn a_filter_scores_its_candidates_as_the_whole_pass_does() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "60"]);
    let args = lm.score_args("filtered");
    ok(&[&strs(&args)[..], &["--filter", "tfidf:10"]].concat());
    let args = lm.score_args("all");
    ok(&strs(&args));
    let (some, all) =
        (ScoreTable::open(Path::new(&lm.at("filtered"))).unwrap(), ScoreTable::open(Path::new(&lm.at("all"))).unwrap());
    let (ids, all_ids) = (some.train_ids().unwrap(), all.train_ids().unwrap());
    assert!(ids.len() >= 10 && ids.len() <= 80, "{} candidates", ids.len());
    let (some, all) = (some.column("q3").unwrap(), all.column("q3").unwrap());
    for (id, score) in ids.iter().zip(some) {
        let there = all[all_ids.iter().position(|other| other == id).unwrap()];
        assert!((score - there).abs() <= 1e-4 * there.abs().max(1.0), "{id}: {score} against {there}");
    }
}

#[test]
fn classifiers_self_influence_and_gradient_dots_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (model, train, queries) = (reference("digits"), reference("digits/train.csv"), reference("digits/query.csv"));
    ok(&["fit", "--model", &model, "--data", &train, "--out", &at("f"), "--labels", "data"]);
    let base = ["score", "--model", &model, "--factors", &at("f"), "--data", &train];
    ok(&[&base[..], &["--queries", &queries, "--out", &at("s")]].concat());
    ok(&[&base[..], &["--self-influence", "--out", &at("self")]].concat());
    ok(&[
        "score",
        "--model",
        &model,
        "--data",
        &train,
        "--queries",
        &queries,
        "--out",
        &at("dot"),
        "--method",
        "grad-dot",
    ]);
    let truth = etymon_store::TensorFile::open(Path::new(&reference("digits/scores.safetensors"))).unwrap();
    for (out, name) in [("s", "emp.ekfac.damp_heuristic"), ("dot", "identity")] {
        let table = ScoreTable::open(Path::new(&at(out))).unwrap();
        let ours = table.column(&table.queries()[5]).unwrap();
        let error = relative_error(&ours, &truth.read_f64(name).unwrap()[5 * 1400..6 * 1400]);
        assert!(error < 1e-3, "{name}: {error:e}");
    }
    let selves = ScoreTable::open(Path::new(&at("self"))).unwrap().column("self").unwrap();
    let error = relative_error(&selves, &truth.read_f64("emp.ekfac.self.damp_heuristic").unwrap());
    assert!(error < 1e-3, "{error:e}");
    ok(&["report", &at("s"), "-o", &at("digits.html")]);
    ok(&["report", &at("self"), "-o", &at("self.html")]);
}

#[test]
fn doctor_passes_on_sound_models_and_names_its_checks() {
    let lm = reference("lm");
    let data = reference("lm/train.jsonl");
    let checked = ok(&["doctor", "--model", &lm, "--data", &data, "--prompt", "And he said"]);
    assert_eq!(checked["passed"], true);
    let names: Vec<&str> = checked["checks"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert!(["gradient", "batch invariance", "padding invariance"].iter().all(|n| names.contains(n)), "{names:?}");
    assert_eq!(
        ok(&["doctor", "--model", &reference("digits"), "--data", &reference("digits/train.csv")])["passed"],
        true
    );
}

#[test]
fn bad_input_is_refused_before_long_work_with_a_message_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        at(name)
    };
    let lm = reference("lm");
    let out = at("out");
    let fit = |model: &str, data: &str| refused(&["fit", "--model", model, "--data", data, "--out", &out]);
    let has = |text: String, words: &[&str]| {
        assert!(words.iter().all(|w| text.contains(w)), "expected {words:?} in: {text}");
    };
    has(fit(&at("nothing"), &at("x.jsonl")), &["nothing", "no model here"]);
    has(fit(&lm, &at("missing.jsonl")), &["missing.jsonl"]);
    has(fit(&lm, &write("empty.jsonl", "")), &["empty.jsonl", "empty"]);
    let broken = "{\"text\": \"In the beginning God created\"}\n{\"text\": \"oops\n";
    has(fit(&lm, &write("broken.jsonl", broken)), &["broken.jsonl:2", "--on-bad-row skip"]);
    let foreign = "{\"input_ids\": [1, 2, 900]}\n";
    has(fit(&lm, &write("foreign.jsonl", foreign)), &["900", "512", "--tokenizer"]);
    has(fit(&lm, &reference("digits/train.csv")), &["tokens", "features"]);
    has(
        refused(&["fit", "--model", &lm, "--data", &at("x"), "--out", &out, "--layers", "nope"]),
        &["`nope`", "transformer.h.0.attn.c_attn"],
    );
    assert!(!Path::new(&out).exists(), "nothing was begun");

    let skipped = ok(&[
        "fit",
        "--model",
        &lm,
        "--data",
        &write("one.jsonl", broken),
        "--out",
        &at("skipped"),
        "--on-bad-row",
        "skip",
    ]);
    assert_eq!(skipped["examples"], 1);
    let long = format!("{{\"prompt\": \"And {}\", \"completion\": \" end.\"}}\n", "he said ".repeat(80));
    let queries = write("long.jsonl", &long);
    let data = reference("lm/train.jsonl");
    let score = |more: &[&str]| {
        let base = ["score", "--model", &lm, "--data", &data, "--out", &out];
        refused(&[&base[..], more].concat())
    };
    has(score(&["--queries", &queries, "--method", "grad-dot"]), &["context is 64"]);
    has(score(&["--queries", &reference("lm/query.jsonl")]), &["--factors", "is missing"]);
    has(score(&["--method", "grad-dot"]), &["--queries", "is missing"]);
    has(
        score(&["--queries", &reference("lm/query.jsonl"), "--factors", &at("skipped"), "--filter", "x"]),
        &["tfidf:N"],
    );
    has(score(&["--queries", &queries, "--damping", "0.1"]), &["rel:X or abs:X"]);
    let named = write("named.jsonl", "{\"id\": \"train_id\", \"text\": \"And he said\"}\n");
    has(score(&["--queries", &named, "--method", "grad-dot"]), &["`train_id`", "another id"]);
    let kfac = at("kfac");
    ok(&["fit", "--model", &lm, "--data", &data, "--out", &kfac, "--method", "kfac", "--max-rows", "20"]);
    has(score(&["--queries", &reference("lm/query.jsonl"), "--factors", &kfac]), &["--method kfac"]);
    has(
        refused(&[
            "score",
            "--model",
            &reference("digits"),
            "--data",
            &reference("digits/train.csv"),
            "--queries",
            &reference("digits/query.csv"),
            "--method",
            "grad-dot",
            "--per-token",
            "all",
            "--out",
            &out,
        ]),
        &["--per-token", "no tokens"],
    );
    has(
        refused(&[
            "score",
            "--model",
            &reference("digits"),
            "--factors",
            &kfac,
            "--data",
            &reference("digits/train.csv"),
            "--queries",
            &reference("digits/query.csv"),
            "--out",
            &out,
        ]),
        &["another model"],
    );
    assert!(!Path::new(&out).exists(), "nothing was begun");
    let other = at("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(Path::new(&other).join("precious.txt"), "x").unwrap();
    has(refused(&["fit", "--model", &lm, "--data", &data, "--out", &other]), &["not empty"]);
}
