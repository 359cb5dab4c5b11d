//! The learning rate of each step.

use serde::{Deserialize, Serialize};

/// What the learning rate does after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls along half a cosine.
    Cosine,
    /// It falls along a line.
    Linear,
}

/// η_t for the steps t = 0..T.
///
/// Warm-up, t < W: η_t = η·(t+1)/W. Then constant η, or with p = (t−W)/(T−W) the cosine
/// η_t = η·(r + (1−r)·½(1 + cos πp)), or the line η_t = η·(r + (1−r)·(1−p)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearningRate {
    /// η, the highest one.
    pub peak: f64,
    /// Shape after the warm-up.
    pub schedule: Schedule,
    /// W.
    pub warmup_steps: u64,
    /// r = lowest / highest, of cosine and line.
    pub min_ratio: f64,
}

impl LearningRate {
    /// Always `peak`.
    pub const fn constant(peak: f64) -> Self {
        Self { peak, schedule: Schedule::Constant, warmup_steps: 0, min_ratio: 0.0 }
    }

    /// η of step `step` of `n_steps`.
    pub fn at(&self, step: u64, n_steps: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let (done, all) = (step - self.warmup_steps, n_steps.saturating_sub(self.warmup_steps).max(1));
        let progress = (done as f64 / all as f64).min(1.0);
        let fall = match self.schedule {
            Schedule::Constant => return self.peak,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Linear => 1.0 - progress,
        };
        self.peak * (self.min_ratio + (1.0 - self.min_ratio) * fall)
    }
}
