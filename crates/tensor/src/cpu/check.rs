//! Checks of operands, made once at the head of each operation.

use super::matrix::Matrix;
use super::scalar::Scalar;
use crate::{Buffer, Result, Segment, Shape, TensorError};

pub(crate) fn shape(op: &'static str, operand: &'static str, got: Shape, expected: Shape) -> Result<()> {
    if got == expected { Ok(()) } else { Err(TensorError::Shape { op, operand, expected, got }) }
}

pub(crate) fn same<T: Scalar>(
    op: &'static str,
    operand: &'static str,
    got: &Matrix<T>,
    like: &Matrix<T>,
) -> Result<()> {
    shape(op, operand, got.shape(), like.shape())
}

pub(crate) fn length(op: &'static str, shape: Shape, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(TensorError::Length { op, shape, got }) }
}

/// The number of queries of which `rows` rows are factors of rank `rank`.
pub(crate) fn queries(op: &'static str, rows: usize, rank: usize) -> Result<usize> {
    if rank == 0 || !rows.is_multiple_of(rank) {
        return Err(TensorError::Config { op, what: "rows of u are not a multiple of the rank" });
    }
    Ok(rows / rank)
}

pub(crate) fn index(op: &'static str, what: &'static str, index: usize, limit: usize) -> Result<()> {
    if index < limit { Ok(()) } else { Err(TensorError::Index { op, what, index, limit }) }
}

/// `start..start + len` within `0..limit`; the error names the first index outside.
pub(crate) fn range(op: &'static str, what: &'static str, start: usize, len: usize, limit: usize) -> Result<()> {
    match start.checked_add(len) {
        Some(end) if end <= limit => Ok(()),
        _ => Err(TensorError::Index { op, what, index: start.max(limit), limit }),
    }
}

pub(crate) fn segments(op: &'static str, segments: &[Segment], rows: usize) -> Result<()> {
    segments.iter().try_for_each(|s| range(op, "row of a segment", s.start, s.len, rows))
}

/// Whether each segment starts at or after the end of the one before it.
fn are_apart(list: impl Iterator<Item = Segment>) -> bool {
    let mut end = 0;
    list.into_iter().all(|s| std::mem::replace(&mut end, s.range().end) <= s.start)
}

/// Segments within `0..rows` that share no row.
pub(crate) fn disjoint_segments(op: &'static str, list: &[Segment], rows: usize) -> Result<()> {
    segments(op, list, rows)?;
    let in_order = list.iter().copied().filter(|s| s.len > 0);
    if are_apart(in_order.clone()) {
        return Ok(());
    }
    let mut sorted: Buffer<Segment> = in_order.collect();
    sorted.sort_unstable_by_key(|s| s.start);
    if are_apart(sorted.iter().copied()) {
        Ok(())
    } else {
        Err(TensorError::Config { op, what: "segments share rows" })
    }
}
