//! Streams that are worked off on a thread of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{current, scope, sleep};
use std::time::Duration;

use etymon_data::{DataError, Prefetch, Result};

fn failure(name: &str) -> DataError {
    DataError::Empty { what: name.to_owned(), rows_read: 0, skipped: 0 }
}

/// All items, errors as text.
fn all<T: Send>(items: impl Iterator<Item = Result<T>> + Send, ahead: usize) -> Vec<std::result::Result<T, String>> {
    scope(|s| Prefetch::spawn(s, items, ahead).unwrap().map(|item| item.map_err(|e| e.to_string())).collect())
}

/// Counts up; knows how far it got, and whether it is gone.
struct Counter<'a> {
    made: &'a AtomicUsize,
    gone: &'a AtomicBool,
}

impl Iterator for Counter<'_> {
    type Item = Result<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(Ok(self.made.fetch_add(1, Ordering::SeqCst)))
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

#[test]
fn items_and_errors_come_in_order_from_another_thread() {
    for ahead in [0, 1, 7] {
        let items = (0..100).map(|i| if i % 10 == 3 { Err(failure(&i.to_string())) } else { Ok((i, current().id())) });
        let seen = all(items, ahead);
        assert_eq!(seen.len(), 100);
        for (i, item) in seen.into_iter().enumerate() {
            match item {
                Ok((value, thread)) => assert!(value == i && thread != current().id()),
                Err(text) => assert!(i % 10 == 3 && text.starts_with(&format!("{i}: ")), "{i}: {text}"),
            }
        }
    }
}

#[test]
fn only_so_many_items_are_made_ahead() {
    let (made, gone) = (AtomicUsize::new(0), AtomicBool::new(false));
    scope(|s| {
        let stream = Prefetch::spawn(s, Counter { made: &made, gone: &gone }, 3).unwrap();
        for (taken, item) in stream.take(20).enumerate() {
            assert_eq!(item.unwrap(), taken);
            sleep(Duration::from_millis(2));
            let ahead = made.load(Ordering::SeqCst) - (taken + 1);
            assert!(ahead <= 4, "{ahead} items ahead of the consumer: 3 ready and one at hand are allowed");
        }
    });
}

#[test]
fn a_dropped_consumer_ends_the_thread_of_an_endless_stream() {
    let (made, gone) = (AtomicUsize::new(0), AtomicBool::new(false));
    scope(|s| {
        let mut stream = Prefetch::spawn(s, Counter { made: &made, gone: &gone }, 2).unwrap();
        assert_eq!(stream.next().unwrap().unwrap(), 0);
        drop(stream);
        assert!(gone.load(Ordering::SeqCst), "the thread has ended, and its stream is dropped with it");
    });
}

#[test]
fn a_panic_of_the_stream_is_its_last_item() {
    let items = (0..5).map(|i| if i == 3 { panic!("row {i} is cursed") } else { Ok(i) });
    let seen = all(items, 1);
    assert_eq!(seen[..3], [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(seen[3], Err("reading panicked: row 3 is cursed; please report this".to_owned()));
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_panic_that_nobody_waits_for_does_not_reach_the_consumer() {
    let (go, wait) = channel::<()>();
    let mut wait = Some(wait);
    scope(|s| {
        let items = (0..2).map(move |i| {
            if i == 1 {
                // Until the consumer has let go of the other end.
                let _ = wait.take().unwrap().recv();
                panic!("too late");
            }
            Ok(i)
        });
        let mut stream = Prefetch::spawn(s, items, 1).unwrap();
        assert_eq!(stream.next().unwrap().unwrap(), 0);
        drop(go);
        drop(stream);
    });
}
