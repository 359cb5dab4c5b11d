//! Results in f32 against f64, and with different numbers of threads.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Gen, assert_close, cast, segment, with_threads};
use etymon_tensor::{
    Activation, Attention, Backend, Cpu, CrossEntropy, Folds, Label, Matrix, RotaryStyle, Scalar, Shape, Transpose,
};

const ATTENTION: Attention =
    Attention { heads: 6, kv_heads: 3, head_dim: 32, causal: true, window: None, scale: 0.176 };

/// Every operation on matrices big enough to be cut up and run in parallel.
fn everything<T: Scalar>() -> Vec<(&'static str, Matrix<T>)> {
    let mut out = Vec::new();
    operations(&mut out);
    folds(&mut out);
    out
}

fn numbers<T: Scalar>(values: &[f64]) -> Matrix<T> {
    common::of(1, values.len(), values)
}

fn operations<T: Scalar>(out: &mut Vec<(&'static str, Matrix<T>)>) {
    let b = Cpu::<T>::new();
    let mut random = Gen(5);
    let (x, dy) = (random.matrix::<T>(300, 192), random.matrix::<T>(300, 192));
    let (w, bias) = (random.matrix::<T>(250, 192), random.matrix::<T>(1, 250));
    let (gain, shift) = (random.matrix::<T>(1, 192), random.matrix::<T>(1, 192));
    out.push(("linear", b.linear_forward(&x, &w, Some(&bias)).unwrap()));
    out.push(("matmul", b.matmul(&dy, Transpose::Yes, &x, Transpose::No).unwrap()));
    out.push(("dot", numbers(&[b.dot(&x, &x).unwrap()])));
    let mut sums = b.zeros(Shape::new(1, 192));
    b.add_column_sums(&x, &mut sums).unwrap();
    out.push(("column sums", sums));
    out.push(("layer norm", b.layer_norm_forward(&x, &gain, &shift, 1e-5).unwrap()));
    let (mut dgain, mut dshift) = (b.zeros(Shape::new(1, 192)), b.zeros(Shape::new(1, 192)));
    let dparams = Some((&mut dgain, &mut dshift));
    out.push(("layer norm backward", b.layer_norm_backward(&dy, &x, &gain, 1e-5, dparams).unwrap()));
    out.push(("dgain", dgain));
    out.push(("dshift", dshift));
    out.push(("rms norm", b.rms_norm_forward(&x, &gain, 1e-5).unwrap()));
    out.push(("rms norm backward", b.rms_norm_backward(&dy, &x, &gain, 1e-5, None).unwrap()));
    for kind in [Activation::GeluTanh, Activation::GeluErf, Activation::Silu, Activation::Relu, Activation::Tanh] {
        out.push(("activation", b.activation_forward(kind, &x)));
        out.push(("activation backward", b.activation_backward(kind, &dy, &x).unwrap()));
        out.push(("gated backward", b.gated_backward(kind, &dy, &x, &dy).unwrap().0));
    }
    let mut turned = x.clone();
    let (positions, frequencies) = (random.ids(300, 300), [1.0, 0.1, 0.01]);
    b.rotary(&mut turned, 32, &positions, &frequencies, RotaryStyle::Halves, false).unwrap();
    out.push(("rotary", turned));
    let (k, v) = (random.matrix::<T>(300, 96), random.matrix::<T>(300, 96));
    let segments = [segment(0, 130), segment(135, 165)];
    out.push(("attention", b.attention_forward(&ATTENTION, &x, &k, &v, &segments).unwrap()));
    let (dq, dk, dv) = b.attention_backward(&ATTENTION, &dy, &x, &k, &v, &segments).unwrap();
    out.extend([("dq", dq), ("dk", dk), ("dv", dv)]);
    let mut logits = x.clone();
    let labels: Vec<Label> = random.ids(300, 192).into_iter().map(Label::Class).collect();
    out.push(("loss", numbers(&b.cross_entropy(CrossEntropy::Loss, &mut logits, &labels).unwrap())));
    out.push(("dlogits", logits));
    let mut table = b.zeros(Shape::new(7, 192));
    b.embedding_backward(&dy, &random.ids(300, 7), &mut table).unwrap();
    out.push(("dtable", table));
}

fn folds<T: Scalar>(out: &mut Vec<(&'static str, Matrix<T>)>) {
    let b = Cpu::<T>::new();
    let mut random = Gen(6);
    let (dout, input) = (random.matrix::<T>(120, 200), random.matrix::<T>(120, 130));
    let segments = [segment(0, 40), segment(40, 30), segment(70, 50)];
    let sums = |rows, cols| b.sums(Shape::new(rows, cols), vec![0.0; rows * cols]).unwrap();
    let (mut covariance, mut acc) = (sums(200, 200), sums(200, 130));
    b.syrk_accumulate(&dout, &mut covariance).unwrap();
    let lower = common::table(200, 200, |i, j| if j <= i { common::at(&covariance, i, j) } else { 0.0 });
    out.push(("syrk", cast(&lower)));
    b.square_accumulate(&dout, &input, &segments, &mut acc).unwrap();
    let acc = cast(&acc);
    out.push(("weighted", numbers(&b.weighted_squares(&dout, &input, &segments, &acc).unwrap())));
    out.push(("squares", acc));
    let queries = random.matrix::<T>(5, 200 * 130);
    out.push(("dots", b.example_dots(&dout, &input, &segments, &queries).unwrap()));
    out.push(("gradients", b.example_gradients(&dout, &input, &segments).unwrap()));
}

#[test]
fn results_are_the_same_with_one_thread_and_with_three() {
    let (one, three) = (with_threads(1, everything::<f32>), with_threads(3, everything::<f32>));
    for ((name, a), (_, b)) in one.iter().zip(&three) {
        assert!(a.as_slice() == b.as_slice(), "{name} depends on the number of threads");
    }
}

#[test]
fn single_precision_follows_double_precision() {
    for ((_, single), (_, double)) in everything::<f32>().iter().zip(&everything::<f64>()) {
        assert_close(single, double, 3e-6);
    }
}
