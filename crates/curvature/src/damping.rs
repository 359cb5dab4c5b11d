//! Damping λ.

use std::fmt;
use std::str::FromStr;

use crate::{CurvatureError, Result};

/// λ of (G + λI)⁻¹, chosen per layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Damping {
    /// λ = x.
    Absolute(f64),
    /// λ = x · mean of the layer's eigenvalues Λ (Grosse et al. 2023 use 0.1).
    MeanEigenvalue(f64),
}

impl Damping {
    /// λ of a layer whose eigenvalues have this mean. Never below the smallest normal f32: a layer without any gradient
    /// gets a share of 0 and not NaN.
    pub fn lambda(self, mean_eigenvalue: f64) -> f64 {
        let lambda = match self {
            Self::Absolute(x) => x,
            Self::MeanEigenvalue(x) => x * mean_eigenvalue,
        };
        lambda.max(f64::from(f32::MIN_POSITIVE))
    }
}

impl Default for Damping {
    fn default() -> Self {
        Self::MeanEigenvalue(0.1)
    }
}

impl FromStr for Damping {
    type Err = CurvatureError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || CurvatureError::Damping { given: text.to_owned() };
        let (kind, number) = text.split_once(':').ok_or_else(bad)?;
        let x: f64 = number.parse().map_err(|_| bad())?;
        if !(x.is_finite() && x > 0.0) {
            return Err(bad());
        }
        match kind {
            "rel" => Ok(Self::MeanEigenvalue(x)),
            "abs" => Ok(Self::Absolute(x)),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Damping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(x) => write!(f, "abs:{x:e}"),
            Self::MeanEigenvalue(x) => write!(f, "rel:{x}"),
        }
    }
}
