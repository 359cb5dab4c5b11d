//! The models whose gradients a score takes: the final one, or checkpoints on the way to it.

use std::path::{Path, PathBuf};

use etymon_model::{LayerGroups, Model, load};
use etymon_train::{State, checkpoints};

use crate::args::ScoreArgs;
use crate::error::{CliError, Result};
use crate::open::{Opened, Work};

/// A model, and the weight of its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Its folder; none for the model that is opened already.
    pub folder: Option<PathBuf>,
    /// η of TracIn.
    pub weight: f64,
}

impl Checkpoint {
    /// The model that is opened already.
    pub fn opened() -> Self {
        Self { folder: None, weight: 1.0 }
    }

    /// Loads the model, with the tapped layers of the opened one.
    pub fn model(&self, args: &ScoreArgs, opened: &Opened) -> Result<Model<Work>> {
        let Some(folder) = &self.folder else { return Ok(opened.model.clone()) };
        let mut model = load(*opened.model.backend(), folder)?;
        let layers = opened.model.layers();
        let names: Vec<String> = layers.iter().map(|l| regex_of(&l.name)).collect();
        model.select_layers(Some(&format!("^({})$", names.join("|"))))?;
        if model.layers() != layers {
            let problem = format!("{} has other layers than {}", folder.display(), args.model.model.display());
            return Err(CliError::Usage { option: "--checkpoints", problem });
        }
        Ok(model)
    }

    /// What its layers are called beside those of the other checkpoints.
    pub fn name_of(&self, layer: &str) -> String {
        let name = self.folder.as_ref().and_then(|folder| folder.file_name());
        name.map_or_else(|| layer.to_owned(), |name| format!("{}/{layer}", name.to_string_lossy()))
    }
}

/// The name as a regular expression that matches itself.
fn regex_of(name: &str) -> String {
    name.replace('.', "\\.")
}

/// The model folders that `--checkpoints` names, with their learning rates: all of the checkpoints in a folder of a training,
/// or the folder itself.
///
/// # Errors
/// Folders that cannot be read, and learning rates for some of them only.
pub fn list(args: &ScoreArgs) -> Result<Vec<Checkpoint>> {
    let usage = |problem| CliError::Usage { option: "--checkpoints", problem };
    let mut found = Vec::new();
    for path in &args.other.checkpoints {
        if !path.is_dir() {
            return Err(usage(format!("{} is no folder", path.display())));
        }
        let inside = checkpoints(path)?;
        if inside.is_empty() {
            found.push(path.clone());
        }
        found.extend(inside.into_iter().map(|(_, folder)| folder));
    }
    let rates = found.iter().map(|folder| learning_rate(folder)).collect::<Result<Vec<_>>>()?;
    if rates.iter().any(Option::is_some)
        && let Some(i) = rates.iter().position(Option::is_none)
    {
        let folder = found[i].display();
        return Err(usage(format!(
            "{folder} has no learning rate (state.json), the others have: name alike ones only"
        )));
    }
    let weighed =
        |(folder, rate): (PathBuf, Option<f64>)| Checkpoint { folder: Some(folder), weight: rate.unwrap_or(1.0) };
    Ok(found.into_iter().zip(rates).map(weighed).collect())
}

/// η at the step of a checkpoint, if the training left it there.
fn learning_rate(folder: &Path) -> Result<Option<f64>> {
    if !folder.join("state.json").is_file() {
        return Ok(None);
    }
    Ok(Some(State::read(folder)?.learning_rate()?))
}

/// A pass over the data: some layers of one of the checkpoints. The layers of all checkpoints count as layers of one large
/// model, so that sums over them, and parts per layer, need nothing of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The checkpoint.
    pub checkpoint: usize,
    /// Its layers.
    pub layers: std::ops::Range<usize>,
    /// Layers of all passes up to the end of this one.
    pub end: usize,
}

/// The passes that are left when the first `done` layers of all checkpoints are.
pub fn passes(n_checkpoints: usize, n_layers: usize, groups: &LayerGroups, done: usize) -> Vec<Pass> {
    let mut passes = Vec::new();
    for checkpoint in 0..n_checkpoints {
        let before = checkpoint * n_layers;
        let done = done.saturating_sub(before).min(n_layers);
        let of = |layers: std::ops::Range<usize>| Pass { checkpoint, end: before + layers.end, layers };
        passes.extend(groups.after(done).filter(|layers| !layers.is_empty()).map(of));
    }
    passes
}
