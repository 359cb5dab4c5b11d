//! Errors of the engine.

use crate::Shape;

/// What an operation refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// An operand does not have the shape that the others imply.
    #[error("{op}: operand `{operand}` has shape {got}, expected {expected}")]
    Shape {
        /// Operation.
        op: &'static str,
        /// Operand.
        operand: &'static str,
        /// Shape that the other operands imply.
        expected: Shape,
        /// Shape given.
        got: Shape,
    },
    /// Host data does not have the length of the shape.
    #[error("{op}: {got} numbers given for shape {shape}")]
    Length {
        /// Operation.
        op: &'static str,
        /// Shape asked for.
        shape: Shape,
        /// Numbers given.
        got: usize,
    },
    /// A row index, token id, class or segment lies outside of its table.
    #[error("{op}: {what} {index} is outside of 0..{limit}")]
    Index {
        /// Operation.
        op: &'static str,
        /// What the index counts.
        what: &'static str,
        /// The index.
        index: usize,
        /// First invalid index.
        limit: usize,
    },
    /// Head counts or widths that do not fit together.
    #[error("{op}: {what}")]
    Config {
        /// Operation.
        op: &'static str,
        /// What does not fit.
        what: &'static str,
    },
}
