//! The stream of examples of a corpus.

use std::collections::VecDeque;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::ids::SeenIds;
use crate::pack::{Pack, Packer};
use crate::rows::{RawRow, RowPlace, Rows};
use crate::schema::{Context, Draft, Trouble, draft};
use crate::{BadRows, Content, Corpus, DataError, Example, ExampleIndex, Packing, Place, Result, RowProblem};

/// Rows that are parsed and tokenized at a time.
const CHUNK: usize = 256;

/// Bad rows of which the reason is kept.
const REASONS: usize = 5;

/// What was read. Rows are read a few hundred ahead, so the numbers are final only after the last example.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Rows of the files, blank lines left out.
    pub rows_read: u64,
    /// Examples, those before the first one asked for included.
    pub examples: u64,
    /// Bad rows left out.
    pub skipped: u64,
    /// The first few of them, as `file:line: reason`.
    pub reasons: Vec<String>,
    /// Sequences of which the end was cut off.
    pub truncated: u64,
}

/// The examples of a corpus, in order. Ends after the first error.
pub struct Examples {
    corpus: Corpus,
    rows: Rows,
    ready: VecDeque<Result<Example>>,
    first: u64,
    unread: u64,
    seen: SeenIds,
    packer: Option<Packer>,
    n_features: Option<usize>,
    counts: Counts,
    parsing: Parsing,
    done: bool,
}

/// Where rows are parsed and tokenized.
#[derive(Copy, Clone)]
enum Parsing {
    /// In parallel on the thread pool.
    Pool,
    /// On the thread that asks for examples.
    Here,
}

impl Iterator for Examples {
    type Item = Result<Example>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.done {
            if let Err(error) = self.fill() {
                self.ready.push_back(Err(error));
                self.done = true;
            }
        }
        self.ready.pop_front()
    }
}

impl Examples {
    pub(crate) fn new(corpus: Corpus, first: ExampleIndex) -> Self {
        let rows = Rows::new(Arc::clone(&corpus.files), corpus.row_options());
        let packer = match corpus.options.packing {
            Packing::None => None,
            Packing::Pack { eos } => Some(Packer::new(corpus.options.max_tokens, eos)),
        };
        let unread = if corpus.rows_are_examples() { first.0 } else { 0 };
        Self {
            corpus,
            rows,
            ready: VecDeque::new(),
            first: first.0,
            unread,
            seen: SeenIds::default(),
            packer,
            n_features: None,
            counts: Counts::default(),
            parsing: Parsing::Pool,
            done: false,
        }
    }

    /// The same stream, parsed and tokenized on the thread that asks for examples alone, not in parallel on the thread
    /// pool: for a stream that is read beside a computation. A computation that waits for it may then itself run on the
    /// pool.
    #[must_use]
    pub fn on_this_thread(self) -> Self {
        Self { parsing: Parsing::Here, ..self }
    }

    /// What was read so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Reads the next chunk of rows. Examples before an error are kept.
    fn fill(&mut self) -> Result<()> {
        while self.unread > 0 && self.rows.next_row()?.is_some() {
            self.unread -= 1;
            self.counts.rows_read += 1;
            self.counts.examples += 1;
        }
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut failure = None;
        while chunk.len() < CHUNK {
            match self.rows.next_row() {
                Ok(Some(row)) => chunk.push(row),
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let last = chunk.len() < CHUNK;
        for (place, draft) in self.parse(chunk) {
            self.accept(place, draft)?;
        }
        match failure {
            Some(error) => Err(error),
            None if last => self.finish(),
            None => Ok(()),
        }
    }

    fn parse(&self, chunk: Vec<(RowPlace, RawRow)>) -> Vec<(RowPlace, std::result::Result<Draft, Trouble>)> {
        let context = Context { encoder: self.corpus.encoder.as_ref(), options: &self.corpus.options };
        let parse = |(place, raw)| (place, draft(raw, &context));
        match self.parsing {
            Parsing::Pool => chunk.into_par_iter().map(parse).collect(),
            Parsing::Here => chunk.into_iter().map(parse).collect(),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.done = true;
        while let Some(pack) = self.packer.as_mut().and_then(Packer::finish) {
            self.emit_pack(pack)?;
        }
        if self.counts.examples == 0 {
            let Counts { rows_read, skipped, .. } = self.counts;
            return Err(DataError::Empty { what: self.corpus.name(), rows_read, skipped });
        }
        Ok(())
    }

    fn accept(&mut self, at: RowPlace, draft: std::result::Result<Draft, Trouble>) -> Result<()> {
        let row = self.counts.rows_read;
        self.counts.rows_read += 1;
        let draft = match draft.and_then(|draft| self.check_width(draft)) {
            Ok(draft) => draft,
            Err(trouble) => return self.refuse(at, trouble),
        };
        let maybe_seen = match &draft.id {
            Some(id) => self.seen.own(id),
            None => self.seen.numbered(row),
        };
        let Draft { id, content, text, metadata, truncated } = draft;
        let id = id.unwrap_or_else(|| row.to_string());
        if maybe_seen && let Some(first) = self.first_named(&id, at)? {
            return Err(DataError::DuplicateId { id, first: self.place(first), second: self.place(at) });
        }
        if let (Content::Tokens { ids, .. }, Some(vocab)) = (&content, self.corpus.options.vocab)
            && let Some(&token) = ids.iter().max()
            && token as usize >= vocab
        {
            return Err(DataError::VocabularyMismatch { place: self.place(at), token, vocab });
        }
        self.counts.truncated += u64::from(truncated);
        if self.packer.is_some() {
            return self.pack(at, id, content, text);
        }
        self.emit(|index| Ok(Example { index, id, content, text, metadata }));
        Ok(())
    }

    /// Reads the rows before `until` again for the first one of a name.
    fn first_named(&self, name: &str, until: RowPlace) -> Result<Option<RowPlace>> {
        let context = Context { encoder: self.corpus.encoder.as_ref(), options: &self.corpus.options };
        let mut rows = Rows::new(Arc::clone(&self.corpus.files), self.corpus.row_options());
        let mut number = 0_u64;
        while let Some((place, raw)) = rows.next_row()?.filter(|(place, _)| *place != until) {
            let is_named = |id: Option<String>| id.map_or_else(|| number.to_string() == name, |id| id == name);
            if draft(raw, &context).is_ok_and(|draft| is_named(draft.id)) {
                return Ok(Some(place));
            }
            number += 1;
        }
        Ok(None)
    }

    fn place(&self, at: RowPlace) -> Place {
        at.of(&self.corpus.files)
    }

    fn refuse(&mut self, at: RowPlace, trouble: Trouble) -> Result<()> {
        let place = self.place(at);
        match trouble {
            Trouble::NoTokenizer(column) => Err(DataError::NoTokenizer { place, column }),
            Trouble::Row(problem) if self.corpus.options.bad_rows == BadRows::Fail => {
                Err(DataError::Row { place, problem })
            }
            Trouble::Row(problem) => {
                if self.counts.reasons.len() < REASONS {
                    self.counts.reasons.push(format!("{place}: {problem}"));
                }
                self.counts.skipped += 1;
                Ok(())
            }
        }
    }

    fn pack(&mut self, at: RowPlace, id: String, content: Content, text: String) -> Result<()> {
        let what = match content {
            Content::Tokens { ids, loss_start: 1 } => {
                if let Some(packer) = &mut self.packer {
                    packer.push(id, text, ids);
                }
                while let Some(pack) = self.packer.as_mut().and_then(Packer::pop) {
                    self.emit_pack(pack)?;
                }
                return Ok(());
            }
            Content::Tokens { .. } => "a completion after a prompt",
            Content::Features { .. } => "a row of features",
        };
        Err(DataError::Unpackable { place: self.place(at), what })
    }

    /// All rows of features have as many as the first one.
    fn check_width(&mut self, draft: Draft) -> std::result::Result<Draft, Trouble> {
        if let Content::Features { values, .. } = &draft.content {
            let expected = *self.n_features.get_or_insert(values.len());
            if values.len() != expected {
                return Err(RowProblem::FeatureCount { expected, got: values.len() }.into());
            }
        }
        Ok(draft)
    }

    fn emit(&mut self, example: impl FnOnce(ExampleIndex) -> Result<Example>) {
        let index = self.counts.examples;
        self.counts.examples += 1;
        if index >= self.first {
            self.ready.push_back(example(ExampleIndex(index)));
        }
    }

    fn emit_pack(&mut self, pack: Pack) -> Result<()> {
        let encoder = self.corpus.encoder.clone();
        self.emit(|index| {
            let text = encoder.map_or(Ok(pack.text), |encoder| encoder.decode(&pack.ids))?;
            let mut metadata = Map::new();
            metadata.insert("documents".to_owned(), pack.documents.into_iter().map(Value::from).collect());
            let content = Content::Tokens { ids: pack.ids, loss_start: 1 };
            Ok(Example { index, id: format!("pack-{index}"), content, text, metadata })
        });
        Ok(())
    }
}
