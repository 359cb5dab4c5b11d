//! Sums of an unfinished pass on disk, so that an interrupted fit can continue. They hold the number of their examples,
//! so file and position can never disagree.

use std::collections::BTreeMap;
use std::path::Path;

use etymon_model::LayerSpec;
use etymon_store::{Dtype, TensorFile, TensorWriter};

use crate::{Corrections, Covariances, CurvatureError, Result};

const COVARIANCES: &str = "unfinished-covariances.safetensors";
const CORRECTIONS: &str = "unfinished-corrections.safetensors";
const EXAMPLES: &str = "examples";

/// A sum over examples that can be written and continued.
pub(crate) trait Partial {
    fn examples(&self) -> u64;
    fn save(&self, folder: &Path, specs: &[LayerSpec]) -> Result<()>;
}

/// Removes what unfinished passes have left.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    for name in [COVARIANCES, CORRECTIONS] {
        let path = folder.join(name);
        if path.exists() {
            std::fs::remove_file(&path).map_err(|source| CurvatureError::Remove { path, source })?;
        }
    }
    Ok(())
}

impl Partial for Covariances {
    fn examples(&self) -> u64 {
        self.examples
    }

    fn save(&self, folder: &Path, specs: &[LayerSpec]) -> Result<()> {
        let parts = specs.iter().zip(&self.layers).flat_map(|(spec, layer)| {
            [(format!("{}.A", spec.name), layer.a.as_slice()), (format!("{}.S", spec.name), layer.s.as_slice())]
        });
        let rows = specs.iter().zip(&self.layers).map(|(s, l)| (format!("{}.rows", s.name), l.rows.to_string()));
        write(&folder.join(COVARIANCES), parts.collect(), self.examples, rows.collect())
    }
}

impl Covariances {
    pub(crate) fn load_or_empty(folder: &Path, specs: &[LayerSpec]) -> Result<Self> {
        let mut sums = Self::empty(specs);
        let path = folder.join(COVARIANCES);
        if !path.exists() {
            return Ok(sums);
        }
        let file = TensorFile::open(&path)?;
        for (spec, layer) in specs.iter().zip(&mut sums.layers) {
            layer.a = read(&file, &format!("{}.A", spec.name), layer.a.len())?;
            layer.s = read(&file, &format!("{}.S", spec.name), layer.s.len())?;
            layer.rows = number(&file, &format!("{}.rows", spec.name))?;
        }
        sums.examples = number(&file, EXAMPLES)?;
        Ok(sums)
    }
}

impl Partial for Corrections {
    fn examples(&self) -> u64 {
        self.examples
    }

    fn save(&self, folder: &Path, specs: &[LayerSpec]) -> Result<()> {
        let parts = specs.iter().zip(&self.layers).map(|(s, l)| (format!("{}.lambda", s.name), l.as_slice()));
        write(&folder.join(CORRECTIONS), parts.collect(), self.examples, BTreeMap::new())
    }
}

impl Corrections {
    pub(crate) fn load_or_empty(folder: &Path, specs: &[LayerSpec]) -> Result<Self> {
        let mut sums = Self::empty(specs);
        let path = folder.join(CORRECTIONS);
        if !path.exists() {
            return Ok(sums);
        }
        let file = TensorFile::open(&path)?;
        for (spec, layer) in specs.iter().zip(&mut sums.layers) {
            *layer = read(&file, &format!("{}.lambda", spec.name), layer.len())?;
        }
        sums.examples = number(&file, EXAMPLES)?;
        Ok(sums)
    }
}

fn write(
    path: &Path,
    parts: Vec<(String, &[f64])>,
    examples: u64,
    mut metadata: BTreeMap<String, String>,
) -> Result<()> {
    metadata.insert(EXAMPLES.to_owned(), examples.to_string());
    let shapes: Vec<[usize; 1]> = parts.iter().map(|(_, data)| [data.len()]).collect();
    let declared: Vec<(&str, Dtype, &[usize])> =
        parts.iter().zip(&shapes).map(|((name, _), shape)| (name.as_str(), Dtype::F64, shape.as_slice())).collect();
    let mut file = TensorWriter::create(path, &declared, &metadata)?;
    for (name, data) in &parts {
        file.write_f64(name, data)?;
    }
    Ok(file.finish()?)
}

fn read(file: &TensorFile, name: &str, expected: usize) -> Result<Vec<f64>> {
    let data = file.read_f64(name)?;
    if data.len() == expected {
        return Ok(data);
    }
    Err(CurvatureError::Layers { problem: format!("`{name}` of an unfinished fit has {} numbers", data.len()) })
}

fn number(file: &TensorFile, key: &str) -> Result<u64> {
    let found = file.metadata().get(key).and_then(|text| text.parse().ok());
    found.ok_or_else(|| CurvatureError::Layers { problem: format!("an unfinished fit does not tell its `{key}`") })
}

#[cfg(test)]
mod tests {
    use etymon_model::LayerId;

    use super::*;

    fn specs() -> Vec<LayerSpec> {
        let spec = |name: &str, input| LayerSpec {
            name: name.to_owned(),
            d_in: 2,
            d_out: 3,
            bias: false,
            input,
            positions: 1,
        };
        vec![spec("q", LayerId(0)), spec("k", LayerId(0))]
    }

    #[test]
    fn sums_are_continued_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let specs = specs();
        let mut covariances = Covariances::empty(&specs);
        assert_eq!(Covariances::load_or_empty(folder.path(), &specs).unwrap(), covariances);
        covariances.layers[0].a = vec![1.0 / 3.0, 2.0, 2.0, 5.0];
        covariances.layers[1].s[4] = 1e-300;
        covariances.layers[1].rows = 77;
        covariances.examples = 5;
        covariances.save(folder.path(), &specs).unwrap();
        assert_eq!(Covariances::load_or_empty(folder.path(), &specs).unwrap(), covariances);
        let mut corrections = Corrections::empty(&specs);
        corrections.layers[1][2] = 0.1;
        corrections.examples = 9;
        corrections.save(folder.path(), &specs).unwrap();
        assert_eq!(Corrections::load_or_empty(folder.path(), &specs).unwrap(), corrections);
        remove(folder.path()).unwrap();
        assert_eq!(Corrections::load_or_empty(folder.path(), &specs).unwrap(), Corrections::empty(&specs));
    }

    #[test]
    fn sums_of_other_layers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut wider = specs();
        Covariances::empty(&wider).save(folder.path(), &wider).unwrap();
        wider[1].d_out = 4;
        let error = Covariances::load_or_empty(folder.path(), &wider).unwrap_err();
        assert!(matches!(error, CurvatureError::Layers { .. }), "{error}");
    }
}
