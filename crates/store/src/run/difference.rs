//! Where two JSON values differ.

use std::fmt::{self, Write};

use serde_json::Value;

/// A setting that differs between a run on the disk and the run asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The setting, its path joined by dots: `config.curvature.damping`.
    pub key: String,
    /// The value in the manifest, if any.
    pub stored: Option<Value>,
    /// The value asked for, if any.
    pub requested: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "absent".to_owned(), Value::to_string);
        write!(f, "{}: {} there, {} now", self.key, text(&self.stored), text(&self.requested))
    }
}

/// One difference per line, indented.
pub(crate) fn list_differences(differences: &[Difference]) -> String {
    differences.iter().fold(String::new(), |mut text, difference| {
        let _ = writeln!(text, "  {difference}");
        text
    })
}

/// Appends every key below `key` at which the two values differ: those of `stored` in its order, then the new ones.
pub(super) fn collect(key: &str, stored: Option<&Value>, requested: Option<&Value>, out: &mut Vec<Difference>) {
    match (stored, requested) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for (k, value) in a {
                collect(&format!("{key}.{k}"), Some(value), b.get(k), out);
            }
            for (k, value) in b.iter().filter(|(k, _)| !a.contains_key(*k)) {
                collect(&format!("{key}.{k}"), None, Some(value), out);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for i in 0..a.len().max(b.len()) {
                collect(&format!("{key}.{i}"), a.get(i), b.get(i), out);
            }
        }
        _ if stored != requested => {
            out.push(Difference { key: key.to_owned(), stored: stored.cloned(), requested: requested.cloned() });
        }
        _ => {}
    }
}
