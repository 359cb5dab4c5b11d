//! Operands that do not fit are errors, found before anything is computed.
#![allow(clippy::unwrap_used)]

mod common;

use common::{F64, segment};
use etymon_tensor::{
    Accumulate, Activation, Attention, Backend, CrossEntropy, Folds, Label, Matrix, Result, RotaryStyle, Shape,
    TensorError, Transpose,
};

fn zeros(rows: usize, cols: usize) -> Matrix<f64> {
    F64.zeros(Shape::new(rows, cols))
}

fn assert_shape<R>(what: &str, result: Result<R>) {
    assert!(matches!(result, Err(TensorError::Shape { .. })), "{what} accepts operands that do not fit");
}

fn assert_index<R>(what: &str, result: Result<R>) {
    assert!(matches!(result, Err(TensorError::Index { .. })), "{what} accepts an index outside of its table");
}

fn assert_config<R>(what: &str, result: Result<R>) {
    assert!(matches!(result, Err(TensorError::Config { .. })), "{what} accepts settings that do not fit");
}

fn assert_length<R>(what: &str, result: Result<R>) {
    assert!(matches!(result, Err(TensorError::Length { .. })), "{what} accepts data of the wrong length");
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    use Transpose::{No, Yes};
    let (a, b, row) = (zeros(3, 4), zeros(3, 5), zeros(1, 4));
    assert_shape("scatter_rows", F64.scatter_rows(&a, &[0], 3));
    assert_shape("write_rows", F64.write_rows(&mut a.clone(), 0, &b));
    assert_shape("concat_cols", F64.concat_cols(&[&a, &row]));
    assert_shape("axpy", F64.axpy(1.0, &a, &mut b.clone()));
    assert_shape("multiply", F64.multiply(&a, &b));
    assert_shape("divide_shifted", F64.divide_shifted(&a, &b, 0.0));
    assert_shape("dot", F64.dot(&a, &b));
    assert_shape("matmul", F64.matmul(&a, No, &b, No));
    assert_shape("matmul", F64.matmul(&a, Yes, &b, Yes));
    let out = F64.matmul_into(1.0, &a, Yes, &b, No, Accumulate::Add, &mut zeros(5, 4));
    assert_shape("matmul_into", out);
    assert_shape("add_column_sums", F64.add_column_sums(&a, &mut zeros(1, 3)));
    assert_shape("linear_forward", F64.linear_forward(&a, &zeros(2, 3), None));
    assert_shape("linear_forward", F64.linear_forward(&a, &zeros(2, 4), Some(&row)));
    assert_shape("linear_backward", F64.linear_backward(&a, &zeros(3, 4)));
    assert_shape("embedding_backward", F64.embedding_backward(&a, &[0], &mut a.clone()));
    assert_shape("layer_norm_forward", F64.layer_norm_forward(&b, &row, &row, 1e-5));
    assert_shape("layer_norm_backward", F64.layer_norm_backward(&b, &a, &row, 1e-5, None));
    let dparams = Some((&mut zeros(1, 4), &mut zeros(1, 5)));
    assert_shape("layer_norm_backward", F64.layer_norm_backward(&a, &a, &row, 1e-5, dparams));
    assert_shape("rms_norm_forward", F64.rms_norm_forward(&b, &row, 1e-5));
    assert_shape("rms_norm_backward", F64.rms_norm_backward(&a, &a, &row, 1e-5, Some(&mut zeros(2, 4))));
    assert_shape("activation_backward", F64.activation_backward(Activation::Silu, &a, &b));
    assert_shape("gated_forward", F64.gated_forward(Activation::Silu, &a, &b));
    assert_shape("gated_backward", F64.gated_backward(Activation::Silu, &b, &a, &a));
    assert_shape("squared_error", F64.squared_error(&a, &b));
}

#[test]
fn ids_and_ranges_outside_of_their_table_are_errors() {
    let a = zeros(3, 4);
    assert_index("gather_rows", F64.gather_rows(&a, &[0, 3]));
    assert_index("scatter_rows", F64.scatter_rows(&a, &[0, 1, 2], 2));
    assert_index("slice_rows", F64.slice_rows(&a, 2, 2));
    assert_index("slice_rows", F64.slice_rows(&a, usize::MAX, 2));
    assert_index("slice_cols", F64.slice_cols(&a, 5, 0));
    assert_index("write_rows", F64.write_rows(&mut a.clone(), 1, &a));
    assert_index("embedding_forward", F64.embedding_forward(&a, &[3]));
    assert_index("embedding_backward", F64.embedding_backward(&zeros(1, 4), &[3], &mut a.clone()));
    let labels = [Label::Class(0), Label::Class(4), Label::Draw(0.5)];
    assert_index("cross_entropy", F64.cross_entropy(CrossEntropy::Loss, &mut a.clone(), &labels));
    assert_index("cross_entropy", F64.cross_entropy(CrossEntropy::Loss, &mut zeros(1, 0), &[Label::Draw(0.0)]));
    assert_index("segment_sums", F64.segment_sums(&a, &[segment(1, 3)]));
    assert_index("segment_sums", F64.segment_sums(&a, &[segment(usize::MAX, 1)]));
}

#[test]
fn data_of_the_wrong_length_is_an_error() {
    assert_length("upload", F64.upload(Shape::new(2, 2), &[1.0_f32; 3]));
    let turned = F64.rotary(&mut zeros(3, 4), 4, &[0, 1], &[1.0], RotaryStyle::Halves, false);
    assert_length("rotary", turned);
    assert_length("cross_entropy", F64.cross_entropy(CrossEntropy::Loss, &mut zeros(2, 2), &[Label::Class(0)]));
}

#[test]
fn settings_that_do_not_fit_are_errors() {
    let turn = |head_dim, frequencies: &[f64]| {
        F64.rotary(&mut zeros(1, 6), head_dim, &[0], frequencies, RotaryStyle::Interleaved, false)
    };
    assert_config("rotary", turn(0, &[]));
    assert_config("rotary", turn(4, &[1.0]));
    assert_config("rotary", turn(2, &[1.0, 0.5]));
    assert_config("margin", F64.cross_entropy(CrossEntropy::Margin, &mut zeros(1, 1), &[Label::Class(0)]));
}

#[test]
fn attention_checks_its_operands() {
    let good = Attention { heads: 4, kv_heads: 2, head_dim: 2, causal: true, window: None, scale: 1.0 };
    let (q, kv) = (zeros(5, 8), zeros(5, 4));
    let run = |spec: Attention, segments: &[_]| F64.attention_forward(&spec, &q, &kv, &kv, segments);
    assert!(run(good, &[segment(0, 2), segment(2, 3)]).is_ok());
    assert_config("kv_heads", run(Attention { kv_heads: 3, ..good }, &[]));
    assert_config("no heads", run(Attention { heads: 0, ..good }, &[]));
    assert_config("window", run(Attention { window: Some(2), causal: false, ..good }, &[]));
    assert_config("window", run(Attention { window: Some(0), ..good }, &[]));
    assert_config("overlap", run(good, &[segment(2, 3), segment(0, 3)]));
    assert_index("segment", run(good, &[segment(4, 2)]));
    assert_shape("heads", run(Attention { heads: 2, ..good }, &[]));
    assert_shape("v", F64.attention_forward(&good, &q, &kv, &q, &[]));
    assert_shape("dy", F64.attention_backward(&good, &kv, &q, &kv, &kv, &[]));
}

#[test]
fn folds_check_their_operands() {
    let (dout, input) = (zeros(6, 3), zeros(6, 4));
    let all = [segment(0, 6)];
    assert_shape("syrk_accumulate", F64.syrk_accumulate(&dout, &mut zeros(3, 4)));
    assert_shape("add_squares", F64.add_squares(&dout, &mut zeros(9, 9)));
    assert_shape("example_gradients", F64.example_gradients(&dout, &zeros(5, 4), &all));
    assert_index("example_gradients", F64.example_gradients(&dout, &input, &[segment(6, 1)]));
    assert_shape("square_accumulate", F64.square_accumulate(&dout, &input, &all, &mut zeros(4, 3)));
    assert_shape("weighted_squares", F64.weighted_squares(&dout, &input, &all, &zeros(4, 3)));
    assert_shape("example_dots", F64.example_dots(&dout, &input, &all, &zeros(1, 11)));
    assert_shape("token_dots", F64.token_dots(&dout, &input, &zeros(4, 3)));
    assert_shape("low_rank_token_dots", F64.low_rank_token_dots(&dout, &input, &zeros(2, 3), &zeros(3, 4), 1));
    assert_config("low_rank_token_dots", F64.low_rank_token_dots(&dout, &input, &zeros(3, 3), &zeros(3, 4), 2));
}

#[test]
fn messages_name_the_operation_the_operand_and_both_shapes() {
    let message = F64.multiply(&zeros(3, 4), &zeros(3, 5)).unwrap_err().to_string();
    assert_eq!(message, "multiply: operand `y` has shape [3, 5], expected [3, 4]");
}
