//! Logs of other trainers: jsonl, csv and parquet of one meaning, and what is wrong with broken ones.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::path::Path;

use etymon_simulate::{Recorded, SimulateError};
use etymon_store::TrainingLog;

const STEPS: &str = r#"{"run": "r", "step": 0, "learning_rate": 0.5, "train_ids": ["b", 7], "train_loss": 2.5, "tokens": 3}
{"run": "r", "step": 1, "learning_rate": 0.25, "train_ids": ["b", "b"]}

{"run": "r", "step": 2, "learning_rate": 0.125, "train_ids": []}
"#;
const LOSSES: &str = r#"{"run": "r", "step": 0, "query_id": "q1", "loss": 2}
{"run": "r", "step": 0, "query_id": "q2", "loss": 3.5}
{"run": "r", "step": 3, "query_id": "q2", "loss": 2.5}
{"run": "r", "step": 3, "query_id": "q1", "loss": 1.5}
"#;

fn put(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
}

fn read(folder: &Path) -> Result<Recorded, SimulateError> {
    Recorded::read(&[folder.to_owned()])
}

fn jsonl(folder: &Path, steps: &str, losses: &str) {
    put(folder, "steps.jsonl", steps);
    put(folder, "losses.jsonl", losses);
}

#[test]
fn jsonl_csv_and_parquet_of_one_run_are_the_same_run() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    jsonl(&at("jsonl"), STEPS, LOSSES);
    put(&at("csv"), "steps.csv", "train_ids,step,run,learning_rate\nb; 7,0,r,0.5\nb;b,1,r,0.25\n,2,r,0.125\n");
    put(&at("csv"), "losses.csv", "run,step,query_id,loss\nr,0,q1,2\nr,0,q2,3.5\nr,3,q2,2.5\nr,3,q1,1.5\n");
    let mut log = TrainingLog::open(&at("own"), "r");
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let batches: [&[&str]; 3] = [&["b", "7"], &["b", "b"], &[]];
    for (step, batch) in (0u32..).zip(batches) {
        log.step(step.into(), 0.5f64.powi(step as i32 + 1), &ids(batch), f64::NAN).unwrap();
    }
    log.losses(0, &ids(&["q1", "q2"]), &[2.0, 3.5]).unwrap();
    log.losses(3, &ids(&["q2", "q1"]), &[2.5, 1.5]).unwrap();
    log.flush().unwrap();
    // The same tables under the names of another trainer.
    std::fs::create_dir(at("parquet")).unwrap();
    for name in ["steps", "losses"] {
        let (from, to) = (format!("own/{name}-00000.parquet"), format!("parquet/{name}.parquet"));
        std::fs::copy(at(&from), at(&to)).unwrap();
    }
    let own = read(&at("own")).unwrap();
    assert_eq!(own.train_ids, ["7", "b"]);
    assert_eq!((own.runs[0].curriculum.n_steps(), own.runs[0].measured.as_slice()), (3, &[0, 3][..]));
    for format in ["jsonl", "csv", "parquet"] {
        assert_eq!(read(&at(format)).unwrap(), own, "{format}");
    }
}

#[test]
fn a_log_without_a_column_run_is_called_after_its_folder() {
    let temp = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        let without = |text: &str| text.replace("\"run\": \"r\", ", "");
        jsonl(&temp.path().join(name).join("log"), &without(STEPS), &without(LOSSES));
    }
    let runs = read(temp.path()).unwrap().runs;
    assert_eq!(runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
}

/// What is said of a jsonl log of which a text was replaced.
fn fault(part: &str, with: &str) -> String {
    let temp = tempfile::tempdir().unwrap();
    assert!(STEPS.contains(part) || LOSSES.contains(part), "{part}");
    jsonl(temp.path(), &STEPS.replacen(part, with, 1), &LOSSES.replacen(part, with, 1));
    let error = read(temp.path()).unwrap_err().to_string();
    error.replace(&temp.path().display().to_string(), "LOG")
}

#[test]
fn every_fault_of_a_row_is_named_with_its_file_and_line() {
    for (part, with, file, says) in [
        (r#""step": 1, "#, r#""step": 3, "#, "steps.jsonl:2", "after step 0 comes step 3"),
        (r#""step": 1, "#, r#""step": 0, "#, "steps.jsonl:2", "after step 0 comes step 0"),
        (r#""step": 2, "#, r#""step": 2.5, "#, "steps.jsonl:4", "`step` should be a whole number from 0, got 2.5"),
        (r#""step": 1, "#, r#""step": -1, "#, "steps.jsonl:2", "`step` should be a whole number"),
        (r#""learning_rate": 0.25, "#, "", "steps.jsonl:2", "there is no column `learning_rate`, there are"),
        (
            r#""learning_rate": 0.25"#,
            r#""learning_rate": null"#,
            "steps.jsonl:2",
            "`learning_rate` is empty, or not finite",
        ),
        (r#"["b", "b"]"#, r#"["b", null]"#, "steps.jsonl:2", "`train_ids` should be a list of ids"),
        (r#"["b", "b"]"#, r#"[""]"#, "steps.jsonl:2", "`train_ids` should be a list of ids"),
        (r#"["b", "b"]"#, r#"{"b": 2}"#, "steps.jsonl:2", "`train_ids` should be a list of ids"),
        (r#""loss": 3.5"#, r#""loss": NaN"#, "losses.jsonl:2", "not a JSON object"),
        (r#""loss": 3.5"#, r#""loss": "NaN""#, "losses.jsonl:2", "`loss` is not a finite number"),
        (r#""loss": 3.5"#, r#""loss": "high""#, "losses.jsonl:2", "`loss` should be a number, got \"high\""),
        (r#""loss": 3.5"#, r#""loss": null"#, "losses.jsonl:2", "`loss` is empty, or not finite"),
        (r#", "loss": 3.5"#, "", "losses.jsonl:2", "there is no column `loss`"),
        (
            r#""query_id": "q2", "loss": 3.5"#,
            r#""query_id": "q1", "loss": 3.5"#,
            "losses.jsonl:2",
            "two losses at step 0",
        ),
        (
            r#""query_id": "q2", "loss": 3.5"#,
            r#""query_id": ["q2"], "loss": 3.5"#,
            "losses.jsonl:2",
            "`query_id` should be an id",
        ),
        (r#""step": 3, "#, r#""step": 4, "#, "losses.jsonl:3", "has 3 steps, and a loss of query `q2` at step 4"),
        (r#"{"run": "r", "step": 0, "query_id": "q1""#, r#"["r", 0, "q1""#, "losses.jsonl:1", "not a JSON object"),
    ] {
        let error = fault(part, with);
        assert!(error.starts_with(&format!("LOG/{file}: ")) && error.contains(says), "{part} → {with}: {error}");
    }
    let missing = fault("{\"run\": \"r\", \"step\": 3, \"query_id\": \"q1\", \"loss\": 1.5}\n", "");
    assert!(missing.starts_with("LOG: run `r`") && missing.contains("`q1`") && missing.contains("step 3"), "{missing}");
}

#[test]
fn faults_of_csv_and_of_parquet_are_named_with_line_and_row() {
    let temp = tempfile::tempdir().unwrap();
    let said = |folder: &Path| read(folder).unwrap_err().to_string().replace(&folder.display().to_string(), "LOG");
    let csv = temp.path().join("csv");
    put(&csv, "losses.csv", "step,query_id,loss\n0,q,1\n2,q,nan\n");
    put(&csv, "steps.csv", "step,learning_rate,train_ids\n0,0.1,a\n1,0.1\n");
    let error = said(&csv);
    assert!(error.starts_with("LOG/steps.csv:3: 2 fields, expected 3"), "{error}");
    put(&csv, "steps.csv", "step,learning_rate,train_ids\n0,0.1,a\n1,0.1,a;;b\n");
    assert!(said(&csv).starts_with("LOG/steps.csv:3: `train_ids` should be a list of ids"), "{}", said(&csv));
    put(&csv, "steps.csv", "step,learning_rate,train_ids\n0,0.1,a\n1,0.1,a;b\n");
    let error = said(&csv);
    assert!(error.starts_with("LOG/losses.csv:3: `loss` is not a finite number"), "{error}");

    let own = temp.path().join("own");
    let mut log = TrainingLog::open(&own, "r");
    log.step(0, 0.1, &["a".to_owned()], 1.0).unwrap();
    log.losses(0, &["p".to_owned(), "q".to_owned()], &[1.0, f64::INFINITY]).unwrap();
    log.flush().unwrap();
    let error = said(&own);
    assert!(error.starts_with("LOG/losses-00000.parquet:2: run `r`, step 0: the loss of query `q` is inf"), "{error}");
}

#[test]
fn a_table_that_is_there_twice_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    jsonl(temp.path(), STEPS, LOSSES);
    put(temp.path(), "losses.csv", "run,step,query_id,loss\nr,0,q,1\n");
    let error = read(temp.path()).unwrap_err();
    assert!(matches!(&error, SimulateError::TwoLogs { .. }), "{error}");
    assert!(error.to_string().contains("losses.csv") && error.to_string().contains("losses.jsonl"), "{error}");
}
