//! Which files a data set consists of, and reading them with decompression.

use std::fs::File;
use std::io::{BufRead, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

use crate::rows::{is_idx, labels_of};
use crate::{DataError, Format, Result};

/// One file of a corpus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataFile {
    /// Path.
    pub path: PathBuf,
    /// Format.
    pub format: Format,
}

/// The data files behind `paths`: files in the given order, directories replaced by their data files in the order of
/// their names.
pub(crate) fn expand(paths: &[PathBuf], format: Option<Format>) -> Result<Vec<DataFile>> {
    let mut files = Vec::new();
    for path in paths {
        let is_dir = std::fs::metadata(path).map_err(|source| read_error(path, source))?.is_dir();
        if is_dir {
            files.extend(list_directory(path, format)?);
        } else {
            let format = format.or_else(|| format_of(path));
            let format = format.ok_or_else(|| DataError::UnknownFormat { file: path.clone() })?;
            files.push(DataFile { path: path.clone(), format });
        }
    }
    Ok(files)
}

fn list_directory(directory: &Path, format: Option<Format>) -> Result<Vec<DataFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|source| read_error(directory, source))? {
        let path = entry.map_err(|source| read_error(directory, source))?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        // A single .json beside data files is a description of them more often than data.
        let described = path.extension().is_some_and(|ending| ending == "json");
        if let (Some(found), false) = (format_of(&path), hidden || described || !path.is_file()) {
            // Labels are read with their images.
            if found == Format::Idx && labels_of(&path).is_none() {
                continue;
            }
            files.push(DataFile { path, format: found });
        }
    }
    if let Some(format) = format {
        files.retain(|file| file.format == format);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut formats: Vec<Format> = files.iter().map(|file| file.format).collect();
    formats.sort_unstable();
    formats.dedup();
    match formats.len() {
        0 => Err(DataError::NoFiles { directory: directory.to_path_buf() }),
        1 => Ok(files),
        _ => {
            let formats = formats.into_iter().map(Format::name).collect::<Vec<_>>().join(", ");
            Err(DataError::MixedFormats { directory: directory.to_path_buf(), formats })
        }
    }
}

/// The format that the name of a file says, behind `.gz` or `.zst` too.
pub(crate) fn format_of(path: &Path) -> Option<Format> {
    let mut name = path.file_name()?.to_str()?.to_ascii_lowercase();
    if is_idx(&name) {
        return Some(Format::Idx);
    }
    for compression in [".gz", ".zst"] {
        if let Some(inner) = name.strip_suffix(compression) {
            name.truncate(inner.len());
        }
    }
    match name.rsplit_once('.')?.1 {
        "jsonl" | "ndjson" | "json" => Some(Format::Jsonl),
        "csv" => Some(Format::Csv),
        "txt" => Some(Format::Text),
        "parquet" => Some(Format::Parquet),
        _ => None,
    }
}

pub(crate) fn read_error(path: &Path, source: std::io::Error) -> DataError {
    DataError::Read { file: path.to_path_buf(), source }
}

type Reader = Box<dyn BufRead + Send>;
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// Opens a file for reading its decompressed bytes. gzip and zstd are recognised by their first bytes, and a UTF-8 byte
/// order mark is left out.
pub(crate) fn open(path: &Path) -> Result<Reader> {
    open_reader(path).map_err(|source| read_error(path, source))
}

fn open_reader(path: &Path) -> std::io::Result<Reader> {
    let (head, file) = peek(BufReader::with_capacity(1 << 16, File::open(path)?))?;
    let bytes: Reader = match head {
        [0x1f, 0x8b, _, _] => Box::new(BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            decoder.window_log_max(31)?;
            Box::new(BufReader::with_capacity(1 << 16, decoder))
        }
        _ => Box::new(file),
    };
    let (head, mut bytes) = peek(bytes)?;
    if head.starts_with(&[0xef, 0xbb, 0xbf]) {
        bytes.read_exact(&mut [0; 3])?;
    }
    Ok(Box::new(bytes))
}

/// The first four bytes (0 where there are fewer), and the reader from its start.
fn peek<R: BufRead>(mut reader: R) -> std::io::Result<([u8; 4], Peeked<R>)> {
    let mut taken = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut taken)?;
    let mut head = [0; 4];
    head[..taken.len()].copy_from_slice(&taken);
    Ok((head, Cursor::new(taken).chain(reader)))
}
