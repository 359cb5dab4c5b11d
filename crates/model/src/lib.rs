//! Models with explicit forward and backward.
//!
//! A [`Model`] is read from a Hugging Face folder or a GGUF file ([`load`]), or started at random. One
//! [`run`](Model::run) over a stacked batch computes an [`Objective`] for each example and hands a [`Consumer`] either
//! ā and Ds of the tapped layers or the gradients of all parameters. A model may have low-rank adapters
//! ([`Model::add_lora`], or a PEFT folder): then these are what is tapped and trained.

mod adapter;
mod blueprint;
mod config;
mod decoder;
mod error;
mod features;
mod folder;
pub mod gguf;
mod groups;
mod head;
mod layers;
mod memory;
mod model;
mod net;
mod new_head;
mod objective;
mod params;
mod reference;
mod rope;
mod second;
mod tangent;
mod tap;

pub use adapter::{Lora, adapter_base, is_adapter};
pub use config::{
    ConvNetConfig, DecoderConfig, Family, MlpConfig, MlpKind, ModelConfig, NetLayer, Norm, Positions, Residual,
    RowShape, Task,
};
pub use error::{ModelError, Result};
pub use folder::{load, load_on, model_files, save, tokenizer_file, tokenizer_json};
pub use groups::LayerGroups;
pub use layers::{LayerId, LayerSpec};
pub use model::{Model, normal};
pub use objective::{Measurement, Objective};
pub use params::{Init, ParamId, ParamSpec, Params, Storage};
pub use reference::Reference;
pub use rope::Rope;
pub use tap::{Consumer, LayerIo, LossRows, Tap};
