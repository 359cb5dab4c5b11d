//! idx files, as of MNIST and Fashion-MNIST: an array of images, and their labels in a second file.

use std::io::{BufRead, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::{RawRow, Source};
use crate::files::{open, read_error};
use crate::{DataError, IdxProblem, Result};

/// Numbers of the largest image: more is a broken header.
const MOST_NUMBERS: usize = 1 << 26;

/// How numbers are written, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    U8,
    I8,
    I16,
    I32,
    F32,
    F64,
}

impl Element {
    fn of(code: u8) -> Option<Self> {
        Some(match code {
            0x08 => Self::U8,
            0x09 => Self::I8,
            0x0B => Self::I16,
            0x0C => Self::I32,
            0x0D => Self::F32,
            0x0E => Self::F64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn number(self, bytes: &[u8]) -> f64 {
        let mut all = [0; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        let [a, b, c, d, ..] = all;
        match self {
            Self::U8 => f64::from(a),
            Self::I8 => f64::from(a as i8),
            Self::I16 => f64::from(i16::from_be_bytes([a, b])),
            Self::I32 => f64::from(i32::from_be_bytes([a, b, c, d])),
            Self::F32 => f64::from(f32::from_be_bytes([a, b, c, d])),
            Self::F64 => f64::from_be_bytes(all),
        }
    }
}

/// An array, read along its first dimension.
struct Array {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    element: Element,
    /// Length of the first dimension.
    n: usize,
    dimensions: usize,
    /// Numbers per entry of the first dimension.
    width: usize,
    at: usize,
}

impl Array {
    fn open(path: &Path) -> Result<Self> {
        let mut reader = open(path)?;
        let broken = |problem| DataError::Idx { file: path.to_path_buf(), problem };
        let mut word = || -> Result<[u8; 4]> {
            let mut bytes = [0; 4];
            match reader.read_exact(&mut bytes) {
                Ok(()) => Ok(bytes),
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(broken(IdxProblem::Header)),
                Err(e) => Err(read_error(path, e)),
            }
        };
        let magic = word()?;
        let element = match magic {
            [0, 0, code, dimensions] if dimensions > 0 => Element::of(code),
            _ => None,
        };
        let element = element.ok_or_else(|| broken(IdxProblem::Magic { got: magic }))?;
        let dimensions = usize::from(magic[3]);
        let mut shape = Vec::with_capacity(dimensions);
        for _ in 0..dimensions {
            shape.push(u32::from_be_bytes(word()?) as usize);
        }
        let width = shape[1..].iter().try_fold(1usize, |product, &d| product.checked_mul(d));
        let width = width.filter(|w| (1..=MOST_NUMBERS).contains(w));
        let width = width.ok_or_else(|| broken(IdxProblem::Shape { shape: shape.clone() }))?;
        Ok(Self { path: path.to_path_buf(), reader, element, n: shape[0], dimensions, width, at: 0 })
    }

    /// The numbers of the next entry; none at the end, after which the file must end too.
    fn next(&mut self) -> Result<Option<Vec<f64>>> {
        let broken = |problem| DataError::Idx { file: self.path.clone(), problem };
        if self.at == self.n {
            let left = self.reader.fill_buf().map_err(|e| read_error(&self.path, e))?;
            return if left.is_empty() { Ok(None) } else { Err(broken(IdxProblem::TooLong { n: self.n })) };
        }
        let mut bytes = vec![0; self.width * self.element.bytes()];
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => self.at += 1,
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                return Err(broken(IdxProblem::TooShort { at: self.at + 1, n: self.n }));
            }
            Err(e) => return Err(read_error(&self.path, e)),
        }
        Ok(Some(bytes.chunks_exact(self.element.bytes()).map(|bytes| self.element.number(bytes)).collect()))
    }
}

/// Images with their labels.
pub(super) struct Images {
    images: Array,
    labels: std::vec::IntoIter<u32>,
}

impl Images {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let broken = |file: &Path, problem| DataError::Idx { file: file.to_path_buf(), problem };
        let labels_path = labels_of(path).ok_or_else(|| broken(path, IdxProblem::Name))?;
        if !labels_path.is_file() {
            return Err(broken(path, IdxProblem::NoLabels { expected: labels_path }));
        }
        let images = Array::open(path)?;
        let labels = labels(&labels_path)?;
        if labels.len() != images.n {
            let problem = IdxProblem::LabelCount { labels: labels.len(), images: images.n };
            return Err(broken(&labels_path, problem));
        }
        Ok(Self { images, labels: labels.into_iter() })
    }
}

fn labels(path: &Path) -> Result<Vec<u32>> {
    let mut array = Array::open(path)?;
    let broken = |problem| DataError::Idx { file: path.to_path_buf(), problem };
    if array.dimensions != 1 {
        return Err(broken(IdxProblem::LabelDimensions { got: array.dimensions }));
    }
    let mut labels = Vec::new();
    while let Some(numbers) = array.next()? {
        let label = numbers[0];
        if label < 0.0 || label.fract() != 0.0 || label > f64::from(u32::MAX) {
            return Err(broken(IdxProblem::Label { at: array.at, label }));
        }
        labels.push(label as u32);
    }
    Ok(labels)
}

impl Source for Images {
    fn next_row(&mut self) -> Result<Option<(u64, RawRow)>> {
        let Some(numbers) = self.images.next()? else { return Ok(None) };
        // As everybody does with bytes: from 0 to 1.
        let unit = if self.images.element == Element::U8 { 255.0 } else { 1.0 };
        let values = numbers.into_iter().map(|x| (x / unit) as f32).collect();
        let class = self.labels.next().unwrap_or_default();
        Ok(Some((self.images.at as u64, RawRow::Image { values, class })))
    }
}

/// The file with the labels of a file of images in idx format, whether it is there or not: `train-labels-idx1-ubyte` of
/// `train-images-idx3-ubyte`. None for a name of another kind.
pub fn labels_of(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    if !is_idx(name) || !name.contains("images") {
        return None;
    }
    let mut labels = name.replace("images", "labels");
    for dimensions in ["idx2", "idx3", "idx4"] {
        labels = labels.replace(dimensions, "idx1");
    }
    Some(images.with_file_name(labels))
}

/// Whether a name, without the ending of a compression, is that of an idx file.
pub(crate) fn is_idx(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let inner = lower.strip_suffix(".gz").or_else(|| lower.strip_suffix(".zst")).unwrap_or(&lower);
    let ending = inner.rsplit(['.', '-']).next().unwrap_or_default();
    ending.starts_with("idx") || (ending == "ubyte" && inner.contains("idx"))
}
