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
enum Qkv {
    Fused(Linear),
    Separate([Linear; 3]),
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
    head: Linear,
}

impl Decoder {
    /// Linear layers in forward order.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut).chain(std::iter::once(&mut self.head))
    }

    /// The first block with a tapped layer: a backward pass for taps need not go below it.
    fn lowest_tapped_block(&self) -> usize {
        let tapped = |b: &Block| b.linears().any(|l| l.tap.is_some());
        self.blocks.iter().position(tapped).unwrap_or(self.blocks.len())
    }

    /// The part of the blocks that such a pass visits.
    pub fn visited_blocks(&self) -> f64 {
        1.0 - self.lowest_tapped_block() as f64 / self.blocks.len().max(1) as f64
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
            Qkv::Separate(ls) => ls,
        };
        let MlpLayers { gate, up, down, .. } = &mut self.mlp;
        qkv.iter_mut().chain(std::iter::once(&mut self.output)).chain(gate.iter_mut()).chain([up, down])
    }
}

impl Qkv {
    fn linears(&self) -> &[Linear] {
        match self {
            Self::Fused(l) => std::slice::from_ref(l),
            Self::Separate(ls) => ls,
        }
    }
}
