//! The forms of simulators.

use serde::{Deserialize, Serialize};

/// The form of a simulator: L_t = α(c_t) L_{t−1} + β(c_t), with α(c) = 1 + Σ_{i∈c} A_i and β(c) = Σ_{i∈c} B_i.
///
/// A_i is the paper's A_i less 1/|c|: the paper's ridge would shrink α to 0, and with it every loss; ours shrinks it to 1,
/// where a step changes nothing. So the target of the regression is L_t − L_{t−1}.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A and B.
    Linear,
    /// A alone, B = 0.
    Multiplicative,
    /// B alone, A = 0: the form of TracIn-Ideal.
    Additive,
    /// A and B, with momentum: a part γ of each change of the loss goes on in the next step, as an optimizer with momentum
    /// goes on: L_t − L_{t−1} = γ (L_{t−1} − L_{t−2}) + Σ A_i L_{t−1} + Σ B_i. And A_i and B_i are shrunk towards what all
    /// examples share, not to 0, in units of the mean loss of each query, so that one λ suits all queries. Not of the paper; γ
    /// is chosen by validation. For an optimizer whose step is an exponential mean of past gradients, and losses linear in
    /// the parameters, the form is exact.
    Momentum,
    /// TracIn-CP (Pruthi et al. 2020) as a simulator, as Guu et al. compare with: L_t = L_{t−1} − κ η_t Σ_{i∈c} S_i, with the
    /// sums S_i of η ∇L_i · ∇L over checkpoints, which are positive for proponents. κ alone is fitted, one for all queries.
    TracinCp,
}

impl Kind {
    /// Those that are fitted on recorded runs alone.
    pub const FITTED: [Self; 4] = [Self::Linear, Self::Multiplicative, Self::Additive, Self::Momentum];

    /// As the command line and files call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Multiplicative => "multiplicative",
            Self::Additive => "additive",
            Self::Momentum => "momentum",
            Self::TracinCp => "tracin-cp",
        }
    }

    /// Whether the last change of the loss goes on, and examples share effects.
    pub(crate) fn has_momentum(self) -> bool {
        self == Self::Momentum
    }

    /// Whether effects are in proportion to the learning rate of the step.
    pub(crate) fn by_rate(self) -> bool {
        self == Self::TracinCp
    }

    /// Whether A is free.
    pub(crate) fn has_a(self) -> bool {
        !matches!(self, Self::Additive | Self::TracinCp)
    }

    /// Whether B is free.
    pub(crate) fn has_b(self) -> bool {
        self != Self::Multiplicative
    }
}

/// What to do about train examples that no fitted run contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unseen {
    /// Refuse to simulate a curriculum with one.
    #[default]
    Refuse,
    /// Give them the mean of A and of B over the examples that were seen.
    Mean,
}
