//! Matrix products. Operands are packed into panels ([`panels`], [`pack`]) in the order in which a unit ([`unit`]) reads
//! them, and the output is computed tile by tile ([`tile`]) in blocks that fit the caches ([`drive`]). Transposes are
//! strides, never copies. Where a machine has no unit of ours, plain products go to the `gemm` crate.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod amx_emulation;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dots;
mod drive;
mod pack;
mod panels;
#[cfg(test)]
mod tests;
mod tile;
mod unit;
mod view;

pub(crate) use dots::{Blocks, add_dots, add_products};
pub(crate) use panels::Panels;
pub(crate) use tile::Mode;
pub(crate) use unit::Side;
pub(crate) use view::{View, ViewMut};

use super::check;
use super::matrix::Matrix;
use super::movement;
use super::scalar::Scalar;
use crate::{Accumulate, Precision, Result, Shape, Transpose};
use drive::{Left, Part};
use gemm::Parallelism;
use pack::Source;
use std::ops::Range;
use unit::Unit;

/// Where a product runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// On the calling thread: inside of parallel tasks.
    One,
    /// On the thread pool, when big enough.
    Pool,
}

impl Threads {
    fn parallelism(self) -> Parallelism {
        match self {
            Self::One => Parallelism::None,
            Self::Pool => Parallelism::Rayon(0),
        }
    }
}

/// Bytes of each number of a constant weight that products keep packed; 0 where none are kept.
pub(crate) fn kept_panel_bytes(precision: Precision) -> usize {
    match (Unit::of::<f32>(precision).keeps_weights(), precision) {
        (false, _) => 0,
        (true, Precision::Bf16) => 2,
        (true, _) => 4,
    }
}

/// Whether this machine multiplies bf16x3 on matrix units.
pub(crate) fn has_matrix_units() -> bool {
    Unit::of::<f32>(Precision::Bf16x3) == Unit::AmxBf16x3
}

/// Multiply-adds below which the pool is not worth waking.
const PARALLEL_MIN: usize = 1 << 17;

/// `out (+)= alpha · a b`.
pub(crate) fn gemm<T: Scalar>(
    precision: Precision,
    threads: Threads,
    alpha: T,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: Accumulate,
    out: &ViewMut<'_, T>,
) {
    assert!(a.rows == out.rows && b.cols == out.cols && a.cols == b.rows, "operands of a product do not fit");
    let unit = Unit::of::<T>(precision);
    let threads = threads_for(threads, a.rows * a.cols * b.cols);
    if unit == Unit::Portable && !unit.rounds(precision) {
        // SAFETY: the constructors of the views checked that every element the strides reach exists; out is exclusive.
        unsafe { crate_gemm(threads, alpha, a, b, accumulate, out) };
        return;
    }
    let right = Panels::pack(precision, threads, b, Side::Right);
    let left = Left::Source(Source::new(a, Side::Left, alpha, unit.rounds(precision)));
    // SAFETY: the shapes fit; `out` is exclusive, and initialised.
    unsafe { drive::multiply(threads, &left, &right, accumulate.into(), None, Part::Whole, out.into()) };
}

/// The pool for products that are worth it.
fn threads_for(threads: Threads, multiply_adds: usize) -> Threads {
    if multiply_adds < PARALLEL_MIN { Threads::One } else { threads }
}

/// acc `[d, d]` += xᵀ x of x `[T, d]`, on and below the diagonal; what lies above is left alone.
pub(crate) fn syrk<T: Scalar>(precision: Precision, x: &Matrix<T>, acc: &mut Matrix<f64>) {
    let threads = threads_for(Threads::Pool, x.rows() * x.cols() * x.cols());
    let view = View::of(x, Transpose::No);
    let right = Panels::pack(precision, threads, view, Side::Right);
    let left_panels;
    let left = if right.unit.sides_alike() {
        &right
    } else {
        left_panels = Panels::pack(precision, threads, view.t(), Side::Left);
        &left_panels
    };
    let (left, out) = (Left::Panels(left), ViewMut::of(acc));
    // SAFETY: acc has the columns of x as rows and columns, and is exclusive.
    unsafe { drive::multiply(threads, &left, &right, Mode::AddWide, None, Part::LowerTriangle, (&out).into()) };
}

/// acc += a b; the shapes must agree.
pub(crate) fn add_wide<T: Scalar>(precision: Precision, a: View<'_, T>, b: View<'_, T>, acc: &mut Matrix<f64>) {
    assert!(a.cols == b.rows && acc.shape() == Shape::new(a.rows, b.cols), "operands of a product do not fit");
    let threads = threads_for(Threads::Pool, a.rows * a.cols * b.cols);
    let right = Panels::pack(precision, threads, b, Side::Right);
    let left = Left::Source(Source::new(a, Side::Left, T::ONE, right.unit.rounds(precision)));
    let out = ViewMut::of(acc);
    // SAFETY: the shapes fit, and acc is exclusive.
    unsafe { drive::multiply(threads, &left, &right, Mode::AddWide, None, Part::Whole, (&out).into()) };
}

/// One block of lᵀ r over a run of the inner dimension, to `out` `[rows, cols]`, on the calling thread.
pub(crate) fn block_of_run<T: Scalar>(
    left: &Panels<T>,
    right: &Panels<T>,
    run: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    mode: Mode,
    out: &ViewMut<'_, T>,
) {
    assert!(rows.end <= left.majors && cols.end <= right.majors, "a block lies outside of a product");
    let at_panel = |start: usize| start.is_multiple_of(unit::PANEL);
    assert!(at_panel(rows.start) && at_panel(cols.start), "a block starts inside of a panel");
    assert!(mode != Mode::AddWide, "blocks of runs are of the operands' own numbers");
    assert!(rows.len() == out.rows && cols.len() == out.cols, "a block does not fit its output");
    assert!(left.unit == right.unit && left.side == Side::Left && right.side == Side::Right);
    let _tiles = left.unit.enter();
    // SAFETY: the block lies within both operands, and `out` is exclusive.
    unsafe { drive::block_of_run(left, right, right.runs()[run], rows, cols, mode, out.into()) };
}

impl From<Accumulate> for Mode {
    fn from(accumulate: Accumulate) -> Self {
        match accumulate {
            Accumulate::Replace => Self::Replace,
            Accumulate::Add => Self::Add,
        }
    }
}

/// # Safety
/// `out` must be initialised unless it is replaced.
unsafe fn crate_gemm<T: Scalar>(
    threads: Threads,
    alpha: T,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: Accumulate,
    out: &ViewMut<'_, T>,
) {
    // SAFETY: by the contract of this function, and the views are checked where they are made.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.ptr,
            1,
            out.stride as isize,
            accumulate == Accumulate::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::ONE,
            alpha,
            false,
            false,
            false,
            threads.parallelism(),
        );
    }
}

/// a b as a new matrix; the inner dimensions must agree.
pub(crate) fn product<T: Scalar>(precision: Precision, a: View<'_, T>, b: View<'_, T>) -> Matrix<T> {
    assert!(a.cols == b.rows, "operands of a product do not fit");
    let mut out = Matrix::stale(Shape::new(a.rows, b.cols));
    gemm(precision, Threads::Pool, T::ONE, a, b, Accumulate::Replace, &ViewMut::of(&mut out));
    out
}

fn op_shape<T: Scalar>(m: &Matrix<T>, transpose: Transpose) -> Shape {
    match transpose {
        Transpose::No => m.shape(),
        Transpose::Yes => Shape::new(m.cols(), m.rows()),
    }
}

/// The shape of op(a) op(b), or an error that names b.
fn product_shape<T: Scalar>(a: &Matrix<T>, ta: Transpose, b: &Matrix<T>, tb: Transpose) -> Result<Shape> {
    let (left, right) = (op_shape(a, ta), op_shape(b, tb));
    let expected = match tb {
        Transpose::No => Shape::new(left.cols, right.cols),
        Transpose::Yes => Shape::new(right.cols, left.cols),
    };
    check::shape("matmul", "b", b.shape(), expected)?;
    Ok(Shape::new(left.rows, right.cols))
}

pub(crate) fn matmul_into<T: Scalar>(
    precision: Precision,
    alpha: f64,
    a: &Matrix<T>,
    ta: Transpose,
    b: &Matrix<T>,
    tb: Transpose,
    accumulate: Accumulate,
    out: &mut Matrix<T>,
) -> Result<()> {
    check::shape("matmul_into", "out", out.shape(), product_shape(a, ta, b, tb)?)?;
    let (a, b) = (View::of(a, ta), View::of(b, tb));
    gemm(precision, Threads::Pool, T::of_f64(alpha), a, b, accumulate, &ViewMut::of(out));
    Ok(())
}

pub(crate) fn matmul<T: Scalar>(
    precision: Precision,
    a: &Matrix<T>,
    ta: Transpose,
    b: &Matrix<T>,
    tb: Transpose,
) -> Result<Matrix<T>> {
    product_shape(a, ta, b, tb)?;
    Ok(product(precision, View::of(a, ta), View::of(b, tb)))
}

/// x op(weight) + bias, with the weight's panels kept for the next call where that pays.
fn by_weight<T: Scalar>(
    precision: Precision,
    x: &Matrix<T>,
    weight: &Matrix<T>,
    transpose: Transpose,
    bias: Option<&[T]>,
) -> Matrix<T> {
    let (a, b) = (View::of(x, Transpose::No), View::of(weight, transpose));
    let unit = Unit::of::<T>(precision);
    if unit == Unit::Portable && !unit.rounds(precision) {
        let Some(bias) = bias else { return product(precision, a, b) };
        let mut out = movement::repeat_row(bias, x.rows());
        gemm(precision, Threads::Pool, T::ONE, a, b, Accumulate::Add, &ViewMut::of(&mut out));
        return out;
    }
    let mut out = Matrix::stale(Shape::new(a.rows, b.cols));
    let threads = threads_for(Threads::Pool, a.rows * a.cols * b.cols);
    let pack = || Panels::pack(precision, threads, b, Side::Right);
    let left = Left::Source(Source::new(a, Side::Left, T::ONE, unit.rounds(precision)));
    let temporary;
    let right = if unit.keeps_weights() {
        weight.panels(transpose, pack)
    } else {
        temporary = pack();
        &temporary
    };
    // SAFETY: the output has the shape of the product, which replaces it.
    unsafe {
        drive::multiply(threads, &left, right, Mode::Replace, bias, Part::Whole, (&ViewMut::of(&mut out)).into())
    };
    out
}

pub(crate) fn linear_forward<T: Scalar>(
    precision: Precision,
    x: &Matrix<T>,
    weight: &Matrix<T>,
    bias: Option<&Matrix<T>>,
) -> Result<Matrix<T>> {
    check::shape("linear_forward", "weight", weight.shape(), Shape::new(weight.rows(), x.cols()))?;
    if let Some(bias) = bias {
        check::shape("linear_forward", "bias", bias.shape(), Shape::new(1, weight.rows()))?;
    }
    Ok(by_weight(precision, x, weight, Transpose::Yes, bias.map(Matrix::as_slice)))
}

pub(crate) fn linear_backward<T: Scalar>(
    precision: Precision,
    dy: &Matrix<T>,
    weight: &Matrix<T>,
) -> Result<Matrix<T>> {
    check::shape("linear_backward", "weight", weight.shape(), Shape::new(dy.cols(), weight.cols()))?;
    Ok(by_weight(precision, dy, weight, Transpose::No, None))
}
