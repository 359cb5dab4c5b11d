//! The multi-layer perceptron: forward and backward.

use etymon_tensor::{Backend, Buffer, CrossEntropy, Label, Segment};

use crate::Result;
use crate::blueprint::Blueprint;
use crate::config::{MlpConfig, Task};
use crate::head::{self, HeadBatch, HeadGoal};
use crate::layers::Linear;
use crate::params::{Init, Params, Storage};
use crate::reference::Reference;
use crate::tangent::Tangents;
use crate::tap::{Consumer, LossRows, Rows};

/// Linear layers with an activation between them.
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    pub config: MlpConfig,
    layers: Vec<Linear>,
}

/// What the rows of a batch are compared with.
pub(crate) enum Goal<'a, B: Backend> {
    /// One label per row.
    Classes { labels: &'a [Label], kind: CrossEntropy },
    /// `[n, d]` target values; the gradient and the values are multiplied by `sign`.
    Values { target: &'a B::Tensor, sign: f64 },
    /// The outputs of another model.
    Reference(&'a Reference<B>),
    /// Targets drawn around the prediction: `[n, d]` unit normal noise ε, target ŷ + ε.
    Noise(&'a B::Tensor),
}

/// What the backward pass needs of a forward pass.
struct Trace<B: Backend> {
    /// Input of every layer.
    inputs: Vec<B::Tensor>,
    /// Pre-activations between the layers.
    before: Vec<B::Tensor>,
}

impl Mlp {
    pub fn new(config: MlpConfig, plan: &mut Blueprint) -> Self {
        let layers = config.sizes.windows(2).enumerate().map(|(i, w)| {
            let init = Init::Uniform(1.0 / (w[0] as f64).sqrt());
            plan.linear(format!("layers.{i}"), w[0], w[1], true, Storage::Matrix, init)
        });
        Self { layers: layers.collect(), config }
    }

    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut()
    }

    /// Output of the last layer `[n, d_out]`.
    pub fn output<B: Backend>(&self, backend: &B, params: &Params<B>, x: &B::Tensor) -> Result<B::Tensor> {
        let inputs = self.forward(backend, params, x)?.inputs;
        let (Some(last), Some(input)) = (self.layers.last(), inputs.last()) else { return Ok(x.clone()) };
        linear(backend, params, last, input)
    }

    /// The inputs `[n, d]` of the last layer.
    pub fn hidden<B: Backend>(&self, backend: &B, params: &Params<B>, x: &B::Tensor) -> Result<B::Tensor> {
        Ok(self.forward(backend, params, x)?.inputs.pop().unwrap_or_else(|| x.clone()))
    }

    fn forward<B: Backend>(&self, backend: &B, params: &Params<B>, x: &B::Tensor) -> Result<Trace<B>> {
        let (mut inputs, mut before) = (vec![x.clone()], Vec::new());
        for (i, layer) in self.layers.iter().enumerate().take(self.layers.len() - 1) {
            let pre = linear(backend, params, layer, &inputs[i])?;
            inputs.push(backend.activation_forward(self.config.activation, &pre));
            before.push(pre);
        }
        Ok(Trace { inputs, before })
    }

    /// The scalar of each row of x `[n, features]`, and everything that the consumer asks for.
    pub fn run<B: Backend>(
        &self,
        backend: &B,
        params: &Params<B>,
        x: &B::Tensor,
        goal: &Goal<'_, B>,
        to: &mut Consumer<'_, B>,
    ) -> Result<Buffer<f64>> {
        let Trace { inputs, before } = self.forward(backend, params, x)?;
        let n = backend.shape(x).rows;
        let examples = single_rows(n);
        let rows = Rows { segments: &examples, first_example: 0, loss_rows: LossRows::All };
        let (Some(last), Some(input)) = (self.layers.last(), inputs.last()) else { return Ok(Buffer::zeros(n)) };
        let (values, dx) = match goal {
            Goal::Classes { labels, kind } => {
                let goal = HeadGoal::Labels { labels, kind: *kind };
                head::run(backend, params, last, input, &HeadBatch { goal, loss_segments: &examples }, to)?
            }
            Goal::Reference(reference) if self.config.task == Task::Classification => {
                let goal = HeadGoal::Reference(reference);
                head::run(backend, params, last, input, &HeadBatch { goal, loss_segments: &examples }, to)?
            }
            Goal::Values { .. } | Goal::Noise(_) | Goal::Reference(_) => {
                let target = match goal {
                    Goal::Reference(r) => Some(r.outputs(backend, last, Segment { start: 0, len: n })?),
                    _ => None,
                };
                let values = target.as_ref().map(|target| Goal::Values { target, sign: 1.0 });
                let goal = values.as_ref().unwrap_or(goal);
                let (values, dout) = error(backend, &linear(backend, params, last, input)?, goal)?;
                to.linear(backend, last, input, &dout, rows)?;
                (values, Some(backend.linear_backward(&dout, params.get(last.weight))?))
            }
        };
        self.backward(backend, params, &Trace { inputs, before }, dx, rows, to)?;
        Ok(values)
    }

    /// From the gradient of the last layer's input down to the first layer.
    fn backward<B: Backend>(
        &self,
        backend: &B,
        params: &Params<B>,
        Trace { inputs, before }: &Trace<B>,
        mut dx: Option<B::Tensor>,
        rows: Rows<'_>,
        to: &mut Consumer<'_, B>,
    ) -> Result<()> {
        if !to.wants_backward() {
            return Ok(());
        }
        for (i, layer) in self.layers.iter().enumerate().take(self.layers.len() - 1).rev() {
            let Some(dy) = dx.take() else { break };
            let dpre = backend.activation_backward(self.config.activation, &dy, &before[i])?;
            to.linear(backend, layer, &inputs[i], &dpre, rows)?;
            if i > 0 {
                dx = Some(backend.linear_backward(&dpre, params.get(layer.weight))?);
            }
        }
        Ok(())
    }

    /// As [`Decoder::gauss_newton`](crate::decoder::Decoder::gauss_newton), for rows x `[n, features]`; the Hessian of the
    /// squared error in the outputs is the identity.
    pub fn gauss_newton<B: Backend>(
        &self,
        tangents: &Tangents<'_, B>,
        x: &B::Tensor,
        to: &mut Consumer<'_, B>,
    ) -> Result<()> {
        let (backend, params) = (tangents.backend, tangents.params);
        let trace = self.forward(backend, params, x)?;
        let examples = single_rows(backend.shape(x).rows);
        let rows = Rows { segments: &examples, first_example: 0, loss_rows: LossRows::All };
        let mut din: Option<B::Tensor> = None;
        for (layer, (input, before)) in self.layers.iter().zip(trace.inputs.iter().zip(&trace.before)) {
            let dpre = tangents.linear(layer, input, din.as_ref())?;
            din = Some(backend.activation_backward(self.config.activation, &dpre, before)?);
        }
        let (Some(last), Some(input)) = (self.layers.last(), trace.inputs.last()) else { return Ok(()) };
        let dx = if self.config.task == Task::Classification {
            head::gauss_newton(tangents, last, (input, din.as_ref()), &examples, to)?
        } else {
            let dout = tangents.linear(last, input, din.as_ref())?;
            to.linear(backend, last, input, &dout, rows)?;
            Some(backend.linear_backward(&dout, params.get(last.weight))?)
        };
        self.backward(backend, params, &trace, dx, rows, to)
    }
}

/// Each row is an example.
fn single_rows(n: usize) -> Buffer<Segment> {
    (0..n).map(|start| Segment { start, len: 1 }).collect()
}

fn linear<B: Backend>(backend: &B, params: &Params<B>, layer: &Linear, x: &B::Tensor) -> Result<B::Tensor> {
    let bias = layer.bias.map(|id| params.get(id));
    Ok(backend.linear_forward(x, params.get(layer.weight), bias)?)
}

/// ½‖target − ŷ‖² of each row and its gradient.
fn error<B: Backend>(backend: &B, out: &B::Tensor, goal: &Goal<'_, B>) -> Result<(Buffer<f64>, B::Tensor)> {
    let (target, sign) = match goal {
        Goal::Values { target, sign } => ((*target).clone(), *sign),
        Goal::Noise(noise) => {
            let mut drawn = (*noise).clone();
            backend.axpy(1.0, out, &mut drawn)?;
            (drawn, 1.0)
        }
        Goal::Classes { .. } | Goal::Reference(_) => (out.clone(), 1.0),
    };
    let (mut values, mut dout) = backend.squared_error(out, &target)?;
    values.iter_mut().for_each(|v| *v *= sign);
    backend.scale(sign, &mut dout);
    Ok((values, dout))
}
