//! A model: its description, its parameters, and one pass over a batch.

use std::ops::Range;
use std::sync::Arc;

use etymon_data::{Batch, Content, Example, Input, RowRange, Target};
use etymon_tensor::{Backend, Buffer, Host, Label, Segment, Shape};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::adapter::Lora;
use crate::blueprint::Blueprint;
use crate::config::{ModelConfig, Task};
use crate::decoder::{Decoder, Stacked, TokenRows};
use crate::features::picked;
use crate::head::{HeadBatch, HeadGoal};
use crate::layers::{LayerSpec, Linear, select, tap_where, tappable};
use crate::net::{Goal, Net};
use crate::objective::{Measurement, Objective, label_stream};
use crate::params::{Init, ParamId, ParamSpec, Params};
use crate::tap::{Consumer, LossRows};
use crate::{ModelError, Result};

#[derive(Clone, Debug)]
pub(crate) enum Arch {
    Decoder(Box<Decoder>),
    Net(Net),
}

/// A language model, an MLP or a convolutional network on a backend, with the choice of its tapped layers.
#[derive(Clone, Debug)]
pub struct Model<B: Backend> {
    pub(crate) backend: B,
    json: Value,
    config: ModelConfig,
    pub(crate) arch: Arch,
    pub(crate) specs: Vec<ParamSpec>,
    /// Shared by the models that differ in their tapped layers only.
    pub(crate) params: Arc<Params<B>>,
    pub(crate) layers: Vec<LayerSpec>,
    pub(crate) lora: Option<Lora>,
}

impl<B: Backend> Model<B> {
    /// A new model from its `config.json`, started at random from the stream `init` of `seed`.
    ///
    /// # Errors
    /// As [`ModelConfig::from_json`].
    pub fn new(backend: B, json: Value, seed: u64) -> Result<Self> {
        Self::with_params(backend, json, |index, spec| Ok(start(seed, index, spec)))
    }

    /// A model from its `config.json` and the numbers of each parameter, row major in the model's own layout.
    pub(crate) fn with_params(
        backend: B,
        json: Value,
        mut numbers: impl FnMut(usize, &ParamSpec) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let config = ModelConfig::from_json(&json)?;
        let mut plan = Blueprint::default();
        let mut arch = match &config {
            ModelConfig::Decoder(c) => Arch::Decoder(Box::new(Decoder::new(c.clone(), &mut plan))),
            ModelConfig::Mlp(c) => Arch::Net(Net::mlp(c, &mut plan).ok_or_else(no_layers)?),
            ModelConfig::ConvNet(c) => Arch::Net(Net::convnet(c, &mut plan).ok_or_else(no_layers)?),
        };
        let layers = select(None, arch.linears_mut().collect())?;
        let specs = plan.specs;
        let tensors = specs
            .iter()
            .enumerate()
            .map(|(i, spec)| Ok(backend.upload(spec.shape, &numbers(i, spec)?)?))
            .collect::<Result<_>>()?;
        Ok(Self { backend, json, config, arch, specs, params: Arc::new(Params::new(tensors)), layers, lora: None })
    }

    /// The same model on another backend, with the same tapped layers.
    ///
    /// # Errors
    /// None beyond what the backend meets.
    pub fn to_backend<C: Backend>(&self, backend: C) -> Result<Model<C>> {
        let upload = |(spec, tensor): (&ParamSpec, &B::Tensor)| {
            Ok(backend.upload(spec.shape, &self.backend.download::<f64>(tensor))?)
        };
        let tensors = self.specs.iter().zip(self.params.iter()).map(upload).collect::<Result<_>>()?;
        Ok(Model {
            params: Arc::new(Params::new(tensors)),
            backend,
            json: self.json.clone(),
            config: self.config.clone(),
            arch: self.arch.clone(),
            specs: self.specs.clone(),
            layers: self.layers.clone(),
            lora: self.lora.clone(),
        })
    }

    /// Chooses the tapped layers: those whose name the regular expression matches, or by default all linear layers of
    /// attention and MLP, but not the vocabulary head. In a model with adapters these are A and B of the adapters,
    /// `….lora_A` and `….lora_B`.
    ///
    /// # Errors
    /// A pattern that is no regular expression, or matches nothing.
    pub fn select_layers(&mut self, pattern: Option<&str>) -> Result<()> {
        self.layers = select(pattern, tappable(self.arch.linears_mut()))?;
        Ok(())
    }

    /// This model with some of its tapped layers only, which are numbered from 0; the parameters are shared. A backward
    /// pass for them need not go below the lowest.
    #[must_use]
    pub fn with_layers(&self, range: Range<usize>) -> Self {
        self.with_layers_where(|layer| range.contains(&layer))
    }

    /// As [`with_layers`](Self::with_layers), of the tapped layers whose number is `kept`.
    #[must_use]
    pub fn with_layers_where(&self, kept: impl Fn(usize) -> bool) -> Self {
        let mut part = self.clone();
        part.layers = tap_where(tappable(part.arch.linears_mut()), |layer| layer.tap.is_some_and(|id| kept(id.0)));
        part
    }

    /// The part of the blocks that a backward pass for taps visits: those from the lowest with a tapped layer on.
    pub(crate) fn visited_blocks(&self) -> f64 {
        match &self.arch {
            Arch::Decoder(decoder) => decoder.visited_blocks(),
            Arch::Net(_) => 1.0,
        }
    }

    /// The tapped layers in forward order.
    pub fn layers(&self) -> &[LayerSpec] {
        &self.layers
    }

    /// Weights of all tapped layers, p.
    pub fn n_tapped(&self) -> usize {
        self.layers.iter().map(|s| s.d_out * s.d_in).sum()
    }

    /// The description.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// `config.json`.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Where it lives.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Names and shapes of the parameters.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The parameters, in the order of [`specs`](Self::specs).
    pub fn params(&self) -> &Params<B> {
        &self.params
    }

    /// The parameters, to change.
    pub fn params_mut(&mut self) -> &mut Params<B> {
        Arc::make_mut(&mut self.params)
    }

    pub(crate) fn shared_params(&self) -> Arc<Params<B>> {
        Arc::clone(&self.params)
    }

    /// Weight and, if there is one, bias of each tapped layer, in the order of [`layers`](Self::layers).
    pub fn layer_params(&self) -> Vec<(ParamId, Option<ParamId>)> {
        let mut arch = self.arch.clone();
        let layers = tappable(arch.linears_mut()).into_iter();
        layers.filter(|l| l.tap.is_some()).map(|l| (l.weight, l.bias)).collect()
    }

    pub(crate) fn arch(&self) -> &Arch {
        &self.arch
    }

    /// Number of scalars in all parameters.
    pub fn n_params(&self) -> usize {
        self.specs.iter().map(|s| s.shape.len()).sum()
    }

    /// One pass: the objective of each example `[n_examples]`, and to the consumer what it asks for.
    ///
    /// # Errors
    /// Data that the model does not take (kind, vocabulary, context, features, targets), and errors of the tap.
    pub fn run(&self, batch: &Batch, objective: Objective, mut to: Consumer<'_, B>) -> Result<Buffer<f64>> {
        match (&self.arch, &batch.input) {
            (Arch::Decoder(decoder), Input::Tokens { .. }) => self.run_tokens(decoder, batch, objective, &mut to),
            (Arch::Net(net), Input::Features { .. }) => self.run_features(net, batch, objective, &mut to),
            (arch, _) => Err(arch.wrong_kind()),
        }
    }

    /// Whether the model takes this example; what [`run`](Self::run) would refuse, before any work.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn check(&self, example: &Example) -> Result<()> {
        match (&self.config, &example.content) {
            (ModelConfig::Decoder(c), Content::Tokens { ids, .. }) => {
                check_tokens(&ids[..ids.len().saturating_sub(1)], c.vocab, c.context)?;
                ids.iter()
                    .find(|&&id| id as usize >= c.vocab)
                    .map_or(Ok(()), |&id| Err(ModelError::Vocabulary { id, vocab: c.vocab }))
            }
            (config, Content::Features { values, target }) => {
                let shape = config.rows().ok_or_else(|| self.arch.wrong_kind())?;
                if values.len() != shape.features {
                    return Err(ModelError::Features { expected: shape.features, got: values.len() });
                }
                check_target(shape.task, shape.outputs, target)
            }
            _ => Err(self.arch.wrong_kind()),
        }
    }

    /// Logits `[ids.len(), vocab]`, row major: row t scores the token after ids `..=t`.
    ///
    /// # Errors
    /// A model of feature rows, ids outside of the vocabulary, or more ids than the context.
    pub fn logits<H: Host>(&self, ids: &[u32]) -> Result<Vec<H>> {
        let rows: Vec<usize> = (0..ids.len()).collect();
        self.logits_at(ids, &rows)
    }

    /// Logits at some rows only.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn logits_at<H: Host>(&self, ids: &[u32], wanted: &[usize]) -> Result<Vec<H>> {
        let Arch::Decoder(decoder) = &self.arch else {
            return Err(ModelError::BatchKind { expected: "rows of features", got: "tokens" });
        };
        check_tokens(ids, decoder.config.vocab, decoder.config.context)?;
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let segments = [Segment { start: 0, len: ids.len() }];
        let rows = TokenRows { positions: &positions, segments: &segments, loss_rows: LossRows::All };
        Ok(self.backend.download(&decoder.logits(&self.backend, &self.params, ids, &rows, wanted)?).into_vec())
    }

    /// Outputs `[n, d_out]` of an MLP or a convolutional network for feature rows `[n, features]`, row major.
    ///
    /// # Errors
    /// A language model, or rows of the wrong width.
    pub fn outputs<H: Host>(&self, n: usize, features: &[f32]) -> Result<Vec<H>> {
        let Arch::Net(net) = &self.arch else {
            return Err(ModelError::BatchKind { expected: "tokens", got: "rows of features" });
        };
        let x = self.backend.upload(Shape::new(n, net.features), features)?;
        Ok(self.backend.download(&net.output(&self.backend, &self.params, &x)?).into_vec())
    }

    fn run_tokens(
        &self,
        decoder: &Decoder,
        batch: &Batch,
        objective: Objective,
        to: &mut Consumer<'_, B>,
    ) -> Result<Buffer<f64>> {
        let Input::Tokens { ids, positions, segments, loss_rows, labels, loss_segments } = &batch.input else {
            return Err(ModelError::BatchKind { expected: "tokens", got: "rows of features" });
        };
        for segment in segments {
            check_tokens(&ids[segment.range()], decoder.config.vocab, decoder.config.context)?;
        }
        let (segments, loss_segments) = (convert(segments), convert(loss_segments));
        let mut drawn: Buffer<Label> = Buffer::with_capacity(labels.len());
        for (&index, of_example) in batch.indices.iter().zip(loss_segments.iter()) {
            let label = |r: usize| objective.label(labels[r], index, positions[loss_rows[r] as usize]);
            of_example.range().for_each(|r| drawn.push(label(r)));
        }
        let rows = picked(loss_rows);
        let loss_rows = if rows.len() == ids.len() { LossRows::All } else { LossRows::Some(&rows) };
        let goal = HeadGoal::Labels { labels: &drawn, kind: objective.cross_entropy() };
        let stacked = Stacked {
            ids,
            rows: TokenRows { positions, segments: &segments, loss_rows },
            head: HeadBatch { goal, loss_segments: &loss_segments },
        };
        let values = decoder.run(&self.backend, &self.params, &stacked, to)?;
        self.end_batch(batch, to)?;
        Ok(loss_segments.iter().map(|s| values[s.range()].iter().sum()).collect())
    }

    fn run_features(
        &self,
        net: &Net,
        batch: &Batch,
        objective: Objective,
        to: &mut Consumer<'_, B>,
    ) -> Result<Buffer<f64>> {
        let Input::Features { targets, .. } = &batch.input else {
            return Err(ModelError::BatchKind { expected: "rows of features", got: "tokens" });
        };
        let (task, d_out) = (net.task, net.outputs);
        let x = self.upload_rows(batch)?;
        targets.iter().try_for_each(|t| check_target(task, d_out, t))?;
        let (labels, values): (Buffer<Label>, B::Tensor);
        let goal = match (task, objective) {
            (Task::Classification, _) => {
                let class = |t: &Target| if let Target::Class(c) = t { *c } else { 0 };
                labels = targets.iter().zip(&batch.indices).map(|(t, &i)| objective.label(class(t), i, 0)).collect();
                Goal::Classes { labels: &labels, kind: objective.cross_entropy() }
            }
            (Task::Regression, Objective::SampledLoss { seed }) => {
                values = self.noise(seed, batch, d_out)?;
                Goal::Noise(&values)
            }
            (Task::Regression, Objective::Measurement(Measurement::Margin)) => {
                return Err(ModelError::Measurement { measurement: Measurement::Margin.name(), task: task.name() });
            }
            (Task::Regression, _) => {
                let mut flat = Buffer::with_capacity(targets.len() * d_out);
                for target in targets {
                    let Target::Values(numbers) = target else { continue };
                    flat.extend_from_slice(numbers);
                }
                values = self.backend.upload::<f32>(Shape::new(targets.len(), d_out), &flat)?;
                let sign = if objective == Objective::TrainLoss { 1.0 } else { -1.0 };
                Goal::Values { target: &values, sign }
            }
        };
        let values = net.run(&self.backend, &self.params, &x, &goal, to)?;
        self.end_batch(batch, to)?;
        Ok(values)
    }

    /// Unit normal noise `[n, d_out]` by the stream `labels`.
    fn noise(&self, seed: u64, batch: &Batch, d_out: usize) -> Result<B::Tensor> {
        let mut noise = Buffer::with_capacity(batch.n_examples() * d_out);
        for &index in &batch.indices {
            let mut rng = label_stream(seed, index, 0);
            (0..d_out).for_each(|_| noise.push(normal(&mut rng)));
        }
        Ok(self.backend.upload::<f64>(Shape::new(batch.n_examples(), d_out), &noise)?)
    }

    pub(crate) fn end_batch(&self, batch: &Batch, to: &mut Consumer<'_, B>) -> Result<()> {
        if let Consumer::Tap(tap) = to { tap.end_batch(&batch.indices) } else { Ok(()) }
    }
}

impl Arch {
    /// The error of a batch of the other kind.
    pub(crate) fn wrong_kind(&self) -> ModelError {
        match self {
            Self::Decoder(_) => ModelError::BatchKind { expected: "tokens", got: "rows of features" },
            Self::Net(_) => ModelError::BatchKind { expected: "rows of features", got: "tokens" },
        }
    }

    pub(crate) fn linears_mut(&mut self) -> Box<dyn Iterator<Item = &mut Linear> + '_> {
        match self {
            Self::Decoder(decoder) => Box::new(decoder.linears_mut()),
            Self::Net(net) => Box::new(net.linears_mut()),
        }
    }
}

fn no_layers() -> ModelError {
    ModelError::Config { key: "layers".to_owned(), problem: "there is no layer".to_owned() }
}

pub(crate) fn convert(ranges: &[RowRange]) -> Buffer<Segment> {
    ranges.iter().map(|r| Segment { start: r.start, len: r.len }).collect()
}

pub(crate) fn check_tokens(inputs: &[u32], vocab: usize, context: usize) -> Result<()> {
    if inputs.len() > context {
        return Err(ModelError::TooLong { len: inputs.len(), context });
    }
    match inputs.iter().find(|&&id| id as usize >= vocab) {
        Some(&id) => Err(ModelError::Vocabulary { id, vocab }),
        None => Ok(()),
    }
}

fn check_target(task: Task, d_out: usize, target: &Target) -> Result<()> {
    let problem = match (task, target) {
        (Task::Classification, Target::Class(c)) if (*c as usize) < d_out => return Ok(()),
        (Task::Regression, Target::Values(v)) if v.len() == d_out => return Ok(()),
        (Task::Classification, Target::Class(c)) => format!("label {c} is outside of its {d_out} classes"),
        (Task::Classification, Target::Values(_)) => "the row has a target value, not a class label".to_owned(),
        (Task::Regression, Target::Class(_)) => "the row has a class label, not a target value".to_owned(),
        (Task::Regression, Target::Values(v)) => format!("the row has {} target values, not {d_out}", v.len()),
    };
    Err(ModelError::Target { task: task.name(), problem })
}

/// The start of one parameter: stream `init`, one substream per parameter.
pub(crate) fn start(seed: u64, index: usize, spec: &ParamSpec) -> Vec<f32> {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..12].copy_from_slice(b"init");
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index as u64);
    let n = spec.shape.len();
    match spec.init {
        Init::Zeros => vec![0.0; n],
        Init::Ones => vec![1.0; n],
        Init::Normal(std) => (0..n).map(|_| (std * normal(&mut rng)) as f32).collect(),
        Init::Uniform(k) => (0..n).map(|_| (k * (2.0 * rng.random::<f64>() - 1.0)) as f32).collect(),
    }
}

/// A unit normal number by Box and Muller, of two draws.
pub fn normal(rng: &mut impl rand::Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
