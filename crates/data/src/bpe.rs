//! Training of a byte-level BPE tokenizer.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};
use tokenizers::{TokenizerBuilder, TokenizerImpl};

use crate::{DataError, Encoder, Result};

/// The token that ends a text in tokenizers trained here; its id is 0.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Trains a byte-level BPE tokenizer as GPT-2 has: every text can be encoded and decoded without loss. `<|endoftext|>`
/// has id 0, `special_tokens` the ids after it, then come the 256 bytes and the merges. The vocabulary is smaller than
/// `vocab_size` if the texts hold too few different pairs. The same texts give the same tokenizer.
///
/// # Errors
/// If `vocab_size` has no room for the bytes and special tokens.
pub fn train_bpe<S: AsRef<str> + Send>(
    texts: impl Iterator<Item = S> + Send,
    vocab_size: usize,
    special_tokens: &[&str],
) -> Result<Encoder> {
    let special: Vec<&str> =
        std::iter::once(END_OF_TEXT).chain(special_tokens.iter().copied().filter(|t| *t != END_OF_TEXT)).collect();
    let least = 256 + special.len();
    if vocab_size < least {
        return Err(DataError::VocabularySize { vocab_size, least });
    }
    let json = train(texts, vocab_size, &special).map_err(|source| DataError::TrainTokenizer { source })?;
    Encoder::from_bytes(json.as_bytes())
}

fn train<S: AsRef<str> + Send>(
    texts: impl Iterator<Item = S> + Send,
    vocab_size: usize,
    special: &[&str],
) -> tokenizers::Result<String> {
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.iter().map(|token| AddedToken::from(*token, true)).collect())
        .build();
    let byte_level = ByteLevel::default().add_prefix_space(false);
    type Bpe = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;
    let mut tokenizer: Bpe = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(byte_level)))
        .with_post_processor(None)
        .with_decoder(Some(DecoderWrapper::ByteLevel(byte_level)))
        .build()?;
    tokenizer.train(&mut trainer, texts)?;
    tokenizer.to_string(false)
}
