//! Batch size and layer groups that fit into memory.

use std::ops::Range;

use etymon_model::{LayerGroups, LayerSpec};

use crate::args::PassArgs;
use crate::error::{CliError, Result};
use crate::machine::{Bytes, allowed_memory};
use crate::progress::Reporter;

/// Rows per batch, down to what needs least.
const BATCHES: [usize; 11] = [8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 1];
/// Rows per batch that are as fast as more, unless a batch costs something of itself.
pub const PLENTY: usize = 1024;
/// Rows per batch below which products are so much slower that more passes over the data are better.
const ENOUGH: usize = 256;

/// How a command stays within its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Rows per batch.
    pub batch_rows: usize,
    /// Layers of each pass over the data.
    pub groups: LayerGroups,
}

impl Choice {
    /// Tells that there are groups.
    pub fn say(&self, reporter: Reporter) {
        if self.groups.len() > 1 {
            reporter
                .say(format!("  in {} groups of layers, to stay within memory: one pass for each", self.groups.len()));
        }
    }
}

/// The choice for sequences of up to `longest` rows, in batches of up to `most` rows. `peak` is what a pass over some layers
/// needs in batches of some rows.
///
/// # Errors
/// Even the smallest groups and batches do not fit.
pub fn choose(
    args: &PassArgs,
    specs: &[LayerSpec],
    longest: u64,
    most: usize,
    peak: impl Fn(usize, Range<usize>) -> u64,
) -> Result<Choice> {
    let allowed = allowed_memory(args.memory_limit);
    let batches = match args.batch_rows {
        Some(rows) => vec![rows],
        None => BATCHES.into_iter().filter(|&rows| rows <= most).map(|rows| rows.max(longest as usize)).collect(),
    };
    pick(&batches, specs, |rows, layers| peak(rows, layers) <= allowed).ok_or_else(|| {
        let smallest = batches.last().copied().unwrap_or_default();
        let needed = LayerGroups::smallest(specs).iter().map(|layers| peak(smallest, layers)).max().unwrap_or(0);
        CliError::Memory { needed: Bytes(needed), allowed: Bytes(allowed) }
    })
}

/// The fewest groups in batches of at least [`ENOUGH`] rows, and the largest such batches with as few groups; else the
/// largest batches that fit. `batches` fall.
fn pick(batches: &[usize], specs: &[LayerSpec], fits: impl Fn(usize, Range<usize>) -> bool) -> Option<Choice> {
    let groups = |&batch_rows: &usize| {
        LayerGroups::fewest(specs, |layers| fits(batch_rows, layers)).map(|groups| Choice { batch_rows, groups })
    };
    let (enough, small) = batches.split_at(batches.partition_point(|&rows| rows >= ENOUGH));
    enough.iter().filter_map(groups).min_by_key(|choice| choice.groups.len()).or_else(|| small.iter().find_map(groups))
}

#[cfg(test)]
mod tests {
    use etymon_model::LayerId;

    use super::*;
    use crate::args::Dtype;

    /// Rows per batch and number of groups for ten layers that need 10 each, beside 1 for a row.
    fn chosen(limit: u64, longest: u64, batch_rows: Option<usize>) -> Option<(usize, usize)> {
        let args = PassArgs { batch_rows, memory_limit: Some(Bytes(limit)), dtype: Dtype::F32 };
        let spec =
            |i| LayerSpec { name: String::new(), d_in: 1, d_out: 1, bias: false, input: LayerId(i), positions: 1 };
        let specs: Vec<LayerSpec> = (0..10).map(spec).collect();
        let peak = |rows: usize, layers: Range<usize>| rows.max(longest as usize) as u64 + 10 * layers.len() as u64;
        choose(&args, &specs, longest, PLENTY, peak).ok().map(|choice| (choice.batch_rows, choice.groups.len()))
    }

    #[test]
    fn fewer_groups_come_before_larger_batches_and_more_groups_before_small_batches() {
        assert_eq!(chosen(1124, 8, None), Some((1024, 1)));
        assert_eq!(chosen(1123, 8, None), Some((512, 1)));
        assert_eq!(chosen(356, 8, None), Some((256, 1)));
        assert_eq!(chosen(355, 8, None), Some((256, 2)));
        assert_eq!(chosen(266, 8, None), Some((256, 10)));
        assert_eq!(chosen(265, 8, None), Some((128, 1)));
        assert_eq!(chosen(80, 8, None), Some((64, 10)));
        assert_eq!(chosen(17, 8, None), None);
    }

    #[test]
    fn batches_are_as_large_as_is_worth_it_and_fits() {
        let args = PassArgs { batch_rows: None, memory_limit: Some(Bytes(5000)), dtype: Dtype::F32 };
        let specs =
            [LayerSpec { name: String::new(), d_in: 1, d_out: 1, bias: false, input: LayerId(0), positions: 1 }];
        let rows = |most| choose(&args, &specs, 8, most, |rows, _| rows as u64).unwrap().batch_rows;
        assert_eq!([PLENTY, 2048, 8192].map(rows), [1024, 2048, 4096]);
    }

    #[test]
    fn batches_are_never_below_the_longest_sequence_nor_another_size_than_asked_for() {
        assert_eq!(chosen(190, 90, None), Some((128, 2)));
        assert_eq!(chosen(100, 90, None), Some((90, 10)));
        assert_eq!(chosen(99, 90, None), None);
        assert_eq!(chosen(100, 90, Some(7)), Some((7, 10)));
        assert_eq!(chosen(1000, 8, Some(900)), Some((900, 1)));
        assert_eq!(chosen(900, 8, Some(900)), None);
    }

    #[test]
    fn what_is_refused_says_what_the_smallest_choice_needs() {
        let args = PassArgs { batch_rows: None, memory_limit: Some(Bytes(4)), dtype: Dtype::F32 };
        let spec =
            |i| LayerSpec { name: String::new(), d_in: 1, d_out: 1, bias: false, input: LayerId(i), positions: 1 };
        let error = choose(&args, &[spec(0), spec(0), spec(2)], 3, PLENTY, |rows, layers| (rows + layers.len()) as u64);
        assert!(matches!(error, Err(CliError::Memory { needed: Bytes(5), allowed: Bytes(4) })), "{error:?}");
    }
}
