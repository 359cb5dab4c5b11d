//! Tensors in safetensors files.

mod file;
mod header;
mod map;
mod sharded;
mod writer;

pub use file::TensorFile;
pub use sharded::ShardedTensors;
pub use writer::TensorWriter;
