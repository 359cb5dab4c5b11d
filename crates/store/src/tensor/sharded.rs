//! The tensors of a model folder, in one file or many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use safetensors::Dtype;
use serde::Deserialize;

use super::file::TensorFile;
use crate::error::{Result, StoreError};
use crate::json::read_json;

/// The tensors of a folder: `model.safetensors`, or the files that `model.safetensors.index.json` names, each opened
/// when first needed.
#[derive(Debug)]
pub struct ShardedTensors {
    /// The file that lists the tensors.
    source: PathBuf,
    shards: Vec<Shard>,
    /// Tensor to shard.
    index: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: OnceLock<TensorFile>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl ShardedTensors {
    /// Opens the tensors of a folder (or of one safetensors file).
    ///
    /// # Errors
    /// When the folder has no tensors, its index is not understood, or a file that the index names is missing.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Self::single(path);
        }
        let (single, index) = (path.join("model.safetensors"), path.join("model.safetensors.index.json"));
        if single.exists() {
            Self::single(&single)
        } else if index.exists() {
            Self::indexed(path, index)
        } else {
            Err(StoreError::NoTensors { folder: path.to_owned() })
        }
    }

    fn single(path: &Path) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let index = file.names().map(|name| (name.to_owned(), 0)).collect();
        let shards = vec![Shard { path: path.to_owned(), file: OnceLock::from(file) }];
        Ok(Self { source: path.to_owned(), shards, index })
    }

    fn indexed(folder: &Path, source: PathBuf) -> Result<Self> {
        let weight_map = read_json::<Index>(&source)?.weight_map;
        let mut shards: Vec<Shard> = Vec::new();
        let mut positions = BTreeMap::new();
        let mut index = BTreeMap::new();
        for (tensor, file) in weight_map {
            let path = folder.join(&file);
            let shard = *positions.entry(file).or_insert(shards.len());
            if shard == shards.len() {
                if !path.exists() {
                    return Err(StoreError::MissingShard { index: source, shard: path, tensor });
                }
                shards.push(Shard { path, file: OnceLock::new() });
            }
            index.insert(tensor, shard);
        }
        Ok(Self { source, shards, index })
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// The files, in the order of their first tensor's name: what identifies the weights.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// The file that holds a tensor, opened.
    ///
    /// # Errors
    /// When there is no such tensor, or its file is truncated or corrupt.
    pub fn file_of(&self, name: &str) -> Result<&TensorFile> {
        let shard = self.index.get(name).and_then(|&i| self.shards.get(i));
        let missing = || StoreError::MissingTensor { path: self.source.clone(), tensor: name.to_owned() };
        let shard = shard.ok_or_else(missing)?;
        match shard.file.get() {
            Some(file) => Ok(file),
            None => {
                let file = TensorFile::open(&shard.path)?;
                Ok(shard.file.get_or_init(|| file))
            }
        }
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// As [`file_of`](Self::file_of).
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        self.file_of(name)?.shape(name)
    }

    /// The type of a tensor's elements.
    ///
    /// # Errors
    /// As [`file_of`](Self::file_of).
    pub fn dtype(&self, name: &str) -> Result<Dtype> {
        self.file_of(name)?.dtype(name)
    }

    /// As [`TensorFile::read_f32`].
    ///
    /// # Errors
    /// As [`file_of`](Self::file_of), and when the tensor is of another type.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        self.file_of(name)?.read_f32(name)
    }

    /// As [`TensorFile::read_f64`].
    ///
    /// # Errors
    /// As [`file_of`](Self::file_of), and when the tensor is of another type.
    pub fn read_f64(&self, name: &str) -> Result<Vec<f64>> {
        self.file_of(name)?.read_f64(name)
    }
}
