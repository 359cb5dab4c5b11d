//! Each Jacobian-vector product against finite differences of its forward, in f64.
#![allow(clippy::unwrap_used)]

mod common;

use common::{F64, Gen, assert_close, dot, segment};
use etymon_tensor::{Activation, Attention, Backend, Matrix, Patches, Result, Shape};
use proptest::prelude::*;

/// x + t dx.
fn moved(x: &Matrix<f64>, t: f64, dx: &Matrix<f64>) -> Matrix<f64> {
    let mut out = x.clone();
    F64.axpy(t, dx, &mut out).unwrap();
    out
}

/// Compares a tangent with the fourth-order central difference of `value` at a step t along it.
fn assert_tangent(tangent: Result<Matrix<f64>>, value: impl Fn(f64) -> Matrix<f64>) {
    let step = 1e-4;
    let mut numeric = F64.zeros(value(0.0).shape());
    for (weight, at) in [(8.0, 1.0), (-8.0, -1.0), (-1.0, 2.0), (1.0, -2.0)] {
        F64.axpy(weight / (12.0 * step), &value(at * step), &mut numeric).unwrap();
    }
    assert_close(&tangent.unwrap(), &numeric, 1e-6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn tangents_of_norms_agree_with_finite_differences(rows in 1..80_usize, d in 2..40_usize, seed: u64) {
        let mut random = Gen(seed);
        let (x, dx) = (random.matrix(rows, d), random.matrix(rows, d));
        let (gain, shift) = (random.matrix(1, d), random.matrix(1, d));
        let layer = |t| F64.layer_norm_forward(&moved(&x, t, &dx), &gain, &shift, 1e-2).unwrap();
        assert_tangent(F64.layer_norm_jvp(&dx, &x, &gain, 1e-2), layer);
        let rms = |t| F64.rms_norm_forward(&moved(&x, t, &dx), &gain, 1e-2).unwrap();
        assert_tangent(F64.rms_norm_jvp(&dx, &x, &gain, 1e-2), rms);
    }

    #[test]
    fn tangents_of_patches_and_pools_agree_with_finite_differences(
        (n, channels, height, width) in (1..4_usize, 1..4_usize, 3..8_usize, 3..8_usize),
        (kernel, stride) in (1..4_usize, 1..4_usize),
        seed: u64,
    ) {
        let mut random = Gen(seed);
        let at = Patches { channels, height, width, kernel, stride, padding: 0 };
        let dx = random.matrix(n * height * width, channels);
        // Distinct values, further apart than the steps of the differences.
        let x = common::table(n * height * width, channels, |i, j| ((i * channels + j) * 7919 % 10007) as f64 / 50.0);
        assert_tangent(F64.max_pool_jvp(&at, &dx, &x), |t| F64.max_pool_forward(&at, &moved(&x, t, &dx)).unwrap());
        let average = |t| F64.average_pool_forward(&at, &moved(&x, t, &dx)).unwrap();
        assert_tangent(F64.average_pool_forward(&at, &dx), average);
        let padded = Patches { padding: 1, ..at };
        let patches = |t| F64.im2col_forward(&padded, &moved(&x, t, &dx)).unwrap();
        assert_tangent(F64.im2col_forward(&padded, &dx), patches);
    }

    #[test]
    fn tangents_of_gated_units_agree_with_finite_differences(rows in 1..20_usize, d in 1..20_usize, seed: u64) {
        let mut random = Gen(seed);
        let [gate, up, dgate, dup] = [(); 4].map(|()| random.matrix(rows, d));
        for kind in [Activation::GeluTanh, Activation::GeluErf, Activation::Silu, Activation::Tanh] {
            let value = |t| F64.gated_forward(kind, &moved(&gate, t, &dgate), &moved(&up, t, &dup)).unwrap();
            assert_tangent(F64.gated_jvp(kind, &gate, &up, &dgate, &dup), value);
            let plain = |t| F64.activation_forward(kind, &moved(&gate, t, &dgate));
            assert_tangent(F64.activation_backward(kind, &dgate, &gate), plain);
        }
    }

    #[test]
    fn tangents_of_attention_agree_with_finite_differences(
        (kv_heads, group, d) in (1..4_usize, 1..4_usize, 1..20_usize),
        seed: u64,
    ) {
        let mut random = Gen(seed);
        let lengths = [random.below(100), random.below(8), 1];
        let segments = [segment(2, lengths[0]), segment(2 + lengths[0], lengths[1]), segment(3 + lengths[0] + lengths[1], 1)];
        let rows = lengths.iter().sum::<usize>() + 5;
        let mut inputs = || {
            let q = random.matrix::<f64>(rows, kv_heads * group * d);
            [q, random.matrix(rows, kv_heads * d), random.matrix(rows, kv_heads * d)]
        };
        let (x, dx) = (inputs(), inputs());
        for (causal, window) in [(true, None), (false, None), (true, Some(7))] {
            let scale = 1.0 / (d as f64).sqrt();
            let spec = Attention { heads: kv_heads * group, kv_heads, head_dim: d, causal, window, scale };
            let value = |t| {
                let [q, k, v] = [0, 1, 2].map(|i| moved(&x[i], t, &dx[i]));
                F64.attention_forward(&spec, &q, &k, &v, &segments).unwrap()
            };
            assert_tangent(F64.attention_jvp(&spec, x.each_ref(), dx.each_ref(), &segments), value);
        }
    }

    #[test]
    fn the_curvature_of_cross_entropy_is_its_second_derivative(rows in 1..20_usize, classes in 2..60_usize, seed: u64) {
        use etymon_tensor::{CrossEntropy, Label};
        let mut random = Gen(seed);
        let (logits, tangent) = (random.matrix(rows, classes), random.matrix(rows, classes));
        let labels: Vec<Label> = (0..rows).map(|_| Label::Class(random.below(classes) as u32)).collect();
        let mut product = tangent.clone();
        F64.cross_entropy_curvature(&logits, &mut product).unwrap();
        let gradient = |t| {
            let mut x = moved(&logits, t, &tangent);
            F64.cross_entropy(CrossEntropy::Loss, &mut x, &labels).unwrap();
            x
        };
        // H is symmetric and positive semi-definite, and constants are in its null space.
        prop_assert!(dot(&product, &tangent) >= 0.0);
        prop_assert!(F64.row_sums(&product).iter().all(|sum| sum.abs() < 1e-12));
        assert_tangent(Ok(product), gradient);
    }
}

#[test]
fn tangents_of_other_shapes_are_refused() {
    let (x, wide) = (F64.zeros(Shape::new(3, 4)), F64.zeros(Shape::new(3, 5)));
    let gain = F64.zeros(Shape::new(1, 4));
    assert!(F64.layer_norm_jvp(&wide, &x, &gain, 1e-5).is_err());
    assert!(F64.rms_norm_jvp(&x, &x, &F64.zeros(Shape::new(1, 5)), 1e-5).is_err());
    assert!(F64.cross_entropy_curvature(&x, &mut wide.clone()).is_err());
    assert!(F64.gated_jvp(Activation::Silu, &x, &x, &x, &wide).is_err());
    let spec = Attention { heads: 2, kv_heads: 2, head_dim: 2, causal: true, window: None, scale: 1.0 };
    assert!(F64.attention_jvp(&spec, [&x, &x, &x], [&x, &wide, &x], &[segment(0, 3)]).is_err());
}
