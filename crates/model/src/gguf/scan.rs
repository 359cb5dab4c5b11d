//! Finds the tensor whose type the reader does not know, to name it in the error: the reader itself stops at the type
//! number. Used on that error's path alone.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// ggml type numbers above this are unknown to the reader; those below that it does not know are [`RETIRED`].
const NEWEST: u32 = 42;
/// Numbers of ggml types that were removed.
const RETIRED: [u32; 8] = [4, 5, 31, 32, 33, 36, 37, 38];
/// No name is longer (the reader's own limit).
const LONGEST_NAME: u64 = 65_535;
/// Deepest nesting of lists in the metadata (the reader's own limit).
const DEEPEST: u32 = 4;

/// Name and type number of the first tensor of unknown type. `None` if there is none or the table cannot be walked.
pub(super) fn unknown_type(file: impl Read + Seek) -> Option<(String, u32)> {
    walk(&mut BufReader::new(file)).ok().flatten()
}

fn walk<R: Read + Seek>(file: &mut R) -> io::Result<Option<(String, u32)>> {
    file.seek(SeekFrom::Start(8))?;
    let (tensors, entries) = (u64(file)?, u64(file)?);
    for _ in 0..entries {
        skip_text(file)?;
        let kind = u32(file)?;
        skip_value(file, kind, 0)?;
    }
    for _ in 0..tensors {
        let name = name(file)?;
        let dimensions = u32(file)?;
        skip(file, u64::from(dimensions) * 8)?;
        let kind = u32(file)?;
        if kind > NEWEST || RETIRED.contains(&kind) {
            return Ok(Some((name, kind)));
        }
        skip(file, 8)?;
    }
    Ok(None)
}

fn skip_value<R: Read + Seek>(file: &mut R, kind: u32, depth: u32) -> io::Result<()> {
    match kind {
        8 => skip_text(file),
        9 if depth < DEEPEST => {
            let (inner, n) = (u32(file)?, u64(file)?);
            match width(inner) {
                Some(width) => skip(file, n.checked_mul(width).ok_or(io::ErrorKind::InvalidData)?),
                None => (0..n).try_for_each(|_| skip_value(file, inner, depth + 1)),
            }
        }
        _ => skip(file, width(kind).ok_or(io::ErrorKind::InvalidData)?),
    }
}

/// Bytes of a metadata value whose size is fixed.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn name<R: Read + Seek>(file: &mut R) -> io::Result<String> {
    let length = u64(file)?;
    if length > LONGEST_NAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut name = String::new();
    file.take(length).read_to_string(&mut name)?;
    Ok(name)
}

fn skip_text<R: Read + Seek>(file: &mut R) -> io::Result<()> {
    let length = u64(file)?;
    skip(file, length)
}

fn skip<R: Read + Seek>(file: &mut R, n: u64) -> io::Result<()> {
    file.seek_relative(i64::try_from(n).map_err(|_| io::ErrorKind::InvalidData)?)
}

fn u32<R: Read>(file: &mut R) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn u64<R: Read>(file: &mut R) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
