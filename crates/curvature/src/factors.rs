//! Fitted factors: eigenbases and eigenvalue correction of every layer, in memory or in a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etymon_model::{LayerId, LayerSpec};
use etymon_store::{Dtype, TensorFile, TensorWriter, join_tensors};
use etymon_tensor::{Backend, Folds, Shape, Transpose};

use crate::eigen::Eigenbases;
use crate::{CurvatureError, Result};

/// File of the eigenbases in a folder of factors.
const EIGEN_FILE: &str = "eigen.safetensors";
/// File of the eigenvalue corrections.
const LAMBDA_FILE: &str = "lambda.safetensors";

/// Number of examples, in the metadata of both.
const EXAMPLES: &str = "examples";

/// Which eigenvalues the curvature has in its eigenbasis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spectrum {
    /// K-FAC: Λ_ij = λ_S,i λ_A,j.
    Kronecker,
    /// EK-FAC: the fitted second moments.
    Corrected,
}

#[derive(Debug)]
enum Source {
    Memory { bases: Vec<Eigenbases>, lambda: Option<Vec<Vec<f32>>> },
    Folder { eigen: TensorFile, lambda: Option<TensorFile> },
}

/// Kronecker factors of every tapped layer: fitted, undamped, never changed.
#[derive(Debug)]
pub struct Factors {
    specs: Vec<LayerSpec>,
    source: Source,
}

impl Factors {
    /// Factors from fitted parts. `lambda` is `[d_out, d_in]` per layer, `None` for K-FAC.
    pub fn new(specs: Vec<LayerSpec>, bases: Vec<Eigenbases>, lambda: Option<Vec<Vec<f32>>>) -> Self {
        Self { specs, source: Source::Memory { bases, lambda } }
    }

    /// Opens a folder; layers are read when asked for.
    ///
    /// # Errors
    /// Missing or broken files, and factors of other layers than `specs`.
    pub fn open(folder: &Path, specs: &[LayerSpec]) -> Result<Self> {
        let eigen = TensorFile::open(&folder.join(EIGEN_FILE))?;
        let path = folder.join(LAMBDA_FILE);
        let lambda = if path.exists() { Some(TensorFile::open(&path)?) } else { None };
        for spec in specs {
            check(&eigen, spec, "eigenvectors_S", &[spec.d_out, spec.d_out])?;
            check(&eigen, &specs[spec.input.0], "eigenvectors_A", &[spec.d_in, spec.d_in])?;
            if let Some(lambda) = &lambda {
                check(lambda, spec, "lambda", &[spec.d_out, spec.d_in])?;
            }
        }
        Ok(Self { specs: specs.to_vec(), source: Source::Folder { eigen, lambda } })
    }

    /// Whether a folder holds eigenbases and, where asked for, corrections.
    pub(crate) fn are_in(folder: &Path, correction: bool) -> bool {
        folder.join(EIGEN_FILE).exists() && (!correction || folder.join(LAMBDA_FILE).exists())
    }

    /// Writes the factors in `parts`, folders of consecutive layers, to one folder.
    pub(crate) fn join(folder: &Path, parts: &[PathBuf]) -> Result<()> {
        for name in [EIGEN_FILE, LAMBDA_FILE] {
            let files: Vec<PathBuf> = parts.iter().map(|part| part.join(name)).filter(|file| file.exists()).collect();
            if !files.is_empty() {
                join_tensors(&files, &folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Examples that the eigenbases in a folder were fitted on, as [`save_eigen`](Self::save_eigen) noted.
    pub(crate) fn examples(folder: &Path) -> Result<u64> {
        let file = TensorFile::open(&folder.join(EIGEN_FILE))?;
        Ok(file.metadata().get(EXAMPLES).and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Writes the eigenbases of `specs`, fitted on `examples` examples, to a folder.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn save_eigen(folder: &Path, specs: &[LayerSpec], bases: &[Eigenbases], examples: u64) -> Result<()> {
        let mut tensors = Vec::new();
        for (spec, basis) in specs.iter().zip(bases) {
            for (factor, d, present) in [("A", spec.d_in, basis.a.is_some()), ("S", spec.d_out, true)] {
                if present {
                    tensors.push((format!("{}.eigenvalues_{factor}", spec.name), Dtype::F64, vec![d]));
                    tensors.push((format!("{}.eigenvectors_{factor}", spec.name), Dtype::F32, vec![d, d]));
                }
            }
        }
        let mut file = create(&folder.join(EIGEN_FILE), &tensors, examples)?;
        for (spec, basis) in specs.iter().zip(bases) {
            for (factor, basis) in [("A", basis.a.as_ref()), ("S", Some(&basis.s))] {
                if let Some(basis) = basis {
                    file.write_f64(&format!("{}.eigenvalues_{factor}", spec.name), &basis.values)?;
                    file.write_f32(&format!("{}.eigenvectors_{factor}", spec.name), &basis.vectors)?;
                }
            }
        }
        Ok(file.finish()?)
    }

    /// Writes the corrections `[d_out, d_in]` of `specs`, means over `examples` examples, to a folder.
    ///
    /// # Errors
    /// Values that are not finite, and what the disk refuses.
    pub fn save_lambda(folder: &Path, specs: &[LayerSpec], lambda: &[Vec<f32>], examples: u64) -> Result<()> {
        if let Some((spec, _)) = specs.iter().zip(lambda).find(|(_, l)| !l.iter().all(|x| x.is_finite())) {
            return Err(CurvatureError::NotFinite { layer: spec.name.clone(), factor: "Λ" });
        }
        let name = |spec: &LayerSpec| format!("{}.lambda", spec.name);
        let tensors: Vec<_> = specs.iter().map(|s| (name(s), Dtype::F32, vec![s.d_out, s.d_in])).collect();
        let mut file = create(&folder.join(LAMBDA_FILE), &tensors, examples)?;
        for (spec, values) in specs.iter().zip(lambda) {
            file.write_f32(&name(spec), values)?;
        }
        Ok(file.finish()?)
    }

    /// The layers that the factors are of.
    pub fn specs(&self) -> &[LayerSpec] {
        &self.specs
    }

    /// Whether Λ was fitted.
    pub fn has_correction(&self) -> bool {
        match &self.source {
            Source::Memory { lambda, .. } => lambda.is_some(),
            Source::Folder { lambda, .. } => lambda.is_some(),
        }
    }

    /// Eigenvalues (A `[d_in]`, S `[d_out]`) of a layer, ascending.
    ///
    /// # Errors
    /// A broken file.
    pub fn eigenvalues(&self, layer: LayerId) -> Result<(Vec<f64>, Vec<f64>)> {
        let (spec, owner) = (&self.specs[layer.0], self.specs[layer.0].input);
        match &self.source {
            Source::Memory { bases, .. } => {
                let a = bases[owner.0].a.as_ref().map(|a| a.values.clone()).unwrap_or_default();
                Ok((a, bases[layer.0].s.values.clone()))
            }
            Source::Folder { eigen, .. } => Ok((
                eigen.read_f64(&format!("{}.eigenvalues_A", self.specs[owner.0].name))?,
                eigen.read_f64(&format!("{}.eigenvalues_S", spec.name))?,
            )),
        }
    }

    /// Λ `[d_out, d_in]` of a layer, row major, in f32.
    ///
    /// # Errors
    /// No correction was fitted, or a broken file.
    pub fn spectrum(&self, layer: LayerId, kind: Spectrum) -> Result<Vec<f32>> {
        if kind == Spectrum::Kronecker {
            let (a, s) = self.eigenvalues(layer)?;
            // Rounding leaves eigenvalues of a positive semidefinite matrix slightly negative.
            return Ok(s.iter().flat_map(|s| a.iter().map(move |a| (s.max(0.0) * a.max(0.0)) as f32)).collect());
        }
        match &self.source {
            Source::Memory { lambda: Some(lambda), .. } => Ok(lambda[layer.0].clone()),
            Source::Folder { lambda: Some(lambda), .. } => {
                Ok(lambda.read_f32(&format!("{}.lambda", self.specs[layer.0].name))?)
            }
            _ => Err(CurvatureError::NoCorrection),
        }
    }

    /// The eigenbases of every layer on a backend; layers with the same input share Q_A.
    ///
    /// # Errors
    /// A broken file.
    pub fn layers<B: Backend>(&self, backend: &B) -> Result<Vec<LayerFactors<B>>> {
        let mut out: Vec<LayerFactors<B>> = Vec::with_capacity(self.specs.len());
        for (i, spec) in self.specs.iter().enumerate() {
            let q_a = match out.get(spec.input.0) {
                Some(first) => Arc::clone(&first.q_a),
                None => Arc::new(self.q_a(backend, LayerId(i))?),
            };
            out.push(LayerFactors { q_a, q_s: self.q_s(backend, LayerId(i))? });
        }
        Ok(out)
    }

    /// The eigenbases of one layer on a backend.
    ///
    /// # Errors
    /// A broken file.
    pub fn layer<B: Backend>(&self, backend: &B, layer: LayerId) -> Result<LayerFactors<B>> {
        Ok(LayerFactors { q_a: Arc::new(self.q_a(backend, layer)?), q_s: self.q_s(backend, layer)? })
    }

    fn q_a<B: Backend>(&self, backend: &B, layer: LayerId) -> Result<B::Tensor> {
        let owner = self.specs[layer.0].input;
        let shape = Shape::new(self.specs[layer.0].d_in, self.specs[layer.0].d_in);
        Ok(match &self.source {
            Source::Memory { bases, .. } => {
                let vectors = bases[owner.0].a.as_ref().map(|a| a.vectors.as_slice()).unwrap_or_default();
                backend.upload(shape, vectors)?
            }
            Source::Folder { eigen, .. } => {
                let name = format!("{}.eigenvectors_A", self.specs[owner.0].name);
                backend.upload(shape, &eigen.read_f32(&name)?)?
            }
        })
    }

    fn q_s<B: Backend>(&self, backend: &B, layer: LayerId) -> Result<B::Tensor> {
        let spec = &self.specs[layer.0];
        let shape = Shape::new(spec.d_out, spec.d_out);
        Ok(match &self.source {
            Source::Memory { bases, .. } => backend.upload(shape, &bases[layer.0].s.vectors)?,
            Source::Folder { eigen, .. } => {
                backend.upload(shape, &eigen.read_f32(&format!("{}.eigenvectors_S", spec.name))?)?
            }
        })
    }
}

fn create(path: &Path, tensors: &[(String, Dtype, Vec<usize>)], examples: u64) -> Result<TensorWriter> {
    let tensors: Vec<(&str, Dtype, &[usize])> =
        tensors.iter().map(|(n, d, s)| (n.as_str(), *d, s.as_slice())).collect();
    let metadata = BTreeMap::from([(EXAMPLES.to_owned(), examples.to_string())]);
    Ok(TensorWriter::create(path, &tensors, &metadata)?)
}

fn check(file: &TensorFile, spec: &LayerSpec, what: &str, expected: &[usize]) -> Result<()> {
    let name = format!("{}.{what}", spec.name);
    if !file.contains(&name) {
        return Err(CurvatureError::Layers { problem: format!("they hold no `{name}`") });
    }
    let shape = file.shape(&name)?;
    if shape == expected {
        return Ok(());
    }
    Err(CurvatureError::Layers { problem: format!("`{name}` has shape {shape:?}, the model implies {expected:?}") })
}

/// The eigenbases of one layer on a backend.
#[derive(Clone, Debug)]
pub struct LayerFactors<B: Backend> {
    /// `[d_in, d_in]` eigenvectors of A as columns.
    pub q_a: Arc<B::Tensor>,
    /// `[d_out, d_out]` eigenvectors of S as columns.
    pub q_s: B::Tensor,
}

impl<B: Backend> LayerFactors<B> {
    /// Q_Sᵀ V Q_A of V `[d_out, d_in]`.
    ///
    /// # Errors
    /// A V of another shape.
    pub fn rotate(&self, backend: &B, v: &B::Tensor) -> Result<B::Tensor> {
        let half = backend.matmul(&self.q_s, Transpose::Yes, v, Transpose::No)?;
        Ok(backend.matmul(&half, Transpose::No, &self.q_a, Transpose::No)?)
    }

    /// Q_S M Q_Aᵀ of M `[d_out, d_in]`: the inverse of [`rotate`](Self::rotate).
    ///
    /// # Errors
    /// An M of another shape.
    pub fn rotate_back(&self, backend: &B, m: &B::Tensor) -> Result<B::Tensor> {
        let half = backend.matmul(&self.q_s, Transpose::No, m, Transpose::No)?;
        Ok(backend.matmul(&half, Transpose::No, &self.q_a, Transpose::Yes)?)
    }

    /// Rows of ā `[T, d_in]` and Ds `[T, d_out]` in the eigenbases: (ā Q_A, Ds Q_S).
    ///
    /// # Errors
    /// Rows of another width.
    pub fn rotate_rows(&self, backend: &B, input: &B::Tensor, dout: &B::Tensor) -> Result<(B::Tensor, B::Tensor)>
    where
        B: Folds,
    {
        Ok((
            backend.matmul(input, Transpose::No, &self.q_a, Transpose::No)?,
            backend.matmul(dout, Transpose::No, &self.q_s, Transpose::No)?,
        ))
    }
}
