//! What a run trains on, step by step.

use serde::{Deserialize, Serialize};

/// The batches of a run and their learning rates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curriculum {
    /// `[T]` The batch of every step, as positions in the list of train ids; an example may occur several times, and a batch
    /// may be empty: such a step changes nothing.
    pub batches: Vec<Vec<usize>>,
    /// `[T]` η_t, finite.
    pub learning_rates: Vec<f64>,
}

impl Curriculum {
    /// Number of steps T.
    pub fn n_steps(&self) -> usize {
        self.batches.len()
    }

    /// How often each of `n` train examples occurs.
    pub fn counts(&self, n: usize) -> Vec<usize> {
        let mut counts = vec![0; n];
        for &i in self.batches.iter().flatten() {
            if let Some(count) = counts.get_mut(i) {
                *count += 1;
            }
        }
        counts
    }
}
