//! Joining rows into sequences of equal length.

use std::collections::VecDeque;

/// A stream of documents, cut into packs of `max_tokens` tokens.
pub(crate) struct Packer {
    max_tokens: usize,
    eos: Option<u32>,
    tokens: VecDeque<u32>,
    documents: VecDeque<Document>,
}

struct Document {
    id: String,
    text: String,
    /// Tokens that are in no pack yet.
    left: usize,
}

/// A sequence of tokens with what it was made of.
pub(crate) struct Pack {
    pub ids: Vec<u32>,
    /// Ids of the documents, in order.
    pub documents: Vec<String>,
    /// Their whole texts, joined.
    pub text: String,
}

impl Packer {
    pub(crate) fn new(max_tokens: usize, eos: Option<u32>) -> Self {
        Self { max_tokens, eos, tokens: VecDeque::new(), documents: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, id: String, text: String, ids: Vec<u32>) {
        let before = self.tokens.len();
        self.tokens.extend(ids);
        self.tokens.extend(self.eos);
        self.documents.push_back(Document { id, text, left: self.tokens.len() - before });
    }

    /// A full pack, once two more tokens are there: the last pack is then never a single token.
    pub(crate) fn pop(&mut self) -> Option<Pack> {
        let enough = self.tokens.len() >= self.max_tokens.saturating_add(2);
        enough.then(|| self.cut(self.max_tokens))
    }

    /// The next pack after the last document; a stream of one token is none.
    pub(crate) fn finish(&mut self) -> Option<Pack> {
        let n = self.tokens.len();
        let len = if n == self.max_tokens.saturating_add(1) { self.max_tokens - 1 } else { n.min(self.max_tokens) };
        (n >= 2).then(|| self.cut(len))
    }

    fn cut(&mut self, len: usize) -> Pack {
        let ids = self.tokens.drain(..len).collect();
        let (mut documents, mut texts) = (Vec::new(), Vec::new());
        let mut missing = len;
        while missing > 0
            && let Some(document) = self.documents.front_mut()
        {
            let taken = missing.min(document.left);
            missing -= taken;
            document.left -= taken;
            documents.push(document.id.clone());
            texts.push(document.text.clone());
            if document.left == 0 {
                self.documents.pop_front();
            }
        }
        Pack { ids, documents, text: texts.join("\n") }
    }
}
