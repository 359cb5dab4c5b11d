//! `simulator.json` (what it is about) and `simulator.safetensors` (A, B, draws, noise).

use std::collections::BTreeMap;
use std::path::Path;

use etymon_store::{Dtype, TensorFile, TensorWriter, read_json, write_json_atomic};
use serde::{Deserialize, Serialize};

use super::{Bands, Effects, Simulator};
use crate::kind::{Kind, Unseen};
use crate::roll_out::{Dynamics, QUARTERS};
use crate::{Result, SimulateError};

const FACTS: &str = "simulator.json";
const TENSORS: &str = "simulator.safetensors";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    kind: Kind,
    unseen: Unseen,
    lambda: f64,
    every: usize,
    memory: f64,
    n_draws: usize,
    band_scale: Option<[f64; QUARTERS]>,
    query_ids: Vec<String>,
    counts: Vec<usize>,
    train_ids: Vec<String>,
}

impl Simulator {
    /// Writes the simulator into a folder: draws in f32, all else in f64.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let (n, q) = (self.train_ids.len(), self.query_ids.len());
        let draws = self.bands.as_ref().map_or(&[][..], |bands| &bands.draws);
        let mut tensors: Vec<(String, Dtype, Vec<usize>, &[f64])> =
            vec![("first_losses".to_owned(), Dtype::F64, vec![q], &self.first_losses)];
        if let Some(bands) = &self.bands {
            tensors.push(("noise".to_owned(), Dtype::F64, vec![q], &bands.noise));
        }
        let of_draws = draws.iter().enumerate().map(|(k, draw)| (format!("draws.{k}."), Dtype::F32, draw));
        for (prefix, dtype, effects) in std::iter::once((String::new(), Dtype::F64, &self.effects)).chain(of_draws) {
            let both = [("a", &effects.a), ("b", &effects.b)].into_iter().filter(|(_, x)| !x.is_empty());
            tensors.extend(both.map(|(name, x)| (format!("{prefix}{name}"), dtype, vec![n, q], x.as_slice())));
        }
        let declared: Vec<_> =
            tensors.iter().map(|(name, d, shape, _)| (name.as_str(), *d, shape.as_slice())).collect();
        let mut writer = TensorWriter::create(&folder.join(TENSORS), &declared, &BTreeMap::new())?;
        for (name, dtype, _, values) in &tensors {
            match dtype {
                Dtype::F32 => writer.write_f32(name, &values.iter().map(|&x| x as f32).collect::<Vec<_>>())?,
                _ => writer.write_f64(name, values)?,
            }
        }
        writer.finish()?;
        let facts = Facts {
            kind: self.kind,
            unseen: self.unseen,
            lambda: self.lambda,
            every: self.dynamics.every,
            memory: self.dynamics.memory,
            n_draws: draws.len(),
            band_scale: self.bands.as_ref().map(|bands| bands.scale),
            query_ids: self.query_ids.clone(),
            counts: self.counts.clone(),
            train_ids: self.train_ids.clone(),
        };
        Ok(write_json_atomic(&folder.join(FACTS), &facts)?)
    }

    /// Reads a simulator from its folder.
    ///
    /// # Errors
    /// Files that are missing, broken, or do not belong together.
    pub fn open(folder: &Path) -> Result<Self> {
        let facts: Facts = read_json(&folder.join(FACTS))?;
        let file = TensorFile::open(&folder.join(TENSORS))?;
        let (n, q) = (facts.train_ids.len(), facts.query_ids.len());
        let broken =
            |problem: &str| SimulateError::BrokenSimulator { path: folder.to_owned(), problem: problem.into() };
        if facts.counts.len() != n || facts.every == 0 {
            return Err(broken("the lists of simulator.json have different lengths"));
        }
        let read = |name: &str, len: usize| match file.read_f64(name)? {
            values if values.len() == len => Ok(values),
            _ => Err(broken("simulator.safetensors has other shapes than simulator.json")),
        };
        let effects = |prefix: &str| {
            let part = |has, name| if has { read(&format!("{prefix}{name}"), n * q) } else { Ok(Vec::new()) };
            Ok::<_, SimulateError>(Effects { a: part(facts.kind.has_a(), "a")?, b: part(facts.kind.has_b(), "b")? })
        };
        let bands = match facts.band_scale {
            None => None,
            Some(scale) => {
                let draws = (0..facts.n_draws).map(|k| effects(&format!("draws.{k}."))).collect::<Result<_>>()?;
                Some(Bands { noise: read("noise", q)?, draws, scale })
            }
        };
        let (first_losses, effects) = (read("first_losses", q)?, effects("")?);
        Ok(Self {
            kind: facts.kind,
            train_ids: facts.train_ids,
            query_ids: facts.query_ids,
            counts: facts.counts,
            unseen: facts.unseen,
            first_losses,
            lambda: facts.lambda,
            dynamics: Dynamics { every: facts.every, memory: facts.memory, by_rate: facts.kind.by_rate() },
            effects,
            bands,
        })
    }
}
