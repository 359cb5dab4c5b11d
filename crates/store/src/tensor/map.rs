//! The one memory map of the workspace.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// A file as bytes, paged in when touched.
#[derive(Debug)]
pub(super) struct Map(Mmap);

impl Map {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the bytes are undefined if the file changes while it is mapped. Etymon never changes a file in place:
        // it renames a new one over it, which leaves the mapped one as it is. Another process that truncates a model
        // under a running pass is outside of what can be guarded against, as for every user of memory maps.
        unsafe { Mmap::map(&file) }.map(Self)
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
