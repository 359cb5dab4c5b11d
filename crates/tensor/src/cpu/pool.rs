//! Buffers of dropped matrices, kept for the next ones.
//!
//! A pass over a model frees and asks for the same sizes again and again. The system allocator gives large blocks back
//! to the operating system, and every page of the next one then costs a fault: half a second per gigabyte, as much as
//! the products of a small model.

use super::scalar::Scalar;
use super::scalar::sealed::Sealed;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers of fewer elements are left to the system allocator.
const MIN_LEN: usize = 1 << 14;

/// Idle buffers by capacity. Buffers alive and idle together never exceed the most that were alive at once.
#[derive(Debug)]
pub struct Pool<T> {
    idle: BTreeMap<usize, Vec<Vec<T>>>,
    idle_len: usize,
    live_len: usize,
    peak_len: usize,
}

/// The capacity of a buffer for `len` elements: at most an eighth more, so that similar sizes share buffers.
fn capacity(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 16).max(1))
}

fn is_pooled(capacity_of: usize) -> bool {
    capacity_of >= MIN_LEN && capacity_of == capacity(capacity_of)
}

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self { idle: BTreeMap::new(), idle_len: 0, live_len: 0, peak_len: 0 }
    }

    fn take(&mut self, capacity: usize) -> Option<Vec<T>> {
        self.live_len += capacity;
        self.peak_len = self.peak_len.max(self.live_len);
        let found = self.idle.get_mut(&capacity).and_then(Vec::pop);
        if found.is_some() {
            self.idle_len -= capacity;
        }
        found
    }

    /// Idle buffers to drop, largest first, for the total to stay within the peak.
    fn excess(&mut self) -> Vec<Vec<T>> {
        let mut out = Vec::new();
        while self.live_len + self.idle_len > self.peak_len {
            let Some(mut entry) = self.idle.last_entry() else { break };
            if let Some(buffer) = entry.get_mut().pop() {
                self.idle_len -= buffer.capacity();
                out.push(buffer);
            }
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        out
    }

    fn give(&mut self, buffer: Vec<T>) -> Option<Vec<T>> {
        let capacity = buffer.capacity();
        self.live_len = self.live_len.saturating_sub(capacity);
        if self.live_len + self.idle_len + capacity > self.peak_len {
            return Some(buffer);
        }
        self.idle_len += capacity;
        self.idle.entry(capacity).or_default().push(buffer);
        None
    }
}

fn lock<T: Scalar>() -> MutexGuard<'static, Pool<T>> {
    <T as Sealed>::pool().lock().unwrap_or_else(PoisonError::into_inner)
}

/// An idle buffer for a capacity that is pooled.
fn reuse<T: Scalar>(capacity: usize) -> Option<Vec<T>> {
    let (found, excess) = {
        let mut pool = lock::<T>();
        (pool.take(capacity), pool.excess())
    };
    drop(excess);
    found
}

/// An empty vector with room for `len` elements.
pub(crate) fn take<T: Scalar>(len: usize) -> Vec<T> {
    let capacity = capacity(len);
    if !is_pooled(capacity) {
        return Vec::with_capacity(len);
    }
    let mut buffer = reuse(capacity).unwrap_or_else(|| Vec::with_capacity(capacity));
    buffer.clear();
    buffer
}

/// A vector of `len` numbers with any values, those of an earlier use where there was one: for what is overwritten.
pub(crate) fn take_stale<T: Scalar>(len: usize) -> Vec<T> {
    let capacity = capacity(len);
    if !is_pooled(capacity) {
        return vec![T::ZERO; len];
    }
    let Some(mut buffer) = reuse(capacity) else { return fresh_zeros(len, capacity) };
    if buffer.len() < len {
        buffer.resize(len, T::ZERO);
    }
    buffer.truncate(len);
    buffer
}

/// A vector of `len` zeros.
pub(crate) fn take_zeros<T: Scalar>(len: usize) -> Vec<T> {
    let capacity = capacity(len);
    if !is_pooled(capacity) {
        return vec![T::ZERO; len];
    }
    let Some(mut buffer) = reuse(capacity) else { return fresh_zeros(len, capacity) };
    buffer.clear();
    buffer.resize(len, T::ZERO);
    buffer
}

/// Fresh pages are zero already: the allocator does not touch them.
fn fresh_zeros<T: Scalar>(len: usize, capacity: usize) -> Vec<T> {
    let mut fresh = vec![T::ZERO; capacity];
    fresh.truncate(len);
    fresh
}

/// Keeps the memory of a vector, and the numbers in it, for the next one; or frees it.
pub(crate) fn give<T: Scalar>(buffer: Vec<T>) {
    if is_pooled(buffer.capacity()) {
        let freed = lock::<T>().give(buffer);
        drop(freed);
    }
}

/// Frees all idle buffers.
pub(crate) fn trim<T: Scalar>() {
    let idle = {
        let mut pool = lock::<T>();
        pool.idle_len = 0;
        pool.peak_len = pool.live_len;
        std::mem::take(&mut pool.idle)
    };
    drop(idle);
}

/// The pool of one number type; see [`Scalar`].
pub type SharedPool<T> = Mutex<Pool<T>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_sizes_share_a_capacity_with_little_waste() {
        for len in [MIN_LEN, 100_000, 786_432, 786_433, 3_145_728, 4_194_305] {
            let capacity = capacity(len);
            assert!(capacity >= len && capacity - len <= len / 8, "{len} → {capacity}");
            assert!(is_pooled(capacity));
        }
        assert_eq!(capacity(786_433), capacity(786_500));
    }

    #[test]
    fn idle_and_live_buffers_never_exceed_the_peak_of_the_live_ones() {
        let mut pool = Pool::<f32>::new();
        let new = |pool: &mut Pool<f32>, n: usize| {
            let buffer = pool.take(n).unwrap_or_else(|| Vec::with_capacity(n));
            pool.excess();
            buffer
        };
        let (a, b) = (new(&mut pool, 1 << 14), new(&mut pool, 1 << 15));
        let address = b.as_ptr();
        assert!(pool.give(a).is_none() && pool.give(b).is_none());
        assert_eq!((pool.live_len, pool.idle_len, pool.peak_len), (0, 3 << 14, 3 << 14));
        let b = new(&mut pool, 1 << 15);
        assert_eq!(b.as_ptr(), address, "the idle buffer is used again");
        let c = new(&mut pool, 1 << 16);
        assert_eq!((pool.live_len, pool.idle_len, pool.peak_len), (6 << 14, 0, 6 << 14));
        drop((b, c));
    }
}
