//! Each primitive of the folds against a plain loop.
#![allow(clippy::unwrap_used)]

mod common;

use common::{F32, F64, Gen, assert_close, assert_numbers_close, at, cast, of, segment, table};
use etymon_tensor::{Backend, Folds, Matrix, Segment, Shape};
use proptest::prelude::*;

struct Batch {
    dout: Matrix<f64>,
    input: Matrix<f64>,
    segments: Vec<Segment>,
    /// D W_n flattened, row by row.
    gradients: Matrix<f64>,
    shape: Shape,
}

impl Batch {
    fn new(random: &mut Gen, lengths: &[usize], gap: usize, d_out: usize, d_in: usize) -> Self {
        let mut row = gap;
        let segments: Vec<Segment> = lengths
            .iter()
            .map(|&len| {
                row += len + gap;
                segment(row - len - gap, len)
            })
            .collect();
        let (dout, input) = (random.matrix::<f64>(row, d_out), random.matrix::<f64>(row, d_in));
        let gradients = table(segments.len(), d_out * d_in, |n, i| {
            segments[n].range().map(|t| at(&dout, t, i / d_in) * at(&input, t, i % d_in)).sum()
        });
        Self { dout, input, segments, gradients, shape: Shape::new(d_out, d_in) }
    }

    fn check(&self, random: &mut Gen, queries: usize) {
        let (shape, n) = (self.shape, self.segments.len());
        let (dout, input) = (cast::<f64, f32>(&self.dout), cast::<f64, f32>(&self.input));
        let (d64, i64, s) = (&self.dout, &self.input, &self.segments[..]);

        assert_close(&F64.example_gradients(d64, i64, s).unwrap(), &self.gradients, 1e-13);
        assert_close(&F32.example_gradients(&dout, &input, s).unwrap(), &self.gradients, 1e-5);

        let start = random.matrix::<f64>(shape.rows, shape.cols);
        let squares = table(shape.rows, shape.cols, |i, j| {
            at(&start, i, j) + (0..n).map(|e| at(&self.gradients, e, i * shape.cols + j).powi(2)).sum::<f64>()
        });
        let (mut acc, mut single) = (start.clone(), start.clone());
        F64.square_accumulate(d64, i64, s, &mut acc).unwrap();
        assert_close(&acc, &squares, 1e-13);
        F32.square_accumulate(&dout, &input, s, &mut single).unwrap();
        assert_close(&single, &squares, 1e-5);

        let weight = table(shape.rows, shape.cols, |i, j| at(&start, i, j).abs());
        let weighted: Vec<f64> = (0..n)
            .map(|e| (0..shape.len()).map(|i| weight.as_slice()[i] * at(&self.gradients, e, i).powi(2)).sum())
            .collect();
        assert_numbers_close(&F64.weighted_squares(d64, i64, s, &weight).unwrap(), &weighted, 1e-13);
        assert_numbers_close(&F32.weighted_squares(&dout, &input, s, &cast(&weight)).unwrap(), &weighted, 1e-5);

        let queries = random.matrix::<f64>(queries, shape.len());
        let dots = table(n, queries.rows(), |e, q| {
            (0..shape.len()).map(|i| at(&queries, q, i) * at(&self.gradients, e, i)).sum()
        });
        assert_close(&F64.example_dots(d64, i64, s, &queries).unwrap(), &dots, 1e-12);
        assert_close(&F32.example_dots(&dout, &input, s, &cast(&queries)).unwrap(), &dots, 1e-4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn folds_over_examples_equal_plain_loops(
        lengths in prop::collection::vec(0..12_usize, 1..6), gap in 0..3_usize,
        d_out in 1..90_usize, d_in in 1..40_usize, queries in 1..7_usize, seed: u64,
    ) {
        // At least one row, so that the norms compared are not zero.
        let lengths = [&lengths[..], &[3]].concat();
        let mut random = Gen(seed);
        Batch::new(&mut random, &lengths, gap, d_out, d_in).check(&mut random, queries);
    }

    #[test]
    fn folds_over_examples_of_one_row_equal_plain_loops(
        examples in 1..20_usize, gap in 0..2_usize,
        d_out in 1..80_usize, d_in in 1..40_usize, queries in 1..5_usize, seed: u64,
    ) {
        let mut random = Gen(seed);
        Batch::new(&mut random, &vec![1; examples], gap, d_out, d_in).check(&mut random, queries);
    }

    #[test]
    fn token_folds_equal_plain_loops(
        rows in 1..40_usize, d_out in 1..30_usize, d_in in 1..30_usize, queries in 1..5_usize, rank in 1..4_usize, seed: u64,
    ) {
        let mut random = Gen(seed);
        let (dout, input) = (random.matrix::<f64>(rows, d_out), random.matrix::<f64>(rows, d_in));
        let query = random.matrix::<f64>(d_out, d_in);
        let bilinear = |p: &Matrix<f64>, t: usize| -> f64 {
            (0..d_out * d_in).map(|i| at(&dout, t, i / d_in) * p.as_slice()[i] * at(&input, t, i % d_in)).sum()
        };
        let dots = F64.token_dots(&dout, &input, &query).unwrap();
        assert_close(&dots, &table(rows, 1, |t, _| bilinear(&query, t)), 1e-12);

        let (u, v) = (random.matrix::<f64>(queries * rank, d_out), random.matrix::<f64>(queries * rank, d_in));
        let full = |q: usize| table(d_out, d_in, |i, j| {
            (q * rank..(q + 1) * rank).map(|r| at(&u, r, i) * at(&v, r, j)).sum()
        });
        let matrices: Vec<_> = (0..queries).map(full).collect();
        let low = F64.low_rank_token_dots(&dout, &input, &u, &v, rank).unwrap();
        assert_close(&low, &table(rows, queries, |t, q| bilinear(&matrices[q], t)), 1e-12);
    }

    #[test]
    fn syrk_accumulates_the_lower_triangle_in_f64(
        rows in 0..50_usize, d in prop::sample::select(vec![1_usize, 7, 48, 129, 300, 400, 530]), seed: u64,
    ) {
        let mut random = Gen(seed);
        let x = random.matrix::<f64>(rows, d);
        let start = random.matrix::<f64>(d, d);
        let lower = |m: &Matrix<f64>| table(d, d, |i, j| if j <= i { at(m, i, j) } else { 0.0 });
        let want = table(d, d, |i, j| at(&start, i, j) + (0..rows).map(|t| at(&x, t, i) * at(&x, t, j)).sum::<f64>());
        let (mut acc, mut single) = (start.clone(), start.clone());
        F64.syrk_accumulate(&x, &mut acc).unwrap();
        assert_close(&lower(&acc), &lower(&want), 1e-13);
        F32.syrk_accumulate(&cast(&x), &mut single).unwrap();
        assert_close(&lower(&single), &lower(&want), 1e-5);
    }

    #[test]
    fn squares_are_added_in_f64((rows, cols) in (1..40_usize, 1..900_usize), seed: u64) {
        let mut random = Gen(seed);
        let (x, start) = (random.matrix::<f32>(rows, cols), random.matrix::<f64>(rows, cols));
        let mut acc = start.clone();
        F32.add_squares(&x, &mut acc).unwrap();
        let want = table(rows, cols, |i, j| at(&start, i, j) + at(&x, i, j) * at(&x, i, j));
        assert_close(&acc, &want, 1e-15);
    }

    #[test]
    fn low_rank_queries_against_examples_equal_multiplied_out_ones_either_way(
        lengths in prop::collection::vec(1..9_usize, 1..5), (d_out, d_in) in (1..40_usize, 1..40_usize),
        (queries, rank) in (1..5_usize, 1..6_usize), seed: u64,
    ) {
        let mut random = Gen(seed);
        let batch = Batch::new(&mut random, &lengths, 1, d_out, d_in);
        let (u, v) = (random.matrix::<f64>(queries * rank, d_out), random.matrix::<f64>(queries * rank, d_in));
        let full = table(queries, d_out * d_in, |q, i| {
            (0..rank).map(|r| at(&u, q * rank + r, i / d_in) * at(&v, q * rank + r, i % d_in)).sum()
        });
        let dots = F64.example_dots(&batch.dout, &batch.input, &batch.segments, &full).unwrap();
        let low = F64.low_rank_example_dots(&batch.dout, &batch.input, &batch.segments, &u, &v, rank).unwrap();
        assert_close(&low, &dots, 1e-12);
        let (dout, input) = (cast(&batch.dout), cast(&batch.input));
        let single = F32.low_rank_example_dots(&dout, &input, &batch.segments, &cast(&u), &cast(&v), rank).unwrap();
        assert_close(&single, &dots, 1e-4);
    }

    #[test]
    fn segment_sums_add_the_rows_of_each_segment(cols in 1..20_usize, seed: u64) {
        let x = Gen(seed).matrix::<f64>(20, cols);
        let segments = [segment(3, 4), segment(0, 0), segment(10, 10)];
        let want = table(3, cols, |n, j| segments[n].range().map(|t| at(&x, t, j)).sum());
        assert_close(&F64.segment_sums(&x, &segments).unwrap(), &want, 1e-14);
    }
}

#[test]
fn folds_cut_into_several_tiles_equal_plain_loops() {
    let mut random = Gen(11);
    Batch::new(&mut random, &[5, 9, 1], 1, 150, 1100).check(&mut random, 4);
}

#[test]
fn folds_over_no_examples_change_nothing() {
    let (dout, input) = (F64.zeros(Shape::new(3, 2)), F64.zeros(Shape::new(3, 5)));
    let mut acc = of::<f64>(2, 5, &[1.0; 10]);
    F64.square_accumulate(&dout, &input, &[], &mut acc).unwrap();
    assert_eq!(acc.as_slice(), [1.0; 10]);
    assert!(F64.weighted_squares(&dout, &input, &[], &acc).unwrap().is_empty());
    let queries = F64.zeros(Shape::new(4, 10));
    assert_eq!(F64.example_dots(&dout, &input, &[], &queries).unwrap().shape(), Shape::new(0, 4));
    assert_eq!(F64.example_gradients(&dout, &input, &[]).unwrap().shape(), Shape::new(0, 10));
}
