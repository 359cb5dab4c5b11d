//! Errors from those of the file system and the libraries, and the words of their messages.

use std::io;
use std::path::Path;

use parquet::errors::ParquetError;

use super::StoreError;

impl StoreError {
    /// Turns a failure of the file system into the variant that says most about it.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::PermissionDenied { action, path }
            }
            io::ErrorKind::NotFound => Self::NotFound { action, path },
            _ => Self::Io { action, path, source },
        }
    }

    /// Like [`Self::io`], for a failure that passed through the parquet library.
    pub(crate) fn parquet(action: &'static str, path: &Path, source: ParquetError) -> Self {
        match source {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(io) => Self::io(action, path, *io),
                Err(inner) => Self::Parquet { action, path: path.to_owned(), source: ParquetError::External(inner) },
            },
            source => Self::Parquet { action, path: path.to_owned(), source },
        }
    }

    pub(crate) fn json(path: &Path, source: serde_json::Error) -> Self {
        Self::Json { path: path.to_owned(), line: source.line(), column: source.column(), source }
    }
}

pub(super) fn quoted(id: &Option<String>) -> String {
    id.as_ref().map_or_else(|| "absent".to_owned(), |id| format!("`{id}`"))
}

/// A number of bytes, in the unit that suits it.
pub(super) fn human(bytes: &u64) -> String {
    let bytes = *bytes as f64;
    match bytes {
        ..1e3 => format!("{bytes} bytes"),
        ..1e6 => format!("{:.1} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    }
}
