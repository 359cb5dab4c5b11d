//! Score tables: scores go to the store as they come.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etymon_attribution::{AttributionError, Parts, ScoreBlock, ScoreSink, TopK};
use etymon_data::{DataError, Encoder, Example};
use etymon_store::{LayerTableWriter, RunFolder, ScoreTable, ScoreTableWriter, StoreError, TokenTableWriter};
use etymon_tensor::Buffer;
use serde_json::{Value, json};

use super::rows::pieces;
use crate::error::Result;

/// Seconds of work that a crash may cost.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Folder of the tables of single groups of layers, in that of the run.
pub const UNFINISHED: &str = "unfinished";

/// Folder, in that of the run, of the tables of the sums over the first `n_layers` layers, as long as these are not all.
pub fn sums_folder(n_layers: usize) -> String {
    format!("{UNFINISHED}/layers-00000-{n_layers:05}")
}

/// The first layers of which a complete table of the sums is there.
pub fn layers_done(run: &RunFolder) -> usize {
    run.manifest().progress["layers_done"].as_u64().unwrap_or(0) as usize
}

/// Rows of the tables that are safe from a crash.
#[derive(Clone, Copy, Debug)]
pub struct DoneRows {
    /// Of the scores.
    pub scores: u64,
    /// Of the scores per token.
    pub tokens: u64,
}

/// Where a table goes, and its columns.
pub struct TablePlan {
    /// Folder of the tables.
    pub folder: PathBuf,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Parts beside the scores, and of how many of the columns.
    pub parts: (Parts, usize),
}

/// Which sums over layers a pass makes.
pub struct Sums<'a> {
    /// Names of the layers that are summed.
    pub layers: &'a [String],
    /// Layers of all passes.
    pub of: usize,
}

/// The tables that grow with the train set: sums over the first layers, one table per method once they are of all layers.
/// They grow together, and the run of the first one vouches for all.
pub struct Tables<'a> {
    run: &'a mut RunFolder,
    writers: Vec<Writers>,
    layer_names: &'a [String],
    /// Layers of all passes.
    of: usize,
    encoder: Option<&'a Encoder>,
    rows: u64,
    saved: Instant,
}

/// The tables of one method.
struct Writers {
    plan: TablePlan,
    scores: ScoreTableWriter,
    layers: Option<LayerTableWriter>,
    tokens: Option<TokenTableWriter>,
}

impl<'a> Tables<'a> {
    /// Opens tables, and drops what the run's progress does not vouch for.
    pub fn open(
        run: &'a mut RunFolder,
        plans: Vec<TablePlan>,
        sums: Sums<'a>,
        encoder: Option<&'a Encoder>,
    ) -> Result<Self> {
        let Sums { layers: layer_names, of } = sums;
        let progress = &run.manifest().progress;
        let vouched = progress["layers_summed"].as_u64().unwrap_or(of as u64) == layer_names.len() as u64;
        let n_files = |table: &str| progress[table].as_u64().filter(|_| vouched).unwrap_or(0) as usize;
        let files = ["score_files", "layer_files", "token_files"].map(n_files);
        let writers = plans.into_iter().map(|plan| Writers::open(plan, files)).collect::<Result<Vec<_>>>()?;
        let rows = writers.iter().map(|w| w.scores.rows_done()).min().unwrap_or(0);
        Ok(Self { run, writers, layer_names, of, encoder, rows, saved: Instant::now() })
    }

    /// Rows that an earlier run has written, of each kind of table.
    pub fn done(&self) -> DoneRows {
        let tokens = self.writers.iter().filter_map(|w| w.tokens.as_ref().map(TokenTableWriter::rows_done));
        DoneRows { scores: self.rows, tokens: tokens.min().unwrap_or(0) }
    }

    /// The folder of each table.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.writers.iter().map(|w| w.plan.folder.as_path())
    }

    /// Completes the tables; returns their rows. The sums over fewer layers are not needed any more.
    pub fn finish(mut self) -> Result<u64> {
        self.save()?;
        for writers in self.writers {
            writers.scores.finish()?;
            writers.layers.map(LayerTableWriter::finish).transpose()?;
            writers.tokens.map(TokenTableWriter::finish).transpose()?;
        }
        let (before, now) = (layers_done(self.run), self.layer_names.len());
        if now < self.of {
            let next = json!({
                "layers_done": now, "layers_summed": null, "score_files": null, "layer_files": null, "token_files": null,
            });
            note(self.run, next)?;
            self.run.remove(&sums_folder(before))?;
        }
        Ok(self.rows)
    }

    /// Writes a block of one of the tables; when all have it, [`written`](Self::written) must hear of it.
    pub fn write(&mut self, table: usize, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        self.writers[table].write(block, self.layer_names, self.encoder).map_err(AttributionError::sink)
    }

    /// All tables have `rows` more rows: from time to time they are made safe from a crash.
    pub fn written(&mut self, rows: usize) -> etymon_attribution::Result<()> {
        self.rows += rows as u64;
        let due = self.saved.elapsed() >= SAVE_EVERY;
        if due { self.save().map_err(AttributionError::sink) } else { Ok(()) }
    }

    /// Makes all rows so far safe from a crash.
    fn save(&mut self) -> std::result::Result<(), StoreError> {
        let mut files = [0; 3];
        for writers in &mut self.writers {
            writers.rotate()?;
            files.iter_mut().zip(writers.n_files()).for_each(|(most, n)| *most = n.max(*most));
        }
        let [scores, layers, tokens] = files;
        let done = json!({
            "layers_summed": self.layer_names.len(),
            "score_files": scores,
            "layer_files": layers,
            "token_files": tokens,
        });
        note(self.run, done)?;
        self.saved = Instant::now();
        Ok(())
    }
}

/// Notes how far a run is, beside what is noted already.
fn note(run: &mut RunFolder, progress: Value) -> std::result::Result<(), StoreError> {
    let mut all = run.manifest().progress.as_object().cloned().unwrap_or_default();
    all.extend(progress.as_object().cloned().unwrap_or_default());
    run.update_progress(Value::Object(all))
}

impl ScoreSink for Tables<'_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        self.write(0, block)?;
        self.written(block.examples.len())
    }
}

impl Writers {
    fn open(plan: TablePlan, files: [usize; 3]) -> Result<Self> {
        let (folder, columns, (parts, n)) = (&plan.folder, &plan.columns, plan.parts);
        let mut scores = ScoreTableWriter::open(folder, columns)?;
        scores.keep_files(files[0])?;
        let mut layers = parts.layers.then(|| LayerTableWriter::open(folder, &columns[..n])).transpose()?;
        if let Some(layers) = &mut layers {
            layers.keep_files(files[1])?;
        }
        let mut tokens = parts.tokens.then(|| TokenTableWriter::open(folder, &columns[..n])).transpose()?;
        if let Some(tokens) = &mut tokens {
            tokens.keep_files(files[2])?;
        }
        Ok(Self { plan, scores, layers, tokens })
    }

    fn write(
        &mut self,
        block: &ScoreBlock<'_>,
        layer_names: &[String],
        encoder: Option<&Encoder>,
    ) -> std::result::Result<(), StoreError> {
        let ids: Vec<String> = block.examples.iter().map(|e| e.id.clone()).collect();
        self.scores.block(&ids, block.scores)?;
        if let (Some(table), Some(layers)) = (&mut self.layers, block.layers) {
            write_layers(table, &ids, layer_names, layers, self.plan.parts.1)?;
        }
        if let (Some(table), Some(tokens)) = (&mut self.tokens, block.tokens) {
            for (example, scores) in block.examples.iter().zip(tokens) {
                let n = example.n_rows();
                let pieces = pieces(encoder, example);
                let ids = vec![example.id.clone(); n];
                let positions: Vec<u32> = (0..n as u32).collect();
                table.block(&ids, &positions, &pieces[..n], scores)?;
            }
        }
        Ok(())
    }

    fn rotate(&mut self) -> std::result::Result<(), StoreError> {
        self.scores.rotate()?;
        self.layers.as_mut().map(LayerTableWriter::rotate).transpose()?;
        self.tokens.as_mut().map(TokenTableWriter::rotate).transpose()?;
        Ok(())
    }

    fn n_files(&self) -> [usize; 3] {
        let layers = self.layers.as_ref().map_or(0, LayerTableWriter::n_files);
        [self.scores.n_files(), layers, self.tokens.as_ref().map_or(0, TokenTableWriter::n_files)]
    }
}

fn write_layers(
    table: &mut LayerTableWriter,
    ids: &[String],
    names: &[String],
    layers: &[Buffer<f32>],
    n_queries: usize,
) -> std::result::Result<(), StoreError> {
    let (mut train_ids, mut layer_ids, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for (i, id) in ids.iter().enumerate() {
        for (name, layer) in names.iter().zip(layers) {
            train_ids.push(id.clone());
            layer_ids.push(name.clone());
            scores.extend_from_slice(&layer[i * n_queries..(i + 1) * n_queries]);
        }
    }
    table.block(&train_ids, &layer_ids, &scores)
}

/// Gives the rows that an earlier run has written to a sink, with their examples.
pub fn replay(
    folder: &Path,
    mut examples: impl Iterator<Item = std::result::Result<Example, DataError>>,
    sink: &mut TopK,
) -> Result<()> {
    for block in ScoreTable::open(folder)?.blocks(1024) {
        let block = block?;
        let n = block.keys.train_ids.len();
        let group = examples.by_ref().take(n).collect::<std::result::Result<Vec<_>, _>>()?;
        sink.block(&ScoreBlock { examples: &group, scores: &block.scores, layers: None, tokens: None })?;
    }
    Ok(())
}
