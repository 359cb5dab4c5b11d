//! Fine-tuning that remembers where it came from: what stays, what is pulled back to pre-training, what starts anew.

use etymon_data::Example;
use etymon_model::{Model, ParamSpec, Params};
use etymon_store::Manifest;
use etymon_tensor::Backend;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::{Result, TrainError};

/// `[finetune]`: how the training is tied to its `model`. The parameters that both have, by name and shape, are shared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// Regular expression on names of parameters that stay as they are. Default: none.
    pub frozen: Option<String>,
    /// α ≥ 0: α‖W − W*‖² over the shared parameters that are trained is added to the loss of a batch, W* being their values in
    /// `model`. Default: 0.
    pub proximity: f64,
    /// Starts the output layer anew; that of a language model is no longer tied to the embedding. Default: false.
    pub new_head: bool,
    /// Outputs of the new output layer of a model of feature rows. Default: those of `model`.
    pub outputs: Option<usize>,
}

/// The parameters of a fine-tuned model by what ties them to the model that it started at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tie {
    /// Those that stay as they are.
    pub frozen: Vec<String>,
    /// Those that are trained and pulled back to where they started.
    pub near: Vec<String>,
    /// Those that are trained from there on and not pulled.
    pub free: Vec<String>,
    /// Those that start anew.
    pub anew: Vec<String>,
    /// α of the pull.
    pub alpha: f64,
}

/// The manifest of a fine-tuning links it to its pre-training by this, as `config.stage`, and by the fingerprint of `model`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// What ties the parameters.
    #[serde(flatten)]
    pub tie: Tie,
    /// ρ of (ρ/2)‖W − W*‖² beside the mean of the L of an example: 2α, in the unit of the loss of attribution, whatever the
    /// reduction of the training was.
    pub rho: f64,
}

impl Link {
    /// Of a plan and its train set, if the plan is tied.
    pub(crate) fn new(plan: &Plan, train: &[Example]) -> Option<Self> {
        let tie = plan.tie.clone()?;
        let rho = 2.0 * tie.alpha / plan.reduction.per_example(plan.batch_size, train);
        Some(Self { tie, rho })
    }

    /// Of the manifest of a complete run of `etymon train`, if that was a tied fine-tuning.
    ///
    /// # Errors
    /// A link that cannot be read.
    pub fn of(manifest: &Manifest) -> Result<Option<Self>> {
        let Some(value) = manifest.spec.config.get("stage") else { return Ok(None) };
        let wrong = |e: serde_json::Error| TrainError::setting("stage", format!("of the manifest cannot be read: {e}"));
        serde_json::from_value(value.clone()).map(Some).map_err(wrong)
    }
}

impl FinetuneConfig {
    /// Checks what can be known without a model.
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.proximity.is_finite() && self.proximity >= 0.0) {
            return Err(TrainError::setting("proximity", format!("must be ≥ 0, is {}", self.proximity)));
        }
        if self.outputs == Some(0) {
            return Err(TrainError::setting("outputs", "must be at least 1, is 0"));
        }
        if self.outputs.is_some() && !self.new_head {
            return Err(TrainError::setting("outputs", "are those of a new head: set `new_head = true` too"));
        }
        self.pattern().map(drop)
    }

    /// The model that fine-tuning of `pretrained` starts at, and its tie to it. `seed` starts a new head.
    ///
    /// # Errors
    /// A pattern that matches no shared parameter, or all; a proximity of nothing; what [`Model::with_new_head`] refuses.
    pub fn start<B: Backend>(&self, pretrained: &Model<B>, seed: u64) -> Result<(Model<B>, Tie)> {
        if pretrained.lora().is_some() {
            return Err(TrainError::setting(
                "finetune",
                "is for whole models; of one with adapters these alone are trained",
            ));
        }
        let model = if self.new_head {
            pretrained.with_new_head(self.outputs, seed).map_err(|e| TrainError::setting("new_head", e.to_string()))?
        } else {
            pretrained.clone()
        };
        let tie = self.tie(&model)?;
        Ok((model, tie))
    }

    fn tie<B: Backend>(&self, model: &Model<B>) -> Result<Tie> {
        let anew = if self.new_head { model.head_params() } else { Vec::new() };
        let pattern = self.pattern()?;
        let mut tie = Tie { alpha: self.proximity, ..Tie::default() };
        for spec in model.specs() {
            let is_new = anew.contains(&spec.name.as_str());
            let list = match pattern.as_ref().is_some_and(|p| p.is_match(&spec.name)) {
                true if is_new => {
                    let problem = format!("matches `{}`, which starts anew", spec.name);
                    return Err(TrainError::setting("frozen", problem));
                }
                true => &mut tie.frozen,
                false if is_new => &mut tie.anew,
                false if self.proximity > 0.0 => &mut tie.near,
                false => &mut tie.free,
            };
            list.push(spec.name.clone());
        }
        let names = || model.specs().iter().map(|s| s.name.as_str()).take(12).collect::<Vec<_>>().join(", ");
        if pattern.is_some() && tie.frozen.is_empty() {
            return Err(TrainError::setting("frozen", format!("matches no parameter; there are {}, …", names())));
        }
        if tie.frozen.len() == model.specs().len() {
            return Err(TrainError::setting("frozen", "matches every parameter: nothing is trained"));
        }
        if self.proximity > 0.0 && tie.near.is_empty() {
            return Err(TrainError::setting("proximity", "pulls nothing: all shared parameters are frozen"));
        }
        Ok(tie)
    }

    fn pattern(&self) -> Result<Option<Regex>> {
        let wrong = |e: regex::Error| TrainError::setting("frozen", e.to_string());
        self.frozen.as_deref().map(|p| Regex::new(p).map_err(wrong)).transpose()
    }
}

/// A tie in training: which gradients are dropped, and where parameters are pulled to.
#[derive(Clone, Debug)]
pub(crate) struct Pull<B: Backend> {
    alpha: f64,
    /// Per parameter.
    frozen: Vec<bool>,
    /// W*, where a parameter is pulled.
    anchors: Vec<Option<B::Tensor>>,
}

impl<B: Backend> Pull<B> {
    /// Of a model where fine-tuning starts.
    pub fn new(model: &Model<B>, tie: &Tie) -> Result<Self> {
        let named = |list: &[String], spec: &ParamSpec| list.contains(&spec.name);
        let unknown =
            [&tie.frozen, &tie.near].into_iter().flatten().find(|n| !model.specs().iter().any(|s| s.name == **n));
        if let Some(name) = unknown {
            return Err(TrainError::setting("finetune", format!("the model has no parameter `{name}`")));
        }
        let anchor = |(spec, tensor): (&ParamSpec, &B::Tensor)| named(&tie.near, spec).then(|| tensor.clone());
        Ok(Self {
            alpha: tie.alpha,
            frozen: model.specs().iter().map(|spec| named(&tie.frozen, spec)).collect(),
            anchors: model.specs().iter().zip(model.params().iter()).map(anchor).collect(),
        })
    }

    /// Zeros the gradients of what is frozen, and adds `scale` · 2α(W − W*) to those of what is pulled.
    pub fn apply(&self, backend: &B, params: &Params<B>, grads: &mut Params<B>, scale: f64) -> Result<()> {
        for (((grad, param), &frozen), anchor) in
            grads.iter_mut().zip(params.iter()).zip(&self.frozen).zip(&self.anchors)
        {
            if frozen {
                *grad = backend.zeros(backend.shape(grad));
            } else if let Some(anchor) = anchor {
                let mut away = param.clone();
                backend.axpy(-1.0, anchor, &mut away)?;
                backend.axpy(2.0 * self.alpha * scale, &away, grad)?;
            }
        }
        Ok(())
    }
}
