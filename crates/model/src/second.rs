//! Derivatives in a model's tapped weights, first and second, and steps along them.

use etymon_data::{Batch, Input};
use etymon_tensor::{Accumulate, Backend, Shape, Transpose};

use crate::model::{Arch, Model, check_tokens, convert};
use crate::tangent::Tangents;
use crate::tap::{Consumer, LayerIo, LossRows, Tap};
use crate::{ModelError, Objective, Result};

impl<B: Backend> Model<B> {
    /// out += Σ_n J_nᵀ H_n J_n v over the examples of a batch for each v of `vs` and its out: the Gauss-Newton matrix of the
    /// summed train loss (not divided by anything) in the weights of the tapped layers, by one forward pass for all, and one
    /// forward-mode pass and one backward pass for each (Schraudolph 2002). J_n is the Jacobian of the outputs, H_n the Hessian
    /// of the loss in them, which for cross entropy and squared error depends on no label.
    ///
    /// v and out have one matrix `[d_out, d_in]` per tapped layer, in their order, the bias being the last column.
    ///
    /// # Errors
    /// Data that the model does not take, directions of other shapes, and more or fewer of them than outs.
    pub fn add_gauss_newton(&self, batch: &Batch, vs: &[&[B::Tensor]], outs: &mut [Vec<B::Tensor>]) -> Result<()> {
        if vs.len() != outs.len() {
            return Err(ModelError::Products { directions: vs.len(), outs: outs.len() });
        }
        vs.iter().try_for_each(|v| self.check_directions(v))?;
        outs.iter().try_for_each(|out| self.check_directions(out))?;
        let whole = (self.backend(), self.params());
        let tangents: Vec<Tangents<'_, B>> =
            vs.iter().map(|v| Tangents { backend: whole.0, params: whole.1, weights: v }).collect();
        let mut taps: Vec<_> = outs.iter_mut().map(|out| AddProducts { backend: whole.0, out }).collect();
        let mut to: Vec<Consumer<'_, B>> = taps.iter_mut().map(|tap| Consumer::Tap(tap)).collect();
        match (self.arch(), &batch.input) {
            (Arch::Decoder(decoder), Input::Tokens { ids, positions, segments, loss_rows, loss_segments, .. }) => {
                for segment in segments {
                    check_tokens(&ids[segment.range()], decoder.config.vocab, decoder.config.context)?;
                }
                let (segments, loss_segments) = (convert(segments), convert(loss_segments));
                let picked: Vec<usize> = loss_rows.iter().map(|&r| r as usize).collect();
                let loss_rows = if picked.len() == ids.len() { LossRows::All } else { LossRows::Some(&picked) };
                let rows = crate::decoder::TokenRows { positions, segments: &segments, loss_rows };
                decoder.gauss_newton(whole, &tangents, ids, (&rows, &loss_segments), &mut to)
            }
            (Arch::Net(net), Input::Features { values, n_features, targets }) => {
                let expected = net.features;
                if *n_features != expected {
                    return Err(ModelError::Features { expected, got: *n_features });
                }
                let x = self.backend().upload(Shape::new(targets.len(), expected), values)?;
                net.gauss_newton(whole, &tangents, &x, &mut to)
            }
            (arch, _) => Err(arch.wrong_kind()),
        }
    }

    /// out += Σ_n ∇ of the objective over the examples of a batch, in the weights of the tapped layers; out has one matrix
    /// `[d_out, d_in]` per tapped layer, the bias being the last column.
    ///
    /// # Errors
    /// As [`run`](Self::run), and an out of other shapes.
    pub fn add_gradient(&self, batch: &Batch, objective: Objective, out: &mut [B::Tensor]) -> Result<()> {
        self.check_directions(out)?;
        let mut tap = AddProducts { backend: self.backend(), out };
        self.run(batch, objective, Consumer::Tap(&mut tap))?;
        Ok(())
    }

    /// A copy with the weights of the tapped layers at W + αV, for v of one matrix V `[d_out, d_in]` per tapped layer, the
    /// bias being the last column. What is not tapped stays where it is.
    ///
    /// # Errors
    /// Directions of other shapes, and a tapped head that is tied to the embedding, which would move with it.
    pub fn moved(&self, alpha: f64, v: &[B::Tensor]) -> Result<Self> {
        self.check_directions(v)?;
        if let Arch::Decoder(decoder) = self.arch()
            && decoder.config.tied
            && decoder.head.tap.is_some()
        {
            return Err(ModelError::Tied { layer: decoder.head.name.clone() });
        }
        let (backend, mut moved) = (self.backend(), self.clone());
        let params = moved.params_mut();
        for ((weight, bias), v) in self.layer_params().into_iter().zip(v) {
            let inputs = backend.shape(self.params().get(weight)).cols;
            if let Some(weight) = params.get_mut(weight) {
                backend.axpy(alpha, &backend.slice_cols(v, 0, inputs)?, weight)?;
            }
            if let Some(bias) = bias.and_then(|id| params.get_mut(id)) {
                let column = backend.slice_cols(v, inputs, 1)?;
                backend.axpy(alpha, &backend.reshape(column, backend.shape(bias))?, bias)?;
            }
        }
        Ok(moved)
    }

    /// Zeros, one matrix `[d_out, d_in]` per tapped layer.
    pub fn zero_direction(&self) -> Vec<B::Tensor> {
        self.layers().iter().map(|s| self.backend().zeros(Shape::new(s.d_out, s.d_in))).collect()
    }

    fn check_directions(&self, v: &[B::Tensor]) -> Result<()> {
        let shapes = v.iter().map(|x| self.backend().shape(x));
        if shapes.eq(self.layers().iter().map(|s| Shape::new(s.d_out, s.d_in))) {
            return Ok(());
        }
        Err(ModelError::Direction { layers: self.layers().len(), got: v.len() })
    }
}

/// Adds Σ_t Ds_t ā_tᵀ of each layer to its matrix.
struct AddProducts<'a, B: Backend> {
    backend: &'a B,
    out: &'a mut [B::Tensor],
}

impl<B: Backend> Tap<B> for AddProducts<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> Result<()> {
        let out = &mut self.out[io.layer.0];
        Ok(self.backend.matmul_into(1.0, io.dout, Transpose::Yes, io.input, Transpose::No, Accumulate::Add, out)?)
    }
}
