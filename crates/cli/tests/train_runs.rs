//! `etymon train --runs`: recording many runs.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Lm, ok, reference, refused};
use etymon_store::{LossRow, StepRow, read_losses, read_steps};

/// A small classifier of the digits: 14 steps an epoch, 5 watched examples every 4 steps.
fn config(temp: &Lm, more: &str) -> String {
    let watched = std::fs::read_to_string(reference("digits/query.csv")).unwrap();
    let few: Vec<&str> = watched.lines().take(6).collect();
    std::fs::write(temp.at("watch.csv"), few.join("\n") + "\n").unwrap();
    let text = format!(
        "out = \"set\"\ndata = [\"{}\"]\nwatch = [\"watch.csv\"]\nwatch_every = 4\nlabel = \"y\"\nbatch_size = 100\n{more}\n\
         [architecture]\nmodel_type = \"mlp\"\nsizes = [64, 16, 10]\nactivation = \"relu\"\ntask = \"classification\"\n",
        reference("digits/train.csv")
    );
    std::fs::write(temp.at("train.toml"), text).unwrap();
    temp.at("train.toml")
}

fn log(set: &str, run: &str) -> (Vec<StepRow>, Vec<LossRow>) {
    let log = Path::new(set).join(run).join("log");
    (read_steps(&log).unwrap(), read_losses(&log).unwrap())
}

#[test]
fn runs_side_by_side_are_to_the_bit_the_runs_one_after_the_other_and_the_first_is_that_of_the_plain_command() {
    let temp = Lm::new();
    let config = config(&temp, "");
    let (one, two) = (temp.at("one"), temp.at("two"));
    ok(&["train", &config, "--runs", "3", "--out", &one, "--threads", "1"]);
    let set = ok(&["train", &config, "--runs", "3", "--out", &two, "--threads", "3"]);
    assert_eq!((&set["at_once"], &set["trained"]), (&3.into(), &3.into()));
    for run in ["run-0000", "run-0001", "run-0002"] {
        assert!(log(&one, run) == log(&two, run), "{run}");
    }
    let plain = temp.at("run-0000");
    ok(&["train", &config, "--out", &plain]);
    assert!(log(&temp.at(""), "run-0000") == log(&two, "run-0000"));
    let orders: BTreeSet<Vec<String>> =
        (0..3).map(|k| log(&two, &format!("run-{k:04}")).0[0].train_ids.clone()).collect();
    assert_eq!(orders.len(), 3, "each run has an order of its own");
    let losses =
        |run: &str| log(&two, run).1.iter().filter(|row| row.step == 0).map(|row| row.loss).collect::<Vec<_>>();
    assert_eq!(losses("run-0000"), losses("run-0001"), "all start at the same model");
    assert!(!Path::new(&two).join("run-0000/model").exists());
}

#[test]
fn a_run_that_is_gone_or_was_interrupted_is_recorded_again_as_it_was_and_the_others_are_left_alone() {
    let temp = Lm::new();
    let config = config(&temp, "checkpoint_every = 5\nepochs = 2");
    let set = temp.at("set");
    let record = |n: &str| ok(&["train", &config, "--runs", n, "--vary", "order,subset", "--keep-models"]);
    record("3");
    let before: Vec<_> = (0..3).map(|k| log(&set, &format!("run-{k:04}"))).collect();
    let modified = || std::fs::metadata(temp.at("set/run-0000/model/model.safetensors")).unwrap().modified().unwrap();
    let first = modified();
    std::fs::remove_dir_all(temp.at("set/run-0001")).unwrap();
    // Killed after step 10: the folder is not complete, and the log goes on to where it was flushed last.
    let manifest = temp.at("set/run-0002/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"complete\"", "\"running\"")).unwrap();
    std::fs::remove_dir_all(temp.at("set/run-0002/model")).unwrap();
    assert_eq!(record("3")["trained"], 2);
    for (k, before) in before.iter().enumerate() {
        assert!(&log(&set, &format!("run-{k:04}")) == before, "run {k}");
    }
    assert_eq!(modified(), first);
    assert_eq!(record("4")["trained"], 1, "a set grows");
    assert_eq!(record("2")["trained"], 0);
    let listed: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(temp.at("set/manifest.json")).unwrap()).unwrap();
    assert_eq!(listed["progress"]["runs"].as_array().unwrap().len(), 4);
    assert_eq!(listed["status"], "complete");
    assert!(listed["inputs"]["data"]["sha256"].is_string());
}

#[test]
fn a_run_on_a_subset_draws_full_batches_from_it_alone() {
    let temp = Lm::new();
    let config = config(&temp, "epochs = 2\nremoval = \"shrink\"");
    ok(&["train", &config, "--runs", "2", "--vary", "subset", "--subset-fraction", "0.25"]);
    let ids = |k: u64| {
        let steps = log(&temp.at("set"), &format!("run-{k:04}")).0;
        assert_eq!(steps.iter().map(|s| s.train_ids.len()).collect::<Vec<_>>(), [100, 100, 100, 50, 100, 100, 100, 50]);
        steps.into_iter().flat_map(|s| s.train_ids).collect::<BTreeSet<_>>()
    };
    assert_eq!((ids(0).len(), ids(1).len()), (350, 350));
    let shared = ids(0).intersection(&ids(1)).count();
    assert!((50..130).contains(&shared), "two random quarters of 1400 share about 87, not {shared}");
}

#[test]
fn what_cannot_be_recorded_is_refused_before_a_folder_is_made() {
    let temp = Lm::new();
    let path = config(&temp, "");
    let more = |args: &[&str]| refused(&[&["train", &path, "--runs", "2"], args].concat());
    assert!(more(&["--subset-fraction", "0.5"]).contains("--vary subset"));
    assert!(more(&["--vary", "subset", "--subset-fraction", "1.5"]).contains("between 0 and 1"));
    assert!(more(&["--vary", "subset", "--subset-fraction", "0.0001"]).contains("leaves 0 of 1400 examples"));
    assert!(more(&["--memory-limit", "1kB"]).contains("one training run needs"));
    let sequential = config(&temp, "order = \"sequential\"");
    assert!(refused(&["train", &sequential, "--runs", "2"]).contains("order"));
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("watch = [\"watch.csv\"]", "")
        .replace("sequential", "shuffled");
    std::fs::write(&path, text).unwrap();
    assert!(more(&[]).contains("`watch`"));
    assert!(!Path::new(&temp.at("set")).exists());
    ok(&["train", &config(&temp, "")]);
    assert!(more(&[]).contains("training runs"), "a folder of one run is not one of several");
}

#[test]
fn a_run_that_diverges_is_named() {
    let temp = Lm::new();
    let path = config(&temp, "lr = 1e30\noptimizer = \"sgd\"");
    let text = refused(&["train", &path, "--runs", "2", "--threads", "1"]);
    assert!(text.contains("run-0000") && text.contains("diverged at step"), "{text}");
}
