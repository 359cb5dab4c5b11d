//! How two lists of numbers agree.

/// Pearson's correlation of x and y; `None` if their lengths differ, there are fewer than two, or one is constant or not
/// finite.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || x.len() < 2 || x.iter().chain(y).any(|v| !v.is_finite()) {
        return None;
    }
    let (x, y) = (centred(x)?, centred(y)?);
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    // Of the two norms apart: their product could overflow where they do not.
    Some((dot(&x, &y) / dot(&x, &x).sqrt() / dot(&y, &y).sqrt()).clamp(-1.0, 1.0))
}

/// Spearman's correlation: Pearson's of the ranks, equal numbers sharing the mean of theirs; `None` as for [`pearson`].
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.iter().chain(y).any(|v| !v.is_finite()) {
        return None;
    }
    pearson(&mid_ranks(x), &mid_ranks(y))
}

/// x less its mean, scaled to a largest magnitude of 1; `None` if x is constant.
fn centred(x: &[f64]) -> Option<Vec<f64>> {
    if x.iter().all(|&v| v == x[0]) {
        return None;
    }
    let largest = x.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let mean = x.iter().map(|v| v / largest).sum::<f64>() / x.len() as f64;
    let centred: Vec<f64> = x.iter().map(|v| v / largest - mean).collect();
    let spread = centred.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    Some(centred.into_iter().map(|v| v / spread).collect())
}

/// `[n]` The place of each number in rising order, from 1; the mean of their places for equal ones.
pub(crate) fn mid_ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&i, &j| x[i].total_cmp(&x[j]));
    let mut ranks = vec![0.0; x.len()];
    let mut before = 0;
    // −0 and 0 are equal, and neighbours in this order.
    for group in order.chunk_by(|&i, &j| x[i] == x[j]) {
        let rank = before as f64 + (group.len() as f64 + 1.0) / 2.0;
        group.iter().for_each(|&i| ranks[i] = rank);
        before += group.len();
    }
    ranks
}
