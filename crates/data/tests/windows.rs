//! Windows of a stream and their batches.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;

use common::tokens;
use etymon_data::{
    Batch, BatchLimits, Batches, DataError, Example, ExampleIndex, Padding, Window, WindowSize, Windows,
};
use proptest::prelude::*;

fn examples(rows: &[usize]) -> Vec<Example> {
    rows.iter().enumerate().map(|(i, &n)| tokens(i as u64, &vec![7; n + 1], 1)).collect()
}

fn windows(examples: &[Example], size: WindowSize, limits: BatchLimits) -> Vec<Window> {
    Windows::new(examples.iter().cloned().map(Ok), size, limits).collect::<Result<_, _>>().unwrap()
}

fn n_rows(examples: &[Example]) -> usize {
    examples.iter().map(Example::n_rows).sum()
}

/// Rows of each batch.
fn batch_rows(window: &Window) -> Vec<usize> {
    window.batches.iter().map(|part| part.batch.n_rows()).collect()
}

fn sizes() -> impl Strategy<Value = WindowSize> {
    prop_oneof![(0usize..30).prop_map(WindowSize::Examples), (0usize..6).prop_map(WindowSize::Batches)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn windows_keep_the_order_and_their_batches_hold_each_example_once(
        rows in prop::collection::vec(1usize..40, 1..90),
        size in sizes(),
        max_rows in 1usize..90,
        max_examples in 1usize..9,
    ) {
        let examples = examples(&rows);
        let limits = BatchLimits { max_rows, max_examples };
        let windows = windows(&examples, size, limits);
        prop_assert_eq!(windows.iter().flat_map(|w| w.examples.clone()).collect::<Vec<_>>(), examples);
        for window in &windows {
            let places: Vec<usize> = window.batches.iter().flat_map(|part| part.places.clone()).collect();
            let mut by_length: Vec<usize> = (0..window.examples.len()).collect();
            by_length.sort_by_key(|&i| (window.examples[i].n_rows(), i));
            prop_assert_eq!(places, by_length);
            for part in &window.batches {
                let members: Vec<Example> = part.places.iter().map(|&i| window.examples[i].clone()).collect();
                prop_assert_eq!(&part.batch, &Batch::stack(&members, Padding::None).unwrap());
                prop_assert!(members.len() <= max_examples);
                prop_assert!(members.len() == 1 || n_rows(&members) <= max_rows);
            }
        }
    }

    #[test]
    fn a_window_of_so_many_examples_is_a_shard_of_the_stream(
        rows in prop::collection::vec(1usize..40, 1..90),
        size in 1usize..40,
    ) {
        let limits = BatchLimits { max_rows: 50, max_examples: 9 };
        let windows = windows(&examples(&rows), WindowSize::Examples(size), limits);
        let lengths: Vec<usize> = windows.iter().map(|w| w.examples.len()).collect();
        let expected: Vec<usize> = rows.chunks(size).map(<[usize]>::len).collect();
        prop_assert_eq!(lengths, expected);
    }

    #[test]
    fn a_window_of_batches_ends_only_when_the_next_example_does_not_fit(
        rows in prop::collection::vec(1usize..40, 1..90),
        batches in 1usize..6,
        max_rows in 1usize..90,
        max_examples in 1usize..9,
    ) {
        let limits = BatchLimits { max_rows, max_examples };
        let windows = windows(&examples(&rows), WindowSize::Batches(batches), limits);
        for (window, next) in windows.iter().zip(windows.iter().skip(1)) {
            let (n, rows) = (window.examples.len(), n_rows(&window.examples));
            prop_assert!(n == 1 || (rows <= batches * max_rows && n <= batches * max_examples));
            let full = n == batches * max_examples || rows + next.examples[0].n_rows() > batches * max_rows;
            prop_assert!(full, "a window of {} examples and {} rows", n, rows);
        }
    }

    #[test]
    fn a_window_of_one_batch_is_a_batch_of_the_stream(
        rows in prop::collection::vec(1usize..40, 1..90),
        max_rows in 1usize..90,
        max_examples in 1usize..9,
    ) {
        let examples = examples(&rows);
        let limits = BatchLimits { max_rows, max_examples };
        let windows = windows(&examples, WindowSize::Batches(1), limits);
        prop_assert!(windows.iter().all(|w| w.batches.len() == 1));
        let groups: Vec<Vec<Example>> = Batches::new(examples.into_iter().map(Ok), limits).map(|b| b.unwrap()).collect();
        prop_assert_eq!(windows.into_iter().map(|w| w.examples).collect::<Vec<_>>(), groups);
    }
}

#[test]
fn batches_of_a_window_share_its_rows_evenly() {
    let limits = BatchLimits { max_rows: 300, max_examples: usize::MAX };
    let window = Window::divide(examples(&[10; 100]), limits).unwrap();
    assert_eq!(batch_rows(&window), [250; 4]);
    let window = Window::divide(examples(&[1, 120, 2, 120, 3, 120, 4, 400]), limits).unwrap();
    assert_eq!(batch_rows(&window), [250, 120, 400], "three are the fewest in this order");
    assert_eq!(window.batches[0].places, [0, 2, 4, 6, 1, 3]);
}

#[test]
fn many_small_examples_end_a_window_before_its_rows_do_but_fill_a_batch() {
    let limits = |max_rows| BatchLimits { max_rows, max_examples: usize::MAX };
    let rows = vec![1; 5000];
    let lengths = |max_rows| -> Vec<usize> {
        let windows = windows(&examples(&rows), WindowSize::Batches(4), limits(max_rows));
        windows.iter().map(|w| w.examples.len()).collect()
    };
    assert_eq!(lengths(200), [800, 800, 800, 800, 800, 800, 200]);
    assert_eq!(lengths(1000), [1024, 1024, 1024, 1024, 904]);
    assert_eq!(lengths(2000), [2000, 2000, 1000]);
}

#[test]
fn windows_give_the_examples_before_an_error_first() {
    let error = || DataError::Empty { what: "x".to_owned(), rows_read: 0, skipped: 0 };
    let mut stream: Vec<Result<Example, DataError>> = examples(&[3; 7]).into_iter().map(Ok).collect();
    stream.insert(5, Err(error()));
    let limits = BatchLimits { max_rows: 4, max_examples: 9 };
    let mut windows = Windows::new(stream.into_iter(), WindowSize::Examples(3), limits);
    let mut next = || windows.next().map(|w| w.map(|w| w.examples.len()).map_err(|e| e.to_string()));
    let seen = [next(), next(), next(), next()];
    assert_eq!(seen, [Some(Ok(3)), Some(Ok(2)), Some(Err(error().to_string())), Some(Ok(2))]);
    assert!(next().is_none());
}

#[test]
fn an_example_that_cannot_be_stacked_is_an_error_of_its_window() {
    let limits = BatchLimits { max_rows: 4, max_examples: 9 };
    let bad = tokens(9, &[1, 2, 3], 3);
    let stream = examples(&[1, 1]).into_iter().chain([bad]).map(Ok);
    let windows: Vec<_> = Windows::new(stream, WindowSize::Examples(2), limits).collect();
    assert_eq!(windows[0].as_ref().unwrap().examples[1].index, ExampleIndex(1));
    assert!(matches!(&windows[1], Err(DataError::LossStart { loss_start: 3, .. })));
}
