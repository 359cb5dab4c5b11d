//! Text to token ids and back.

use std::path::Path;
use std::sync::Arc;

use tokenizers::Tokenizer;

use crate::{DataError, Result};

/// Names of end-of-text tokens, the most specific first.
const END_OF_TEXT: [&str; 7] =
    ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "<|eot_id|>", "[SEP]"];

/// A tokenizer. Cheap to clone.
#[derive(Clone)]
pub struct Encoder {
    tokenizer: Arc<Tokenizer>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Reads a Hugging Face `tokenizer.json`. Padding and truncation that it asks for are switched off.
    ///
    /// # Errors
    /// If the file cannot be read or is no tokenizer.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| crate::files::read_error(path, source))?;
        Self::parse(&bytes, &path.display().to_string())
    }

    /// A tokenizer from the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// If the bytes are no tokenizer.
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        Self::parse(json, "tokenizer.json")
    }

    fn parse(json: &[u8], what: &str) -> Result<Self> {
        let tokenizer = Tokenizer::from_bytes(json).and_then(|mut tokenizer| {
            tokenizer.with_padding(None).with_truncation(None)?;
            Ok(tokenizer)
        });
        match tokenizer {
            Ok(tokenizer) => Ok(Self { tokenizer: Arc::new(tokenizer) }),
            Err(source) => Err(DataError::Tokenizer { what: what.to_owned(), source }),
        }
    }

    /// The content of a `tokenizer.json`.
    ///
    /// # Errors
    /// If the tokenizer has a part that cannot be written.
    pub fn to_json(&self) -> Result<String> {
        self.tokenizer.to_string(true).map_err(|source| DataError::Tokenizer { what: "tokenizer.json".into(), source })
    }

    /// Token ids of a text, with the tokens that the tokenizer puts around a text (`<s>`, `[CLS]` …; GPT-2 has none).
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, Affixes::Add).map_err(|source| DataError::Encode { source })
    }

    /// Token ids of a text that continues another one: nothing is put around it.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, Affixes::Leave).map_err(|source| DataError::Encode { source })
    }

    pub(crate) fn ids(&self, text: &str, affixes: Affixes) -> tokenizers::Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, matches!(affixes, Affixes::Add))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids, special tokens included.
    ///
    /// # Errors
    /// If the tokenizer cannot decode them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, false).map_err(|source| DataError::Decode { source })
    }

    /// `[n]` What each of n tokens adds to the text, for display; joined, the pieces are [`Encoder::decode`] of the ids.
    /// A character that is spread over several tokens belongs to the one that completes it; the pieces before are empty.
    ///
    /// # Errors
    /// If the tokenizer cannot decode them.
    pub fn pieces(&self, ids: &[u32]) -> Result<Vec<String>> {
        let mut pieces = Vec::with_capacity(ids.len());
        // The window starts one finished token back: decoders treat the first token of a text differently.
        let (mut start, mut shown) = (0, 0);
        let mut before = String::new();
        for end in 1..=ids.len() {
            let window = self.decode(&ids[start..end])?;
            let complete = !window.ends_with('\u{fffd}') || end == ids.len();
            match window.strip_prefix(before.as_str()) {
                Some(new) if complete => {
                    pieces.push(new.to_owned());
                    (start, shown) = (shown, end);
                    before = self.decode(&ids[start..shown])?;
                }
                Some(_) => pieces.push(String::new()),
                None => {
                    pieces.push(self.token(ids[end - 1]).unwrap_or_default());
                    (start, shown) = (end, end);
                    before.clear();
                }
            }
        }
        Ok(pieces)
    }

    /// The token with this id, as it is written in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The id of a token, as it is written in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The token that most likely ends a text, by its name.
    pub fn end_of_text(&self) -> Option<u32> {
        END_OF_TEXT.iter().find_map(|name| self.token_id(name))
    }
}

/// Whether the tokens that belong around a text are added.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Affixes {
    /// For a text, or a prompt.
    Add,
    /// For what continues it.
    Leave,
}
