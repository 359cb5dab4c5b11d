//! Convolutional networks: classifiers and regressions on images, which are feature rows in the order (channel, row, column).

use etymon_tensor::{Activation, Patches};
use serde::Deserialize;
use serde_json::Value;

use super::json::activation;
use super::mlp::Task;
use crate::{ModelError, Result};

/// `{"model_type": "convnet", "input": [1, 28, 28], "layers": [{"conv": {"channels": 16, "kernel": 3, "padding": 1}}, "relu",
/// {"max_pool": 2}, "flatten", {"linear": 10}], "task": "classification"}`.
///
/// The layers are those of a PyTorch `Sequential`, and numbered like them; `flatten` may be left out.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNetConfig {
    /// Channels, height and width of an image.
    pub input: [usize; 3],
    /// From the image to the output; the last one is linear.
    pub layers: Vec<NetLayer>,
    /// Meaning of the output.
    pub task: Task,
}

/// A layer with the shape of what it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NetLayer {
    /// A convolution with a bias.
    Conv {
        /// Its windows.
        at: Patches,
        /// Channels of its output.
        channels: usize,
    },
    /// The largest of each window.
    MaxPool(Patches),
    /// The mean of each window.
    AveragePool(Patches),
    /// Of each number.
    Activation(Activation),
    /// From an image to a row in the order (channel, row, column).
    Flatten,
    /// A linear layer with a bias, from and to this many numbers.
    Linear([usize; 2]),
}

/// The keys of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(rename = "model_type")]
    _model_type: String,
    input: [usize; 3],
    layers: Vec<Value>,
    #[serde(default)]
    task: Task,
}

/// A layer that is not a word.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RawLayer {
    Conv(RawConv),
    MaxPool(usize),
    AveragePool(usize),
    Linear(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConv {
    channels: usize,
    kernel: usize,
    #[serde(default = "one")]
    stride: usize,
    #[serde(default)]
    padding: usize,
}

fn one() -> usize {
    1
}

/// The shape of what flows between the layers.
#[derive(Clone, Copy)]
enum Shape {
    Image([usize; 3]),
    Row(usize),
}

impl ConvNetConfig {
    pub(super) fn from_json(json: &Value) -> Result<Self> {
        let raw: Raw = serde_json::from_value(json.clone()).map_err(|e| bad("convnet", e.to_string()))?;
        if raw.input.contains(&0) {
            return Err(bad("input", "expected three positive integers: channels, height, width"));
        }
        let (mut shape, mut layers) = (Shape::Image(raw.input), Vec::with_capacity(raw.layers.len()));
        for (i, value) in raw.layers.iter().enumerate() {
            let layer = layer(value, shape).map_err(|problem| bad(&format!("layers[{i}]"), problem))?;
            shape = layer.output(shape);
            layers.push(layer);
        }
        match layers.last() {
            Some(NetLayer::Linear(_)) => Ok(Self { input: raw.input, layers, task: raw.task }),
            _ => Err(bad("layers", "the last layer must be linear: {\"linear\": OUTPUTS}")),
        }
    }

    /// Numbers of an image.
    pub fn features(&self) -> usize {
        self.input.iter().product()
    }

    /// Numbers of the output.
    pub fn outputs(&self) -> usize {
        match self.layers.last() {
            Some(NetLayer::Linear([_, outputs])) => *outputs,
            _ => 0,
        }
    }
}

fn bad(key: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Config { key: key.to_owned(), problem: problem.into() }
}

/// Reads one layer that is given `shape`.
fn layer(value: &Value, shape: Shape) -> std::result::Result<NetLayer, String> {
    match value.as_str() {
        Some("flatten") => return Ok(NetLayer::Flatten),
        Some(name) => {
            let object = serde_json::json!({ "activation": name });
            let unknown = |_| {
                format!(
                    "unknown layer `{name}`; known: conv, max_pool, average_pool, linear, flatten, relu, tanh, gelu, gelu_new, silu"
                )
            };
            return activation(&object, "activation", Activation::Relu).map(NetLayer::Activation).map_err(unknown);
        }
        None => {}
    }
    let raw: RawLayer = serde_json::from_value(value.clone()).map_err(|e| e.to_string())?;
    let windows = |kernel, stride, padding| match shape {
        Shape::Row(_) => Err("needs an image, but the layer before gives a row".to_owned()),
        Shape::Image([channels, height, width]) => {
            let at = Patches { channels, height, width, kernel, stride, padding };
            let problem = format!(
                "a window of {kernel} at stride {stride} and padding {padding} does not fit an image of {height} x {width}"
            );
            if at.fits() { Ok(at) } else { Err(problem) }
        }
    };
    match raw {
        RawLayer::Conv(RawConv { channels: 0, .. }) | RawLayer::Linear(0) => {
            Err("expected a positive width".to_owned())
        }
        RawLayer::Conv(c) => Ok(NetLayer::Conv { at: windows(c.kernel, c.stride, c.padding)?, channels: c.channels }),
        RawLayer::MaxPool(size) => Ok(NetLayer::MaxPool(windows(size, size, 0)?)),
        RawLayer::AveragePool(size) => Ok(NetLayer::AveragePool(windows(size, size, 0)?)),
        RawLayer::Linear(outputs) => Ok(NetLayer::Linear([shape.len(), outputs])),
    }
}

impl Shape {
    fn len(self) -> usize {
        match self {
            Self::Image(sides) => sides.iter().product(),
            Self::Row(len) => len,
        }
    }
}

impl NetLayer {
    fn output(&self, input: Shape) -> Shape {
        let image = |channels, at: &Patches| {
            let [height, width] = at.out();
            Shape::Image([channels, height, width])
        };
        match self {
            Self::Conv { at, channels } => image(*channels, at),
            Self::MaxPool(at) | Self::AveragePool(at) => image(at.channels, at),
            Self::Activation(_) => input,
            Self::Flatten => Shape::Row(input.len()),
            Self::Linear([_, outputs]) => Shape::Row(*outputs),
        }
    }
}
