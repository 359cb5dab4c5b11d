//! Loops over blocks of rows: in parallel when big, compiled for the best instruction set found at run time.
//!
//! The division into blocks never depends on the number of threads, so neither does any result.
#![allow(unsafe_code)]

use super::matrix::Matrix;
use super::scalar::Scalar;
use crate::{Buffer, Shape};
use rayon::prelude::*;
use std::marker::PhantomData;

/// Elements in a block of an elementwise loop: small enough for the second-level cache.
const BLOCK: usize = 1 << 14;
/// Loops over fewer elements than this stay on the calling thread.
const PARALLEL_MIN: usize = 1 << 15;

/// Rows of a block, for rows of `cols` elements.
pub(crate) fn rows_per_block(cols: usize) -> usize {
    (BLOCK / cols.max(1)).max(1)
}

/// Runs `op` compiled for the best instruction set of this machine. Its `call` must be `#[inline(always)]`, and so
/// must be what it calls in its hot loop.
pub(crate) fn dispatch<Op: pulp::NullaryFnOnce>(op: Op) -> Op::Output {
    pulp::Arch::new().dispatch(op)
}

/// The body of a loop over blocks with one or two outputs. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel<A, B = ()>: Sync {
    /// Computes block number `block` of both outputs.
    fn run(&self, block: usize, a: &mut [A], b: &mut [B]);
}

struct Run<'a, A, B, K> {
    kernel: &'a K,
    block: usize,
    a: &'a mut [A],
    b: &'a mut [B],
}

impl<A, B, K: Kernel<A, B>> pulp::NullaryFnOnce for Run<'_, A, B, K> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.kernel.run(self.block, self.a, self.b);
    }
}

/// A slice that several tasks write to, each its own part.
pub(crate) struct Shared<'a, T> {
    ptr: *mut T,
    len: usize,
    marker: PhantomData<&'a mut [T]>,
}

// SAFETY: the parts handed out are disjoint by the contract of `part` and `at`, so this is a `&mut [T]` split up.
unsafe impl<T: Send> Sync for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { ptr: slice.as_mut_ptr(), len: slice.len(), marker: PhantomData }
    }

    /// Elements `start..start + len`, cut to the length of the slice.
    ///
    /// # Safety
    /// No two parts alive at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        let start = start.min(self.len);
        let len = len.min(self.len - start);
        // SAFETY: in bounds by the two lines above; exclusive by the contract of this function.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }

    /// Pointer to element `start`, of which the next `needed` must exist.
    pub(crate) fn at(&self, start: usize, needed: usize) -> *mut T {
        assert!(start.checked_add(needed).is_some_and(|end| end <= self.len), "part outside of a shared slice");
        self.ptr.wrapping_add(start)
    }
}

/// Runs `kernel` over blocks of `a` (of `a_len` elements), the last one possibly shorter; `work` counts the elements
/// that it touches in all.
pub(crate) fn for_blocks<A: Send, K: Kernel<A>>(a: &mut [A], a_len: usize, work: usize, kernel: &K) {
    for_blocks_with(a, a_len, &mut [], 0, work, kernel);
}

/// Like [`for_blocks`], with a second output of `b_len` elements per block.
pub(crate) fn for_blocks_with<A, B, K>(a: &mut [A], a_len: usize, b: &mut [B], b_len: usize, work: usize, kernel: &K)
where
    A: Send,
    B: Send,
    K: Kernel<A, B>,
{
    if a.is_empty() {
        return;
    }
    let a_len = a_len.max(1);
    let count = a.len().div_ceil(a_len);
    let parallel = work >= PARALLEL_MIN;
    let (a, b) = (Shared::new(a), Shared::new(b));
    for_each(count, parallel, |block| {
        // SAFETY: each block number runs once, and blocks of different numbers do not overlap.
        let (a, b) = unsafe { (a.part(block * a_len, a_len), b.part(block * b_len, b_len)) };
        dispatch(Run { kernel, block, a, b });
    });
}

/// A new matrix whose blocks of `block_rows` rows `kernel` writes, every element; they arrive with any values.
pub(crate) fn build<T: Scalar, K: Kernel<T>>(shape: Shape, block_rows: usize, kernel: &K) -> Matrix<T> {
    build_with(shape, block_rows, &mut [], 0, kernel)
}

/// Like [`build`], with a second output of `b_len` elements per block.
pub(crate) fn build_with<T, B, K>(shape: Shape, block_rows: usize, b: &mut [B], b_len: usize, kernel: &K) -> Matrix<T>
where
    T: Scalar,
    B: Send,
    K: Kernel<T, B>,
{
    let mut data = Buffer::stale(shape.len());
    for_blocks_with(&mut data, block_rows.max(1) * shape.cols, b, b_len, shape.len(), kernel);
    Matrix::from_buffer(shape, data)
}

/// `body(i)` for `i` in `0..count`, one task each.
pub(crate) fn for_each(count: usize, parallel: bool, body: impl Fn(usize) + Sync + Send) {
    if parallel && count > 1 {
        (0..count).into_par_iter().for_each(body);
    } else {
        (0..count).for_each(body);
    }
}

/// The same for long tasks, or of uneven length: any thread that is free takes the next one.
pub(crate) fn for_each_task(count: usize, parallel: bool, body: impl Fn(usize) + Sync + Send) {
    if parallel && count > 1 {
        (0..count).into_par_iter().with_max_len(1).for_each(body);
    } else {
        (0..count).for_each(body);
    }
}
