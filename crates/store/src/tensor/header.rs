//! The header of a safetensors file, checked: <https://huggingface.co/docs/safetensors>, section "Format".
//!
//! The library's own reader accepts the same files (a test holds the two together) but does not say which tensor is wrong.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};

use crate::error::{Result, StoreError};

/// The key of the header that is no tensor.
pub(super) const METADATA: &str = "__metadata__";

/// The longest header the library reads.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Debug)]
pub(super) struct Header {
    /// In the order of the data.
    pub(super) tensors: Vec<(String, TensorInfo)>,
    pub(super) metadata: BTreeMap<String, String>,
    /// Where the data begins in the file.
    pub(super) data_start: usize,
}

/// Reads and checks the header of a whole file.
pub(super) fn parse(path: &Path, file: &[u8]) -> Result<Header> {
    let got = file.len() as u64;
    let truncated = |expected| StoreError::HeaderTruncated { path: path.to_owned(), expected, got };
    let (length, rest) = file.split_first_chunk::<8>().ok_or_else(|| truncated(8))?;
    let bytes = u64::from_le_bytes(*length);
    if bytes > MAX_HEADER {
        return Err(StoreError::HeaderTooLarge { path: path.to_owned(), bytes });
    }
    let text = rest.get(..bytes as usize).ok_or_else(|| truncated(bytes + 8))?;
    let corrupt = |source| StoreError::HeaderJson { path: path.to_owned(), source };
    let mut entries: Map<String, Value> = serde_json::from_slice(text).map_err(corrupt)?;
    let metadata: Option<BTreeMap<String, String>> = match entries.shift_remove(METADATA) {
        Some(value) => serde_json::from_value(value).map_err(corrupt)?,
        None => None,
    };

    let mut tensors = Vec::with_capacity(entries.len());
    for (tensor, value) in entries {
        match serde_json::from_value::<TensorInfo>(value) {
            Ok(info) => tensors.push((tensor, info)),
            Err(source) => return Err(StoreError::TensorEntry { path: path.to_owned(), tensor, source }),
        }
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let header =
        Header { tensors, metadata: metadata.unwrap_or_default(), data_start: size_of::<u64>() + bytes as usize };
    header.check(path, got)?;
    Ok(header)
}

impl Header {
    /// The tensors must fill the rest of the file exactly, one after the other.
    fn check(&self, path: &Path, got: u64) -> Result<()> {
        let mut expected = 0;
        for (tensor, info) in &self.tensors {
            let (begin, end) = info.data_offsets;
            let (path, tensor) = (path.to_owned(), tensor.clone());
            if begin != expected || end < begin {
                return Err(StoreError::TensorOffsets { path, tensor, begin, end, expected });
            }
            let bytes = end - begin;
            if byte_len(info) != Some(bytes) {
                return Err(StoreError::TensorSize {
                    path,
                    tensor,
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    bytes,
                });
            }
            expected = end;
        }

        let start = self.data_start as u64;
        let whole = start.saturating_add(expected as u64);
        let cut = self.tensors.iter().find(|(_, info)| start.saturating_add(info.data_offsets.1 as u64) > got);
        match cut {
            Some((tensor, _)) => {
                Err(StoreError::DataTruncated { path: path.to_owned(), tensor: tensor.clone(), expected: whole, got })
            }
            None if whole != got => Err(StoreError::TrailingBytes { path: path.to_owned(), expected: whole, got }),
            None => Ok(()),
        }
    }
}

/// The number of elements of a shape, unless it overflows.
pub(super) fn n_elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// The bytes of a tensor, unless they overflow or are not whole.
fn byte_len(info: &TensorInfo) -> Option<usize> {
    let bits = n_elements(&info.shape)?.checked_mul(info.dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}
