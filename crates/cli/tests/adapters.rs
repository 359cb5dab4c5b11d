//! Adapters end to end: trained, fitted, scored.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use std::path::Path;

use common::{ok, reference, refused, relative_error};
use etymon_data::{Batch, Corpus, CorpusOptions, Encoder, Example, Padding};
use etymon_model::{Consumer, Measurement, Model, Objective, Params, load, tokenizer_json};
use etymon_store::ScoreTable;
use etymon_tensor::{Backend, Cpu};

type F64 = Cpu<f64>;

const ROWS: usize = 60;

/// Adapters that were trained on the reference model, a few rows and queries.
struct Adapted {
    folder: tempfile::TempDir,
}

impl Adapted {
    /// On the layers that `targets` matches.
    fn new(targets: &str) -> Self {
        let adapted = Self { folder: tempfile::tempdir().unwrap() };
        let head = |part: &str, n: usize, name: &str| {
            let text = std::fs::read_to_string(reference(part)).unwrap();
            let few: Vec<&str> = text.lines().take(n).collect();
            std::fs::write(adapted.at(name), few.join("\n") + "\n").unwrap();
        };
        head("lm/train.jsonl", ROWS, "train.jsonl");
        head("lm/query.jsonl", 3, "q.jsonl");
        let config = format!(
            "out = 'run'\nmodel = '{}'\ndata = ['train.jsonl']\nlr = 0.01\n[lora]\nrank = 2\ntargets = '{targets}'\nmerge = true\n",
            reference("lm")
        );
        std::fs::write(adapted.at("train.toml"), config).unwrap();
        ok(&["train", &adapted.at("train.toml")]);
        adapted
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn fit(&self, out: &str, more: &[&str]) {
        let own = ["fit", "--model", &self.at("run/model"), "--data", &self.at("train.jsonl"), "--out", &self.at(out)];
        ok(&[&own[..], more].concat());
    }

    /// `[Q, N]` scores.
    fn scores(&self, out: &str, more: &[&str]) -> Vec<f32> {
        let (data, queries) = (self.at("train.jsonl"), self.at("q.jsonl"));
        let own = ["score", "--model", &self.at("run/model"), "--data", &data, "--queries", &queries];
        ok(&[&own[..], &["--dtype", "f32", "--out", &self.at(out)], more].concat());
        let table = ScoreTable::open(Path::new(&self.at(out))).unwrap();
        table.queries().iter().flat_map(|q| table.column(q).unwrap()).collect()
    }

    fn examples(&self, name: &str) -> Vec<Example> {
        let json = tokenizer_json(Path::new(&self.at("run/model"))).unwrap().unwrap();
        let encoder = Encoder::from_bytes(json.as_bytes()).unwrap();
        let paths = [self.at(name).into()];
        Corpus::open(&paths, Some(encoder), CorpusOptions::default()).unwrap().read_all().unwrap()
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn gradient(model: &Model<F64>, example: &Example, objective: Objective) -> Params<F64> {
    let mut grads = model.zero_gradients();
    let batch = Batch::stack(std::slice::from_ref(example), Padding::None).unwrap();
    model.run(&batch, objective, Consumer::Gradients(&mut grads)).unwrap();
    grads
}

#[test]
fn gradient_dot_products_of_adapters_are_those_of_explicit_gradients() {
    let adapted = Adapted::new("attn|c_fc");
    let ours = adapted.scores("dots", &["--method", "grad-dot"]);
    let model = load(F64::new(), Path::new(&adapted.at("run/model"))).unwrap();
    let train: Vec<_> =
        adapted.examples("train.jsonl").iter().map(|e| gradient(&model, e, Objective::TrainLoss)).collect();
    let mut expected = Vec::new();
    for query in adapted.examples("q.jsonl") {
        let q = gradient(&model, &query, Objective::Measurement(Measurement::LogLikelihood));
        let dot = |g: &Params<F64>| -> f64 { q.iter().zip(g.iter()).map(|(q, g)| F64::new().dot(q, g).unwrap()).sum() };
        expected.extend(train.iter().map(|g| -dot(g)));
    }
    let error = relative_error(&ours, &expected);
    println!("{} scores, relative error {error:.1e}", ours.len());
    assert!(ours.len() == 3 * ROWS && error < 1e-4, "{error:e}");
}

#[test]
fn iterations_on_adapters_come_to_the_scores_of_their_dense_matrix_and_closer_than_ekfac() {
    let adapted = Adapted::new("h.1.attn.c_proj|h.0.attn.c_proj");
    // The same examples as those that products go over.
    adapted.fit("f", &["--max-examples", "20"]);
    let factors = adapted.at("f");
    let with = |method: &str, more: &[&str]| {
        let own = ["--factors", &factors, "--method", method];
        let solve = if matches!(method, "ekfac" | "kfac") { &[][..] } else { &["--solve-rows", "20"] };
        wide(&adapted.scores(method, &[&own[..], solve, more].concat()))
    };
    let relative = |x: &[f64], y: &[f64]| {
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        norm(&mut x.iter().zip(y).map(|(x, y)| x - y)) / norm(&mut y.iter().copied())
    };
    let dense = with("dense", &[]);
    let ekfac = relative(&with("ekfac", &[]), &dense);
    println!("ekfac: {ekfac:.1e}, kfac: {:.1e}", relative(&with("kfac", &[]), &dense));
    for (method, more, tolerance) in [
        ("cg", &["--steps", "600", "--tolerance", "1e-6"][..], 1e-3),
        ("ekfac-cg", &["--steps", "600", "--tolerance", "1e-6"], 1e-3),
        ("datainf", &[], f64::INFINITY),
    ] {
        let error = relative(&with(method, more), &dense);
        println!("{method}: {error:.1e}");
        assert!(error < tolerance && error.is_finite(), "{method}: {error:e}, ekfac {ekfac:e}");
    }
    assert!(ekfac > 1e-3, "an approximation: {ekfac:e}");
}

#[test]
fn merged_adapters_are_scored_as_the_merged_model() {
    let adapted = Adapted::new("attn");
    let merged = adapted.scores("a", &["--method", "grad-dot", "--merged"]);
    let (model, data, queries) = (adapted.at("run/merged"), adapted.at("train.jsonl"), adapted.at("q.jsonl"));
    let args = ["score", "--model", &model, "--data", &data, "--queries", &queries, "--out", &adapted.at("b")];
    ok(&[&args[..], &["--method", "grad-dot", "--dtype", "f32"]].concat());
    let table = ScoreTable::open(Path::new(&adapted.at("b"))).unwrap();
    let expected: Vec<f64> = table.queries().iter().flat_map(|q| wide(&table.column(q).unwrap())).collect();
    let error = relative_error(&merged, &expected);
    assert!(error < 1e-4, "{error:e}");
    assert!(relative_error(&adapted.scores("c", &["--method", "grad-dot"]), &expected) > 0.1);
}

#[test]
fn the_base_is_found_by_the_adapters_or_given_and_belongs_to_the_factors() {
    let adapted = Adapted::new("c_attn");
    // The folder alone, elsewhere, with a base that is not there.
    std::fs::create_dir(adapted.at("moved")).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let text = std::fs::read(Path::new(&adapted.at("run/model")).join(file)).unwrap();
        let text = match file {
            "adapter_config.json" => {
                String::from_utf8(text).unwrap().replace(&*reference_path(), "some/hub").into_bytes()
            }
            _ => text,
        };
        std::fs::write(Path::new(&adapted.at("moved")).join(file), text).unwrap();
    }
    let (moved, data, base) = (adapted.at("moved"), adapted.at("train.jsonl"), reference("lm"));
    let out = adapted.at("f");
    let fit = ["fit", "--model", &moved, "--data", &data, "--out", &out, "--method", "kfac"];
    let text = refused(&fit);
    assert!(text.contains("no model at `some/hub`") && text.contains("--base"), "{text}");
    ok(&[&fit[..], &["--base", &base]].concat());
    let (queries, scores) = (adapted.at("q.jsonl"), adapted.at("s"));
    let score = ["score", "--model", &moved, "--data", &data, "--queries", &queries, "--method", "kfac"];
    let score = [&score[..], &["--factors", &out, "--out", &scores]].concat();
    ok(&[&score[..], &["--base", &base]].concat());
    // Another base of the same shape.
    let text = refused(&[&score[..], &["--base", &adapted.at("run/merged"), "--overwrite"]].concat());
    assert!(text.contains("fitted on another model: base/"), "{text}");
    // Options of adapters on a model that is none.
    for option in [&["--merged"][..], &["--base", &base]] {
        let text = refused(&[&["doctor", "--model", &base], option].concat());
        assert!(text.contains(option[0]) && text.contains("is not a folder of adapters"), "{text}");
    }
    let checks = ok(&["doctor", "--model", &moved, "--base", &base]);
    assert_eq!(checks["passed"], true, "{checks}");
}

fn reference_path() -> String {
    Path::new(&reference("lm")).canonicalize().unwrap().display().to_string()
}
