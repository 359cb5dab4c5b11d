//! What a pass allocates per batch, on one thread: `cargo bench -p etymon-attribution --bench allocations`.
//!
//! The first batch (of a score: the mean of the first window), and the worst of those from the third on: the steady state.
//! Products go to the `gemm` crate where a machine has no AVX-512; it has work space of its own.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::counting::{Allocations, Counting};
use common::passes::{Pass, Passes, models};
use etymon_attribution::Rank;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PASSES: [Pass; 7] = [
    Pass::Covariance,
    Pass::Correction,
    Pass::Score(Rank::Full),
    Pass::Score(Rank::Low(4)),
    Pass::Parts(Rank::Full),
    Pass::Parts(Rank::Low(4)),
    Pass::SelfInfluence,
];

fn line(name: &str, what: &str, Allocations { count, bytes, large, largest }: Allocations) {
    println!("{name:34} {what:7} {count:9} {bytes:13} {large:9} {largest:10}");
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    println!("{:34} {:7} {:>9} {:>13} {:>9} {:>10}", "pass", "batch", "count", "bytes", ">= 4 KiB", "largest");
    for (model, json) in models() {
        for (rows, loss_start) in [("", 1), (", some rows", 20)] {
            pool.install(|| {
                let passes = Passes::new(json.clone(), 40, loss_start);
                for pass in PASSES {
                    let counts = passes.allocations(pass);
                    let worst = counts[2..].iter().max_by_key(|c| (c.large, c.count)).copied().unwrap();
                    let name = format!("{model}{rows}: {pass:?}");
                    line(&name, "first", counts[0]);
                    line(&name, "steady", worst);
                }
            });
        }
    }
}
