//! Softmax cross entropy and squared error.

use super::check;
use super::matrix::Matrix;
use super::parallel::{Kernel, build_with, for_blocks, for_blocks_with, rows_per_block};
use super::reduce::{inner_f64, max, sum_f64};
use super::scalar::{Scalar, exp_m1};
use crate::{Buffer, CrossEntropy, Label, Result, TensorError};

struct Rows<'a> {
    kind: CrossEntropy,
    labels: &'a [Label],
    classes: usize,
    block_rows: usize,
}

impl<T: Scalar> Kernel<T, f64> for Rows<'_> {
    #[inline(always)]
    fn run(&self, block: usize, logits: &mut [T], values: &mut [f64]) {
        let first = block * self.block_rows;
        let rows = logits.chunks_exact_mut(self.classes).zip(values);
        for ((row, value), &label) in rows.zip(&self.labels[first..]) {
            let label = match label {
                Label::Class(class) => class as usize,
                Label::Draw(uniform) => draw(row, uniform),
            };
            *value = match self.kind {
                CrossEntropy::Loss => -log_likelihood(row, label, T::ONE),
                CrossEntropy::LogLikelihood => log_likelihood(row, label, -T::ONE),
                CrossEntropy::Margin => margin(row, label),
            };
        }
    }
}

/// Classes whose sum of exponentials is one term of the sum over all.
const CHUNK: usize = 1024;

/// x ← exp(x − top); returns the sum.
#[inline(always)]
fn exponentials<T: Scalar>(x: &mut [T], top: T) -> f64 {
    let mut total = 0.0;
    for chunk in x.chunks_mut(CHUNK) {
        for x in chunk.iter_mut() {
            *x = (*x - top).exp();
        }
        total += sum_f64(chunk);
    }
    total
}

#[inline(always)]
fn scale<T: Scalar>(x: &mut [T], factor: T) {
    for x in x {
        *x *= factor;
    }
}

/// log p(label); the row becomes sign · (softmax − onehot).
#[inline(always)]
fn log_likelihood<T: Scalar>(row: &mut [T], label: usize, sign: T) -> f64 {
    let top = max(row);
    let above = (row[label] - top).to_f64();
    let total = exponentials(row, top);
    // In f64, 1 − p keeps its digits when p is almost 1.
    let others = total - row[label].to_f64();
    scale(row, sign * T::of_f64(1.0 / total));
    row[label] = -sign * T::of_f64(others / total);
    above - total.ln()
}

/// x_label − log Σ_{j ≠ label} exp x_j, which is log p − log(1 − p) without its cancellation; the row becomes the
/// gradient: onehot − softmax over the other classes.
#[inline(always)]
fn margin<T: Scalar>(row: &mut [T], label: usize) -> f64 {
    let own = row[label].to_f64();
    row[label] = T::NEG_INFINITY;
    let top = max(row);
    let total = exponentials(row, top);
    scale(row, T::of_f64(-1.0 / total));
    row[label] = T::ONE;
    own - top.to_f64() - total.ln()
}

/// The first class whose cumulative probability exceeds `uniform`, else the last one with a probability.
#[inline(always)]
fn draw<T: Scalar>(row: &[T], uniform: f64) -> usize {
    let mut weights = Buffer::from(row);
    let threshold = uniform * exponentials(&mut weights, max(row));
    let mut cumulative = 0.0;
    let mut start = 0;
    for chunk in weights.chunks(CHUNK) {
        let next = cumulative + sum_f64(chunk);
        if next > threshold {
            break;
        }
        cumulative = next;
        start += chunk.len();
    }
    for (class, weight) in weights.iter().enumerate().skip(start) {
        cumulative += weight.to_f64();
        if cumulative > threshold {
            return class;
        }
    }
    weights.iter().rposition(|&w| w > T::ZERO).unwrap_or(0)
}

pub(crate) fn cross_entropy<T: Scalar>(
    kind: CrossEntropy,
    logits: &mut Matrix<T>,
    labels: &[Label],
) -> Result<Buffer<f64>> {
    const OP: &str = "cross_entropy";
    let (rows, classes) = (logits.rows(), logits.cols());
    check::length(OP, logits.shape(), labels.len(), rows)?;
    for label in labels {
        let class = if let Label::Class(class) = *label { class as usize } else { 0 };
        check::index(OP, "class", class, classes)?;
    }
    if kind == CrossEntropy::Margin && classes == 1 {
        return Err(TensorError::Config { op: OP, what: "a margin needs two classes" });
    }
    let mut values = Buffer::zeros(rows);
    let block_rows = rows_per_block(classes);
    let kernel = Rows { kind, labels, classes, block_rows };
    let work = logits.shape().len();
    for_blocks_with(logits.as_mut_slice(), block_rows * classes, &mut values, block_rows, work, &kernel);
    Ok(values)
}

struct Curved<'a, T: Scalar> {
    logits: &'a Matrix<T>,
    block_rows: usize,
}

impl<T: Scalar> Kernel<T> for Curved<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, tangent: &mut [T], _: &mut [()]) {
        let first = block * self.block_rows;
        for (i, u) in tangent.chunks_exact_mut(self.logits.cols()).enumerate() {
            let row = self.logits.row(first + i);
            let top = max(row);
            let (mut total, mut along) = (0.0, 0.0);
            for (u, &x) in u.iter().zip(row) {
                let weight = (x - top).exp().to_f64();
                total += weight;
                along = weight.mul_add(u.to_f64(), along);
            }
            let (inverse, mean) = (T::of_f64(1.0 / total), T::of_f64(along / total));
            for (u, &x) in u.iter_mut().zip(row) {
                *u = (x - top).exp() * inverse * (*u - mean);
            }
        }
    }
}

/// `tangent` u ← H u with the Hessian H = diag(p) − p pᵀ of cross entropy in the logits of each row, p = softmax(logits).
pub(crate) fn cross_entropy_curvature<T: Scalar>(logits: &Matrix<T>, tangent: &mut Matrix<T>) -> Result<()> {
    check::same("cross_entropy_curvature", "tangent", tangent, logits)?;
    let (block_rows, work) = (rows_per_block(logits.cols()), logits.shape().len());
    let kernel = Curved { logits, block_rows };
    for_blocks(tangent.as_mut_slice(), block_rows * logits.cols(), work, &kernel);
    Ok(())
}

struct Divergence<'a, T: Scalar> {
    reference: &'a Matrix<T>,
    block_rows: usize,
}

impl<T: Scalar> Kernel<T, f64> for Divergence<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, logits: &mut [T], values: &mut [f64]) {
        let first = block * self.block_rows;
        let cols = self.reference.cols();
        let (mut p, mut terms) = (Buffer::zeros(cols), Buffer::zeros(cols));
        for (i, (row, value)) in logits.chunks_exact_mut(cols).zip(values).enumerate() {
            *value = divergence(row, self.reference.row(first + i), &mut p, &mut terms);
        }
    }
}

/// KL(p' ‖ p); the row becomes p − p'. With x = log p − log p', which is the difference of the logits less a constant, the
/// value is Σ p' (eˣ − 1 − x) and the gradient p' (eˣ − 1). A class whose p' underflows counts as nothing. `p` and `terms` are
/// room for a row.
#[inline(always)]
fn divergence<T: Scalar>(row: &mut [T], reference: &[T], p: &mut [f64], terms: &mut [f64]) -> f64 {
    let top = max(reference).to_f64();
    for (p, &r) in p.iter_mut().zip(reference) {
        *p = Scalar::exp(r.to_f64() - top);
    }
    scale(p, 1.0 / sum_f64(p));
    let differences = |row: &[T], terms: &mut [f64]| {
        for ((term, &x), &r) in terms.iter_mut().zip(row).zip(reference) {
            *term = x.to_f64() - r.to_f64();
        }
    };
    differences(row, terms);
    let mean = inner_f64(p, terms);
    for (term, &p) in terms.iter_mut().zip(&*p) {
        let change = exp_m1(*term - mean);
        *term = if p > 0.0 { p * change } else { 0.0 };
    }
    let shift = mean + sum_f64(terms).ln_1p();
    differences(row, terms);
    for ((x, term), &p) in row.iter_mut().zip(&mut *terms).zip(&*p) {
        let log_ratio = *term - shift;
        let change = exp_m1(log_ratio);
        *x = T::of_f64(if p > 0.0 { p * change } else { 0.0 });
        *term = if p > 0.0 { p * (change - log_ratio) } else { 0.0 };
    }
    sum_f64(terms)
}

pub(crate) fn kl_divergence<T: Scalar>(logits: &mut Matrix<T>, reference: &Matrix<T>) -> Result<Buffer<f64>> {
    check::same("kl_divergence", "reference", reference, logits)?;
    let mut values = Buffer::zeros(logits.rows());
    let (block_rows, work) = (rows_per_block(logits.cols()), logits.shape().len());
    let length = block_rows * logits.cols();
    let kernel = Divergence { reference, block_rows };
    for_blocks_with(logits.as_mut_slice(), length, &mut values, block_rows, work, &kernel);
    Ok(values)
}

struct Squared<'a, T: Scalar> {
    x: &'a Matrix<T>,
    target: &'a Matrix<T>,
    block_rows: usize,
}

impl<T: Scalar> Kernel<T, f64> for Squared<'_, T> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], values: &mut [f64]) {
        let first = block * self.block_rows;
        for (i, (row, value)) in out.chunks_exact_mut(self.x.cols()).zip(values).enumerate() {
            for ((o, &x), &t) in row.iter_mut().zip(self.x.row(first + i)).zip(self.target.row(first + i)) {
                *o = x - t;
            }
            *value = 0.5 * inner_f64(row, row);
        }
    }
}

pub(crate) fn squared_error<T: Scalar>(x: &Matrix<T>, target: &Matrix<T>) -> Result<(Buffer<f64>, Matrix<T>)> {
    check::same("squared_error", "target", target, x)?;
    let mut values = Buffer::zeros(x.rows());
    let block_rows = rows_per_block(x.cols());
    let kernel = Squared { x, target, block_rows };
    let gradient = build_with(x.shape(), block_rows, &mut values, block_rows, &kernel);
    Ok((values, gradient))
}
