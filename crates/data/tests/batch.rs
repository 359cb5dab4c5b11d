//! Stacking examples.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;

use common::tokens;
use etymon_data::{Batch, Content, DataError, Example, ExampleIndex, Input, Padding, RowRange, Target};

fn range(start: usize, len: usize) -> RowRange {
    RowRange { start, len }
}

fn row(index: u64, values: &[f32], target: Target) -> Example {
    Example { content: Content::Features { values: values.to_vec(), target }, ..tokens(index, &[], 1) }
}

#[test]
fn sequences_are_stacked_one_after_the_other() {
    let examples = [tokens(4, &[10, 11, 12], 1), tokens(9, &[20, 21, 22, 23], 2)];
    let batch = Batch::stack(&examples, Padding::None).unwrap();
    assert_eq!(batch.indices, [ExampleIndex(4), ExampleIndex(9)]);
    assert_eq!((batch.n_rows(), batch.n_examples(), batch.n_loss_rows()), (5, 2, 4));
    let expected = Input::Tokens {
        ids: vec![10, 11, 20, 21, 22],
        positions: vec![0, 1, 0, 1, 2],
        segments: vec![range(0, 2), range(2, 3)],
        loss_rows: vec![0, 1, 3, 4],
        labels: vec![11, 12, 22, 23],
        loss_segments: vec![range(0, 2), range(2, 2)],
    };
    assert_eq!(batch.input, expected);
}

#[test]
fn padding_adds_rows_that_belong_to_no_segment() {
    let examples = [tokens(0, &[10, 11, 12], 1), tokens(1, &[20, 21, 22, 23], 2)];
    let batch = Batch::stack(&examples, Padding::To(4)).unwrap();
    let expected = Input::Tokens {
        ids: vec![10, 11, 0, 0, 20, 21, 22, 0],
        positions: vec![0, 1, 0, 0, 0, 1, 2, 0],
        segments: vec![range(0, 2), range(4, 3)],
        loss_rows: vec![0, 1, 5, 6],
        labels: vec![11, 12, 22, 23],
        loss_segments: vec![range(0, 2), range(2, 2)],
    };
    assert_eq!(batch.input, expected);
    assert_eq!(batch.n_rows(), 8);
    let short = Batch::stack(&examples, Padding::To(2));
    assert!(matches!(short, Err(DataError::Padding { rows: 3, padding: 2, .. })));
}

#[test]
fn rows_of_features_are_stacked_with_their_targets() {
    let targets = [Target::Class(3), Target::Class(0)];
    let examples = [row(0, &[1.0, 2.0], targets[0].clone()), row(1, &[3.0, 4.0], targets[1].clone())];
    let batch = Batch::stack(&examples, Padding::To(7)).unwrap();
    assert_eq!((batch.n_rows(), batch.n_loss_rows()), (2, 2));
    let expected = Input::Features { values: vec![1.0, 2.0, 3.0, 4.0], n_features: 2, targets: targets.to_vec() };
    assert_eq!(batch.input, expected);
}

#[test]
fn what_cannot_be_stacked_is_refused() {
    let stack = |examples: &[Example]| Batch::stack(examples, Padding::None);
    let features = row(0, &[1.0], Target::Class(0));
    assert!(matches!(stack(&[]), Err(DataError::EmptyBatch)));
    assert!(matches!(stack(&[features.clone(), tokens(1, &[1, 2], 1)]), Err(DataError::MixedBatch { .. })));
    assert!(matches!(stack(&[tokens(1, &[1, 2], 1), features.clone()]), Err(DataError::MixedBatch { .. })));
    let wide = row(1, &[1.0, 2.0], Target::Class(0));
    assert!(matches!(stack(&[features, wide]), Err(DataError::FeatureCount { expected: 1, got: 2, .. })));
    for example in [tokens(0, &[1], 1), tokens(0, &[], 1), tokens(0, &[1, 2], 0), tokens(0, &[1, 2], 2)] {
        assert!(matches!(stack(&[example]), Err(DataError::LossStart { .. })));
    }
}
