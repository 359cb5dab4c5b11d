//! `etymon evaluate` on the reference digits.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Lm, ok, reference, refused};

/// A training of one epoch, and gradient dot products of the reference model.
fn prepared(temp: &Lm) {
    let config = format!(
        "out = \"run\"\ndata = [\"{}\"]\nlabel = \"y\"\nbatch_size = 100\n[architecture]\nmodel_type = \"mlp\"\n\
         sizes = [64, 16, 10]\nactivation = \"relu\"\ntask = \"classification\"\n",
        reference("digits/train.csv")
    );
    std::fs::write(temp.at("train.toml"), config).unwrap();
    let (model, data, queries) = (reference("digits"), reference("digits/train.csv"), reference("digits/query.csv"));
    let common = ["score", "--method", "grad-dot", "--label", "y", "--model", &model, "--queries", &queries];
    ok(&[&common[..], &["--data", &data, "--out", &temp.at("scores/dot")]].concat());
    ok(&[&common[..], &["--data", &data, "--max-rows", "50", "--out", &temp.at("part")]].concat());
}

#[test]
fn subsets_are_retrained_once_and_their_file_judges_as_they_do() {
    let temp = Lm::new();
    prepared(&temp);
    let (config, queries, out) = (temp.at("train.toml"), reference("digits/query.csv"), temp.at("out"));
    let lds = |subsets: &str, scores: &str| {
        let args = ["evaluate", "lds", "--config", &config, "--queries", &queries, "--max-queries", "5"];
        [&args[..], &["--scores", scores, "--subsets", subsets, "--out", &out]].concat().join("\n")
    };
    let run = |line: String| ok(&line.split('\n').collect::<Vec<_>>());
    let first = run(lds("4", &temp.at("scores")));
    assert_eq!(first["settings"]["retrainings"]["trained"], 4);
    assert_eq!(first["methods"][0]["method"], "dot");
    let more = run(lds("6", &temp.at("scores")));
    assert_eq!(more["settings"]["retrainings"]["trained"], 2);
    let truth = temp.at("out/truth.jsonl");
    let given = ok(&["evaluate", "lds", "--truth", &truth, "--scores", &temp.at("scores"), "--out", &temp.at("given")]);
    assert_eq!(given["methods"][0]["lds"], more["methods"][0]["lds"]);
    let (losses, members) = tables_of(&std::fs::read_to_string(&truth).unwrap());
    std::fs::write(temp.at("losses.csv"), losses).unwrap();
    std::fs::write(temp.at("members.csv"), members).unwrap();
    let (losses, members, tables) = (temp.at("losses.csv"), temp.at("members.csv"), temp.at("tables"));
    let foreign = ["evaluate", "lds", "--truth", &losses, "--members", &members, "--scores"];
    let foreign = ok(&[&foreign[..], &[&temp.at("scores"), "--out", &tables]].concat());
    assert_eq!(foreign["methods"][0]["lds"], more["methods"][0]["lds"]);
    assert!(std::fs::read_to_string(temp.at("out/evaluate.svg")).unwrap().starts_with("<svg"));

    let line = lds("4", &temp.at("part"));
    let text = refused(&line.split('\n').collect::<Vec<_>>());
    assert!(text.contains("scores 50 of 1400 train examples"), "{text}");
    let loo =
        ["evaluate", "loo", "--config", &config, "--queries", &queries, "--scores", &temp.at("scores"), "--out", &out];
    assert!(refused(&loo).contains("has an evaluation by lds"));
}

/// The same measurements as a table of losses, and a table of the subsets.
fn tables_of(truth: &str) -> (String, String) {
    let (mut losses, mut members) = ("subset,query,loss\n".to_owned(), "subset,train_id\n".to_owned());
    for (j, line) in truth.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for (query, f) in line["f"].as_object().unwrap() {
            losses += &format!("s{j},{query},{}\n", -f.as_f64().unwrap());
        }
        for id in line["kept"].as_array().unwrap() {
            members += &format!("s{j},{}\n", id.as_str().unwrap());
        }
    }
    (losses, members)
}

#[test]
fn rows_that_are_known_to_matter_are_looked_for() {
    let temp = Lm::new();
    let row = |id: &str, extra: &str| {
        format!("{{\"id\": \"{id}\", \"features\": [{extra}, \"label\": 0, \"fact\": \"{id}\"}}\n")
    };
    let train: String = ["a", "b", "c"].iter().map(|id| row(id, "1.0]")).collect();
    std::fs::write(temp.at("train.jsonl"), train).unwrap();
    std::fs::write(temp.at("q.jsonl"), row("q", "1.0]").replace("\"fact\": \"q\"", "\"expect\": [\"b\"]")).unwrap();
    let mut table = etymon_store::ScoreTableWriter::open(temp.at("s").as_ref(), &["q".to_owned()]).unwrap();
    table.block(&["c", "b", "a"].map(str::to_owned), &[0.5, 0.4, 0.1]).unwrap();
    table.finish().unwrap();
    let (data, queries) = (temp.at("train.jsonl"), temp.at("q.jsonl"));
    let args = ["evaluate", "recall", "--data", &data, "--queries", &queries, "--expect", "expect", "-k", "1,2"];
    let found = ok(&[&args[..], &["--match", "fact", "--scores", &temp.at("s"), "--out", &temp.at("r")]].concat());
    let method = &found["methods"][0];
    assert_eq!(method["mrr"]["value"], 0.5);
    assert_eq!(
        (&method["recall"][0]["recall"]["value"], &method["recall"][1]["recall"]["value"]),
        (&0.0.into(), &1.0.into())
    );
}
