//! Second pass: Λ = E[(Q_Sᵀ D W_n Q_A)²] over whole examples (George et al. 2018).

use etymon_model::{LayerIo, LayerSpec, ModelError, Tap};
use etymon_tensor::{Accumulate, Folds, Shape, Transpose};

use crate::covariance::add;
use crate::factors::LayerFactors;
use crate::{CurvatureError, Result, RotationOrder};

/// Sums of squared rotated gradients over a part of the train set; parts merge by addition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Corrections {
    /// `[d_out, d_in]` per layer, row major.
    pub layers: Vec<Vec<f64>>,
    /// Examples summed.
    pub examples: u64,
}

impl Corrections {
    /// Sums over nothing.
    pub fn empty(specs: &[LayerSpec]) -> Self {
        Self { layers: specs.iter().map(|s| vec![0.0; s.d_out * s.d_in]).collect(), examples: 0 }
    }

    /// Adds the sums of another part.
    ///
    /// # Errors
    /// Parts of different layers.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let fits = |(x, y): (&Vec<f64>, &Vec<f64>)| x.len() == y.len();
        if self.layers.len() != other.layers.len() || !self.layers.iter().zip(&other.layers).all(fits) {
            return Err(CurvatureError::Merge { ours: self.layers.len(), theirs: other.layers.len() });
        }
        self.layers.iter_mut().zip(&other.layers).for_each(|(x, y)| add(x, y));
        self.examples += other.examples;
        Ok(())
    }

    /// Λ of each layer `[d_out, d_in]`: the mean over examples.
    pub fn means(&self) -> Vec<Vec<f32>> {
        let scale = 1.0 / self.examples.max(1) as f64;
        self.layers.iter().map(|layer| layer.iter().map(|x| (x * scale) as f32).collect()).collect()
    }
}

/// Adds the corrections of batches to sums, on the backend.
pub struct CorrectionTap<'a, B: Folds> {
    backend: &'a B,
    factors: &'a [LayerFactors<B>],
    sums: Vec<B::Sums>,
    examples: u64,
}

impl<'a, B: Folds> CorrectionTap<'a, B> {
    /// Adds to `start`, in the eigenbases of `factors` (one per tapped layer).
    ///
    /// # Errors
    /// Sums of other layers than `specs`.
    pub fn new(
        backend: &'a B,
        specs: &[LayerSpec],
        factors: &'a [LayerFactors<B>],
        start: Corrections,
    ) -> Result<Self> {
        let sums = |(s, values): (&LayerSpec, Vec<f64>)| backend.sums(Shape::new(s.d_out, s.d_in), values);
        let sums_of_all = specs.iter().zip(start.layers).map(sums).collect::<std::result::Result<_, _>>()?;
        Ok(Self { backend, factors, sums: sums_of_all, examples: start.examples })
    }

    /// The sums.
    pub fn finish(self) -> Corrections {
        let layers = self.sums.into_iter().map(|x| self.backend.take_values(x)).collect();
        Corrections { layers, examples: self.examples }
    }
}

impl<B: Folds> Tap<B> for CorrectionTap<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let (factors, sum, backend) = (&self.factors[io.layer.0], &mut self.sums[io.layer.0], self.backend);
        let rows = io.segments.iter().map(|s| s.len).sum();
        let (d_in, d_out) = (backend.shape(io.input).cols, backend.shape(io.dout).cols);
        match RotationOrder::cheaper(rows, io.segments.len(), d_in, d_out) {
            RotationOrder::RowsFirst => {
                let (input, dout) = factors.rotate_rows(backend, io.input, io.dout)?;
                backend.square_accumulate(&dout, &input, io.segments, sum)?;
            }
            RotationOrder::GradientFirst => {
                for segment in io.segments {
                    let input = backend.slice_rows(io.input, segment.start, segment.len)?;
                    let dout = backend.slice_rows(io.dout, segment.start, segment.len)?;
                    let mut gradient = backend.zeros(Shape::new(d_out, d_in));
                    let replace = Accumulate::Replace;
                    backend.matmul_into(1.0, &dout, Transpose::Yes, &input, Transpose::No, replace, &mut gradient)?;
                    backend.add_squares(&factors.rotate(backend, &gradient)?, sum)?;
                }
            }
        }
        Ok(())
    }

    fn end_batch(&mut self, examples: &[etymon_data::ExampleIndex]) -> std::result::Result<(), ModelError> {
        self.examples += examples.len() as u64;
        Ok(())
    }
}
