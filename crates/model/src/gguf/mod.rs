//! GGUF files of the Llama family, read as if they were a Hugging Face folder.
//!
//! [`GgufModel`] gives the three things that a folder gives: [`config`](GgufModel::config) is config.json,
//! [`tensor_names`](GgufModel::tensor_names) and [`read_f32`](GgufModel::read_f32) are the safetensors (dequantized, in
//! Hugging Face's names and row order), [`tokenizer_json`](GgufModel::tokenizer_json) is tokenizer.json. The file format
//! and the block types come from the crate `anamnesis`; what is here is the mapping. Files of version 2 and 3 of
//! architecture llama (Llama, Mistral, SmolLM), mistral and qwen2 are read, of all block types of ggml but NVFP4.
//!
//! Sources: the GGUF specification (ggml/docs/gguf.md) and llama.cpp's `convert_hf_to_gguf.py`, undone.

mod config;
mod error;
mod metadata;
mod names;
mod rope;
mod scan;
mod tokenizer;
mod weights;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anamnesis::parse::gguf::{GgufFrontMatter, GgufTensorInfo};
use anamnesis::{AnamnesisError, parse_gguf_front_matter_from_reader};
use serde_json::Value;

use config::{Facts, Sizes};
pub use error::GgufError;
use metadata::Metadata;
use names::{Role, Rows};

/// A model in a GGUF file. Opening reads the header only; tensors are read one at a time, when asked for.
#[derive(Debug)]
pub struct GgufModel {
    metadata: Metadata,
    sizes: Sizes,
    config: Value,
    tensors: BTreeMap<String, Tensor>,
}

/// A parameter: where it is in the file and the order of its rows there.
#[derive(Debug)]
struct Tensor {
    info: GgufTensorInfo,
    rows: Rows,
}

impl GgufModel {
    /// Reads the header, metadata and tensor table of the GGUF file at `path`.
    ///
    /// # Errors
    /// A file that is not GGUF, truncated or corrupt; an architecture, a variant of it, a tensor or a storage type that
    /// is not supported. Counts in the file are checked against its length before anything is allocated for them.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        let path = path.as_ref();
        let GgufFrontMatter { metadata, tensor_infos, .. } = front_matter(path)?;
        let metadata = Metadata::new(path, metadata);
        if let Some(parts) = metadata.integer("split.count")?.filter(|&n| n > 1) {
            return Err(GgufError::Split { path: path.to_path_buf(), parts });
        }
        let sizes = Sizes::read(&metadata)?;
        let (tensors, rope_factors) = sort_out(tensor_infos, &sizes, &metadata)?;
        let embedding = "model.embed_tokens.weight";
        let vocab = match tensors.get(embedding) {
            Some(tensor) => shape_of(&tensor.info).first().copied().unwrap_or(0),
            None => return Err(missing(path, "token_embd.weight")),
        };
        let facts = Facts {
            vocab,
            tied: !tensors.contains_key("lm_head.weight"),
            attention_bias: has_bias(&tensors, ".self_attn."),
            mlp_bias: has_bias(&tensors, ".mlp."),
            rope_factors,
        };
        let config = config::build(&metadata, &sizes, &facts)?;
        Ok(Self { metadata, sizes, config, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.metadata.path
    }

    /// The equivalent of the model's Hugging Face `config.json`.
    pub fn config(&self) -> Value {
        self.config.clone()
    }

    /// Names of all parameters as in a Hugging Face checkpoint, in alphabetical order.
    pub fn tensor_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a parameter, rows first as in a Hugging Face checkpoint, without reading its values.
    ///
    /// # Errors
    /// A name that is not among [`tensor_names`](Self::tensor_names).
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, GgufError> {
        Ok(shape_of(&self.tensor(name)?.info))
    }

    /// The shape and the values, row by row, of the parameter with Hugging Face name `name`.
    ///
    /// Blocks are decoded to f32 as ggml's reference does. Query and key rows of llama files, which llama.cpp
    /// interleaves per head, are put back in order.
    ///
    /// # Errors
    /// A name that is not among [`tensor_names`](Self::tensor_names), a file that cannot be read (or has been cut since
    /// it was opened), a query or key projection whose rows are not the heads of the metadata.
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), GgufError> {
        let Tensor { info, rows } = self.tensor(name)?;
        let values = read_values(&self.metadata.path, name, info)?;
        let shape = shape_of(info);
        let heads = match rows {
            Rows::Query if self.sizes.interleaves() => self.sizes.heads,
            Rows::Key if self.sizes.interleaves() => self.sizes.kv_heads,
            _ => return Ok((shape, values)),
        };
        let (height, width) = (shape.first().copied().unwrap_or(0), shape.get(1..).unwrap_or(&[]).iter().product());
        let expected = heads.checked_mul(self.sizes.head_dim).filter(|_| self.sizes.head_dim.is_multiple_of(2));
        if expected != Some(height as u64) {
            return Err(GgufError::Shape {
                path: self.metadata.path.clone(),
                tensor: name.to_owned(),
                shape,
                expected: format!("{heads} heads of {} rows, an even number", self.sizes.head_dim),
            });
        }
        let (heads, half) = (heads as usize, (self.sizes.head_dim / 2) as usize);
        Ok((shape, weights::undo_interleaving(&values, heads, half, width)))
    }

    /// A Hugging Face `tokenizer.json` of the tokenizer in the metadata.
    ///
    /// Byte-pair encodings (`tokenizer.ggml.model` = gpt2) are rebuilt for the `tokenizer.ggml.pre` that
    /// [`GgufError::Tokenizer`] lists; a `tokenizer.huggingface.json` in the metadata is returned as it is.
    ///
    /// # Errors
    /// Another kind of tokenizer, and tables that contradict each other.
    pub fn tokenizer_json(&self) -> Result<String, GgufError> {
        match self.metadata.text("tokenizer.huggingface.json")? {
            Some(text) => Ok(text.to_owned()),
            None => tokenizer::build(&self.metadata).map(|json| json.to_string()),
        }
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, GgufError> {
        self.tensors.get(name).ok_or_else(|| missing(&self.metadata.path, name))
    }
}

/// Header, metadata and tensor table. Byte ranges of all tensors lie inside the file.
fn front_matter(path: &Path) -> Result<GgufFrontMatter, GgufError> {
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    parse_gguf_front_matter_from_reader(&file).map_err(|source| {
        if matches!(source, AnamnesisError::Unsupported { .. })
            && let Some((tensor, number)) = scan::unknown_type(&file)
        {
            return GgufError::TensorType { path: path.to_path_buf(), tensor, found: format!("number {number}") };
        }
        GgufError::Format { path: path.to_path_buf(), source: Box::new(source) }
    })
}

/// Parameters by Hugging Face name, and the rotary divisors.
type SortedOut = (BTreeMap<String, Tensor>, Option<Vec<f32>>);

fn sort_out(infos: Vec<GgufTensorInfo>, sizes: &Sizes, metadata: &Metadata) -> Result<SortedOut, GgufError> {
    let path = &metadata.path;
    let mut tensors = BTreeMap::new();
    let mut rope_factors = None;
    for info in infos {
        if !weights::decodes(info.dtype) {
            let found = info.dtype.to_string();
            return Err(GgufError::TensorType { path: path.clone(), tensor: info.name, found });
        }
        match sizes.role(metadata, &info.name)? {
            Role::Parameter { name, rows } => {
                let tensor = info.name.clone();
                if tensors.insert(name, Tensor { info, rows }).is_some() {
                    return Err(GgufError::DuplicateTensor { path: path.clone(), tensor });
                }
            }
            Role::RopeFactors => rope_factors = Some(read_values(path, "rope_freqs.weight", &info)?),
            Role::Unused => {}
        }
    }
    Ok((tensors, rope_factors))
}

fn has_bias(tensors: &BTreeMap<String, Tensor>, part: &str) -> bool {
    tensors.keys().any(|name| name.ends_with(".bias") && name.contains(part))
}

fn read_values(path: &Path, name: &str, info: &GgufTensorInfo) -> Result<Vec<f32>, GgufError> {
    let decode_error = |source| GgufError::Decode { path: path.to_path_buf(), tensor: name.to_owned(), source };
    let n: usize = info.shape.iter().product();
    let bytes = read_bytes(path, info).map_err(|source| read_error(path, source))?;
    weights::decode(&bytes, info.dtype, n).map_err(|source| decode_error(Box::new(source)))
}

/// The tensor's bytes. The file is opened anew, so that threads may read at the same time.
fn read_bytes(path: &Path, info: &GgufTensorInfo) -> io::Result<Vec<u8>> {
    let length = info.byte_len.unwrap_or(0);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(info.data_offset))?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?);
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// ggml lists the fastest axis first.
fn shape_of(info: &GgufTensorInfo) -> Vec<usize> {
    info.shape.iter().rev().copied().collect()
}

fn read_error(path: &Path, source: io::Error) -> GgufError {
    GgufError::Read { path: PathBuf::from(path), source }
}

fn missing(path: &Path, tensor: &str) -> GgufError {
    GgufError::MissingTensor { path: path.to_path_buf(), tensor: tensor.to_owned() }
}
