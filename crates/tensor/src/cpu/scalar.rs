//! The number types of the CPU backend, and their elementary functions.
//!
//! They are free of branches, so that loops over them become vector code; only the normal distribution in f64 is that of
//! libm, one number at a time.

use crate::Host;
use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

/// A number type of [`Cpu`](crate::Cpu): `f32` for work, `f64` for references. Sealed.
pub trait Scalar:
    Host
    + Debug
    + Default
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + Sum
{
    /// 0.
    const ZERO: Self;
    /// ½.
    const HALF: Self;
    /// 1.
    const ONE: Self;
    /// The value below all others.
    const NEG_INFINITY: Self;

    /// `self · a + b` with one rounding.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// √self.
    fn sqrt(self) -> Self;
    /// |self|.
    fn abs(self) -> Self;
    /// e^self. f32: relative error below 2e-7; 0 below −104, infinite above 88.73, NaN stays NaN. f64: below 5e-16; 0 below
    /// −746, infinite above 709.79.
    fn exp(self) -> Self;
    /// tanh self. f32: relative error below 5e-7; f64: below 1e-15.
    fn tanh(self) -> Self;
    /// (Φ(self), φ(self)): distribution and density of the standard normal. f32: relative error below 1e-6 where the
    /// value is normal, in the tails too.
    fn normal(self) -> (Self, Self);

    /// (σ(self), σ'(self)) of the logistic function, without cancellation or overflow.
    #[inline(always)]
    fn logistic(self) -> (Self, Self) {
        let e = (-self.abs()).exp();
        let r = Self::ONE / (Self::ONE + e);
        let s = e * r;
        (if self < Self::ZERO { s } else { r }, s * r)
    }
}

/// e^r − 1 for |r| ≤ ln 2 / 2 (the polynomial of Cephes' `expf`).
#[inline(always)]
fn expm1_reduced(r: f32) -> f32 {
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_199_9e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_5e-1)
        .mul_add(r, 0.5);
    p.mul_add(r * r, r)
}

/// (n, r) with x = n ln 2 + r; |x| must stay below 2^20.
#[inline(always)]
fn reduce_ln2(x: f32) -> (i32, f32) {
    const ROUND: f32 = 12_582_912.0;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    ((shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32), n.mul_add(2.121_944_4e-4, r))
}

/// 2^n for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// x cut to lo..=hi; NaN stays NaN.
#[inline(always)]
fn cut<T: PartialOrd>(x: T, lo: T, hi: T) -> T {
    let x = if x < lo { lo } else { x };
    if x > hi { hi } else { x }
}

/// e^r − 1 for |r| ≤ ln 2 / 2: Taylor's series, whose first term left out is below 2e-17 r.
#[inline(always)]
fn expm1_reduced_f64(r: f64) -> f64 {
    let p = (1.0 / 6_227_020_800.0_f64)
        .mul_add(r, 1.0 / 479_001_600.0)
        .mul_add(r, 1.0 / 39_916_800.0)
        .mul_add(r, 1.0 / 3_628_800.0)
        .mul_add(r, 1.0 / 362_880.0)
        .mul_add(r, 1.0 / 40_320.0)
        .mul_add(r, 1.0 / 5_040.0)
        .mul_add(r, 1.0 / 720.0)
        .mul_add(r, 1.0 / 120.0)
        .mul_add(r, 1.0 / 24.0)
        .mul_add(r, 1.0 / 6.0)
        .mul_add(r, 0.5);
    p.mul_add(r * r, r)
}

/// (n, r) with x = n ln 2 + r, n a whole number; |x| must stay below 2^50.
#[inline(always)]
fn reduce_ln2_f64(x: f64) -> (f64, f64) {
    let n = to_whole(x * std::f64::consts::LOG2_E);
    (n, n.mul_add(-2.319_046_813_846_299_6e-17, n.mul_add(-std::f64::consts::LN_2, x)))
}

/// The nearest whole number.
#[inline(always)]
fn to_whole(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    (x + ROUND) - ROUND
}

/// 2^n for a whole −1022 ≤ n ≤ 1023.
#[inline(always)]
fn power_of_two_f64(n: f64) -> f64 {
    // The low bits of 2^52 + 1023 + n are the exponent.
    f64::from_bits((n + 4_503_599_627_371_519.0).to_bits() << 52)
}

/// e^x − 1 without cancellation around 0: relative error below 1e-15; infinite above 709, NaN stays NaN.
#[inline(always)]
pub(crate) fn exp_m1(x: f64) -> f64 {
    let (n, r) = reduce_ln2_f64(cut(x, -40.0, 709.0));
    let scale = power_of_two_f64(n);
    let value = expm1_reduced_f64(r).mul_add(scale, scale - 1.0);
    if x > 709.0 { f64::INFINITY } else { value }
}

impl Scalar for f32 {
    const ZERO: Self = 0.0;
    const HALF: Self = 0.5;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f32::mul_add(self, a, b)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }

    #[inline(always)]
    fn exp(self) -> Self {
        let (n, r) = reduce_ln2(cut(self, -104.0, 89.0));
        let half = n >> 1;
        (expm1_reduced(r) + 1.0) * power_of_two(half) * power_of_two(n - half)
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        let (n, r) = reduce_ln2(2.0 * cut(self, -10.0, 10.0));
        let scale = power_of_two(n);
        let expm1 = expm1_reduced(r).mul_add(scale, scale - 1.0);
        expm1 / (expm1 + 2.0)
    }

    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        // Φ(−a) = exp(−a²/2) t Q(t) with t = 1/(1 + 0.3 a): Q by least squares on Chebyshev nodes of 0 ≤ a ≤ 14.5.
        let a = cut(f32::abs(self), 0.0, 14.5);
        let square = a * a;
        let rounding = f32::mul_add(a, a, -square);
        let e = Scalar::exp(-0.5 * square);
        let e = (-0.5 * rounding).mul_add(e, e);
        let t = 1.0 / 0.3_f32.mul_add(a, 1.0);
        let q = (-0.020_623_67_f32)
            .mul_add(t, 0.112_436_7)
            .mul_add(t, -0.228_216_11)
            .mul_add(t, 0.191_787_82)
            .mul_add(t, -0.079_426_17)
            .mul_add(t, 0.096_158_23)
            .mul_add(t, 0.078_389_18)
            .mul_add(t, 0.110_235_52)
            .mul_add(t, 0.119_571_805)
            .mul_add(t, 0.119_686_69);
        let tail = e * (t * q);
        (if self < 0.0 { tail } else { 1.0 - tail }, e * 0.398_942_3)
    }
}

impl Scalar for f64 {
    const ZERO: Self = 0.0;
    const HALF: Self = 0.5;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f64::mul_add(self, a, b)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }

    #[inline(always)]
    fn exp(self) -> Self {
        let (n, r) = reduce_ln2_f64(cut(self, -746.0, 710.0));
        let half = to_whole(0.5 * n);
        (expm1_reduced_f64(r) + 1.0) * power_of_two_f64(half) * power_of_two_f64(n - half)
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        let expm1 = exp_m1(2.0 * cut(self, -20.0, 20.0));
        expm1 / (expm1 + 2.0)
    }

    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        let cdf = 0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2);
        (cdf, (-0.5 * self * self).exp() * 0.398_942_280_401_432_7)
    }
}

#[cfg(test)]
mod tests {
    use super::{Scalar, exp_m1};

    /// The larger, or NaN where there is one.
    fn larger(a: f64, b: f64) -> f64 {
        if a.is_nan() || a > b { a } else { b }
    }

    fn worst(lo: f32, hi: f32, ours: impl Fn(f32) -> f32, reference: impl Fn(f64) -> f64) -> f64 {
        (0..=200_000)
            .map(|i| lo + (hi - lo) * (i as f32 / 200_000.0))
            .map(|x| {
                let exact = reference(f64::from(x));
                if exact.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { (f64::from(ours(x)) / exact - 1.0).abs() }
            })
            .fold(0.0, larger)
    }

    #[test]
    fn the_exponential_is_accurate_to_two_in_ten_million() {
        assert!(worst(-87.3, 88.7, Scalar::exp, f64::exp) < 2e-7);
        assert_eq!(Scalar::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Scalar::exp(-1e30_f32), 0.0);
        assert_eq!(Scalar::exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(Scalar::exp(88.8_f32), f32::INFINITY);
        assert_eq!(Scalar::exp(0.0_f32), 1.0);
        assert!(Scalar::exp(f32::NAN).is_nan());
    }

    #[test]
    fn the_hyperbolic_tangent_is_relatively_accurate_around_zero() {
        assert!(worst(-12.0, 12.0, Scalar::tanh, f64::tanh) < 5e-7);
        assert!(worst(-1e-3, 1e-3, Scalar::tanh, f64::tanh) < 5e-7);
        assert_eq!(Scalar::tanh(1e30_f32), 1.0);
        assert!(Scalar::tanh(f32::NAN).is_nan());
    }

    fn worst_f64(lo: f64, hi: f64, ours: impl Fn(f64) -> f64, reference: impl Fn(f64) -> f64) -> f64 {
        (0..=200_000)
            .map(|i| lo + (hi - lo) * (f64::from(i) / 200_000.0))
            .map(|x| (ours(x), reference(x)))
            .map(|(ours, exact)| if ours == exact { 0.0 } else { (ours / exact - 1.0).abs() })
            .fold(0.0, larger)
    }

    #[test]
    fn the_exponential_in_f64_is_that_of_std_within_two_roundings() {
        assert!(worst_f64(-708.0, 709.7, Scalar::exp, f64::exp) < 5e-16);
        assert!(worst_f64(-1.0, 1.0, Scalar::exp, f64::exp) < 5e-16);
        assert!((Scalar::exp(-740.0_f64) - f64::exp(-740.0)).abs() <= f64::from_bits(1));
        assert_eq!(Scalar::exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(Scalar::exp(-1e300_f64), 0.0);
        assert_eq!(Scalar::exp(f64::INFINITY), f64::INFINITY);
        assert_eq!(Scalar::exp(709.8_f64), f64::INFINITY);
        assert_eq!(Scalar::exp(0.0_f64), 1.0);
        assert!(Scalar::exp(f64::NAN).is_nan());
    }

    #[test]
    fn the_exponential_less_one_in_f64_does_not_cancel_around_zero() {
        assert!(worst_f64(-50.0, 709.0, exp_m1, f64::exp_m1) < 1e-15);
        assert!(worst_f64(-1.0, 1.0, exp_m1, f64::exp_m1) < 1e-15);
        assert!(worst_f64(-1e-9, 1e-9, exp_m1, f64::exp_m1) < 1e-15);
        assert_eq!((exp_m1(f64::NEG_INFINITY), exp_m1(f64::INFINITY)), (-1.0, f64::INFINITY));
        assert!(exp_m1(f64::NAN).is_nan());
    }

    #[test]
    fn the_hyperbolic_tangent_in_f64_is_relatively_accurate_around_zero() {
        assert!(worst_f64(-25.0, 25.0, Scalar::tanh, f64::tanh) < 1e-15);
        assert!(worst_f64(-1e-3, 1e-3, Scalar::tanh, f64::tanh) < 1e-15);
        assert_eq!((Scalar::tanh(-1e300_f64), Scalar::tanh(f64::INFINITY)), (-1.0, 1.0));
        assert!(Scalar::tanh(f64::NAN).is_nan());
    }

    #[test]
    fn the_normal_distribution_is_relatively_accurate_in_its_tails() {
        assert!(worst(-12.0, 12.0, |x| x.normal().0, |x| x.normal().0) < 1e-6);
        assert!(worst(-12.0, 12.0, |x| x.normal().1, |x| x.normal().1) < 1e-6);
    }

    #[test]
    fn the_logistic_function_neither_overflows_nor_cancels() {
        assert!(worst(-80.0, 80.0, |x| x.logistic().0, |x| x.logistic().0) < 5e-7);
        assert!(worst(-80.0, 80.0, |x| x.logistic().1, |x| x.logistic().1) < 1e-6);
        assert_eq!((-1e30_f32).logistic(), (0.0, 0.0));
    }
}
