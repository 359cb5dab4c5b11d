//! LDS of another tool's scores on models that were retrained with PyTorch (tests/reference/README.md).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests fail by panicking and tell what they found")]

use std::path::{Path, PathBuf};

use etymon_evaluate::{Interval, Method, Truth, lds};
use etymon_store::TensorFile;

const N: usize = 1400;

fn file(name: &str) -> TensorFile {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/digits");
    TensorFile::open(&folder.join(name)).unwrap()
}

fn truth() -> Truth {
    let file = file("retrained.safetensors");
    let bits = file.bytes("kept").unwrap().chunks(N / 8);
    let kept = bits.map(|row| (0..N).filter(|&i| row[i / 8] >> (i % 8) & 1 == 1).collect()).collect();
    let losses = file.read_f64("query_loss").unwrap();
    let values = losses.chunks(100).map(|row| row.iter().map(|loss| -loss).collect()).collect();
    Truth { queries: (0..100).map(|q| q.to_string()).collect(), kept, values }
}

fn score(truth: &Truth, tensor: &str) -> Interval {
    let scores = file("scores.safetensors").read_f32(tensor).unwrap().chunks(N).map(<[f32]>::to_vec).collect();
    let method = Method { name: tensor.to_owned(), seconds: None, measurement: None, scores };
    let found = lds(&method, truth, 0);
    println!("{tensor}: {:?}", found.mean);
    assert_eq!(found.undefined, 0);
    found.mean.unwrap()
}

#[test]
fn lds_of_kronfluence_on_retrainings_of_pytorch_is_that_of_the_reference() {
    let truth = truth();
    assert!(truth.kept.iter().all(|kept: &Vec<usize>| kept.len() == N / 2));
    // Computed where the reference was made, rounded to three digits.
    for (tensor, expected) in [("emp.ekfac.damp_heuristic", 0.566), ("emp.ekfac.damp_1e-8", 0.415), ("identity", 0.240)]
    {
        let found = score(&truth, tensor);
        assert!((found.value - expected).abs() < 6e-4, "{tensor}: {found:?}");
        // The reference gives a standard error of 0.013 over queries: ± 1.96 of it.
        assert!((0.01..0.06).contains(&found.half_width()), "{tensor}: {found:?}");
    }
}
