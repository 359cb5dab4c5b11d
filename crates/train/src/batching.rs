//! Which examples each step sees: a function of the plan and the step alone.

use std::collections::BTreeMap;

use etymon_data::{Example, ExampleIndex};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::plan::{LastBatch, Length, Order, Plan, Removal};
use crate::{Result, TrainError};

/// The batches of a run, as positions in the train set.
#[derive(Clone, Debug)]
pub(crate) struct Batching {
    source: Source,
    /// `[n_examples]` Whether an example takes part.
    kept: Vec<bool>,
    batch_size: usize,
    removal: Removal,
    steps_per_epoch: u64,
    n_steps: u64,
    /// The order of the epoch at hand.
    epoch: Option<(u64, Vec<usize>)>,
}

#[derive(Clone, Debug)]
enum Source {
    Shuffled { seed: u64 },
    Sequential,
    Curriculum(Vec<Vec<usize>>),
}

impl Batching {
    pub fn new(train: &[Example], plan: &Plan) -> Result<Self> {
        let positions = positions(train)?;
        let find = |list, &index: &ExampleIndex| {
            positions.get(&index).copied().ok_or(TrainError::UnknownExample { list, index })
        };
        let mut kept = vec![true; train.len()];
        for index in &plan.excluded {
            kept[find("exclusion", index)?] = false;
        }
        let n_kept = kept.iter().filter(|&&k| k).count();
        if n_kept == 0 {
            return Err(TrainError::NoExamples { given: train.len(), excluded: train.len() - n_kept });
        }
        let source = match &plan.order {
            Order::Shuffled => Source::Shuffled { seed: plan.seed },
            Order::Sequential => Source::Sequential,
            Order::Curriculum(batches) => {
                let place = |batch: &Vec<ExampleIndex>| batch.iter().map(|i| find("curriculum", i)).collect();
                Source::Curriculum(batches.iter().map(place).collect::<Result<_>>()?)
            }
        };
        let n = if plan.removal == Removal::Refill { n_kept } else { train.len() };
        let steps_per_epoch = match (&source, plan.last_batch) {
            (Source::Curriculum(batches), _) => batches.len(),
            (_, LastBatch::Keep) => n.div_ceil(plan.batch_size),
            (_, LastBatch::Drop) => n / plan.batch_size,
        } as u64;
        if steps_per_epoch == 0 {
            let problem = format!("{} leaves no full batch of the {n} examples", plan.batch_size);
            return Err(TrainError::setting("batch_size", problem));
        }
        let n_steps = match plan.length {
            Length::Epochs(epochs) => epochs * steps_per_epoch,
            Length::Steps(steps) => steps,
        };
        let (batch_size, removal) = (plan.batch_size, plan.removal);
        Ok(Self { source, kept, batch_size, removal, steps_per_epoch, n_steps, epoch: None })
    }

    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// (epoch, step within it) of a step, both from 0.
    pub fn place(&self, step: u64) -> (u64, u64) {
        (step / self.steps_per_epoch, step % self.steps_per_epoch)
    }

    /// Positions of the examples of a step.
    pub fn batch(&mut self, step: u64) -> Vec<usize> {
        let (epoch, within) = self.place(step);
        let within = within as usize;
        if let Source::Curriculum(batches) = &self.source {
            return batches[within].iter().copied().filter(|&p| self.kept[p]).collect();
        }
        if self.epoch.as_ref().is_none_or(|(number, _)| *number != epoch) {
            self.epoch = Some((epoch, self.order(epoch)));
        }
        let order = self.epoch.as_ref().map_or(&[][..], |(_, order)| order);
        let start = (within * self.batch_size).min(order.len());
        let end = (start + self.batch_size).min(order.len());
        order[start..end].iter().copied().filter(|&p| self.kept[p]).collect()
    }

    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.kept.len()).collect();
        if let Source::Shuffled { seed } = self.source {
            shuffle(&mut order, b"order", seed, epoch);
        }
        if self.removal == Removal::Refill {
            order.retain(|&p| self.kept[p]);
        }
        order
    }
}

fn positions(train: &[Example]) -> Result<BTreeMap<ExampleIndex, usize>> {
    let mut positions = BTreeMap::new();
    for (position, example) in train.iter().enumerate() {
        if positions.insert(example.index, position).is_some() {
            return Err(TrainError::DuplicateIndex { index: example.index });
        }
    }
    Ok(positions)
}

/// Fisher and Yates, by the substream `address` of a named stream (of at most 24 bytes) of the seed.
pub(crate) fn shuffle(order: &mut [usize], name: &[u8], seed: u64, address: u64) {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..].iter_mut().zip(name).for_each(|(to, &from)| *to = from);
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(address);
    for i in (1..order.len()).rev() {
        // A uniform number below i + 1; the bias of the multiplication is below 2⁻⁴⁰ for a train set of 2²⁴.
        let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
}
