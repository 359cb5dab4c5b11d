//! The attribution methods: names, needs, and where they come from.

use clap::ValueEnum;

/// Attribution methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum ScoreMethod {
    /// Influence with EK-FAC curvature
    Ekfac,
    /// Influence with K-FAC curvature
    Kfac,
    /// Conjugate gradients that queries share, preconditioned by EK-FAC
    EkfacCg,
    /// A stochastic Neumann series that EK-FAC preconditions
    Astra,
    /// Conjugate gradients that queries share, by Gauss-Newton products
    Cg,
    /// A stochastic Neumann series
    Lissa,
    /// The leading eigenpairs of a Krylov subspace
    Arnoldi,
    /// The mean of the examples' own inverses, layer by layer
    #[value(name = "datainf")]
    DataInf,
    /// The diagonal of the curvature alone
    Diagonal,
    /// The exact Gauss-Newton matrix of a small model
    Dense,
    /// Influence over the norm of the example's preconditioned gradient
    Relatif,
    /// Influence of each example on itself
    SelfInfluence,
    /// Dot product of gradients
    GradDot,
    /// Cosine of gradients
    GradCos,
    /// Dot products of gradients, summed over checkpoints
    #[value(name = "tracin-cp")]
    TracinCp,
    /// Changes of the query's loss in the steps that saw the example
    TracinIdeal,
    /// Projected gradients of the margin, regressed
    Trak,
    /// Dot product of last hidden states
    FeatureDot,
    /// Cosine of last hidden states
    FeatureCos,
    /// Minus the squared distance of last hidden states
    #[value(name = "feature-l2")]
    FeatureL2,
    /// Importance weights by hashed n-grams
    Ngram,
    /// Words in common, the rare ones first
    Bm25,
    /// Chance: what every method must beat
    Random,
}

/// What computes the scores of a method. Methods of one way share their passes over the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Products with gradients of the final model.
    Gradients,
    /// Products with gradients of checkpoints.
    Checkpoints,
    /// Projected gradients.
    Projections,
    /// The training log.
    Log,
    /// Hidden states.
    Features,
    /// Texts alone, or nothing.
    Texts,
}

/// The norm of an example's gradient that a method divides by, or is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Euclidean.
    Identity,
    /// (G + λI)⁻¹ by K-FAC.
    Kfac,
    /// (G + λI)⁻¹ by EK-FAC.
    Ekfac,
}

impl ScoreMethod {
    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ekfac => "ekfac",
            Self::Kfac => "kfac",
            Self::EkfacCg => "ekfac-cg",
            Self::Astra => "astra",
            Self::Cg => "cg",
            Self::Lissa => "lissa",
            Self::Arnoldi => "arnoldi",
            Self::DataInf => "datainf",
            Self::Diagonal => "diagonal",
            Self::Dense => "dense",
            Self::Relatif => "relatif",
            Self::SelfInfluence => "self-influence",
            Self::GradDot => "grad-dot",
            Self::GradCos => "grad-cos",
            Self::TracinCp => "tracin-cp",
            Self::TracinIdeal => "tracin-ideal",
            Self::Trak => "trak",
            Self::FeatureDot => "feature-dot",
            Self::FeatureCos => "feature-cos",
            Self::FeatureL2 => "feature-l2",
            Self::Ngram => "ngram",
            Self::Bm25 => "bm25",
            Self::Random => "random",
        }
    }

    /// What computes it.
    pub fn way(self) -> Way {
        match self {
            Self::TracinCp => Way::Checkpoints,
            Self::TracinIdeal => Way::Log,
            Self::Trak => Way::Projections,
            Self::FeatureDot | Self::FeatureCos | Self::FeatureL2 => Way::Features,
            Self::Ngram | Self::Bm25 | Self::Random => Way::Texts,
            _ => Way::Gradients,
        }
    }

    /// The method whose prepared queries it multiplies with gradients.
    pub fn base(self) -> Self {
        match self {
            Self::Relatif | Self::SelfInfluence => Self::Ekfac,
            Self::GradCos | Self::TracinCp => Self::GradDot,
            other => other,
        }
    }

    /// The norm that its scores are divided by.
    pub fn divided_by(self) -> Option<Metric> {
        match self {
            Self::Relatif => Some(Metric::Ekfac),
            Self::GradCos => Some(Metric::Identity),
            _ => None,
        }
    }

    /// The norm that `--self-influence` takes with it.
    pub fn metric(self) -> Option<Metric> {
        match self {
            Self::Ekfac | Self::SelfInfluence => Some(Metric::Ekfac),
            Self::Kfac => Some(Metric::Kfac),
            Self::GradDot => Some(Metric::Identity),
            _ => None,
        }
    }

    /// Whether it needs the factors of a fit.
    pub fn needs_factors(self) -> bool {
        matches!(self.base(), Self::Ekfac | Self::Kfac) || self.base().preconditions()
    }

    /// Whether EK-FAC preconditions its products.
    pub fn preconditions(self) -> bool {
        matches!(self, Self::EkfacCg | Self::Astra)
    }

    /// Whether factors serve it at all: inverses that need none take λ from those of EK-FAC.
    pub fn takes_factors(self) -> bool {
        self.way() == Way::Gradients && self.base() != Self::GradDot
    }

    /// Whether each query is solved by products over train examples.
    pub fn solves(self) -> bool {
        use ScoreMethod::{Arnoldi, Astra, Cg, DataInf, Dense, Diagonal, EkfacCg, Lissa};
        matches!(self, EkfacCg | Astra | Cg | Lissa | Arnoldi | DataInf | Diagonal | Dense)
    }

    /// Whether it is an inverse of the curvature that is multiplied with whole gradients, as groups need it.
    pub fn inverts(self) -> bool {
        matches!(self, Self::Ekfac | Self::Kfac) || self.solves()
    }

    /// Products (of arnoldi in all; else per query) or, of the series, batches that it takes unless told.
    pub fn default_steps(self) -> usize {
        match self {
            Self::EkfacCg | Self::Cg => 50,
            Self::Arnoldi => 100,
            Self::Astra => 300,
            Self::Lissa => 1000,
            _ => 1,
        }
    }

    /// What a person must have to use it, beside the model, its data and queries.
    pub fn needs(self) -> &'static str {
        match self {
            Self::TracinCp => "--checkpoints",
            Self::TracinIdeal => "--log, with the queries watched",
            Self::Trak => "nothing; better with several --checkpoints",
            Self::Ngram | Self::Bm25 => "tokens",
            Self::SelfInfluence => "--factors; no queries",
            Self::Dense => "at most 20 000 tapped weights; λ from --factors; --curvature hessian",
            Self::Cg => "λ from --factors, if given; --curvature hessian",
            Self::Lissa | Self::Arnoldi => "λ from --factors, if given",
            other if other.needs_factors() => "--factors",
            _ => "nothing",
        }
    }

    /// Where it comes from.
    pub fn paper(self) -> &'static str {
        match self {
            Self::Ekfac => "Grosse et al. 2023, 2308.03296; George et al. 2018, 1806.03884",
            Self::Kfac => "Martens & Grosse 2015, 1503.05671",
            Self::EkfacCg => "Grosse et al. 2023, 2308.03296, with block CG (O'Leary 1980)",
            Self::Astra => "Wang et al. 2025, 2507.14740",
            Self::Cg => "Koh & Liang 2017, 1703.04730",
            Self::Lissa => "Agarwal et al. 2017, 1602.03943; Koh & Liang 2017, 1703.04730",
            Self::Arnoldi => "Schioppa et al. 2022, 2112.03052",
            Self::DataInf => "Kwon et al. 2024, 2310.00902",
            Self::Diagonal => "LeCun et al. 1990, Optimal Brain Damage",
            Self::Dense => "Koh & Liang 2017, 1703.04730",
            Self::Relatif => "Barshan et al. 2020, 2003.11630",
            Self::SelfInfluence => "Feldman & Zhang 2020, 2008.03703; Koh & Liang 2017, 1703.04730",
            Self::GradDot => "Charpiat et al. 2019, 2102.05262",
            Self::GradCos | Self::FeatureDot | Self::FeatureCos | Self::FeatureL2 => "Hanawa et al. 2021, 2006.04528",
            Self::TracinCp | Self::TracinIdeal => "Pruthi et al. 2020, 2002.08484",
            Self::Trak => "Park et al. 2023, 2303.14186",
            Self::Ngram => "Xie et al. 2023, 2302.03169",
            Self::Bm25 => "Robertson & Zaragoza 2009",
            Self::Random => "",
        }
    }
}
