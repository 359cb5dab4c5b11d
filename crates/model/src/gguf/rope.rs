//! Scaling of rotary frequencies, as the metadata or the `rope_freqs` tensor give it.

use std::f64::consts::TAU;

use serde_json::{Value, json};

use super::GgufError;
use super::config::Sizes;
use super::metadata::Metadata;

/// Llama 3's scaling as published with every model that has it; only the factor differs (8 for 3.1, 32 for 3.2).
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
const ORIGINAL_CONTEXT: u64 = 8192;
/// Relative difference at which a divisor stored as f32 counts as another one.
const TOLERANCE: f64 = 1e-4;

/// `rope_scaling` of config.json, if the model scales its frequencies.
pub(super) fn scaling(
    meta: &Metadata,
    sizes: &Sizes,
    factors: Option<&[f32]>,
    theta: f64,
) -> Result<Option<Value>, GgufError> {
    let key = sizes.key("rope.scaling.type");
    let kind = meta.text(&key)?.unwrap_or("none");
    match (kind, factors) {
        ("none", None) => Ok(None),
        ("none", Some(factors)) => llama3(meta, sizes, factors, theta),
        ("linear", None) => Ok(Some(json!({ "rope_type": "linear", "factor": factor(meta, sizes)? }))),
        ("yarn", None) => {
            let key = sizes.key("rope.scaling.original_context_length");
            let original = meta.positive(&key)?;
            let factor = factor(meta, sizes)?;
            Ok(Some(json!({
                "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original
            })))
        }
        (kind, None) => Err(meta.value_error(&key, format!("`{kind}`"), "none, linear, yarn")),
        (kind, Some(_)) => Err(meta.value_error(&key, format!("`{kind}`"), "none beside a rope_freqs tensor")),
    }
}

fn factor(meta: &Metadata, sizes: &Sizes) -> Result<f64, GgufError> {
    let key = sizes.key("rope.scaling.factor");
    meta.number(&key)?.ok_or_else(|| meta.missing(&key))
}

/// Recovers Llama 3's parameters from the divisors that llama.cpp's converter computed with them.
fn llama3(meta: &Metadata, sizes: &Sizes, factors: &[f32], theta: f64) -> Result<Option<Value>, GgufError> {
    if factors.iter().all(|&f| f == 1.0) {
        return Ok(None);
    }
    let original = meta.integer(&sizes.key("rope.scaling.original_context_length"))?.unwrap_or(ORIGINAL_CONTEXT);
    let factor = f64::from(factors.last().copied().unwrap_or(1.0));
    let as_published = factors.iter().enumerate().all(|(i, &found)| {
        let expected = divisor(theta.powf(-2.0 * i as f64 / sizes.head_dim as f64), factor, original as f64);
        (f64::from(found) - expected).abs() <= TOLERANCE * expected.abs()
    });
    if !as_published || factors.len() as u64 != sizes.head_dim / 2 {
        return Err(GgufError::Shape {
            path: meta.path.clone(),
            tensor: "rope_freqs.weight".to_owned(),
            shape: vec![factors.len()],
            expected: format!(
                "the {} frequency divisors of Llama 3's scaling (low {LOW_FREQ_FACTOR}, high {HIGH_FREQ_FACTOR}, \
                 original context {original})",
                sizes.head_dim / 2
            ),
        });
    }
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW_FREQ_FACTOR,
        "high_freq_factor": HIGH_FREQ_FACTOR,
        "original_max_position_embeddings": original,
    })))
}

/// What Llama 3's scaling divides `frequency` (radians per position) by.
fn divisor(frequency: f64, factor: f64, original_context: f64) -> f64 {
    let turns = original_context * frequency / TAU;
    let keep = ((turns - LOW_FREQ_FACTOR) / (HIGH_FREQ_FACTOR - LOW_FREQ_FACTOR)).clamp(0.0, 1.0);
    1.0 / ((1.0 - keep) / factor + keep)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anamnesis::parse::gguf::GgufMetadataValue;
    use serde_json::{Value, json};

    use super::super::config::Sizes;
    use super::{GgufError, Metadata, scaling};

    fn scaling_of(keys: &[(&str, GgufMetadataValue)], factors: Option<&[f32]>) -> Result<Option<Value>, GgufError> {
        let entries = keys.iter().map(|(key, value)| (format!("llama.rope.scaling.{key}"), value.clone())).collect();
        let sizes = Sizes { architecture: "llama".to_owned(), layers: 1, heads: 1, kv_heads: 1, head_dim: 64 };
        scaling(&Metadata::new(Path::new("model.gguf"), entries), &sizes, factors, 500_000.0)
    }

    fn text(text: &str) -> GgufMetadataValue {
        GgufMetadataValue::String(text.to_owned())
    }

    /// What llama.cpp's converter writes for Llama 3.2 (head width 64): by wavelength, in its words.
    fn llama32(high_freq_factor: f64) -> Vec<f32> {
        let (factor, low_freq_factor, old_context) = (32.0, 1.0, 8192.0);
        let (low_wavelength, high_wavelength) = (old_context / low_freq_factor, old_context / high_freq_factor);
        let divisor = |i: i32| {
            let wavelength = std::f64::consts::TAU * 500_000f64.powf(2.0 * f64::from(i) / 64.0);
            if wavelength < high_wavelength {
                1.0
            } else if wavelength > low_wavelength {
                factor
            } else {
                let smooth = (old_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        (0..32).map(|i| divisor(i) as f32).collect()
    }

    #[test]
    fn llama_3_scaling_is_recovered_from_its_divisors() {
        let expected = json!({
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        assert_eq!(scaling_of(&[], Some(&llama32(4.0))).unwrap(), Some(expected));
        assert_eq!(scaling_of(&[], Some(&[1.0; 32])).unwrap(), None);
    }

    #[test]
    fn other_divisors_are_refused() {
        for factors in [llama32(2.0), llama32(4.0)[..31].to_vec(), vec![f32::NAN; 32]] {
            let error = scaling_of(&[], Some(&factors));
            assert!(matches!(error, Err(GgufError::Shape { .. })), "{error:?}");
        }
    }

    #[test]
    fn linear_scaling_keeps_its_factor_and_an_unknown_kind_is_named() {
        let linear = scaling_of(&[("type", text("linear")), ("factor", GgufMetadataValue::F32(4.0))], None);
        assert_eq!(linear.unwrap(), Some(json!({ "rope_type": "linear", "factor": 4.0 })));
        let missing = scaling_of(&[("type", text("linear"))], None).unwrap_err().to_string();
        assert!(missing.contains("llama.rope.scaling.factor"), "{missing}");
        let unknown = scaling_of(&[("type", text("longrope"))], None).unwrap_err().to_string();
        assert!(unknown.contains("`longrope`"), "{unknown}");
    }
}
