//! One safetensors file of several.

use std::path::{Path, PathBuf};

use super::file::TensorFile;
use super::writer::TensorWriter;
use crate::error::Result;

/// Writes the tensors of all `parts`, in this order and with the metadata of the first, to one file: the file that a
/// single writer of these tensors would have made. One part at a time is mapped.
///
/// # Errors
/// When a part cannot be read, a name occurs twice, or the disk refuses.
pub fn join_tensors(parts: &[PathBuf], path: &Path) -> Result<()> {
    let (mut declared, mut metadata) = (Vec::new(), None);
    for part in parts {
        let file = TensorFile::open(part)?;
        for name in file.names() {
            declared.push((name.to_owned(), file.dtype(name)?, file.shape(name)?.to_vec()));
        }
        metadata.get_or_insert_with(|| file.metadata().clone());
    }
    let declared: Vec<_> = declared.iter().map(|(name, dtype, shape)| (name.as_str(), *dtype, &shape[..])).collect();
    let mut joined = TensorWriter::create(path, &declared, &metadata.unwrap_or_default())?;
    for part in parts {
        let file = TensorFile::open(part)?;
        file.names().try_for_each(|name| joined.copy(name, &file))?;
    }
    joined.finish()
}
