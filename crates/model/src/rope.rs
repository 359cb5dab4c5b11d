//! Frequencies of rotary position embeddings.

use std::f64::consts::PI;

use serde_json::Value;

use crate::{ModelError, Result};

/// Rotation frequencies, radians per position, of each pair of a head's leading dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// `frequencies[i]` turns dimensions i and i + n of a head, n their number.
    pub frequencies: Vec<f64>,
}

impl Rope {
    /// Reads `rope_parameters` (new spelling) or `rope_theta`, `rotary_emb_base`, `rotary_pct`, `rope_scaling` (old).
    ///
    /// # Errors
    /// A scaling other than `default`, `linear` and `llama3`.
    pub(crate) fn from_json(json: &Value, head_dim: usize, default_fraction: f64) -> Result<Self> {
        let nested = json.get("rope_parameters").filter(|v| v.is_object());
        let scaling = nested.or_else(|| json.get("rope_scaling").filter(|v| v.is_object()));
        let find = |keys: &[&str]| {
            [nested, Some(json)]
                .into_iter()
                .flatten()
                .find_map(|place| keys.iter().find_map(|k| place.get(k).and_then(Value::as_f64)))
        };
        let theta = find(&["rope_theta", "rotary_emb_base"]).unwrap_or(10_000.0);
        let fraction = find(&["partial_rotary_factor", "rotary_pct"]).unwrap_or(default_fraction);
        let rotated = (head_dim as f64 * fraction) as usize;
        let frequencies = (0..rotated / 2).map(|i| theta.powf(-2.0 * i as f64 / rotated as f64)).collect();
        Self { frequencies }.scaled(scaling)
    }

    fn scaled(mut self, scaling: Option<&Value>) -> Result<Self> {
        let Some(scaling) = scaling else { return Ok(self) };
        let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str);
        match kind {
            None | Some("default") => Ok(self),
            Some("linear") => {
                let factor = required(scaling, "factor")?;
                self.frequencies.iter_mut().for_each(|f| *f /= factor);
                Ok(self)
            }
            Some("llama3") => self.llama3(scaling),
            Some(other) => Err(ModelError::Config {
                key: "rope_scaling".to_owned(),
                problem: format!("`{other}` is not supported; supported: default, linear, llama3"),
            }),
        }
    }

    /// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, a linear ramp between.
    fn llama3(mut self, scaling: &Value) -> Result<Self> {
        let factor = required(scaling, "factor")?;
        let low = required(scaling, "low_freq_factor")?;
        let high = required(scaling, "high_freq_factor")?;
        let context = required(scaling, "original_max_position_embeddings")?;
        for f in &mut self.frequencies {
            let turns = context * *f / (2.0 * PI);
            let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            *f = (1.0 - keep) * *f / factor + keep * *f;
        }
        Ok(self)
    }
}

fn required(json: &Value, key: &str) -> Result<f64> {
    json.get(key).and_then(Value::as_f64).ok_or_else(|| ModelError::Config {
        key: format!("rope_scaling.{key}"),
        problem: "expected a number".to_owned(),
    })
}
