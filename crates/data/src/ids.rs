//! Ids are unique: which were seen.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

/// The ids seen so far: a 64-bit hash for each id of a row's own, and ranges for rows that are named by their number.
/// Nothing tells where they were seen: that is looked up where an id seems to come twice.
#[derive(Default)]
pub(crate) struct SeenIds {
    own: HashSet<u64>,
    /// Rising.
    numbered: Vec<Range<u64>>,
}

impl SeenIds {
    /// Notes an id of a row's own; says whether it may have been seen before (it has, or another one of its hash).
    pub(crate) fn own(&mut self, id: &str) -> bool {
        let number = id.parse().ok().filter(|row: &u64| row.to_string() == id);
        number.is_some_and(|row| self.is_numbered(row)) || !self.own.insert(hash(id))
    }

    /// Notes a row that is named by its number; says whether that name may have been seen before.
    pub(crate) fn numbered(&mut self, row: u64) -> bool {
        match self.numbered.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => self.numbered.push(row..row + 1),
        }
        !self.own.is_empty() && self.own.contains(&hash(&row.to_string()))
    }

    fn is_numbered(&self, row: u64) -> bool {
        let after = self.numbered.partition_point(|range| range.start <= row);
        after.checked_sub(1).and_then(|i| self.numbered.get(i)).is_some_and(|range| range.contains(&row))
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
