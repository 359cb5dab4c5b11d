//! Linear layers, their names, and the choice of those that attribution taps.

use std::collections::BTreeMap;

use regex::Regex;

use crate::adapter::Adapter;
use crate::params::ParamId;
use crate::{ModelError, Result};

/// Position of a tapped layer in forward order; the order on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub usize);

/// A layer that a tap sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Name in the files, without `.weight`: `transformer.h.0.attn.c_attn`.
    pub name: String,
    /// Width of ā: the layer's inputs, and one more with a bias.
    pub d_in: usize,
    /// Width of Ds.
    pub d_out: usize,
    /// Whether the last column of ā is the bias one.
    pub bias: bool,
    /// The first tapped layer that reads the same ā (itself, or q for k and v, gate for up): A is computed once.
    pub input: LayerId,
    /// Rows of ā and Ds for each row of a batch: the positions of a convolution, else 1.
    pub positions: usize,
}

impl LayerSpec {
    /// Whether it is the same layer of another model: of equal name and shape.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.name, self.d_in, self.d_out) == (&other.name, other.d_in, other.d_out)
    }
}

/// What a linear layer is for; the default taps follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Attention or MLP: tapped unless a pattern says otherwise.
    Body,
    /// Vocabulary head of a language model: tapped only when a pattern names it.
    Head,
}

/// A linear layer: weight `[d_out, d_in]`, bias `[1, d_out]`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub name: String,
    pub weight: ParamId,
    pub bias: Option<ParamId>,
    pub d_in: usize,
    pub d_out: usize,
    pub role: Role,
    /// Weight of the first layer that reads the same input.
    pub input: ParamId,
    /// Rows for each row of a batch.
    pub positions: usize,
    /// Its id when it is tapped.
    pub tap: Option<LayerId>,
    /// What is added to it at low rank.
    pub adapter: Option<Box<Adapter>>,
}

impl Linear {
    /// The same layer, said to read the same input as `first`.
    pub fn sharing_input_of(self, first: &Self) -> Self {
        Self { input: first.input, ..self }
    }

    /// Whether a tap sees it, or its adapter.
    pub fn is_tapped(&self) -> bool {
        self.tap.is_some() || self.adapter.as_ref().is_some_and(|a| a.down.is_tapped() || a.up.is_tapped())
    }

    fn spec(&self, input: LayerId) -> LayerSpec {
        let bias = self.bias.is_some();
        LayerSpec {
            name: self.name.clone(),
            d_in: self.d_in + usize::from(bias),
            d_out: self.d_out,
            bias,
            input,
            positions: self.positions,
        }
    }
}

/// The layers that can be tapped: those of the adapters in a model that has some, else all.
pub(crate) fn tappable<'a>(layers: impl Iterator<Item = &'a mut Linear>) -> Vec<&'a mut Linear> {
    let (adapted, plain): (Vec<_>, Vec<_>) = layers.partition(|layer| layer.adapter.is_some());
    if adapted.is_empty() {
        return plain;
    }
    plain.into_iter().for_each(|layer| layer.tap = None);
    let parts = |layer: &'a mut Linear| {
        layer.tap = None;
        layer.adapter.as_deref_mut().into_iter().flat_map(|adapter| [&mut adapter.down, &mut adapter.up])
    };
    adapted.into_iter().flat_map(parts).collect()
}

/// Gives ids to the layers that `pattern` selects, in forward order, and returns their specs.
pub(crate) fn select(pattern: Option<&str>, layers: Vec<&mut Linear>) -> Result<Vec<LayerSpec>> {
    let regex = pattern
        .map(|p| Regex::new(p).map_err(|source| ModelError::Pattern { pattern: p.to_owned(), source }))
        .transpose()?;
    let mut names = Vec::new();
    let specs = tap_where(layers, |layer| {
        names.push(layer.name.clone());
        match &regex {
            Some(regex) => regex.is_match(&layer.name),
            None => layer.role == Role::Body,
        }
    });
    if specs.is_empty() {
        names.truncate(12);
        return Err(ModelError::NoLayers {
            pattern: pattern.unwrap_or_default().to_owned(),
            layers: names.join(", ") + ", …",
        });
    }
    Ok(specs)
}

/// Gives ids to the layers that are `chosen`, in forward order, and returns their specs.
pub(crate) fn tap_where(layers: Vec<&mut Linear>, mut chosen: impl FnMut(&Linear) -> bool) -> Vec<LayerSpec> {
    let (mut specs, mut inputs) = (Vec::new(), BTreeMap::new());
    for layer in layers {
        let id = LayerId(specs.len());
        layer.tap = chosen(layer).then_some(id);
        if layer.tap.is_some() {
            let first = *inputs.entry((layer.input, layer.bias.is_some())).or_insert(id);
            specs.push(layer.spec(first));
        }
    }
    specs
}
