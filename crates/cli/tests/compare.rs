//! `etymon compare` on tables that `etymon score` wrote.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

mod common;

use std::path::Path;

use common::{etymon, ok, reference, refused};
use etymon_store::ScoreTable;
use etymon_viewer::{pearson, spearman};

/// Scores of two kinds on the reference language model, in one folder.
struct Two {
    folder: tempfile::TempDir,
}

impl Two {
    fn new() -> Self {
        let two = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(two.at("S")).unwrap();
        two.score("S/all", &[]);
        two.score("S/mlp", &["--layers", "mlp"]);
        two
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn score(&self, out: &str, more: &[&str]) {
        let (model, data, queries) = (reference("lm"), reference("lm/train.jsonl"), reference("lm/query.jsonl"));
        let base = ["score", "--method", "grad-dot", "--model", &model, "--data", &data, "--out", &self.at(out)];
        let queries = if more.contains(&"--queries") { vec![] } else { vec!["--queries", queries.as_str()] };
        ok(&[&base[..], &queries, more].concat());
    }
}

#[test]
fn tables_side_by_side_agree_as_their_columns_do() {
    let two = Two::new();
    let (folder, all, mlp) = (two.at("S"), two.at("S/all"), two.at("S/mlp"));
    let json = ok(&["compare", &folder, "--top", "10", "-k", "3"]);
    assert_eq!(json, ok(&["compare", &all, &mlp, "--top", "10", "-k", "3"]), "a folder of tables is their list");
    assert_eq!(json["tables"][1]["name"], "mlp", "both have one method: the folders tell them apart");
    let open = |path: &str| ScoreTable::open(Path::new(path)).unwrap();
    let (all, mlp) = (open(&all), open(&mlp));
    let column =
        |table: &ScoreTable, q: &str| -> Vec<f64> { table.column(q).unwrap().into_iter().map(f64::from).collect() };
    let ids = all.train_ids().unwrap();
    let mut sum = 0.0;
    for (i, query) in all.queries().iter().enumerate() {
        let (x, y) = (column(&all, query), column(&mlp, query));
        let shown = &json["queries"][i];
        assert_eq!(shown["id"], query.as_str());
        assert_eq!(shown["agreement"]["pearson"][0][1].as_f64(), pearson(&x, &y));
        assert_eq!(shown["agreement"]["spearman"][1][0].as_f64(), spearman(&x, &y));
        sum += pearson(&x, &y).unwrap();
        let best = (0..y.len()).max_by(|&a, &b| y[a].total_cmp(&y[b])).unwrap();
        let first = &shown["lists"][1][0];
        assert_eq!(first["train_id"], ids[best].as_str());
        assert!(!first["text"].as_str().unwrap().is_empty());
        assert_eq!(shown["lists"][1].as_array().unwrap().len(), 3);
    }
    let mean = json["mean"]["pearson"][0][1].as_f64().unwrap();
    assert!((mean - sum / all.queries().len() as f64).abs() < 1e-12);
    assert!(mean < 0.9999 && mean > 0.3, "{mean}");
}

#[test]
fn a_page_is_written_and_the_terminal_gets_a_listing() {
    let two = Two::new();
    let (folder, page) = (two.at("S"), two.at("c.html"));
    ok(&["compare", &folder, "-o", &page, "--title", "Two <layers>"]);
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.contains("<title>Two &lt;layers&gt;</title>"));
    let text = String::from_utf8(etymon(&["compare", &folder, "-k", "1"]).stdout).unwrap();
    assert!(text.contains("Spearman, mean over queries") && text.contains("Overlap of the top 20"), "{text}");
}

#[test]
fn tables_over_other_rows_or_queries_are_refused_with_the_first_difference() {
    let two = Two::new();
    let all = two.at("S/all");
    two.score("few", &["--max-rows", "20"]);
    let text = refused(&["compare", &all, &two.at("few")]);
    assert!(text.contains("train example 21") && text.contains("there is none"), "{text}");
    let queries = std::fs::read_to_string(reference("lm/query.jsonl")).unwrap();
    let lines: Vec<&str> = queries.lines().collect();
    std::fs::write(two.at("q.jsonl"), [lines[1], lines[0]].join("\n")).unwrap();
    two.score("turned", &["--queries", &two.at("q.jsonl")]);
    let text = refused(&["compare", &all, &two.at("turned")]);
    assert!(text.contains("of query 1") && text.contains("help: "), "{text}");
    let text = refused(&["compare", &all]);
    assert!(text.contains("nothing to compare"), "{text}");
    let text = refused(&["compare", &all, &two.at("nowhere")]);
    assert!(text.contains("no score table"), "{text}");
    let text = refused(&["compare", &two.at("S"), "--query", "none"]);
    assert!(text.contains("no query `none`"), "{text}");
}
