//! What adapters a model has, and `adapter_config.json` of PEFT.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{ModelError, Result};

/// Keys of PEFT that change nothing in what a finished adapter computes, whatever their value.
const WITHOUT_EFFECT: [&str; 11] = [
    "auto_mapping",
    "fan_in_fan_out",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
];

/// The adapters of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// r, ≥ 1.
    pub rank: usize,
    /// α; B A x is multiplied by α/r.
    pub alpha: f64,
    /// Names of the layers that have one.
    pub layers: Vec<String>,
    /// The base model: a folder or a GGUF file. Goes into the files; empty when it has none.
    pub base: PathBuf,
}

impl Lora {
    pub(crate) fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Refuses numbers that make no adapter.
    pub(crate) fn check(&self) -> Result<()> {
        if self.rank == 0 {
            return Err(ModelError::Lora { key: "r", problem: "must be at least 1, is 0".to_owned() });
        }
        if self.alpha.is_finite() && self.alpha != 0.0 {
            return Ok(());
        }
        Err(ModelError::Lora { key: "lora_alpha", problem: format!("must be a number and not 0, is {}", self.alpha) })
    }

    /// Reads `adapter_config.json`; which layers have adapters is left to the tensors.
    pub(super) fn from_json(file: &Path, json: &Value) -> Result<Self> {
        let bad = |key: &str, problem: String| ModelError::AdapterConfig {
            path: file.to_owned(),
            key: key.to_owned(),
            problem,
        };
        let is = |key: &str, wanted: &str| match json.get(key).and_then(Value::as_str) {
            Some(found) if found == wanted => Ok(()),
            _ => Err(bad(
                key,
                format!("only \"{wanted}\" is supported, found {}", json.get(key).unwrap_or(&Value::Null)),
            )),
        };
        is("peft_type", "LORA")?;
        for (key, value) in json.as_object().into_iter().flatten() {
            match key.as_str() {
                "peft_type" | "base_model_name_or_path" | "r" | "lora_alpha" => {}
                "bias" => is("bias", "none")?,
                // The other ways to start change the base.
                "init_lora_weights" if value.is_boolean() || value == "gaussian" => {}
                key if WITHOUT_EFFECT.contains(&key) || is_off(value) => {}
                key => return Err(bad(key, format!("{value} is not supported"))),
            }
        }
        let rank = json.get("r").and_then(Value::as_u64).and_then(|r| usize::try_from(r).ok());
        let rank = rank.ok_or_else(|| bad("r", "expected a positive integer".to_owned()))?;
        let alpha = json.get("lora_alpha").and_then(Value::as_f64);
        let alpha = alpha.ok_or_else(|| bad("lora_alpha", "expected a number".to_owned()))?;
        let base = json.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default();
        let lora = Self { rank, alpha, layers: Vec::new(), base: PathBuf::from(base) };
        lora.check().map_err(|error| match error {
            ModelError::Lora { key, problem } => bad(key, problem),
            other => other,
        })?;
        Ok(lora)
    }

    /// `adapter_config.json`; `transposed`: the base keeps its weights as GPT-2 does.
    pub(super) fn to_json(&self, is_decoder: bool, transposed: bool) -> Value {
        let whole = self.alpha.fract() == 0.0 && self.alpha.abs() < 1e15;
        json!({
            "peft_type": "LORA",
            "task_type": is_decoder.then_some("CAUSAL_LM"),
            "base_model_name_or_path": self.base,
            "r": self.rank,
            "lora_alpha": if whole { json!(self.alpha as i64) } else { json!(self.alpha) },
            "lora_dropout": 0.0,
            "target_modules": self.layers,
            "fan_in_fan_out": transposed,
            "bias": "none",
            "inference_mode": true,
            "init_lora_weights": true,
        })
    }
}

/// Whether a value says that a feature is not used.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
