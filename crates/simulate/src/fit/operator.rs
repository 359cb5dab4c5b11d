//! The design matrix of one query, X `[R, p]`, without forming it.

use super::design::Design;
use crate::kind::Kind;

/// Row r of X is (L_{r−1} · times, times): what A and B are multiplied with, of these the ones that the kind has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operator<'a> {
    pub kind: Kind,
    pub design: &'a Design,
    /// `[R]` L_{t−1}; not read for the additive kind.
    pub levels: &'a [f64],
}

impl Operator<'_> {
    /// What the sums over A and over B of row r are multiplied with.
    fn factors(&self, row: usize) -> (Option<f64>, Option<f64>) {
        (self.kind.has_a().then(|| self.levels[row]), self.kind.has_b().then_some(1.0))
    }

    /// p.
    pub fn n_params(&self) -> usize {
        self.design.n_columns * (usize::from(self.kind.has_a()) + usize::from(self.kind.has_b()))
    }

    /// The factors that there are, with the position of their first parameter.
    fn parts(&self, row: usize) -> impl Iterator<Item = (usize, f64)> + Clone {
        let (a, b) = self.factors(row);
        let n = self.design.n_columns;
        a.into_iter().chain(b).enumerate().map(move |(part, factor)| (part * n, factor))
    }

    /// `[R]` X θ.
    pub fn apply(&self, theta: &[f64]) -> Vec<f64> {
        let of_row = |row| {
            let part = |(start, factor): (usize, f64)| -> f64 {
                factor * self.design.row(row).map(|(i, times)| times * theta[start + i]).sum::<f64>()
            };
            self.parts(row).map(part).sum()
        };
        (0..self.design.n_rows()).map(of_row).collect()
    }

    /// `[p]` Xᵀ y.
    pub fn adjoint(&self, y: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.n_params()];
        for (row, y) in y.iter().enumerate() {
            for (start, factor) in self.parts(row) {
                self.design.row(row).for_each(|(i, times)| out[start + i] += factor * y * times);
            }
        }
        out
    }

    /// Adds the lower triangle of XᵀX `[p, p]` to a matrix, given column by column.
    pub fn add_gram(&self, gram: &mut [f64]) {
        let p = self.n_params();
        for row in 0..self.design.n_rows() {
            for (first, left) in self.parts(row) {
                for (second, right) in self.parts(row).filter(|&(second, _)| second <= first) {
                    for (j, times) in self.design.row(row) {
                        let x = left * right * times;
                        let column = &mut gram[(second + j) * p..(second + j + 1) * p];
                        let below = self.design.row(row).filter(|&(i, _)| first + i >= second + j);
                        below.for_each(|(i, times)| column[first + i] += x * times);
                    }
                }
            }
        }
    }

    /// Adds the lower triangle of XXᵀ `[R, R]` to a matrix, given column by column.
    pub fn add_kernel(&self, kernel: &mut [f64]) {
        let rows = self.design.n_rows();
        let mut scattered = vec![0.0; self.design.n_columns];
        for (t, column) in kernel.chunks_exact_mut(rows.max(1)).enumerate() {
            self.design.row(t).for_each(|(i, times)| scattered[i] = times);
            for s in t..rows {
                let common: f64 = self.design.row(s).map(|(i, times)| times * scattered[i]).sum();
                let factor: f64 = self.parts(s).zip(self.parts(t)).map(|((_, x), (_, y))| x * y).sum();
                column[s] += factor * common;
            }
            self.design.row(t).for_each(|(i, _)| scattered[i] = 0.0);
        }
    }
}
