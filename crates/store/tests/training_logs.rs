//! The training log, and what a crash leaves of it.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::fs;
use std::path::Path;

use etymon_store::{StoreError, TrainingLog, loss_segments, read_losses, read_steps};

fn queries() -> Vec<String> {
    vec!["q1".to_owned(), "q2".to_owned()]
}

fn log_steps(log: &mut TrainingLog, steps: std::ops::Range<u64>, flush_every: u64) {
    for step in steps {
        log.losses(step, &queries(), &[step as f64, 0.5]).unwrap();
        log.step(step, 1e-3, &[format!("a{step}"), format!("b{step}")], 2.0).unwrap();
        if (step + 1).is_multiple_of(flush_every) {
            log.flush().unwrap();
        }
    }
}

fn steps(folder: &Path, run: &str) -> Vec<u64> {
    read_steps(folder).unwrap().into_iter().filter(|row| row.run == run).map(|row| row.step).collect()
}

fn loss_steps(folder: &Path, run: &str) -> Vec<u64> {
    let rows = read_losses(folder).unwrap().into_iter();
    rows.filter(|row| row.run == run && row.query_id == "q1").map(|row| row.step).collect()
}

fn range(end: u64) -> Vec<u64> {
    (0..end).collect()
}

#[test]
fn a_log_round_trips_over_its_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = TrainingLog::open(dir.path(), "run");
    log_steps(&mut log, 0..10, 4);
    log.flush().unwrap();
    log.flush().unwrap();
    for name in ["steps", "losses"] {
        assert!(dir.path().join(format!("{name}-00002.parquet")).exists());
        assert!(!dir.path().join(format!("{name}-00003.parquet")).exists(), "an empty flush writes nothing");
    }
    let rows = read_steps(dir.path()).unwrap();
    assert_eq!(steps(dir.path(), "run"), range(10));
    assert_eq!((rows[7].learning_rate, rows[7].train_loss), (1e-3, 2.0));
    assert_eq!(rows[7].train_ids, ["a7", "b7"]);
    let losses = read_losses(dir.path()).unwrap();
    assert_eq!(losses.len(), 20);
    assert_eq!((losses[14].step, losses[14].query_id.as_str(), losses[14].loss), (7, "q1", 7.0));
    let parts: Vec<_> = loss_segments(dir.path()).unwrap().map(|part| part.unwrap().1.len()).collect();
    assert_eq!(parts, [8, 8, 4]);
}

#[test]
fn a_folder_without_a_log_has_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read_steps(dir.path()).unwrap().is_empty());
    assert!(read_losses(&dir.path().join("nowhere")).unwrap().is_empty());
    TrainingLog::open(dir.path(), "run").truncate_from(0).unwrap();
}

#[test]
fn resuming_drops_what_came_after_the_checkpoint_and_logs_it_once() {
    for checkpoint in [0, 3, 4, 8, 10, 99] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = TrainingLog::open(dir.path(), "run");
        log_steps(&mut log, 0..11, 4);
        std::mem::forget(log); // Killed: steps 8 to 10 were never written.
        fs::write(dir.path().join("steps-00002.parquet.part"), b"half").unwrap();

        let mut log = TrainingLog::open(dir.path(), "run");
        log.truncate_from(checkpoint).unwrap();
        let kept = checkpoint.min(8);
        assert_eq!(steps(dir.path(), "run"), range(kept));
        log_steps(&mut log, kept..12, 4);
        log.flush().unwrap();
        assert_eq!(steps(dir.path(), "run"), range(12));
        assert_eq!(loss_steps(dir.path(), "run"), range(12));
    }
}

#[test]
fn truncating_after_a_step_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = TrainingLog::open(dir.path(), "run");
    log_steps(&mut log, 0..10, 4);
    log.truncate_after(8).unwrap();
    log.flush().unwrap();
    assert_eq!(steps(dir.path(), "run"), range(9), "pending rows count too");
    log.truncate_after(5).unwrap();
    assert_eq!(loss_steps(dir.path(), "run"), range(6));
}

#[test]
fn truncating_one_run_leaves_the_others() {
    let dir = tempfile::tempdir().unwrap();
    log_steps(&mut TrainingLog::open(dir.path(), "one"), 0..4, 2);
    log_steps(&mut TrainingLog::open(dir.path(), "two"), 0..4, 2);
    TrainingLog::open(dir.path(), "one").truncate_from(1).unwrap();
    assert_eq!((steps(dir.path(), "one"), steps(dir.path(), "two")), (range(1), range(4)));
    TrainingLog::open(dir.path(), "two").truncate_from(0).unwrap();
    assert_eq!((loss_steps(dir.path(), "one"), loss_steps(dir.path(), "two")), (range(1), range(0)));
}

#[test]
fn losses_and_queries_must_be_as_many() {
    let dir = tempfile::tempdir().unwrap();
    let error = TrainingLog::open(dir.path(), "run").losses(0, &queries(), &[1.0]).unwrap_err();
    assert!(matches!(error, StoreError::BlockShape { queries: 2, got: 1, .. }), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_the_rows_for_another_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = TrainingLog::open(dir.path(), "run");
    log_steps(&mut log, 0..3, 100);
    std::os::unix::fs::symlink("/dev/full", dir.path().join("steps-00000.parquet.part")).unwrap();
    let error = log.flush().unwrap_err();
    assert!(matches!(&error, StoreError::DiskFull { path } if path.ends_with("steps-00000.parquet")), "{error}");
    log.flush().unwrap();
    assert_eq!(steps(dir.path(), "run"), range(3));
}

#[test]
fn a_loss_that_another_program_left_out_is_no_zero() {
    use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
    let dir = tempfile::tempdir().unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("run", std::sync::Arc::new(StringArray::from(vec!["r", "r"]))),
        ("step", std::sync::Arc::new(UInt64Array::from(vec![0, 1]))),
        ("query_id", std::sync::Arc::new(StringArray::from(vec!["q", "q"]))),
        ("loss", std::sync::Arc::new(Float64Array::from(vec![Some(1.0), None]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = fs::File::create(dir.path().join("losses-00000.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let error = read_losses(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::Null { column, nulls: 1, .. } if column == "loss"), "{error}");
}
