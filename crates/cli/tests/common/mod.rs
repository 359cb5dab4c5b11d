//! What the tests of the binary share: running it, and the jobs on the reference model.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

pub fn reference(part: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference").join(part).display().to_string()
}

pub fn etymon(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_etymon")).args(args).output().unwrap()
}

/// Runs and returns the JSON result.
pub fn ok(args: &[&str]) -> Value {
    let out = etymon(&[args, &["--json"]].concat());
    assert!(out.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stderr.is_empty(), "--json is silent: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Runs and returns what it says; it must refuse with status 2, say why, and not panic.
pub fn refused(args: &[&str]) -> String {
    let out = etymon(args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{args:?}\n{text}");
    assert!(text.contains("error: ") && !text.contains("panicked"), "{text}");
    text
}

/// The reference language model, with a folder to write to.
pub struct Lm {
    pub folder: tempfile::TempDir,
}

impl Lm {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn fit(&self, more: &[&str]) -> Value {
        let (model, data, out) = (reference("lm"), reference("lm/train.jsonl"), self.at("factors"));
        let base = ["fit", "--model", &model, "--data", &data, "--out", &out, "--labels", "data"];
        ok(&[&base, more].concat())
    }

    pub fn score_args(&self, out: &str) -> Vec<String> {
        let (queries, data) = (reference("lm/query.jsonl"), reference("lm/train.jsonl"));
        [
            "score",
            "--model",
            &reference("lm"),
            "--factors",
            &self.at("factors"),
            "--data",
            &data,
            "--queries",
            &queries,
            "--out",
            &self.at(out),
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

pub fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

pub fn relative_error(x: &[f32], y: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut x.iter().zip(y).map(|(&x, y)| f64::from(x) - y)) / norm(&mut y.iter().copied())
}
