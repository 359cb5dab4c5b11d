//! Softmax cross entropy fused with the vocabulary projection: logits exist for a chunk of rows at a time.

use etymon_tensor::{Backend, Buffer, CrossEntropy, Label, Segment};

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
    let mut dhidden = to.wants_backward().then(|| backend.zeros(backend.shape(hidden)));
    for chunk in chunks(head, batch.loss_segments) {
        let part = backend.slice_rows(hidden, chunk.rows.start, chunk.rows.len)?;
        let mut logits = head.forward(backend, params, &part)?;
        let of_rows = match &batch.goal {
            HeadGoal::Labels { labels, kind } => {
                backend.cross_entropy(*kind, &mut logits, &labels[chunk.rows.range()])?
            }
            HeadGoal::Reference(reference) => {
                backend.kl_divergence(&mut logits, &reference.outputs(backend, head, chunk.rows)?)?
            }
        };
        values.extend_from_slice(&of_rows);
        if let Some(dhidden) = &mut dhidden {
            chunk.backward((backend, params, head), (&part, &logits), dhidden, to)?;
        }
    }
    Ok((values, dhidden))
}

/// From hidden `[n, d]` and, for each direction, its tangent: the gradient of hidden that ½ Σ_rows (ds)ᵀ H ds has along them,
/// where ds is the tangent of the logits and H their Hessian of cross entropy. The logits are computed once for all.
pub(crate) fn gauss_newton<B: Backend>(
    tangents: &[Tangents<'_, B>],
    head: &Linear,
    (hidden, dhidden): (&B::Tensor, &[Option<B::Tensor>]),
    loss_segments: &[Segment],
    to: &mut [Consumer<'_, B>],
) -> Result<Vec<B::Tensor>> {
    let Some(&Tangents { backend, params, .. }) = tangents.first() else { return Ok(Vec::new()) };
    let mut back: Vec<B::Tensor> = tangents.iter().map(|_| backend.zeros(backend.shape(hidden))).collect();
    for chunk in chunks(head, loss_segments) {
        let part = backend.slice_rows(hidden, chunk.rows.start, chunk.rows.len)?;
        let logits = head.forward(backend, params, &part)?;
        for (((tangents, dhidden), back), to) in tangents.iter().zip(dhidden).zip(&mut back).zip(to.iter_mut()) {
            let dpart =
                dhidden.as_ref().map(|d| backend.slice_rows(d, chunk.rows.start, chunk.rows.len)).transpose()?;
            let mut tangent = tangents.linear(head, &part, dpart.as_ref())?;
            backend.cross_entropy_curvature(&logits, &mut tangent)?;
            chunk.backward((backend, params, head), (&part, &tangent), back, to)?;
        }
    }
    Ok(back)
}

struct Chunk {
    rows: Segment,
    /// Rows of each whole example, counted from the chunk's start; empty unless examples are kept whole.
    examples: Buffer<Segment>,
    first_example: usize,
}

impl Chunk {
    /// Hands the head to the consumer, from the chunk's hidden states and the gradient of its logits, and writes the gradient of
    /// the hidden states to its rows of `dhidden`.
    fn backward<B: Backend>(
        &self,
        (backend, params, head): (&B, &Params<B>, &Linear),
        (part, dlogits): (&B::Tensor, &B::Tensor),
        dhidden: &mut B::Tensor,
        to: &mut Consumer<'_, B>,
    ) -> Result<()> {
        let rows = Rows { segments: &self.examples, first_example: self.first_example, loss_rows: LossRows::All };
        head.hand_to(to, (backend, params), part, dlogits, rows)?;
        Ok(backend.write_rows(dhidden, self.rows.start, &head.backward(backend, params, dlogits)?)?)
    }
}

/// Splits the rows; keeps examples whole when the head is tapped, since its taps need whole examples.
fn chunks(head: &Linear, examples: &[Segment]) -> Vec<Chunk> {
    let (most_rows, whole_examples) = ((CHUNK_LOGITS / head.d_out).max(1), head.is_tapped());
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
