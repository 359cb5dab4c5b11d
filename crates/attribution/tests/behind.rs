//! Writing behind the computation.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{ThreadId, current, sleep};
use std::time::Duration;

use etymon_attribution::{AttributionError, Result, ScoreBlock, ScoreSink, behind};
use etymon_data::{Content, Example, ExampleIndex};
use etymon_tensor::Buffer;

fn example(index: u64) -> Example {
    Example {
        index: ExampleIndex(index),
        id: format!("r{index}"),
        content: Content::Tokens { ids: vec![1, 2, 3], loss_start: 1 },
        text: String::new(),
        metadata: serde_json::Map::new(),
    }
}

/// Gives block `i` of two examples and one query to a sink.
fn give(sink: &mut dyn ScoreSink, i: u64) -> Result<()> {
    let examples = [example(2 * i), example(2 * i + 1)];
    let x = i as f32;
    let (layers, tokens) = ([vec![x, -x], vec![2.0 * x, 0.5]], [vec![x; 2], vec![-x; 2]]);
    let (layers, tokens) = (layers.map(Buffer::from), tokens.map(Buffer::from));
    sink.block(&ScoreBlock {
        examples: &examples,
        scores: &[x, x + 0.5],
        layers: Some(layers.as_slice()).filter(|_| i.is_multiple_of(2)),
        tokens: Some(tokens.as_slice()).filter(|_| i.is_multiple_of(3)),
    })
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is full at block {0}")]
struct Full(usize);

/// Keeps what it is given as text; fails or panics at a block.
#[derive(Default)]
struct Recorder {
    seen: Vec<String>,
    threads: Vec<ThreadId>,
    fail_at: Option<usize>,
    panic_at: Option<usize>,
}

impl ScoreSink for Recorder {
    fn block(&mut self, block: &ScoreBlock<'_>) -> Result<()> {
        assert_ne!(self.panic_at, Some(self.seen.len()), "a defect of the sink");
        if self.fail_at == Some(self.seen.len()) {
            return Err(AttributionError::sink(Full(self.seen.len())));
        }
        self.seen.push(format!("{block:?}"));
        self.threads.push(current().id());
        Ok(())
    }
}

#[test]
fn blocks_arrive_whole_and_in_order_on_another_thread() {
    let (mut direct, mut written) = (Recorder::default(), Recorder::default());
    (0..20).try_for_each(|i| give(&mut direct, i)).unwrap();
    let answer = behind(&mut written, |sink| (0..20).try_for_each(|i| give(sink, i)).map(|()| 42)).unwrap();
    assert_eq!(answer, 42);
    assert_eq!(written.seen, direct.seen);
    assert!(written.threads.iter().all(|thread| *thread != current().id()));
}

#[test]
fn an_error_of_the_sink_ends_the_work_at_a_later_block() {
    let mut sink = Recorder { fail_at: Some(3), ..Recorder::default() };
    let mut given = 0;
    let endless = behind(&mut sink, |sink| -> Result<()> {
        loop {
            give(sink, given)?;
            given += 1;
        }
    });
    assert_eq!(endless.unwrap_err().to_string(), "the disk is full at block 3");
    assert_eq!(sink.seen.len(), 3);
    assert!(given <= 3 + 4, "{given} blocks were taken: the failed one, two that waited, and one on its way");
}

#[test]
fn an_error_of_the_sink_at_the_last_block_is_not_lost() {
    let mut sink = Recorder { fail_at: Some(4), ..Recorder::default() };
    let done = behind(&mut sink, |sink| (0..5).try_for_each(|i| give(sink, i)));
    assert_eq!(done.unwrap_err().to_string(), "the disk is full at block 4");
}

#[test]
fn an_error_of_the_sink_that_the_work_ignores_still_fails_it() {
    let mut sink = Recorder { fail_at: Some(0), ..Recorder::default() };
    let mut errors = Vec::new();
    let result = behind(&mut sink, |sink| {
        errors = (0..50).filter_map(|i| give(sink, i).err()).collect();
        Ok(())
    });
    assert!(matches!(result, Err(AttributionError::SinkStopped)));
    assert!(sink.seen.is_empty());
    assert_eq!(errors[0].to_string(), "the disk is full at block 0");
    assert!(errors.len() > 40 && errors[1..].iter().all(|e| matches!(e, AttributionError::SinkStopped)));
}

#[test]
fn the_blocks_before_an_error_of_the_work_are_written() {
    let mut sink = Recorder::default();
    let result = behind(&mut sink, |sink| {
        (0..7).try_for_each(|i| give(sink, i))?;
        Err::<(), _>(AttributionError::NoQueries)
    });
    assert!(matches!(result, Err(AttributionError::NoQueries)));
    assert_eq!(sink.seen.len(), 7);
}

#[test]
fn a_panic_of_the_sink_is_an_error_and_no_hang() {
    let mut sink = Recorder { panic_at: Some(2), ..Recorder::default() };
    let result = behind(&mut sink, |sink| (0..50).try_for_each(|i| give(sink, i)));
    assert!(matches!(result, Err(AttributionError::SinkStopped)));
    assert_eq!(sink.seen.len(), 2);
}

/// Takes its time.
struct Slow<'a>(&'a AtomicUsize);

impl ScoreSink for Slow<'_> {
    fn block(&mut self, _: &ScoreBlock<'_>) -> Result<()> {
        sleep(Duration::from_millis(3));
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_slow_sink_holds_the_work_up_instead_of_filling_the_memory() {
    let written = AtomicUsize::new(0);
    behind(&mut Slow(&written), |sink| {
        for given in 1..=15 {
            give(sink, given as u64)?;
            let behind = given - written.load(Ordering::SeqCst);
            assert!(behind <= 4, "{behind} blocks: at most one at work, two that wait and one just handed over");
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(written.load(Ordering::SeqCst), 15);
}
