//! Edits of curricula: what if it had been trained on something else, or in another order?

mod expression;
mod parse;
mod tokens;

pub use expression::{Bound, Examples, Expression, Literal};

use etymon_evaluate::{Stream, shuffled};

use crate::curriculum::Curriculum;
use crate::{Result, SimulateError};

/// A change of a curriculum. Edits are applied one after the other; T is the number of steps before the edit.
///
/// An *occurrence* is a train example in the batch of a step. The learning rate belongs to the step, not to its examples.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Occurrences of the chosen examples are taken out of their batches, which shrink; nothing fills their place. A batch
    /// with none left is a step that changes nothing. Steps and learning rates stay.
    Remove(Expression),
    /// As [`Edit::Remove`], of all but the chosen examples.
    Only(Expression),
    /// The chosen examples occur this many times as often, 2 or more; the copies of an occurrence are spread evenly over the
    /// run. Batches are cut anew, each as large as the largest was, so the run becomes longer: T′ steps. Step t has the
    /// learning rate that step ⌊t T / T′⌋ had.
    Repeat(Expression, usize),
    /// All occurrences of the chosen examples come first, then all others, both in the order they had. Each batch stays as
    /// large as it was.
    First(Expression),
    /// As [`Edit::First`], last instead.
    Last(Expression),
    /// All occurrences in a random order of this seed. Each batch stays as large as it was.
    Shuffle(u64),
    /// The first steps, of this number, 1 to T. The learning rates are those of the longer run.
    Truncate(usize),
}

impl Edit {
    /// The edited curriculum over `examples`.
    ///
    /// # Errors
    /// Expressions that do not fit the examples, or choose none that occurs; a truncation beyond the end; a repetition of
    /// less than twice; nothing left.
    pub fn apply(&self, curriculum: &Curriculum, examples: Examples<'_>) -> Result<Curriculum> {
        let edited = match self {
            Self::Remove(which) => keep(curriculum, &self.chosen(which, curriculum, examples)?, false),
            Self::Only(which) => keep(curriculum, &self.chosen(which, curriculum, examples)?, true),
            Self::Repeat(which, times) => {
                if *times < 2 {
                    return Err(SimulateError::Edit { problem: format!("repeat: {times} times, must be 2 or more") });
                }
                repeat(curriculum, &self.chosen(which, curriculum, examples)?, *times)
            }
            Self::First(which) => sorted(curriculum, &self.chosen(which, curriculum, examples)?, true),
            Self::Last(which) => sorted(curriculum, &self.chosen(which, curriculum, examples)?, false),
            Self::Shuffle(seed) => {
                let sequence = curriculum.batches.concat();
                let order = shuffled(Stream::Curriculum, *seed, 0, sequence.len());
                refill(curriculum, order.into_iter().map(|i| sequence[i]))
            }
            Self::Truncate(steps) => truncate(curriculum, *steps)?,
        };
        if edited.batches.iter().all(Vec::is_empty) {
            return Err(SimulateError::Edit { problem: format!("{}: leaves no example to train on", self.name()) });
        }
        Ok(edited)
    }

    /// As the command line calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Remove(_) => "remove",
            Self::Only(_) => "only",
            Self::Repeat(..) => "repeat",
            Self::First(_) => "first",
            Self::Last(_) => "last",
            Self::Shuffle(_) => "shuffle",
            Self::Truncate(_) => "truncate",
        }
    }

    /// `[n]` Which examples are chosen; at least one occurs.
    fn chosen(&self, which: &Expression, curriculum: &Curriculum, examples: Examples<'_>) -> Result<Vec<bool>> {
        let chosen = which.select(examples)?;
        if curriculum.batches.iter().flatten().any(|&i| chosen.get(i) == Some(&true)) {
            return Ok(chosen);
        }
        let problem = format!("{}: the expression chooses no example of the curriculum", self.name());
        Err(SimulateError::Edit { problem })
    }
}

/// Only the occurrences of examples that are chosen or not, as `wanted` says.
fn keep(curriculum: &Curriculum, chosen: &[bool], wanted: bool) -> Curriculum {
    let kept = |batch: &Vec<usize>| batch.iter().copied().filter(|&i| chosen[i] == wanted).collect();
    Curriculum {
        batches: curriculum.batches.iter().map(kept).collect(),
        learning_rates: curriculum.learning_rates.clone(),
    }
}

/// The chosen occurrences first, or last.
fn sorted(curriculum: &Curriculum, chosen: &[bool], first: bool) -> Curriculum {
    let all = curriculum.batches.iter().flatten().copied();
    let (front, back): (Vec<usize>, Vec<usize>) = all.partition(|&i| chosen[i] == first);
    refill(curriculum, front.into_iter().chain(back))
}

fn repeat(curriculum: &Curriculum, chosen: &[bool], times: usize) -> Curriculum {
    let sequence = curriculum.batches.concat();
    let (n, largest) = (sequence.len(), curriculum.batches.iter().map(Vec::len).max().unwrap_or(1).max(1));
    // Places in units of 1 / times: those of an occurrence are n apart, around the run.
    let mut placed: Vec<(usize, usize)> = Vec::new();
    for (at, &example) in sequence.iter().enumerate() {
        let copies = if chosen[example] { times } else { 1 };
        placed.extend((0..copies).map(|copy| ((at * times + copy * n) % (n * times), example)));
    }
    placed.sort_by_key(|&(place, _)| place);
    let placed: Vec<usize> = placed.into_iter().map(|(_, example)| example).collect();
    let batches: Vec<Vec<usize>> = placed.chunks(largest).map(<[usize]>::to_vec).collect();
    let (before, after) = (curriculum.learning_rates.len(), batches.len());
    let learning_rates = (0..after).map(|t| curriculum.learning_rates[t * before / after]).collect();
    Curriculum { batches, learning_rates }
}

fn truncate(curriculum: &Curriculum, steps: usize) -> Result<Curriculum> {
    let n_steps = curriculum.n_steps();
    if steps == 0 || steps > n_steps {
        return Err(SimulateError::Edit {
            problem: format!("truncate: {steps} steps of {n_steps}; must be 1 to {n_steps}"),
        });
    }
    Ok(Curriculum {
        batches: curriculum.batches[..steps].to_vec(),
        learning_rates: curriculum.learning_rates[..steps].to_vec(),
    })
}

/// Batches of the same sizes from another sequence of as many occurrences.
fn refill(curriculum: &Curriculum, mut sequence: impl Iterator<Item = usize>) -> Curriculum {
    let batches = curriculum.batches.iter().map(|batch| sequence.by_ref().take(batch.len()).collect()).collect();
    Curriculum { batches, learning_rates: curriculum.learning_rates.clone() }
}
