//! Methods that solve by products: one question, asked with each.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use std::path::Path;

use common::{etymon, ok, reference, refused, relative_error};
use etymon_store::ScoreTable;

/// The digits MLP, its last layer, and a few queries.
struct Digits {
    folder: tempfile::TempDir,
}

impl Digits {
    fn new() -> Self {
        let digits = Self { folder: tempfile::tempdir().unwrap() };
        let queries = std::fs::read_to_string(reference("digits/query.csv")).unwrap();
        let few: Vec<&str> = queries.lines().take(5).collect();
        std::fs::write(digits.at("q.csv"), few.join("\n") + "\n").unwrap();
        let (model, train) = (reference("digits"), reference("digits/train.csv"));
        let layers = ["--layers", "layers.2", "--max-rows", "400"];
        ok(&[&["fit", "--model", &model, "--data", &train, "--out", &digits.at("f")][..], &layers].concat());
        digits
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn args(&self, method: &str) -> Vec<String> {
        let own = ["score", "--model", &reference("digits"), "--factors", &self.at("f"), "--method", method];
        let data = ["--data", &reference("digits/train.csv"), "--queries", &self.at("q.csv"), "--max-rows", "400"];
        let out = ["--out", &self.at(method), "--solve-rows", "400"];
        [&own[..], &data, &out].concat().into_iter().map(str::to_owned).collect()
    }

    /// `[Q, N]` scores.
    fn scores(&self, method: &str, more: &[&str]) -> Vec<f32> {
        let args = self.args(method);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        ok(&[&args[..], more].concat());
        let table = ScoreTable::open(Path::new(&self.at(method))).unwrap();
        table.queries().iter().flat_map(|q| table.column(q).unwrap()).collect()
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn iterations_come_to_the_scores_of_the_dense_matrix_and_closer_than_ekfac() {
    let digits = Digits::new();
    let dense = wide(&digits.scores("dense", &[]));
    let ekfac = relative_error(&digits.scores("ekfac", &[]), &dense);
    println!("ekfac: {ekfac:.1e}");
    for (method, more, tolerance) in [
        ("cg", &["--steps", "400", "--tolerance", "1e-5"][..], 1e-3),
        ("ekfac-cg", &["--steps", "400", "--tolerance", "1e-5"], 1e-3),
        ("arnoldi", &["--steps", "300"], 1e-2),
        ("astra", &["--steps", "400"], 1e-2),
        ("lissa", &["--steps", "4000"], 0.3),
    ] {
        let error = relative_error(&digits.scores(method, more), &dense);
        println!("{method}: {error:.1e}");
        assert!(error < tolerance && error < ekfac, "{method}: {error:e}, ekfac {ekfac:e}");
    }
    let datainf = relative_error(&digits.scores("datainf", &[]), &dense);
    println!("datainf: {datainf:.1e}");
    assert!(datainf.is_finite() && datainf > 1e-3, "an approximation of another kind: {datainf:e}");
}

#[test]
fn the_hessian_of_a_last_layer_is_its_gauss_newton_matrix_and_that_of_two_layers_may_be_indefinite() {
    let digits = Digits::new();
    let dense = wide(&digits.scores("dense", &[]));
    let hessian = ["--curvature", "hessian", "--overwrite"];
    for (method, more) in [("dense", &[][..]), ("cg", &["--steps", "400", "--tolerance", "1e-6"])] {
        let error = relative_error(&digits.scores(method, &[&hessian[..], more].concat()), &dense);
        println!("{method}, hessian: {error:.1e}");
        assert!(error < 1e-4, "{method}: {error:e}");
    }
    // Two layers together: λ is small beside the negative eigenvalues that they have.
    let queries = digits.at("q.csv");
    let (model, train, out) = (reference("digits"), reference("digits/train.csv"), digits.at("inner"));
    let inner =
        ["score", "--model", &model, "--layers", "layers.[12]", "--method", "cg", "--data", &train, "--out", &out];
    let small = ["--queries", &queries, "--max-rows", "100", "--damping", "abs:1e-6", "--steps", "300"];
    let text = refused(&[&inner[..], &small, &["--curvature", "hessian", "--tolerance", "1e-6"]].concat());
    assert!(text.contains("not positive definite") && text.contains("--damping"), "{text}");
    let args = digits.args("ekfac-cg");
    let text = refused(&[&args.iter().map(String::as_str).collect::<Vec<_>>()[..], &hessian[..2]].concat());
    assert!(text.contains("hessian is for cg and dense"), "{text}");
}

#[test]
fn the_diagonal_is_plain_gradients_where_damping_is_all_and_something_else_where_it_is_not() {
    let digits = Digits::new();
    let plain = wide(&digits.scores("grad-dot", &["--layers", "layers.2"]));
    let large = digits.scores("diagonal", &["--damping", "abs:1e6"]);
    let scaled: Vec<f32> = large.iter().map(|x| 1e6 * x).collect();
    assert!(relative_error(&scaled, &plain) < 1e-3);
    // With a damping of its own size it is no multiple of the plain scores.
    let own = digits.scores("diagonal", &["--overwrite"]);
    let (xy, xx) = own
        .iter()
        .zip(&plain)
        .fold((0.0, 0.0), |(xy, xx), (&x, y)| (xy + f64::from(x) * y, xx + f64::from(x) * f64::from(x)));
    let best: Vec<f32> = own.iter().map(|&x| (f64::from(x) * xy / xx) as f32).collect();
    let error = relative_error(&best, &plain);
    println!("diagonal against gradients: {error:.2}");
    assert!(xy > 0.0 && error > 0.05, "{xy} {error}");
}

#[test]
fn steps_of_a_stochastic_series_do_not_depend_on_the_batches_of_the_pass() {
    let digits = Digits::new();
    let whole = wide(&digits.scores("astra", &["--steps", "20", "--solve-batch", "50"]));
    let cut = digits.scores("astra", &["--steps", "20", "--solve-batch", "50", "--batch-rows", "16", "--overwrite"]);
    let error = relative_error(&cut, &whole);
    assert!(error < 1e-4, "{error:e}");
}

#[test]
fn a_solve_that_stops_early_is_warned_of_and_one_that_converges_is_not() {
    let digits = Digits::new();
    let said = |steps: &str| {
        let args = digits.args("ekfac-cg");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let out = etymon(&[&args[..], &["--steps", steps, "--overwrite", "--verbose"]].concat());
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{text}");
        text
    };
    let early = said("3");
    println!("{early}");
    assert!(early.contains("warning: ekfac-cg did not converge: relative residual "), "{early}");
    assert!(early.contains("after 3 products") && early.contains("raise --steps (now 3) or --damping"), "{early}");
    let late = said("400");
    assert!(!late.contains("warning") && late.matches("relative residual").count() == 4, "{late}");
}

#[test]
fn what_a_solve_cannot_do_is_refused_before_work() {
    let digits = Digits::new();
    let (model, train, out) = (reference("digits"), reference("digits/train.csv"), digits.at("no"));
    let base = ["score", "--model", &model, "--data", &train, "--out", &out];
    let queries = digits.at("q.csv");
    let text = refused(&[&base[..], &["--queries", &queries, "--method", "ekfac-cg"]].concat());
    assert!(text.contains("--factors") && text.contains("ekfac-cg"), "{text}");
    let text = refused(&[&base[..], &["--self-influence", "--method", "cg"]].concat());
    assert!(text.contains("--method") && text.contains("self-influence"), "{text}");
    // The layers of the language model have more weights than are put into a dense matrix.
    let [model, train, queries] = ["lm", "lm/train.jsonl", "lm/query.jsonl"].map(reference);
    let base = ["score", "--model", &model, "--data", &train, "--out", &out, "--queries", &queries];
    let text = refused(&[&base[..], &["--method", "dense"]].concat());
    assert!(text.contains("tap fewer layers"), "{text}");
    assert!(!Path::new(&out).exists(), "nothing is written");
}

#[test]
fn proximal_responses_agree_with_the_dense_scores_and_are_computed_once() {
    let digits = Digits::new();
    for method in ["dense", "grad-dot"] {
        digits.scores(method, &[]);
    }
    let (model, factors, train, queries) =
        (reference("digits"), digits.at("f"), reference("digits/train.csv"), digits.at("q.csv"));
    let (dense, grad_dot, out, other) = (digits.at("dense"), digits.at("grad-dot"), digits.at("e"), digits.at("x"));
    let data = ["--data", &train, "--queries", &queries, "--max-rows", "400"];
    let base = [&["evaluate", "pbrf", "--model", &model, "--factors", &factors][..], &data].concat();
    let own = ["--pairs", "12x3", "--copies", "0.01", "--out", &out];
    let result = ok(&[&base[..], &own, &["--scores", &dense, &grad_dot]].concat());
    let method = |result: &serde_json::Value, i: usize, key: &str| match &result["methods"][i][key] {
        serde_json::Value::Array(figure) => figure[0].as_f64().unwrap(),
        value => value.as_f64().unwrap(),
    };
    println!("{}", serde_json::to_string_pretty(&result).unwrap());
    assert_eq!(result["unconverged"], serde_json::json!([]));
    assert_eq!(result["queries"].as_array().unwrap().len(), 3);
    assert!(method(&result, 0, "pearson") > 0.999 && method(&result, 0, "spearman") > 0.98);
    assert!((method(&result, 0, "slope") - 1.0).abs() < 0.02);
    assert!(method(&result, 1, "pearson") < method(&result, 0, "pearson"));

    let responses = Path::new(&out).join("responses");
    let changed = || -> Vec<_> {
        let files = std::fs::read_dir(&responses).unwrap().map(|f| f.unwrap().metadata().unwrap().modified().unwrap());
        files.collect()
    };
    let before = changed();
    let again = ok(&[&base[..], &own, &["--scores", &dense]].concat());
    assert_eq!((before.len(), changed()), (12, before), "other scores are judged by the same responses");
    assert_eq!(again["methods"][0], result["methods"][0]);

    assert!(refused(&[&base[..], &own, &["--damping", "abs:0.1"]].concat()).contains("damping"));
    let without = [&["evaluate", "pbrf", "--model", &model, "--out", &other][..], &data].concat();
    assert!(refused(&without).contains("--factors"));
    let margin = [&base[..], &["--out", &other, "--measurement", "margin", "--scores", &dense]].concat();
    assert!(refused(&margin).contains("log-likelihood"));
    let few = [&base[..], &["--out", &other, "--pairs", "1x1"]].concat();
    assert!(refused(&few).contains("MxQ"));
    assert!(!Path::new(&other).exists(), "no folder before the input is sound");
}
