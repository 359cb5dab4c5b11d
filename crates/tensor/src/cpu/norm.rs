//! LayerNorm and RMSNorm. One kernel serves both: RMSNorm is LayerNorm without the mean and the shift.

use super::check;
use super::matrix::Matrix;
use super::parallel::{Kernel, build, build_with, rows_per_block};
use super::reduce::{add_partials, reduce, sum};
use super::scalar::Scalar;
use crate::{Buffer, Result, Shape};

/// (mean, 1/√(var + eps)) of a row; the mean counts as 0 unless `CENTRED`.
#[inline(always)]
fn statistics<T: Scalar, const CENTRED: bool>(x: &[T], eps: T) -> (T, T) {
    let n = T::of_f64(x.len() as f64);
    let mean = if CENTRED { sum(x) / n } else { T::ZERO };
    let deviation = |acc: T, a: T, _: T| {
        let d = a - mean;
        d.mul_add(d, acc)
    };
    let squares = reduce(x, x, T::ZERO, deviation, |a, b| a + b);
    (mean, T::ONE / (squares / n + eps).sqrt())
}

/// (mean(g), mean(g x̂)) of a row, x̂ = (x − mean)/σ; the first counts as 0 unless `CENTRED`.
#[inline(always)]
fn means<T: Scalar, const CENTRED: bool>(g: &[T], x: &[T], mean: T, rstd: T) -> (T, T) {
    let n = T::of_f64(x.len() as f64);
    let along = |acc: T, g: T, x: T| ((x - mean) * rstd).mul_add(g, acc);
    let slope = reduce(g, x, T::ZERO, along, |a, b| a + b) / n;
    (if CENTRED { sum(g) / n } else { T::ZERO }, slope)
}

struct Forward<'a, T: Scalar, const CENTRED: bool> {
    x: &'a Matrix<T>,
    gain: &'a [T],
    shift: &'a [T],
    eps: T,
    block_rows: usize,
}

impl<T: Scalar, const CENTRED: bool> Kernel<T> for Forward<'_, T, CENTRED> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        let first = block * self.block_rows;
        for (i, y) in out.chunks_exact_mut(self.x.cols()).enumerate() {
            let x = self.x.row(first + i);
            let (mean, rstd) = statistics::<T, CENTRED>(x, self.eps);
            if CENTRED {
                for (((y, &x), &g), &s) in y.iter_mut().zip(x).zip(self.gain).zip(self.shift) {
                    *y = ((x - mean) * rstd).mul_add(g, s);
                }
            } else {
                for ((y, &x), &g) in y.iter_mut().zip(x).zip(self.gain) {
                    *y = x * rstd * g;
                }
            }
        }
    }
}

pub(crate) fn layer_norm_forward<T: Scalar>(
    x: &Matrix<T>,
    gain: &Matrix<T>,
    shift: &Matrix<T>,
    eps: f64,
) -> Result<Matrix<T>> {
    check::shape("layer_norm_forward", "gain", gain.shape(), Shape::new(1, x.cols()))?;
    check::shape("layer_norm_forward", "shift", shift.shape(), Shape::new(1, x.cols()))?;
    let block_rows = rows_per_block(x.cols());
    let (gain, shift, eps) = (gain.as_slice(), shift.as_slice(), T::of_f64(eps));
    Ok(build(x.shape(), block_rows, &Forward::<T, true> { x, gain, shift, eps, block_rows }))
}

pub(crate) fn rms_norm_forward<T: Scalar>(x: &Matrix<T>, gain: &Matrix<T>, eps: f64) -> Result<Matrix<T>> {
    check::shape("rms_norm_forward", "gain", gain.shape(), Shape::new(1, x.cols()))?;
    let block_rows = rows_per_block(x.cols());
    let (gain, eps) = (gain.as_slice(), T::of_f64(eps));
    Ok(build(x.shape(), block_rows, &Forward::<T, false> { x, gain, shift: &[], eps, block_rows }))
}

/// Rows of a block of the backward, whose parameter gradients are one partial sum.
const BACKWARD_ROWS: usize = 32;

struct Backward<'a, T: Scalar, const CENTRED: bool> {
    dy: &'a Matrix<T>,
    x: &'a Matrix<T>,
    gain: &'a [T],
    eps: T,
}

impl<T: Scalar, const CENTRED: bool> Kernel<T, T> for Backward<'_, T, CENTRED> {
    /// With x̂ = (x − mean)/σ and g = dy ∘ gain: dx = (g − mean(g) − x̂ mean(g x̂))/σ. `partials` is empty, or takes
    /// Σ dy ∘ x̂ in its first half and Σ dy in its second.
    #[inline(always)]
    fn run(&self, block: usize, dx: &mut [T], partials: &mut [T]) {
        let cols = self.x.cols();
        let first = block * BACKWARD_ROWS;
        for (i, dx) in dx.chunks_exact_mut(cols).enumerate() {
            let (x, dy) = (self.x.row(first + i), self.dy.row(first + i));
            let (mean, rstd) = statistics::<T, CENTRED>(x, self.eps);
            for ((dx, &dy), &gain) in dx.iter_mut().zip(dy).zip(self.gain) {
                *dx = dy * gain;
            }
            let (offset, slope) = means::<T, CENTRED>(dx, x, mean, rstd);
            for (dx, &x) in dx.iter_mut().zip(x) {
                let xhat = (x - mean) * rstd;
                *dx = (*dx - offset - xhat * slope) * rstd;
            }
            if !partials.is_empty() {
                add_parameter_gradients::<T, CENTRED>(dy, x, mean, rstd, partials);
            }
        }
    }
}

#[inline(always)]
fn add_parameter_gradients<T: Scalar, const CENTRED: bool>(dy: &[T], x: &[T], mean: T, rstd: T, partials: &mut [T]) {
    let (dgain, dshift) = partials.split_at_mut(x.len());
    for ((dgain, &dy), &x) in dgain.iter_mut().zip(dy).zip(x) {
        *dgain = ((x - mean) * rstd).mul_add(dy, *dgain);
    }
    if CENTRED {
        for (dshift, &dy) in dshift.iter_mut().zip(dy) {
            *dshift += dy;
        }
    }
}

/// dx, and the partial sums of the parameters `[blocks, 2 d]` when asked for.
fn backward<T: Scalar, const CENTRED: bool>(
    dy: &Matrix<T>,
    x: &Matrix<T>,
    gain: &Matrix<T>,
    eps: f64,
    with_parameters: bool,
) -> (Matrix<T>, Buffer<T>) {
    let kernel = Backward::<T, CENTRED> { dy, x, gain: gain.as_slice(), eps: T::of_f64(eps) };
    let width = if with_parameters { 2 * x.cols() } else { 0 };
    let mut partials = Buffer::zeros(x.rows().div_ceil(BACKWARD_ROWS) * width);
    let dx = build_with(x.shape(), BACKWARD_ROWS, &mut partials, width, &kernel);
    (dx, partials)
}

struct Jvp<'a, T: Scalar, const CENTRED: bool> {
    dx: &'a Matrix<T>,
    x: &'a Matrix<T>,
    gain: &'a [T],
    eps: T,
    block_rows: usize,
}

impl<T: Scalar, const CENTRED: bool> Kernel<T> for Jvp<'_, T, CENTRED> {
    /// dy = gain ∘ (dx − mean(dx) − x̂ mean(dx x̂))/σ: the backward's operator is symmetric but for the gain.
    #[inline(always)]
    fn run(&self, block: usize, dy: &mut [T], _: &mut [()]) {
        let cols = self.x.cols();
        let first = block * self.block_rows;
        for (i, dy) in dy.chunks_exact_mut(cols).enumerate() {
            let (x, dx) = (self.x.row(first + i), self.dx.row(first + i));
            let (mean, rstd) = statistics::<T, CENTRED>(x, self.eps);
            let (offset, slope) = means::<T, CENTRED>(dx, x, mean, rstd);
            for (((dy, &dx), &x), &gain) in dy.iter_mut().zip(dx).zip(x).zip(self.gain) {
                *dy = (dx - offset - (x - mean) * rstd * slope) * rstd * gain;
            }
        }
    }
}

/// The tangent of LayerNorm (`CENTRED`) or RMSNorm.
pub(crate) fn jvp<T: Scalar, const CENTRED: bool>(
    dx: &Matrix<T>,
    x: &Matrix<T>,
    gain: &Matrix<T>,
    eps: f64,
) -> Result<Matrix<T>> {
    let op = if CENTRED { "layer_norm_jvp" } else { "rms_norm_jvp" };
    check::same(op, "dx", dx, x)?;
    check::shape(op, "gain", gain.shape(), Shape::new(1, x.cols()))?;
    let block_rows = rows_per_block(x.cols());
    let (gain, eps) = (gain.as_slice(), T::of_f64(eps));
    Ok(build(x.shape(), block_rows, &Jvp::<T, CENTRED> { dx, x, gain, eps, block_rows }))
}

pub(crate) fn layer_norm_backward<T: Scalar>(
    dy: &Matrix<T>,
    x: &Matrix<T>,
    gain: &Matrix<T>,
    eps: f64,
    dparams: Option<(&mut Matrix<T>, &mut Matrix<T>)>,
) -> Result<Matrix<T>> {
    let row = Shape::new(1, x.cols());
    check::same("layer_norm_backward", "dy", dy, x)?;
    check::shape("layer_norm_backward", "gain", gain.shape(), row)?;
    if let Some((dgain, dshift)) = &dparams {
        check::shape("layer_norm_backward", "dgain", dgain.shape(), row)?;
        check::shape("layer_norm_backward", "dshift", dshift.shape(), row)?;
    }
    let (dx, partials) = backward::<T, true>(dy, x, gain, eps, dparams.is_some());
    if let Some((dgain, dshift)) = dparams {
        add_partials(&partials, 2 * x.cols(), 0, dgain.as_mut_slice());
        add_partials(&partials, 2 * x.cols(), x.cols(), dshift.as_mut_slice());
    }
    Ok(dx)
}

pub(crate) fn rms_norm_backward<T: Scalar>(
    dy: &Matrix<T>,
    x: &Matrix<T>,
    gain: &Matrix<T>,
    eps: f64,
    dgain: Option<&mut Matrix<T>>,
) -> Result<Matrix<T>> {
    let row = Shape::new(1, x.cols());
    check::same("rms_norm_backward", "dy", dy, x)?;
    check::shape("rms_norm_backward", "gain", gain.shape(), row)?;
    if let Some(dgain) = &dgain {
        check::shape("rms_norm_backward", "dgain", dgain.shape(), row)?;
    }
    let (dx, partials) = backward::<T, false>(dy, x, gain, eps, dgain.is_some());
    if let Some(dgain) = dgain {
        add_partials(&partials, 2 * x.cols(), 0, dgain.as_mut_slice());
    }
    Ok(dx)
}
