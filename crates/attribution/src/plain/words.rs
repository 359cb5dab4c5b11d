//! Hashed counts of words and pairs of words.

use etymon_data::{Content, Encoder, Example};
use regex::Regex;
use sha2::{Digest, Sha256};

use crate::{AttributionError, Result};

/// Buckets that n-grams are hashed into.
pub const BUCKETS: usize = 10_000;

/// Runs of word characters, and runs of what is neither these nor white space: nltk's `WordPunctTokenizer`.
const WORDS: &str = r"\w+|[^\w\s]+";

/// How examples become words.
#[derive(Clone, Debug)]
pub(super) struct Words {
    pattern: Regex,
    encoder: Option<Encoder>,
    /// Token ids are the words.
    by_id: bool,
}

impl Words {
    /// Words of texts; without a tokenizer and a text of the first of the `targets`, token ids in decimal.
    pub fn new(targets: &[&[Example]], encoder: Option<&Encoder>) -> Result<Self> {
        let pattern = Regex::new(WORDS).map_err(|source| AttributionError::Pattern { source })?;
        let has_text = targets.iter().flat_map(|t| t.iter()).next().is_none_or(|e| !e.text.is_empty());
        Ok(Self { pattern, encoder: encoder.cloned(), by_id: !has_text && encoder.is_none() })
    }

    /// Calls `each` with the bucket of every word and of every pair of neighbours of an example.
    pub fn for_each_bucket(&self, example: &Example, mut each: impl FnMut(usize)) -> Result<()> {
        let Content::Tokens { ids, .. } = &example.content else {
            return Err(AttributionError::NoText { id: example.id.clone(), what: "is a row of features" });
        };
        if self.by_id {
            buckets(ids.iter().map(u32::to_string), &mut each);
            return Ok(());
        }
        let decoded = match &self.encoder {
            Some(encoder) if example.text.is_empty() => Some(encoder.decode(ids)?),
            _ => None,
        };
        let text = decoded.as_deref().unwrap_or(&example.text);
        if text.is_empty() {
            let what = "has token ids, but no text, and there is no tokenizer";
            return Err(AttributionError::NoText { id: example.id.clone(), what });
        }
        let text = text.to_lowercase();
        buckets(self.pattern.find_iter(&text).map(|word| word.as_str()), &mut each);
        Ok(())
    }
}

/// The buckets of words, and of pairs joined by a blank.
fn buckets(words: impl Iterator<Item = impl AsRef<str>>, each: &mut impl FnMut(usize)) {
    let mut pair = String::new();
    for word in words {
        let word = word.as_ref();
        each(bucket(word));
        // `pair` is the word before.
        let before = pair.len();
        if before > 0 {
            pair.push(' ');
            pair.push_str(word);
            each(bucket(&pair));
        }
        pair.clear();
        pair.push_str(word);
    }
}

/// SHA-256 as a big-endian number, modulo the buckets.
fn bucket(ngram: &str) -> usize {
    Sha256::digest(ngram).iter().fold(0, |rest, &byte| (rest * 256 + usize::from(byte)) % BUCKETS)
}
