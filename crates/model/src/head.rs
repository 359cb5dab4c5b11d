//! Softmax cross entropy fused with the vocabulary projection: logits exist for a chunk of rows at a time.

use etymon_tensor::{Backend, Buffer, CrossEntropy, Label, Segment, Shape};

use crate::Result;
use crate::layers::Linear;
use crate::params::Params;
use crate::reference::Reference;
use crate::tangent::Tangents;
use crate::tap::{Consumer, LossRows, Rows};

/// Most logits that are held at once.
pub(crate) const CHUNK_LOGITS: usize = 16 << 20;

/// The rows that the head sees.
pub(crate) struct HeadBatch<'a, B: Backend> {
    pub goal: HeadGoal<'a, B>,
    /// Rows of each example.
    pub loss_segments: &'a [Segment],
}

/// What the logits of the rows are compared with.
pub(crate) enum HeadGoal<'a, B: Backend> {
    /// One label per row.
    Labels { labels: &'a [Label], kind: CrossEntropy },
    /// The logits of another model, by KL divergence.
    Reference(&'a Reference<B>),
}

/// hidden `[n, d]` → the scalar of each row, and (unless only values are wanted) dhidden `[n, d]`.
pub(crate) fn run<B: Backend>(
    backend: &B,
    params: &Params<B>,
    head: &Linear,
    hidden: &B::Tensor,
    batch: &HeadBatch<'_, B>,
    to: &mut Consumer<'_, B>,
) -> Result<(Buffer<f64>, Option<B::Tensor>)> {
    let mut values = Buffer::with_capacity(backend.shape(hidden).rows);
    let (whole, segments) = ((backend, params, head), batch.loss_segments);
    let dhidden = by_chunks(whole, hidden, segments, to, |rows, _, mut logits| {
        let part = match &batch.goal {
            HeadGoal::Labels { labels, kind } => backend.cross_entropy(*kind, &mut logits, &labels[rows.range()])?,
            HeadGoal::Reference(reference) => {
                backend.kl_divergence(&mut logits, &reference.outputs(backend, head, rows)?)?
            }
        };
        values.extend_from_slice(&part);
        Ok(logits)
    })?;
    Ok((values, dhidden))
}

/// From hidden `[n, d]` and its tangent: the gradient of hidden that ½ Σ_rows (ds)ᵀ H ds has along them, where ds is the
/// tangent of the logits and H their Hessian of cross entropy.
pub(crate) fn gauss_newton<B: Backend>(
    tangents: &Tangents<'_, B>,
    head: &Linear,
    (hidden, dhidden): (&B::Tensor, Option<&B::Tensor>),
    loss_segments: &[Segment],
    to: &mut Consumer<'_, B>,
) -> Result<Option<B::Tensor>> {
    let (backend, params) = (tangents.backend, tangents.params);
    by_chunks((backend, params, head), hidden, loss_segments, to, |rows, part, logits| {
        let dpart = dhidden.map(|d| backend.slice_rows(d, rows.start, rows.len)).transpose()?;
        let mut tangent = tangents.linear(head, part, dpart.as_ref())?;
        backend.cross_entropy_curvature(&logits, &mut tangent)?;
        Ok(tangent)
    })
}

/// Runs `dlogits` (rows of the chunk, hidden states, logits → gradient of the logits) chunk by chunk, hands the layer to the
/// consumer, and returns dhidden unless only values are wanted.
fn by_chunks<B: Backend>(
    (backend, params, head): (&B, &Params<B>, &Linear),
    hidden: &B::Tensor,
    loss_segments: &[Segment],
    to: &mut Consumer<'_, B>,
    mut dlogits: impl FnMut(Segment, &B::Tensor, B::Tensor) -> Result<B::Tensor>,
) -> Result<Option<B::Tensor>> {
    let Shape { rows, cols } = backend.shape(hidden);
    let mut dhidden = to.wants_backward().then(|| backend.zeros(Shape::new(rows, cols)));
    for chunk in chunks(loss_segments, (CHUNK_LOGITS / head.d_out).max(1), head.is_tapped()) {
        let part = backend.slice_rows(hidden, chunk.rows.start, chunk.rows.len)?;
        let dlogits = dlogits(chunk.rows, &part, head.forward(backend, params, &part)?)?;
        let Some(dhidden) = &mut dhidden else { continue };
        let rows = Rows { segments: &chunk.examples, first_example: chunk.first_example, loss_rows: LossRows::All };
        head.hand_to(to, (backend, params), &part, &dlogits, rows)?;
        backend.write_rows(dhidden, chunk.rows.start, &head.backward(backend, params, &dlogits)?)?;
    }
    Ok(dhidden)
}

struct Chunk {
    rows: Segment,
    /// Rows of each whole example, counted from the chunk's start; empty unless examples are kept whole.
    examples: Buffer<Segment>,
    first_example: usize,
}

/// Splits the rows; keeps examples whole when the head is tapped, since its taps need whole examples.
fn chunks(examples: &[Segment], most_rows: usize, whole_examples: bool) -> Vec<Chunk> {
    let n_rows: usize = examples.iter().map(|s| s.len).sum();
    if !whole_examples {
        let starts = (0..n_rows).step_by(most_rows);
        let rows = starts.map(|start| Segment { start, len: most_rows.min(n_rows - start) });
        return rows.map(|rows| Chunk { rows, examples: Buffer::default(), first_example: 0 }).collect();
    }
    let mut out: Vec<Chunk> = Vec::new();
    for (i, example) in examples.iter().enumerate() {
        match out.last_mut() {
            Some(chunk) if chunk.rows.len + example.len <= most_rows => {
                chunk.examples.push(Segment { start: chunk.rows.len, len: example.len });
                chunk.rows.len += example.len;
            }
            _ => {
                let mut whole = Buffer::with_capacity(examples.len() - i);
                whole.push(Segment { start: 0, len: example.len });
                out.push(Chunk { rows: *example, examples: whole, first_example: i });
            }
        }
    }
    out
}
