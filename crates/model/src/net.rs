//! Networks of feature rows, multi-layer perceptrons and convolutional networks: forward and backward.
//!
//! Between the layers an image is a row per pixel, `[n · pixels, channels]`: a convolution is a linear layer over patches.

use etymon_tensor::{Activation, Backend, Buffer, CrossEntropy, Label, Patches, Segment, Shape};

use crate::Result;
use crate::blueprint::Blueprint;
use crate::config::{ConvNetConfig, MlpConfig, NetLayer, Task};
use crate::head::{self, HeadBatch, HeadGoal};
use crate::layers::Linear;
use crate::params::{Init, Params, Storage};
use crate::reference::Reference;
use crate::tangent::Tangents;
use crate::tap::{Consumer, LossRows, Rows};

/// Steps from feature rows to the input of the last layer, and that layer.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub task: Task,
    pub features: usize,
    pub outputs: usize,
    steps: Vec<Step>,
    last: Linear,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Linear(Linear),
    Conv(Patches, Linear),
    MaxPool(Patches),
    AveragePool(Patches),
    Activation(Activation),
    /// Rows (channel, pixel) to images.
    Unflatten([usize; 2]),
    /// Images to rows (channel, pixel).
    Flatten([usize; 2]),
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

/// What of a batch's examples the layers see.
struct Stack {
    n: usize,
    examples: Buffer<Segment>,
}

impl Net {
    pub fn mlp(config: &MlpConfig, plan: &mut Blueprint) -> Option<Self> {
        let linear =
            |(i, w): (usize, &[usize])| linear_layer(plan, format!("layers.{i}"), [w[0], w[1]], Storage::Matrix);
        let mut layers: Vec<Linear> = config.sizes.windows(2).enumerate().map(linear).collect();
        let last = layers.pop()?;
        let steps = layers.into_iter().flat_map(|layer| [Step::Linear(layer), Step::Activation(config.activation)]);
        Some(Self { task: config.task, features: config.sizes[0], outputs: last.d_out, steps: steps.collect(), last })
    }

    pub fn convnet(config: &ConvNetConfig, plan: &mut Blueprint) -> Option<Self> {
        let [channels, height, width] = config.input;
        let mut image = Some([channels, height * width]);
        let mut steps = vec![Step::Unflatten([channels, height * width])];
        for (i, layer) in config.layers.iter().enumerate() {
            let name = format!("layers.{i}");
            if matches!(layer, NetLayer::Flatten | NetLayer::Linear(_)) {
                steps.extend(image.take().map(Step::Flatten));
            }
            match *layer {
                NetLayer::Conv { at, channels } => {
                    let storage = Storage::Kernel { channels: at.channels, kernel: at.kernel };
                    let mut linear = linear_layer(plan, name, [at.columns(), channels], storage);
                    linear.positions = at.positions();
                    image = Some([channels, at.positions()]);
                    steps.push(Step::Conv(at, linear));
                }
                NetLayer::MaxPool(at) | NetLayer::AveragePool(at) => {
                    image = Some([at.channels, at.positions()]);
                    let largest = matches!(layer, NetLayer::MaxPool(_));
                    steps.push(if largest { Step::MaxPool(at) } else { Step::AveragePool(at) });
                }
                NetLayer::Activation(kind) => steps.push(Step::Activation(kind)),
                NetLayer::Flatten => {}
                NetLayer::Linear(widths) => steps.push(Step::Linear(linear_layer(plan, name, widths, Storage::Matrix))),
            }
        }
        let Some(Step::Linear(last)) = steps.pop() else { return None };
        Some(Self { task: config.task, features: config.features(), outputs: last.d_out, steps, last })
    }

    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.steps.iter_mut().filter_map(Step::linear_mut).chain(std::iter::once(&mut self.last))
    }

    /// The linear layers and convolutions.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.steps.iter().filter_map(Step::linear).chain(std::iter::once(&self.last))
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Output of the last layer `[n, d_out]`.
    pub fn output<B: Backend>(&self, backend: &B, params: &Params<B>, x: &B::Tensor) -> Result<B::Tensor> {
        self.last.forward(backend, params, &self.last_input(backend, params, x)?)
    }

    /// What the last layer reads `[n, d]`.
    pub fn last_input<B: Backend>(&self, backend: &B, params: &Params<B>, x: &B::Tensor) -> Result<B::Tensor> {
        let mut x = x.clone();
        for step in &self.steps {
            x = step.forward(backend, params, &x)?;
        }
        Ok(x)
    }

    /// The input of each step, and that of the last layer.
    fn forward<B: Backend>(
        &self,
        backend: &B,
        params: &Params<B>,
        x: &B::Tensor,
    ) -> Result<(Vec<B::Tensor>, B::Tensor)> {
        let (mut inputs, mut x) = (Vec::with_capacity(self.steps.len()), x.clone());
        for step in &self.steps {
            let out = step.forward(backend, params, &x)?;
            inputs.push(std::mem::replace(&mut x, out));
        }
        Ok((inputs, x))
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
        let (inputs, input) = self.forward(backend, params, x)?;
        let stack = Stack::of(backend.shape(x).rows);
        let (values, dx) = match goal {
            Goal::Classes { labels, kind } => {
                let goal = HeadGoal::Labels { labels, kind: *kind };
                head::run(backend, params, &self.last, &input, &HeadBatch { goal, loss_segments: &stack.examples }, to)?
            }
            Goal::Reference(reference) if self.task == Task::Classification => {
                let goal = HeadGoal::Reference(reference);
                head::run(backend, params, &self.last, &input, &HeadBatch { goal, loss_segments: &stack.examples }, to)?
            }
            Goal::Values { .. } | Goal::Noise(_) | Goal::Reference(_) => {
                let all = Segment { start: 0, len: stack.n };
                let target = match goal {
                    Goal::Reference(reference) => Some(reference.outputs(backend, &self.last, all)?),
                    _ => None,
                };
                let values = target.as_ref().map(|target| Goal::Values { target, sign: 1.0 });
                let goal = values.as_ref().unwrap_or(goal);
                let (values, dout) = error(backend, &self.last.forward(backend, params, &input)?, goal)?;
                self.last.hand_to(to, (backend, params), &input, &dout, rows(&stack.examples))?;
                (values, Some(self.last.backward(backend, params, &dout)?))
            }
        };
        self.backward(backend, params, &inputs, dx, &stack, to)?;
        Ok(values)
    }

    /// From the gradient of the last layer's input down to the lowest layer that the consumer wants.
    fn backward<B: Backend>(
        &self,
        backend: &B,
        params: &Params<B>,
        inputs: &[B::Tensor],
        dx: Option<B::Tensor>,
        stack: &Stack,
        to: &mut Consumer<'_, B>,
    ) -> Result<()> {
        let wanted = |step: &Step| step.linear().is_some_and(|layer| to.wants(layer));
        let (Some(lowest), Some(mut dy)) = (self.steps.iter().position(wanted), dx.filter(|_| to.wants_backward()))
        else {
            return Ok(());
        };
        for (i, (step, input)) in self.steps.iter().zip(inputs).enumerate().skip(lowest).rev() {
            step.hand_out((backend, params), input, &dy, stack, to)?;
            if i > lowest {
                dy = step.backward(backend, params, dy, input)?;
            }
        }
        Ok(())
    }

    /// As [`Decoder::gauss_newton`](crate::decoder::Decoder::gauss_newton), for rows x `[n, features]`; the Hessian of the
    /// squared error in the outputs is the identity.
    pub fn gauss_newton<B: Backend>(
        &self,
        (backend, params): (&B, &Params<B>),
        tangents: &[Tangents<'_, B>],
        x: &B::Tensor,
        to: &mut [Consumer<'_, B>],
    ) -> Result<()> {
        let last = &self.last;
        let (inputs, input) = self.forward(backend, params, x)?;
        let stack = Stack::of(backend.shape(x).rows);
        let mut moved = Vec::with_capacity(tangents.len());
        for tangents in tangents {
            let mut din: Option<B::Tensor> = None;
            for (step, input) in self.steps.iter().zip(&inputs) {
                din = step.tangent(tangents, input, din)?;
            }
            moved.push(din);
        }
        let back = if self.task == Task::Classification {
            head::gauss_newton(tangents, last, (&input, &moved), &stack.examples, to)?
        } else {
            let mut back = Vec::with_capacity(moved.len());
            for ((tangents, din), to) in tangents.iter().zip(&moved).zip(to.iter_mut()) {
                let dout = tangents.linear(last, &input, din.as_ref())?;
                last.hand_to(to, (backend, params), &input, &dout, rows(&stack.examples))?;
                back.push(last.backward(backend, params, &dout)?);
            }
            back
        };
        for (back, to) in back.into_iter().zip(to) {
            self.backward(backend, params, &inputs, Some(back), &stack, to)?;
        }
        Ok(())
    }
}

impl Step {
    /// Its layer, if it has one.
    fn linear(&self) -> Option<&Linear> {
        match self {
            Self::Linear(layer) | Self::Conv(_, layer) => Some(layer),
            _ => None,
        }
    }

    fn linear_mut(&mut self) -> Option<&mut Linear> {
        match self {
            Self::Linear(layer) | Self::Conv(_, layer) => Some(layer),
            _ => None,
        }
    }

    fn forward<B: Backend>(&self, backend: &B, params: &Params<B>, x: &B::Tensor) -> Result<B::Tensor> {
        Ok(match self {
            Self::Linear(layer) => layer.forward(backend, params, x)?,
            Self::Conv(at, layer) => layer.forward(backend, params, &backend.im2col_forward(at, x)?)?,
            Self::MaxPool(at) => backend.max_pool_forward(at, x)?,
            Self::AveragePool(at) => backend.average_pool_forward(at, x)?,
            Self::Activation(kind) => backend.activation_forward(*kind, x),
            Self::Unflatten(image) => unflatten(backend, x.clone(), *image)?,
            Self::Flatten(image) => flatten(backend, x, *image)?,
        })
    }

    /// dy of the step's output → dx of its input x.
    fn backward<B: Backend>(&self, backend: &B, params: &Params<B>, dy: B::Tensor, x: &B::Tensor) -> Result<B::Tensor> {
        Ok(match self {
            Self::Linear(layer) => layer.backward(backend, params, &dy)?,
            Self::Conv(at, layer) => backend.im2col_backward(at, &layer.backward(backend, params, &dy)?)?,
            Self::MaxPool(at) => backend.max_pool_backward(at, &dy, x)?,
            Self::AveragePool(at) => backend.average_pool_backward(at, &dy)?,
            Self::Activation(kind) => backend.activation_backward(*kind, &dy, x)?,
            Self::Unflatten(image) => flatten(backend, &dy, *image)?,
            Self::Flatten(image) => unflatten(backend, dy, *image)?,
        })
    }

    /// The tangent of the step's output, from its input x and the tangent of that, if it has one.
    fn tangent<B: Backend>(
        &self,
        tangents: &Tangents<'_, B>,
        x: &B::Tensor,
        dx: Option<B::Tensor>,
    ) -> Result<Option<B::Tensor>> {
        let backend = tangents.backend;
        match (self, dx) {
            (Self::Linear(layer), dx) => tangents.linear(layer, x, dx.as_ref()).map(Some),
            (Self::Conv(at, layer), dx) => {
                let dx = dx.map(|dx| backend.im2col_forward(at, &dx)).transpose()?;
                tangents.linear(layer, &backend.im2col_forward(at, x)?, dx.as_ref()).map(Some)
            }
            (_, None) => Ok(None),
            (Self::MaxPool(at), Some(dx)) => Ok(Some(backend.max_pool_jvp(at, &dx, x)?)),
            (Self::Activation(kind), Some(dx)) => Ok(Some(backend.activation_backward(*kind, &dx, x)?)),
            // Linear, without parameters.
            (_, Some(dx)) => self.forward(backend, tangents.params, &dx).map(Some),
        }
    }

    /// Hands ā and Ds of its layer to the consumer: those of a convolution have a row per position.
    fn hand_out<B: Backend>(
        &self,
        (backend, params): (&B, &Params<B>),
        x: &B::Tensor,
        dout: &B::Tensor,
        stack: &Stack,
        to: &mut Consumer<'_, B>,
    ) -> Result<()> {
        match self {
            Self::Linear(layer) => layer.hand_to(to, (backend, params), x, dout, rows(&stack.examples)),
            Self::Conv(at, layer) if to.wants(layer) => {
                let examples = parts(stack.n, at.positions());
                layer.hand_to(to, (backend, params), &backend.im2col_forward(at, x)?, dout, rows(&examples))
            }
            _ => Ok(()),
        }
    }
}

impl Stack {
    fn of(n: usize) -> Self {
        Self { n, examples: parts(n, 1) }
    }
}

/// `n` examples of `len` rows each.
fn parts(n: usize, len: usize) -> Buffer<Segment> {
    (0..n).map(|i| Segment { start: i * len, len }).collect()
}

fn rows(segments: &[Segment]) -> Rows<'_> {
    Rows { segments, first_example: 0, loss_rows: LossRows::All }
}

fn linear_layer(plan: &mut Blueprint, name: String, [d_in, d_out]: [usize; 2], storage: Storage) -> Linear {
    plan.linear(name, d_in, d_out, true, storage, Init::Uniform(1.0 / (d_in as f64).sqrt()))
}

/// `[n, channels · pixels]` → `[n · pixels, channels]`.
fn unflatten<B: Backend>(backend: &B, x: B::Tensor, [channels, pixels]: [usize; 2]) -> Result<B::Tensor> {
    let n = backend.shape(&x).rows;
    let planes = backend.reshape(x, Shape::new(n * channels, pixels))?;
    Ok(backend.transpose_parts(&planes, channels)?)
}

/// `[n · pixels, channels]` → `[n, channels · pixels]`.
fn flatten<B: Backend>(backend: &B, x: &B::Tensor, [channels, pixels]: [usize; 2]) -> Result<B::Tensor> {
    let n = backend.shape(x).rows / pixels.max(1);
    Ok(backend.reshape(backend.transpose_parts(x, pixels)?, Shape::new(n, channels * pixels))?)
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
