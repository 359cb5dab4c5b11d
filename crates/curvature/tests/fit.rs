//! Fits into a folder: independent of how the work is cut, and errors in their place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

use etymon_curvature::{
    CurvatureError, Factors, FitObserver, FitOptions, FitSummary, Labels, Phase, Result, Spectrum, fit,
};
use etymon_data::{BatchLimits, Corpus, CorpusOptions, DataError, Spread};
use etymon_model::{LayerGroups, LayerId, Model, load};
use etymon_tensor::Cpu;

type F64 = Cpu<f64>;

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/lm").join(name)
}

fn model() -> Model<F64> {
    load(F64::new(), &reference("")).unwrap()
}

/// Counts the examples and tokens of each phase.
#[derive(Default)]
struct Seen {
    phases: Vec<(Phase, u64, u64)>,
    ended: usize,
}

impl FitObserver for Seen {
    fn begin(&mut self, phase: Phase, _: u64, done: u64) {
        self.phases.push((phase, done, 0));
    }

    fn advance(&mut self, examples: u64, tokens: u64) {
        let phase = self.phases.last_mut().unwrap();
        *phase = (phase.0, phase.1 + examples, phase.2 + tokens);
    }

    fn end(&mut self) {
        self.ended += 1;
    }
}

fn options(shard_examples: u64, max_rows: usize) -> FitOptions {
    FitOptions {
        labels: Labels::Model { seed: 5 },
        correction: true,
        max_examples: Some(30),
        sample: None,
        shard_examples,
        limits: BatchLimits { max_rows, max_examples: usize::MAX },
        groups: LayerGroups::one(model().layers()),
    }
}

fn run(data: &Path, options: &FitOptions, folder: &Path) -> (Result<FitSummary>, Seen) {
    let corpus = Corpus::open(&[data.to_path_buf()], None, CorpusOptions::default()).unwrap();
    let mut seen = Seen::default();
    (fit(&model(), &corpus, options, folder, &mut seen), seen)
}

/// Eigenvalues of A and S of each layer, and the sum of Λ.
fn spectra(folder: &Path) -> Vec<(Vec<f64>, Vec<f64>, f64)> {
    let model = model();
    let factors = Factors::open(folder, model.layers()).unwrap();
    let layer = |i| {
        let (a, s) = factors.eigenvalues(LayerId(i)).unwrap();
        let lambda = factors.spectrum(LayerId(i), Spectrum::Corrected).unwrap();
        (a, s, lambda.into_iter().map(f64::from).sum())
    };
    (0..model.layers().len()).map(layer).collect()
}

fn close(x: &[f64], y: &[f64], tolerance: f64) -> bool {
    let largest = y.iter().fold(0.0f64, |m, y| m.max(y.abs()));
    x.len() == y.len() && x.iter().zip(y).all(|(x, y)| (x - y).abs() <= tolerance * largest)
}

#[test]
fn factors_do_not_depend_on_shards_or_batches() {
    let data = reference("train.jsonl");
    let folder = tempfile::tempdir().unwrap();
    let (summary, seen) = run(&data, &options(1, 1), folder.path());
    assert_eq!(summary.unwrap().examples, 30);
    let tokens = seen.phases[0].2;
    let phases = [Phase::Covariance, Phase::Eigendecomposition, Phase::Correction];
    assert_eq!(seen.phases.iter().map(|p| p.0).collect::<Vec<_>>(), phases);
    let alone = spectra(folder.path());
    for (shard, rows) in [(7, 100), (1024, 300), (30, 5000)] {
        let folder = tempfile::tempdir().unwrap();
        let (summary, seen) = run(&data, &options(shard, rows), folder.path());
        assert_eq!(summary.unwrap().examples, 30);
        assert_eq!((seen.phases[0], seen.ended), ((Phase::Covariance, 30, tokens), 3));
        assert_eq!(seen.phases[2], (Phase::Correction, 30, tokens));
        for (x, y) in spectra(folder.path()).iter().zip(&alone) {
            assert!(close(&x.0, &y.0, 1e-10) && close(&x.1, &y.1, 1e-10), "{shard} examples, {rows} rows");
            assert!(close(&[x.2], &[y.2], 1e-5), "{shard} examples, {rows} rows");
        }
    }
}

#[test]
fn an_error_in_the_data_comes_after_the_examples_before_it_and_leaves_nothing_complete() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("train.jsonl");
    let text = std::fs::read_to_string(reference("train.jsonl")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[20] = "broken";
    std::fs::write(&data, lines.join("\n")).unwrap();
    for max_rows in [60, 5000] {
        let (result, seen) = run(&data, &options(8, max_rows), folder.path());
        match result {
            Err(CurvatureError::Data(DataError::Row { place, .. })) => assert_eq!(place.line, 21),
            other => panic!("{other:?}"),
        }
        assert_eq!((seen.phases.len(), seen.phases[0].1, seen.ended), (1, 20, 0));
        assert!(!folder.path().join("eigen.safetensors").exists());
    }
}

#[test]
fn an_example_that_the_model_does_not_take_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("train.jsonl");
    std::fs::write(&data, "{\"input_ids\": [1, 2]}\n{\"id\": \"odd\", \"input_ids\": [1, 512, 3]}\n").unwrap();
    let (result, _) = run(&data, &options(8, 100), folder.path());
    assert!(matches!(result, Err(CurvatureError::Example { id, .. }) if id == "odd"));
}

#[test]
fn a_fit_on_a_sample_is_a_fit_on_its_rows_alone() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [data, sampled, alone] = [0, 1, 2].map(|i| folders[i].path());
    let sample = Spread::new(11, 30);
    let text = std::fs::read_to_string(reference("train.jsonl")).unwrap();
    let rows: Vec<&str> = (0..30).zip(text.lines()).filter(|(i, _)| sample.contains(*i)).map(|(_, row)| row).collect();
    assert_eq!(rows.len(), 11);
    let file = data.join("rows.jsonl");
    std::fs::write(&file, rows.join("\n") + "\n").unwrap();
    // Drawn labels belong to the places of the examples; the data's do not.
    let data_labels = FitOptions { labels: Labels::Data, ..options(4, 200) };
    let (summary, seen) =
        run(&reference("train.jsonl"), &FitOptions { sample: Some(sample), ..data_labels.clone() }, sampled);
    assert_eq!(summary.unwrap().examples, 11);
    assert!(seen.phases.iter().filter(|p| p.0 != Phase::Eigendecomposition).all(|p| p.1 == 11), "{:?}", seen.phases);
    run(&file, &data_labels, alone).0.unwrap();
    assert_eq!(spectra(sampled), spectra(alone));
}
