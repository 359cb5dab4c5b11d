//! The traits that models, taps and folds speak to. They never see a slice, so a GPU backend needs no change in them.

use std::ops::Range;

use crate::{
    Accumulate, Activation, Attention, Buffer, CrossEntropy, Host, Label, Patches, Result, RotaryStyle, Segment, Shape,
    Signs, Transpose,
};

/// Matrices and the operations of a model, each with its backward.
///
/// Conventions: matrices are row major; `T` is the number of stacked rows of a batch; a backward returns the gradient
/// of its input, and adds gradients of parameters to the accumulators it is given. Backwards recompute what is cheap
/// (statistics of a norm, softmax of an attention) from the forward's inputs, so there are no caches to carry.
///
/// Errors: every operation returns [`TensorError::Shape`](crate::TensorError::Shape) for operands that do not fit, and
/// [`TensorError::Index`](crate::TensorError::Index) for ids outside of their table, before it computes anything.
pub trait Backend: Clone + Send + Sync + 'static {
    /// A matrix `[rows, cols]` on this backend.
    type Tensor: Clone + Send + Sync + std::fmt::Debug;

    /// Gives memory that is free, but kept for the next matrices, back to the system.
    fn release_memory(&self) {}

    /// The same backend, with products in its numbers themselves where it multiplies models in coarser ones.
    #[must_use]
    fn in_full_precision(&self) -> Self;

    // ---- movement -------------------------------------------------------------------------------------------------

    /// Shape of a matrix.
    fn shape(&self, x: &Self::Tensor) -> Shape;
    /// A matrix of zeros.
    fn zeros(&self, shape: Shape) -> Self::Tensor;
    /// Host numbers (row major) to the backend.
    fn upload<H: Host>(&self, shape: Shape, data: &[H]) -> Result<Self::Tensor>;
    /// A matrix to the host (row major).
    fn download<H: Host>(&self, x: &Self::Tensor) -> Buffer<H>;
    /// Rows `ids` of `x` `[T, d]`, in the order given → `[ids.len(), d]`.
    fn gather_rows(&self, x: &Self::Tensor, ids: &[usize]) -> Result<Self::Tensor>;
    /// The inverse: a zero matrix `[rows, d]` with row `ids[i]` += row i of `x` `[ids.len(), d]`.
    fn scatter_rows(&self, x: &Self::Tensor, ids: &[usize], rows: usize) -> Result<Self::Tensor>;
    /// Rows `start..start+len` of `x` as a new matrix.
    fn slice_rows(&self, x: &Self::Tensor, start: usize, len: usize) -> Result<Self::Tensor>;
    /// Writes `src` `[n, d]` over rows `start..start+n` of `dst` `[T, d]`.
    fn write_rows(&self, dst: &mut Self::Tensor, start: usize, src: &Self::Tensor) -> Result<()>;
    /// The same numbers, row major, in another shape; never a copy.
    fn reshape(&self, x: Self::Tensor, shape: Shape) -> Result<Self::Tensor>;
    /// Columns `start..start+len` of `x` as a new matrix.
    fn slice_cols(&self, x: &Self::Tensor, start: usize, len: usize) -> Result<Self::Tensor>;
    /// Matrices of equal row count side by side.
    fn concat_cols(&self, parts: &[&Self::Tensor]) -> Result<Self::Tensor>;
    /// `x` `[T, d]` with a last column of ones `[T, d + 1]`: ā of a layer with a bias.
    fn append_ones(&self, x: &Self::Tensor) -> Self::Tensor;

    // ---- elementwise and products ---------------------------------------------------------------------------------

    /// `y += alpha · x`, equal shapes.
    fn axpy(&self, alpha: f64, x: &Self::Tensor, y: &mut Self::Tensor) -> Result<()>;
    /// `x *= alpha`.
    fn scale(&self, alpha: f64, x: &mut Self::Tensor);
    /// `x ∘ y`, equal shapes.
    fn multiply(&self, x: &Self::Tensor, y: &Self::Tensor) -> Result<Self::Tensor>;
    /// `x_ij / (y_ij + shift)`, equal shapes: the damped division of EK-FAC.
    fn divide_shifted(&self, x: &Self::Tensor, y: &Self::Tensor, shift: f64) -> Result<Self::Tensor>;
    /// Σ x_ij y_ij in f64, equal shapes, in a fixed order.
    fn dot(&self, x: &Self::Tensor, y: &Self::Tensor) -> Result<f64>;
    /// `out (+)= alpha · op(a) op(b)`; op(a) is `[m, k]`, op(b) `[k, n]`, out `[m, n]`.
    fn matmul_into(
        &self,
        alpha: f64,
        a: &Self::Tensor,
        ta: Transpose,
        b: &Self::Tensor,
        tb: Transpose,
        accumulate: Accumulate,
        out: &mut Self::Tensor,
    ) -> Result<()>;
    /// op(a) op(b) as a new matrix.
    fn matmul(&self, a: &Self::Tensor, ta: Transpose, b: &Self::Tensor, tb: Transpose) -> Result<Self::Tensor>;
    /// Sum over rows of `x` `[T, d]`, added to `out` `[1, d]`.
    fn add_column_sums(&self, x: &Self::Tensor, out: &mut Self::Tensor) -> Result<()>;
    /// Sum over columns of `x` `[T, d]`, in f64.
    fn row_sums(&self, x: &Self::Tensor) -> Buffer<f64>;

    // ---- the operations of a model --------------------------------------------------------------------------------

    /// `x Wᵀ + b`: x `[T, d_in]`, weight `[d_out, d_in]`, bias `[1, d_out]` → `[T, d_out]`.
    fn linear_forward(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// dy `[T, d_out]`, weight `[d_out, d_in]` → dx `[T, d_in]`. (The weight's gradient is dyᵀ x, by `matmul_into`.)
    fn linear_backward(&self, dy: &Self::Tensor, weight: &Self::Tensor) -> Result<Self::Tensor>;

    /// Rows of `table` `[n, d]` by id → `[ids.len(), d]`.
    fn embedding_forward(&self, table: &Self::Tensor, ids: &[u32]) -> Result<Self::Tensor>;
    /// dtable `[n, d]`: row `ids[t]` += row t of dy `[ids.len(), d]`.
    fn embedding_backward(&self, dy: &Self::Tensor, ids: &[u32], dtable: &mut Self::Tensor) -> Result<()>;

    /// LayerNorm over each row: (x − mean)/√(var + eps) ∘ gain + shift; x `[T, d]`, gain and shift `[1, d]`.
    fn layer_norm_forward(
        &self,
        x: &Self::Tensor,
        gain: &Self::Tensor,
        shift: &Self::Tensor,
        eps: f64,
    ) -> Result<Self::Tensor>;
    /// dx; with `dparams` = (dgain, dshift) `[1, d]` also their gradients are added.
    fn layer_norm_backward(
        &self,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        gain: &Self::Tensor,
        eps: f64,
        dparams: Option<(&mut Self::Tensor, &mut Self::Tensor)>,
    ) -> Result<Self::Tensor>;

    /// RMSNorm over each row: x/√(mean(x²) + eps) ∘ gain; x `[T, d]`, gain `[1, d]`.
    fn rms_norm_forward(&self, x: &Self::Tensor, gain: &Self::Tensor, eps: f64) -> Result<Self::Tensor>;
    /// dx; with `dgain` `[1, d]` also its gradient is added.
    fn rms_norm_backward(
        &self,
        dy: &Self::Tensor,
        x: &Self::Tensor,
        gain: &Self::Tensor,
        eps: f64,
        dgain: Option<&mut Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// The tangent of LayerNorm `[T, d]` along a tangent dx of its input x, parameters fixed.
    fn layer_norm_jvp(
        &self,
        dx: &Self::Tensor,
        x: &Self::Tensor,
        gain: &Self::Tensor,
        eps: f64,
    ) -> Result<Self::Tensor>;
    /// The tangent of RMSNorm `[T, d]` along a tangent dx of its input x, the gain fixed.
    fn rms_norm_jvp(&self, dx: &Self::Tensor, x: &Self::Tensor, gain: &Self::Tensor, eps: f64) -> Result<Self::Tensor>;

    /// The activation of each element. (Its tangent is its backward: the Jacobian is diagonal.)
    fn activation_forward(&self, kind: Activation, x: &Self::Tensor) -> Self::Tensor;
    /// dx from dy and the forward's input x.
    fn activation_backward(&self, kind: Activation, dy: &Self::Tensor, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// Gated unit: act(gate) ∘ up (SwiGLU when `kind` is SiLU), equal shapes.
    fn gated_forward(&self, kind: Activation, gate: &Self::Tensor, up: &Self::Tensor) -> Result<Self::Tensor>;
    /// (dgate, dup).
    fn gated_backward(
        &self,
        kind: Activation,
        dy: &Self::Tensor,
        gate: &Self::Tensor,
        up: &Self::Tensor,
    ) -> Result<(Self::Tensor, Self::Tensor)>;

    /// The tangent of the gated unit along tangents of gate and up: dgate ∘ act'(gate) ∘ up + act(gate) ∘ dup.
    fn gated_jvp(
        &self,
        kind: Activation,
        gate: &Self::Tensor,
        up: &Self::Tensor,
        dgate: &Self::Tensor,
        dup: &Self::Tensor,
    ) -> Result<Self::Tensor> {
        let (mut out, _) = self.gated_backward(kind, dgate, gate, up)?;
        self.axpy(1.0, &self.gated_forward(kind, gate, dup)?, &mut out)?;
        Ok(out)
    }

    /// Rotates each head of `x` `[T, heads · head_dim]` in place: pair i of a row at position p turns by
    /// `p · frequencies[i]`; the first `2 · frequencies.len()` dimensions of a head take part, the rest stay.
    /// Rotations are orthogonal: the backward is the same call with `inverse` = true on the gradient.
    fn rotary(
        &self,
        x: &mut Self::Tensor,
        head_dim: usize,
        positions: &[u32],
        frequencies: &[f64],
        style: RotaryStyle,
        inverse: bool,
    ) -> Result<()>;

    /// softmax(q kᵀ · scale) v per head and segment; rows in no segment give zeros. Never holds more than one head's
    /// scores per thread.
    fn attention_forward(
        &self,
        spec: &Attention,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        segments: &[Segment],
    ) -> Result<Self::Tensor>;
    /// (dq, dk, dv) from dy `[T, heads · head_dim]` and the forward's inputs.
    fn attention_backward(
        &self,
        spec: &Attention,
        dy: &Self::Tensor,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        segments: &[Segment],
    ) -> Result<(Self::Tensor, Self::Tensor, Self::Tensor)>;

    /// The tangent of attention `[T, heads · head_dim]` along tangents of q, k, v.
    fn attention_jvp(
        &self,
        spec: &Attention,
        inputs: [&Self::Tensor; 3],
        tangents: [&Self::Tensor; 3],
        segments: &[Segment],
    ) -> Result<Self::Tensor>;

    /// Softmax cross entropy in place: `logits` `[n, classes]` become the gradient of the chosen scalar, summed over
    /// rows; returns the scalar of each row. Computed by a stable log-sum-exp.
    fn cross_entropy(&self, kind: CrossEntropy, logits: &mut Self::Tensor, labels: &[Label]) -> Result<Buffer<f64>>;
    /// `tangent` u `[n, classes]` ← H u, with H = diag(p) − p pᵀ the Hessian of cross entropy in the `logits` of each row.
    fn cross_entropy_curvature(&self, logits: &Self::Tensor, tangent: &mut Self::Tensor) -> Result<()>;
    /// KL(p' ‖ p) of each row, p = softmax(`logits`), p' = softmax(`reference`), equal shapes `[n, classes]`; `logits` become
    /// its gradient p − p'. Nothing cancels where the two are close: the value is of second order and keeps its digits.
    fn kl_divergence(&self, logits: &mut Self::Tensor, reference: &Self::Tensor) -> Result<Buffer<f64>>;
    /// ½‖target − x‖² of each row, and its gradient x − target; equal shapes `[n, d]`.
    fn squared_error(&self, x: &Self::Tensor, target: &Self::Tensor) -> Result<(Buffer<f64>, Self::Tensor)>;

    // ---- images ---------------------------------------------------------------------------------------------------

    /// Patches of n images: x `[n · pixels, channels]` → `[n · positions, channels · kernel²]`, columns in the order (channel,
    /// row, column) of a PyTorch convolution's weight, of which the convolution is the linear layer of these rows.
    fn im2col_forward(&self, at: &Patches, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// dy `[n · positions, channels · kernel²]` → dx `[n · pixels, channels]`. (Linear: the forward is its own tangent.)
    fn im2col_backward(&self, at: &Patches, dy: &Self::Tensor) -> Result<Self::Tensor>;
    /// The largest of each window, without padding: x `[n · pixels, channels]` → `[n · positions, channels]`.
    fn max_pool_forward(&self, at: &Patches, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// dx `[n · pixels, channels]` from dy `[n · positions, channels]` and the forward's input x. Of equal values the first
    /// takes the gradient.
    fn max_pool_backward(&self, at: &Patches, dy: &Self::Tensor, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// The tangent of the largest `[n · positions, channels]` along a tangent dx of x.
    fn max_pool_jvp(&self, at: &Patches, dx: &Self::Tensor, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// The mean of each window, without padding: x `[n · pixels, channels]` → `[n · positions, channels]`.
    fn average_pool_forward(&self, at: &Patches, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// dy `[n · positions, channels]` → dx `[n · pixels, channels]`. (Linear: the forward is its own tangent.)
    fn average_pool_backward(&self, at: &Patches, dy: &Self::Tensor) -> Result<Self::Tensor>;
    /// Each part of `rows` rows transposed: x `[n · rows, cols]` → `[n · cols, rows]`. (With `rows` = cols it is undone.)
    fn transpose_parts(&self, x: &Self::Tensor, rows: usize) -> Result<Self::Tensor>;

    // ---- the updates of optimizers ----------------------------------------------------------------------------------

    /// One step of AdamW (Loshchilov & Hutter 2019, as PyTorch has it), all of equal shape: param ← (1 − lr·wd)·param,
    /// m ← β₁m + (1−β₁)grad, v ← β₂v + (1−β₂)grad², param ← param − lr·m̂/(√v̂ + ε), where m̂ = m/(1−β₁ᵗ) and
    /// v̂ = v/(1−β₂ᵗ). t = `step` counts from 1.
    fn adamw_update(
        &self,
        param: &mut Self::Tensor,
        grad: &Self::Tensor,
        m: &mut Self::Tensor,
        v: &mut Self::Tensor,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        weight_decay: f64,
        step: u64,
    ) -> Result<()>;
    /// One step of SGD with momentum (as PyTorch has it), all of equal shape:
    /// velocity ← momentum·velocity + grad + wd·param, param ← param − lr·velocity.
    fn sgd_update(
        &self,
        param: &mut Self::Tensor,
        grad: &Self::Tensor,
        velocity: &mut Self::Tensor,
        lr: f64,
        momentum: f64,
        weight_decay: f64,
    ) -> Result<()>;
}

/// The primitives of the folds over a train set. `dout` is Ds `[T, d_out]`, `input` is ā `[T, d_in]`, and `segments`
/// gives the rows of each example; rows of the gradient of example n are D W_n = Σ_t Ds_t ā_tᵀ `[d_out, d_in]`.
pub trait Folds: Backend {
    /// A matrix of sums in f64: within a batch, sums are in the numbers of the backend.
    type Sums: Send + Sync + std::fmt::Debug;

    /// Sums that start from `values`, row major.
    fn sums(&self, shape: Shape, values: Vec<f64>) -> Result<Self::Sums>;
    /// The sums, row major.
    fn take_values(&self, sums: Self::Sums) -> Vec<f64>;
    /// acc `[d, d]` += xᵀ x for x `[T, d]`: a symmetric rank-T update of which the lower triangle alone is formed. What
    /// lies above is left alone: memory that is never touched need not exist.
    fn syrk_accumulate(&self, x: &Self::Tensor, acc: &mut Self::Sums) -> Result<()>;

    /// Rows `rows` of the first `cols` columns of `signs` → `[rows.len(), cols]`: part of a random projection.
    fn random_signs(&self, signs: Signs, rows: Range<usize>, cols: usize) -> Self::Tensor;

    /// Gradient of each example, flattened: `[segments.len(), d_out · d_in]`.
    fn example_gradients(
        &self,
        dout: &Self::Tensor,
        input: &Self::Tensor,
        segments: &[Segment],
    ) -> Result<Self::Tensor>;

    /// acc `[d_out, d_in]` += Σ_n (D W_n)∘(D W_n), never holding more than a block of one D W_n per thread.
    fn square_accumulate(
        &self,
        dout: &Self::Tensor,
        input: &Self::Tensor,
        segments: &[Segment],
        acc: &mut Self::Sums,
    ) -> Result<()>;

    /// acc += x ∘ x, equal shapes.
    fn add_squares(&self, x: &Self::Tensor, acc: &mut Self::Sums) -> Result<()>;

    /// Σ_ij weight_ij (D W_n)²_ij per example, weight `[d_out, d_in]`: self-influence in an eigenbasis.
    fn weighted_squares(
        &self,
        dout: &Self::Tensor,
        input: &Self::Tensor,
        segments: &[Segment],
        weight: &Self::Tensor,
    ) -> Result<Buffer<f64>>;

    /// ⟨query, D W_n⟩ for `queries` `[Q, d_out · d_in]` (row-major `[d_out, d_in]` each) → `[segments.len(), Q]`.
    fn example_dots(
        &self,
        dout: &Self::Tensor,
        input: &Self::Tensor,
        segments: &[Segment],
        queries: &Self::Tensor,
    ) -> Result<Self::Tensor>;

    /// Ds_tᵀ P ā_t of each row for one query P `[d_out, d_in]` → `[T, 1]`.
    fn token_dots(&self, dout: &Self::Tensor, input: &Self::Tensor, query: &Self::Tensor) -> Result<Self::Tensor>;

    /// Σ_r (Ds_tᵀ u_r)(v_rᵀ ā_t) of each row for queries of rank r: u `[Q · r, d_out]`, v `[Q · r, d_in]` → `[T, Q]`.
    fn low_rank_token_dots(
        &self,
        dout: &Self::Tensor,
        input: &Self::Tensor,
        u: &Self::Tensor,
        v: &Self::Tensor,
        rank: usize,
    ) -> Result<Self::Tensor>;

    /// Σ_r u_rᵀ D W_n v_r per example, for queries as in [`low_rank_token_dots`](Folds::low_rank_token_dots) →
    /// `[segments.len(), Q]`; by the cheapest [`Contraction`](crate::Contraction).
    fn low_rank_example_dots(
        &self,
        dout: &Self::Tensor,
        input: &Self::Tensor,
        segments: &[Segment],
        u: &Self::Tensor,
        v: &Self::Tensor,
        rank: usize,
    ) -> Result<Self::Tensor>;

    /// Sums the rows of each segment: x `[T, n]` → `[segments.len(), n]`.
    fn segment_sums(&self, x: &Self::Tensor, segments: &[Segment]) -> Result<Self::Tensor>;
}
