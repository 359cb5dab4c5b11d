//! Multi-layer perceptrons: classifiers and regressions on feature rows.

use etymon_tensor::Activation;
use serde_json::{Value, json};

use super::json::{activation, activation_name};
use crate::{ModelError, Result};

/// What the output of a model of feature rows means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Logits of classes; loss −log p(label).
    #[default]
    Classification,
    /// Values; loss ½‖y − ŷ‖².
    Regression,
}

impl Task {
    /// The word of config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Regression => "regression",
        }
    }
}

/// `{"model_type": "mlp", "sizes": [64, 128, 64, 10], "activation": "relu", "task": "classification"}`.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpConfig {
    /// Widths from features to output.
    pub sizes: Vec<usize>,
    /// Between the layers.
    pub activation: Activation,
    /// Meaning of the output.
    pub task: Task,
}

impl MlpConfig {
    pub(super) fn from_json(json: &Value) -> Result<Self> {
        let bad = |key: &str, problem: &str| ModelError::Config { key: key.to_owned(), problem: problem.to_owned() };
        let sizes: Vec<usize> = json
            .get("sizes")
            .and_then(Value::as_array)
            .map(|a| a.iter().filter_map(|n| n.as_u64().map(|n| n as usize)).filter(|&n| n > 0).collect())
            .unwrap_or_default();
        let n_given = json.get("sizes").and_then(Value::as_array).map_or(0, Vec::len);
        if sizes.len() < 2 || sizes.len() != n_given {
            return Err(bad("sizes", "expected two or more positive integers, from features to output"));
        }
        let task = match json.get("task").and_then(Value::as_str) {
            Some("classification") | None => Task::Classification,
            Some("regression") => Task::Regression,
            Some(_) => return Err(bad("task", "expected classification or regression")),
        };
        Ok(Self { sizes, activation: activation(json, "activation", Activation::Relu)?, task })
    }

    /// The `config.json` of this MLP.
    pub fn to_json(&self) -> Value {
        json!({
            "model_type": "mlp",
            "sizes": self.sizes,
            "activation": activation_name(self.activation),
            "task": self.task.name(),
        })
    }
}
