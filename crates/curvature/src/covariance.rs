//! First pass: A = E[ā āᵀ] and S = E[Ds Dsᵀ] over the rows that carry a loss term.
//!
//! A convolution is a linear layer over patches, and its rows are all (example, position): A and S are means over both. (Grosse
//! & Martens 2016, KFC, sum A over the positions of an example: their A ⊗ S is larger by the number of positions. Λ is of whole
//! examples, and has no such choice.)
//! kronfluence 1.0.1 counts rows as here.

use std::collections::BTreeMap;

use etymon_model::{LayerIo, LayerSpec, LossRows, ModelError, Tap};
use etymon_tensor::{Folds, Shape};

use crate::{CurvatureError, Result};

/// Sums of one layer over some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCovariance {
    /// `[d_in, d_in]` Σ ā āᵀ, row major, on and below the diagonal; empty when the layer shares its input with an earlier
    /// one.
    pub a: Vec<f64>,
    /// `[d_out, d_out]` Σ Ds Dsᵀ, row major, on and below the diagonal.
    pub s: Vec<f64>,
    /// Rows summed.
    pub rows: u64,
}

/// Sums over a part of the train set; parts merge by addition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Covariances {
    /// One per tapped layer.
    pub layers: Vec<LayerCovariance>,
    /// Examples summed.
    pub examples: u64,
}

impl Covariances {
    /// Sums over nothing. What lies above the diagonals is never touched, so that its memory need not exist.
    pub fn empty(specs: &[LayerSpec]) -> Self {
        let layer = |(i, spec): (usize, &LayerSpec)| LayerCovariance {
            a: vec![0.0; if spec.input.0 == i { spec.d_in * spec.d_in } else { 0 }],
            s: vec![0.0; spec.d_out * spec.d_out],
            rows: 0,
        };
        Self { layers: specs.iter().enumerate().map(layer).collect(), examples: 0 }
    }

    /// Adds the sums of another part.
    ///
    /// # Errors
    /// Parts of different layers.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let fits = |(x, y): (&LayerCovariance, &LayerCovariance)| x.a.len() == y.a.len() && x.s.len() == y.s.len();
        if self.layers.len() != other.layers.len() || !self.layers.iter().zip(&other.layers).all(fits) {
            return Err(CurvatureError::Merge { ours: self.layers.len(), theirs: other.layers.len() });
        }
        for (x, y) in self.layers.iter_mut().zip(&other.layers) {
            add(&mut x.a, &y.a);
            add(&mut x.s, &y.s);
            x.rows += y.rows;
        }
        self.examples += other.examples;
        Ok(())
    }
}

pub(crate) fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Adds the covariances of batches to sums, on the backend.
pub struct CovarianceTap<'a, B: Folds> {
    backend: &'a B,
    /// A of layers that own their input, and S of every layer.
    a: BTreeMap<usize, B::Sums>,
    s: Vec<B::Sums>,
    rows: Vec<u64>,
    examples: u64,
}

impl<'a, B: Folds> CovarianceTap<'a, B> {
    /// Adds to `start`.
    ///
    /// # Errors
    /// Sums of other layers than `specs`.
    pub fn new(backend: &'a B, specs: &[LayerSpec], start: Covariances) -> Result<Self> {
        let square = |d: usize, values| backend.sums(Shape::new(d, d), values);
        let mut tap = Self { backend, a: BTreeMap::new(), s: Vec::new(), rows: Vec::new(), examples: start.examples };
        for (i, (spec, layer)) in specs.iter().zip(start.layers).enumerate() {
            if spec.input.0 == i {
                tap.a.insert(i, square(spec.d_in, layer.a)?);
            }
            tap.s.push(square(spec.d_out, layer.s)?);
            tap.rows.push(layer.rows);
        }
        Ok(tap)
    }

    /// The sums.
    pub fn finish(mut self) -> Covariances {
        let backend = self.backend;
        let layer = |(i, (s, rows))| LayerCovariance {
            a: self.a.remove(&i).map(|a| backend.take_values(a)).unwrap_or_default(),
            s: backend.take_values(s),
            rows,
        };
        Covariances {
            layers: self.s.into_iter().zip(self.rows).enumerate().map(layer).collect(),
            examples: self.examples,
        }
    }
}

impl<B: Folds> Tap<B> for CovarianceTap<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let i = io.layer.0;
        let (gathered_dout, gathered_input);
        let (mut dout, mut input) = (io.dout, io.input);
        if let LossRows::Some(rows) = io.loss_rows {
            gathered_dout = self.backend.gather_rows(dout, rows)?;
            dout = &gathered_dout;
            if self.a.contains_key(&i) {
                gathered_input = self.backend.gather_rows(input, rows)?;
                input = &gathered_input;
            }
        }
        self.backend.syrk_accumulate(dout, &mut self.s[i])?;
        if let Some(a) = self.a.get_mut(&i) {
            self.backend.syrk_accumulate(input, a)?;
        }
        self.rows[i] += self.backend.shape(dout).rows as u64;
        Ok(())
    }

    fn end_batch(&mut self, examples: &[etymon_data::ExampleIndex]) -> std::result::Result<(), ModelError> {
        self.examples += examples.len() as u64;
        Ok(())
    }
}
