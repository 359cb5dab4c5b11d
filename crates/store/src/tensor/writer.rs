//! Writing one safetensors file, tensor by tensor.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::json;

use super::file::TensorFile;
use super::header::{METADATA, n_elements};
use crate::atomic::AtomicFile;
use crate::error::{Result, StoreError};

/// Elements converted at a time.
const CHUNK: usize = 1 << 14;

/// A safetensors file in the making: the header is written from the declared names, types and shapes, the tensors follow
/// in any order and in as many pieces as suits the caller, so no more than one piece is in memory.
#[derive(Debug)]
pub struct TensorWriter {
    file: AtomicFile,
    /// Where the file's cursor is.
    position: u64,
    slots: BTreeMap<String, Slot>,
}

#[derive(Debug)]
struct Slot {
    dtype: Dtype,
    /// The first byte, in the file.
    offset: u64,
    declared: usize,
    written: usize,
}

impl TensorWriter {
    /// Starts a file of the tensors `(name, type, shape)` with free-form `metadata`.
    /// Types are F64, F32, F16, BF16 and I64; the widest are laid out first, so that all are aligned.
    ///
    /// # Errors
    /// When a name occurs twice, a type cannot be written, or the file cannot be created.
    pub fn create(
        path: &Path,
        tensors: &[(&str, Dtype, &[usize])],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut layout: Vec<_> = tensors.iter().collect();
        layout.sort_by_key(|(_, dtype, _)| std::cmp::Reverse(dtype.bitsize()));
        let mut slots = BTreeMap::new();
        let mut infos = Vec::with_capacity(layout.len());
        let mut end = 0usize;
        for &&(name, dtype, shape) in &layout {
            let (at, tensor) = (path.to_owned(), name.to_owned());
            if !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::I64) {
                return Err(StoreError::TensorType { path: at, tensor, dtype, wanted: "a type to write" });
            }
            let declared = n_elements(shape);
            let next = declared.and_then(|n| n.checked_mul(dtype.bitsize() / 8)).and_then(|b| end.checked_add(b));
            let (Some(declared), Some(next)) = (declared, next) else {
                return Err(StoreError::TensorSize {
                    path: at,
                    tensor,
                    dtype,
                    shape: shape.to_vec(),
                    bytes: usize::MAX,
                });
            };
            let slot = Slot { dtype, offset: end as u64, declared, written: 0 };
            if slots.insert(tensor, slot).is_some() || name == METADATA {
                return Err(StoreError::DuplicateTensor { path: at, tensor: name.to_owned() });
            }
            infos.push((name, TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (end, next) }));
            end = next;
        }

        let header = encode_header(path, &infos, metadata)?;
        for slot in slots.values_mut() {
            slot.offset += header.len() as u64;
        }
        let mut file = AtomicFile::create(path)?;
        file.write_all(&header).map_err(|e| StoreError::io("writing", path, e))?;
        Ok(Self { file, position: header.len() as u64, slots })
    }

    /// Appends to a tensor of type F64, F32, F16 or BF16; `values` are rounded to its type.
    ///
    /// # Errors
    /// When there is no such tensor, it is of type I64, gets too many elements, a finite value becomes infinite, or the
    /// disk is full.
    pub fn write_f32(&mut self, name: &str, values: &[f32]) -> Result<()> {
        self.write(name, values, "f32")
    }

    /// Appends to a tensor of type F64, F32, F16 or BF16; `values` are rounded to its type (to F16 and BF16 after cutting
    /// them to 20 bits of mantissa, so a value that close to the middle of two may go to the other one).
    ///
    /// # Errors
    /// As [`write_f32`](Self::write_f32).
    pub fn write_f64(&mut self, name: &str, values: &[f64]) -> Result<()> {
        self.write(name, values, "f64")
    }

    /// Appends to a tensor of type I64.
    ///
    /// # Errors
    /// When there is no such tensor, it is of another type, gets too many elements, or the disk is full.
    pub fn write_i64(&mut self, name: &str, values: &[i64]) -> Result<()> {
        self.write(name, values, "i64")
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When a tensor is not complete, or the disk refuses.
    pub fn finish(self) -> Result<()> {
        for (tensor, slot) in &self.slots {
            if slot.written != slot.declared {
                return Err(length_error(self.file.path(), tensor, slot, slot.written));
            }
        }
        self.file.commit()
    }

    /// Copies a whole tensor of another file.
    ///
    /// # Errors
    /// When either file has no such tensor, its type or size differs, or the disk is full.
    pub fn copy(&mut self, name: &str, from: &TensorFile) -> Result<()> {
        let (bytes, dtype) = (from.bytes(name)?, from.dtype(name)?);
        let path = self.file.path().to_owned();
        let n = bytes.len() / (dtype.bitsize() / 8).max(1);
        let slot = self.seek(name, n)?;
        if slot.dtype != dtype {
            let (tensor, dtype) = (name.to_owned(), slot.dtype);
            return Err(StoreError::TensorType { path, tensor, dtype, wanted: "the type of what is copied" });
        }
        slot.written += n;
        self.file.write_all(bytes).map_err(|e| StoreError::io("writing", &path, e))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Goes to the place of the next `n` elements of a tensor.
    fn seek(&mut self, name: &str, n: usize) -> Result<&mut Slot> {
        let path = self.file.path();
        let Some(slot) = self.slots.get_mut(name) else {
            return Err(StoreError::MissingTensor { path: path.to_owned(), tensor: name.to_owned() });
        };
        if n > slot.declared - slot.written {
            return Err(length_error(path, name, slot, slot.written + n));
        }
        let at = slot.offset + (slot.written * (slot.dtype.bitsize() / 8)) as u64;
        if at != self.position {
            let path = path.to_owned();
            self.file.seek(SeekFrom::Start(at)).map_err(|e| StoreError::io("writing", &path, e))?;
            self.position = at;
        }
        Ok(slot)
    }

    fn write<T: Element>(&mut self, name: &str, values: &[T], wanted: &'static str) -> Result<()> {
        let path = self.file.path().to_owned();
        self.seek(name, values.len())?;
        let Some(slot) = self.slots.get_mut(name) else {
            return Err(StoreError::MissingTensor { path, tensor: name.to_owned() });
        };
        let width = slot.dtype.bitsize() / 8;
        let mut bytes = Vec::with_capacity(values.len().min(CHUNK) * width);
        for chunk in values.chunks(CHUNK) {
            bytes.clear();
            for (i, &value) in chunk.iter().enumerate() {
                match value.encode(slot.dtype, &mut bytes) {
                    Encoded::Done => {}
                    Encoded::WrongType => {
                        return Err(StoreError::TensorType {
                            path,
                            tensor: name.to_owned(),
                            dtype: slot.dtype,
                            wanted,
                        });
                    }
                    Encoded::Overflow(value) => {
                        let (tensor, index, dtype) = (name.to_owned(), slot.written + i, slot.dtype);
                        return Err(StoreError::TensorOverflow { path, tensor, index, value, dtype });
                    }
                }
            }
            self.file.write_all(&bytes).map_err(|e| StoreError::io("writing", &path, e))?;
            self.position += bytes.len() as u64;
            slot.written += chunk.len();
        }
        Ok(())
    }
}

fn length_error(path: &Path, tensor: &str, slot: &Slot, written: usize) -> StoreError {
    StoreError::TensorLength { path: path.to_owned(), tensor: tensor.to_owned(), declared: slot.declared, written }
}

/// The length and the JSON of the header, padded with spaces so that the data is aligned.
fn encode_header(path: &Path, infos: &[(&str, TensorInfo)], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.to_owned(), json!(metadata));
    }
    for (name, info) in infos {
        header.insert((*name).to_owned(), json!(info));
    }
    let header = serde_json::to_vec(&header);
    let mut text = header.map_err(|source| StoreError::HeaderJson { path: path.to_owned(), source })?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    Ok(bytes)
}

enum Encoded {
    Done,
    WrongType,
    Overflow(f64),
}

trait Element: Copy {
    fn encode(self, dtype: Dtype, out: &mut Vec<u8>) -> Encoded;
}

impl Element for f32 {
    fn encode(self, dtype: Dtype, out: &mut Vec<u8>) -> Encoded {
        let fits = match dtype {
            Dtype::F32 => push(out, self.to_le_bytes(), true),
            Dtype::F64 => push(out, f64::from(self).to_le_bytes(), true),
            Dtype::F16 => push(out, f16::from_f32(self).to_le_bytes(), f16::from_f32(self).is_finite()),
            Dtype::BF16 => push(out, bf16::from_f32(self).to_le_bytes(), bf16::from_f32(self).is_finite()),
            _ => return Encoded::WrongType,
        };
        if fits || !self.is_finite() { Encoded::Done } else { Encoded::Overflow(f64::from(self)) }
    }
}

impl Element for f64 {
    fn encode(self, dtype: Dtype, out: &mut Vec<u8>) -> Encoded {
        let fits = match dtype {
            Dtype::F64 => push(out, self.to_le_bytes(), true),
            Dtype::F32 => push(out, (self as f32).to_le_bytes(), (self as f32).is_finite()),
            Dtype::F16 => push(out, f16::from_f64(self).to_le_bytes(), f16::from_f64(self).is_finite()),
            Dtype::BF16 => push(out, bf16::from_f64(self).to_le_bytes(), bf16::from_f64(self).is_finite()),
            _ => return Encoded::WrongType,
        };
        if fits || !self.is_finite() { Encoded::Done } else { Encoded::Overflow(self) }
    }
}

impl Element for i64 {
    fn encode(self, dtype: Dtype, out: &mut Vec<u8>) -> Encoded {
        if dtype != Dtype::I64 {
            return Encoded::WrongType;
        }
        push(out, self.to_le_bytes(), true);
        Encoded::Done
    }
}

/// Appends the bytes of one element and passes on whether the value fitted.
fn push<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N], fits: bool) -> bool {
    out.extend_from_slice(&bytes);
    fits
}
