//! A fit that runs on the only worker of the thread pool: nothing that it waits for may need that worker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use etymon_curvature::{FitObserver, FitOptions, Labels, Phase, fit};
use etymon_data::{BatchLimits, Corpus, CorpusOptions};
use etymon_model::{LayerGroups, load};
use etymon_tensor::Cpu;

struct Silent;

impl FitObserver for Silent {
    fn begin(&mut self, _: Phase, _: u64, _: u64) {}
    fn advance(&mut self, _: u64, _: u64) {}
    fn end(&mut self) {}
}

#[test]
fn a_fit_on_the_only_worker_of_the_pool_does_not_wait_for_itself() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let (done, wait) = channel();
    rayon::spawn(move || {
        let lm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/lm");
        let model = load(Cpu::<f32>::new(), &lm).unwrap();
        let corpus = Corpus::open(&[lm.join("train.jsonl")], None, CorpusOptions::default()).unwrap();
        let options = FitOptions {
            labels: Labels::Data,
            correction: false,
            max_examples: Some(20),
            sample: None,
            shard_examples: 8,
            limits: BatchLimits { max_rows: 200, max_examples: usize::MAX },
            groups: LayerGroups::one(model.layers()),
        };
        let folder = tempfile::tempdir().unwrap();
        let examples = fit(&model, &corpus, &options, folder.path(), &mut Silent).map(|fitted| fitted.examples);
        done.send(examples.map_err(|e| e.to_string())).unwrap();
    });
    assert_eq!(wait.recv_timeout(Duration::from_secs(120)), Ok(Ok(20)));
}
