//! The fold over shards: covariances → eigenbases → corrections, group by group of layers, resumable in its output folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use etymon_data::{BatchLimits, Corpus, ExampleIndex, Prefetch, Window, WindowBatch, WindowSize, Windows};
use etymon_model::{Consumer, LayerGroups, Model, Objective, Tap};
use etymon_tensor::Folds;

use crate::partial::{self, Partial};
use crate::parts;
use crate::{CorrectionTap, Corrections, CovarianceTap, Covariances, CurvatureError, Factors, Result, eigendecompose};

/// Seconds between two writings of what a pass has summed.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Shards that are read and stacked while one is worked on.
const AHEAD: usize = 1;

/// Where the labels of the curvature come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Drawn from the model: G is the Fisher, which is the Gauss-Newton matrix of cross entropy.
    Model {
        /// Seed of the stream `labels`.
        seed: u64,
    },
    /// The data's: the empirical Fisher.
    Data,
}

/// Between the seeds of the two passes' draws.
const CORRECTION_DRAWS: u64 = 0x9E37_79B9_7F4A_7C15;

impl Labels {
    /// The correction has draws of its own. With those of the covariances, Λ would measure the directions that these very
    /// draws have chosen: on 64 sequences, scores of two seeds then correlate by 0.78 and not by 0.91.
    fn objective(self, phase: Phase) -> Objective {
        match self {
            Self::Model { seed } if phase == Phase::Correction => {
                Objective::SampledLoss { seed: seed.wrapping_add(CORRECTION_DRAWS) }
            }
            Self::Model { seed } => Objective::SampledLoss { seed },
            Self::Data => Objective::TrainLoss,
        }
    }
}

/// What a fit needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct FitOptions {
    /// Labels of the pseudo-gradients.
    pub labels: Labels,
    /// Whether to fit the eigenvalue correction (EK-FAC) or stop before (K-FAC).
    pub correction: bool,
    /// Use only the first examples of the data.
    pub max_examples: Option<u64>,
    /// Examples per shard, the window of the stream that is sorted into batches: sums are in the backend's precision within a
    /// batch, in f64 across batches.
    pub shard_examples: u64,
    /// Rows and examples per forward pass.
    pub limits: BatchLimits,
    /// Layers whose sums are in memory at a time. The corpus is read once for each group; the factors are the same.
    pub groups: LayerGroups,
}

/// A phase of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A and S.
    Covariance,
    /// Their eigenvectors.
    Eigendecomposition,
    /// Λ.
    Correction,
}

impl Phase {
    /// For progress bars and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Covariance => "covariance",
            Self::Eigendecomposition => "eigendecomposition",
            Self::Correction => "correction",
        }
    }
}

/// Is told how a fit goes.
pub trait FitObserver {
    /// A phase of a group of `layers` layers begins; `done` of its examples were done by an earlier, interrupted run.
    fn begin(&mut self, phase: Phase, layers: u64, done: u64);
    /// More examples (or layers) are done.
    fn advance(&mut self, examples: u64, tokens: u64);
    /// The phase is over.
    fn end(&mut self);
}

/// What was fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct FitSummary {
    /// Examples in each pass.
    pub examples: u64,
    /// Seconds per phase, of this run.
    pub timings: BTreeMap<String, f64>,
}

/// Fits the factors of the model's tapped layers on a corpus, into `folder`; continues where an interrupted fit with
/// the same settings stopped.
///
/// # Errors
/// Data that cannot be read or that the model does not take, gradients that are not finite, and what the disk refuses.
pub fn fit<B: Folds>(
    model: &Model<B>,
    corpus: &Corpus,
    options: &FitOptions,
    folder: &Path,
    observer: &mut dyn FitObserver,
) -> Result<FitSummary> {
    let mut timings = BTreeMap::new();
    let mut run = |model: &Model<B>, folder: &Path| {
        Pass { model, corpus, options, folder, observer: &mut *observer, timings: &mut timings }.run()
    };
    let n_layers = model.layers().len();
    let mut done = parts::finished(folder, n_layers, options.correction);
    if done.is_empty() && options.groups.len() == 1 {
        run(model, folder)?;
    } else if !Factors::are_in(folder, options.correction) {
        for layers in options.groups.after(done.last().map_or(0, |last| last.end)) {
            run(&model.with_layers(layers.clone()), &parts::folder(folder, &layers))?;
            done.push(layers);
        }
        Factors::join(folder, &done.iter().map(|layers| parts::folder(folder, layers)).collect::<Vec<_>>())?;
    }
    partial::remove(folder)?;
    parts::remove(folder)?;
    Ok(FitSummary { examples: Factors::examples(folder)?, timings })
}

/// A fit of all tapped layers of a model at once.
struct Pass<'a, B: Folds> {
    model: &'a Model<B>,
    corpus: &'a Corpus,
    options: &'a FitOptions,
    folder: &'a Path,
    observer: &'a mut dyn FitObserver,
    timings: &'a mut BTreeMap<String, f64>,
}

impl<B: Folds> Pass<'_, B> {
    fn run(&mut self) -> Result<()> {
        self.model.backend().release_memory();
        if !Factors::are_in(self.folder, false) {
            let covariances = self.covariances()?;
            self.eigen(covariances)?;
        }
        if !Factors::are_in(self.folder, self.options.correction) {
            let sums = self.corrections()?;
            Factors::save_lambda(self.folder, self.model.layers(), &sums.means(), sums.examples)?;
        }
        partial::remove(self.folder)
    }

    fn begin(&mut self, phase: Phase, done: u64) {
        self.observer.begin(phase, self.model.layers().len() as u64, done);
    }

    fn end(&mut self, phase: Phase, started: Instant) {
        self.observer.end();
        *self.timings.entry(phase.name().to_owned()).or_default() += started.elapsed().as_secs_f64();
    }

    fn covariances(&mut self) -> Result<Covariances> {
        let specs = self.model.layers();
        let (model, backend) = (self.model, self.model.backend());
        let mut total = Covariances::load_or_empty(self.folder, specs)?;
        self.fold(Phase::Covariance, &mut total, |pass, shard, total| {
            let mut tap = CovarianceTap::new(backend, specs, std::mem::take(total))?;
            pass.run_shard(model, shard, Phase::Covariance, &mut tap)?;
            *total = tap.finish();
            Ok(())
        })?;
        Ok(total)
    }

    fn eigen(&mut self, covariances: Covariances) -> Result<()> {
        let started = Instant::now();
        self.model.backend().release_memory();
        self.begin(Phase::Eigendecomposition, 0);
        let specs = self.model.layers();
        let examples = covariances.examples;
        let bases = eigendecompose(covariances, specs, |_| self.observer.advance(1, 0))?;
        Factors::save_eigen(self.folder, specs, &bases, examples)?;
        self.end(Phase::Eigendecomposition, started);
        Ok(())
    }

    fn corrections(&mut self) -> Result<Corrections> {
        let specs = self.model.layers();
        let (model, backend) = (self.model, self.model.backend());
        let factors = Factors::open(self.folder, specs)?.layers(backend)?;
        let mut total = Corrections::load_or_empty(self.folder, specs)?;
        self.fold(Phase::Correction, &mut total, |pass, shard, total| {
            let mut tap = CorrectionTap::new(backend, specs, &factors, std::mem::take(total))?;
            pass.run_shard(model, shard, Phase::Correction, &mut tap)?;
            *total = tap.finish();
            Ok(())
        })?;
        Ok(total)
    }

    /// Runs `shard` over the rest of the corpus and writes `total` from time to time. A shard is a window of the stream:
    /// its batches are of similar lengths, and made on the reading thread. (Writing stays on this thread: writing
    /// behind it would take a second copy of the sums.)
    fn fold<T: Partial>(
        &mut self,
        phase: Phase,
        total: &mut T,
        mut shard: impl FnMut(&mut Self, &Window, &mut T) -> Result<()>,
    ) -> Result<()> {
        let started = Instant::now();
        let mut saved = Instant::now();
        let done = total.examples();
        self.begin(phase, done);
        let left = self.options.max_examples.unwrap_or(u64::MAX).saturating_sub(done);
        let stream = self.corpus.examples_from(ExampleIndex(done)).on_this_thread().take(saturated(left));
        let size = WindowSize::Examples(saturated(self.options.shard_examples));
        let windows = Windows::new(stream, size, self.options.limits);
        std::thread::scope(|scope| {
            for window in Prefetch::spawn(scope, windows, AHEAD)? {
                shard(self, &window?, total)?;
                if saved.elapsed() >= SAVE_EVERY {
                    total.save(self.folder, self.model.layers())?;
                    saved = Instant::now();
                }
            }
            Ok::<_, CurvatureError>(())
        })?;
        if total.examples() == 0 {
            return Err(CurvatureError::NoExamples);
        }
        self.end(phase, started);
        Ok(())
    }

    fn run_shard(&mut self, model: &Model<B>, shard: &Window, phase: Phase, tap: &mut dyn Tap<B>) -> Result<()> {
        let objective = self.options.labels.objective(phase);
        for example in &shard.examples {
            model.check(example).map_err(|source| CurvatureError::Example { id: example.id.clone(), source })?;
        }
        for WindowBatch { places, batch } in &shard.batches {
            model.run(batch, objective, Consumer::Tap(tap))?;
            let tokens = places.iter().map(|&i| shard.examples[i].n_tokens() as u64).sum();
            self.observer.advance(places.len() as u64, tokens);
        }
        Ok(())
    }
}

fn saturated(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
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
        let (model, corpus, options) = lm();
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [whole, first, second] = [0, 1, 2].map(|i| folders[i].path());
        fit(&model, &corpus, &options(28, 8), whole, &mut Silent).unwrap();

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
}
