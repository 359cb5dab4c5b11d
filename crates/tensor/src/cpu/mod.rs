//! The CPU backend. One file per family of operations; the trait's methods delegate to them.

mod activation;
mod attention;
mod check;
mod elementwise;
mod example_dots;
mod examples;
mod folds;
mod images;
mod loss;
mod matrix;
mod movement;
mod norm;
mod optimizer;
mod parallel;
mod product;
mod reduce;
mod rotary;
mod scalar;
mod signs;

pub use matrix::Matrix;
pub(crate) use product::{has_matrix_units, kept_panel_bytes};
pub use scalar::Scalar;

use crate::pool;
use crate::{
    Accumulate, Activation, Attention, Backend, Buffer, CrossEntropy, Folds, Host, Label, Patches, Precision, Result,
    RotaryStyle, Segment, Shape, Signs, Transpose,
};
use std::marker::PhantomData;
use std::ops::Range;

/// The CPU backend over numbers of type `T`: vector code chosen at run time, threads of the current rayon pool.
/// Results do not depend on the number of threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu<T> {
    precision: Precision,
    numbers: PhantomData<fn() -> T>,
}

impl<T: Scalar> Cpu<T> {
    /// The backend, with products in the numbers themselves.
    pub const fn new() -> Self {
        Self { precision: Precision::F32, numbers: PhantomData }
    }
}

impl Cpu<f32> {
    /// The backend with products at a precision.
    pub const fn with_precision(precision: Precision) -> Self {
        Self { precision, numbers: PhantomData }
    }

    /// The precision of its products.
    pub const fn precision(&self) -> Precision {
        self.precision
    }
}

impl<T: Scalar> Backend for Cpu<T> {
    type Tensor = Matrix<T>;

    /// Dropped matrices are kept up to what was once in use at a time; and glibc keeps what other vectors have freed.
    fn release_memory(&self) {
        pool::trim::<T>();
        pool::trim::<f64>();
        crate::allocator::trim();
    }

    fn in_full_precision(&self) -> Self {
        Self::new()
    }

    fn shape(&self, x: &Matrix<T>) -> Shape {
        x.shape()
    }

    fn zeros(&self, shape: Shape) -> Matrix<T> {
        Matrix::zeros(shape)
    }

    fn upload<H: Host>(&self, shape: Shape, data: &[H]) -> Result<Matrix<T>> {
        movement::upload(shape, data)
    }

    fn download<H: Host>(&self, x: &Matrix<T>) -> Buffer<H> {
        movement::download(x)
    }

    fn gather_rows(&self, x: &Matrix<T>, ids: &[usize]) -> Result<Matrix<T>> {
        movement::gather_rows(x, ids)
    }

    fn scatter_rows(&self, x: &Matrix<T>, ids: &[usize], rows: usize) -> Result<Matrix<T>> {
        movement::scatter_rows(x, ids, rows)
    }

    fn slice_rows(&self, x: &Matrix<T>, start: usize, len: usize) -> Result<Matrix<T>> {
        movement::slice_rows(x, start, len)
    }

    fn write_rows(&self, dst: &mut Matrix<T>, start: usize, src: &Matrix<T>) -> Result<()> {
        movement::write_rows(dst, start, src)
    }

    fn reshape(&self, x: Matrix<T>, shape: Shape) -> Result<Matrix<T>> {
        movement::reshape(x, shape)
    }

    fn slice_cols(&self, x: &Matrix<T>, start: usize, len: usize) -> Result<Matrix<T>> {
        movement::slice_cols(x, start, len)
    }

    fn concat_cols(&self, parts: &[&Matrix<T>]) -> Result<Matrix<T>> {
        movement::concat_cols(parts)
    }

    fn append_ones(&self, x: &Matrix<T>) -> Matrix<T> {
        movement::append_ones(x)
    }

    fn axpy(&self, alpha: f64, x: &Matrix<T>, y: &mut Matrix<T>) -> Result<()> {
        elementwise::axpy(alpha, x, y)
    }

    fn scale(&self, alpha: f64, x: &mut Matrix<T>) {
        elementwise::scale(alpha, x)
    }

    fn multiply(&self, x: &Matrix<T>, y: &Matrix<T>) -> Result<Matrix<T>> {
        elementwise::multiply(x, y)
    }

    fn divide_shifted(&self, x: &Matrix<T>, y: &Matrix<T>, shift: f64) -> Result<Matrix<T>> {
        elementwise::divide_shifted(x, y, shift)
    }

    fn dot(&self, x: &Matrix<T>, y: &Matrix<T>) -> Result<f64> {
        reduce::dot(x, y)
    }

    fn matmul_into(
        &self,
        alpha: f64,
        a: &Matrix<T>,
        ta: Transpose,
        b: &Matrix<T>,
        tb: Transpose,
        accumulate: Accumulate,
        out: &mut Matrix<T>,
    ) -> Result<()> {
        product::matmul_into(self.precision, alpha, a, ta, b, tb, accumulate, out)
    }

    fn matmul(&self, a: &Matrix<T>, ta: Transpose, b: &Matrix<T>, tb: Transpose) -> Result<Matrix<T>> {
        product::matmul(self.precision, a, ta, b, tb)
    }

    fn add_column_sums(&self, x: &Matrix<T>, out: &mut Matrix<T>) -> Result<()> {
        reduce::add_column_sums(x, out)
    }

    fn row_sums(&self, x: &Matrix<T>) -> Buffer<f64> {
        reduce::row_sums(x)
    }

    fn linear_forward(&self, x: &Matrix<T>, weight: &Matrix<T>, bias: Option<&Matrix<T>>) -> Result<Matrix<T>> {
        product::linear_forward(self.precision, x, weight, bias)
    }

    fn linear_backward(&self, dy: &Matrix<T>, weight: &Matrix<T>) -> Result<Matrix<T>> {
        product::linear_backward(self.precision, dy, weight)
    }

    fn embedding_forward(&self, table: &Matrix<T>, ids: &[u32]) -> Result<Matrix<T>> {
        movement::embedding_forward(table, ids)
    }

    fn embedding_backward(&self, dy: &Matrix<T>, ids: &[u32], dtable: &mut Matrix<T>) -> Result<()> {
        movement::embedding_backward(dy, ids, dtable)
    }

    fn layer_norm_forward(&self, x: &Matrix<T>, gain: &Matrix<T>, shift: &Matrix<T>, eps: f64) -> Result<Matrix<T>> {
        norm::layer_norm_forward(x, gain, shift, eps)
    }

    fn layer_norm_backward(
        &self,
        dy: &Matrix<T>,
        x: &Matrix<T>,
        gain: &Matrix<T>,
        eps: f64,
        dparams: Option<(&mut Matrix<T>, &mut Matrix<T>)>,
    ) -> Result<Matrix<T>> {
        norm::layer_norm_backward(dy, x, gain, eps, dparams)
    }

    fn rms_norm_forward(&self, x: &Matrix<T>, gain: &Matrix<T>, eps: f64) -> Result<Matrix<T>> {
        norm::rms_norm_forward(x, gain, eps)
    }

    fn rms_norm_backward(
        &self,
        dy: &Matrix<T>,
        x: &Matrix<T>,
        gain: &Matrix<T>,
        eps: f64,
        dgain: Option<&mut Matrix<T>>,
    ) -> Result<Matrix<T>> {
        norm::rms_norm_backward(dy, x, gain, eps, dgain)
    }

    fn layer_norm_jvp(&self, dx: &Matrix<T>, x: &Matrix<T>, gain: &Matrix<T>, eps: f64) -> Result<Matrix<T>> {
        norm::jvp::<T, true>(dx, x, gain, eps)
    }

    fn rms_norm_jvp(&self, dx: &Matrix<T>, x: &Matrix<T>, gain: &Matrix<T>, eps: f64) -> Result<Matrix<T>> {
        norm::jvp::<T, false>(dx, x, gain, eps)
    }

    fn activation_forward(&self, kind: Activation, x: &Matrix<T>) -> Matrix<T> {
        activation::forward(kind, x)
    }

    fn activation_backward(&self, kind: Activation, dy: &Matrix<T>, x: &Matrix<T>) -> Result<Matrix<T>> {
        activation::backward(kind, dy, x)
    }

    fn gated_forward(&self, kind: Activation, gate: &Matrix<T>, up: &Matrix<T>) -> Result<Matrix<T>> {
        activation::gated_forward(kind, gate, up)
    }

    fn gated_backward(
        &self,
        kind: Activation,
        dy: &Matrix<T>,
        gate: &Matrix<T>,
        up: &Matrix<T>,
    ) -> Result<(Matrix<T>, Matrix<T>)> {
        activation::gated_backward(kind, dy, gate, up)
    }

    fn rotary(
        &self,
        x: &mut Matrix<T>,
        head_dim: usize,
        positions: &[u32],
        frequencies: &[f64],
        style: RotaryStyle,
        inverse: bool,
    ) -> Result<()> {
        rotary::rotary(x, head_dim, positions, frequencies, style, inverse)
    }

    fn attention_forward(
        &self,
        spec: &Attention,
        q: &Matrix<T>,
        k: &Matrix<T>,
        v: &Matrix<T>,
        segments: &[Segment],
    ) -> Result<Matrix<T>> {
        attention::forward(spec, q, k, v, segments)
    }

    fn attention_backward(
        &self,
        spec: &Attention,
        dy: &Matrix<T>,
        q: &Matrix<T>,
        k: &Matrix<T>,
        v: &Matrix<T>,
        segments: &[Segment],
    ) -> Result<(Matrix<T>, Matrix<T>, Matrix<T>)> {
        attention::backward(spec, dy, q, k, v, segments)
    }

    fn attention_jvp(
        &self,
        spec: &Attention,
        inputs: [&Matrix<T>; 3],
        tangents: [&Matrix<T>; 3],
        segments: &[Segment],
    ) -> Result<Matrix<T>> {
        attention::jvp(spec, inputs, tangents, segments)
    }

    fn cross_entropy_curvature(&self, logits: &Matrix<T>, tangent: &mut Matrix<T>) -> Result<()> {
        loss::cross_entropy_curvature(logits, tangent)
    }

    fn cross_entropy(&self, kind: CrossEntropy, logits: &mut Matrix<T>, labels: &[Label]) -> Result<Buffer<f64>> {
        loss::cross_entropy(kind, logits, labels)
    }

    fn kl_divergence(&self, logits: &mut Matrix<T>, reference: &Matrix<T>) -> Result<Buffer<f64>> {
        loss::kl_divergence(logits, reference)
    }

    fn squared_error(&self, x: &Matrix<T>, target: &Matrix<T>) -> Result<(Buffer<f64>, Matrix<T>)> {
        loss::squared_error(x, target)
    }

    fn im2col_forward(&self, at: &Patches, x: &Matrix<T>) -> Result<Matrix<T>> {
        images::im2col_forward(at, x)
    }

    fn im2col_backward(&self, at: &Patches, dy: &Matrix<T>) -> Result<Matrix<T>> {
        images::im2col_backward(at, dy)
    }

    fn max_pool_forward(&self, at: &Patches, x: &Matrix<T>) -> Result<Matrix<T>> {
        images::max_pool_forward(at, x)
    }

    fn max_pool_backward(&self, at: &Patches, dy: &Matrix<T>, x: &Matrix<T>) -> Result<Matrix<T>> {
        images::max_pool_backward(at, dy, x)
    }

    fn max_pool_jvp(&self, at: &Patches, dx: &Matrix<T>, x: &Matrix<T>) -> Result<Matrix<T>> {
        images::max_pool_jvp(at, dx, x)
    }

    fn average_pool_forward(&self, at: &Patches, x: &Matrix<T>) -> Result<Matrix<T>> {
        images::average_pool_forward(at, x)
    }

    fn average_pool_backward(&self, at: &Patches, dy: &Matrix<T>) -> Result<Matrix<T>> {
        images::average_pool_backward(at, dy)
    }

    fn transpose_parts(&self, x: &Matrix<T>, rows: usize) -> Result<Matrix<T>> {
        images::transpose_parts(x, rows)
    }

    fn adamw_update(
        &self,
        param: &mut Matrix<T>,
        grad: &Matrix<T>,
        m: &mut Matrix<T>,
        v: &mut Matrix<T>,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        weight_decay: f64,
        step: u64,
    ) -> Result<()> {
        optimizer::adamw_update(param, grad, m, v, lr, beta1, beta2, eps, weight_decay, step)
    }

    fn sgd_update(
        &self,
        param: &mut Matrix<T>,
        grad: &Matrix<T>,
        velocity: &mut Matrix<T>,
        lr: f64,
        momentum: f64,
        weight_decay: f64,
    ) -> Result<()> {
        optimizer::sgd_update(param, grad, velocity, lr, momentum, weight_decay)
    }
}

impl<T: Scalar> Folds for Cpu<T> {
    type Sums = Matrix<f64>;

    fn sums(&self, shape: Shape, values: Vec<f64>) -> Result<Matrix<f64>> {
        check::length("sums", shape, values.len(), shape.len())?;
        Ok(Matrix::from_buffer(shape, values.into()))
    }

    fn take_values(&self, sums: Matrix<f64>) -> Vec<f64> {
        sums.into_buffer().into_vec()
    }

    fn syrk_accumulate(&self, x: &Matrix<T>, acc: &mut Matrix<f64>) -> Result<()> {
        folds::syrk_accumulate(self.precision, x, acc)
    }

    fn random_signs(&self, signs: Signs, rows: Range<usize>, cols: usize) -> Matrix<T> {
        signs::random_signs(signs, rows, cols)
    }

    fn example_gradients(&self, dout: &Matrix<T>, input: &Matrix<T>, segments: &[Segment]) -> Result<Matrix<T>> {
        examples::example_gradients(self.precision, dout, input, segments)
    }

    fn square_accumulate(
        &self,
        dout: &Matrix<T>,
        input: &Matrix<T>,
        segments: &[Segment],
        acc: &mut Matrix<f64>,
    ) -> Result<()> {
        examples::square_accumulate(self.precision, dout, input, segments, acc)
    }

    fn add_squares(&self, x: &Matrix<T>, acc: &mut Matrix<f64>) -> Result<()> {
        folds::add_squares(x, acc)
    }

    fn weighted_squares(
        &self,
        dout: &Matrix<T>,
        input: &Matrix<T>,
        segments: &[Segment],
        weight: &Matrix<T>,
    ) -> Result<Buffer<f64>> {
        examples::weighted_squares(self.precision, dout, input, segments, weight)
    }

    fn example_dots(
        &self,
        dout: &Matrix<T>,
        input: &Matrix<T>,
        segments: &[Segment],
        queries: &Matrix<T>,
    ) -> Result<Matrix<T>> {
        example_dots::example_dots(self.precision, dout, input, segments, queries)
    }

    fn token_dots(&self, dout: &Matrix<T>, input: &Matrix<T>, query: &Matrix<T>) -> Result<Matrix<T>> {
        folds::token_dots(self.precision, dout, input, query)
    }

    fn low_rank_token_dots(
        &self,
        dout: &Matrix<T>,
        input: &Matrix<T>,
        u: &Matrix<T>,
        v: &Matrix<T>,
        rank: usize,
    ) -> Result<Matrix<T>> {
        folds::low_rank_token_dots(self.precision, dout, input, u, v, rank)
    }

    fn low_rank_example_dots(
        &self,
        dout: &Matrix<T>,
        input: &Matrix<T>,
        segments: &[Segment],
        u: &Matrix<T>,
        v: &Matrix<T>,
        rank: usize,
    ) -> Result<Matrix<T>> {
        example_dots::low_rank_example_dots(self.precision, dout, input, segments, u, v, rank)
    }

    fn segment_sums(&self, x: &Matrix<T>, segments: &[Segment]) -> Result<Matrix<T>> {
        folds::segment_sums(x, segments)
    }
}
