//! Elementwise activations and gated units.

use super::check;
use super::elementwise::{Function, map, zip};
use super::matrix::Matrix;
use super::parallel::{Kernel, build_with, rows_per_block};
use super::scalar::Scalar;
use crate::{Activation, Result};

/// An activation with its derivative; the methods must be `#[inline(always)]`.
trait Act<T>: Sync {
    /// (a(x), a'(x)).
    fn both(&self, x: T) -> (T, T);
    /// a(x).
    #[inline(always)]
    fn value(&self, x: T) -> T {
        self.both(x).0
    }
}

struct GeluTanh;
struct GeluErf;
struct Silu;
struct Relu;
struct Tanh;
struct Identity;

impl<T: Scalar> Act<T> for GeluTanh {
    /// ½(1 + tanh u) = σ(2u), which keeps its relative accuracy where 1 + tanh u cancels.
    #[inline(always)]
    fn both(&self, x: T) -> (T, T) {
        let c = T::of_f64(2.0 * 0.797_884_560_802_865_4);
        let k = T::of_f64(0.044_715);
        let square = x * x;
        let (s, ds) = (c * x * k.mul_add(square, T::ONE)).logistic();
        let du = c * T::of_f64(3.0 * 0.044_715).mul_add(square, T::ONE);
        (x * s, (x * ds).mul_add(du, s))
    }
}

impl<T: Scalar> Act<T> for GeluErf {
    #[inline(always)]
    fn both(&self, x: T) -> (T, T) {
        let (cdf, pdf) = x.normal();
        (x * cdf, x.mul_add(pdf, cdf))
    }
}

impl<T: Scalar> Act<T> for Silu {
    #[inline(always)]
    fn both(&self, x: T) -> (T, T) {
        let (s, ds) = x.logistic();
        (x * s, x.mul_add(ds, s))
    }
}

impl<T: Scalar> Act<T> for Relu {
    #[inline(always)]
    fn both(&self, x: T) -> (T, T) {
        if x > T::ZERO { (x, T::ONE) } else { (T::ZERO, T::ZERO) }
    }
}

impl<T: Scalar> Act<T> for Tanh {
    #[inline(always)]
    fn both(&self, x: T) -> (T, T) {
        let t = x.tanh();
        (t, (-t).mul_add(t, T::ONE))
    }
}

impl<T: Scalar> Act<T> for Identity {
    #[inline(always)]
    fn both(&self, x: T) -> (T, T) {
        (x, T::ONE)
    }
}

/// Calls a generic function with the type of an activation.
macro_rules! with_activation {
    ($kind:expr, $act:ident => $body:expr) => {
        match $kind {
            Activation::GeluTanh => {
                let $act = GeluTanh;
                $body
            }
            Activation::GeluErf => {
                let $act = GeluErf;
                $body
            }
            Activation::Silu => {
                let $act = Silu;
                $body
            }
            Activation::Relu => {
                let $act = Relu;
                $body
            }
            Activation::Tanh => {
                let $act = Tanh;
                $body
            }
            Activation::Identity => {
                let $act = Identity;
                $body
            }
        }
    };
}

struct Forward<A>(A);

impl<T: Scalar, A: Act<T>> Function<T> for Forward<A> {
    #[inline(always)]
    fn apply(&self, x: T, _: T) -> T {
        self.0.value(x)
    }
}

struct Backward<A>(A);

impl<T: Scalar, A: Act<T>> Function<T> for Backward<A> {
    #[inline(always)]
    fn apply(&self, dy: T, x: T) -> T {
        dy * self.0.both(x).1
    }
}

struct Gate<A>(A);

impl<T: Scalar, A: Act<T>> Function<T> for Gate<A> {
    #[inline(always)]
    fn apply(&self, gate: T, up: T) -> T {
        self.0.value(gate) * up
    }
}

pub(crate) fn forward<T: Scalar>(kind: Activation, x: &Matrix<T>) -> Matrix<T> {
    with_activation!(kind, act => map(x, Forward(act)))
}

pub(crate) fn backward<T: Scalar>(kind: Activation, dy: &Matrix<T>, x: &Matrix<T>) -> Result<Matrix<T>> {
    check::same("activation_backward", "dy", dy, x)?;
    Ok(with_activation!(kind, act => zip(dy, x, Backward(act))))
}

pub(crate) fn gated_forward<T: Scalar>(kind: Activation, gate: &Matrix<T>, up: &Matrix<T>) -> Result<Matrix<T>> {
    check::same("gated_forward", "up", up, gate)?;
    Ok(with_activation!(kind, act => zip(gate, up, Gate(act))))
}

struct GatedBackward<'a, T, A> {
    dy: &'a [T],
    gate: &'a [T],
    up: &'a [T],
    block: usize,
    act: A,
}

impl<T: Scalar, A: Act<T>> Kernel<T, T> for GatedBackward<'_, T, A> {
    #[inline(always)]
    fn run(&self, block: usize, dgate: &mut [T], dup: &mut [T]) {
        let start = block * self.block;
        let range = start..start + dgate.len();
        let inputs = self.dy[range.clone()].iter().zip(&self.gate[range.clone()]).zip(&self.up[range]);
        for ((dg, du), ((&dy, &gate), &up)) in dgate.iter_mut().zip(dup).zip(inputs) {
            let (value, slope) = self.act.both(gate);
            *dg = dy * up * slope;
            *du = dy * value;
        }
    }
}

pub(crate) fn gated_backward<T: Scalar>(
    kind: Activation,
    dy: &Matrix<T>,
    gate: &Matrix<T>,
    up: &Matrix<T>,
) -> Result<(Matrix<T>, Matrix<T>)> {
    check::same("gated_backward", "up", up, gate)?;
    check::same("gated_backward", "dy", dy, gate)?;
    let rows = rows_per_block(gate.cols());
    let block = rows * gate.cols();
    let (dy, x, u) = (dy.as_slice(), gate.as_slice(), up.as_slice());
    let mut dup = Matrix::zeros(gate.shape());
    let dgate = with_activation!(kind, act => {
        let kernel = GatedBackward { dy, gate: x, up: u, block, act };
        build_with(gate.shape(), rows, dup.as_mut_slice(), block, &kernel)
    });
    Ok((dgate, dup))
}
