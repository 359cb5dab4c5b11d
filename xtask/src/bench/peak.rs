//! The measured peak of each precision: the best of the large products of `crates/tensor/benches/kernels.rs`.

use std::collections::BTreeMap;
use std::process::Command;

use super::cases::Precision;
use super::{Folders, Result, process};

/// Best GFLOP/s of `matmul_into` by precision.
///
/// # Errors
/// The bench does not build or fails.
pub fn measure(folders: &Folders) -> Result<BTreeMap<String, f64>> {
    eprintln!("bench: peak of the products (cargo bench -p etymon-tensor -- matmul_into)");
    let mut cargo = Command::new("cargo");
    cargo.args(["bench", "--quiet", "--package", "etymon-tensor", "--bench", "kernels", "--", "matmul_into"]);
    let printed = process::run("cargo bench", cargo.current_dir(&folders.root), &folders.work)?.stdout;
    Ok(best(&printed))
}

/// Lines are `matmul_into [precision] MxKxN  RATE GFLOP/s  …`; without a precision it is float32.
fn best(printed: &str) -> BTreeMap<String, f64> {
    let mut best: BTreeMap<String, f64> = BTreeMap::new();
    for line in printed.lines().filter(|line| line.starts_with("matmul_into")) {
        let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty()).collect();
        let unit = words.iter().position(|&word| word == "GFLOP/s");
        let rate = unit.and_then(|i| words.get(i.wrapping_sub(1))?.parse::<f64>().ok());
        let precision = words.iter().find_map(|word| Precision::named(word)).unwrap_or(Precision::F32);
        if let Some(rate) = rate {
            let most = best.entry(precision.name().to_owned()).or_default();
            *most = most.max(rate);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_best_rate_of_each_precision_is_read() {
        let printed = "matmul_into 1024x1024x1024      300.50 GFLOP/s   7.1 ms\n\
                       matmul_into 1024x768x3072       310.00 GFLOP/s   7.1 ms\n\
                       matmul_into bf16 1024x768x768   900.00 GFLOP/s   7.1 ms\n\
                       dyT x 768x1024x768              999.00 GFLOP/s   7.1 ms\n";
        let best = super::best(printed);
        assert_eq!(best.get("f32"), Some(&310.0));
        assert_eq!(best.get("bf16"), Some(&900.0));
        assert_eq!(best.len(), 2);
    }
}
