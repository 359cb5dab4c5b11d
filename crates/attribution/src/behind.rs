//! Writing behind: a sink on a thread of its own.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, ScopedJoinHandle};

use etymon_data::Example;
use etymon_tensor::Buffer;

use crate::{AttributionError, Result, ScoreBlock, ScoreSink};

/// Blocks that may wait for the sink.
const WAITING: usize = 2;

/// Runs `work` with a sink that hands every block, in order, to `sink` on another thread, so that `work` need not wait
/// for a disk. Returns when `sink` has had all blocks, also those before an error of `work`. At most two blocks wait;
/// then `work` does.
///
/// # Errors
/// Those of `work`, which meets an error of `sink` at its next block; an error of `sink` after the last block; a panic
/// of `sink`; and if the system gives no thread.
pub fn behind<R>(sink: &mut (dyn ScoreSink + Send), work: impl FnOnce(&mut dyn ScoreSink) -> Result<R>) -> Result<R> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<OwnedBlock>(WAITING);
        let write = move || receiver.into_iter().try_for_each(|block| sink.block(&block.borrow()));
        let thread = Builder::new().name("etymon-writer".to_owned()).spawn_scoped(scope, write);
        let thread = thread.map_err(AttributionError::sink)?;
        let mut behind = Behind { sender: Some(sender), thread: Some(thread) };
        let result = work(&mut behind);
        let written = behind.finish();
        result.and_then(|result| written.map(|()| result))
    })
}

struct Behind<'scope> {
    sender: Option<SyncSender<OwnedBlock>>,
    thread: Option<ScopedJoinHandle<'scope, Result<()>>>,
}

impl Behind<'_> {
    /// Waits for the thread; returns its error the first time.
    fn finish(&mut self) -> Result<()> {
        self.sender = None;
        let ended = self.thread.take().map(ScopedJoinHandle::join);
        ended.and_then(std::result::Result::ok).unwrap_or(Err(AttributionError::SinkStopped))
    }
}

impl ScoreSink for Behind<'_> {
    fn block(&mut self, block: &ScoreBlock<'_>) -> Result<()> {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(OwnedBlock::of(block)).is_ok());
        if sent {
            return Ok(());
        }
        self.finish()?;
        Err(AttributionError::SinkStopped)
    }
}

/// A block of its own.
struct OwnedBlock {
    examples: Vec<Example>,
    scores: Buffer<f32>,
    layers: Option<Vec<Buffer<f32>>>,
    tokens: Option<Vec<Buffer<f32>>>,
}

impl OwnedBlock {
    fn of(block: &ScoreBlock<'_>) -> Self {
        Self {
            examples: block.examples.to_vec(),
            scores: block.scores.into(),
            layers: block.layers.map(<[_]>::to_vec),
            tokens: block.tokens.map(<[_]>::to_vec),
        }
    }

    fn borrow(&self) -> ScoreBlock<'_> {
        ScoreBlock {
            examples: &self.examples,
            scores: &self.scores,
            layers: self.layers.as_deref(),
            tokens: self.tokens.as_deref(),
        }
    }
}
