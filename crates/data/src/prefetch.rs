//! A stream that is worked off on a thread of its own, a few items ahead of its consumer.

use std::any::Any;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use crate::{DataError, Result};

/// The items of a stream, in order, made on another thread. Errors come in their place in the stream; a panic of the
/// stream becomes its last item, an error. Dropping this ends the thread, at the latest when it has made its next item.
#[derive(Debug)]
pub struct Prefetch<'scope, T> {
    items: Option<Receiver<Result<T>>>,
    thread: Option<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope, T: Send + 'scope> Prefetch<'scope, T> {
    /// Starts a thread that works `items` off. It keeps `ahead` of them ready, and one more at hand.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn<'env>(
        scope: &'scope Scope<'scope, 'env>,
        items: impl Iterator<Item = Result<T>> + Send + 'scope,
        ahead: usize,
    ) -> Result<Self> {
        let (sender, receiver) = sync_channel(ahead);
        let work = move || {
            let mut items = items;
            // A failed sending: the consumer is gone.
            while items.next().is_some_and(|item| sender.send(item).is_ok()) {}
        };
        let thread = Builder::new().name("etymon-reader".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(|source| DataError::Thread { source })?;
        Ok(Self { items: Some(receiver), thread: Some(thread) })
    }
}

impl<T> Iterator for Prefetch<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.items.as_ref().and_then(|items| items.recv().ok()) {
            return Some(item);
        }
        self.items = None;
        let ended = self.thread.take()?.join();
        ended.err().map(|panic| Err(DataError::Panic { message: message(&*panic) }))
    }
}

impl<T> Drop for Prefetch<'_, T> {
    fn drop(&mut self) {
        self.items = None;
        if let Some(thread) = self.thread.take() {
            // Nobody asks any more whether it panicked; not joined, it would take the scope with it.
            let _ = thread.join();
        }
    }
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
