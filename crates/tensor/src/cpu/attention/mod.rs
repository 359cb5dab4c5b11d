//! Multi-head attention in blocks of queries. A block sees only its keys, from the start of its window to its causal
//! end; its scores live for as long as the block. The backward computes them again.
#![allow(unsafe_code)]

mod jvp;

pub(crate) use jvp::jvp;

use super::check;
use super::matrix::Matrix;
use super::parallel::{Shared, dispatch, for_each_task};
use super::product::{Threads, View, ViewMut, gemm};
use super::reduce::{inner, max, sum};
use super::scalar::Scalar;
use crate::{Accumulate, Attention, Buffer, Precision, Result, Segment, Shape, TensorError};
use std::ops::Range;

/// Queries of a block.
const BLOCK: usize = 64;

/// The operands of one attention, and where the tasks read them.
struct Operands<'a, T: Scalar> {
    spec: &'a Attention,
    q: &'a Matrix<T>,
    k: &'a Matrix<T>,
    v: &'a Matrix<T>,
}

/// A block of queries of one head: its first position, its length, and the positions of its keys.
struct Block {
    first: usize,
    len: usize,
    keys: Range<usize>,
}

impl Block {
    /// The blocks of a segment of `len` positions.
    fn all(spec: &Attention, len: usize) -> impl Iterator<Item = Self> + '_ {
        (0..len).step_by(BLOCK).map(move |first| {
            let rows = BLOCK.min(len - first);
            let keys = visible(spec, len, first).start..visible(spec, len, first + rows - 1).end;
            Self { first, len: rows, keys }
        })
    }
}

/// Positions that position `t` of a segment of `len` attends to.
fn visible(spec: &Attention, len: usize, t: usize) -> Range<usize> {
    if !spec.causal {
        return 0..len;
    }
    spec.window.map_or(0, |w| (t + 1).saturating_sub(w))..t + 1
}

impl<'a, T: Scalar> Operands<'a, T> {
    fn check(&self, op: &'static str, segments: &[Segment]) -> Result<()> {
        let Attention { heads, kv_heads, head_dim, causal, window, .. } = *self.spec;
        let config = |what| Err(TensorError::Config { op, what });
        if heads == 0 || kv_heads == 0 || head_dim == 0 || !heads.is_multiple_of(kv_heads) {
            return config("heads must be a multiple of kv_heads, and all widths positive");
        }
        if window.is_some() && !causal {
            return config("a window needs causal attention");
        }
        if self.spec.scale.is_nan() || self.spec.scale <= 0.0 {
            return config("the scale must be positive");
        }
        if window == Some(0) {
            return config("a window must have at least one position");
        }
        let rows = self.q.rows();
        check::shape(op, "q", self.q.shape(), Shape::new(rows, heads * head_dim))?;
        check::shape(op, "k", self.k.shape(), Shape::new(rows, kv_heads * head_dim))?;
        check::shape(op, "v", self.v.shape(), Shape::new(rows, kv_heads * head_dim))?;
        check::disjoint_segments(op, segments, rows)
    }

    fn width(&self) -> usize {
        self.spec.heads * self.spec.head_dim
    }

    fn kv_width(&self) -> usize {
        self.spec.kv_heads * self.spec.head_dim
    }

    /// Query heads of a kv head.
    fn group(&self) -> usize {
        self.spec.heads / self.spec.kv_heads
    }

    /// The block of queries of a head, of `q` or a matrix like it.
    fn queries(&self, m: &'a Matrix<T>, segment: Segment, block: &Block, head: usize) -> View<'a, T> {
        let d = self.spec.head_dim;
        View::block(m, segment.start + block.first, block.len, head * d, d)
    }

    /// The keys or values that a block sees.
    fn keys(&self, m: &'a Matrix<T>, segment: Segment, block: &Block, kv_head: usize) -> View<'a, T> {
        let d = self.spec.head_dim;
        View::block(m, segment.start + block.keys.start, block.keys.len(), kv_head * d, d)
    }

    /// exp(scale · (q kᵀ − max)) of a block into `scores` `[block.len, keys]`, zero where masked, and 1/sum of each row.
    fn weights(&self, segment: Segment, block: &Block, head: usize, scores: &mut [T], inverse_sums: &mut [T]) {
        let keys = block.keys.len();
        let q = self.queries(self.q, segment, block, head);
        let k = self.keys(self.k, segment, block, head / self.group());
        let out = ViewMut::new(scores, block.len, keys, keys);
        gemm(Precision::F32, Threads::One, T::ONE, q, k.t(), Accumulate::Replace, &out);
        dispatch(Softmax { spec: self.spec, segment, block, scores, inverse_sums });
    }
}

struct Softmax<'a, T> {
    spec: &'a Attention,
    segment: Segment,
    block: &'a Block,
    scores: &'a mut [T],
    inverse_sums: &'a mut [T],
}

impl<T: Scalar> pulp::NullaryFnOnce for Softmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Block { first, keys, .. } = self.block;
        let scale = T::of_f64(self.spec.scale);
        for (i, (row, inverse)) in self.scores.chunks_exact_mut(keys.len()).zip(self.inverse_sums).enumerate() {
            let seen = visible(self.spec, self.segment.len, first + i);
            let (from, to) = (seen.start - keys.start, seen.end - keys.start);
            row[..from].fill(T::ZERO);
            row[to..].fill(T::ZERO);
            let row = &mut row[from..to];
            let top = max(row);
            for score in row.iter_mut() {
                *score = ((*score - top) * scale).exp();
            }
            *inverse = T::ONE / sum(row);
        }
    }
}

struct ScaleRows<'a, 'b, T> {
    out: &'a Shared<'b, T>,
    start: usize,
    len: usize,
    stride: usize,
    factors: &'a [T],
}

impl<T: Scalar> pulp::NullaryFnOnce for ScaleRows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (i, &factor) in self.factors.iter().enumerate() {
            // SAFETY: the rows belong to the head and segment of the calling task, one at a time.
            for o in unsafe { self.out.part(self.start + i * self.stride, self.len) } {
                *o *= factor;
            }
        }
    }
}

/// A matrix for what is written at every row of the segments; the other rows are zeros.
fn output<T: Scalar>(shape: Shape, segments: &[Segment]) -> Matrix<T> {
    let covered = segments.iter().map(|s| s.len).sum::<usize>() == shape.rows;
    if covered { Matrix::stale(shape) } else { Matrix::zeros(shape) }
}

/// Whether an attention is worth the pool: about its multiply-adds against a threshold.
fn is_big(spec: &Attention, segments: &[Segment]) -> bool {
    let pairs: usize = segments.iter().map(|s| s.len * s.len).sum();
    pairs * spec.heads * spec.head_dim > 1 << 16
}

pub(crate) fn forward<T: Scalar>(
    spec: &Attention,
    q: &Matrix<T>,
    k: &Matrix<T>,
    v: &Matrix<T>,
    segments: &[Segment],
) -> Result<Matrix<T>> {
    let operands = Operands { spec, q, k, v };
    operands.check("attention_forward", segments)?;
    let mut out = output(q.shape(), segments);
    let shared = Shared::new(out.as_mut_slice());
    for_each_task(segments.len() * spec.heads, is_big(spec, segments), |task| {
        forward_head(&operands, segments[task / spec.heads], task % spec.heads, &shared);
    });
    Ok(out)
}

fn forward_head<T: Scalar>(operands: &Operands<'_, T>, segment: Segment, head: usize, out: &Shared<'_, T>) {
    let (d, width) = (operands.spec.head_dim, operands.width());
    for block in Block::all(operands.spec, segment.len) {
        let keys = block.keys.len();
        let mut scores = Buffer::stale(block.len * keys);
        let factors = &mut [T::ZERO; BLOCK][..block.len];
        operands.weights(segment, &block, head, &mut scores, factors);
        let v = operands.keys(operands.v, segment, &block, head / operands.group());
        let start = (segment.start + block.first) * width + head * d;
        // SAFETY: tasks have different segments or heads, and segments share no row: no two write the same elements.
        let y = unsafe { ViewMut::shared(out, start, block.len, d, width) };
        gemm(
            Precision::F32,
            Threads::One,
            T::ONE,
            View::new(&scores, block.len, keys, keys),
            v,
            Accumulate::Replace,
            &y,
        );
        dispatch(ScaleRows { out, start, len: d, stride: width, factors });
    }
}

/// The gradients that the tasks of a backward share.
struct Gradients<'a, T> {
    dq: Shared<'a, T>,
    dk: Shared<'a, T>,
    dv: Shared<'a, T>,
}

pub(crate) fn backward<T: Scalar>(
    spec: &Attention,
    dy: &Matrix<T>,
    q: &Matrix<T>,
    k: &Matrix<T>,
    v: &Matrix<T>,
    segments: &[Segment],
) -> Result<(Matrix<T>, Matrix<T>, Matrix<T>)> {
    let operands = Operands { spec, q, k, v };
    operands.check("attention_backward", segments)?;
    check::same("attention_backward", "dy", dy, q)?;
    let mut dq = output(q.shape(), segments);
    let (mut dk, mut dv) = (Matrix::zeros(k.shape()), Matrix::zeros(v.shape()));
    let gradients = Gradients {
        dq: Shared::new(dq.as_mut_slice()),
        dk: Shared::new(dk.as_mut_slice()),
        dv: Shared::new(dv.as_mut_slice()),
    };
    let (kv_heads, group) = (spec.kv_heads, operands.group());
    for_each_task(segments.len() * kv_heads, is_big(spec, segments), |task| {
        let (segment, kv_head) = (segments[task / kv_heads], task % kv_heads);
        for head in kv_head * group..(kv_head + 1) * group {
            for block in Block::all(spec, segment.len) {
                backward_block(&operands, dy, segment, head, &block, &gradients);
            }
        }
    });
    Ok((dq, dk, dv))
}

fn backward_block<T: Scalar>(
    operands: &Operands<'_, T>,
    dy: &Matrix<T>,
    segment: Segment,
    head: usize,
    block: &Block,
    gradients: &Gradients<'_, T>,
) {
    use Accumulate::{Add, Replace};
    let (d, width, kv_width) = (operands.spec.head_dim, operands.width(), operands.kv_width());
    let (keys, kv_head) = (block.keys.len(), head / operands.group());
    let (mut scores, mut slopes) = (Buffer::stale(block.len * keys), Buffer::stale(block.len * keys));
    let (scores, slopes) = (&mut scores[..], &mut slopes[..]);
    let inverse_sums = &mut [T::ZERO; BLOCK][..block.len];
    operands.weights(segment, block, head, scores, inverse_sums);

    let dy = View::block(dy, segment.start + block.first, block.len, head * d, d);
    let k = operands.keys(operands.k, segment, block, kv_head);
    let v = operands.keys(operands.v, segment, block, kv_head);
    let q = operands.queries(operands.q, segment, block, head);
    gemm(Precision::F32, Threads::One, T::ONE, dy, v.t(), Replace, &ViewMut::new(slopes, block.len, keys, keys));
    dispatch(SoftmaxBackward { keys, scale: T::of_f64(operands.spec.scale), scores, slopes, inverse_sums });

    let weights = View::new(scores, block.len, keys, keys);
    let slopes = View::new(slopes, block.len, keys, keys);
    let start = (segment.start + block.first) * width + head * d;
    let kv_start = (segment.start + block.keys.start) * kv_width + kv_head * d;
    // SAFETY: tasks have different segments or kv heads, and segments share no row: no two write the same elements.
    let (dq, dk, dv) = unsafe {
        (
            ViewMut::shared(&gradients.dq, start, block.len, d, width),
            ViewMut::shared(&gradients.dk, kv_start, keys, d, kv_width),
            ViewMut::shared(&gradients.dv, kv_start, keys, d, kv_width),
        )
    };
    gemm(Precision::F32, Threads::One, T::ONE, slopes, k, Replace, &dq);
    gemm(Precision::F32, Threads::One, T::ONE, slopes.t(), q, Add, &dk);
    gemm(Precision::F32, Threads::One, T::ONE, weights.t(), dy, Add, &dv);
}

/// Normalises the weights p, and turns `slopes` = dp into scale · p ∘ (dp − ⟨p, dp⟩).
struct SoftmaxBackward<'a, T> {
    keys: usize,
    scale: T,
    scores: &'a mut [T],
    slopes: &'a mut [T],
    inverse_sums: &'a [T],
}

impl<T: Scalar> pulp::NullaryFnOnce for SoftmaxBackward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let rows = self.scores.chunks_exact_mut(self.keys).zip(self.slopes.chunks_exact_mut(self.keys));
        for ((p, dp), &inverse) in rows.zip(self.inverse_sums) {
            for p in p.iter_mut() {
                *p *= inverse;
            }
            let mean = inner(p, dp);
            for (dp, &p) in dp.iter_mut().zip(p.iter()) {
                *dp = self.scale * p * (*dp - mean);
            }
        }
    }
}
