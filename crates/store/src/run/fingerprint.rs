//! What identifies the content of an input.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic::list;
use crate::error::{Result, StoreError};

/// Files up to this size are hashed whole.
const WHOLE: u64 = 64 << 20;
/// Of a larger file: this much of its head and of its tail,
const END: u64 = 1 << 20;
/// and this many chunks,
const CHUNKS: u64 = 64;
/// of this size, evenly spaced between them.
const CHUNK: u64 = 64 << 10;

/// How a [`Fingerprint`] was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HashMethod {
    /// SHA-256 of all bytes: files up to 64 MiB.
    #[serde(rename = "sha256")]
    Sha256,
    /// SHA-256 of a sample, for larger files: the size (u64, little-endian), the first and last MiB, and 64 chunks of
    /// 64 KiB evenly spaced between them. It tells different files apart unless they differ outside of the sample only.
    #[serde(rename = "sha256-of-size-ends-and-64-chunks")]
    Sampled,
    /// SHA-256 of names and fingerprints of the files of a folder.
    #[serde(rename = "sha256-of-files")]
    Folder,
}

/// What identifies an input. Two fingerprints of equal content may differ in `path` only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Where the input was; not compared when a run is resumed, so inputs may be moved.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What `sha256` is taken of.
    pub method: HashMethod,
    /// The hash, hexadecimal.
    pub sha256: String,
}

/// Takes the fingerprint of a file, or of a folder: all files in it and below, by name. Hidden files and `.part` files
/// do not count.
///
/// # Errors
/// When something cannot be read.
pub fn fingerprint(path: &Path) -> Result<Fingerprint> {
    if path.is_dir() {
        let (mut bytes, mut hash) = (0, Sha256::new());
        add_folder(path, "", &mut bytes, &mut hash)?;
        Ok(Fingerprint { path: path.to_owned(), bytes, method: HashMethod::Folder, sha256: hex(hash) })
    } else {
        fingerprint_file(path).map_err(|e| StoreError::io("reading", path, e))
    }
}

fn add_folder(folder: &Path, prefix: &str, bytes: &mut u64, hash: &mut Sha256) -> Result<()> {
    for entry in list(folder)? {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') || name.ends_with(".part") {
            continue;
        }
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            add_folder(&path, &format!("{name}/"), bytes, hash)?;
        } else {
            let file = fingerprint_file(&path).map_err(|e| StoreError::io("reading", &path, e))?;
            *bytes += file.bytes;
            hash.update(format!("{name}\0{}\0{}\n", file.bytes, file.sha256));
        }
    }
    Ok(())
}

fn fingerprint_file(path: &Path) -> io::Result<Fingerprint> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut hash = Sha256::new();
    let method = if bytes <= WHOLE {
        io::copy(&mut file, &mut hash)?;
        HashMethod::Sha256
    } else {
        hash.update(bytes.to_le_bytes());
        add_range(&mut file, 0, END, &mut hash)?;
        let span = bytes - 2 * END - CHUNK;
        for i in 0..CHUNKS {
            // As u128: the product may not fit for files of exabytes, of which the quotient does.
            let offset = (u128::from(span) * u128::from(i) / u128::from(CHUNKS - 1)) as u64;
            add_range(&mut file, END + offset, CHUNK, &mut hash)?;
        }
        add_range(&mut file, bytes - END, END, &mut hash)?;
        HashMethod::Sampled
    };
    Ok(Fingerprint { path: path.to_owned(), bytes, method, sha256: hex(hash) })
}

fn add_range(file: &mut File, start: u64, length: u64, hash: &mut Sha256) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    io::copy(&mut file.take(length), hash).map(drop)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
