//! Samples of train examples.

/// About `n` of `of` examples, evenly spread.
pub fn spread<E>(examples: impl Iterator<Item = E>, of: u64, n: usize) -> impl Iterator<Item = E> {
    let n = n as u64;
    examples.zip(0u64..).filter(move |(_, i)| n >= of || i * n / of != (i + 1) * n / of).map(|(example, _)| example)
}
