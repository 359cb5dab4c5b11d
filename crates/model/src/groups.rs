//! Groups of tapped layers: where all do not fit into memory, a pass runs once for each group.

use std::ops::Range;

use crate::layers::LayerSpec;

/// All tapped layers in consecutive groups. Layers that share an input are in one group, with the layer that owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerGroups(Vec<Range<usize>>);

impl LayerGroups {
    /// One group.
    pub fn one(specs: &[LayerSpec]) -> Self {
        Self(std::iter::once(0..specs.len()).collect())
    }

    /// The fewest groups of which each `fits`, or `None` when not even a group that cannot be divided does. A part of what
    /// fits must fit.
    pub fn fewest(specs: &[LayerSpec], fits: impl Fn(Range<usize>) -> bool) -> Option<Self> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        for end in (1..=specs.len()).filter(|&end| may_end(specs, end)) {
            match groups.last_mut() {
                Some(last) if fits(last.start..end) => last.end = end,
                _ if fits(start..end) => groups.push(start..end),
                _ => return None,
            }
            start = end;
        }
        Some(Self(groups))
    }

    /// The smallest possible groups.
    pub fn smallest(specs: &[LayerSpec]) -> Self {
        let ends: Vec<usize> = (1..=specs.len()).filter(|&end| may_end(specs, end)).collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        Self(starts.zip(ends.iter().copied()).map(|(start, end)| start..end).collect())
    }

    /// Number of groups.
    #[allow(clippy::len_without_is_empty, reason = "a model has at least one layer")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The groups, in forward order.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.0.iter().cloned()
    }

    /// What is left of them when the first `done` layers are done.
    pub fn after(&self, done: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        self.iter().map(move |group| group.start.max(done)..group.end).filter(|group| !group.is_empty())
    }
}

/// Whether no layer from `end` on reads the input of one before.
fn may_end(specs: &[LayerSpec], end: usize) -> bool {
    specs[end..].iter().all(|spec| spec.input.0 >= end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::LayerId;

    /// q, k and v of one input, then the output; twice.
    fn specs() -> Vec<LayerSpec> {
        let spec = |input| LayerSpec {
            name: String::new(),
            d_in: 1,
            d_out: 1,
            bias: false,
            input: LayerId(input),
            positions: 1,
        };
        [0, 0, 0, 3, 4, 4, 4, 7].map(spec).to_vec()
    }

    #[test]
    fn groups_are_as_few_as_fit_and_never_divide_the_readers_of_one_input() {
        let most = |n| LayerGroups::fewest(&specs(), |range| range.len() <= n);
        assert_eq!(most(8), Some(LayerGroups::one(&specs())));
        assert_eq!(most(7), Some(LayerGroups(vec![0..7, 7..8])));
        assert_eq!(most(6), Some(LayerGroups(vec![0..4, 4..8])));
        assert_eq!(most(3), Some(LayerGroups(vec![0..3, 3..4, 4..7, 7..8])));
        assert_eq!(most(2), None);
        assert_eq!(Some(LayerGroups::smallest(&specs())), most(3));
    }

    #[test]
    fn what_is_left_after_some_layers_is_within_the_groups() {
        let groups = LayerGroups(vec![0..4, 4..7, 7..8]);
        assert_eq!(groups.after(0).collect::<Vec<_>>(), [0..4, 4..7, 7..8]);
        assert_eq!(groups.after(3).collect::<Vec<_>>(), [3..4, 4..7, 7..8]);
        assert_eq!(groups.after(7).collect::<Vec<_>>(), std::slice::from_ref(&(7..8)));
        assert_eq!(groups.after(8).count(), 0);
    }
}
