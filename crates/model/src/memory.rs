//! What a pass holds and computes, counted from the description of the model: nothing is run.

use etymon_tensor::Backend;

use crate::config::{DecoderConfig, MlpKind, ModelConfig, Positions, Residual};
use crate::model::Arch;
use crate::net::{Net, Step};
use crate::{LayerSpec, Model};

const F32: u64 = 4;

impl<B: Backend> Model<B> {
    /// Weights that enter products: all matrices but tables that are only looked up.
    pub fn n_product_weights(&self) -> u64 {
        let matrices: usize = self.specs().iter().map(|s| s.shape).filter(|s| s.rows > 1).map(|s| s.len()).sum();
        let looked_up = match self.config() {
            ModelConfig::Mlp(_) | ModelConfig::ConvNet(_) => 0,
            ModelConfig::Decoder(c) => {
                let positions = if c.positions == Positions::Learned { c.context * c.d_model } else { 0 };
                positions + if c.tied { 0 } else { c.vocab * c.d_model }
            }
        };
        matrices.saturating_sub(looked_up) as u64
    }

    /// Bytes of the parameters, and of the packed weights that products keep in both orientations at
    /// `packed_bytes` each (0: none are kept, one at a time is packed).
    pub fn weight_bytes(&self, packed_bytes: usize) -> u64 {
        let largest = self.specs().iter().map(|s| s.shape).filter(|s| s.rows > 1).map(|s| s.len()).max().unwrap_or(0);
        let packed = match packed_bytes {
            0 => F32 * largest as u64,
            bytes => 2 * bytes as u64 * self.n_product_weights(),
        };
        F32 * self.n_params() as u64 + packed
    }

    /// Bytes at the peak of loading from files: the mapped files, the parameters, and copies of the largest.
    pub fn loading_bytes(&self) -> u64 {
        let largest = self.specs().iter().map(|s| s.shape.len()).max().unwrap_or(0);
        F32 * (2 * self.n_params() + 2 * largest) as u64
    }

    /// Bytes of a forward and backward pass over `rows` rows for a tap: what forward keeps, and the widest temporaries.
    pub fn pass_bytes(&self, rows: usize) -> u64 {
        let numbers = match self.arch() {
            Arch::Decoder(decoder) => decoder_row(&decoder.config, rows),
            Arch::Net(net) => net_row(net),
        };
        F32 * (numbers * rows) as u64
    }

    /// Floating-point operations of a forward and backward pass for a tap over `rows` rows in sequences of about `len`:
    /// two per weight and row in each direction, and the causal halves of attention. The backward pass ends at the lowest
    /// block with a tapped layer.
    pub fn pass_flops(&self, rows: u64, len: u64) -> f64 {
        let (rows, visited) = (rows as f64, self.visited_blocks());
        let (weights, head, attention) = match self.arch() {
            Arch::Decoder(decoder) => {
                let c = &decoder.config;
                let attention = (c.n_layers * c.heads * c.head_dim) as f64;
                (self.n_product_weights() as f64, (c.vocab * c.d_model) as f64, attention)
            }
            // A convolution is a product for each position.
            Arch::Net(net) => (net.linears().map(|l| (l.d_in * l.d_out * l.positions) as f64).sum(), 0.0, 0.0),
        };
        let products = 2.0 * (weights + head + visited * (weights - head));
        rows * (products + (2.0 + 5.0 * visited) * len as f64 * attention)
    }
}

/// Numbers per row: saved by all blocks (see `Saved` of the decoder), and the larger of the head's temporaries and those
/// of a block's backward.
fn decoder_row(c: &DecoderConfig, rows: usize) -> usize {
    let (d, q, kv) = (c.d_model, c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let gated = usize::from(matches!(c.mlp, MlpKind::Gated(_)));
    let middle = usize::from(c.residual == Residual::Sequential);
    let block = (3 + middle) * d + 2 * q + 2 * kv + (2 + gated) * c.d_ff;
    let head = 4 * d + c.vocab.min((crate::head::CHUNK_LOGITS / rows.max(1)).max(1));
    let backward = 3 * d + ((2 + gated) * c.d_ff).max(2 * (q + 2 * kv) + q + d);
    c.n_layers * block + 3 * d + head.max(backward)
}

/// Numbers per row: the inputs of all steps, and twice the widest step with its patches.
fn net_row(net: &Net) -> usize {
    let (mut saved, mut width, mut widest) = (net.features, net.features, net.outputs);
    for step in net.steps() {
        let patches = if let Step::Conv(at, _) = step { at.positions() * at.columns() } else { 0 };
        let out = match step {
            Step::Linear(layer) | Step::Conv(_, layer) => layer.d_out * layer.positions,
            Step::MaxPool(at) | Step::AveragePool(at) => at.positions() * at.channels,
            Step::Activation(_) | Step::Unflatten(_) | Step::Flatten(_) => width,
        };
        widest = widest.max(patches + width.max(out));
        (saved, width) = (saved + out, out);
    }
    saved + 2 * widest
}

impl LayerSpec {
    /// Bytes per row of a batch that a tap of this layer holds: ā with its column of ones, and ā and Ds packed for a product.
    pub fn tap_row_bytes(&self) -> u64 {
        F32 * (self.positions * (2 * self.d_in + self.d_out)) as u64
    }
}
