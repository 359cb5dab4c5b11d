//! Patches, pools and layouts of images. An image is `[height · width, channels]`: a row per pixel.

use super::check;
use super::matrix::Matrix;
use super::parallel::{Kernel, build};
use super::scalar::Scalar;
use crate::{Patches, Result, Shape, TensorError};

/// The number of images of which `x` has the pixels, for windows that fit.
fn images<T: Scalar>(op: &'static str, at: &Patches, x: &Matrix<T>, rows: usize, cols: usize) -> Result<usize> {
    if !at.fits() {
        return Err(TensorError::Config { op, what: "the kernel is larger than the image with its padding, or is 0" });
    }
    let n = x.rows() / rows.max(1);
    check::shape(op, "x", x.shape(), Shape::new(n * rows, cols))?;
    Ok(n)
}

/// As [`images`], for windows of pools.
fn pooled<T: Scalar>(op: &'static str, at: &Patches, x: &Matrix<T>, rows: usize) -> Result<usize> {
    if at.padding > 0 {
        return Err(TensorError::Config { op, what: "a pool has no padding" });
    }
    images(op, at, x, rows, at.channels)
}

/// Image after image; `run` fills one of them.
struct ByImage<F>(F);

impl<T: Scalar, F: Fn(usize, &mut [T]) + Sync> Kernel<T> for ByImage<F> {
    #[inline(always)]
    fn run(&self, image: usize, out: &mut [T], _: &mut [()]) {
        (self.0)(image, out);
    }
}

/// A matrix of `n` images of `rows` rows each, filled by `run` (image, its elements, which arrive with any values).
fn by_image<T: Scalar>(n: usize, rows: usize, cols: usize, run: impl Fn(usize, &mut [T]) + Sync) -> Matrix<T> {
    build(Shape::new(n * rows, cols), rows, &ByImage(run))
}

/// The elements of image `i` of those that have `len` each.
fn image<T: Scalar>(x: &Matrix<T>, i: usize, len: usize) -> &[T] {
    &x.as_slice()[i * len..(i + 1) * len]
}

pub(crate) fn im2col_forward<T: Scalar>(at: &Patches, x: &Matrix<T>) -> Result<Matrix<T>> {
    let n = images("im2col_forward", at, x, at.pixels(), at.channels)?;
    let (cols, area, c_all) = (at.columns(), at.kernel * at.kernel, at.channels);
    Ok(by_image(n, at.positions(), cols, |i, out| {
        let x = image(x, i, at.pixels() * c_all);
        for (position, row) in out.chunks_exact_mut(cols).enumerate() {
            for (offset, pixel) in at.window(position) {
                let taps = row[offset..].iter_mut().step_by(area);
                match pixel {
                    Some(p) => taps.zip(&x[p * c_all..(p + 1) * c_all]).for_each(|(to, &from)| *to = from),
                    None => taps.for_each(|to| *to = T::ZERO),
                }
            }
        }
    }))
}

pub(crate) fn im2col_backward<T: Scalar>(at: &Patches, dy: &Matrix<T>) -> Result<Matrix<T>> {
    let n = images("im2col_backward", at, dy, at.positions(), at.columns())?;
    let (cols, area, c_all) = (at.columns(), at.kernel * at.kernel, at.channels);
    Ok(by_image(n, at.pixels(), c_all, |i, dx| {
        dx.fill(T::ZERO);
        for (position, row) in image(dy, i, at.positions() * cols).chunks_exact(cols).enumerate() {
            for (offset, pixel) in at.window(position) {
                let Some(p) = pixel else { continue };
                let taps = row[offset..].iter().step_by(area);
                dx[p * c_all..(p + 1) * c_all].iter_mut().zip(taps).for_each(|(to, &from)| *to += from);
            }
        }
    }))
}

/// The pixel of the largest value of channel `c` in the window at `position`, the first of equal ones; a NaN is largest.
fn largest<T: Scalar>(at: &Patches, x: &[T], position: usize, c: usize) -> usize {
    let mut pixels = at.window(position).filter_map(|(_, pixel)| pixel).map(|p| p * at.channels + c);
    let first = pixels.next().unwrap_or(c);
    pixels.fold(first, |best, i| if x[i] > x[best] || x[i].partial_cmp(&x[i]).is_none() { i } else { best })
}

/// From each window, the element of `from` at which `x` is largest.
fn pick_largest<T: Scalar>(at: &Patches, from: &Matrix<T>, x: &Matrix<T>, n: usize) -> Matrix<T> {
    let len = at.pixels() * at.channels;
    by_image(n, at.positions(), at.channels, |i, out| {
        let (from, x) = (image(from, i, len), image(x, i, len));
        for (position, row) in out.chunks_exact_mut(at.channels).enumerate() {
            row.iter_mut().enumerate().for_each(|(c, to)| *to = from[largest(at, x, position, c)]);
        }
    })
}

pub(crate) fn max_pool_forward<T: Scalar>(at: &Patches, x: &Matrix<T>) -> Result<Matrix<T>> {
    let n = pooled("max_pool_forward", at, x, at.pixels())?;
    Ok(pick_largest(at, x, x, n))
}

pub(crate) fn max_pool_jvp<T: Scalar>(at: &Patches, dx: &Matrix<T>, x: &Matrix<T>) -> Result<Matrix<T>> {
    let n = pooled("max_pool_jvp", at, x, at.pixels())?;
    check::same("max_pool_jvp", "dx", dx, x)?;
    Ok(pick_largest(at, dx, x, n))
}

pub(crate) fn max_pool_backward<T: Scalar>(at: &Patches, dy: &Matrix<T>, x: &Matrix<T>) -> Result<Matrix<T>> {
    let n = pooled("max_pool_backward", at, x, at.pixels())?;
    check::shape("max_pool_backward", "dy", dy.shape(), Shape::new(n * at.positions(), at.channels))?;
    let len = at.pixels() * at.channels;
    Ok(by_image(n, at.pixels(), at.channels, |i, dx| {
        dx.fill(T::ZERO);
        let x = image(x, i, len);
        let dy = image(dy, i, at.positions() * at.channels);
        for (position, row) in dy.chunks_exact(at.channels).enumerate() {
            row.iter().enumerate().for_each(|(c, &d)| dx[largest(at, x, position, c)] += d);
        }
    }))
}

pub(crate) fn average_pool_forward<T: Scalar>(at: &Patches, x: &Matrix<T>) -> Result<Matrix<T>> {
    let n = pooled("average_pool_forward", at, x, at.pixels())?;
    let (share, c_all) = (T::of_f64(1.0 / (at.kernel * at.kernel) as f64), at.channels);
    Ok(by_image(n, at.positions(), c_all, |i, out| {
        let x = image(x, i, at.pixels() * c_all);
        for (position, row) in out.chunks_exact_mut(c_all).enumerate() {
            row.fill(T::ZERO);
            for p in at.window(position).filter_map(|(_, pixel)| pixel) {
                row.iter_mut().zip(&x[p * c_all..(p + 1) * c_all]).for_each(|(to, &from)| *to += share * from);
            }
        }
    }))
}

pub(crate) fn average_pool_backward<T: Scalar>(at: &Patches, dy: &Matrix<T>) -> Result<Matrix<T>> {
    let n = pooled("average_pool_backward", at, dy, at.positions())?;
    let (share, c_all) = (T::of_f64(1.0 / (at.kernel * at.kernel) as f64), at.channels);
    Ok(by_image(n, at.pixels(), c_all, |i, dx| {
        dx.fill(T::ZERO);
        for (position, row) in image(dy, i, at.positions() * c_all).chunks_exact(c_all).enumerate() {
            for p in at.window(position).filter_map(|(_, pixel)| pixel) {
                dx[p * c_all..(p + 1) * c_all].iter_mut().zip(row).for_each(|(to, &d)| *to += share * d);
            }
        }
    }))
}

pub(crate) fn transpose_parts<T: Scalar>(x: &Matrix<T>, rows: usize) -> Result<Matrix<T>> {
    let (n, cols) = (x.rows() / rows.max(1), x.cols());
    check::shape("transpose_parts", "x", x.shape(), Shape::new(n * rows, cols))?;
    Ok(by_image(n, cols, rows, |i, out| {
        let x = image(x, i, rows * cols);
        for (c, row) in out.chunks_exact_mut(rows).enumerate() {
            row.iter_mut().enumerate().for_each(|(r, to)| *to = x[r * cols + c]);
        }
    }))
}
