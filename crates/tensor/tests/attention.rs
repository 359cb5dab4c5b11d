//! Attention against a plain loop over positions, and its backward against finite differences.
#![allow(clippy::unwrap_used)]

mod common;

use common::{F32, F64, Gen, assert_close, assert_derivative, at, cast, dot, segment, table};
use etymon_tensor::{Attention, Backend, Matrix, Segment, Shape};
use proptest::prelude::*;

fn spec(heads: usize, kv_heads: usize, head_dim: usize, causal: bool, window: Option<usize>) -> Attention {
    Attention { heads, kv_heads, head_dim, causal, window, scale: 1.0 / (head_dim as f64).sqrt() }
}

/// softmax(q kᵀ · scale) v by the definition.
fn plain(spec: &Attention, q: &Matrix<f64>, k: &Matrix<f64>, v: &Matrix<f64>, segments: &[Segment]) -> Matrix<f64> {
    let d = spec.head_dim;
    table(q.rows(), q.cols(), |row, col| {
        let Some(segment) = segments.iter().find(|s| s.range().contains(&row)) else { return 0.0 };
        let (head, dim) = (col / d, col % d);
        let kv_head = head / (spec.heads / spec.kv_heads);
        let weights: Vec<(usize, f64)> = segment
            .range()
            .filter(|&key| !spec.causal || (key <= row && spec.window.is_none_or(|w| row - key < w)))
            .map(|key| {
                let score: f64 = (0..d).map(|i| at(q, row, head * d + i) * at(k, key, kv_head * d + i)).sum();
                (key, (score * spec.scale).exp())
            })
            .collect();
        let total: f64 = weights.iter().map(|w| w.1).sum();
        weights.iter().map(|&(key, w)| w / total * at(v, key, kv_head * d + dim)).sum()
    })
}

/// Gaps before, between and after; lengths on both sides of the block of queries.
fn segments(random: &mut Gen, longest: usize) -> (Vec<Segment>, usize) {
    let mut row = random.below(3);
    let mut list = Vec::new();
    for _ in 0..1 + random.below(3) {
        let len = random.below(longest + 1);
        list.push(segment(row, len));
        row += len + random.below(4);
    }
    list.reverse();
    (list, row + random.below(2))
}

fn masks() -> [(bool, Option<usize>); 4] {
    [(true, None), (false, None), (true, Some(1)), (true, Some(7))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn forward_equals_the_plain_softmax(kv_heads in 1..4_usize, group in 1..4_usize, d in 1..20_usize, seed: u64) {
        let mut random = Gen(seed);
        let (segments, rows) = segments(&mut random, 150);
        let q = random.matrix::<f64>(rows, kv_heads * group * d);
        let (k, v) = (random.matrix::<f64>(rows, kv_heads * d), random.matrix::<f64>(rows, kv_heads * d));
        for (causal, window) in masks() {
            let spec = spec(kv_heads * group, kv_heads, d, causal, window);
            let want = plain(&spec, &q, &k, &v, &segments);
            assert_close(&F64.attention_forward(&spec, &q, &k, &v, &segments).unwrap(), &want, 1e-13);
            let single = F32.attention_forward(&spec, &cast(&q), &cast(&k), &cast(&v), &segments).unwrap();
            assert_close(&single, &want, 2e-6);
        }
    }

    #[test]
    fn backward_agrees_with_finite_differences(kv_heads in 1..3_usize, group in 1..3_usize, d in 1..6_usize, seed: u64) {
        let mut random = Gen(seed);
        let (segments, rows) = segments(&mut random, 70);
        let q = random.matrix::<f64>(rows, kv_heads * group * d);
        let (k, v) = (random.matrix::<f64>(rows, kv_heads * d), random.matrix::<f64>(rows, kv_heads * d));
        let dy = random.matrix::<f64>(rows, kv_heads * group * d);
        for (causal, window) in masks() {
            let spec = spec(kv_heads * group, kv_heads, d, causal, window);
            let (dq, dk, dv) = F64.attention_backward(&spec, &dy, &q, &k, &v, &segments).unwrap();
            let value = |q: &_, k: &_, v: &_| dot(&F64.attention_forward(&spec, q, k, v, &segments).unwrap(), &dy);
            assert_derivative("q", |q| value(q, &k, &v), &q, &dq);
            assert_derivative("k", |k| value(&q, k, &v), &k, &dk);
            assert_derivative("v", |v| value(&q, &k, v), &v, &dv);
            let single =
                F32.attention_backward(&spec, &cast(&dy), &cast(&q), &cast(&k), &cast(&v), &segments).unwrap();
            // With a window of one position dq and dk are zero but for rounding.
            if window != Some(1) && segments.iter().any(|s| s.len > 1) {
                assert_close(&single.0, &dq, 1e-5);
                assert_close(&single.1, &dk, 1e-5);
            }
            assert_close(&single.2, &dv, 1e-5);
        }
    }
}

#[test]
fn rows_in_no_segment_give_zeros_and_do_not_alter_the_others() {
    let mut random = Gen(3);
    let spec = spec(2, 1, 8, true, None);
    let (q, dy) = (random.matrix::<f64>(90, 16), random.matrix::<f64>(90, 16));
    let (k, v) = (random.matrix::<f64>(90, 8), random.matrix::<f64>(90, 8));
    let lengths = [70, 20];
    let tight = [segment(0, lengths[0]), segment(70, lengths[1])];
    let loose = [segment(5, lengths[0]), segment(79, lengths[1])];
    // Padding full of NaN: any read of it would show.
    let spread = |x: &Matrix<f64>| {
        table(101, x.cols(), |row, col| match row {
            5..75 => at(x, row - 5, col),
            79..99 => at(x, row - 9, col),
            _ => f64::NAN,
        })
    };
    let gather: Vec<usize> = (5..75).chain(79..99).collect();
    let padding: Vec<usize> = (0..101).filter(|row| !gather.contains(row)).collect();
    let compare = |loose: &Matrix<f64>, tight: &Matrix<f64>| {
        assert_eq!(&F64.gather_rows(loose, &gather).unwrap(), tight);
        assert!(F64.gather_rows(loose, &padding).unwrap().as_slice().iter().all(|&x| x == 0.0));
    };
    let (lq, lk, lv, ldy) = (spread(&q), spread(&k), spread(&v), spread(&dy));
    compare(
        &F64.attention_forward(&spec, &lq, &lk, &lv, &loose).unwrap(),
        &F64.attention_forward(&spec, &q, &k, &v, &tight).unwrap(),
    );
    let (dq, dk, dv) = F64.attention_backward(&spec, &ldy, &lq, &lk, &lv, &loose).unwrap();
    let (tq, tk, tv) = F64.attention_backward(&spec, &dy, &q, &k, &v, &tight).unwrap();
    compare(&dq, &tq);
    compare(&dk, &tk);
    compare(&dv, &tv);
}

#[test]
fn later_positions_do_not_alter_earlier_rows_of_a_causal_attention() {
    let mut random = Gen(4);
    let spec = spec(1, 1, 4, true, None);
    let (q, k, v) = (random.matrix::<f64>(100, 4), random.matrix::<f64>(100, 4), random.matrix::<f64>(100, 4));
    let all = F64.attention_forward(&spec, &q, &k, &v, &[segment(0, 100)]).unwrap();
    let head = |x: &Matrix<f64>| F64.slice_rows(x, 0, 67).unwrap();
    let part = F64.attention_forward(&spec, &head(&q), &head(&k), &head(&v), &[segment(0, 67)]).unwrap();
    assert_close(&part, &head(&all), 1e-14);
}

#[test]
fn large_scores_do_not_overflow() {
    let spec = Attention { scale: 1.0, ..spec(1, 1, 1, false, None) };
    let q = common::of::<f32>(2, 1, &[1e3, -1e3]);
    let k = common::of::<f32>(2, 1, &[1e3, -1e3]);
    let v = common::of::<f32>(2, 1, &[5.0, 7.0]);
    let y = F32.attention_forward(&spec, &q, &k, &v, &[segment(0, 2)]).unwrap();
    assert_eq!(y.as_slice(), [5.0, 7.0]);
}

#[test]
fn no_segments_give_zeros() {
    let x = F64.zeros(Shape::new(3, 4));
    let y = F64.attention_forward(&spec(2, 2, 2, true, None), &x, &x, &x, &[]).unwrap();
    assert_eq!(y, x);
}
