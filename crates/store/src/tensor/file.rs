//! Reading one safetensors file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::header::{self, Header, n_elements};
use super::map::Map;
use crate::error::{Result, StoreError};

/// A safetensors file, memory-mapped: opening reads the header, reading a tensor touches its bytes only.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Map,
    header: Header,
    /// Name to position in the header.
    index: BTreeMap<String, usize>,
}

impl TensorFile {
    /// Opens a file and checks that its header is sound and its data complete.
    ///
    /// # Errors
    /// When the file is missing, truncated or corrupt; the error names the file and the tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Map::open(path).map_err(|e| StoreError::io("reading", path, e))?;
        let header = header::parse(path, &map)?;
        let index = header.tensors.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        Ok(Self { path: path.to_owned(), map, header, index })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors, in the order of their data.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// The free-form text of the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.info(name)?.shape)
    }

    /// The type of a tensor's elements.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn dtype(&self, name: &str) -> Result<Dtype> {
        Ok(self.info(name)?.dtype)
    }

    /// A tensor of F32, F16, BF16 or F64 as f32, row-major.
    ///
    /// # Errors
    /// When there is no such tensor, or it is of another type.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.info(name)?;
        to_f32(info.dtype, self.bytes(name)?).ok_or_else(|| self.wrong_type(name, info, "f32"))
    }

    /// Elements `range` of a tensor, flat in row-major order, as f32: for tensors larger than memory.
    ///
    /// # Errors
    /// When there is no such tensor, it is shorter, or it is of another type than [`read_f32`](Self::read_f32) takes.
    pub fn read_f32_range(&self, name: &str, range: Range<usize>) -> Result<Vec<f32>> {
        let info = self.info(name)?;
        let bits = info.dtype.bitsize();
        let inside = range.start <= range.end && n_elements(&info.shape).is_some_and(|n| range.end <= n);
        let bytes = self.bytes(name)?;
        let part = if inside { bytes.get(range.start * bits / 8..range.end * bits / 8) } else { None };
        let part = part.ok_or_else(|| StoreError::TensorRange {
            path: self.path.clone(),
            tensor: name.to_owned(),
            start: range.start,
            end: range.end,
            len: n_elements(&info.shape).unwrap_or(0),
        })?;
        to_f32(info.dtype, part).ok_or_else(|| self.wrong_type(name, info, "f32"))
    }

    /// A tensor of F32, F16, BF16 or F64 as f64, row-major.
    ///
    /// # Errors
    /// When there is no such tensor, or it is of another type.
    pub fn read_f64(&self, name: &str) -> Result<Vec<f64>> {
        let info = self.info(name)?;
        let bytes = self.bytes(name)?;
        match info.dtype {
            Dtype::F64 => Ok(map(bytes, f64::from_le_bytes)),
            Dtype::F32 => Ok(map(bytes, |b| f64::from(f32::from_le_bytes(b)))),
            Dtype::F16 => Ok(map(bytes, |b| f16::from_le_bytes(b).to_f64())),
            Dtype::BF16 => Ok(map(bytes, |b| bf16::from_le_bytes(b).to_f64())),
            _ => Err(self.wrong_type(name, info, "f64")),
        }
    }

    /// A tensor of I64, I32, U32 or U8 as i64, row-major.
    ///
    /// # Errors
    /// When there is no such tensor, or it is of another type.
    pub fn read_i64(&self, name: &str) -> Result<Vec<i64>> {
        let info = self.info(name)?;
        let bytes = self.bytes(name)?;
        match info.dtype {
            Dtype::I64 => Ok(map(bytes, i64::from_le_bytes)),
            Dtype::I32 => Ok(map(bytes, |b| i64::from(i32::from_le_bytes(b)))),
            Dtype::U32 => Ok(map(bytes, |b| i64::from(u32::from_le_bytes(b)))),
            Dtype::U8 => Ok(bytes.iter().map(|&b| i64::from(b)).collect()),
            _ => Err(self.wrong_type(name, info, "i64")),
        }
    }

    /// A tensor's bytes as they are in the file: little-endian, row-major, not aligned.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        let (begin, end) = self.info(name)?.data_offsets;
        let data = self.map.get(self.header.data_start..).unwrap_or_default();
        data.get(begin..end).ok_or_else(|| self.missing(name))
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        let entry = self.index.get(name).and_then(|&i| self.header.tensors.get(i));
        entry.map(|(_, info)| info).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> StoreError {
        StoreError::MissingTensor { path: self.path.clone(), tensor: name.to_owned() }
    }

    fn wrong_type(&self, name: &str, info: &TensorInfo, wanted: &'static str) -> StoreError {
        StoreError::TensorType { path: self.path.clone(), tensor: name.to_owned(), dtype: info.dtype, wanted }
    }
}

fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => map(bytes, f32::from_le_bytes),
        Dtype::F16 => map(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => map(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => map(bytes, |b| f64::from_le_bytes(b) as f32),
        _ => return None,
    })
}

fn map<const N: usize, T>(bytes: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| element(b)).collect()
}
