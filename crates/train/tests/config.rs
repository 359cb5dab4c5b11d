//! Configuration files: what they mean, and what is said when they mean nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::Path;

use etymon_data::ExampleIndex;
use etymon_model::ModelConfig;
use etymon_store::{Overwrite, read_losses, read_steps};
use etymon_tensor::Cpu;
use etymon_train::{
    Decay, Job, LearningRate, Length, Observer, Optimizer, Outcome, Schedule, TokenizerSource, TrainConfig, train,
};
use tempfile::{TempDir, tempdir};

const GOOD: &str = r#"
out = "out"
data = ["train.jsonl"]
watch = ["watch.jsonl"]
train_tokenizer_vocab = 280
batch_size = 2
epochs = 2
lr = 0.01
schedule = "cosine"
weight_decay = 0.1
exclude = ["b"]

[architecture]
model_type = "gpt2"
n_embd = 8
n_layer = 1
n_head = 2
n_positions = 32
"#;

/// A folder with data and the given configuration.
fn folder(config: &str) -> TempDir {
    let folder = tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("train.toml", config);
    let rows = [("a", "one two three"), ("b", "two three four"), ("c", "one one two"), ("d", "four three two one")];
    write("train.jsonl", &rows.map(|(id, text)| format!("{{\"id\": \"{id}\", \"text\": \"{text}\"}}\n")).concat());
    write("watch.jsonl", "{\"id\": \"q\", \"prompt\": \"one two\", \"completion\": \" three\"}\n");
    folder
}

fn job(folder: &TempDir) -> Job {
    Job::read(&folder.path().join("train.toml")).unwrap()
}

/// The message about a configuration in which a line replaces another one, with the folder left out.
fn message(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old));
    let folder = folder(&GOOD.replace(old, new));
    let error = Job::read(&folder.path().join("train.toml")).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_configuration_becomes_a_job() {
    let folder = folder(GOOD);
    let job = job(&folder);
    assert_eq!((job.run.as_str(), &job.out), ("out", &folder.path().join("out")));
    assert_eq!(job.tokenizer, TokenizerSource::Train(280));
    assert_eq!((job.plan.length, job.plan.batch_size), (Length::Epochs(2), 2));
    assert_eq!(job.plan.optimizer, Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 });
    let cosine = LearningRate { peak: 0.01, schedule: Schedule::Cosine, warmup_steps: 0, min_ratio: 0.0 };
    assert_eq!((job.plan.learning_rate, job.plan.decay), (cosine, Decay::Matrices));
}

#[test]
fn sgd_decays_everything_unless_told_otherwise() {
    let job = |text: &str| Job::try_from(TrainConfig::parse(text, Path::new("c.toml")).unwrap()).unwrap();
    let sgd = "out = 'o'\ndata = ['d']\nmodel = 'm'\noptimizer = 'sgd'\n";
    assert_eq!(job(sgd).plan.decay, Decay::All);
    assert_eq!(job(&format!("{sgd}decay = 'matrices'")).plan.decay, Decay::Matrices);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = message("batch_size = 2", "batchsize = 2");
    assert!(text.starts_with("train.toml:6: `batchsize`: unknown field `batchsize`"), "{text}");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_line() {
    let text = message("lr = 0.01", "lr = \"fast\"");
    assert!(text.starts_with("train.toml:8: `lr`: invalid type: string \"fast\""), "{text}");
    let text = message("schedule = \"cosine\"", "schedule = \"square\"");
    assert!(text.starts_with("train.toml:9: `schedule`: unknown variant `square`"), "{text}");
}

#[test]
fn a_number_out_of_range_is_named_with_its_line() {
    assert_eq!(message("lr = 0.01", "lr = -1.0"), "train.toml:8: `lr`: must be > 0, is -1");
    assert_eq!(message("epochs = 2", "epochs = 0"), "train.toml:7: `epochs`: must be at least 1, is 0");
    assert_eq!(message("lr = 0.01", "betas = [0.9, 1.0]"), "train.toml:8: `betas`: must be ≥ 0 and < 1, is 1");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    assert_eq!(message("lr = 0.01", "steps = 3"), "train.toml:8: `steps`: give either `epochs` or `steps`, not both");
    let text = message("lr = 0.01", "model = \"m\"");
    assert_eq!(text, "train.toml:8: `model`: give either `model` or `[architecture]`, not both");
    let text = message("lr = 0.01", "tokenizer = \"t\"");
    assert_eq!(text, "train.toml:5: `train_tokenizer_vocab`: give either this or `tokenizer`, not both");
}

#[test]
fn a_missing_key_is_named() {
    let text = message("out = \"out\"", "");
    assert_eq!(text, "train.toml: `out`: is missing: name a folder for the results");
}

#[test]
fn a_job_trains_a_tokenizer_and_knows_its_examples() {
    let folder = folder(GOOD);
    let loaded = job(&folder).load(Cpu::<f32>::new()).unwrap();
    assert_eq!(loaded.train.len(), 4);
    assert_eq!(loaded.watched[0].id, "q");
    assert_eq!(loaded.plan.excluded, [ExampleIndex(1)]);
    let ModelConfig::Decoder(config) = loaded.model.config() else { panic!("not a language model") };
    assert!(config.vocab > 257 && config.vocab <= 280);
    assert!(loaded.tokenizer_json.unwrap().contains("endoftext"));
}

#[test]
fn a_job_is_done_once() {
    let folder = folder(GOOD);
    let job = job(&folder);
    let run = |observer: &mut dyn Observer| train(Cpu::<f32>::new(), &job, Overwrite::Refuse, observer).unwrap();
    assert_eq!(run(&mut ()), Outcome::Finished);
    let steps = read_steps(&job.out.join("log")).unwrap();
    assert_eq!(steps.iter().map(|s| s.train_ids.len()).collect::<Vec<_>>(), [2, 1, 2, 1]);
    assert!(steps.iter().all(|s| !s.train_ids.contains(&"b".to_owned())));
    assert_eq!(read_losses(&job.out.join("log")).unwrap().len(), 5);
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(job.out.join("model").join(file).exists());
    }
    assert_eq!(run(&mut ()), Outcome::AlreadyComplete);
}

#[test]
fn a_trained_model_is_fine_tuned_with_its_own_tokenizer() {
    let folder = folder(GOOD);
    train(Cpu::<f32>::new(), &job(&folder), Overwrite::Refuse, &mut ()).unwrap();
    let config =
        "out = 'tuned'\nmodel = 'out/model'\ndata = ['train.jsonl']\nsteps = 3\npacking = true\nmax_tokens = 6\n";
    std::fs::write(folder.path().join("train.toml"), config).unwrap();
    let tuned = job(&folder);
    assert_eq!(train(Cpu::<f32>::new(), &tuned, Overwrite::Refuse, &mut ()).unwrap(), Outcome::Finished);
    let packs = &read_steps(&tuned.out.join("log")).unwrap()[0].train_ids;
    assert!(packs.iter().all(|id| id.starts_with("pack-")), "{packs:?}");
    assert!(tuned.out.join("model/tokenizer.json").exists());
}

#[test]
fn another_configuration_does_not_overwrite_a_run() {
    struct Stop;
    impl Observer for Stop {
        fn should_stop(&mut self) -> bool {
            true
        }
    }
    let folder = folder(GOOD);
    let first = job(&folder);
    assert_eq!(train(Cpu::<f32>::new(), &first, Overwrite::Refuse, &mut Stop).unwrap(), Outcome::Stopped);
    std::fs::write(folder.path().join("train.toml"), GOOD.replace("lr = 0.01", "lr = 0.02")).unwrap();
    let second = job(&folder);
    let error = train(Cpu::<f32>::new(), &second, Overwrite::Refuse, &mut ()).unwrap_err();
    assert!(error.to_string().contains("config.lr: 0.01 there, 0.02 now"), "{error}");
    assert_eq!(train(Cpu::<f32>::new(), &first, Overwrite::Refuse, &mut ()).unwrap(), Outcome::Finished);
    assert_eq!(train(Cpu::<f32>::new(), &second, Overwrite::Replace, &mut ()).unwrap(), Outcome::Finished);
}
