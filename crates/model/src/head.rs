//! Softmax cross entropy fused with the vocabulary projection: logits exist for a chunk of rows at a time.

use etymon_tensor::{Backend, Buffer, CrossEntropy, Label, Segment, Shape};

use crate::Result;
use crate::layers::Linear;
use crate::params::Params;
use crate::tap::{Consumer, LossRows, Rows};

/// Most logits that are held at once.
pub(crate) const CHUNK_LOGITS: usize = 16 << 20;

/// The labels of the rows that the head sees.
pub(crate) struct HeadBatch<'a> {
    pub labels: &'a [Label],
    /// Rows of each example.
    pub loss_segments: &'a [Segment],
    pub kind: CrossEntropy,
}

/// hidden `[n, d]` → the scalar of each row, and (unless only values are wanted) dhidden `[n, d]`.
pub(crate) fn run<B: Backend>(
    backend: &B,
    params: &Params<B>,
    head: &Linear,
    hidden: &B::Tensor,
    batch: &HeadBatch<'_>,
    to: &mut Consumer<'_, B>,
) -> Result<(Buffer<f64>, Option<B::Tensor>)> {
    let weight = params.get(head.weight);
    let bias = head.bias.map(|id| params.get(id));
    let Shape { rows, cols } = backend.shape(hidden);
    let mut dhidden = to.wants_backward().then(|| backend.zeros(Shape::new(rows, cols)));
    let mut values = Buffer::with_capacity(rows);
    for chunk in chunks(batch.loss_segments, (CHUNK_LOGITS / head.d_out).max(1), head.tap.is_some()) {
        let part = backend.slice_rows(hidden, chunk.rows.start, chunk.rows.len)?;
        let mut logits = backend.linear_forward(&part, weight, bias)?;
        values.extend_from_slice(&backend.cross_entropy(batch.kind, &mut logits, &batch.labels[chunk.rows.range()])?);
        let Some(dhidden) = &mut dhidden else { continue };
        to.linear(
            backend,
            head,
            &part,
            &logits,
            Rows { segments: &chunk.examples, first_example: chunk.first_example, loss_rows: LossRows::All },
        )?;
        backend.write_rows(dhidden, chunk.rows.start, &backend.linear_backward(&logits, weight)?)?;
    }
    Ok((values, dhidden))
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
