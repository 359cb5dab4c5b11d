//! `etymon evaluate` retrains what `etymon train` would: adapters and convolutional networks.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use common::{Lm, ok, reference};
use etymon_store::QueryRow;

fn few(part: &str, n: usize) -> String {
    let text = std::fs::read_to_string(reference(part)).unwrap();
    text.lines().take(n).map(|line| format!("{line}\n")).collect()
}

/// The measurements of the queries by a model that `etymon train` makes of a configuration.
fn trained(temp: &Lm, name: &str, config: &str, score: &[&str]) -> Vec<f64> {
    let (file, run, scores) = (temp.at(&format!("{name}.toml")), temp.at(name), temp.at(&format!("scores-{name}")));
    std::fs::write(&file, config).unwrap();
    ok(&["train", &file, "--out", &run]);
    let model = format!("{run}/model");
    ok(&[&["score", "--method", "grad-dot", "--model", &model, "--out", &scores], score].concat());
    let rows = QueryRow::read_all(format!("{scores}/queries.parquet").as_ref()).unwrap();
    rows.iter().map(|row| row.measurement).collect()
}

/// Leaves single rows out; what changes must be what the plain command changes with `exclude`.
fn changes_are_those_of_the_plain_command(temp: &Lm, config: &str, data: &[&str]) {
    let whole = trained(temp, "whole", config, data);
    let (file, out, scores) = (temp.at("whole.toml"), temp.at("out"), temp.at("scores-whole"));
    let queries = data.iter().position(|word| *word == "--queries").unwrap();
    let args = ["evaluate", "loo", "--config", &file, "--rows", "3", "--scores", &scores, "--out", &out];
    let value = ok(&[&args[..], &data[queries..queries + 2]].concat());
    assert_eq!(value["settings"]["retrainings"]["trained"], 4);
    let removed = &value["settings"]["removals"][0];
    let without = trained(temp, "without", &format!("exclude = [{removed}]\n{config}"), data);
    for (q, (after, before)) in without.iter().zip(&whole).enumerate() {
        let actual = value["settings"]["actual"][0][q].as_f64().unwrap();
        let real = after - before;
        println!("{actual} {real} of {before}");
        assert!((actual - real).abs() < 0.02 * real.abs() + 1e-5 * before.abs(), "{q}: {actual}, {real} of {before}");
        assert!(real.abs() > 1e-4, "the row matters: {real}");
    }
    let predicted = value["methods"][0]["predicted"].as_array().unwrap();
    assert_eq!((predicted.len(), predicted[0].as_array().unwrap().len()), (3, whole.len()));
}

#[test]
fn adapters_are_retrained_as_the_plain_command_trains_them() {
    let temp = Lm::new();
    std::fs::write(temp.at("train.jsonl"), few("lm/train.jsonl", 40)).unwrap();
    std::fs::write(temp.at("q.jsonl"), few("lm/query.jsonl", 3)).unwrap();
    let model = reference("lm");
    let config =
        format!("out = 'run'\nmodel = '{model}'\ndata = ['train.jsonl']\nlr = 0.01\nepochs = 2\n[lora]\nrank = 2\n");
    let (data, queries) = (temp.at("train.jsonl"), temp.at("q.jsonl"));
    changes_are_those_of_the_plain_command(&temp, &config, &["--data", &data, "--queries", &queries]);
}

#[test]
fn convolutional_networks_are_retrained_as_the_plain_command_trains_them() {
    let temp = Lm::new();
    std::fs::write(temp.at("train.csv"), few("digits/train.csv", 101)).unwrap();
    std::fs::write(temp.at("q.csv"), few("digits/query.csv", 4)).unwrap();
    let config = "out = 'run'\ndata = ['train.csv']\nlabel = 'y'\nlr = 0.003\nepochs = 3\n[architecture]\n\
                  model_type = 'convnet'\ninput = [1, 8, 8]\ntask = 'classification'\nlayers = [{ conv = { channels = 4, \
                  kernel = 3, padding = 1 } }, 'relu', { max_pool = 2 }, 'flatten', { linear = 10 }]\n";
    let (data, queries) = (temp.at("train.csv"), temp.at("q.csv"));
    changes_are_those_of_the_plain_command(&temp, config, &["--label", "y", "--data", &data, "--queries", &queries]);
}

#[test]
fn wrong_labels_are_found_by_a_convolutional_network() {
    let temp = Lm::new();
    std::fs::write(temp.at("train.csv"), few("digits/train.csv", 401)).unwrap();
    let config = "out = 'run'\ndata = ['train.csv']\nlabel = 'y'\nlr = 0.003\nepochs = 4\n[architecture]\n\
                  model_type = 'convnet'\ninput = [1, 8, 8]\ntask = 'classification'\nlayers = [{ conv = { channels = 4, \
                  kernel = 3, padding = 1 } }, 'relu', { max_pool = 2 }, 'flatten', { linear = 10 }]\n";
    std::fs::write(temp.at("train.toml"), config).unwrap();
    let value = ok(&["evaluate", "mislabel", "--config", &temp.at("train.toml"), "--out", &temp.at("out")]);
    for method in value["methods"].as_array().unwrap() {
        let auc = method["auc"]["value"].as_f64().unwrap();
        println!("{method}");
        assert!(auc > 0.8, "{method}");
    }
}
