//! Typed access to the key-value table of a GGUF file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anamnesis::parse::gguf::{GgufMetadataArray, GgufMetadataValue};

use super::GgufError;

/// The metadata of one file, with the file's name for messages. Looked up by key only, never iterated.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) path: PathBuf,
    entries: HashMap<String, GgufMetadataValue>,
}

impl Metadata {
    pub(super) fn new(path: &Path, entries: HashMap<String, GgufMetadataValue>) -> Self {
        Self { path: path.to_path_buf(), entries }
    }

    /// A text, if the key is there.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a text", |value| match value {
            GgufMetadataValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A non-negative integer of any width, if the key is there.
    pub(super) fn integer(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "a non-negative integer", |value| match *value {
            GgufMetadataValue::U8(n) => Some(n.into()),
            GgufMetadataValue::U16(n) => Some(n.into()),
            GgufMetadataValue::U32(n) => Some(n.into()),
            GgufMetadataValue::U64(n) => Some(n),
            GgufMetadataValue::I8(n) => n.try_into().ok(),
            GgufMetadataValue::I16(n) => n.try_into().ok(),
            GgufMetadataValue::I32(n) => n.try_into().ok(),
            GgufMetadataValue::I64(n) => n.try_into().ok(),
            _ => None,
        })
    }

    /// An integer that must be there and be at least 1.
    pub(super) fn positive(&self, key: &str) -> Result<u64, GgufError> {
        match self.integer(key)? {
            Some(0) => Err(self.value_error(key, "0", "an integer of at least 1")),
            Some(n) => Ok(n),
            None => Err(self.missing(key)),
        }
    }

    /// A finite number, if the key is there. An f32 becomes the f64 with the same shortest decimal form (1e-5 stays
    /// 1e-5), which is what the model's config.json held before conversion.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a finite number", |value| match *value {
            GgufMetadataValue::F32(x) => x.to_string().parse().ok(),
            GgufMetadataValue::F64(x) => Some(x),
            _ => None,
        })?
        .map(|x: f64| if x.is_finite() { Ok(x) } else { Err(self.value_error(key, x, "a finite number")) })
        .transpose()
    }

    /// A truth value, if the key is there.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "true or false", |value| match *value {
            GgufMetadataValue::Bool(b) => Some(b),
            _ => None,
        })
    }

    /// A list of texts, if the key is there.
    pub(super) fn texts(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.typed(key, "a list of texts", |value| value.as_array()?.as_string_slice())
    }

    /// A list of integers, if the key is there.
    pub(super) fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, GgufError> {
        self.typed(key, "a list of 32-bit integers", |value| match value.as_array()? {
            GgufMetadataArray::I32(list) => Some(list.iter().map(|&n| n.into()).collect()),
            GgufMetadataArray::U32(list) => Some(list.iter().map(|&n| n.into()).collect()),
            _ => None,
        })
    }

    pub(super) fn missing(&self, key: &str) -> GgufError {
        GgufError::MissingKey { path: self.path.clone(), key: key.to_owned() }
    }

    pub(super) fn value_error(&self, key: &str, found: impl ToString, expected: impl Into<String>) -> GgufError {
        GgufError::Value {
            path: self.path.clone(),
            key: key.to_owned(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a GgufMetadataValue) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.value_error(key, describe(value), expected))
    }
}

/// A short description for messages: the value itself where it is a number, else its kind.
fn describe(value: &GgufMetadataValue) -> String {
    match value {
        GgufMetadataValue::String(_) => "a text".to_owned(),
        GgufMetadataValue::Array(list) => format!("a list of {} values", list.len()),
        scalar => format!("{scalar:?}"),
    }
}
