//! The fold over shards: covariances → eigenbases → corrections, resumable in its output folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use etymon_data::{Batch, BatchLimits, Batches, Corpus, Example, ExampleIndex, Padding};
use etymon_model::{Consumer, Model, Objective, Tap};
use etymon_tensor::Folds;

use crate::partial::{self, Partial};
use crate::{CorrectionTap, Corrections, CovarianceTap, Covariances, CurvatureError, Factors, Result, eigendecompose};

/// Seconds between two writings of what a pass has summed.
const SAVE_EVERY: Duration = Duration::from_secs(60);

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

/// What a fit needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitOptions {
    /// Labels of the pseudo-gradients.
    pub labels: Labels,
    /// Whether to fit the eigenvalue correction (EK-FAC) or stop before (K-FAC).
    pub correction: bool,
    /// Use only the first examples of the data.
    pub max_examples: Option<u64>,
    /// Examples per shard: sums are in the backend's precision within a shard, in f64 across shards.
    pub shard_examples: u64,
    /// Rows and examples per forward pass.
    pub limits: BatchLimits,
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
    /// A phase begins; `done` of its examples (or layers) were done by an earlier, interrupted run.
    fn begin(&mut self, phase: Phase, done: u64);
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
    let mut pass = Pass { model, corpus, options, folder, observer, timings: BTreeMap::new() };
    if !Factors::has_eigen_file(folder) {
        let covariances = pass.covariances()?;
        pass.eigen(&covariances)?;
    }
    if options.correction {
        pass.corrections()?;
    }
    let examples = Factors::examples(folder)?;
    partial::remove(folder)?;
    Ok(FitSummary { examples, timings: pass.timings })
}

struct Pass<'a, B: Folds> {
    model: &'a Model<B>,
    corpus: &'a Corpus,
    options: &'a FitOptions,
    folder: &'a Path,
    observer: &'a mut dyn FitObserver,
    timings: BTreeMap<String, f64>,
}

impl<B: Folds> Pass<'_, B> {
    fn covariances(&mut self) -> Result<Covariances> {
        let specs = self.model.layers();
        let (model, backend) = (self.model, self.model.backend());
        let mut total = Covariances::load_or_empty(self.folder, specs)?;
        self.fold(Phase::Covariance, &mut total, |pass, shard, total| {
            let mut tap = CovarianceTap::new(backend, specs);
            pass.run_shard(model, shard, &mut tap)?;
            total.merge(&tap.finish()?)
        })?;
        Ok(total)
    }

    fn eigen(&mut self, covariances: &Covariances) -> Result<()> {
        let started = Instant::now();
        self.observer.begin(Phase::Eigendecomposition, 0);
        let specs = self.model.layers();
        let bases = eigendecompose(covariances, specs, |_| self.observer.advance(1, 0))?;
        Factors::save_eigen(self.folder, specs, &bases, covariances.examples)?;
        self.observer.end();
        self.timings.insert(Phase::Eigendecomposition.name().to_owned(), started.elapsed().as_secs_f64());
        Ok(())
    }

    fn corrections(&mut self) -> Result<()> {
        let specs = self.model.layers();
        let (model, backend) = (self.model, self.model.backend());
        let factors = Factors::open(self.folder, specs)?.layers(backend)?;
        let mut total = Corrections::load_or_empty(self.folder, specs)?;
        self.fold(Phase::Correction, &mut total, |pass, shard, total| {
            let mut tap = CorrectionTap::new(backend, specs, &factors);
            pass.run_shard(model, shard, &mut tap)?;
            total.merge(&tap.finish())
        })?;
        Factors::save_lambda(self.folder, specs, &total.means(), total.examples)
    }

    /// Runs `shard` over the rest of the corpus and writes `total` from time to time.
    fn fold<T: Partial>(
        &mut self,
        phase: Phase,
        total: &mut T,
        mut shard: impl FnMut(&mut Self, Vec<Example>, &mut T) -> Result<()>,
    ) -> Result<()> {
        let started = Instant::now();
        let mut saved = Instant::now();
        self.observer.begin(phase, total.examples());
        let most = self.options.max_examples.unwrap_or(u64::MAX);
        let mut stream = self.corpus.examples_from(ExampleIndex(total.examples()));
        loop {
            let wanted = self.options.shard_examples.min(most.saturating_sub(total.examples()));
            let examples = stream.by_ref().take(wanted as usize).collect::<std::result::Result<Vec<_>, _>>()?;
            if examples.is_empty() {
                break;
            }
            shard(self, examples, total)?;
            if saved.elapsed() >= SAVE_EVERY {
                total.save(self.folder, self.model.layers())?;
                saved = Instant::now();
            }
        }
        if total.examples() == 0 {
            return Err(CurvatureError::NoExamples);
        }
        self.observer.end();
        self.timings.insert(phase.name().to_owned(), started.elapsed().as_secs_f64());
        Ok(())
    }

    fn run_shard(&mut self, model: &Model<B>, examples: Vec<Example>, tap: &mut dyn Tap<B>) -> Result<()> {
        let objective = match self.options.labels {
            Labels::Model { seed } => Objective::SampledLoss { seed },
            Labels::Data => Objective::TrainLoss,
        };
        for group in Batches::new(examples.into_iter().map(Ok), self.options.limits) {
            let group = group?;
            for example in &group {
                let id = || example.id.clone();
                model.check(example).map_err(|source| CurvatureError::Example { id: id(), source })?;
            }
            model.run(&Batch::stack(&group, Padding::None)?, objective, Consumer::Tap(tap))?;
            self.observer.advance(group.len() as u64, group.iter().map(|e| e.n_tokens() as u64).sum());
        }
        Ok(())
    }
}
