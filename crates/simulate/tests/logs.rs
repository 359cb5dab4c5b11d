//! Training logs: where they are found, and what is wrong with broken ones.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::path::Path;

use etymon_simulate::{Recorded, SimulateError};
use etymon_store::TrainingLog;

const QUERIES: [&str; 2] = ["q1", "q2"];

struct Log(TrainingLog);

impl Log {
    fn new(folder: &Path, run: &str) -> Self {
        Self(TrainingLog::open(folder, run))
    }

    fn losses(mut self, step: u64, losses: [f64; 2]) -> Self {
        self.0.losses(step, &QUERIES.map(str::to_owned), &losses).unwrap();
        self
    }

    fn step(mut self, step: u64, ids: &[&str]) -> Self {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        self.0.step(step, 0.5, &ids, 1.0).unwrap();
        self
    }

    fn write(mut self) {
        self.0.flush().unwrap();
    }
}

fn good(folder: &Path, run: &str) {
    let log = Log::new(folder, run).losses(0, [2.0, 3.0]).step(0, &["b", "a"]).step(1, &["a", "a"]);
    log.losses(2, [1.0, 2.5]).write();
}

#[test]
fn runs_are_found_in_a_folder_of_runs_in_one_run_and_in_a_log() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    good(&at("run-0001/log"), "second");
    good(&at("run-0000/log"), "first");
    let all = Recorded::read(&[temp.path().to_owned()]).unwrap();
    assert_eq!(all.runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(all.train_ids, ["a", "b"]);
    let run = &all.runs[0];
    assert_eq!(run.curriculum.batches, [vec![1, 0], vec![0, 0]]);
    assert_eq!((run.measured.as_slice(), run.losses.as_slice()), (&[0, 2][..], &[2.0, 3.0, 1.0, 2.5][..]));
    assert_eq!(all.counts(), [6, 2]);
    assert_eq!(Recorded::read(&[at("run-0000"), at("run-0001/log")]).unwrap(), all);
    good(&at("run-0000/log"), "third");
    assert_eq!(Recorded::read(&[at("run-0000")]).unwrap().runs.len(), 2, "a log may have several runs");
}

#[test]
fn every_fault_of_a_log_is_named() {
    let error = |fill: &dyn Fn(&Path)| {
        let temp = tempfile::tempdir().unwrap();
        fill(temp.path());
        Recorded::read(&[temp.path().to_owned()]).unwrap_err()
    };
    let start = |folder: &Path| Log::new(folder, "r").losses(0, [2.0, 3.0]).step(0, &["a"]);
    type E = SimulateError;
    assert!(matches!(error(&|_| {}), E::NoLog { .. }));
    assert!(matches!(error(&|f| Log::new(f, "r").losses(0, [1.0; 2]).write()), E::Missing { what: "steps", .. }));
    assert!(matches!(error(&|f| Log::new(f, "r").step(0, &["a"]).write()), E::Missing { what: "losses", .. }));
    let out_of_order = error(&|f| start(f).step(2, &["a"]).write());
    assert!(matches!(out_of_order, E::StepOrder { after: 0, step: 2, .. }), "{out_of_order}");
    assert!(matches!(error(&|f| start(f).step(0, &["a"]).write()), E::StepOrder { after: 0, step: 0, .. }));
    let nan = error(&|f| start(f).losses(1, [1.0, f64::NAN]).write());
    assert!(nan.to_string().contains("run `r`, step 1: the loss of query `q2` is NaN"), "{nan}");
    let late = error(&|f| start(f).losses(2, [1.0; 2]).write());
    assert!(matches!(late, E::LossAfterEnd { step: 2, n_steps: 1, .. }));
    assert!(matches!(error(&|f| start(f).losses(0, [1.0; 2]).write()), E::DuplicateLoss { step: 0, .. }));
    let no_first = error(&|f| Log::new(f, "r").step(0, &["a"]).losses(1, [1.0; 2]).write());
    assert!(matches!(no_first, E::NoFirstLoss { .. }));
    let missing = error(&|f| {
        let mut log = start(f);
        log.0.losses(1, &["q1".to_owned()], &[1.0]).unwrap();
        log.write();
    });
    assert!(matches!(&missing, E::MissingLoss { step: 1, query, .. } if query == "q2"), "{missing}");
    let other_queries = error(&|f| {
        start(f).write();
        let mut log = TrainingLog::open(f, "s");
        log.step(0, 0.5, &["a".to_owned()], 1.0).unwrap();
        log.losses(0, &["q1".to_owned()], &[1.0]).unwrap();
        log.flush().unwrap();
    });
    assert!(matches!(&other_queries, E::OtherQueries { query, .. } if query == "q2"), "{other_queries}");
    let twice = error(&|f| ["x/log", "y/log"].iter().for_each(|name| good(&f.join(name), "same")));
    assert!(matches!(twice, E::DuplicateRun { .. }));
}
