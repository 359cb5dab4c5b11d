//! Named random streams: what an evaluation draws is a function of the seed and an address.

use etymon_data::{Content, Example, Target};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{EvaluateError, Result};

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The subsets of LDS, one substream each.
    Subsets,
    /// Rows or groups to remove.
    Removals,
    /// Random rows that top rows are compared with.
    Controls,
    /// Resamples of intervals.
    Bootstrap,
    /// Labels to flip, and to what.
    Labels,
    /// The order of a shuffled curriculum.
    Curriculum,
    /// Train examples and queries of proximal responses.
    Pairs,
    /// Draws from the posterior of a simulator.
    Posterior,
}

impl Stream {
    /// The numbers at one address of the stream.
    pub fn rng(self, seed: u64, address: u64) -> ChaCha8Rng {
        let name: &[u8] = match self {
            Self::Subsets => b"subsets",
            Self::Removals => b"removals",
            Self::Controls => b"controls",
            Self::Bootstrap => b"bootstrap",
            Self::Labels => b"flips",
            Self::Curriculum => b"curriculum",
            Self::Pairs => b"pairs",
            Self::Posterior => b"posterior",
        };
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..8 + name.len()].copy_from_slice(name);
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(address);
        rng
    }
}

/// A uniform number below `n`; the bias of the multiplication is below 2⁻⁴⁰ for n up to 2²⁴.
pub(crate) fn below(number: u64, n: usize) -> usize {
    ((u128::from(number) * n as u128) >> 64) as usize
}

/// `[k]` Different positions below `n`, ascending: the first `k` of [`shuffled`].
///
/// # Errors
/// [`EvaluateError::Draw`] unless 0 < k < n.
pub fn draw(stream: Stream, seed: u64, address: u64, n: usize, k: usize) -> Result<Vec<usize>> {
    if k == 0 || k >= n {
        return Err(EvaluateError::Draw { wanted: k, n });
    }
    let mut positions = shuffled(stream, seed, address, n);
    positions.truncate(k);
    positions.sort_unstable();
    Ok(positions)
}

/// `[n]` All positions below `n` in random order: Fisher and Yates from the front.
pub fn shuffled(stream: Stream, seed: u64, address: u64, n: usize) -> Vec<usize> {
    let mut rng = stream.rng(seed, address);
    let mut positions: Vec<usize> = (0..n).collect();
    for i in 0..n {
        let j = i + below(rng.next_u64(), n - i);
        positions.swap(i, j);
    }
    positions
}

/// Gives `fraction` of the examples another class, uniformly drawn from the other `classes − 1`. The positions of the
/// flipped, ascending.
///
/// # Errors
/// Examples without a class; a fraction that draws none or all.
pub fn flips(examples: &mut [Example], classes: u32, fraction: f64, seed: u64) -> Result<Vec<usize>> {
    let k = (fraction * examples.len() as f64).round() as usize;
    let flipped = draw(Stream::Labels, seed, 0, examples.len(), k)?;
    for &i in &flipped {
        let example = &mut examples[i];
        let Content::Features { target: Target::Class(class), .. } = &mut example.content else {
            return Err(EvaluateError::NoClass { id: example.id.clone() });
        };
        let step = 1 + below(Stream::Labels.rng(seed, 1 + i as u64).next_u64(), classes.saturating_sub(1) as usize);
        *class = (*class + step as u32) % classes.max(1);
    }
    Ok(flipped)
}
