//! Time and memory of a large fit: `cargo run --release -p etymon-simulate --example fit_time -- 1000 1000 24 1000 8 linear`
//! (train examples, watched examples, runs, steps, batch size, kind).
#![allow(clippy::print_stdout)]

use std::time::Instant;

use etymon_simulate::{Curriculum, FitOptions, Kind, Recorded, Run, Solver, fit};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn run(r: usize, [n, q, _, steps, batch]: [usize; 5]) -> Run {
    let mut rng = ChaCha8Rng::seed_from_u64(r as u64);
    let batches: Vec<Vec<usize>> = (0..steps).map(|_| (0..batch).map(|_| rng.random_range(0..n)).collect()).collect();
    let mut now: Vec<f64> = (0..q).map(|_| rng.random_range(1.0..3.0)).collect();
    let mut losses = now.clone();
    for batch in &batches {
        for (k, loss) in now.iter_mut().enumerate() {
            let effect = |i: &usize| ((i * 31 + k * 17) % 97) as f64 / 97.0 - 0.52;
            let sum: f64 = batch.iter().map(effect).sum();
            *loss += 0.002 * *loss * sum + 0.01 * (rng.random::<f64>() - 0.5);
        }
        losses.extend_from_slice(&now);
    }
    let curriculum = Curriculum { batches, learning_rates: vec![1.0; steps] };
    Run { name: format!("run-{r:04}"), curriculum, measured: (0..=steps as u64).collect(), losses }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let given: Vec<usize> = args.iter().map_while(|x| x.parse().ok()).collect();
    let sizes: [usize; 5] = given.try_into().unwrap_or([1000, 1000, 24, 1000, 8]);
    let kind = Kind::FITTED.into_iter().find(|k| args.last().is_some_and(|a| a == k.name())).unwrap_or(Kind::Linear);
    let ids = |prefix: &str, n| (0..n).map(|i| format!("{prefix}{i}")).collect();
    let runs = (0..sizes[2]).map(|r| run(r, sizes)).collect();
    let recorded = Recorded { train_ids: ids("t", sizes[0]), query_ids: ids("q", sizes[1]), runs };
    let started = Instant::now();
    let fitted = fit(&recorded, &FitOptions::new(kind), &|_, _| {})?;
    println!(
        "{sizes:?} {}: {:.1} s, {}",
        kind.name(),
        started.elapsed().as_secs_f64(),
        fitted.solver.map_or("", Solver::name)
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    Ok(())
}
