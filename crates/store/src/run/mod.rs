//! Run folders: what made them, whether they are complete, and whether they are what is asked for.

mod difference;
mod fingerprint;
mod folder;
mod manifest;

pub use difference::Difference;
pub(crate) use difference::list_differences;
pub use fingerprint::{Fingerprint, HashMethod, fingerprint};
pub use folder::{Opened, Overwrite, RunFolder};
pub use manifest::{Manifest, RunSpec, RunStatus};
