//! The scalars that are differentiated. Always sums over the positions that carry a loss term (methods.md §1).

use etymon_data::ExampleIndex;
use etymon_tensor::{CrossEntropy, Label};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a run computes for each example, and differentiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// L(z, θ): −log p of the data's labels, or ½‖y − ŷ‖².
    TrainLoss,
    /// −log p of labels drawn from the model (a unit normal around ŷ for regression): pseudo-gradients. A draw depends
    /// on the seed, the example and the position alone, never on batch, shard or thread.
    SampledLoss {
        /// Seed of the stream `labels`.
        seed: u64,
    },
    /// f(θ), larger = more of the behaviour.
    Measurement(Measurement),
}

/// The scalar that is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Measurement {
    /// log p of the completion or label; −½‖y − ŷ‖² for regression.
    #[default]
    LogLikelihood,
    /// log p − log(1 − p), summed over predicted positions.
    Margin,
}

impl Measurement {
    /// The word of the command line and of manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::LogLikelihood => "log-likelihood",
            Self::Margin => "margin",
        }
    }
}

impl Objective {
    /// Which scalar of softmax cross entropy this is.
    pub(crate) fn cross_entropy(self) -> CrossEntropy {
        match self {
            Self::TrainLoss | Self::SampledLoss { .. } => CrossEntropy::Loss,
            Self::Measurement(Measurement::LogLikelihood) => CrossEntropy::LogLikelihood,
            Self::Measurement(Measurement::Margin) => CrossEntropy::Margin,
        }
    }

    /// The label of position `position` of an example: the data's, or a number to draw one by.
    pub(crate) fn label(self, class: u32, example: ExampleIndex, position: u32) -> Label {
        match self {
            Self::SampledLoss { seed } => Label::Draw(label_stream(seed, example, position).random::<f64>()),
            _ => Label::Class(class),
        }
    }
}

/// The stream `labels` of one seed at one position of one example.
pub(crate) fn label_stream(seed: u64, example: ExampleIndex, position: u32) -> impl Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..14].copy_from_slice(b"labels");
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(example.0);
    rng.set_word_pos(u128::from(position) * 16);
    rng
}
