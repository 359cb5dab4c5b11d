//! What can be wrong with a GGUF file.

use std::io;
use std::path::PathBuf;

/// Why a GGUF file cannot be used as a model. Every message names the file; those about one tensor or one metadata key
/// name it too.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be opened or read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The GGUF file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The header, the metadata or the tensor table is not valid GGUF (wrong magic, truncated, corrupt counts).
    #[error("{}: not a readable GGUF file: {source}; download or convert it again", path.display())]
    Format {
        /// The GGUF file.
        path: PathBuf,
        /// What the reader found.
        source: Box<anamnesis::AnamnesisError>,
    },
    /// The file is one part of several.
    #[error("{}: is one of {parts} parts; join them first with llama.cpp's `llama-gguf-split --merge`", path.display())]
    Split {
        /// The GGUF file.
        path: PathBuf,
        /// Number of parts the model was split into.
        parts: u64,
    },
    /// A metadata key that the model needs is absent.
    #[error("{}: the metadata has no `{key}`; convert the model again with a current llama.cpp", path.display())]
    MissingKey {
        /// The GGUF file.
        path: PathBuf,
        /// The absent key.
        key: String,
    },
    /// A metadata key holds what this reader does not support, or a value of the wrong type.
    #[error("{}: metadata `{key}` is {found}; supported: {expected}; use the model's Hugging Face folder instead", path.display())]
    Value {
        /// The GGUF file.
        path: PathBuf,
        /// The metadata key.
        key: String,
        /// Its value (or type) in the file.
        found: String,
        /// What is supported there.
        expected: String,
    },
    /// A tensor is stored in a type that cannot be decoded to f32.
    #[error(
        "{}: tensor `{tensor}` has type {found}, which cannot be decoded; quantize the model again to \
         F16, Q8_0, Q4_0 or a K-quant, or use its Hugging Face folder", path.display()
    )]
    TensorType {
        /// The GGUF file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// Its ggml type: a name, or the number of an unknown one.
        found: String,
    },
    /// A tensor whose role in the model is unknown: reading the rest would give another model.
    #[error(
        "{}: tensor `{tensor}` has no place in a {architecture} model of {layers} layers; \
         use the model's Hugging Face folder instead", path.display()
    )]
    UnknownTensor {
        /// The GGUF file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// `general.architecture`.
        architecture: String,
        /// `block_count`.
        layers: u64,
    },
    /// Two entries of the tensor table have one name.
    #[error("{}: tensor `{tensor}` is listed twice; convert the model again", path.display())]
    DuplicateTensor {
        /// The GGUF file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
    },
    /// A tensor that the model needs, or that was asked for, is absent.
    #[error("{}: there is no tensor `{tensor}`; convert the model again, or check the name", path.display())]
    MissingTensor {
        /// The GGUF file.
        path: PathBuf,
        /// The tensor's name: Hugging Face's if it was asked for by that, else the file's.
        tensor: String,
    },
    /// A tensor's shape contradicts the metadata.
    #[error("{}: tensor `{tensor}` has shape {shape:?}, expected {expected}; convert the model again", path.display())]
    Shape {
        /// The GGUF file.
        path: PathBuf,
        /// The tensor's Hugging Face name.
        tensor: String,
        /// Its shape in the file, rows first.
        shape: Vec<usize>,
        /// What the metadata ask for.
        expected: String,
    },
    /// A tensor's blocks do not decode.
    #[error("{}: tensor `{tensor}` cannot be decoded: {source}; download or convert the file again", path.display())]
    Decode {
        /// The GGUF file.
        path: PathBuf,
        /// The tensor's Hugging Face name.
        tensor: String,
        /// What the decoder found.
        source: Box<anamnesis::AnamnesisError>,
    },
    /// The tokenizer in the metadata is of a kind that cannot be rebuilt here.
    #[error(
        "{}: `{key}` is `{found}`, and only {supported} can be rebuilt from GGUF metadata; \
         put the model's tokenizer.json beside the file", path.display()
    )]
    Tokenizer {
        /// The GGUF file.
        path: PathBuf,
        /// The metadata key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The values that are supported.
        supported: String,
    },
    /// The tokenizer's tables contradict each other.
    #[error("{}: `{key}`[{index}]: {problem}; put the model's tokenizer.json beside the file", path.display())]
    TokenizerTable {
        /// The GGUF file.
        path: PathBuf,
        /// The metadata key of the table.
        key: &'static str,
        /// Row of the table.
        index: usize,
        /// What is wrong with the row.
        problem: String,
    },
}
