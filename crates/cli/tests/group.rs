//! `etymon group` against sums of scores, and against how they change with λ.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Lm, ok, refused};
use etymon_store::{GroupRow, ScoreTable};
use serde_json::Value;

const N: usize = 48;

/// Rows of three overlapping classes, each from one of two sources, and a small classifier that was trained on them.
fn prepared() -> Lm {
    let temp = Lm::new();
    let value = |i: usize, j: usize| ((i * 37 + j * 101 + i * i * 13 + i * j * 7) % 97) as f64 / 48.0 - 1.0;
    let row = |i: usize| {
        let x: Vec<f64> = (0..4).map(|j| value(i, j) + if j == i % 3 { 0.7 } else { 0.0 }).collect();
        let source = if i % 5 < 2 { "web" } else { "books" };
        format!("{{\"id\": \"r{i}\", \"features\": {x:?}, \"label\": {}, \"source\": \"{source}\"}}\n", i % 3)
    };
    let rows: Vec<String> = (0..N).map(row).collect();
    std::fs::write(temp.at("train.jsonl"), rows.concat()).unwrap();
    std::fs::write(temp.at("q.jsonl"), rows[..4].concat()).unwrap();
    let config = "out = \"run\"\ndata = [\"train.jsonl\"]\nepochs = 20\nbatch_size = 8\nlr = 0.05\n[architecture]\n\
                  model_type = \"mlp\"\nsizes = [4, 5, 3]\nactivation = \"tanh\"\ntask = \"classification\"\n";
    std::fs::write(temp.at("train.toml"), config).unwrap();
    ok(&["train", &temp.at("train.toml")]);
    temp
}

fn run(temp: &Lm, command: &str, damping: &str, out: &str, more: &[&str]) -> Value {
    let (model, data, queries, out) = (temp.at("run/model"), temp.at("train.jsonl"), temp.at("q.jsonl"), temp.at(out));
    let base =
        [command, "--model", &model, "--data", &data, "--queries", &queries, "--damping", damping, "--out", &out];
    ok(&[&base[..], more].concat())
}

/// (group, query) → (first, second).
fn figures(result: &Value) -> BTreeMap<(String, String), (f64, f64)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let row = |row: &Value| {
        let orders = (row["first"].as_f64().unwrap(), row["second"].as_f64().unwrap());
        ((text(row, "group"), text(row, "query")), orders)
    };
    result["groups"].as_array().unwrap().iter().map(row).collect()
}

fn close(x: f64, y: f64, size: f64, what: &str) {
    assert!((x - y).abs() <= 1e-3 * size, "{what}: {x} is not {y}");
}

#[test]
fn first_order_is_the_sum_of_the_scores_of_the_group() {
    let temp = prepared();
    let model = temp.at("run/model");
    ok(&["fit", "--model", &model, "--data", &temp.at("train.jsonl"), "--out", &temp.at("factors")]);
    let factors = temp.at("factors");
    for method in ["ekfac", "ekfac-cg", "dense", "datainf"] {
        let more = ["--method", method, "--factors", &factors, "--tolerance", "1e-6"];
        run(&temp, "score", "rel:0.1", &format!("s-{method}"), &more);
        let found = run(&temp, "group", "rel:0.1", &format!("g-{method}"), &[&more[..], &["--by", "source"]].concat());
        let table = ScoreTable::open(Path::new(&temp.at(&format!("s-{method}")))).unwrap();
        let ids = table.train_ids().unwrap();
        for ((group, query), (first, _)) in figures(&found) {
            let column = table.column(&query).unwrap();
            let is_member = |id: &str| (id[1..].parse::<usize>().unwrap() % 5 < 2) == (group == "web");
            let member = |(id, score): (&String, f32)| is_member(id).then_some(f64::from(score));
            let scores: Vec<f64> = ids.iter().zip(column).filter_map(member).collect();
            let size = scores.iter().map(|x| x.abs()).sum::<f64>();
            close(first, scores.iter().sum(), size, &format!("{method}, {group}, {query}"));
        }
        let written = GroupRow::read_all(Path::new(&temp.at(&format!("g-{method}/groups.parquet")))).unwrap();
        assert_eq!((written.len(), written[0].group.as_str(), written[0].examples), (8, "books", 28), "{method}");
    }
}

#[test]
fn second_order_of_all_rows_is_known_from_how_the_first_changes_with_damping() {
    // With U the whole train set G_U is G: second = 2 first + λ d first/dλ.
    let temp = prepared();
    let ids: String = (0..N).map(|i| format!("r{i}\n")).collect();
    std::fs::write(temp.at("all.txt"), ids).unwrap();
    let (all, lambda, step) = (temp.at("all.txt"), 0.05, 0.02);
    let at = |factor: f64, out: &str| {
        let damping = format!("abs:{}", lambda * factor);
        figures(&run(&temp, "group", &damping, out, &["--method", "dense", "--ids", &all]))
    };
    let (here, below, above) = (at(1.0, "here"), at(1.0 - step, "below"), at(1.0 + step, "above"));
    assert_eq!(here.len(), 4);
    let corrections: f64 = here.values().map(|(first, second)| (second - first).abs()).sum();
    assert!(corrections > 0.1 * here.values().map(|(first, _)| first.abs()).sum::<f64>(), "they are not small here");
    for (key, &(first, second)) in &here {
        let slope = (above[key].0 - below[key].0) / (2.0 * step);
        close(second, 2.0 * first + slope, 2.0 * first.abs() + slope.abs(), &key.1);
    }
}

#[test]
fn a_list_of_ids_is_the_group_of_the_same_rows_and_what_is_wrong_is_said() {
    let temp = prepared();
    let web: String = (0..N).rev().filter(|i| i % 5 < 2).map(|i| format!(" r{i} \n\n")).collect();
    std::fs::write(temp.at("web.txt"), web).unwrap();
    let dense = ["--method", "dense"];
    let listed = run(&temp, "group", "abs:0.05", "a", &[&dense[..], &["--ids", &temp.at("web.txt")]].concat());
    let by = figures(&run(&temp, "group", "abs:0.05", "b", &[&dense[..], &["--by", "source"]].concat()));
    let listed = figures(&listed);
    assert_eq!(listed.len(), 4);
    for (key, figures) in &listed {
        assert_eq!(by[key], *figures);
    }
    let (model, data, queries, out) = (temp.at("run/model"), temp.at("train.jsonl"), temp.at("q.jsonl"), temp.at("no"));
    let base = ["group", "--model", &model, "--data", &data, "--queries", &queries, "--out", &out];
    std::fs::write(temp.at("wrong.txt"), "r1\nr99\n").unwrap();
    for (more, words) in [
        (&["--method", "grad-dot", "--by", "source"][..], "no inverse"),
        (&["--method", "ekfac", "--by", "source"], "--factors"),
        (&["--method", "dense", "--by", "nothing"], "`nothing`"),
        (&["--method", "dense", "--ids", &temp.at("wrong.txt")], "1 of 2 ids"),
        (&["--method", "dense", "--ids", &temp.at("none.txt")], "cannot be read"),
    ] {
        let text = refused(&[&base[..], more].concat());
        assert!(text.contains(words), "{more:?}: {text}");
    }
    assert!(!Path::new(&out).exists(), "no folder before the input is sound");
}
