//! The configuration file of `etymon train`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::finetune::FinetuneConfig;
use crate::plan::{Decay, Reduction, Removal};
use crate::schedule::Schedule;
use crate::{Result, TrainError};

/// A TOML file. Relative paths are relative to the folder of the file. Every key has a default except `out`, `data` and
/// one of `model` and `[architecture]`.
///
/// ```toml
/// out = "runs/tiny"
/// data = ["corpus.jsonl"]
/// train_tokenizer_vocab = 2048
/// lr = 1e-3
/// schedule = "cosine"
///
/// [architecture]            # config.json of a new model
/// model_type = "gpt2"
/// n_embd = 128
/// n_layer = 4
/// n_head = 4
/// n_positions = 64
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Name of the run in its log. Default: the name of the folder `out`.
    pub run: Option<String>,
    /// Folder for the log, the checkpoints and the final model. Required.
    pub out: PathBuf,

    /// Model to start from: a Hugging Face folder or a GGUF file. This or `[architecture]`.
    pub model: Option<PathBuf>,
    /// The config.json of a new model, started at random. `vocab_size` defaults to that of the tokenizer.
    pub architecture: Option<Map<String, Value>>,
    /// tokenizer.json, or the folder of one. Default: that of `model`.
    pub tokenizer: Option<PathBuf>,
    /// Trains a byte-level BPE tokenizer of this many tokens (at least 257) on `data`, instead of `tokenizer`.
    pub train_tokenizer_vocab: Option<usize>,

    /// Files and folders of train examples. Required.
    pub data: Vec<PathBuf>,
    /// Format of the data: jsonl, csv, text, parquet, idx. Default: by the endings of the files.
    pub format: Option<String>,
    /// Label column of rows of features. Default: `label` or `target`, in CSV the last numeric column.
    pub label: Option<String>,
    /// Rows that cannot be used are skipped and counted instead of ending the run. Default: false.
    pub skip_bad_rows: bool,
    /// Longest example in tokens, from 2 to the context of the model. Longer ones are cut. Default: the context.
    pub max_tokens: Option<usize>,
    /// Documents are joined, each followed by the end-of-text token, and cut every `max_tokens`. Default: false.
    pub packing: bool,
    /// Examples whose loss is logged along the way; never packed.
    pub watch: Vec<PathBuf>,
    /// Steps between two such measurements, ≥ 1. Default: 1.
    pub watch_every: u64,

    /// Seed of every random stream (init, order). Default: 0.
    pub seed: u64,
    /// Times through the data, ≥ 1. Default: 1, unless `steps` is given.
    pub epochs: Option<u64>,
    /// Steps, ≥ 1; instead of `epochs`.
    pub steps: Option<u64>,
    /// `"shuffled"` anew in each epoch, or `"sequential"`. Default: shuffled.
    pub order: OrderName,
    /// Ids of examples to leave out.
    pub exclude: Vec<String>,
    /// What fills their place: `"refill"`, the examples that follow, or `"shrink"`, nothing. Default: refill.
    pub removal: Removal,
    /// Examples per step, ≥ 1. Default: 16.
    pub batch_size: usize,
    /// Leaves out the last examples of an epoch if they do not fill a batch. Default: false.
    pub drop_last: bool,
    /// Rows (tokens) that go through the model at a time, ≥ 1: less memory when smaller. Default: 4096.
    pub micro_batch_rows: usize,
    /// How the loss of a batch is scaled: `"token_mean"`, `"example_mean"` or `"sum"`. Default: token_mean.
    pub reduction: Reduction,

    /// `"adamw"` or `"sgd"`. Default: adamw.
    pub optimizer: OptimizerName,
    /// Highest learning rate, > 0. Default: 0.001.
    pub lr: f64,
    /// `"constant"`, or `"cosine"` or `"linear"` down to `min_lr_ratio`, after the warm-up. Default: constant.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises to `lr`. Default: 0.
    pub warmup_steps: u64,
    /// Lowest learning rate of the schedule / `lr`, from 0 to 1. Default: 0.
    pub min_lr_ratio: f64,
    /// β₁ and β₂ of AdamW, ≥ 0 and < 1. Default: 0.9 and 0.999.
    pub betas: [f64; 2],
    /// ε of AdamW, > 0. Default: 1e-8.
    pub eps: f64,
    /// Momentum of SGD, ≥ 0 and < 1. Default: 0.9.
    pub momentum: f64,
    /// Weight decay, ≥ 0: decoupled for AdamW, ½·wd·‖θ‖² added to the loss for SGD. Default: 0.
    pub weight_decay: f64,
    /// What decays: `"matrices"` or `"all"` (also biases and norms). Default: matrices for AdamW, all for SGD.
    pub decay: Option<Decay>,
    /// Largest norm of the gradient, > 0; larger ones are scaled down to it. Default: no limit.
    pub clip_norm: Option<f64>,

    /// Steps between two checkpoints, ≥ 1. Default: none but the final model.
    pub checkpoint_every: Option<u64>,

    /// `[lora]`: trains low-rank adapters on `model` instead of its parameters. Default: none; an adapter folder as `model`
    /// is trained on.
    pub lora: Option<LoraConfig>,
    /// `[finetune]`: what of `model` stays, is pulled back, or starts anew. Default: all parameters are trained freely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finetune: Option<FinetuneConfig>,
}

/// `[lora]`: W x + b + (alpha/rank) B A x on chosen layers; A and B alone are trained, and the result is a PEFT folder.
/// There is no dropout: a gradient would not be that of the loss that attribution explains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rows of A, columns of B, ≥ 1. Default: 8.
    pub rank: usize,
    /// α; B A x is multiplied by alpha/rank. Default: 16.
    pub alpha: f64,
    /// Regular expression on names of layers. Default: all linear layers of attention and MLP.
    pub targets: Option<String>,
    /// Not supported; 0, the default, is the only value.
    pub dropout: f64,
    /// Also writes the model with the adapters added to its weights, to `out/merged`. Default: false.
    pub merge: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: None, dropout: 0.0, merge: false }
    }
}

/// Names of orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderName {
    /// A new random order in each epoch.
    Shuffled,
    /// The order of the data.
    Sequential,
}

/// Names of optimizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// AdamW.
    AdamW,
    /// SGD with momentum.
    Sgd,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            run: None,
            out: PathBuf::new(),
            model: None,
            architecture: None,
            tokenizer: None,
            train_tokenizer_vocab: None,
            data: Vec::new(),
            format: None,
            label: None,
            skip_bad_rows: false,
            max_tokens: None,
            packing: false,
            watch: Vec::new(),
            watch_every: 1,
            seed: 0,
            epochs: None,
            steps: None,
            order: OrderName::Shuffled,
            exclude: Vec::new(),
            removal: Removal::Refill,
            batch_size: 16,
            drop_last: false,
            micro_batch_rows: 4096,
            reduction: Reduction::TokenMean,
            optimizer: OptimizerName::AdamW,
            lr: 1e-3,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            min_lr_ratio: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            momentum: 0.9,
            weight_decay: 0.0,
            decay: None,
            clip_norm: None,
            checkpoint_every: None,
            lora: None,
            finetune: None,
        }
    }
}

impl TrainConfig {
    /// Reads the text of a configuration file; `file` is named in errors, and its folder is what relative paths are
    /// relative to.
    ///
    /// # Errors
    /// [`TrainError::Config`] with line and key: unknown keys, values of the wrong type.
    pub fn parse(text: &str, file: &Path) -> Result<Self> {
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let (line, key) = error.span().map_or((None, None), |span| {
                let start = text[..span.start.min(text.len())].matches('\n').count();
                (Some(start + 1), text.lines().nth(start).and_then(key_of))
            });
            TrainError::Config { file: file.to_owned(), line, key, problem: error.message().to_owned() }
        })?;
        if let Some(folder) = file.parent() {
            config.rebase(folder);
        }
        Ok(config)
    }

    fn rebase(&mut self, folder: &Path) {
        let optional = [&mut self.model, &mut self.tokenizer].into_iter().flatten();
        let paths = optional.chain(&mut self.data).chain(&mut self.watch).chain(Some(&mut self.out));
        // An empty path is one that was not given.
        paths.filter(|path| !path.as_os_str().is_empty()).for_each(|path| *path = folder.join(&path));
    }
}

/// The key of a line of TOML, if it has one.
pub(crate) fn key_of(line: &str) -> Option<String> {
    let key = line.split_once('=')?.0.trim();
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    bare.then(|| key.to_owned())
}
