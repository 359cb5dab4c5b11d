//! Buffers of dropped matrices and lists, kept for the next ones.
//!
//! A pass over a model frees and asks for similar sizes again and again. The system allocator gives large blocks back
//! to the operating system, and every page of the next one then costs a fault: half a second per gigabyte, as much as
//! the products of a small model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread::LocalKey;

/// Buffers of fewer bytes are left to the system allocator.
const MIN_BYTES: usize = 1 << 10;
/// Buffers of fewer bytes are kept by thread, so that small tasks do not wait for each other.
const SHARED_BYTES: usize = 1 << 16;

/// A buffer serves for one of this part of its size, and no smaller one.
const FIT: usize = 4;

/// Idle buffers by capacity. Buffers alive and idle together never exceed 5/4 of the most that were alive at once: what is
/// needed at a time differs from phase to phase of a pass, and this much more makes each find its buffers idle.
#[derive(Debug)]
pub struct Pool<T> {
    idle: BTreeMap<usize, Vec<Vec<T>>>,
    idle_len: usize,
    live_len: usize,
    peak_len: usize,
}

/// The pools of an element type.
pub trait HasPools: Sized + 'static {
    /// The pool of all threads.
    fn shared() -> &'static Mutex<Pool<Self>>;
    /// The pool of this thread.
    fn local() -> &'static LocalKey<RefCell<Pool<Self>>>;
}

/// Gives a type its pools.
macro_rules! has_pools {
    ($($element:ty),*) => {$(
        impl $crate::pool::HasPools for $element {
            fn shared() -> &'static std::sync::Mutex<$crate::pool::Pool<Self>> {
                static POOL: std::sync::Mutex<$crate::pool::Pool<$element>> =
                    std::sync::Mutex::new($crate::pool::Pool::new());
                &POOL
            }

            fn local() -> &'static std::thread::LocalKey<std::cell::RefCell<$crate::pool::Pool<Self>>> {
                std::thread_local! {
                    static POOL: std::cell::RefCell<$crate::pool::Pool<$element>> =
                        const { std::cell::RefCell::new($crate::pool::Pool::new()) };
                }
                &POOL
            }
        }
    )*};
}
pub(crate) use has_pools;

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self { idle: BTreeMap::new(), idle_len: 0, live_len: 0, peak_len: 0 }
    }

    /// Most elements of all buffers.
    fn most(&self) -> usize {
        self.peak_len + self.peak_len / 4
    }

    /// An idle buffer of at least this capacity, the smallest that fits.
    fn take(&mut self, capacity: usize) -> Option<Vec<T>> {
        let found = self.idle.range_mut(capacity..=FIT * capacity).find_map(|(_, alike)| alike.pop());
        let taken = found.as_ref().map_or(capacity, Vec::capacity);
        self.live_len += taken;
        self.peak_len = self.peak_len.max(self.live_len);
        self.idle_len -= if found.is_some() { taken } else { 0 };
        found
    }

    /// Idle buffers to free for a new one, for the total to stay within its bound: the next smaller ones, in whose place the
    /// new one can serve, then the largest.
    fn excess(&mut self, capacity: usize) -> Vec<Vec<T>> {
        let mut out = Vec::new();
        while self.live_len + self.idle_len > self.most() {
            let by_fitness = self.idle.range(..=capacity).rev().chain(self.idle.range(capacity + 1..).rev());
            let Some(key) = by_fitness.filter(|(_, alike)| !alike.is_empty()).map(|(key, _)| *key).next() else {
                break;
            };
            out.extend(self.idle.get_mut(&key).and_then(Vec::pop));
            self.idle_len -= key;
        }
        out
    }

    /// Takes back what was `taken`, or returns what is to be freed.
    fn give(&mut self, taken: usize, buffer: Vec<T>) -> Option<Vec<T>> {
        self.live_len = self.live_len.saturating_sub(taken);
        let capacity = buffer.capacity();
        if capacity == 0 || self.live_len + self.idle_len + capacity > self.most() {
            return Some(buffer);
        }
        self.idle_len += capacity;
        self.idle.entry(capacity).or_default().push(buffer);
        None
    }
}

/// The capacity of a buffer for `len` elements: at most an eighth more, so that similar sizes share buffers.
fn capacity<T>(len: usize) -> usize {
    let granule = len.next_power_of_two() / 16;
    if len * size_of::<T>() < MIN_BYTES { len } else { len.next_multiple_of(granule.max(1)) }
}

/// Runs `work` on the pool for buffers of a capacity; on none where they are not kept.
fn with_pool<T: HasPools, R>(capacity: usize, work: impl FnOnce(&mut Pool<T>) -> R) -> Option<R> {
    match capacity * size_of::<T>() {
        ..MIN_BYTES => None,
        // A thread that ends may have no pool any more.
        MIN_BYTES..SHARED_BYTES => T::local().try_with(|pool| work(&mut pool.borrow_mut())).ok(),
        _ => Some(work(&mut T::shared().lock().unwrap_or_else(PoisonError::into_inner))),
    }
}

/// A vector with room for `len` elements, and what to give back with it. Where it was used before, it has its old content;
/// else `fresh` makes it, of the capacity that it is given.
pub(crate) fn take<T: HasPools>(len: usize, fresh: impl FnOnce(usize) -> Vec<T>) -> (Vec<T>, usize) {
    let capacity = capacity::<T>(len);
    let reused = with_pool(capacity, |pool: &mut Pool<T>| match pool.take(capacity) {
        Some(found) => (Some(found), Vec::new()),
        None => (None, pool.excess(capacity)),
    });
    let Some((found, excess)) = reused else { return (fresh(capacity), 0) };
    drop(excess);
    let buffer = found.unwrap_or_else(|| fresh(capacity));
    let taken = buffer.capacity();
    (buffer, taken)
}

/// Keeps the memory of a vector, and its content, for the next one; or frees it.
pub(crate) fn give<T: HasPools>(taken: usize, buffer: Vec<T>) {
    // The pool that it was taken from, or that of its own size.
    let capacity = if taken > 0 { taken } else { buffer.capacity() };
    let freed = with_pool(capacity, |pool| pool.give(taken, buffer));
    drop(freed);
}

/// Frees all idle buffers of all threads' pool and of this thread's.
pub(crate) fn trim<T: HasPools>() {
    let empty = |pool: &mut Pool<T>| {
        pool.idle_len = 0;
        pool.peak_len = pool.live_len;
        std::mem::take(&mut pool.idle)
    };
    let idle = [SHARED_BYTES, MIN_BYTES].map(|bytes| with_pool(bytes.div_ceil(size_of::<T>()), empty));
    drop(idle);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_sizes_share_a_capacity_with_little_waste() {
        for len in [300, 100_000, 786_432, 786_433, 3_145_728, 4_194_305] {
            let capacity = capacity::<f32>(len);
            assert!(capacity >= len && capacity - len <= len / 8, "{len} → {capacity}");
        }
        assert_eq!(capacity::<f32>(786_433), capacity::<f32>(786_500));
    }

    fn new(pool: &mut Pool<f32>, n: usize) -> Vec<f32> {
        pool.take(n).unwrap_or_else(|| {
            pool.excess(n);
            Vec::with_capacity(n)
        })
    }

    #[test]
    fn idle_and_live_buffers_hardly_exceed_the_peak_of_the_live_ones() {
        let mut pool = Pool::<f32>::new();
        let (a, b) = (new(&mut pool, 1 << 14), new(&mut pool, 1 << 15));
        let address = b.as_ptr();
        assert!(pool.give(1 << 14, a).is_none() && pool.give(1 << 15, b).is_none());
        assert_eq!((pool.live_len, pool.idle_len, pool.peak_len), (0, 3 << 14, 3 << 14));
        let b = new(&mut pool, 1 << 15);
        assert_eq!(b.as_ptr(), address, "the idle buffer is used again");
        let c = new(&mut pool, 1 << 16);
        assert_eq!((pool.live_len, pool.idle_len, pool.peak_len), (6 << 14, 1 << 14, 6 << 14));
        let d = new(&mut pool, 1 << 17);
        assert_eq!((pool.live_len, pool.idle_len, pool.peak_len), (14 << 14, 1 << 14, 14 << 14));
        assert!(pool.give(1 << 17, d).is_none() && pool.give(1 << 16, c).is_none());
        let e = new(&mut pool, 1 << 18);
        assert_eq!((pool.live_len, pool.idle_len, pool.peak_len), (18 << 14, 1 << 14, 18 << 14), "8 and 4 are freed");
        drop((b, e));
    }

    #[test]
    fn a_buffer_serves_for_one_of_a_quarter_of_its_size_but_not_for_a_smaller_one() {
        let mut pool = Pool::<f32>::new();
        let large = new(&mut pool, 1 << 15);
        let address = large.as_ptr();
        pool.give(1 << 15, large);
        let small = new(&mut pool, (1 << 13) - 1);
        assert!(small.as_ptr() != address);
        let quarter = new(&mut pool, 1 << 13);
        assert_eq!((quarter.as_ptr(), pool.live_len), (address, (1 << 15) + (1 << 13) - 1));
    }
}
