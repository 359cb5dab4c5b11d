//! What an edit changes in the end.

use rayon::prelude::*;

use crate::curriculum::Curriculum;
use crate::roll_out::{QUARTERS, Z90};
use crate::simulator::{Effects, Simulator};
use crate::{Result, SimulateError};

/// The difference of two simulated losses, after the last step of each curriculum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Loss of the second less loss of the first, in nats.
    pub value: f64,
    /// Its 90 % band, for a simulator with bands.
    pub band: Option<[f64; 2]>,
}

impl Simulator {
    /// `[Q]` What another curriculum changes in the last losses: those of `after` less those of `before`, both from `first`
    /// `[Q]` on.
    ///
    /// A draw from the posterior is the same in both, so what is uncertain of examples that both contain alike does not count.
    /// The noise of the steps is taken to be independent in the two runs, and the scale is that of the last quarter, which
    /// was fitted to losses and not to differences: where the runs have much in common the band is rather too wide.
    ///
    /// # Errors
    /// As [`Simulator::roll_out`].
    pub fn changes(&self, before: &Curriculum, after: &Curriculum, first: &[f64]) -> Result<Vec<Change>> {
        let ends = |draw: Option<&Effects>| {
            let end = |curriculum: &Curriculum| {
                let losses = self.dynamics.losses(curriculum, first, |i, weight, a, b| {
                    self.effects.add(i, weight, a, b);
                    if let Some(draw) = draw {
                        draw.add(i, weight, a, b);
                    }
                });
                losses[losses.len() - first.len()..].to_vec()
            };
            let (before, after) = (end(before), end(after));
            after.iter().zip(&before).map(|(after, before)| after - before).collect::<Vec<f64>>()
        };
        for curriculum in [before, after] {
            self.check(curriculum, first)?;
        }
        let values = ends(None);
        let Some(bands) = &self.bands else {
            return Ok(values.into_iter().map(|value| Change { value, band: None }).collect());
        };
        let drawn: Vec<Vec<f64>> = bands.draws.par_iter().map(|draw| ends(Some(draw))).collect();
        let noise = |curriculum: &Curriculum| {
            let add = |i: usize, weight: f64, a: &mut [f64], b: &mut [f64]| self.effects.add(i, weight, a, b);
            let all = self.dynamics.noise(curriculum, &bands.noise, add);
            all[all.len() - first.len()..].to_vec()
        };
        let (noise_before, noise_after) = (noise(before), noise(after));
        let change = |(q, value): (usize, f64)| {
            let spread: f64 = drawn.iter().map(|d| (d[q] - value).powi(2)).sum::<f64>() / drawn.len().max(1) as f64;
            let half = Z90 * bands.scale[QUARTERS - 1] * (spread + noise_before[q] + noise_after[q]).sqrt();
            Change { value, band: Some([value - half, value + half]) }
        };
        Ok(values.into_iter().enumerate().map(change).collect())
    }

    /// The same curriculum over the examples of this simulator, given over `train_ids`.
    ///
    /// # Errors
    /// An example that occurs and that this simulator does not know.
    pub fn adopt(&self, curriculum: &Curriculum, train_ids: &[String]) -> Result<Curriculum> {
        let known: std::collections::BTreeMap<&str, usize> =
            self.train_ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let place = |&i: &usize| {
            let id = train_ids.get(i).map_or("", String::as_str);
            let n = self.train_ids.len();
            known.get(id).copied().ok_or_else(|| SimulateError::NoSuchId { id: id.to_owned(), n })
        };
        let batch = |batch: &Vec<usize>| batch.iter().map(place).collect::<Result<Vec<usize>>>();
        let batches = curriculum.batches.iter().map(batch).collect::<Result<_>>()?;
        Ok(Curriculum { batches, learning_rates: curriculum.learning_rates.clone() })
    }
}
