//! Counted operations, to choose the cheaper of two orders.

/// How whole-example gradients are brought into the eigenbasis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationOrder {
    /// Rotate ā and Ds row by row, then form D W_n of the rotated: T (d_in² + d_out² + d_in d_out).
    RowsFirst,
    /// Form D W_n, then rotate it: T d_in d_out + n d_in d_out (d_in + d_out).
    GradientFirst,
}

impl RotationOrder {
    /// The cheaper order for `rows` rows of `examples` examples.
    pub fn cheaper(rows: usize, examples: usize, d_in: usize, d_out: usize) -> Self {
        let rows_first = rows as f64 * ((d_in * d_in + d_out * d_out) as f64);
        let gradient_first = examples as f64 * (d_in * d_out) as f64 * (d_in + d_out) as f64;
        if rows_first <= gradient_first { Self::RowsFirst } else { Self::GradientFirst }
    }
}
