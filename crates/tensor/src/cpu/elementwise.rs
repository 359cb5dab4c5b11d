//! Loops over the elements of one or two matrices.

use super::check;
use super::matrix::Matrix;
use super::parallel::{Kernel, build, for_blocks, rows_per_block};
use super::scalar::Scalar;
use crate::Result;

/// A function of one or two elements; `apply` must be `#[inline(always)]`.
pub(crate) trait Function<T>: Sync {
    fn apply(&self, x: T, y: T) -> T;
}

struct Zip<'a, T, F> {
    x: &'a [T],
    y: &'a [T],
    block: usize,
    f: F,
}

impl<T: Scalar, F: Function<T>> Kernel<T> for Zip<'_, T, F> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        let start = block * self.block;
        let range = start..start + out.len();
        for ((o, &x), &y) in out.iter_mut().zip(&self.x[range.clone()]).zip(&self.y[range]) {
            *o = self.f.apply(x, y);
        }
    }
}

/// `f(x_i, y_i)` as a new matrix; equal shapes.
pub(crate) fn zip<T: Scalar, F: Function<T>>(x: &Matrix<T>, y: &Matrix<T>, f: F) -> Matrix<T> {
    let rows = rows_per_block(x.cols());
    build(x.shape(), rows, &Zip { x: x.as_slice(), y: y.as_slice(), block: rows * x.cols(), f })
}

/// `f(x_i, x_i)` as a new matrix.
pub(crate) fn map<T: Scalar, F: Function<T>>(x: &Matrix<T>, f: F) -> Matrix<T> {
    zip(x, x, f)
}

struct Update<'a, T, F> {
    x: Option<&'a [T]>,
    block: usize,
    f: F,
}

impl<T: Scalar, F: Function<T>> Kernel<T> for Update<'_, T, F> {
    #[inline(always)]
    fn run(&self, block: usize, out: &mut [T], _: &mut [()]) {
        let Some(x) = self.x else {
            for o in out {
                *o = self.f.apply(*o, *o);
            }
            return;
        };
        let start = block * self.block;
        let x = &x[start..start + out.len()];
        for (o, &x) in out.iter_mut().zip(x) {
            *o = self.f.apply(x, *o);
        }
    }
}

/// `y_i = f(x_i, y_i)`, with `y_i` for `x_i` where there is no x.
fn update<T: Scalar, F: Function<T>>(x: Option<&[T]>, y: &mut [T], f: F) {
    let (block, work) = (rows_per_block(1), y.len());
    for_blocks(y, block, work, &Update { x, block, f });
}

struct Axpy<T>(T);

impl<T: Scalar> Function<T> for Axpy<T> {
    #[inline(always)]
    fn apply(&self, x: T, y: T) -> T {
        self.0.mul_add(x, y)
    }
}

struct Scale<T>(T);

impl<T: Scalar> Function<T> for Scale<T> {
    #[inline(always)]
    fn apply(&self, x: T, _: T) -> T {
        self.0 * x
    }
}

struct Multiply;

impl<T: Scalar> Function<T> for Multiply {
    #[inline(always)]
    fn apply(&self, x: T, y: T) -> T {
        x * y
    }
}

struct DivideShifted<T>(T);

impl<T: Scalar> Function<T> for DivideShifted<T> {
    #[inline(always)]
    fn apply(&self, x: T, y: T) -> T {
        x / (y + self.0)
    }
}

pub(crate) fn axpy<T: Scalar>(alpha: f64, x: &Matrix<T>, y: &mut Matrix<T>) -> Result<()> {
    check::same("axpy", "y", y, x)?;
    update(Some(x.as_slice()), y.as_mut_slice(), Axpy(T::of_f64(alpha)));
    Ok(())
}

pub(crate) fn scale<T: Scalar>(alpha: f64, x: &mut Matrix<T>) {
    update(None, x.as_mut_slice(), Scale(T::of_f64(alpha)));
}

pub(crate) fn multiply<T: Scalar>(x: &Matrix<T>, y: &Matrix<T>) -> Result<Matrix<T>> {
    check::same("multiply", "y", y, x)?;
    Ok(zip(x, y, Multiply))
}

pub(crate) fn square<T: Scalar>(x: &Matrix<T>) -> Matrix<T> {
    zip(x, x, Multiply)
}

pub(crate) fn divide_shifted<T: Scalar>(x: &Matrix<T>, y: &Matrix<T>, shift: f64) -> Result<Matrix<T>> {
    check::same("divide_shifted", "y", y, x)?;
    Ok(zip(x, y, DivideShifted(T::of_f64(shift))))
}
