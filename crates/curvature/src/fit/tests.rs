//! Fits that are interrupted, or in groups of layers.

use etymon_data::CorpusOptions;
use etymon_model::load;
use etymon_tensor::Cpu;

use super::*;

struct Silent;

impl FitObserver for Silent {
    fn begin(&mut self, _: Phase, _: u64, _: u64) {}
    fn advance(&mut self, _: u64, _: u64) {}
    fn end(&mut self) {}
}

/// The reference model, its data, and the options of a fit on the first `most` rows in groups of up to `layers` layers.
fn lm() -> (Model<Cpu<f32>>, Corpus, impl Fn(u64, usize) -> FitOptions) {
    let lm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/lm");
    let model = load(Cpu::<f32>::new(), &lm).unwrap();
    let corpus = Corpus::open(&[lm.join("train.jsonl")], None, CorpusOptions::default()).unwrap();
    let specs = model.layers().to_vec();
    let options = move |most, layers| FitOptions {
        labels: Labels::Model { seed: 3 },
        correction: true,
        max_examples: Some(most),
        sample: None,
        shard_examples: 8,
        limits: BatchLimits { max_rows: 200, max_examples: usize::MAX },
        groups: LayerGroups::fewest(&specs, |range| range.len() <= layers).unwrap(),
    };
    (model, corpus, options)
}

fn assert_same_files(x: &Path, y: &Path) {
    for name in ["eigen.safetensors", "lambda.safetensors"] {
        assert!(std::fs::read(x.join(name)).unwrap() == std::fs::read(y.join(name)).unwrap(), "{name}");
    }
    let names = |folder| std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!((names(x).len(), names(y).len()), (2, 2), "{:?}", names(x));
}

#[test]
fn an_interrupted_fit_ends_as_if_never_interrupted_to_the_bit() {
    for sample in [None, Some(Spread::new(28, 60))] {
        interrupted_fit_ends_as_if_never_interrupted(sample);
    }
}

fn interrupted_fit_ends_as_if_never_interrupted(sample: Option<Spread>) {
    let (model, corpus, options) = lm();
    // The first `most` examples, of all or of the sample.
    let options = |most, layers| {
        let max_examples = Some(sample.map_or(most, |sample| sample.nth(most)));
        FitOptions { max_examples, sample, ..options(most, layers) }
    };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [whole, first, second] = [0, 1, 2].map(|i| folders[i].path());
    assert_eq!(fit(&model, &corpus, &options(28, 8), whole, &mut Silent).unwrap().examples, 28);

    // What runs leave behind that were killed after they had saved two shards of the first pass, or of the second.
    let (two, specs) = (options(16, 8), model.layers());
    let run = |folder, pass: &mut dyn FnMut(&mut Pass<'_, Cpu<f32>>)| {
        let (observer, timings) = (&mut Silent, &mut BTreeMap::new());
        pass(&mut Pass { model: &model, corpus: &corpus, options: &two, folder, observer, timings });
    };
    run(first, &mut |pass| pass.covariances().unwrap().save(first, specs).unwrap());
    std::fs::copy(whole.join("eigen.safetensors"), second.join("eigen.safetensors")).unwrap();
    run(second, &mut |pass| pass.corrections().unwrap().save(second, specs).unwrap());
    for cut in [first, second] {
        fit(&model, &corpus, &options(28, 8), cut, &mut Silent).unwrap();
        assert_same_files(cut, whole);
    }
}

#[test]
fn a_fit_in_groups_of_layers_makes_the_same_files_to_the_bit() {
    let (model, corpus, options) = lm();
    let whole = tempfile::tempdir().unwrap();
    fit(&model, &corpus, &options(28, 8), whole.path(), &mut Silent).unwrap();
    for (layers, groups) in [(5, 2), (3, 3), (1, 8)] {
        let (folder, options) = (tempfile::tempdir().unwrap(), options(28, layers));
        assert_eq!(options.groups.len(), groups);
        fit(&model, &corpus, &options, folder.path(), &mut Silent).unwrap();
        assert_same_files(folder.path(), whole.path());
    }
}

/// Notes the layers and the examples done of every phase, and stops the fit by a panic in phase `stop`.
struct Phases {
    seen: Vec<(Phase, u64, u64)>,
    stop: usize,
}

impl FitObserver for Phases {
    fn begin(&mut self, phase: Phase, layers: u64, done: u64) {
        assert!(self.seen.len() < self.stop, "killed");
        self.seen.push((phase, layers, done));
    }
    fn advance(&mut self, _: u64, _: u64) {}
    fn end(&mut self) {}
}

#[test]
fn a_fit_that_is_killed_between_groups_repeats_none_even_in_other_groups() {
    let (model, corpus, options) = lm();
    let whole = tempfile::tempdir().unwrap();
    fit(&model, &corpus, &options(28, 8), whole.path(), &mut Silent).unwrap();
    // Killed as the third of the groups of 3, 3 and 2 layers begins; continued in groups of 3, 8 or 1.
    for (layers, rest) in [(3, vec![2]), (8, vec![2]), (1, vec![1, 1])] {
        let folder = tempfile::tempdir().unwrap();
        let mut killed = Phases { seen: Vec::new(), stop: 6 };
        let run = || fit(&model, &corpus, &options(28, 3), folder.path(), &mut killed);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
        let mut phases = Phases { seen: Vec::new(), stop: usize::MAX };
        let summary = fit(&model, &corpus, &options(28, layers), folder.path(), &mut phases).unwrap();
        assert_eq!(summary.examples, 28);
        let covariances = phases.seen.iter().filter(|seen| seen.0 == Phase::Covariance).map(|seen| seen.1);
        assert_eq!(covariances.collect::<Vec<_>>(), rest, "groups of {layers}");
        assert_same_files(folder.path(), whole.path());
    }
}

#[test]
fn a_fit_that_is_killed_within_a_group_goes_on_with_its_sums() {
    let (model, corpus, options) = lm();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [whole, cut] = [0, 1].map(|i| folders[i].path());
    fit(&model, &corpus, &options(28, 8), whole, &mut Silent).unwrap();
    // What a run leaves behind that was killed in the second of two groups, after it had saved two shards.
    let two = options(16, 4);
    for (layers, options) in [(0..4, &options(28, 4)), (4..8, &two)] {
        let (part, folder) = (model.with_layers(layers.clone()), parts::folder(cut, &layers));
        let (observer, timings) = (&mut Silent, &mut BTreeMap::new());
        let mut pass = Pass { model: &part, corpus: &corpus, options, folder: &folder, observer, timings };
        match layers.start {
            0 => pass.run().unwrap(),
            _ => pass.covariances().unwrap().save(&folder, part.layers()).unwrap(),
        }
    }
    let mut phases = Phases { seen: Vec::new(), stop: usize::MAX };
    fit(&model, &corpus, &options(28, 4), cut, &mut phases).unwrap();
    let rest = [(Phase::Covariance, 4, 16), (Phase::Eigendecomposition, 4, 0), (Phase::Correction, 4, 0)];
    assert_eq!(phases.seen, rest);
    assert_same_files(cut, whole);
}
