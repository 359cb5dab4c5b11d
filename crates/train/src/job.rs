//! A checked configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etymon_data::{Format, labels_of};
use etymon_store::{Fingerprint, RunSpec, fingerprint};
use serde_json::{Map, Value};

use crate::config::{OptimizerName, OrderName, TrainConfig, key_of};
use crate::plan::{Decay, LastBatch, Length, Optimizer, Order, Plan};
use crate::schedule::LearningRate;
use crate::{Result, TrainError};

/// Where the model comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelSource {
    /// A Hugging Face folder or a GGUF file.
    Path(PathBuf),
    /// config.json of a new model.
    New(Map<String, Value>),
}

/// Where the tokenizer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// It comes with the model; none for a new one.
    OfModel,
    /// A tokenizer.json.
    File(PathBuf),
    /// Byte-level BPE of this many tokens, trained on the data.
    Train(usize),
}

/// What `etymon train` does: a [`TrainConfig`] whose settings are known to fit together.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Name of the run in its log.
    pub run: String,
    /// Run folder.
    pub out: PathBuf,
    /// Model.
    pub model: ModelSource,
    /// Tokenizer.
    pub tokenizer: TokenizerSource,
    /// Format of the data, if not by the endings.
    pub format: Option<Format>,
    /// How to train. Examples to exclude are in `config` by their ids until the data are read.
    pub plan: Plan,
    /// The configuration as it was read.
    pub config: TrainConfig,
    /// The file it was read from, for messages; empty when it was not.
    pub file: PathBuf,
}

impl Job {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`TrainError::Config`] with file, line and key.
    pub fn read(file: &Path) -> Result<Self> {
        let located = |line, key, problem| TrainError::Config { file: file.to_owned(), line, key, problem };
        let text = std::fs::read_to_string(file).map_err(|e| located(None, None, format!("cannot be read: {e}")))?;
        let job = Self::try_from(TrainConfig::parse(&text, file)?).map_err(|error| match error {
            TrainError::Setting { key, problem } => {
                let line = text.lines().position(|line| key_of(line).is_some_and(|k| k == key)).map(|l| l + 1);
                located(line, Some(key.to_owned()), problem)
            }
            other => other,
        })?;
        Ok(Self { file: file.to_owned(), ..job })
    }

    /// The same job in another folder.
    #[must_use]
    pub fn with_out(mut self, out: &Path) -> Self {
        self.config.out = out.to_owned();
        Self { run: run_of(&self.config), out: out.to_owned(), ..self }
    }

    /// What identifies the run: everything that its result depends on.
    ///
    /// # Errors
    /// Inputs that cannot be read.
    pub fn spec(&self) -> Result<RunSpec> {
        let mut config = serde_json::to_value(&self.config).unwrap_or_default();
        if let Some(fields) = config.as_object_mut() {
            // Inputs count by their content; checkpoints do not change the result.
            for key in ["out", "model", "tokenizer", "data", "watch", "checkpoint_every"] {
                fields.remove(key);
            }
        }
        let seeds = ["init", "order"].map(|stream| (stream.to_owned(), self.config.seed));
        Ok(RunSpec { kind: "training".to_owned(), config, seeds: BTreeMap::from(seeds), inputs: self.inputs()? })
    }

    fn inputs(&self) -> Result<BTreeMap<String, Fingerprint>> {
        let mut inputs = BTreeMap::new();
        if let ModelSource::Path(path) = &self.model {
            inputs.insert("model".to_owned(), fingerprint(path)?);
            if let Some(base) = etymon_model::adapter_base(path)? {
                inputs.insert("base".to_owned(), fingerprint(&base)?);
            }
        }
        if let TokenizerSource::File(path) = &self.tokenizer {
            inputs.insert("tokenizer".to_owned(), fingerprint(path)?);
        }
        for (role, paths) in [("data", &self.config.data), ("watch", &self.config.watch)] {
            for (i, path) in paths.iter().enumerate() {
                let role = if i == 0 { role.to_owned() } else { format!("{role}-{}", i + 1) };
                if let Some(labels) = labels_of(path).filter(|path| path.is_file()) {
                    inputs.insert(format!("{role}-labels"), fingerprint(&labels)?);
                }
                inputs.insert(role, fingerprint(path)?);
            }
        }
        Ok(inputs)
    }
}

impl TryFrom<TrainConfig> for Job {
    type Error = TrainError;

    fn try_from(config: TrainConfig) -> Result<Self> {
        let plan = plan(&config)?;
        if config.out.as_os_str().is_empty() {
            return Err(TrainError::setting("out", "is missing: name a folder for the results"));
        }
        if config.data.is_empty() {
            return Err(TrainError::setting("data", "is missing: name the files of train examples"));
        }
        let format = config.format.as_deref().map(format_of).transpose()?;
        let (model, tokenizer) = (model_source(&config)?, tokenizer_source(&config)?);
        let run = run_of(&config);
        check_lora(&config)?;
        check_finetune(&config)?;
        Ok(Self { run, out: config.out.clone(), model, tokenizer, format, plan, config, file: PathBuf::new() })
    }
}

/// Name of a run in its log.
fn run_of(config: &TrainConfig) -> String {
    let name = config.out.file_name().map(|n| n.to_string_lossy().into_owned());
    config.run.clone().or(name).unwrap_or_else(|| "run".to_owned())
}

fn format_of(name: &str) -> Result<Format> {
    let known = || Format::ALL.map(Format::name).join(", ");
    Format::from_name(name).ok_or_else(|| TrainError::setting("format", format!("`{name}` is none of {}", known())))
}

fn model_source(config: &TrainConfig) -> Result<ModelSource> {
    match (&config.model, &config.architecture) {
        (Some(path), None) => Ok(ModelSource::Path(path.clone())),
        (None, Some(json)) => Ok(ModelSource::New(json.clone())),
        (Some(_), Some(_)) => Err(TrainError::setting("model", "give either `model` or `[architecture]`, not both")),
        (None, None) => {
            let problem = "is missing: give the folder to start from, or `[architecture]` for a new model";
            Err(TrainError::setting("model", problem))
        }
    }
}

fn check_lora(config: &TrainConfig) -> Result<()> {
    let Some(lora) = &config.lora else { return Ok(()) };
    if config.model.is_none() {
        return Err(TrainError::setting("lora", "adapters need a trained `model`, whose files they name"));
    }
    if lora.rank == 0 {
        return Err(TrainError::setting("rank", "must be at least 1, is 0"));
    }
    if !(lora.alpha.is_finite() && lora.alpha > 0.0) {
        return Err(TrainError::setting("alpha", format!("must be > 0, is {}", lora.alpha)));
    }
    if lora.dropout != 0.0 {
        return Err(TrainError::setting("dropout", format!("is not supported: only 0, is {}", lora.dropout)));
    }
    Ok(())
}

fn check_finetune(config: &TrainConfig) -> Result<()> {
    let Some(finetune) = &config.finetune else { return Ok(()) };
    if config.model.is_none() {
        return Err(TrainError::setting("finetune", "is for a trained `model`, not for a new one"));
    }
    if config.lora.is_some() {
        return Err(TrainError::setting(
            "finetune",
            "give either this or `[lora]`, of which adapters alone are trained",
        ));
    }
    finetune.check()
}

fn tokenizer_source(config: &TrainConfig) -> Result<TokenizerSource> {
    let Some(vocab) = config.train_tokenizer_vocab else {
        let file = |path: &PathBuf| if path.is_dir() { path.join("tokenizer.json") } else { path.clone() };
        return Ok(config.tokenizer.as_ref().map_or(TokenizerSource::OfModel, |p| TokenizerSource::File(file(p))));
    };
    let problem = if config.tokenizer.is_some() {
        "give either this or `tokenizer`, not both".to_owned()
    } else if config.model.is_some() {
        "a trained model has its tokenizer; this is for a new one".to_owned()
    } else if vocab < 257 {
        format!("must be at least 257 (the bytes and the end of text), is {vocab}")
    } else {
        return Ok(TokenizerSource::Train(vocab));
    };
    Err(TrainError::setting("train_tokenizer_vocab", problem))
}

fn plan(config: &TrainConfig) -> Result<Plan> {
    let length = match (config.epochs, config.steps) {
        (Some(_), Some(_)) => return Err(TrainError::setting("steps", "give either `epochs` or `steps`, not both")),
        (None, Some(steps)) => Length::Steps(steps),
        (epochs, None) => Length::Epochs(epochs.unwrap_or(1)),
    };
    let (optimizer, decay) = match config.optimizer {
        OptimizerName::AdamW => {
            let [beta1, beta2] = config.betas;
            (Optimizer::AdamW { beta1, beta2, eps: config.eps }, Decay::Matrices)
        }
        OptimizerName::Sgd => (Optimizer::Sgd { momentum: config.momentum }, Decay::All),
    };
    let plan = Plan {
        seed: config.seed,
        order: match config.order {
            OrderName::Shuffled => Order::Shuffled,
            OrderName::Sequential => Order::Sequential,
        },
        excluded: Vec::new(),
        removal: config.removal,
        length,
        batch_size: config.batch_size,
        last_batch: if config.drop_last { LastBatch::Drop } else { LastBatch::Keep },
        micro_batch_rows: config.micro_batch_rows,
        optimizer,
        weight_decay: config.weight_decay,
        decay: config.decay.unwrap_or(decay),
        learning_rate: LearningRate {
            peak: config.lr,
            schedule: config.schedule,
            warmup_steps: config.warmup_steps,
            min_ratio: config.min_lr_ratio,
        },
        learning_rates: None,
        clip_norm: config.clip_norm,
        reduction: config.reduction,
        tie: None,
        watch_every: config.watch_every,
        checkpoint_every: config.checkpoint_every,
    };
    plan.check()?;
    Ok(plan)
}
