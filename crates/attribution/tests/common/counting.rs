//! A global allocator that counts what the calling thread allocates.
//!
//! By thread, so that what other threads do (a reader, other tests) does not disturb the counts: run the work within a
//! pool of one thread.
#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What a thread has allocated since its start; growing a block counts as an allocation of its new size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// How often.
    pub count: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// How often 4 KiB or more.
    pub large: u64,
    /// Bytes of the largest since the last [`Allocations::take`].
    pub largest: usize,
}

/// Bytes from which on an allocation is large.
pub const LARGE: usize = 4 << 10;

thread_local! {
    static TOTAL: Cell<Allocations> = const { Cell::new(Allocations { count: 0, bytes: 0, large: 0, largest: 0 }) };
}

impl Allocations {
    /// What this thread has allocated since the last call.
    pub fn take() -> Self {
        TOTAL.take()
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            bytes: self.bytes + other.bytes,
            large: self.large + other.large,
            largest: self.largest.max(other.largest),
        }
    }
}

/// The system's allocator, counting.
pub struct Counting;

fn note(bytes: usize) {
    // A thread that ends may allocate when its counter is gone.
    let _ = TOTAL.try_with(|total| {
        let one = Allocations { count: 1, bytes: bytes as u64, large: u64::from(bytes >= LARGE), largest: bytes };
        total.set(total.get().and(one));
    });
}

// SAFETY: every call is handed to the system's allocator as it came; the counter is not behind the allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: by the contract of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: by the contract of this function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: by the contract of this function.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: by the contract of this function.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
