//! A fitted simulator.

mod files;

use crate::curriculum::Curriculum;
use crate::kind::{Kind, Unseen};
use crate::roll_out::{Dynamics, QUARTERS, RollOut, Z90, quarter, variance};
use crate::{Result, SimulateError};

/// Predicts the losses of some queries from a curriculum over some train examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulator {
    pub(crate) kind: Kind,
    pub(crate) train_ids: Vec<String>,
    pub(crate) query_ids: Vec<String>,
    /// `[n]` How often the fitted runs contain each train example.
    pub(crate) counts: Vec<usize>,
    pub(crate) unseen: Unseen,
    /// `[Q]`.
    pub(crate) first_losses: Vec<f64>,
    /// λ of the ridge.
    pub(crate) lambda: f64,
    pub(crate) dynamics: Dynamics,
    pub(crate) effects: Effects,
    pub(crate) bands: Option<Bands>,
}

/// What one occurrence of a train example does to each query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Effects {
    /// `[n, Q]` A_i; empty: all are 0.
    pub a: Vec<f64>,
    /// `[n, Q]` B_i in nats; empty: all are 0.
    pub b: Vec<f64>,
}

/// What is known of a simulator's errors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bands {
    /// `[Q]` Variance of the residuals of a step.
    pub noise: Vec<f64>,
    /// Draws from the posterior, less its mean.
    pub draws: Vec<Effects>,
    /// What the standard deviation is multiplied with in each quarter of a run, so that bands hold what they say on runs held
    /// out of the fit.
    pub scale: [f64; QUARTERS],
}

impl Effects {
    /// Adds those of an example, times a weight, to sums `[Q]`.
    pub fn add(&self, example: usize, weight: f64, a: &mut [f64], b: &mut [f64]) {
        for (sums, effects) in [(a, &self.a), (b, &self.b)] {
            let of = effects.iter().skip(example * sums.len());
            sums.iter_mut().zip(of).for_each(|(sum, x)| *sum += weight * x);
        }
    }
}

impl Simulator {
    /// Its form.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `[n]` The train examples; positions in a curriculum are those of this list.
    pub fn train_ids(&self) -> &[String] {
        &self.train_ids
    }

    /// `[Q]` The queries.
    pub fn query_ids(&self) -> &[String] {
        &self.query_ids
    }

    /// `[n]` How often the fitted runs contain each train example; 0 is unseen.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// `[Q]` The losses before the first step, mean over the fitted runs.
    pub fn first_losses(&self) -> &[f64] {
        &self.first_losses
    }

    /// Whether roll-outs have bands.
    pub fn has_bands(&self) -> bool {
        self.bands.is_some()
    }

    /// λ of the ridge; 0 of a kind without one.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }

    /// γ of the momentum kind; 0 of others.
    pub fn memory(&self) -> f64 {
        self.dynamics.memory
    }

    /// `[Q]` A_i of a train example: what one occurrence adds to α; 0 for an additive simulator.
    pub fn a(&self, example: usize) -> Vec<f64> {
        self.row(&self.effects.a, example)
    }

    /// `[Q]` B_i of a train example in nats: what one occurrence adds to the losses; 0 for a multiplicative simulator, and
    /// per unit of the learning rate for TracIn-CP.
    pub fn b(&self, example: usize) -> Vec<f64> {
        self.row(&self.effects.b, example)
    }

    fn row(&self, effects: &[f64], example: usize) -> Vec<f64> {
        let q = self.query_ids.len();
        effects.get(example * q..(example + 1) * q).map_or_else(|| vec![0.0; q], <[f64]>::to_vec)
    }

    /// The losses at every step of a curriculum that starts at `first` `[Q]`.
    ///
    /// # Errors
    /// A curriculum that is not well-formed, or has train examples that no fitted run had, unless the simulator was fitted
    /// to give these the mean; first losses for another number of queries.
    pub fn roll_out(&self, curriculum: &Curriculum, first: &[f64]) -> Result<RollOut> {
        let unseen = self.check(curriculum, first)?;
        let losses = self.dynamics.losses(curriculum, first, |i, weight, a, b| self.effects.add(i, weight, a, b));
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        if let Some(bands) = &self.bands {
            let variance = variance(&self.dynamics, &self.effects, bands, curriculum, &losses);
            let (q, n_steps) = (self.query_ids.len(), curriculum.n_steps());
            let scale = |at: usize| bands.scale[quarter(at / q.max(1), n_steps)];
            let half: Vec<f64> = variance.iter().enumerate().map(|(at, v)| Z90 * scale(at) * v.sqrt()).collect();
            lower = losses.iter().zip(&half).map(|(l, h)| l - h).collect();
            upper = losses.iter().zip(&half).map(|(l, h)| l + h).collect();
        }
        Ok(RollOut { losses, lower, upper, unseen })
    }

    /// The unseen examples of a curriculum.
    pub(crate) fn check(&self, curriculum: &Curriculum, first: &[f64]) -> Result<Vec<usize>> {
        let (expected, finite) = (self.query_ids.len(), first.iter().filter(|l| l.is_finite()).count());
        if first.len() != expected || finite != expected {
            return Err(SimulateError::FirstLosses { expected, got: finite });
        }
        let (batches, rates) = (curriculum.batches.len(), curriculum.learning_rates.len());
        if batches != rates {
            return Err(SimulateError::CurriculumShape { batches, rates });
        }
        let n = self.train_ids.len();
        let mut steps = curriculum.batches.iter().enumerate();
        if let Some((step, index)) = steps.find_map(|(t, batch)| Some((t, *batch.iter().find(|&&i| i >= n)?))) {
            return Err(SimulateError::NoSuchExample { step, index, n });
        }
        let counts = curriculum.counts(n);
        let unseen: Vec<usize> = (0..n).filter(|&i| counts[i] > 0 && self.counts[i] == 0).collect();
        match unseen.first() {
            Some(&i) if self.unseen == Unseen::Refuse => {
                Err(SimulateError::Unseen { n: unseen.len(), first: self.train_ids[i].clone() })
            }
            _ => Ok(unseen),
        }
    }
}
