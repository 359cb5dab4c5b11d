//! Each backward against finite differences of its forward, in f64.
#![allow(clippy::unwrap_used)]

mod common;

use common::{F64, Gen, assert_close, assert_derivative, dot};
use etymon_tensor::{
    Accumulate, Activation, Backend, CrossEntropy, Label, Matrix, Patches, RotaryStyle, Shape, Transpose,
};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 6] = [
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::Silu,
    Activation::Relu,
    Activation::Tanh,
    Activation::Identity,
];

/// Moves what is near the kink of a ReLU away from it.
fn away_from_zero(x: &Matrix<f64>) -> Matrix<f64> {
    common::table(x.rows(), x.cols(), |i, j| {
        let value = common::at(x, i, j);
        if value.abs() < 0.02 { value + 0.05 } else { value }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn linear_agrees_with_finite_differences(rows in 1..9_usize, d_in in 1..20_usize, d_out in 1..20_usize, seed: u64) {
        let mut random = Gen(seed);
        let (x, w) = (random.matrix(rows, d_in), random.matrix(d_out, d_in));
        let (b, dy) = (random.matrix(1, d_out), random.matrix(rows, d_out));
        let value = |x: &_, w: &_, b: &_| dot(&F64.linear_forward(x, w, Some(b)).unwrap(), &dy);

        assert_derivative("x", |x| value(x, &w, &b), &x, &F64.linear_backward(&dy, &w).unwrap());
        let dw = F64.matmul(&dy, Transpose::Yes, &x, Transpose::No).unwrap();
        assert_derivative("weight", |w| value(&x, w, &b), &w, &dw);
        let mut db = F64.zeros(Shape::new(1, d_out));
        F64.add_column_sums(&dy, &mut db).unwrap();
        assert_derivative("bias", |b| value(&x, &w, b), &b, &db);
    }

    #[test]
    fn embedding_agrees_with_finite_differences(rows in 1..12_usize, n in 1..6_usize, d in 1..9_usize, seed: u64) {
        let mut random = Gen(seed);
        let (table, dy, ids) = (random.matrix(n, d), random.matrix(rows, d), random.ids(rows, n));
        let mut dtable = F64.zeros(Shape::new(n, d));
        F64.embedding_backward(&dy, &ids, &mut dtable).unwrap();
        let value = |t: &_| dot(&F64.embedding_forward(t, &ids).unwrap(), &dy);
        assert_derivative("table", value, &table, &dtable);
    }

    #[test]
    fn layer_norm_agrees_with_finite_differences(rows in 1..80_usize, d in 2..40_usize, seed: u64) {
        let mut random = Gen(seed);
        let (x, dy) = (random.matrix(rows, d), random.matrix(rows, d));
        let (gain, shift) = (random.matrix(1, d), random.matrix(1, d));
        let value = |x: &_, g: &_, s: &_| dot(&F64.layer_norm_forward(x, g, s, 1e-2).unwrap(), &dy);
        let (mut dgain, mut dshift) = (F64.zeros(Shape::new(1, d)), F64.zeros(Shape::new(1, d)));
        let dx = F64.layer_norm_backward(&dy, &x, &gain, 1e-2, Some((&mut dgain, &mut dshift))).unwrap();
        assert_derivative("x", |x| value(x, &gain, &shift), &x, &dx);
        assert_derivative("gain", |g| value(&x, g, &shift), &gain, &dgain);
        assert_derivative("shift", |s| value(&x, &gain, s), &shift, &dshift);
        assert_close(&F64.layer_norm_backward(&dy, &x, &gain, 1e-2, None).unwrap(), &dx, 0.0);
    }

    #[test]
    fn rms_norm_agrees_with_finite_differences(rows in 1..80_usize, d in 1..40_usize, seed: u64) {
        let mut random = Gen(seed);
        let (x, dy, gain) = (random.matrix(rows, d), random.matrix(rows, d), random.matrix(1, d));
        let value = |x: &_, g: &_| dot(&F64.rms_norm_forward(x, g, 1e-2).unwrap(), &dy);
        let mut dgain = F64.zeros(Shape::new(1, d));
        let dx = F64.rms_norm_backward(&dy, &x, &gain, 1e-2, Some(&mut dgain)).unwrap();
        assert_derivative("x", |x| value(x, &gain), &x, &dx);
        assert_derivative("gain", |g| value(&x, g), &gain, &dgain);
        assert_close(&F64.rms_norm_backward(&dy, &x, &gain, 1e-2, None).unwrap(), &dx, 0.0);
    }

    #[test]
    fn activations_agree_with_finite_differences(rows in 1..6_usize, d in 1..50_usize, seed: u64) {
        let mut random = Gen(seed);
        let (x, dy) = (away_from_zero(&random.matrix(rows, d)), random.matrix(rows, d));
        for kind in ACTIVATIONS {
            let dx = F64.activation_backward(kind, &dy, &x).unwrap();
            assert_derivative(&format!("{kind:?}"), |x| dot(&F64.activation_forward(kind, x), &dy), &x, &dx);
        }
    }

    #[test]
    fn gated_units_agree_with_finite_differences(rows in 1..6_usize, d in 1..50_usize, seed: u64) {
        let mut random = Gen(seed);
        let (gate, up) = (away_from_zero(&random.matrix(rows, d)), random.matrix(rows, d));
        let dy = random.matrix(rows, d);
        for kind in ACTIVATIONS {
            let value = |g: &_, u: &_| dot(&F64.gated_forward(kind, g, u).unwrap(), &dy);
            let (dgate, dup) = F64.gated_backward(kind, &dy, &gate, &up).unwrap();
            assert_derivative("gate", |g| value(g, &up), &gate, &dgate);
            assert_derivative("up", |u| value(&gate, u), &up, &dup);
        }
    }

    #[test]
    fn rotary_agrees_with_finite_differences_and_its_inverse_undoes_it(
        rows in 1..10_usize, heads in 1..4_usize, pairs in 1..5_usize, rest in 0..3_usize, seed: u64,
    ) {
        let mut random = Gen(seed);
        let head_dim = 2 * pairs + rest;
        let (x, dy) = (random.matrix(rows, heads * head_dim), random.matrix(rows, heads * head_dim));
        let positions = random.ids(rows, 100);
        let frequencies: Vec<f64> = (0..pairs).map(|i| 100_f64.powf(-(i as f64) / pairs as f64)).collect();
        for style in [RotaryStyle::Halves, RotaryStyle::Interleaved] {
            let turn = |x: &Matrix<f64>, inverse| {
                let mut y = x.clone();
                F64.rotary(&mut y, head_dim, &positions, &frequencies, style, inverse).unwrap();
                y
            };
            assert_derivative("x", |x| dot(&turn(x, false), &dy), &x, &turn(&dy, true));
            assert_close(&turn(&turn(&x, false), true), &x, 1e-14);
        }
    }

    #[test]
    fn cross_entropy_agrees_with_finite_differences(rows in 1..6_usize, classes in 2..70_usize, seed: u64) {
        let mut random = Gen(seed);
        let logits = random.matrix::<f64>(rows, classes);
        let labels: Vec<Label> = random.ids(rows, classes).into_iter().map(Label::Class).collect();
        for kind in [CrossEntropy::Loss, CrossEntropy::LogLikelihood, CrossEntropy::Margin] {
            let value = |x: &Matrix<f64>| F64.cross_entropy(kind, &mut x.clone(), &labels).unwrap().iter().sum();
            let mut gradient = logits.clone();
            F64.cross_entropy(kind, &mut gradient, &labels).unwrap();
            assert_derivative(&format!("{kind:?}"), value, &logits, &gradient);
        }
    }

    #[test]
    fn kl_divergence_agrees_with_finite_differences(rows in 1..6_usize, classes in 2..70_usize, seed: u64) {
        let mut random = Gen(seed);
        let (logits, reference) = (random.matrix::<f64>(rows, classes), random.matrix(rows, classes));
        let mut gradient = logits.clone();
        let values = F64.kl_divergence(&mut gradient, &reference).unwrap();
        let value = |x: &Matrix<f64>| F64.kl_divergence(&mut x.clone(), &reference).unwrap().iter().sum();
        assert_derivative("logits", value, &logits, &gradient);
        for (t, value) in values.iter().enumerate() {
            let log_p = |x: &Matrix<f64>| {
                let total: f64 = (0..classes).map(|j| common::at(x, t, j).exp()).sum();
                (0..classes).map(|j| common::at(x, t, j) - total.ln()).collect::<Vec<_>>()
            };
            let plain: f64 = log_p(&reference).iter().zip(log_p(&logits)).map(|(q, p)| q.exp() * (q - p)).sum();
            prop_assert!((value - plain).abs() < 1e-12 * (1.0 + plain), "{value} against {plain}");
        }
    }

    #[test]
    fn squared_error_agrees_with_finite_differences(rows in 1..6_usize, d in 1..30_usize, seed: u64) {
        let mut random = Gen(seed);
        let (x, target) = (random.matrix(rows, d), random.matrix(rows, d));
        let (values, gradient) = F64.squared_error(&x, &target).unwrap();
        prop_assert_eq!(values.len(), rows);
        assert_derivative("x", |x| F64.squared_error(x, &target).unwrap().0.iter().sum(), &x, &gradient);
    }

    #[test]
    fn patches_and_pools_agree_with_finite_differences(
        (n, channels, height, width) in (1..4_usize, 1..4_usize, 3..8_usize, 3..8_usize),
        (kernel, stride, padding) in (1..4_usize, 1..4_usize, 0..3_usize),
        seed: u64,
    ) {
        let mut random = Gen(seed);
        let x = random.matrix::<f64>(n * height * width, channels);
        let at = Patches { channels, height, width, kernel, stride, padding };
        let dy = random.matrix(n * at.positions(), at.columns());
        let dx = F64.im2col_backward(&at, &dy).unwrap();
        assert_derivative("patches", |x| dot(&F64.im2col_forward(&at, x).unwrap(), &dy), &x, &dx);

        let at = Patches { padding: 0, ..at };
        let dy = random.matrix(n * at.positions(), channels);
        let dx = F64.average_pool_backward(&at, &dy).unwrap();
        assert_derivative("average", |x| dot(&F64.average_pool_forward(&at, x).unwrap(), &dy), &x, &dx);
        // Distinct values, further apart than the steps of the differences.
        let ranks = common::table(n * height * width, channels, |i, j| ((i * channels + j) * 7919 % 10007) as f64 / 50.0);
        let dx = F64.max_pool_backward(&at, &dy, &ranks).unwrap();
        assert_derivative("max", |x| dot(&F64.max_pool_forward(&at, x).unwrap(), &dy), &ranks, &dx);

        let turned = F64.transpose_parts(&x, height * width).unwrap();
        assert_close(&F64.transpose_parts(&turned, channels).unwrap(), &x, 0.0);
        let dy = random.matrix(n * channels, height * width);
        let value = |x: &_| dot(&F64.transpose_parts(x, height * width).unwrap(), &dy);
        assert_derivative("transpose", value, &x, &F64.transpose_parts(&dy, channels).unwrap());
    }
}

/// Element (image, channel, y, x) of images `[n · height · width, channels]`, 0 in the padding.
fn pixel(x: &Matrix<f64>, at: &Patches, image: usize, channel: usize, y: isize, column: isize) -> f64 {
    let inside = (0..at.height as isize).contains(&y) && (0..at.width as isize).contains(&column);
    let row = || image * at.pixels() + y as usize * at.width + column as usize;
    if inside { common::at(x, row(), channel) } else { 0.0 }
}

#[test]
fn patches_lie_as_the_weight_of_a_convolution_does_and_pools_see_their_windows() {
    let mut random = Gen(11);
    let at = Patches { channels: 2, height: 5, width: 6, kernel: 3, stride: 2, padding: 1 };
    let x = random.matrix::<f64>(3 * 30, 2);
    let element = |at: &Patches, row: usize, channel: usize, ky: usize, kx: usize| {
        let (image, position) = (row / at.positions(), row % at.positions());
        let along = |place: usize, k: usize| (place * at.stride + k) as isize - at.padding as isize;
        let [_, across] = at.out();
        pixel(&x, at, image, channel, along(position / across, ky), along(position % across, kx))
    };
    assert_eq!(at.out(), [3, 3]);
    let plain = common::table(27, 18, |i, j| element(&at, i, j / 9, j / 3 % 3, j % 3));
    assert_close(&F64.im2col_forward(&at, &x).unwrap(), &plain, 0.0);

    let pool = Patches { kernel: 2, padding: 0, ..at };
    assert_eq!(pool.out(), [2, 3]);
    let window = |i, c| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(ky, kx)| element(&pool, i, c, ky, kx));
    let largest = common::table(18, 2, |i, c| window(i, c).into_iter().fold(f64::MIN, f64::max));
    assert_close(&F64.max_pool_forward(&pool, &x).unwrap(), &largest, 0.0);
    let mean = common::table(18, 2, |i, c| window(i, c).iter().sum::<f64>() / 4.0);
    assert_close(&F64.average_pool_forward(&pool, &x).unwrap(), &mean, 1e-15);
}

#[test]
fn windows_that_do_not_fit_their_images_are_refused() {
    let at = Patches { channels: 2, height: 3, width: 4, kernel: 2, stride: 2, padding: 0 };
    let x = F64.zeros(Shape::new(24, 2));
    assert!(F64.im2col_forward(&at, &x).is_ok());
    assert!(F64.im2col_forward(&at, &F64.zeros(Shape::new(23, 2))).is_err());
    assert!(F64.im2col_forward(&at, &F64.zeros(Shape::new(24, 3))).is_err());
    assert!(F64.im2col_forward(&Patches { kernel: 4, ..at }, &x).is_err());
    assert!(F64.im2col_forward(&Patches { stride: 0, ..at }, &x).is_err());
    assert!(F64.max_pool_forward(&Patches { padding: 1, ..at }, &x).is_err());
    assert!(F64.max_pool_backward(&at, &x, &x).is_err());
    assert!(F64.average_pool_backward(&at, &F64.zeros(Shape::new(5, 3))).is_err());
    assert!(F64.transpose_parts(&x, 5).is_err());
}

#[test]
fn products_accumulate_scaled_and_transposed() {
    let mut random = Gen(7);
    let (a, b) = (random.matrix::<f64>(33, 17), random.matrix::<f64>(33, 9));
    let start = random.matrix::<f64>(17, 9);
    let mut out = start.clone();
    F64.matmul_into(-0.5, &a, Transpose::Yes, &b, Transpose::No, Accumulate::Add, &mut out).unwrap();
    let plain = common::table(17, 9, |i, j| {
        common::at(&start, i, j) - 0.5 * (0..33).map(|t| common::at(&a, t, i) * common::at(&b, t, j)).sum::<f64>()
    });
    assert_close(&out, &plain, 1e-13);
    F64.matmul_into(2.0, &b, Transpose::Yes, &a, Transpose::No, Accumulate::Replace, &mut F64.zeros(Shape::new(9, 17)))
        .unwrap();
    let product = F64.matmul(&b, Transpose::Yes, &a, Transpose::No).unwrap();
    let transposed = F64.matmul(&a, Transpose::Yes, &b, Transpose::No).unwrap();
    assert_close(&product, &common::table(9, 17, |i, j| common::at(&transposed, j, i)), 1e-14);
}

#[test]
fn an_empty_inner_dimension_gives_zeros() {
    let (a, b) = (F64.zeros(Shape::new(5, 0)), F64.zeros(Shape::new(0, 4)));
    let product = F64.matmul(&a, Transpose::No, &b, Transpose::No).unwrap();
    assert!(product.as_slice().iter().all(|&x| x == 0.0));
    assert_eq!(product.shape(), Shape::new(5, 4));
}
