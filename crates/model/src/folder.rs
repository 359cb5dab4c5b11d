//! Models on disk: Hugging Face folders, MLP folders, GGUF files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etymon_store::{Dtype, ShardedTensors, TensorWriter, read_json, write_atomic, write_json_atomic};
use etymon_tensor::Backend;
use serde_json::Value;

use crate::adapter::{adapter_base, adapter_files, is_adapter, load_adapter, save_adapter};
use crate::gguf::GgufModel;
use crate::params::{ParamSpec, Storage};
use crate::{Model, ModelError, Result};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZER: &str = "tokenizer.json";

/// Prefixes that some published folders leave away (`h.0…` for `transformer.h.0…`).
pub(crate) const OPTIONAL_PREFIXES: [&str; 3] = ["transformer.", "gpt_neox.", "model."];

/// Reads a model from a folder (config.json and safetensors, in one file or several), a `.gguf` file, or a PEFT folder of
/// LoRA adapters, whose base is found by `base_model_name_or_path`, relative to the folder. Weights of type f16 and bf16
/// are widened.
///
/// # Errors
/// Missing or broken files, an unknown architecture, parameters that are missing, have another shape than config.json
/// implies, or hold NaN or infinity. Each error names the file and the parameter.
pub fn load<B: Backend>(backend: B, path: &Path) -> Result<Model<B>> {
    match adapter_base(path)? {
        Some(base) => load_on(backend, path, &base),
        None => load_plain(backend, path),
    }
}

/// Reads a PEFT folder of LoRA adapters on another `base` than it names.
///
/// # Errors
/// As [`load`], and features of PEFT that etymon does not compute, by file and key.
pub fn load_on<B: Backend>(backend: B, adapter: &Path, base: &Path) -> Result<Model<B>> {
    let model = load_plain(backend, base)?;
    load_adapter(model, &base.canonicalize().unwrap_or_else(|_| base.to_owned()), adapter)
}

fn load_plain<B: Backend>(backend: B, path: &Path) -> Result<Model<B>> {
    if is_gguf(path) {
        let file = GgufModel::open(path)?;
        return Model::with_params(backend, file.config(), |_, spec| {
            let (shape, data) = file.read_f32(&spec.name)?;
            accept(path, spec, &shape, data)
        });
    }
    require_folder(path)?;
    let json: Value = read_json(&path.join(CONFIG))?;
    // An unknown architecture is said before any weight is looked for.
    crate::ModelConfig::from_json(&json)?;
    let tensors = ShardedTensors::open(path)?;
    Model::with_params(backend, json, |_, spec| {
        let name = stored_name(&tensors, spec)
            .ok_or_else(|| ModelError::MissingParameter { path: path.to_owned(), name: spec.name.clone() })?;
        let shape = tensors.shape(name)?.to_vec();
        accept(tensors.file_of(name)?.path(), spec, &shape, tensors.read_f32(name)?)
    })
}

/// Writes config.json, model.safetensors (f32) and, if given, tokenizer.json, as `transformers` reads them. Of a model with
/// adapters it writes these alone, as PEFT reads them.
///
/// # Errors
/// What the disk refuses.
pub fn save<B: Backend>(model: &Model<B>, folder: &Path, tokenizer_json: Option<&str>) -> Result<()> {
    if let Some(text) = tokenizer_json {
        write_atomic(&folder.join(TOKENIZER), |to| to.write_all(text.as_bytes()))?;
    }
    // The configuration comes last: a folder that has one is whole.
    if let Some(lora) = model.lora() {
        return save_adapter(model, lora, folder);
    }
    let shapes: Vec<Vec<usize>> = model.specs().iter().map(ParamSpec::stored_shape).collect();
    let tensors: Vec<(&str, Dtype, &[usize])> =
        model.specs().iter().zip(&shapes).map(|(s, shape)| (s.name.as_str(), Dtype::F32, shape.as_slice())).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut file = TensorWriter::create(&folder.join(WEIGHTS), &tensors, &metadata)?;
    for (spec, tensor) in model.specs().iter().zip(model.params().iter()) {
        file.write_f32(&spec.name, &spec.to_stored(model.backend().download(tensor).into_vec()))?;
    }
    file.finish()?;
    let mut json = model.json().clone();
    if let Some(fields) = json.as_object_mut() {
        fields.remove("torch_dtype");
        if fields.contains_key("dtype") {
            fields.insert("dtype".to_owned(), Value::from("float32"));
        }
    }
    Ok(write_json_atomic(&folder.join(CONFIG), &json)?)
}

/// Where the tokenizer of a model lies as a file: in its folder, or beside a GGUF file (which may hold its own instead).
pub fn tokenizer_file(path: &Path) -> PathBuf {
    if is_gguf(path) { path.with_file_name(TOKENIZER) } else { path.join(TOKENIZER) }
}

/// The tokenizer that comes with a model: `tokenizer.json` of its folder (or beside a GGUF file), or the one in the
/// GGUF's metadata. `None` when there is none. Adapters
/// without one have that of their base.
///
/// # Errors
/// A file that cannot be read, and a GGUF tokenizer of a kind that etymon does not know.
pub fn tokenizer_json(path: &Path) -> Result<Option<String>> {
    let file = tokenizer_file(path);
    if file.exists() {
        let json: Value = read_json(&file)?;
        return Ok(Some(json.to_string()));
    }
    if let Some(base) = adapter_base(path)? {
        return tokenizer_json(&base);
    }
    if is_gguf(path) { Ok(Some(GgufModel::open(path)?.tokenizer_json()?)) } else { Ok(None) }
}

/// The files that make a model what it is, for fingerprints: config and weights, or the GGUF file. Of an adapter folder
/// its own, not those of its base.
///
/// # Errors
/// A path without a model.
pub fn model_files(path: &Path) -> Result<Vec<PathBuf>> {
    if is_gguf(path) {
        return Ok(vec![path.to_owned()]);
    }
    if is_adapter(path) {
        return Ok(adapter_files(path));
    }
    require_folder(path)?;
    let mut files = vec![path.join(CONFIG)];
    files.extend(ShardedTensors::open(path)?.files().map(Path::to_owned));
    Ok(files)
}

fn is_gguf(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
}

fn require_folder(path: &Path) -> Result<()> {
    let weights = [WEIGHTS, INDEX].iter().any(|file| path.join(file).exists());
    if path.join(CONFIG).exists() && weights {
        return Ok(());
    }
    Err(ModelError::NotAModel { path: path.to_owned() })
}

/// The name of a parameter in the files: its own, or without the outer prefix.
fn stored_name<'a>(tensors: &ShardedTensors, spec: &'a ParamSpec) -> Option<&'a str> {
    let short = OPTIONAL_PREFIXES.iter().find_map(|prefix| spec.name.strip_prefix(prefix));
    std::iter::once(spec.name.as_str()).chain(short).find(|name| tensors.contains(name))
}

/// Checks shape and values as stored, and brings the numbers into the model's layout.
fn accept(path: &Path, spec: &ParamSpec, shape: &[usize], data: Vec<f32>) -> Result<Vec<f32>> {
    let expected = spec.stored_shape();
    let as_matrix = matches!(spec.storage, Storage::Kernel { .. }) && shape == [spec.shape.rows, spec.shape.cols];
    if shape != expected && !as_matrix {
        let (path, name) = (path.to_owned(), spec.name.clone());
        return Err(ModelError::ParameterShape { path, name, expected, got: shape.to_vec() });
    }
    accept_numbers(path, spec, data)
}

/// As [`accept`], of a known shape.
pub(crate) fn accept_numbers(path: &Path, spec: &ParamSpec, data: Vec<f32>) -> Result<Vec<f32>> {
    let mut bad = data.iter().enumerate().filter(|(_, x)| !x.is_finite());
    if let Some((first, _)) = bad.next() {
        let (path, name, count) = (path.to_owned(), spec.name.clone(), bad.count() + 1);
        return Err(ModelError::NotFinite { path, name, count, first });
    }
    Ok(spec.from_stored(data))
}
