//! Files with one row per line. Lines of nothing but white space are no rows.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::{RawRow, Source};
use crate::Result;
use crate::files::{open, read_error};

pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    row: fn(Vec<u8>) -> RawRow,
}

impl Lines {
    pub(super) fn open(path: &Path, row: fn(Vec<u8>) -> RawRow) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), reader: open(path)?, line: 0, row })
    }
}

impl Source for Lines {
    fn next_row(&mut self) -> Result<Option<(u64, RawRow)>> {
        loop {
            let mut line = Vec::new();
            let n = self.reader.read_until(b'\n', &mut line).map_err(|source| read_error(&self.path, source))?;
            if n == 0 {
                return Ok(None);
            }
            self.line += 1;
            for ending in [b'\n', b'\r'] {
                if line.last() == Some(&ending) {
                    line.pop();
                }
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some((self.line, (self.row)(line))));
            }
        }
    }
}
