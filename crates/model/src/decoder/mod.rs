//! The decoder: one forward and one backward for GPT-2, GPT-NeoX and the Llama family.

mod backward;
mod block;
mod forward;
mod layout;
mod tangent;

use etymon_tensor::{Activation, Attention};

use crate::config::DecoderConfig;
use crate::layers::Linear;
use crate::params::ParamId;

pub(crate) use backward::Stacked;
pub(crate) use block::TokenRows;

/// A norm's parameters: `shift` only for LayerNorm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormParams {
    gain: ParamId,
    shift: Option<ParamId>,
}

/// Queries, keys and values: one layer whose output is q | k | v, or three.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one per block")]
enum Qkv {
    Fused(Linear),
    Separate(Box<[Linear; 3]>),
}

#[derive(Clone, Debug)]
struct MlpLayers {
    activation: Activation,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

#[derive(Clone, Debug)]
struct Block {
    norm_attention: NormParams,
    qkv: Qkv,
    attention: Attention,
    output: Linear,
    norm_mlp: NormParams,
    mlp: MlpLayers,
}

/// A decoder-only language model: where its parameters are, and how they are put together.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    pub config: DecoderConfig,
    embedding: ParamId,
    positions: Option<ParamId>,
    blocks: Vec<Block>,
    final_norm: NormParams,
    pub head: Linear,
}

impl Decoder {
    /// Linear layers in forward order.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut).chain(std::iter::once(&mut self.head))
    }

    /// The first block with a layer that is `wanted`: a backward pass for these need not go below it.
    fn lowest_block(&self, wanted: impl Fn(&Linear) -> bool) -> usize {
        self.blocks.iter().position(|b| b.linears().any(&wanted)).unwrap_or(self.blocks.len())
    }

    /// The part of the blocks that a backward pass for taps visits.
    pub fn visited_blocks(&self) -> f64 {
        1.0 - self.lowest_block(Linear::is_tapped) as f64 / self.blocks.len().max(1) as f64
    }
}

impl Block {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.qkv
            .linears()
            .iter()
            .chain(std::iter::once(&self.output))
            .chain(&self.mlp.gate)
            .chain([&self.mlp.up, &self.mlp.down])
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let qkv = match &mut self.qkv {
            Qkv::Fused(l) => std::slice::from_mut(l),
            Qkv::Separate(ls) => &mut ls[..],
        };
        let MlpLayers { gate, up, down, .. } = &mut self.mlp;
        qkv.iter_mut().chain(std::iter::once(&mut self.output)).chain(gate.iter_mut()).chain([up, down])
    }
}

impl Qkv {
    fn linears(&self) -> &[Linear] {
        match self {
            Self::Fused(l) => std::slice::from_ref(l),
            Self::Separate(ls) => &ls[..],
        }
    }
}
