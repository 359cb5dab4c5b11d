//! Typed reading of single keys of a `config.json`.

use etymon_tensor::Activation;
use serde_json::Value;

use crate::{ModelError, Result};

fn bad(key: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Config { key: key.to_owned(), problem: problem.into() }
}

/// The value of a key, `None` when absent or null.
fn get<'a>(json: &'a Value, key: &str) -> Option<&'a Value> {
    json.get(key).filter(|v| !v.is_null())
}

pub(super) fn count(json: &Value, key: &str) -> Result<usize> {
    optional_count(json, key)?.ok_or_else(|| bad(key, "is missing"))
}

pub(super) fn optional_count(json: &Value, key: &str) -> Result<Option<usize>> {
    let Some(value) = get(json, key) else { return Ok(None) };
    match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
        Some(n) if n > 0 => Ok(Some(n)),
        _ => Err(bad(key, format!("expected a positive integer, found {value}"))),
    }
}

pub(super) fn number(json: &Value, key: &str, default: f64) -> Result<f64> {
    match get(json, key) {
        None => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| bad(key, format!("expected a number, found {value}"))),
    }
}

pub(super) fn flag(json: &Value, key: &str, default: bool) -> Result<bool> {
    match get(json, key) {
        None => Ok(default),
        Some(value) => value.as_bool().ok_or_else(|| bad(key, format!("expected true or false, found {value}"))),
    }
}

pub(super) fn activation(json: &Value, key: &str, default: Activation) -> Result<Activation> {
    let Some(value) = get(json, key) else { return Ok(default) };
    match value.as_str() {
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
        Some("gelu") => Ok(Activation::GeluErf),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("relu") => Ok(Activation::Relu),
        Some("tanh") => Ok(Activation::Tanh),
        Some("identity" | "linear") => Ok(Activation::Identity),
        _ => Err(bad(key, format!("unknown activation {value}; known: gelu, gelu_new, silu, relu, tanh, identity"))),
    }
}

/// The name of an activation as config.json spells it.
pub(super) fn activation_name(kind: Activation) -> &'static str {
    match kind {
        Activation::GeluTanh => "gelu_new",
        Activation::GeluErf => "gelu",
        Activation::Silu => "silu",
        Activation::Relu => "relu",
        Activation::Tanh => "tanh",
        Activation::Identity => "identity",
    }
}

/// Refuses a key unless it is absent, null or has the one value that is supported.
pub(super) fn only(json: &Value, key: &str, supported: &Value) -> Result<()> {
    match get(json, key) {
        Some(value) if value != supported => Err(bad(key, format!("{value} is not supported, only {supported}"))),
        _ => Ok(()),
    }
}

pub(super) fn divides(key: &str, a: usize, b: usize) -> Result<()> {
    if b.is_multiple_of(a) { Ok(()) } else { Err(bad(key, format!("{a} does not divide {b}"))) }
}
