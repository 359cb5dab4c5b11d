//! Eigendecomposition of the covariances, in f64.

use etymon_model::LayerSpec;
use faer::{Mat, MatRef, Side};

use crate::covariance::LayerCovariance;
use crate::{Covariances, CurvatureError, Result};

/// Q and Λ of one covariance E[x xᵀ] = Q Λ Qᵀ.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigenbasis {
    /// `[d]` eigenvalues, ascending.
    pub values: Vec<f64>,
    /// `[d, d]` eigenvectors as columns, row major.
    pub vectors: Vec<f32>,
}

/// The two eigenbases of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigenbases {
    /// Of A; `None` when the layer shares its input with an earlier one.
    pub a: Option<Eigenbasis>,
    /// Of S.
    pub s: Eigenbasis,
}

/// Eigenbases of every layer; `progress` is called after each layer, and the memory of its covariances is free then.
///
/// # Errors
/// Layers without rows, values that are not finite, and a decomposition that does not converge.
pub fn eigendecompose(
    covariances: Covariances,
    specs: &[LayerSpec],
    mut progress: impl FnMut(&LayerSpec),
) -> Result<Vec<Eigenbases>> {
    let mut out = Vec::with_capacity(specs.len());
    for (spec, layer) in specs.iter().zip(covariances.layers) {
        out.push(decompose_layer(spec, &layer)?);
        progress(spec);
    }
    Ok(out)
}

fn decompose_layer(spec: &LayerSpec, layer: &LayerCovariance) -> Result<Eigenbases> {
    if layer.rows == 0 {
        return Err(CurvatureError::NoRows { layer: spec.name.clone() });
    }
    let scale = 1.0 / layer.rows as f64;
    let a = (!layer.a.is_empty()).then(|| decompose(&layer.a, spec.d_in, scale, &spec.name, "A")).transpose()?;
    Ok(Eigenbases { a, s: decompose(&layer.s, spec.d_out, scale, &spec.name, "S")? })
}

fn decompose(sums: &[f64], d: usize, scale: f64, layer: &str, factor: &'static str) -> Result<Eigenbasis> {
    if !(0..d).all(|i| sums[i * d..=i * d + i].iter().all(|x| x.is_finite())) {
        return Err(CurvatureError::NotFinite { layer: layer.to_owned(), factor });
    }
    let sums = MatRef::from_row_major_slice(sums, d, d);
    let covariance = Mat::from_fn(d, d, |i, j| scale * sums[(i.max(j), i.min(j))]);
    let eigen = covariance
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| CurvatureError::Eigen { layer: layer.to_owned(), factor })?;
    let (u, values) = (eigen.U(), eigen.S().column_vector());
    let mut vectors = Vec::with_capacity(d * d);
    (0..d).for_each(|i| vectors.extend((0..d).map(|j| u[(i, j)] as f32)));
    Ok(Eigenbasis { values: (0..d).map(|i| values[i]).collect(), vectors })
}
