//! Score tables: scores to the store as they come, and the small tables at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etymon_attribution::{
    AttributionError, Entry, Parts, Queries, QueryValue, Ranked, ScoreBlock, ScoreSink, TopK, score,
};
use etymon_data::{BatchLimits, Content, DataError, Encoder, Example, ExampleIndex};
use etymon_model::{LayerSpec, Model};
use etymon_store::{
    LayerTableWriter, QueryRow, RunFolder, ScoreTable, ScoreTableWriter, StoreError, TokenTableWriter, TopRow, TopSide,
};
use etymon_tensor::Buffer;
use serde_json::json;

use crate::error::Result;
use crate::open::{Opened, Work};

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

/// The tables that grow with the train set: sums over the first layers. Those of all layers are in the folder of the run.
pub struct Tables<'a> {
    run: &'a mut RunFolder,
    path: PathBuf,
    /// The sums are of this many layers.
    n_layers: usize,
    /// Out of this many.
    of: usize,
    scores: ScoreTableWriter,
    layers: Option<LayerTableWriter>,
    tokens: Option<TokenTableWriter>,
    layer_names: Vec<String>,
    encoder: Option<&'a Encoder>,
    n_queries: usize,
    rows: u64,
    saved: Instant,
}

impl<'a> Tables<'a> {
    /// Opens the tables of the sums over the first `n_layers` layers, and drops what the run's progress does not vouch for.
    pub fn open(
        run: &'a mut RunFolder,
        queries: &[String],
        specs: &[LayerSpec],
        n_layers: usize,
        parts: Parts,
        encoder: Option<&'a Encoder>,
    ) -> Result<Self> {
        let of = specs.len();
        let folder = if n_layers == of { run.path().to_owned() } else { run.file(&sums_folder(n_layers)) };
        let progress = &run.manifest().progress;
        let vouched = progress["layers_summed"].as_u64().unwrap_or(of as u64) == n_layers as u64;
        let n_files = |table: &str| progress[table].as_u64().filter(|_| vouched).unwrap_or(0) as usize;
        let mut scores = ScoreTableWriter::open(&folder, queries)?;
        scores.keep_files(n_files("score_files"))?;
        let mut layers = parts.layers.then(|| LayerTableWriter::open(&folder, queries)).transpose()?;
        if let Some(layers) = &mut layers {
            layers.keep_files(n_files("layer_files"))?;
        }
        let mut tokens = parts.tokens.then(|| TokenTableWriter::open(&folder, queries)).transpose()?;
        if let Some(tokens) = &mut tokens {
            tokens.keep_files(n_files("token_files"))?;
        }
        let rows = scores.rows_done();
        Ok(Self {
            run,
            path: folder,
            n_layers,
            of,
            scores,
            layers,
            tokens,
            layer_names: specs[..n_layers].iter().map(|s| s.name.clone()).collect(),
            encoder,
            n_queries: queries.len(),
            rows,
            saved: Instant::now(),
        })
    }

    /// Rows that an earlier run has written.
    pub fn rows_done(&self) -> u64 {
        self.scores.rows_done()
    }

    /// Their folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rows that an earlier run has written, of each table.
    pub fn done(&self) -> DoneRows {
        let tokens = self.tokens.as_ref().map_or(0, TokenTableWriter::rows_done);
        DoneRows { scores: self.scores.rows_done(), tokens }
    }

    /// Completes the tables; returns their rows. The sums over fewer layers are not needed any more.
    pub fn finish(mut self) -> Result<u64> {
        self.save()?;
        self.scores.finish()?;
        self.layers.map(LayerTableWriter::finish).transpose()?;
        self.tokens.map(TokenTableWriter::finish).transpose()?;
        let before = layers_done(self.run);
        if self.n_layers < self.of {
            self.run.update_progress(json!({ "layers_done": self.n_layers }))?;
            self.run.remove(&sums_folder(before))?;
        }
        Ok(self.rows)
    }

    fn write(&mut self, block: &ScoreBlock<'_>) -> std::result::Result<(), StoreError> {
        let ids: Vec<String> = block.examples.iter().map(|e| e.id.clone()).collect();
        self.scores.block(&ids, block.scores)?;
        if let (Some(table), Some(layers)) = (&mut self.layers, block.layers) {
            write_layers(table, &ids, &self.layer_names, layers, self.n_queries)?;
        }
        if let (Some(table), Some(tokens)) = (&mut self.tokens, block.tokens) {
            for (example, scores) in block.examples.iter().zip(tokens) {
                let n = example.n_rows();
                let pieces = pieces(self.encoder, example);
                let ids = vec![example.id.clone(); n];
                let positions: Vec<u32> = (0..n as u32).collect();
                table.block(&ids, &positions, &pieces[..n], scores)?;
            }
        }
        self.rows += ids.len() as u64;
        if self.saved.elapsed() >= SAVE_EVERY {
            self.save()?;
        }
        Ok(())
    }

    /// Makes all rows so far safe from a crash.
    fn save(&mut self) -> std::result::Result<(), StoreError> {
        self.scores.rotate()?;
        self.layers.as_mut().map(LayerTableWriter::rotate).transpose()?;
        self.tokens.as_mut().map(TokenTableWriter::rotate).transpose()?;
        self.run.update_progress(json!({
            "layers_done": layers_done(self.run),
            "layers_summed": self.n_layers,
            "score_files": self.scores.n_files(),
            "layer_files": self.layers.as_ref().map_or(0, LayerTableWriter::n_files),
            "token_files": self.tokens.as_ref().map_or(0, TokenTableWriter::n_files),
        }))?;
        self.saved = Instant::now();
        Ok(())
    }
}

impl ScoreSink for Tables<'_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        self.write(block).map_err(AttributionError::sink)
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

/// The text of each token of an example, `#id` where there is no tokenizer.
fn pieces(encoder: Option<&Encoder>, example: &Example) -> Vec<String> {
    let ids = example.token_ids();
    let decoded = encoder.and_then(|e| e.pieces(ids).ok());
    decoded.unwrap_or_else(|| ids.iter().map(|id| format!("#{id} ")).collect())
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

/// Writes `queries.parquet`.
pub fn write_queries(folder: &Path, opened: &Opened, examples: &[Example], values: &[QueryValue]) -> Result<()> {
    let by_id: BTreeMap<&str, &Example> = examples.iter().map(|e| (e.id.as_str(), e)).collect();
    let row = |value: &QueryValue| {
        let example = by_id.get(value.id.as_str()).copied();
        let (prompt, completion) = example.map(|e| prompt_and_completion(opened, e)).unwrap_or_default();
        QueryRow {
            query_id: value.id.clone(),
            text: example.map(|e| e.text.clone()).filter(|text| !text.is_empty()),
            prompt,
            completion,
            measurement: value.measurement,
            metadata: example.map(|e| e.metadata.clone()).unwrap_or_default(),
        }
    };
    let rows: Vec<QueryRow> = values.iter().map(row).collect();
    Ok(QueryRow::write_all(&folder.join("queries.parquet"), &rows)?)
}

/// What is given and what is explained, as text.
fn prompt_and_completion(opened: &Opened, example: &Example) -> (Option<String>, Option<String>) {
    let (Some(encoder), Content::Tokens { ids, loss_start }) = (&opened.encoder, &example.content) else {
        return (None, None);
    };
    let decoded = |ids: &[u32]| encoder.decode(ids).ok().filter(|text| !text.is_empty());
    (decoded(&ids[..*loss_start]), decoded(&ids[*loss_start..]))
}

/// Writes `top.parquet`; `known` are, per query, the parts of scores.
pub fn write_top(
    folder: &Path,
    opened: &Opened,
    values: &[QueryValue],
    known: &[BTreeMap<ExampleIndex, Known>],
    ranked: &[Ranked],
) -> Result<()> {
    let mut rows = Vec::new();
    for ((value, lists), known) in values.iter().zip(ranked).zip(known) {
        for (side, list) in [(TopSide::Proponent, &lists.proponents), (TopSide::Opponent, &lists.opponents)] {
            for (i, entry) in list.iter().enumerate() {
                rows.push(top_row(opened, &value.id, side, i, entry, known.get(&entry.example.index)));
            }
        }
    }
    Ok(TopRow::write_all(&folder.join("top.parquet"), &rows)?)
}

/// The parts of one example's score on one query.
#[derive(Default)]
pub struct Known {
    /// `[n_layers]`.
    layers: Option<Vec<f32>>,
    /// `[rows]`.
    tokens: Option<Vec<f32>>,
}

fn top_row(opened: &Opened, query: &str, side: TopSide, place: usize, entry: &Entry, known: Option<&Known>) -> TopRow {
    let example = &entry.example;
    let token_scores = known.and_then(|k| k.tokens.clone()).map(|mut scores| {
        // The last token predicts nothing.
        scores.resize(example.n_tokens(), 0.0);
        scores
    });
    TopRow {
        query_id: query.to_owned(),
        side,
        rank: place as u32 + 1,
        train_id: example.id.clone(),
        score: entry.score,
        text: Some(example.text.clone()).filter(|text| !text.is_empty()),
        tokens: token_scores.as_ref().map(|_| pieces(opened.encoder.as_ref(), example)),
        token_scores,
        layer_scores: known.and_then(|k| k.layers.clone()),
        metadata: example.metadata.clone(),
    }
}

/// Runs the listed examples of one query for the parts of their scores at the layers of a model; adds them to `known`, of
/// the layers before.
pub fn add_parts(
    model: &Model<Work>,
    query: &Queries<Work>,
    ranked: &Ranked,
    wanted: Parts,
    limits: BatchLimits,
    known: &mut BTreeMap<ExampleIndex, Known>,
) -> Result<()> {
    let listed = ranked.proponents.iter().chain(&ranked.opponents);
    let unique: BTreeMap<ExampleIndex, &Example> = listed.map(|e| (e.example.index, e.example.as_ref())).collect();
    Ok(score(model, query, unique.into_values().cloned().map(Ok), limits, wanted, &mut Collect(known))?)
}

/// Keeps the parts of the scores on one query.
struct Collect<'a>(&'a mut BTreeMap<ExampleIndex, Known>);

impl ScoreSink for Collect<'_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> etymon_attribution::Result<()> {
        for (i, example) in block.examples.iter().enumerate() {
            let known = self.0.entry(example.index).or_default();
            if let Some(layers) = block.layers {
                known.layers.get_or_insert_default().extend(layers.iter().map(|layer| layer[i]));
            }
            if let Some(tokens) = block.tokens {
                let sums = known.tokens.get_or_insert_with(|| vec![0.0; tokens[i].len()]);
                sums.iter_mut().zip(tokens[i].iter()).for_each(|(sum, x)| *sum += x);
            }
        }
        Ok(())
    }
}
