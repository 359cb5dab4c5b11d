//! Random signs by address: the matrices of a random projection, which are computed where they are used.

/// A matrix of random signs without end. An entry depends on the key, its row and its column alone, so that any part can be
/// made anywhere: neither batch nor block nor thread changes it, and fewer columns are a prefix of more.
///
/// One hash gives the signs of 64 columns: word w of row r is splitmix64 (Steele, Lea & Flood 2014) at position r · 2¹⁶ + w
/// of the stream of the key. A set bit is −1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs(u64);

/// Columns of a word.
pub(crate) const WORD: usize = 64;
/// The increment of splitmix64.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Signs {
    /// The matrix of a seed, a number (of a checkpoint, say) and a name (of a layer).
    pub fn new(seed: u64, number: u64, name: &str) -> Self {
        let start = mix(mix(seed.wrapping_add(STEP)) ^ number);
        Self(name.bytes().fold(start, |key, byte| mix(key.wrapping_add(STEP) ^ u64::from(byte))))
    }

    /// +1 or −1.
    pub fn sign(self, row: usize, col: usize) -> f64 {
        if self.word(row, col / WORD) >> (col % WORD) & 1 == 0 { 1.0 } else { -1.0 }
    }

    /// The signs of columns `64 word..64 (word + 1)`, the first one in the lowest bit.
    #[inline(always)]
    pub(crate) fn word(self, row: usize, word: usize) -> u64 {
        let position = ((row as u64) << 16).wrapping_add(word as u64);
        mix(self.0.wrapping_add(position.wrapping_mul(STEP)))
    }
}

/// The finalizer of splitmix64: a permutation of the words in which every bit of the input moves half of the output.
#[inline(always)]
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_published_stream_of_splitmix64() {
        // The first outputs for the seed 1234567, as Rosetta Code and the generators of other languages give them.
        let words: Vec<u64> = (1..=3).map(|word| Signs(1_234_567).word(0, word)).collect();
        assert_eq!(words, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
