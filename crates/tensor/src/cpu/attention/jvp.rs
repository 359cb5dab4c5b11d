//! The Jacobian-vector product of attention, block by block like its forward.
#![allow(unsafe_code)]

use super::{BLOCK, Block, Operands, SoftmaxBackward, is_big, output};
use crate::cpu::check;
use crate::cpu::matrix::Matrix;
use crate::cpu::parallel::{Shared, dispatch, for_each_task};
use crate::cpu::product::{Threads, View, ViewMut, gemm};
use crate::cpu::scalar::Scalar;
use crate::{Accumulate, Attention, Buffer, Precision, Result, Segment};

/// The tangent of the output `[T, heads · head_dim]` from the inputs q, k, v and their tangents.
pub(crate) fn jvp<T: Scalar>(
    spec: &Attention,
    [q, k, v]: [&Matrix<T>; 3],
    [dq, dk, dv]: [&Matrix<T>; 3],
    segments: &[Segment],
) -> Result<Matrix<T>> {
    const OP: &str = "attention_jvp";
    let (operands, tangents) = (Operands { spec, q, k, v }, Operands { spec, q: dq, k: dk, v: dv });
    operands.check(OP, segments)?;
    check::same(OP, "dq", dq, q)?;
    check::same(OP, "dk", dk, k)?;
    check::same(OP, "dv", dv, v)?;
    let mut out = output(q.shape(), segments);
    let shared = Shared::new(out.as_mut_slice());
    for_each_task(segments.len() * spec.heads, is_big(spec, segments), |task| {
        let (segment, head) = (segments[task / spec.heads], task % spec.heads);
        for block in Block::all(spec, segment.len) {
            jvp_block(&operands, &tangents, segment, head, &block, &shared);
        }
    });
    Ok(out)
}

/// With p = softmax(s) and s = scale · q kᵀ: dy = dp v + p dv, where dp = p ∘ (ds − ⟨p, ds⟩) row by row: the Jacobian of a
/// softmax is symmetric, so this is the kernel of the backward.
fn jvp_block<T: Scalar>(
    operands: &Operands<'_, T>,
    tangents: &Operands<'_, T>,
    segment: Segment,
    head: usize,
    block: &Block,
    out: &Shared<'_, T>,
) {
    use Accumulate::{Add, Replace};
    let (d, width) = (operands.spec.head_dim, operands.width());
    let (keys, kv_head) = (block.keys.len(), head / operands.group());
    let (mut scores, mut slopes) = (Buffer::stale(block.len * keys), Buffer::stale(block.len * keys));
    let (scores, slopes) = (&mut scores[..], &mut slopes[..]);
    let inverse_sums = &mut [T::ZERO; BLOCK][..block.len];
    operands.weights(segment, block, head, scores, inverse_sums);

    let product = |a, b, accumulate, out: &ViewMut<'_, T>| {
        gemm(Precision::F32, Threads::One, T::ONE, a, b, accumulate, out);
    };
    let ds = ViewMut::new(slopes, block.len, keys, keys);
    let [q, dq] = [operands, tangents].map(|of| of.queries(of.q, segment, block, head));
    let [k, dk] = [operands, tangents].map(|of| of.keys(of.k, segment, block, kv_head));
    let [v, dv] = [operands, tangents].map(|of| of.keys(of.v, segment, block, kv_head));
    product(dq, k.t(), Replace, &ds);
    product(q, dk.t(), Add, &ds);
    dispatch(SoftmaxBackward { keys, scale: T::of_f64(operands.spec.scale), scores, slopes, inverse_sums });

    let start = (segment.start + block.first) * width + head * d;
    // SAFETY: tasks have different segments or heads, and segments share no row: no two write the same elements.
    let y = unsafe { ViewMut::shared(out, start, block.len, d, width) };
    product(View::new(slopes, block.len, keys, keys), v, Replace, &y);
    product(View::new(scores, block.len, keys, keys), dv, Add, &y);
}
