//! Tensors in safetensors files.

mod file;
mod header;
mod join;
mod map;
mod sharded;
mod writer;

pub use file::TensorFile;
pub use join::join_tensors;
pub use sharded::ShardedTensors;
pub use writer::TensorWriter;
