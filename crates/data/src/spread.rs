//! An evenly spread part of a stream.

/// `n` of `of` examples, evenly spread: example i is one of them when ⌊i n/of⌋ and ⌊(i + 1) n/of⌋ differ. The choice depends
/// on the two numbers alone.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Spread {
    n: u64,
    of: u64,
}

impl Spread {
    /// `n` (at least 1) of `of` examples; all of them when there are no more than `n`.
    pub fn new(n: u64, of: u64) -> Self {
        Self { n: n.clamp(1, of.max(1)), of: of.max(1) }
    }

    /// How many they are.
    pub fn n(self) -> u64 {
        self.n
    }

    /// Whether the example at position `i` is one of them.
    pub fn contains(self, i: u64) -> bool {
        let below = |i: u64| u128::from(i) * u128::from(self.n) / u128::from(self.of);
        i < self.of && below(i) != below(i + 1)
    }

    /// Position of the `k`th of them, from 0; after the last one, a position that is behind all.
    pub fn nth(self, k: u64) -> u64 {
        let position = (u128::from(k) + 1) * u128::from(self.of);
        u64::try_from(position.div_ceil(u128::from(self.n)) - 1).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_n_at_even_distances_and_the_kth_is_where_it_is_said_to_be() {
        for (n, of) in [(1, 1), (1, 10), (3, 10), (7, 10), (10, 10), (64, 1397), (50, 7)] {
            let spread = Spread::new(n, of);
            let places: Vec<u64> = (0..2 * of).filter(|&i| spread.contains(i)).collect();
            assert_eq!(places.len() as u64, n.min(of), "{n} of {of}");
            assert_eq!(spread.n(), n.min(of));
            assert!((0..).zip(&places).all(|(k, &place)| spread.nth(k) == place), "{n} of {of}: {places:?}");
            assert!(spread.nth(spread.n()) >= of);
            let gaps: Vec<u64> = places.windows(2).map(|w| w[1] - w[0]).collect();
            let (least, most) = (gaps.iter().min(), gaps.iter().max());
            assert!(least.zip(most).is_none_or(|(least, most)| most - least <= 1), "{n} of {of}: {gaps:?}");
        }
    }
}
