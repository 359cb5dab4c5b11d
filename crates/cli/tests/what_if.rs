//! `etymon simulate run` and `what-if`: from recorded runs to edits, checked by real training.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

mod common;

use std::path::Path;

use common::{Lm, ok, reference, refused};
use etymon_store::{LossRow, read_losses, read_steps};
use serde_json::Value;

/// Six recorded runs of a small classifier of the digits, and a simulator of them.
fn recorded(temp: &Lm) {
    let watched = std::fs::read_to_string(reference("digits/query.csv")).unwrap();
    std::fs::write(temp.at("watch.csv"), watched.lines().take(6).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let rows = std::fs::read_to_string(reference("digits/train.csv")).unwrap();
    std::fs::write(temp.at("train.csv"), rows.lines().take(121).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let text = |hidden: usize| {
        format!(
            "out = \"set\"\ndata = [\"train.csv\"]\nwatch = [\"watch.csv\"]\nlabel = \"y\"\nbatch_size = 10\nepochs = 2\n\
             schedule = \"cosine\"\nwarmup_steps = 3\nlr = 0.02\n[architecture]\nmodel_type = \"mlp\"\n\
             sizes = [64, {hidden}, 10]\nactivation = \"relu\"\ntask = \"classification\"\n"
        )
    };
    std::fs::write(temp.at("train.toml"), text(8)).unwrap();
    std::fs::write(temp.at("other.toml"), text(9)).unwrap();
    ok(&["train", &temp.at("train.toml"), "--runs", "6"]);
    ok(&["simulate", "fit", "--log", &temp.at("set"), "--lambda", "0.1", "--out", &temp.at("sim")]);
}

fn what_if(temp: &Lm, out: &str, more: &[&str]) -> Value {
    let args = args(temp, out);
    ok(&args.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
}

fn args(temp: &Lm, out: &str) -> Vec<String> {
    let parts = ["simulate", "what-if", &temp.at("sim"), "--log", &temp.at("set"), "--out", &temp.at(out)];
    parts.map(str::to_owned).to_vec()
}

/// Recorded losses of the queries before a step.
fn losses(temp: &Lm, run: &str, step: u64) -> Vec<f64> {
    let rows: Vec<LossRow> = read_losses(&Path::new(&temp.at("set")).join(run).join("log")).unwrap();
    rows.into_iter().filter(|row| row.step == step).map(|row| row.loss).collect()
}

fn numbers(answer: &Value, key: &str) -> Vec<f64> {
    answer["queries"].as_array().unwrap().iter().map(|q| q[key].as_f64().unwrap()).collect()
}

fn curriculum(temp: &Lm, out: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(temp.at(&format!("{out}/curriculum.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_verified_curriculum_is_trained_with_the_batches_and_learning_rates_that_were_recorded() {
    let temp = Lm::new();
    recorded(&temp);
    let sim = temp.at("sim");
    let run = ["simulate", "run", &sim, "--log", &temp.at("set"), "--from", "run-0002", "--out", &temp.at("run")];
    assert_eq!(ok(&run)["steps"], serde_json::json!([24, 24]));
    let steps = read_steps(Path::new(&temp.at("set/run-0002/log"))).unwrap();
    let rates: Vec<f64> = curriculum(&temp, "run").iter().map(|s| s["learning_rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, steps.iter().map(|s| s.learning_rate).collect::<Vec<_>>());

    let file = temp.at("run/curriculum.jsonl");
    let verify = temp.at("train.toml");
    let same = what_if(&temp, "same", &["--from", "run-0002", "--curriculum", &file, "--verify", &verify]);
    assert_eq!(numbers(&same, "trained"), losses(&temp, "run-0002", 24), "to the bit");
    assert!(numbers(&same, "change").iter().chain(&numbers(&same, "trained_change")).all(|&change| change == 0.0));

    // Half of the run ends where the whole run was at half time, though the schedule falls over all steps.
    let half = what_if(&temp, "half", &["--from", "run-0002", "--truncate", "12", "--verify", &verify]);
    assert_eq!(numbers(&half, "trained"), losses(&temp, "run-0002", 12));
    let verified = &half["verified"];
    assert!(verified["mse"].as_f64().unwrap() > 0.0 && verified["change_spearman"].is_number(), "{half}");
    let page = std::fs::read_to_string(temp.at("half/simulation.html")).unwrap();
    assert!(page.contains("\"role\":\"trained\"") && page.contains("\"role\":\"recorded\""));
    assert_eq!(what_if(&temp, "half", &["--from", "run-0002", "--truncate", "12", "--verify", &verify]), half, "read");
}

#[test]
fn a_training_that_is_finished_is_not_repeated_when_the_command_was_interrupted_after_it() {
    let temp = Lm::new();
    recorded(&temp);
    let more = ["--truncate", "12", "--verify", &temp.at("train.toml")];
    let whole = what_if(&temp, "half", &more);
    let interrupt = || {
        let manifest = temp.at("half/manifest.json");
        let text = std::fs::read_to_string(&manifest).unwrap();
        assert!(text.contains("\"complete\""));
        std::fs::write(&manifest, text.replace("\"complete\"", "\"running\"")).unwrap();
        std::fs::remove_file(temp.at("half/simulation.json")).unwrap();
    };
    interrupt();
    assert_eq!(what_if(&temp, "half", &more), whole);
    // What is read shows itself: the file says something else than a training would.
    let file = temp.at("half/trained.json");
    let mut trained: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    trained["losses"].as_array_mut().unwrap().last_mut().unwrap()[0] = 123.5.into();
    std::fs::write(&file, trained.to_string()).unwrap();
    interrupt();
    assert_eq!(numbers(&what_if(&temp, "half", &more), "trained")[0], 123.5);
    // Another question trains anew.
    let other = what_if(&temp, "half", &["--truncate", "11", "--verify", &temp.at("train.toml"), "--overwrite"]);
    assert_ne!(numbers(&other, "trained")[0], 123.5);
}

#[test]
fn edits_are_made_in_the_order_given_on_columns_of_the_data() {
    let temp = Lm::new();
    recorded(&temp);
    let data = temp.at("train.csv");
    let with = |out: &str, more: &[&str]| {
        what_if(&temp, out, &[&["--data", &data, "--label", "y"], more].concat());
        curriculum(&temp, out)
    };
    let label = |step: &Value| step["train_ids"].as_array().unwrap().len();
    let only = with("only", &["--only", "label = 3 or label = 5"]);
    let threes = std::fs::read_to_string(&data).unwrap();
    let wanted = threes.lines().skip(1).filter(|row| row.ends_with(",3") || row.ends_with(",5")).count();
    assert_eq!(only.iter().map(label).sum::<usize>(), 2 * wanted, "in both epochs");
    let early = with("early", &["--truncate", "5", "--first", "label = 3"]);
    let late = with("late", &["--first", "label = 3", "--truncate", "5"]);
    assert_eq!((early.len(), late.len()), (5, 5));
    assert_ne!(early, late, "the order of edits counts");
    let repeated = with("repeated", &["--repeat", "id in (0, 1)", "4", "--shuffle", "1"]);
    assert_eq!(repeated.iter().map(label).sum::<usize>(), 240 + 2 * 2 * 3);
}

#[test]
fn a_question_that_makes_no_sense_is_refused_before_a_folder_is_made() {
    let temp = Lm::new();
    recorded(&temp);
    let out = temp.at("no");
    let no = |more: &[&str]| {
        let args = args(&temp, "no");
        refused(&args.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let data = ["--data", &temp.at("train.csv"), "--label", "y"];
    assert!(no(&[]).contains("Give an edit"));
    assert!(no(&["--remove", "label = 3"]).contains("give the training data with --data"));
    assert!(no(&[&data[..], &["--remove", "lable = 3"]].concat()).contains("they have id, label"));
    assert!(no(&["--remove", "id = \"nobody\""]).contains("`nobody` is none of the 120"));
    let text = no(&["--remove", "id = "]);
    assert!(text.contains("expected a value") && text.contains("\n       ^"), "{text}");
    assert!(no(&["--repeat", "id = 1", "often"]).contains("`often` is no whole number"));
    assert!(no(&["--truncate", "25"]).contains("must be 1 to 24"));
    assert!(no(&["--from", "run-0009", "--truncate", "5"]).contains("there is no run `run-0009`"));
    std::fs::write(temp.at("few.csv"), "a,y\n1,0\n").unwrap();
    assert!(no(&["--data", &temp.at("few.csv"), "--only", "a = 1"]).contains("has no row `1"));
    // Another model shows itself by its first losses.
    assert!(no(&["--truncate", "5", "--verify", &temp.at("other.toml")]).contains("of another model"));
    let config = std::fs::read_to_string(temp.at("train.toml")).unwrap();
    std::fs::write(temp.at("fewer.toml"), config.replace("train.csv", "watch.csv")).unwrap();
    let text = no(&["--truncate", "5", "--verify", &temp.at("fewer.toml")]);
    assert!(text.contains("no training example"), "{text}");
    assert!(!Path::new(&out).exists());
}
