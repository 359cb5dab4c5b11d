//! The scalars of cross entropy, and the labels drawn from the model.
#![allow(clippy::unwrap_used)]

mod common;

use common::{F32, F64, Gen, assert_close, assert_numbers_close, at, cast, of};
use etymon_tensor::{Backend, CrossEntropy, Label, Matrix};
use proptest::prelude::*;

fn probabilities(logits: &Matrix<f64>, row: usize) -> Vec<f64> {
    let top = (0..logits.cols()).map(|j| at(logits, row, j)).fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = (0..logits.cols()).map(|j| (at(logits, row, j) - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn scalars_and_gradients_equal_the_plain_softmax(rows in 1..6_usize, classes in 2..90_usize, seed: u64) {
        let mut random = Gen(seed);
        let logits = random.matrix::<f64>(rows, classes);
        let ids = random.ids(rows, classes);
        let labels: Vec<Label> = ids.iter().map(|&c| Label::Class(c)).collect();
        let p: Vec<Vec<f64>> = (0..rows).map(|t| probabilities(&logits, t)).collect();
        let own: Vec<f64> = ids.iter().zip(&p).map(|(&c, p)| p[c as usize]).collect();
        let onehot = |hit| if hit { 1.0 } else { 0.0 };
        for kind in [CrossEntropy::Loss, CrossEntropy::LogLikelihood, CrossEntropy::Margin] {
            let value = |p: f64| match kind {
                CrossEntropy::Loss => -p.ln(),
                CrossEntropy::LogLikelihood => p.ln(),
                CrossEntropy::Margin => p.ln() - (1.0 - p).ln(),
            };
            let slope = |p: f64, own: f64, hit| match kind {
                CrossEntropy::Loss => p - onehot(hit),
                CrossEntropy::LogLikelihood => onehot(hit) - p,
                CrossEntropy::Margin if hit => 1.0,
                CrossEntropy::Margin => -p / (1.0 - own),
            };
            let mut gradient = logits.clone();
            let values = F64.cross_entropy(kind, &mut gradient, &labels).unwrap();
            assert_numbers_close(&values, &own.iter().map(|&p| value(p)).collect::<Vec<_>>(), 1e-12);
            let want = common::table(rows, classes, |t, j| slope(p[t][j], own[t], j == ids[t] as usize));
            assert_close(&gradient, &want, 1e-12);
            let mut single = cast::<f64, f32>(&logits);
            assert_numbers_close(&F32.cross_entropy(kind, &mut single, &labels).unwrap(), &values, 1e-5);
            assert_close(&single, &want, 1e-5);
        }
    }

    #[test]
    fn drawn_labels_invert_the_cumulative_distribution(classes in 1..3000_usize, uniform in 0.0..1.0_f64, seed: u64) {
        let logits = Gen(seed).matrix::<f64>(1, classes);
        let p = probabilities(&logits, 0);
        let mut cumulative = 0.0;
        let class = p.iter().position(|p| { cumulative += p; cumulative > uniform }).unwrap_or(classes - 1);
        let run = |label| {
            let mut gradient = logits.clone();
            let value = F64.cross_entropy(CrossEntropy::Loss, &mut gradient, &[label]).unwrap();
            (value, gradient)
        };
        prop_assert_eq!(run(Label::Draw(uniform)), run(Label::Class(class as u32)));
    }
}

#[test]
fn a_draw_never_takes_a_class_without_probability() {
    let logits = || of::<f32>(1, 4, &[f64::NEG_INFINITY, 0.0, 0.0, f64::NEG_INFINITY]);
    for (uniform, class) in [(0.0, 1), (0.49, 1), (0.51, 2), (0.999_999_999, 2), (1.0, 2)] {
        let mut gradient = logits();
        F32.cross_entropy(CrossEntropy::LogLikelihood, &mut gradient, &[Label::Draw(uniform)]).unwrap();
        assert_eq!(gradient.as_slice().iter().position(|&g| g > 0.0), Some(class), "{uniform}");
    }
}

#[test]
fn a_sure_prediction_keeps_its_small_gradient_and_margin() {
    // 1 − p ≈ e⁻⁴⁰ is far below the resolution of f32 around 1.
    let logits = || of::<f32>(1, 2, &[40.0, 0.0]);
    let mut gradient = logits();
    let loss = F32.cross_entropy(CrossEntropy::Margin, &mut gradient, &[Label::Class(0)]).unwrap();
    assert!((loss[0] - 40.0).abs() < 1e-5);
    assert_eq!(gradient.as_slice(), [1.0, -1.0]);

    let mut gradient = of::<f32>(1, 2, &[12.0, 0.0]);
    let loss = F32.cross_entropy(CrossEntropy::Loss, &mut gradient, &[Label::Class(0)]).unwrap();
    let exact = 1.0 / (1.0 + 12_f64.exp());
    assert!((f64::from(gradient.as_slice()[0]) / -exact - 1.0).abs() < 1e-6);
    assert!((loss[0] / -(-exact).ln_1p() - 1.0).abs() < 1e-6);
}

#[test]
fn squared_error_is_half_of_the_squared_distance() {
    let (values, gradient) =
        F64.squared_error(&of(2, 2, &[1.0, 2.0, 3.0, 4.0]), &of(2, 2, &[0.0, 0.0, 3.0, 6.0])).unwrap();
    assert_eq!(*values, [2.5, 2.0]);
    assert_eq!(gradient.as_slice(), [1.0, 2.0, 0.0, -2.0]);
}
