//! What commands open: models, tokenizers, corpora, queries. Everything is checked before long work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etymon_curvature::Factors;
use etymon_data::{
    BadRows, Batch, BatchLimits, Batches, Corpus, CorpusOptions, DataError, Encoder, Example, Format, Overlong,
    Packing, Padding, Task as DataTask, labels_of,
};
use etymon_model::{Model, adapter_base, is_adapter, load, load_on, model_files, tokenizer_file, tokenizer_json};
use etymon_store::{Fingerprint, RunFolder, fingerprint};
use etymon_tensor::{Cpu, Precision};
use serde_json::{Value, json};

use crate::args::{DataArgs, ModelArgs, OnBadRow, RowArgs};
use crate::error::{CliError, Result};

/// The backend of the commands.
pub type Work = Cpu<f32>;

/// A model with its tokenizer.
pub struct Opened {
    /// The model.
    pub model: Model<Work>,
    /// Its tokenizer, if it has one.
    pub encoder: Option<Encoder>,
}

/// Loads a model, chooses its layers, loads its tokenizer.
pub fn open_model(args: &ModelArgs, precision: Precision) -> Result<Opened> {
    let backend = Cpu::with_precision(precision);
    let mut model = match base_of(args)? {
        Some(base) => load_on(backend, &args.model, &base)?,
        None => load(backend, &args.model)?,
    };
    if args.merged {
        model = model.merged()?;
    }
    model.select_layers(args.layers.as_deref())?;
    let encoder = match &args.tokenizer {
        Some(path) => Some(Encoder::from_file(path)?),
        None => tokenizer_json(&tokenizer_home(args)?)?.map(|json| Encoder::from_bytes(json.as_bytes())).transpose()?,
    };
    Ok(Opened { model, encoder })
}

/// The base of a model that is a folder of adapters.
fn base_of(args: &ModelArgs) -> Result<Option<PathBuf>> {
    let unfit = |option| {
        let problem = format!("{} is not a folder of adapters (adapter_config.json)", args.model.display());
        Err(CliError::Usage { option, problem })
    };
    match (is_adapter(&args.model), &args.base) {
        (true, Some(base)) => Ok(Some(base.clone())),
        (true, None) => Ok(adapter_base(&args.model)?),
        (false, Some(_)) => unfit("--base"),
        (false, None) if args.merged => unfit("--merged"),
        (false, None) => Ok(None),
    }
}

/// Where the model's tokenizer is: adapters may come with one, or use that of their base.
fn tokenizer_home(args: &ModelArgs) -> Result<PathBuf> {
    let own = args.model.clone();
    Ok(if tokenizer_file(&own).exists() { own } else { base_of(args)?.unwrap_or(own) })
}

/// Opens the training data.
pub fn open_corpus(opened: &Opened, args: &DataArgs) -> Result<Corpus> {
    let mut options = row_options(&opened.model, &args.rows)?;
    if args.pack {
        options.packing = Packing::Pack { eos: opened.encoder.as_ref().and_then(Encoder::end_of_text) };
    }
    Ok(Corpus::open(&args.data, opened.encoder.clone(), options)?)
}

/// Opens any rows without packing; long ones are cut.
pub fn open_rows(opened: &Opened, paths: &[PathBuf], rows: &RowArgs) -> Result<Corpus> {
    Ok(Corpus::open(paths, opened.encoder.clone(), row_options(&opened.model, rows)?)?)
}

/// Examples as batches without padding, in memory.
pub fn stacked(
    examples: impl Iterator<Item = etymon_data::Result<Example>>,
    limits: BatchLimits,
) -> Result<Vec<Batch>> {
    Batches::new(examples, limits).map(|group| Ok(Batch::stack(&group?, Padding::None)?)).collect()
}

/// Reads all queries; a query that is longer than the context is refused, never cut.
pub fn read_queries(opened: &Opened, paths: &[PathBuf], rows: &RowArgs) -> Result<Vec<Example>> {
    let options = CorpusOptions {
        max_tokens: usize::MAX,
        overlong: Overlong::Fail,
        bad_rows: BadRows::Fail,
        ..row_options(&opened.model, rows)?
    };
    let open = |format| Corpus::open(paths, opened.encoder.clone(), CorpusOptions { format, ..options.clone() });
    let corpus = match (open(None), options.format) {
        (Err(DataError::UnknownFormat { .. }), Some(format)) => open(Some(format))?,
        (opened, _) => opened?,
    };
    let queries = corpus.read_all()?;
    for query in &queries {
        if let Some(context) = opened.model.config().context()
            && query.n_rows() > context
        {
            return Err(CliError::QueryTooLong { id: query.id.clone(), tokens: query.n_tokens(), context });
        }
        check(&opened.model, query)?;
    }
    Ok(queries)
}

fn row_options(model: &Model<Work>, args: &RowArgs) -> Result<CorpusOptions> {
    let format = match &args.format {
        None => None,
        Some(name) => Some(Format::from_name(name).ok_or_else(|| CliError::Usage {
            option: "--format",
            problem: format!("`{name}` is not one of jsonl, csv, text, parquet"),
        })?),
    };
    let context = model.config().context().unwrap_or(usize::MAX);
    if let Some(asked) = args.max_tokens.filter(|&n| n > context) {
        let problem = format!("{asked} is more than the model's context of {context}");
        return Err(CliError::Usage { option: "--max-tokens", problem });
    }
    let task = model.config().rows().map(|rows| match rows.task {
        etymon_model::Task::Classification => DataTask::Classification,
        etymon_model::Task::Regression => DataTask::Regression,
    });
    Ok(CorpusOptions {
        format,
        max_tokens: args.max_tokens.unwrap_or(context),
        bad_rows: if args.on_bad_row == OnBadRow::Skip { BadRows::Skip } else { BadRows::Fail },
        label: args.label.clone(),
        task,
        vocab: model.config().vocab(),
        ..CorpusOptions::default()
    })
}

fn check(model: &Model<Work>, example: &Example) -> Result<()> {
    model.check(example).map_err(|source| CliError::Example { id: example.id.clone(), source })
}

/// Reads and checks every row once before long work: what the model or the reader refuses is found now.
pub fn count_examples(model: &Model<Work>, corpus: &Corpus, most: Option<u64>) -> Result<Counted> {
    let mut examples = corpus.examples();
    let (mut n, mut tokens, mut rows, mut longest) = (0u64, 0u64, 0u64, 0u64);
    for example in examples.by_ref().take(most.map_or(usize::MAX, |m| m as usize)) {
        let example = example?;
        check(model, &example)?;
        tokens += example.n_tokens() as u64;
        rows += example.n_rows() as u64;
        longest = longest.max(example.n_rows() as u64);
        n += 1;
    }
    let counts = examples.counts();
    let (skipped, truncated, reasons) = (counts.skipped, counts.truncated, counts.reasons.clone());
    Ok(Counted { examples: n, tokens, rows, longest, skipped, truncated, reasons })
}

/// The manifest's settings of a command that reads training data: its `own`, and those of the reading.
pub fn with_reading<const N: usize>(own: [(&str, Value); N], args: &DataArgs) -> Value {
    let on_bad_row = if args.rows.on_bad_row == OnBadRow::Skip { "skip" } else { "fail" };
    let settings = [
        ("max_rows", json!(args.max_rows)),
        ("max_tokens", json!(args.rows.max_tokens)),
        ("pack", json!(args.pack)),
        ("format", json!(args.rows.format)),
        ("label", json!(args.rows.label)),
        ("on_bad_row", json!(on_bad_row)),
    ];
    own.into_iter().chain(settings).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What a first reading of a corpus found.
#[derive(Clone)]
pub struct Counted {
    /// Examples.
    pub examples: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their rows: tokens that are inputs, or rows of features.
    pub rows: u64,
    /// Rows of the longest.
    pub longest: u64,
    /// Bad rows left out.
    pub skipped: u64,
    /// Sequences cut.
    pub truncated: u64,
    /// The first few reasons.
    pub reasons: Vec<String>,
}

impl Counted {
    /// `n` examples as these are.
    pub fn part(&self, n: u64) -> Self {
        let part = |x: u64| (x * n).div_ceil(self.examples.max(1));
        Self { examples: n, tokens: part(self.tokens), rows: part(self.rows), ..self.clone() }
    }

    /// One line.
    pub fn describe(&self) -> String {
        let mut text = format!("{} examples", self.examples);
        if self.tokens > 0 {
            text += &format!(", {} tokens", self.tokens);
        }
        if self.truncated > 0 {
            text += &format!(", {} cut to the context", self.truncated);
        }
        if self.skipped > 0 {
            text +=
                &format!(", {} bad rows skipped (the first: {})", self.skipped, self.reasons.first().map_or("", |r| r));
        }
        text
    }

    /// For results and manifests.
    pub fn json(&self) -> Value {
        json!({ "examples": self.examples, "tokens": self.tokens, "skipped": self.skipped, "truncated": self.truncated })
    }
}

/// Fingerprint of the tokenizer file, if there is one (a GGUF holds its own).
pub fn tokenizer_fingerprint(args: &ModelArgs) -> Result<BTreeMap<String, Fingerprint>> {
    let path = match &args.tokenizer {
        Some(path) => path.clone(),
        None => tokenizer_file(&tokenizer_home(args)?),
    };
    let mut out = BTreeMap::new();
    if path.exists() {
        out.insert("tokenizer".to_owned(), fingerprint(&path)?);
    }
    Ok(out)
}

/// Opens the factors of a fit of this model, and taps the layers that they are of; refuses those of another model.
pub fn open_factors(folder: &Path, args: &ModelArgs, model: &mut Model<Work>) -> Result<Factors> {
    let run = RunFolder::open_complete(folder, "factors")?;
    require_same_model(&run, args)?;
    if args.layers.is_none() {
        model.select_layers(run.manifest().spec.config["layers"].as_str())?;
    }
    Ok(Factors::open(folder, model.layers())?)
}

/// Whether the model's files are those that a run was made with; the error names the file that differs.
pub fn require_same_model(run: &RunFolder, model: &ModelArgs) -> Result<()> {
    for (name, now) in model_fingerprints(model)? {
        if run.manifest().spec.inputs.get(&name).is_none_or(|then| then.sha256 != now.sha256) {
            return Err(CliError::OtherModel { folder: run.path().display().to_string(), file: name });
        }
    }
    Ok(())
}

/// Fingerprints of the files of a model, and of the base of adapters, by file name.
pub fn model_fingerprints(args: &ModelArgs) -> Result<BTreeMap<String, Fingerprint>> {
    let mut out = BTreeMap::new();
    let base = base_of(args)?.map(|base| ("base", base));
    for (role, path) in base.into_iter().chain([("model", args.model.clone())]) {
        for file in model_files(&path)? {
            let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            out.insert(format!("{role}/{name}"), fingerprint(&file)?);
        }
    }
    Ok(out)
}

/// Fingerprints of data files, by position.
pub fn data_fingerprints(role: &str, corpus: &Corpus) -> Result<BTreeMap<String, Fingerprint>> {
    path_fingerprints(role, corpus.files().iter().map(|file| file.path.as_path()))
}

/// Fingerprints of files of rows, by position, and of the labels beside images.
pub fn path_fingerprints<'a>(
    role: &str,
    paths: impl Iterator<Item = &'a Path>,
) -> Result<BTreeMap<String, Fingerprint>> {
    let mut out = BTreeMap::new();
    for (i, path) in paths.enumerate() {
        out.insert(format!("{role}/{i:05}"), fingerprint(path)?);
        if let Some(labels) = labels_of(path).filter(|path| path.is_file()) {
            out.insert(format!("{role}/{i:05}/labels"), fingerprint(&labels)?);
        }
    }
    Ok(out)
}
