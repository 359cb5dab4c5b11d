//! The engine: dense matrices on a [`Backend`], each operation as a forward and a backward beside each other, and the
//! primitives that the folds over a train set are made of.
//!
//! Every tensor is a row-major matrix `[rows, cols]`; a vector is `[1, n]`. Sequences of a batch are stacked row by
//! row and described by [`Segment`]s, so there is no padding to compute on. `dx` is the gradient of `x`.
//!
//! [`Cpu`] is the CPU backend, over `f32` for work and over `f64` for gradient checks and references.

mod allocator;
mod backend;
mod buffer;
mod contraction;
mod cpu;
mod error;
mod pool;
mod signs;
mod types;

pub use allocator::give_back_large_blocks;
pub use backend::{Backend, Folds};
pub use buffer::{Buffer, Pooled};
pub use contraction::Contraction;
pub use cpu::{Cpu, Matrix, Scalar};
pub use error::TensorError;
pub use signs::Signs;
pub use types::{
    Accumulate, Activation, Attention, CrossEntropy, Host, Label, Patches, Precision, RotaryStyle, Segment, Shape,
    Transpose,
};

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, TensorError>;
