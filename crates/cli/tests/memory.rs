//! Limits of memory: what is planned, refused, and cut into groups of layers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use std::path::{Path, PathBuf};

use common::{Lm, etymon, ok, reference, refused, relative_error, strs};
use etymon_store::{
    LayerTable, LayerTableWriter, RowKeys, ScoreTable, ScoreTableWriter, TokenTable, TopRow, WideTable,
};
use serde_json::{Value, json};

fn fit_args(lm: &Lm, out: &str, more: &[&str]) -> Vec<String> {
    let (model, data, out) = (reference("lm"), reference("lm/train.jsonl"), lm.at(out));
    let base = ["fit", "--model", &model, "--data", &data, "--out", &out, "--max-rows", "60", "--batch-rows", "64"];
    base.iter().chain(more).map(|&arg| arg.to_owned()).collect()
}

/// What `plan` says of a command.
fn plan(args: &[String], limit: Option<u64>) -> Value {
    let limit = limit.map(|limit| ["--memory-limit".to_owned(), limit.to_string()]);
    let limit: Vec<&str> = limit.iter().flatten().map(String::as_str).collect();
    ok(&[&["plan"][..], &strs(args), &limit].concat())
}

/// Limits that force a command into more and more groups of layers, with the numbers of these.
fn limits(args: &[String]) -> Vec<(String, u64)> {
    let whole = plan(args, None);
    assert_eq!(whole["layer_groups"], 1);
    let mut limit = whole["memory_bytes"].as_u64().unwrap() - 1;
    let mut found = Vec::new();
    loop {
        let text = limit.to_string();
        if !etymon(&[&["plan"][..], &strs(args), &["--json", "--memory-limit", &text]].concat()).status.success() {
            return found;
        }
        let planned = plan(args, Some(limit));
        let groups = planned["layer_groups"].as_u64().unwrap();
        if found.last().is_none_or(|(_, last)| groups > *last) {
            found.push((text, groups));
        }
        assert!(planned["memory_bytes"].as_u64().unwrap() <= limit);
        limit = planned["memory_bytes"].as_u64().unwrap() - 1;
    }
}

/// All files below a folder, with their sizes.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files(&entry.path())),
            false => all.push((entry.path(), entry.metadata().unwrap().len())),
        }
    }
    all.sort();
    all
}

#[test]
fn a_limit_that_nothing_fits_into_is_refused_before_any_work_with_figures_and_the_knob() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "20"]);
    let before = files(lm.folder.path());
    for args in [fit_args(&lm, "new", &[]), lm.score_args("new")] {
        for command in [vec![], vec!["plan"]] {
            let text = refused(&[&command[..], &strs(&args), &["--memory-limit", "3MiB"]].concat());
            assert!(text.contains("3.0 MiB are allowed") && text.contains("raise --memory-limit"), "{text}");
            let needed: f64 = text.split("needs ").nth(1).unwrap().split(" MiB").next().unwrap().parse().unwrap();
            assert!(needed > 3.0, "{text}");
        }
    }
    assert_eq!(files(lm.folder.path()), before, "nothing was begun");
}

#[test]
fn a_plan_writes_nothing_and_prints_every_phase() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "20"]);
    let before = files(lm.folder.path());
    let fit = fit_args(&lm, "new", &[]);
    for (args, phases) in [
        (fit, &["covariance", "eigendecomposition", "correction"][..]),
        (lm.score_args("new"), &["queries", "scores"][..]),
    ] {
        let planned = plan(&args, None);
        let found = planned["phases"].as_array().unwrap();
        assert_eq!(found.iter().map(|p| p["phase"].as_str().unwrap()).collect::<Vec<_>>(), phases);
        let of = |key: &str| found.iter().map(|p| p[key].as_f64().unwrap()).fold(0.0, f64::max);
        assert_eq!(planned["memory_bytes"].as_f64().unwrap(), of("memory_bytes"));
        assert!(of("flops") > 0.0 && of("seconds") > 0.0 && of("rows") > 0.0 && of("disk_bytes") > 0.0);
        let out = etymon(&[&["plan"][..], &strs(&args)].concat());
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(phases.iter().all(|phase| text.contains(phase)) && text.contains("all layers at once"), "{text}");
    }
    assert_eq!(files(lm.folder.path()), before);
}

#[test]
fn the_work_of_products_that_solve_a_query_grows_with_their_rows() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "20"]);
    let flops = |method: &str, steps: &str| {
        let args = [&lm.score_args("new")[..], &["--method", method, "--steps", steps].map(str::to_owned)].concat();
        plan(&args, None)["phases"][0]["flops"].as_f64().unwrap()
    };
    for method in ["cg", "lissa"] {
        let [few, more, many] = ["10", "20", "30"].map(|steps| flops(method, steps));
        assert!(((many - more) / (more - few) - 1.0).abs() < 1e-6, "{method}: {few:e}, {more:e}, {many:e}");
    }
}

#[test]
fn a_fit_whose_limit_forces_groups_of_layers_makes_the_same_factors() {
    let lm = Lm::new();
    let args = fit_args(&lm, "whole", &[]);
    ok(&strs(&args));
    let limits = limits(&args);
    let (first, last) = (&limits[0], &limits[limits.len() - 1]);
    assert!(first.1 == 2 && last.1 >= 4, "{limits:?}");
    let rows = |plan: &Value| plan["phases"][0]["rows"].as_u64().unwrap();
    let flops = |plan: &Value, phase: usize| plan["phases"][phase]["flops"].as_f64().unwrap();
    let (one, many) = (plan(&args, None), plan(&args, Some(last.0.parse().unwrap())));
    assert_eq!(rows(&many), rows(&one) * last.1, "every group is a pass");
    assert!(flops(&many, 0) > flops(&one, 0) && flops(&many, 1) == flops(&one, 1));
    for (limit, groups) in [first, last] {
        let out = format!("groups-{groups}");
        let args = fit_args(&lm, &out, &["--memory-limit", limit]);
        let said = etymon(&strs(&args)).stderr;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains(&format!("in {groups} groups of layers")), "{said}");
        let [found, whole] = [&out, "whole"].map(|name| files(Path::new(&lm.at(name))));
        let names =
            |files: &[(PathBuf, u64)]| files.iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
        let (x, y): (Vec<_>, Vec<_>) = (names(&found), names(&whole));
        assert_eq!(x, y, "nothing unfinished is left");
        for name in ["eigen.safetensors", "lambda.safetensors"] {
            let read = |out: &str| std::fs::read(Path::new(&lm.at(out)).join(name)).unwrap();
            assert!(read(&out) == read("whole"), "{name} in {groups} groups");
        }
        let config = |out: &str| {
            let text = std::fs::read_to_string(Path::new(&lm.at(out)).join("manifest.json")).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()["config"].clone()
        };
        assert_eq!(config(&out), config("whole"));
    }
}

/// Every column of two tables to a millionth, and their rows.
fn assert_same<K: RowKeys>(x: &WideTable<K>, y: &WideTable<K>) {
    assert_eq!((x.n_rows(), x.queries()), (y.n_rows(), y.queries()));
    for query in y.queries() {
        let expected: Vec<f64> = y.column(query).unwrap().into_iter().map(f64::from).collect();
        let error = relative_error(&x.column(query).unwrap(), &expected);
        assert!(error < 1e-6, "{query}: {error:e}");
    }
    assert!(x.train_ids().unwrap() == y.train_ids().unwrap());
}

fn assert_same_top(x: &Path, y: &Path) {
    let [x, y] = [x, y].map(|folder| TopRow::read_all(&folder.join("top.parquet")).unwrap());
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter().zip(&y) {
        assert_eq!((&x.query_id, x.side, &x.train_id, &x.tokens), (&y.query_id, y.side, &y.train_id, &y.tokens));
        for (x, y) in [(&x.token_scores, &y.token_scores), (&x.layer_scores, &y.layer_scores)] {
            assert_eq!(x.as_ref().map(Vec::len), y.as_ref().map(Vec::len));
            let (Some(x), Some(y)) = (x, y) else { continue };
            let y: Vec<f64> = y.iter().map(|&y| f64::from(y)).collect();
            assert!(relative_error(x, &y) < 1e-5);
        }
    }
}

#[test]
fn a_score_whose_limit_forces_groups_of_layers_makes_the_same_tables() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "60"]);
    let parts = ["--per-layer", "--per-token", "all", "--top", "5"];
    let top = ["--per-layer", "--per-token", "--top", "5", "--rank", "4"];
    for (name, more) in [("parts", &parts[..]), ("plain", &["--top", "0"]), ("top", &top)] {
        let args = |out: &str, last: &[&str]| -> Vec<String> {
            let more = more.iter().chain(&["--batch-rows", "64", "--max-rows", "70"]).chain(last);
            lm.score_args(out).into_iter().chain(more.map(|&arg| arg.to_owned())).collect()
        };
        let whole = PathBuf::from(lm.at(name));
        ok(&strs(&args(name, &[])));
        let limits = limits(&args(name, &["--overwrite"]));
        assert!(limits[limits.len() - 1].1 >= 3, "{limits:?}");
        for (limit, groups) in [&limits[0], &limits[limits.len() - 1]] {
            let out = format!("{name}-{groups}");
            assert_eq!(ok(&strs(&args(&out, &["--memory-limit", limit])))["rows"], 70);
            let folder = PathBuf::from(lm.at(&out));
            assert!(!folder.join("unfinished").exists());
            assert_same(&ScoreTable::open(&folder).unwrap(), &ScoreTable::open(&whole).unwrap());
            assert_same_top(&folder, &whole);
            if more.contains(&"all") {
                assert_same(&LayerTable::open(&folder).unwrap(), &LayerTable::open(&whole).unwrap());
                assert_same(&TokenTable::open(&folder).unwrap(), &TokenTable::open(&whole).unwrap());
            }
        }
    }
}

#[test]
fn self_influence_in_groups_of_layers_is_the_same() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "60"]);
    let args = |out: &str, more: &[&str]| -> Vec<String> {
        let (model, data, factors, out) = (reference("lm"), reference("lm/train.jsonl"), lm.at("factors"), lm.at(out));
        let base =
            ["score", "--self-influence", "--model", &model, "--data", &data, "--factors", &factors, "--out", &out];
        base.iter().chain(&["--batch-rows", "64"]).chain(more).map(|&arg| arg.to_owned()).collect()
    };
    ok(&strs(&args("whole", &[])));
    let limits = limits(&args("whole", &["--overwrite"]));
    let (limit, groups) = &limits[limits.len() - 1];
    assert!(*groups >= 3);
    ok(&strs(&args("cut", &["--memory-limit", limit])));
    let [cut, whole] = ["cut", "whole"].map(|name| PathBuf::from(lm.at(name)));
    assert_same(&ScoreTable::open(&cut).unwrap(), &ScoreTable::open(&whole).unwrap());
    assert_same_top(&cut, &whole);
}

#[test]
fn a_score_that_was_killed_in_its_second_group_of_layers_goes_on_there() {
    let lm = Lm::new();
    lm.fit(&["--max-rows", "60"]);
    let args = |out: &str, more: &[&str]| -> Vec<String> {
        lm.score_args(out).into_iter().chain(["--per-layer"].iter().chain(more).map(|&arg| arg.to_owned())).collect()
    };
    ok(&strs(&args("whole", &[])));
    ok(&strs(&args("half", &["--layers", "h.0"])));
    let [whole, half, cut] = ["whole", "half", "cut"].map(|name| PathBuf::from(lm.at(name)));

    // What a run leaves behind: the sums of the first group, and 100 rows of all layers.
    let sums = cut.join("unfinished/layers-00000-00004");
    std::fs::create_dir_all(&sums).unwrap();
    for name in ["scores-00000.parquet", "layers-00000.parquet"] {
        std::fs::copy(half.join(name), sums.join(name)).unwrap();
    }
    let (scores, layers) = (ScoreTable::open(&whole).unwrap(), LayerTable::open(&whole).unwrap());
    let first = scores.blocks(100).next().unwrap().unwrap();
    let mut writer = ScoreTableWriter::open(&cut, scores.queries()).unwrap();
    writer.block(&first.keys.train_ids, &first.scores).unwrap();
    writer.finish().unwrap();
    let first = layers.blocks(800).next().unwrap().unwrap();
    let mut writer = LayerTableWriter::open(&cut, layers.queries()).unwrap();
    writer.block(&first.keys.train_ids, &first.keys.layers, &first.scores).unwrap();
    writer.finish().unwrap();
    let text = std::fs::read_to_string(whole.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["status"] = "running".into();
    let files = json!({"score_files": 1, "layer_files": 1, "token_files": 0});
    manifest["progress"] = json!({"passes_for": ["ekfac"], "layers_done": 4, "layers_summed": 8});
    manifest["progress"].as_object_mut().unwrap().extend(files.as_object().unwrap().clone());
    std::fs::write(cut.join("manifest.json"), manifest.to_string()).unwrap();

    let resumed = etymon(&strs(&args("cut", &[])));
    let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(said.contains("resuming after 100 rows"), "{said}");
    assert!(!cut.join("unfinished").exists());
    assert_same(&ScoreTable::open(&cut).unwrap(), &scores);
    assert_same(&LayerTable::open(&cut).unwrap(), &layers);
    assert_same_top(&cut, &whole);
}
