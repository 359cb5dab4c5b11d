//! Products with the damped inverse (G + λI)⁻¹.

use etymon_model::LayerId;
use etymon_tensor::{Backend, Shape};

use crate::factors::LayerFactors;
use crate::{Damping, Factors, Result, Spectrum};

/// A curvature with its damping; layers are brought to a backend when asked for.
#[derive(Clone, Copy, Debug)]
pub enum Preconditioner<'a> {
    /// No curvature: (G + λI)⁻¹ is replaced by I, which makes influence the gradient dot product.
    Identity,
    /// K-FAC or EK-FAC.
    Kronecker {
        /// The factors.
        factors: &'a Factors,
        /// Which eigenvalues.
        spectrum: Spectrum,
        /// λ.
        damping: Damping,
    },
}

impl Preconditioner<'_> {
    /// The damped inverse of one layer, `None` for the identity.
    ///
    /// # Errors
    /// Factors without the spectrum asked for, or a broken file.
    pub fn layer<B: Backend>(&self, backend: &B, layer: LayerId) -> Result<Option<LayerPreconditioner<B>>> {
        let Self::Kronecker { factors, spectrum, damping } = self else { return Ok(None) };
        let spec = &factors.specs()[layer.0];
        let values = factors.spectrum(layer, *spectrum)?;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len().max(1) as f64;
        Ok(Some(LayerPreconditioner {
            factors: factors.layer(backend, layer)?,
            spectrum: backend.upload(Shape::new(spec.d_out, spec.d_in), &values)?,
            lambda: damping.lambda(mean),
        }))
    }
}

/// The damped inverse of one layer on a backend.
#[derive(Clone, Debug)]
pub struct LayerPreconditioner<B: Backend> {
    /// Q_A and Q_S.
    pub factors: LayerFactors<B>,
    /// `[d_out, d_in]` Λ.
    pub spectrum: B::Tensor,
    /// λ of this layer.
    pub lambda: f64,
}

impl<B: Backend> LayerPreconditioner<B> {
    /// M ⊘ (Λ + λ) of M `[d_out, d_in]` in the eigenbasis.
    ///
    /// # Errors
    /// An M of another shape.
    pub fn divide(&self, backend: &B, m: &B::Tensor) -> Result<B::Tensor> {
        Ok(backend.divide_shifted(m, &self.spectrum, self.lambda)?)
    }

    /// (G + λI)⁻¹ V = Q_S [(Q_Sᵀ V Q_A) ⊘ (Λ + λ)] Q_Aᵀ of V `[d_out, d_in]`.
    ///
    /// # Errors
    /// A V of another shape.
    pub fn apply(&self, backend: &B, v: &B::Tensor) -> Result<B::Tensor> {
        let divided = self.divide(backend, &self.factors.rotate(backend, v)?)?;
        self.factors.rotate_back(backend, &divided)
    }

    /// 1 ⊘ (Λ + λ) `[d_out, d_in]`.
    ///
    /// # Errors
    /// What the backend meets.
    pub fn inverse_spectrum(&self, backend: &B) -> Result<B::Tensor> {
        let shape = backend.shape(&self.spectrum);
        self.divide(backend, &backend.upload(shape, &vec![1.0f32; shape.len()])?)
    }
}
