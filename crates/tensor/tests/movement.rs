//! Copies of rows and columns, elementwise operations and reductions.
#![allow(clippy::unwrap_used)]

mod common;

use common::{F32, F64, Gen, assert_close, assert_numbers_close, at, of, table};
use etymon_tensor::{Backend, Shape};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn rows_and_columns_move_where_they_are_told(rows in 1..40_usize, cols in 1..40_usize, seed: u64) {
        let mut random = Gen(seed);
        let x = random.matrix::<f64>(rows, cols);
        let ids: Vec<usize> = (0..2 * rows).map(|_| random.below(rows)).collect();
        let gathered = F64.gather_rows(&x, &ids).unwrap();
        prop_assert_eq!(&gathered, &table(2 * rows, cols, |i, j| at(&x, ids[i], j)));
        let scattered = F64.scatter_rows(&gathered, &ids, rows + 1).unwrap();
        let want = table(rows + 1, cols, |i, j| {
            ids.iter().zip(0..).filter(|(id, _)| **id == i).map(|(_, t)| at(&gathered, t, j)).sum()
        });
        assert_close(&scattered, &want, 1e-15);

        let (start, len) = (rows / 3, rows - rows / 3);
        let part = F64.slice_rows(&x, start, len).unwrap();
        prop_assert_eq!(&part, &table(len, cols, |i, j| at(&x, start + i, j)));
        let mut written = F64.zeros(Shape::new(rows + 2, cols));
        F64.write_rows(&mut written, 2 + start, &part).unwrap();
        prop_assert_eq!(&F64.slice_rows(&written, 2 + start, len).unwrap(), &part);

        let cut = cols / 2;
        let (left, right) = (F64.slice_cols(&x, 0, cut).unwrap(), F64.slice_cols(&x, cut, cols - cut).unwrap());
        prop_assert_eq!(&right, &table(rows, cols - cut, |i, j| at(&x, i, cut + j)));
        prop_assert_eq!(&F64.concat_cols(&[&left, &right]).unwrap(), &x);
        let ones = F64.append_ones(&x);
        prop_assert_eq!(&ones, &table(rows, cols + 1, |i, j| if j < cols { at(&x, i, j) } else { 1.0 }));
    }

    #[test]
    fn elementwise_operations_and_reductions_equal_plain_loops(
        rows in 1..200_usize, cols in 1..400_usize, seed: u64,
    ) {
        let mut random = Gen(seed);
        let (x, y) = (random.matrix::<f64>(rows, cols), random.matrix::<f64>(rows, cols));
        let mut sum = y.clone();
        F64.axpy(-1.5, &x, &mut sum).unwrap();
        assert_close(&sum, &table(rows, cols, |i, j| at(&y, i, j) - 1.5 * at(&x, i, j)), 1e-15);
        F64.scale(2.0, &mut sum);
        assert_close(&sum, &table(rows, cols, |i, j| 2.0 * at(&y, i, j) - 3.0 * at(&x, i, j)), 1e-15);
        let product = F64.multiply(&x, &y).unwrap();
        assert_close(&product, &table(rows, cols, |i, j| at(&x, i, j) * at(&y, i, j)), 1e-15);
        let squares = F64.multiply(&y, &y).unwrap();
        let quotient = F64.divide_shifted(&x, &squares, 0.5).unwrap();
        assert_close(&quotient, &table(rows, cols, |i, j| at(&x, i, j) / (at(&y, i, j).powi(2) + 0.5)), 1e-15);
        prop_assert!((F64.dot(&x, &y).unwrap() - common::dot(&x, &y)).abs() < 1e-10);
        let row_sums: Vec<f64> = (0..rows).map(|i| (0..cols).map(|j| at(&squares, i, j)).sum()).collect();
        assert_numbers_close(&F64.row_sums(&squares), &row_sums, 1e-13);
        let mut columns = of::<f64>(1, cols, &vec![1.0; cols]);
        F64.add_column_sums(&squares, &mut columns).unwrap();
        assert_close(&columns, &table(1, cols, |_, j| 1.0 + (0..rows).map(|i| at(&squares, i, j)).sum::<f64>()), 1e-13);
    }
}

#[test]
fn numbers_survive_the_way_to_the_backend_and_back() {
    let x = F32.upload(Shape::new(2, 2), &[0.1_f64, -2.0, 3.0, 4.0]).unwrap();
    assert_eq!(F32.shape(&x), Shape::new(2, 2));
    assert_eq!(*F32.download::<f32>(&x), [0.1, -2.0, 3.0, 4.0]);
    assert_eq!(*F32.download::<f64>(&x), [f64::from(0.1_f32), -2.0, 3.0, 4.0]);
}

#[test]
fn empty_matrices_are_no_special_case() {
    for shape in [Shape::new(0, 3), Shape::new(3, 0), Shape::new(0, 0)] {
        let x = F64.zeros(shape);
        assert_eq!(F64.gather_rows(&x, &[]).unwrap().shape(), Shape::new(0, shape.cols));
        assert_eq!(F64.append_ones(&x).shape(), Shape::new(shape.rows, shape.cols + 1));
        assert_eq!(F64.concat_cols(&[&x, &x]).unwrap().shape(), Shape::new(shape.rows, 2 * shape.cols));
        assert_eq!(F64.multiply(&x, &x).unwrap(), x);
        assert_eq!(F64.dot(&x, &x).unwrap(), 0.0);
        assert_eq!(*F64.row_sums(&x), vec![0.0; shape.rows]);
        let mut sums = F64.zeros(Shape::new(1, shape.cols));
        F64.add_column_sums(&x, &mut sums).unwrap();
        let row = F64.zeros(Shape::new(1, shape.cols));
        assert_eq!(F64.layer_norm_forward(&x, &row, &row, 1e-5).unwrap(), x);
        assert_eq!(F64.rms_norm_backward(&x, &x, &row, 1e-5, Some(&mut row.clone())).unwrap(), x);
    }
}

#[test]
fn a_matrix_prints_its_shape_only() {
    assert_eq!(format!("{:?}", F64.zeros(Shape::new(2, 3))), "Matrix[2, 3]");
}

#[test]
fn zeros_in_memory_of_dropped_matrices_are_zeros() {
    let shape = Shape::new(300, 401);
    for _ in 0..3 {
        drop(Gen(1).matrix::<f64>(shape.rows, shape.cols));
        assert!(F64.zeros(shape).as_slice().iter().all(|&x| x == 0.0));
        F64.release_memory();
    }
}

#[test]
fn a_reshape_keeps_the_numbers_and_refuses_another_length() {
    let x = Gen(2).matrix::<f64>(6, 4);
    let reshaped = F64.reshape(x.clone(), Shape::new(3, 8)).unwrap();
    assert_eq!(reshaped.as_slice(), x.as_slice());
    assert_eq!(reshaped.shape(), Shape::new(3, 8));
    assert!(F64.reshape(x, Shape::new(5, 5)).is_err());
}
