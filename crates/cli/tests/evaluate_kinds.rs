//! Each evaluation on a world whose answer is known: four kinds of rows, of which only the rows of its own kind help a query.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

mod common;

use common::{Lm, ok, refused};
use etymon_store::ScoreTableWriter;
use serde_json::Value;

const KINDS: usize = 4;
const ROWS: usize = 40;

/// A linear classifier of `ROWS` rows, a query per kind, and two tables of scores: `right` says what helps, `wrong` the opposite.
fn world(temp: &Lm) {
    let row = |id: String, kind: usize, off: f64| {
        let features: Vec<f64> = (0..KINDS).map(|j| if j == kind { 1.0 } else { off }).collect();
        serde_json::json!({ "id": id, "features": features, "label": kind, "kind": format!("k{kind}") }).to_string()
    };
    let rows = (0..ROWS).map(|i| row(format!("t{i:02}"), i % KINDS, 0.02 * (i % 7) as f64) + "\n");
    std::fs::write(temp.at("train.jsonl"), rows.collect::<String>()).unwrap();
    let queries = (0..KINDS).map(|kind| row(format!("q{kind}"), kind, 0.0) + "\n");
    std::fs::write(temp.at("q.jsonl"), queries.collect::<String>()).unwrap();
    let config = "out = \"run\"\ndata = [\"train.jsonl\"]\nbatch_size = 40\nepochs = 30\noptimizer = \"sgd\"\nlr = 0.05\n\
                  momentum = 0.0\nreduction = \"sum\"\nremoval = \"shrink\"\n[architecture]\nmodel_type = \"mlp\"\n\
                  sizes = [4, 4]\nactivation = \"relu\"\ntask = \"classification\"\n";
    std::fs::write(temp.at("train.toml"), config).unwrap();
    let ids: Vec<String> = (0..KINDS).map(|kind| format!("q{kind}")).collect();
    for (name, sign) in [("right", 1.0), ("wrong", -1.0)] {
        let mut table = ScoreTableWriter::open(temp.folder.path().join("scores").join(name).as_ref(), &ids).unwrap();
        let train: Vec<String> = (0..ROWS).map(|i| format!("t{i:02}")).collect();
        let helps = |i: usize, kind: usize| if i % KINDS == kind { sign } else { -sign / 3.0 };
        // Ties are broken by position: rows of a kind differ a little.
        let scores: Vec<f32> = (0..ROWS).flat_map(|i| (0..KINDS).map(move |k| helps(i, k) + 1e-4 * i as f32)).collect();
        table.block(&train, &scores).unwrap();
        table.finish().unwrap();
    }
}

/// The result of an evaluation.
fn evaluate(temp: &Lm, figure: &str, more: &[&str]) -> Value {
    let (config, queries, scores) = (temp.at("train.toml"), temp.at("q.jsonl"), temp.at("scores"));
    let common = ["evaluate", figure, "--config", &config, "--queries", &queries, "--scores", &scores];
    let value = ok(&[&common[..], &["--out", &temp.at(figure)], more].concat());
    assert_eq!((&value["methods"][0]["method"], &value["methods"][1]["method"]), (&"right".into(), &"wrong".into()));
    value
}

/// A figure of the first and of the second method.
fn both(value: &Value, key: &str) -> (f64, f64) {
    let of = |i: usize| value["methods"][i][key]["value"].as_f64().unwrap_or_else(|| panic!("{key}: {value}"));
    (of(0), of(1))
}

#[test]
fn leaving_one_row_out_lowers_the_query_of_its_kind_most() {
    let temp = Lm::new();
    world(&temp);
    let value = evaluate(&temp, "loo", &["--rows", "8"]);
    let (right, wrong) = both(&value, "pearson");
    assert!(right > 0.9 && wrong < -0.9, "{right} {wrong}");
    let retrainings = &value["settings"]["retrainings"];
    assert_eq!(retrainings["trained"], 9, "each of eight rows, and none");
    // Predicted is −I/N.
    let (row, actual) = (&value["settings"]["removals"][0], &value["settings"]["actual"][0]);
    let at: usize = row.as_str().unwrap()[1..].parse().unwrap();
    let own = actual[at % KINDS].as_f64().unwrap();
    let others = (1..KINDS).map(|k| actual[(at + k) % KINDS].as_f64().unwrap());
    assert!(own < 0.0 && others.into_iter().all(|other| own < 10.0 * other), "{actual}");
    let again = evaluate(&temp, "loo", &["--rows", "10"]);
    assert_eq!(again["settings"]["retrainings"]["trained"], 2);
}

#[test]
fn leaving_a_group_out_is_predicted_by_the_sum_of_its_scores() {
    let temp = Lm::new();
    world(&temp);
    let by = evaluate(&temp, "leave-k-out", &["--by", "kind"]);
    assert_eq!(by["settings"]["sizes"], serde_json::json!([10, 10, 10, 10]));
    let (right, wrong) = both(&by, "pearson");
    assert!(right > 0.9 && wrong < -0.9, "{right} {wrong}");
    let random = evaluate(&temp, "leave-k-out", &["--groups", "6", "--size", "5"]);
    assert_eq!(random["settings"]["sizes"].as_array().unwrap().len(), 6);
    assert!(both(&random, "pearson").0 > 0.8);
    let (config, queries, scores, out) = (temp.at("train.toml"), temp.at("q.jsonl"), temp.at("scores"), temp.at("no"));
    let args = ["evaluate", "leave-k-out", "--config", &config, "--queries", &queries, "--scores", &scores];
    let text = refused(&[&args[..], &["--by", "nothing", "--out", &out]].concat());
    assert!(text.contains("`nothing` makes 0 groups"), "{text}");
}

#[test]
fn a_query_loses_more_without_its_proponents_than_without_random_rows() {
    let temp = Lm::new();
    world(&temp);
    let value = evaluate(&temp, "qld", &["--fraction", "0.25", "--controls", "3"]);
    assert_eq!(value["settings"]["removed"], 10);
    let ((right, wrong), (over, under)) = (both(&value, "qld"), both(&value, "over_random"));
    // Without any row of its kind a query is unlearned; rows of other kinds hardly matter, less than random ones.
    assert!(right > 1.0 && over > 1.0, "{right} {over}");
    assert!(wrong < 0.01 * right && under < 0.0, "{wrong} {under}");
}

#[test]
fn predictions_flip_when_all_rows_of_their_kind_are_removed_and_not_before() {
    let temp = Lm::new();
    world(&temp);
    let value = evaluate(&temp, "brittleness", &["--remove", "2,10"]);
    let step = |method: usize, at: usize, key: &str| value["methods"][method]["steps"][at][key].clone();
    assert_eq!(value["methods"][2]["method"], "(random)");
    assert_eq!((&step(0, 0, "removed"), &step(0, 1, "removed")), (&2.into(), &10.into()));
    let flips = |method, at| step(method, at, "flipped")["value"].as_f64().unwrap();
    assert_eq!((flips(0, 0), flips(0, 1)), (0.0, 1.0), "{value}");
    assert_eq!((flips(1, 1), flips(2, 1)), (0.0, 0.0), "{value}");
    let text = {
        let (config, queries, scores) = (temp.at("train.toml"), temp.at("q.jsonl"), temp.at("scores"));
        let args = ["evaluate", "brittleness", "--config", &config, "--queries", &queries, "--scores", &scores];
        refused(&[&args[..], &["--remove", "40", "--out", &temp.at("no")]].concat())
    };
    assert!(text.contains("40 of 40 rows leaves none"), "{text}");
}

#[test]
fn a_step_on_the_proponents_raises_a_query_and_one_on_the_opponents_lowers_it() {
    let temp = Lm::new();
    world(&temp);
    ok(&["train", &temp.at("train.toml")]);
    let value = evaluate(&temp, "tail-patch", &["-k", "5", "--lr", "0.1", "--controls", "4"]);
    let ((right, wrong), (over, under)) = (both(&value, "rise"), both(&value, "over_random"));
    assert!(right > 0.0 && over > 0.0 && wrong < 0.0 && under < 0.0, "{right} {over} {wrong} {under}");
    // The model is read, not trained again.
    assert!(!std::path::Path::new(&temp.at("tail-patch/worlds")).exists());
}

#[test]
fn wrong_labels_are_found_by_their_influence_on_themselves() {
    let temp = Lm::new();
    world(&temp);
    let out = temp.at("mislabel");
    let args = ["evaluate", "mislabel", "--config", &temp.at("train.toml"), "--fraction", "0.1", "--out", &out];
    let value = ok(&args);
    assert_eq!(value["settings"]["flipped"].as_array().unwrap().len(), 4);
    for method in value["methods"].as_array().unwrap() {
        let auc = method["auc"]["value"].as_f64().unwrap();
        assert!(auc > 0.95, "{method}");
    }
    assert_eq!(value["methods"].as_array().unwrap().len(), 3, "the loss, EK-FAC, K-FAC");
}
