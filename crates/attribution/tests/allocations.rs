//! What a pass allocates once it runs: nothing that grows with the batch. The bench of the same name gives all numbers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::counting::{Allocations, Counting};
use common::passes::{Pass, Passes, models};
use etymon_attribution::Rank;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Small lists of a batch (parts of the vocabulary head, blocks, names of layers): none grows with rows or widths.
const MOST: u64 = 100;

/// Batches that a pass warms up on.
const WARM: usize = 2;

const PASSES: [Pass; 5] =
    [Pass::Covariance, Pass::Correction, Pass::Score(Rank::Full), Pass::Score(Rank::Low(4)), Pass::SelfInfluence];

// Elsewhere, plain products are those of the `gemm` crate, with work space of its own.
fn has_own_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn check(name: &str, passes: &Passes) {
    for pass in PASSES {
        for Allocations { count, large, largest, .. } in passes.allocations(pass).into_iter().skip(WARM) {
            assert_eq!(large, 0, "{name}, {pass:?}: {largest} bytes at once");
            assert!(count < MOST, "{name}, {pass:?}: {count} allocations");
        }
    }
}

// One test: the pools of large buffers are shared, and what another test holds would be counted in.
#[test]
fn a_pass_allocates_nothing_of_4_kib_from_its_third_batch_on() {
    Allocations::take();
    drop(std::hint::black_box(vec![1_u8; 1 << 20]));
    assert_eq!(Allocations::take().large, 1, "the allocator counts");
    if !has_own_products() {
        return;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for (name, json) in models() {
        for loss_start in [1, 20] {
            pool.install(|| check(name, &Passes::new(json.clone(), 20, loss_start)));
        }
    }
}
