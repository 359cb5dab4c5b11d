//! Ids are unique: where each was seen first.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::rows::RowPlace;

/// The ids seen so far: a 64-bit hash for each id of a row's own, and ranges for rows that are named by their number.
#[derive(Default)]
pub(crate) struct SeenIds {
    own: HashMap<u64, RowPlace>,
    numbered: Vec<Numbered>,
}

/// Rows `row .. row + len` of the corpus, on consecutive lines.
struct Numbered {
    row: u64,
    len: u64,
    place: RowPlace,
}

impl SeenIds {
    /// Notes an id of a row's own; returns where it was seen before.
    pub(crate) fn own(&mut self, id: &str, place: RowPlace) -> Option<RowPlace> {
        let numbered = id.parse().ok().filter(|row: &u64| row.to_string() == id).and_then(|row| self.numbered_row(row));
        numbered.or_else(|| self.own.insert(hash(id), place))
    }

    /// Notes a row that is named by its number; returns where that name was seen before.
    pub(crate) fn numbered(&mut self, row: u64, place: RowPlace) -> Option<RowPlace> {
        match self.numbered.last_mut() {
            Some(last)
                if last.row + last.len == row
                    && last.place.file == place.file
                    && last.place.line + last.len == place.line =>
            {
                last.len += 1;
            }
            _ => self.numbered.push(Numbered { row, len: 1, place }),
        }
        if self.own.is_empty() { None } else { self.own.get(&hash(&row.to_string())).copied() }
    }

    fn numbered_row(&self, row: u64) -> Option<RowPlace> {
        let after = self.numbered.partition_point(|range| range.row <= row);
        let range = self.numbered.get(after.checked_sub(1)?)?;
        let offset = row - range.row;
        (offset < range.len).then(|| RowPlace { line: range.place.line + offset, ..range.place })
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
