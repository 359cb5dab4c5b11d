//! Reading what a job names: tokenizer, model, examples.

use std::collections::BTreeMap;
use std::path::Path;

use etymon_data::{BadRows, Corpus, CorpusOptions, Encoder, Example, ExampleIndex, Packing, Task, train_bpe};
use etymon_model::{Model, ModelConfig, ModelError};
use etymon_tensor::Backend;
use serde_json::{Map, Value};

use crate::job::{Job, ModelSource, TokenizerSource};
use crate::plan::Plan;
use crate::{Result, TrainError};

/// Everything that a job reads.
#[derive(Clone, Debug)]
pub struct Loaded<B: Backend> {
    /// Model to start from.
    pub model: Model<B>,
    /// Train examples.
    pub train: Vec<Example>,
    /// Watched examples.
    pub watched: Vec<Example>,
    /// Content of tokenizer.json.
    pub tokenizer_json: Option<String>,
    /// The plan, with the examples to exclude by their indices.
    pub plan: Plan,
}

impl Job {
    /// Reads tokenizer, model and examples.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit together.
    pub fn load<B: Backend>(&self, backend: B) -> Result<Loaded<B>> {
        self.load_all(backend).map_err(|error| match error {
            TrainError::Setting { key, problem } if !self.file.as_os_str().is_empty() => {
                TrainError::Config { file: self.file.clone(), line: None, key: Some(key.to_owned()), problem }
            }
            other => other,
        })
    }

    fn load_all<B: Backend>(&self, backend: B) -> Result<Loaded<B>> {
        let encoder = self.encoder()?;
        let mut tie = None;
        let model = match &self.model {
            ModelSource::Path(path) => {
                let mut model = self.adapted(etymon_model::load(backend, path)?, path)?;
                if let Some(finetune) = &self.config.finetune {
                    let (start, tied) = finetune.start(&model, self.config.seed)?;
                    (model, tie) = (start, Some(tied));
                }
                model
            }
            ModelSource::New(json) => Model::new(backend, complete(json.clone(), encoder.as_ref()), self.config.seed)?,
        };
        let options = self.options(model.config(), encoder.as_ref())?;
        let train = Corpus::open(&self.config.data, encoder.clone(), options.clone())?.read_all()?;
        let watched = match self.config.watch.as_slice() {
            [] => Vec::new(),
            paths => {
                let options = CorpusOptions { packing: Packing::None, format: None, ..options };
                Corpus::open(paths, encoder.clone(), options)?.read_all()?
            }
        };
        let tokenizer_json = encoder.map(|e| e.to_json()).transpose()?;
        let plan = Plan { excluded: self.excluded(&train)?, tie, ..self.plan.clone() };
        Ok(Loaded { model, train, watched, tokenizer_json, plan })
    }

    /// The model with the adapters that `[lora]` asks for.
    fn adapted<B: Backend>(&self, model: Model<B>, path: &Path) -> Result<Model<B>> {
        let Some(lora) = &self.config.lora else { return Ok(model) };
        let base = path.canonicalize().map_err(|e| TrainError::folder("reading", path, e))?;
        let adapted = model.add_lora((lora.rank, lora.alpha), lora.targets.as_deref(), &base, self.config.seed);
        adapted.map_err(|error| match error {
            ModelError::NoLayers { .. } | ModelError::Pattern { .. } => {
                TrainError::setting("targets", error.to_string())
            }
            ModelError::Lora { key: "target_modules", problem } => TrainError::setting("targets", problem),
            ModelError::Lora { problem, .. } => TrainError::setting("lora", problem),
            other => other.into(),
        })
    }

    fn encoder(&self) -> Result<Option<Encoder>> {
        match (&self.tokenizer, &self.model) {
            (TokenizerSource::File(path), _) => Ok(Some(Encoder::from_file(path)?)),
            (TokenizerSource::Train(vocab), _) => self.train_encoder(*vocab).map(Some),
            (TokenizerSource::OfModel, ModelSource::New(_)) => Ok(None),
            (TokenizerSource::OfModel, ModelSource::Path(path)) => {
                let json = etymon_model::tokenizer_json(path)?;
                Ok(json.map(|json| Encoder::from_bytes(json.as_bytes())).transpose()?)
            }
        }
    }

    /// A tokenizer for the texts of the data, which are read with one that knows bytes only.
    fn train_encoder(&self, vocab: usize) -> Result<Encoder> {
        let bytes = train_bpe(std::iter::empty::<String>(), 257, &[])?;
        let options = CorpusOptions { format: self.format, bad_rows: self.bad_rows(), ..CorpusOptions::default() };
        let corpus = Corpus::open(&self.config.data, Some(bytes), options)?;
        let mut failure = None;
        let texts = corpus.examples().map_while(|example| match example {
            Ok(example) => Some(example.text),
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        let encoder = train_bpe(texts, vocab, &[])?;
        failure.map_or(Ok(encoder), |error| Err(error.into()))
    }

    fn bad_rows(&self) -> BadRows {
        if self.config.skip_bad_rows { BadRows::Skip } else { BadRows::Fail }
    }

    fn options(&self, model: &ModelConfig, encoder: Option<&Encoder>) -> Result<CorpusOptions> {
        let context = model.context().unwrap_or(usize::MAX);
        let max_tokens = self.config.max_tokens.unwrap_or(context);
        if max_tokens < 2 || max_tokens > context {
            let problem = format!("must be from 2 to the context of the model, {context}; is {max_tokens}");
            return Err(TrainError::setting("max_tokens", problem));
        }
        let task = model.rows().map(|rows| match rows.task {
            etymon_model::Task::Classification => Task::Classification,
            etymon_model::Task::Regression => Task::Regression,
        });
        let eos = encoder.and_then(Encoder::end_of_text);
        Ok(CorpusOptions {
            format: self.format,
            max_tokens,
            packing: if self.config.packing { Packing::Pack { eos } } else { Packing::None },
            bad_rows: self.bad_rows(),
            label: self.config.label.clone(),
            task,
            vocab: model.vocab(),
            ..CorpusOptions::default()
        })
    }

    fn excluded(&self, train: &[Example]) -> Result<Vec<ExampleIndex>> {
        let indices: BTreeMap<&str, ExampleIndex> = train.iter().map(|e| (e.id.as_str(), e.index)).collect();
        let find = |id: &String| {
            let index = indices.get(id.as_str()).copied();
            index.ok_or_else(|| TrainError::setting("exclude", format!("there is no train example `{id}`")))
        };
        self.config.exclude.iter().map(find).collect()
    }
}

/// Fills in what the tokenizer says about a new language model.
fn complete(mut json: Map<String, Value>, encoder: Option<&Encoder>) -> Value {
    if let Some(encoder) =
        encoder.filter(|_| json.get("model_type").is_some_and(|kind| kind != "mlp" && kind != "convnet"))
    {
        json.entry("vocab_size").or_insert_with(|| encoder.vocab_size().into());
        if let Some(id) = encoder.end_of_text() {
            json.entry("bos_token_id").or_insert_with(|| id.into());
            json.entry("eos_token_id").or_insert_with(|| id.into());
        }
    }
    Value::Object(json)
}
