//! Score tables and tables of rows.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use etymon_store::{
    Fields, LayerTable, LayerTableWriter, QueryRow, ScoreTable, ScoreTableWriter, StoreError, TokenTable,
    TokenTableWriter, TopRow, TopSide,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use serde_json::json;

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|&s| s.to_owned()).collect()
}

fn ids(rows: std::ops::Range<usize>) -> Vec<String> {
    rows.map(|i| format!("t{i}")).collect()
}

/// Row i has the scores i and -i.
fn scores(rows: std::ops::Range<usize>) -> Vec<f32> {
    rows.flat_map(|i| [i as f32, -(i as f32)]).collect()
}

fn scores_writer(folder: &Path, rows_per_file: usize) -> ScoreTableWriter {
    let rows = NonZeroUsize::new(rows_per_file).unwrap();
    ScoreTableWriter::open(folder, &strings(&["q1", "q.2"])).unwrap().with_rows_per_file(rows)
}

fn n_files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_score_table_has_exactly_the_documented_columns() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = scores_writer(dir.path(), 1_000_000);
    w.block(&ids(0..3), &scores(0..3)).unwrap();
    w.finish().unwrap();
    let file = File::open(dir.path().join("scores-00000.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let expected = Schema::new(vec![
        Field::new("train_id", DataType::Utf8, false),
        Field::new("q1", DataType::Float32, false),
        Field::new("q.2", DataType::Float32, false),
    ]);
    assert_eq!(reader.schema().fields(), &expected.fields);
    assert!(matches!(reader.metadata().row_group(0).column(1).compression(), Compression::ZSTD(_)));
    let batch: RecordBatch = reader.build().unwrap().next().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 3);
}

#[test]
fn scores_round_trip_whatever_the_blocks_and_the_files() {
    for (block, rows_per_file) in [(10, 1_000), (3, 7), (25, 4), (1, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let mut w = scores_writer(dir.path(), rows_per_file);
        for start in (0..25).step_by(block) {
            let rows = start..(start + block).min(25);
            w.block(&ids(rows.clone()), &scores(rows)).unwrap();
        }
        w.finish().unwrap();
        assert_eq!(n_files(dir.path()), 25usize.div_ceil(rows_per_file));
        let table = ScoreTable::open(dir.path()).unwrap();
        assert_eq!((table.n_rows(), table.queries()), (25, &strings(&["q1", "q.2"])[..]));
        let blocks: Vec<_> = table.blocks(6).collect::<Result<_, _>>().unwrap();
        assert!(blocks.iter().all(|b| b.keys.train_ids.len() <= 6));
        assert_eq!(blocks.iter().flat_map(|b| b.scores.clone()).collect::<Vec<_>>(), scores(0..25));
        assert_eq!(table.train_ids().unwrap(), ids(0..25));
        assert_eq!(table.column("q.2").unwrap(), (0..25).map(|i| -(i as f32)).collect::<Vec<_>>());
        assert!(matches!(table.column("q3"), Err(StoreError::MissingQuery { .. })));
    }
}

#[test]
fn row_groups_hold_64k_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = scores_writer(dir.path(), 1_000_000);
    w.block(&ids(0..100_000), &scores(0..100_000)).unwrap();
    w.finish().unwrap();
    let file = File::open(dir.path().join("scores-00000.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let rows: Vec<_> = reader.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(rows, [65_536, 34_464]);
    assert_eq!(ScoreTable::open(dir.path()).unwrap().column("q1").unwrap()[99_999], 99_999.0);
}

#[test]
fn a_killed_table_goes_on_after_its_complete_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = scores_writer(dir.path(), 10);
    w.block(&ids(0..25), &scores(0..25)).unwrap();
    std::mem::forget(w); // Killed: the part stays.
    assert!(dir.path().join("scores-00002.parquet.part").exists());

    let mut w = scores_writer(dir.path(), 10);
    assert_eq!((w.n_files(), w.rows_done()), (2, 20));
    w.block(&ids(20..30), &scores(20..30)).unwrap();
    w.finish().unwrap();
    assert_eq!(ScoreTable::open(dir.path()).unwrap().train_ids().unwrap(), ids(0..30));
    assert_eq!(n_files(dir.path()), 3);
}

#[test]
fn a_table_goes_back_to_the_files_its_checkpoint_knows() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = scores_writer(dir.path(), 10);
    w.block(&ids(0..5), &scores(0..5)).unwrap();
    w.rotate().unwrap();
    let checkpoint = w.n_files();
    w.block(&ids(5..25), &scores(5..25)).unwrap();
    drop(w);

    let mut w = scores_writer(dir.path(), 10);
    assert!(matches!(w.keep_files(9), Err(StoreError::MissingSegment { .. })), "a checkpoint of lost files");
    w.keep_files(checkpoint).unwrap();
    assert_eq!(w.rows_done(), 5);
    w.block(&ids(5..8), &scores(5..8)).unwrap();
    w.finish().unwrap();
    assert_eq!(
        ScoreTable::open(dir.path()).unwrap().column("q1").unwrap(),
        (0..8).map(|i| i as f32).collect::<Vec<_>>()
    );
}

#[test]
fn a_table_without_rows_or_queries_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(ScoreTable::open(dir.path()), Err(StoreError::NoTable { name: "scores", .. })));
    scores_writer(dir.path(), 10).finish().unwrap();
    let table = ScoreTable::open(dir.path()).unwrap();
    assert_eq!((table.n_rows(), table.blocks(4).count()), (0, 0));

    let dir = tempfile::tempdir().unwrap();
    let mut w = ScoreTableWriter::open(dir.path(), &[]).unwrap();
    w.block(&ids(0..2), &[]).unwrap();
    w.finish().unwrap();
    assert_eq!(ScoreTable::open(dir.path()).unwrap().n_rows(), 2);
}

#[test]
fn layers_and_tokens_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let queries = strings(&["q"]);
    let (ids, layers) = (strings(&["a", "a", "b"]), strings(&["h.0.mlp", "h.1.mlp", "h.0.mlp"]));
    let mut w = LayerTableWriter::open(dir.path(), &queries).unwrap();
    w.block(&ids, &layers, &[1.0, 2.0, 3.0]).unwrap();
    w.finish().unwrap();
    let block = LayerTable::open(dir.path()).unwrap().blocks(9).next().unwrap().unwrap();
    assert_eq!((&block.keys.train_ids, &block.keys.layers, &block.scores[..]), (&ids, &layers, &[1.0, 2.0, 3.0][..]));

    let mut w = TokenTableWriter::open(dir.path(), &queries).unwrap();
    w.block(&ids, &[0, 1, 0], &strings(&["Ġthe", "\n", "é"]), &[4.0, 5.0, f32::NAN]).unwrap();
    w.finish().unwrap();
    let block = TokenTable::open(dir.path()).unwrap().blocks(9).next().unwrap().unwrap();
    assert_eq!((block.keys.positions, block.keys.tokens), (vec![0, 1, 0], strings(&["Ġthe", "\n", "é"])));
    assert_eq!(block.scores[..2], [4.0, 5.0]);
    assert!(block.scores[2].is_nan());
}

#[test]
fn query_ids_that_cannot_be_columns_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [&["a", "a"][..], &["train_id"], &[""]] {
        let error = ScoreTableWriter::open(dir.path(), &strings(bad)).err().unwrap();
        assert!(matches!(&error, StoreError::QueryName { query, .. } if query == bad[bad.len() - 1]), "{error}");
    }
    assert!(ScoreTableWriter::open(dir.path(), &strings(&["layer"])).is_ok());
    assert!(LayerTableWriter::open(dir.path(), &strings(&["layer"])).is_err());
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = scores_writer(dir.path(), 10).block(&ids(0..2), &[1.0; 3]).unwrap_err();
    assert!(matches!(error, StoreError::BlockShape { rows: 2, queries: 2, column: "scores", got: 3, .. }), "{error}");
    let mut w = LayerTableWriter::open(dir.path(), &[]).unwrap();
    assert!(matches!(w.block(&ids(0..2), &ids(0..1), &[]), Err(StoreError::BlockShape { got: 1, .. })));
}

#[test]
fn a_table_of_other_queries_and_a_missing_file_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut w = scores_writer(dir.path(), 1);
    w.block(&ids(0..3), &scores(0..3)).unwrap();
    w.finish().unwrap();
    let error = ScoreTableWriter::open(dir.path(), &strings(&["q1", "q3"])).err().unwrap();
    assert!(error.to_string().ends_with("query column 1 is `q.2`, expected `q3`"), "{error}");
    fs::remove_file(dir.path().join("scores-00001.parquet")).unwrap();
    let error = ScoreTable::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::MissingSegment { path } if path.ends_with("scores-00001.parquet")), "{error}");
}

#[test]
fn a_corrupt_table_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("scores-00000.parquet"), b"not parquet at all").unwrap();
    let error = ScoreTable::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::Parquet { action: "reading", .. }), "{error}");
    assert!(error.to_string().contains("scores-00000.parquet"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_with_the_name_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    for rows in [3, 200_000] {
        // A failed attempt removes the link.
        std::os::unix::fs::symlink("/dev/full", dir.path().join("scores-00000.parquet.part")).unwrap();
        let mut w = scores_writer(dir.path(), 1_000_000);
        let error = w.block(&ids(0..rows), &scores(0..rows)).and_then(|()| w.finish()).unwrap_err();
        assert!(matches!(&error, StoreError::DiskFull { path } if path.ends_with("scores-00000.parquet")), "{error}");
    }
}

#[test]
fn queries_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queries.parquet");
    let metadata: Fields = json!({ "year": 1999, "tags": ["x"] }).as_object().unwrap().clone();
    let text = QueryRow {
        query_id: "q1".to_owned(),
        text: Some("all of it".to_owned()),
        prompt: Some("all".to_owned()),
        completion: Some(" of it".to_owned()),
        measurement: -1.25,
        metadata,
    };
    let features = QueryRow {
        query_id: "q2".to_owned(),
        text: None,
        prompt: None,
        completion: None,
        metadata: Fields::new(),
        ..text.clone()
    };
    let rows = vec![text, features];
    QueryRow::write_all(&path, &rows).unwrap();
    assert_eq!(QueryRow::read_all(&path).unwrap(), rows);
    let error = TopRow::read_all(&path).unwrap_err();
    assert!(matches!(&error, StoreError::Column { column, found: None, .. } if column == "side"), "{error}");
}

#[test]
fn top_rows_round_trip_with_and_without_details() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("top.parquet");
    let rows: Vec<TopRow> = (0..3_000)
        .map(|i| TopRow {
            query_id: "q".to_owned(),
            side: if i % 7 == 0 { TopSide::Opponent } else { TopSide::Proponent },
            rank: i + 1,
            train_id: format!("t{i}"),
            score: 1.0 / (i + 1) as f32,
            text: (i % 2 == 0).then(|| "text".to_owned()),
            tokens: (i % 3 == 0).then(|| strings(&["te", "xt"])),
            token_scores: (i % 3 == 0).then(|| vec![i as f32, -1.0]),
            layer_scores: (i % 5 == 0).then(Vec::new),
            metadata: Fields::new(),
        })
        .collect();
    TopRow::write_all(&path, &rows).unwrap();
    assert_eq!(TopRow::read_all(&path).unwrap(), rows);
    TopRow::write_all(&path, &[]).unwrap();
    assert!(TopRow::read_all(&path).unwrap().is_empty());
}
