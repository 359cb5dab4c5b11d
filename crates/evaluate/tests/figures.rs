//! The figures against hand computation and against worlds that are known.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use etymon_evaluate::statistics::{bootstrap_mean, mid_ranks, pearson, spearman};
use etymon_evaluate::{Method, Stream, Truth, agreement, auc, draw, lds, recall, top};
use rand::Rng;

fn method(scores: Vec<Vec<f32>>) -> Method {
    Method { name: "m".to_owned(), seconds: None, measurement: None, scores }
}

fn random(seed: u64, q: usize, n: usize) -> Vec<Vec<f32>> {
    let number = |rng: &mut dyn Rng| (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
    (0..q as u64)
        .map(|q| {
            let mut rng = Stream::Controls.rng(seed, q);
            (0..n).map(|_| number(&mut rng)).collect()
        })
        .collect()
}

#[test]
fn correlations_are_those_of_their_definitions() {
    // Computed from the definitions in Python.
    let (x, y) = ([1.0, 2.0, 2.0, 5.0, 7.0], [2.0, 1.0, 4.0, 3.0, 9.0]);
    assert!((pearson(&x, &y).unwrap() - 0.812_302_114).abs() < 1e-8, "{:?}", pearson(&x, &y));
    assert!((spearman(&x, &y).unwrap() - 0.666_885_929).abs() < 1e-8, "{:?}", spearman(&x, &y));
    assert_eq!(mid_ranks(&x), [1.0, 2.5, 2.5, 4.0, 5.0]);
    assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), None);
    assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75));
}

#[test]
fn lds_is_the_one_computed_by_hand() {
    // Sums over the subsets: 3, 5, 1; measurements rank them 2, 3, 1 for the first query and 1, 3, 2 for the second.
    let scores = method(vec![vec![1.0, 2.0, 3.0, -2.0]; 2]);
    let kept = vec![vec![0, 1], vec![1, 2], vec![2, 3]];
    let values = vec![vec![-0.5, 0.0], vec![-0.1, 2.0], vec![-0.9, 1.0]];
    let truth = Truth { queries: vec!["a".to_owned(), "b".to_owned()], kept, values };
    let found = lds(&scores, &truth, 0);
    assert!(found.per_query.iter().zip([1.0, 0.5]).all(|(x, y)| (x - y).abs() < 1e-12), "{:?}", found.per_query);
    assert!((found.mean.unwrap().value - 0.75).abs() < 1e-12);
}

#[test]
fn in_an_additive_world_the_truth_has_lds_1_and_random_scores_0() {
    let (m, n, q) = (60, 40, 50);
    let truth = random(1, q, n);
    let kept: Vec<Vec<usize>> = (0..m).map(|j| draw(Stream::Subsets, 3, j, n, n / 2).unwrap()).collect();
    let f = |kept: &Vec<usize>| truth.iter().map(|s| kept.iter().map(|&i| f64::from(s[i])).sum()).collect();
    let values = kept.iter().map(f).collect();
    let queries = (0..q).map(|i| i.to_string()).collect();
    let retrained = Truth { queries, kept, values };
    let perfect = lds(&method(truth), &retrained, 0).mean.unwrap();
    assert!((perfect.value - 1.0).abs() < 1e-12);
    let chance = lds(&method(random(2, q, n)), &retrained, 0).mean.unwrap();
    assert!(chance.low < 0.0 && chance.high > 0.0 && chance.half_width() < 0.1, "{chance:?}");
}

#[test]
fn removal_lowers_f_by_the_score_over_n() {
    let scores = method(vec![vec![4.0, -8.0, 0.0, 2.0], vec![1.0, 0.0, 3.0, -4.0]]);
    let removed = vec![vec![0], vec![1], vec![2, 3]];
    let actual = vec![vec![-1.0, -0.25], vec![2.0, 0.0], vec![-0.5, 0.25]];
    let found = agreement(&scores, &removed, &actual, 0);
    assert_eq!(found.predicted, actual);
    assert!((found.pearson.unwrap().value - 1.0).abs() < 1e-12);
}

#[test]
fn rankings_find_what_is_planted() {
    let scores = method(vec![vec![0.1, 0.9, 0.5, 0.2], vec![0.3, 0.2, 0.1, 0.0]]);
    assert_eq!(top(&scores.scores[0], 2), [1, 2]);
    let found = recall(&scores, &[vec![1], vec![1, 3]], &[1, 2], 0);
    let at: Vec<f64> = found.at.iter().map(|(_, share)| share.unwrap().value).collect();
    assert_eq!(at, [0.5, 0.75]);
    assert_eq!(found.mrr.unwrap().value, 0.75);
}

#[test]
fn an_interval_of_a_mean_is_that_of_the_standard_error() {
    let values: Vec<f64> = random(5, 1, 400)[0].iter().map(|&x| f64::from(x)).collect();
    let found = bootstrap_mean(&values, 0).unwrap();
    // Uniform on a unit interval: standard deviation 1/√12, of the mean 1/√(12·400), times 1.96.
    let expected = 1.96 / (12.0f64 * 400.0).sqrt();
    assert!((found.half_width() / expected - 1.0).abs() < 0.15, "{found:?}");
    assert_eq!(Some(found), bootstrap_mean(&values, 0));
}
