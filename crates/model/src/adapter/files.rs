//! The PEFT folder: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use etymon_store::{Dtype, TensorFile, TensorWriter, read_json, write_json_atomic};
use etymon_tensor::Backend;
use serde_json::Value;

use super::Lora;
use crate::folder::{OPTIONAL_PREFIXES, accept_numbers};
use crate::params::{ParamSpec, Storage};
use crate::{Model, ModelConfig, ModelError, Result};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the names of the base model.
const PREFIX: &str = "base_model.model.";

/// Whether a path is a PEFT folder of adapters.
pub fn is_adapter(path: &Path) -> bool {
    path.join(CONFIG).exists()
}

/// The files of an adapter, without those of its base.
pub(crate) fn adapter_files(folder: &Path) -> Vec<PathBuf> {
    vec![folder.join(CONFIG), folder.join(WEIGHTS)]
}

/// Where the base model of an adapter folder is: `base_model_name_or_path`, relative to the folder. `None` for a path
/// that is no adapter folder.
///
/// # Errors
/// A configuration that is not understood, or a base that is not there.
pub fn adapter_base(path: &Path) -> Result<Option<PathBuf>> {
    if !is_adapter(path) {
        return Ok(None);
    }
    let lora = read_config(path)?;
    let base = path.join(&lora.base);
    if lora.base.as_os_str().is_empty() || !base.exists() {
        return Err(ModelError::NoBase { path: path.join(CONFIG), base: lora.base });
    }
    Ok(Some(base))
}

fn read_config(folder: &Path) -> Result<Lora> {
    let file = folder.join(CONFIG);
    let json: Value = read_json(&file)?;
    Lora::from_json(&file, &json)
}

/// `model`, read from `base`, with the adapters of a folder.
pub(crate) fn load_adapter<B: Backend>(model: Model<B>, base: &Path, folder: &Path) -> Result<Model<B>> {
    let weights = folder.join(WEIGHTS);
    let tensors = TensorFile::open(&weights)?;
    let mut layers = Layers::of(&model);
    for name in tensors.names() {
        layers.add(&weights, name)?;
    }
    let lora = Lora { layers: layers.whole(&weights)?, base: base.to_owned(), ..read_config(folder)? };
    let stored = layers.stored;
    let result = model.with_adapters(lora, |_, spec| {
        let name = stored.get(&spec.name).map_or(spec.name.as_str(), String::as_str);
        let (shape, expected) = (tensors.shape(name)?, spec.stored_shape());
        if shape != expected {
            let problem = format!("has shape {shape:?}, `r` and the layer imply {expected:?}");
            return Err(ModelError::AdapterTensor { path: weights.clone(), name: name.to_owned(), problem });
        }
        accept_numbers(&weights, spec, tensors.read_f32(name)?)
    });
    result.map_err(|error| match error {
        ModelError::Lora { key, problem } => {
            ModelError::AdapterConfig { path: folder.join(CONFIG), key: key.to_owned(), problem }
        }
        other => other,
    })
}

/// Which layers of a model a file has adapters of.
struct Layers {
    /// Names of the layers that can have one.
    known: BTreeSet<String>,
    /// Name of a parameter to that in the file.
    stored: BTreeMap<String, String>,
}

impl Layers {
    fn of<B: Backend>(model: &Model<B>) -> Self {
        let known = model.arch().clone().linears_mut().map(|layer| layer.name.clone()).collect();
        Self { known, stored: BTreeMap::new() }
    }

    fn add(&mut self, file: &Path, name: &str) -> Result<()> {
        let wrong = |problem: &str| {
            let (path, name, problem) = (file.to_owned(), name.to_owned(), problem.to_owned());
            ModelError::AdapterTensor { path, name, problem }
        };
        let inner = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(".weight"));
        let Some((layer, part @ ("lora_A" | "lora_B"))) = inner.and_then(|name| name.rsplit_once('.')) else {
            return Err(wrong("is not lora_A or lora_B of a linear layer"));
        };
        let known = OPTIONAL_PREFIXES.iter().map(|prefix| format!("{prefix}{layer}")).chain([layer.to_owned()]);
        let layer = known.rev().find(|name| self.known.contains(name));
        let layer = layer.ok_or_else(|| wrong("is of a layer that the base model does not have"))?;
        self.stored.insert(format!("{layer}.{part}.weight"), name.to_owned());
        Ok(())
    }

    /// The layers; each must have A and B.
    fn whole(&self, file: &Path) -> Result<Vec<String>> {
        let layer_of = |name: &String| name.rsplitn(3, '.').nth(2).map(str::to_owned);
        let layers: BTreeSet<String> = self.stored.keys().filter_map(layer_of).collect();
        for layer in &layers {
            for name in ["lora_A", "lora_B"].map(|part| format!("{layer}.{part}.weight")) {
                if !self.stored.contains_key(&name) {
                    return Err(ModelError::MissingParameter { path: file.to_owned(), name });
                }
            }
        }
        if layers.is_empty() {
            let (path, name) = (file.to_owned(), format!("{PREFIX}….lora_A.weight"));
            return Err(ModelError::MissingParameter { path, name });
        }
        Ok(layers.into_iter().collect())
    }
}

impl<B: Backend> Model<B> {
    /// This model, which has none, with the adapters of a PEFT folder; what the folder says of its base does not count.
    ///
    /// # Errors
    /// As [`load_on`](crate::load_on).
    pub fn with_adapters_of(self, folder: &Path) -> Result<Self> {
        let base = read_config(folder)?.base;
        load_adapter(self, &base, folder)
    }
}

/// Writes the adapters of a model as PEFT reads them; the configuration last.
pub(crate) fn save_adapter<B: Backend>(model: &Model<B>, lora: &Lora, folder: &Path) -> Result<()> {
    let specs = model.trained_specs();
    let names: Vec<String> = specs.iter().map(|spec| format!("{PREFIX}{}", spec.name)).collect();
    let shapes: Vec<Vec<usize>> = specs.iter().map(ParamSpec::stored_shape).collect();
    let tensors: Vec<(&str, Dtype, &[usize])> =
        names.iter().zip(&shapes).map(|(name, shape)| (name.as_str(), Dtype::F32, shape.as_slice())).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut file = TensorWriter::create(&folder.join(WEIGHTS), &tensors, &metadata)?;
    let first = model.specs().len() - specs.len();
    for ((spec, name), tensor) in specs.iter().zip(&names).zip(model.params().iter().skip(first)) {
        file.write_f32(name, &spec.to_stored(model.backend().download(tensor).into_vec()))?;
    }
    file.finish()?;
    let is_decoder = matches!(model.config(), ModelConfig::Decoder(_));
    let transposed = model.specs().iter().any(|spec| spec.storage == Storage::Transposed);
    Ok(write_json_atomic(&folder.join(CONFIG), &lora.to_json(is_decoder, transposed))?)
}
