//! Random signs: addressed, even, and unrelated to each other.
#![allow(clippy::unwrap_used)]

mod common;

use common::{F32, F64, table};
use etymon_tensor::{Folds, Shape, Signs};

#[test]
fn any_part_is_cut_out_of_one_matrix() {
    let signs = Signs::new(3, 1, "layers.0");
    let whole = table(300, 200, |i, j| signs.sign(i, j));
    assert_eq!(F64.random_signs(signs, 0..300, 200), whole);
    let (start, len) = (37, 211);
    let part = F64.random_signs(signs, start..start + len, 70);
    assert_eq!(part, table(len, 70, |i, j| signs.sign(start + i, j)));
    let narrow = F32.random_signs(signs, start..start + len, 70);
    assert!(narrow.as_slice().iter().zip(part.as_slice()).all(|(&x, &y)| f64::from(x) == y));
    assert_eq!(F32.random_signs(signs, 5..5, 70).shape(), Shape::new(0, 70));
}

#[test]
fn seed_number_and_name_make_matrices_of_their_own() {
    let of = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"), (0, 0, "aa"), (0, 0, "")];
    let parts = of.map(|(seed, number, name)| F64.random_signs(Signs::new(seed, number, name), 0..256, 256));
    for (i, x) in parts.iter().enumerate() {
        for y in &parts[..i] {
            let same: f64 = x.as_slice().iter().zip(y.as_slice()).map(|(x, y)| x * y).sum();
            // 65 536 independent signs: a standard deviation of 256.
            assert!(same.abs() < 5.0 * 256.0, "{i}: {same}");
        }
    }
}

#[test]
fn rows_and_columns_are_even_and_orthogonal_as_far_as_chance_allows() {
    let n = 512;
    let x = F64.random_signs(Signs::new(11, 0, "x"), 0..n, n);
    let at = |i: usize, j: usize| x.as_slice()[i * n + j];
    let limit = 6.0 * (n as f64).sqrt();
    for i in 0..n {
        assert!((0..n).map(|j| at(i, j)).sum::<f64>().abs() < limit);
        assert!((0..n).map(|j| at(j, i)).sum::<f64>().abs() < limit);
        for other in 0..i {
            assert!((0..n).map(|j| at(i, j) * at(other, j)).sum::<f64>().abs() < limit, "rows {i} {other}");
            assert!((0..n).map(|j| at(j, i) * at(j, other)).sum::<f64>().abs() < limit, "columns {i} {other}");
        }
    }
}
