//! Every format gives the same examples.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringDictionaryBuilder, UInt32Builder};
use arrow_array::types::{Float32Type, Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, BinaryArray, Float32Array, Int64Array, LargeListArray, LargeStringArray, ListArray, RecordBatch,
    StringArray, TimestampSecondArray,
};
use common::{Folder, bytes_encoder, gzip, message, read, zstd};
use etymon_data::{Content, Corpus, CorpusOptions, Example, Format, Target, Task};
use parquet::arrow::ArrowWriter;

fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn texts(examples: &[Example]) -> Vec<&str> {
    examples.iter().map(|example| example.text.as_str()).collect()
}

const ROWS: &str =
    "{\"id\": \"a\", \"text\": \"first row\", \"author\": \"X\"}\n\n{\"id\": 7, \"text\": \"zweite Zeile ä\"}\n";

#[test]
fn jsonl_is_read_plain_and_compressed_and_with_a_byte_order_mark() {
    let folder = Folder::new();
    let plain = read(&folder.write("a.jsonl", ROWS), CorpusOptions::default()).unwrap();
    assert_eq!(texts(&plain), ["first row", "zweite Zeile ä"]);
    assert_eq!([plain[0].id.as_str(), plain[1].id.as_str()], ["a", "7"]);
    assert_eq!(plain[0].metadata["author"], "X");
    assert_eq!(plain[1].n_tokens(), "zweite Zeile ä".len());
    let two_members = [gzip(&ROWS[..20]), gzip(&ROWS[20..])].concat();
    let files = [
        folder.write("a.jsonl.gz", gzip(ROWS)),
        folder.write("two.jsonl.gz", two_members),
        folder.write("a.jsonl.zst", zstd(ROWS)),
        folder.write("mark.jsonl", format!("\u{feff}{ROWS}")),
        folder.write("mark.jsonl.gz", gzip(format!("\u{feff}{ROWS}"))),
        folder.write("dos.jsonl", ROWS.replace('\n', "\r\n")),
        folder.write("no_newline_at_the_end.jsonl", ROWS.trim_end()),
    ];
    for file in files {
        assert_eq!(read(&file, CorpusOptions::default()).unwrap(), plain, "{}", file.display());
    }
}

#[test]
fn text_has_one_example_per_line_and_blank_lines_are_none() {
    let folder = Folder::new();
    let path = folder.write("a.txt", "one line\n\n   \n{\"not\": \"json\"}\n");
    let examples = read(&path, CorpusOptions::default()).unwrap();
    assert_eq!(texts(&examples), ["one line", "{\"not\": \"json\"}"]);
    assert_eq!(examples[1].id, "1");
    let compressed = folder.write("b.txt.zst", zstd("one line\n{\"not\": \"json\"}"));
    assert_eq!(read(&compressed, CorpusOptions::default()).unwrap(), examples);
}

#[test]
fn parquet_has_the_columns_of_jsonl() {
    let folder = Folder::new();
    let path = folder.path().join("a.parquet");
    let mut kinds = StringDictionaryBuilder::<Int32Type>::new();
    kinds.append_value("prose");
    kinds.append_null();
    write_parquet(
        &path,
        vec![
            ("id", Arc::new(StringArray::from(vec![Some("a"), Some("b")])) as ArrayRef),
            ("text", Arc::new(LargeStringArray::from(vec!["first row", "second"]))),
            ("kind", Arc::new(kinds.finish())),
            ("when", Arc::new(TimestampSecondArray::from(vec![0, 86_400]))),
            ("picture", Arc::new(BinaryArray::from(vec![b"x".as_slice(), b"y"]))),
        ],
    );
    let examples = read(&path, CorpusOptions::default()).unwrap();
    assert_eq!(texts(&examples), ["first row", "second"]);
    assert_eq!(examples[0].metadata["kind"], "prose");
    assert!(examples[1].metadata["kind"].is_null());
    assert_eq!(examples[1].metadata["when"], "1970-01-02T00:00:00");
    assert!(!examples[0].metadata.contains_key("picture"), "columns without a JSON value are left out");
}

#[test]
fn parquet_holds_token_ids_and_features_in_any_list() {
    let folder = Folder::new();
    let path = folder.path().join("ids.parquet");
    let mut ids = ListBuilder::new(UInt32Builder::new());
    for row in 0..600u32 {
        ids.append_value([Some(row), Some(1), Some(2)]);
    }
    let starts: ArrayRef = Arc::new(Int64Array::from(vec![2; 600]));
    write_parquet(&path, vec![("input_ids", Arc::new(ids.finish()) as ArrayRef), ("completion_start", starts)]);
    let examples = read(&path, CorpusOptions::default()).unwrap();
    assert_eq!(examples.len(), 600, "several record batches");
    assert_eq!(examples[599].content, Content::Tokens { ids: vec![599, 1, 2], loss_start: 2 });

    let path = folder.path().join("wide.parquet");
    let ids = LargeListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(5), Some(6)])]);
    write_parquet(&path, vec![("input_ids", Arc::new(ids) as ArrayRef)]);
    assert_eq!(read(&path, CorpusOptions::default()).unwrap()[0].token_ids(), [5, 6]);

    let path = folder.path().join("features.parquet");
    let features = ListArray::from_iter_primitive::<Float32Type, _, _>([Some([Some(0.1), Some(2.5)])]);
    let targets: ArrayRef = Arc::new(Float32Array::from(vec![0.3f32]));
    write_parquet(&path, vec![("features", Arc::new(features) as ArrayRef), ("target", targets)]);
    let expected = Content::Features { values: vec![0.1, 2.5], target: Target::Values(vec![0.3]) };
    assert_eq!(read(&path, CorpusOptions::default()).unwrap()[0].content, expected);
}

#[test]
fn parquet_problems_name_the_row_or_the_column() {
    let folder = Folder::new();
    let path = folder.path().join("nan.parquet");
    let features = ListArray::from_iter_primitive::<Float32Type, _, _>([[Some(1.0)], [Some(f32::NAN)]].map(Some));
    let labels: ArrayRef = Arc::new(Int64Array::from(vec![0, 1]));
    write_parquet(&path, vec![("features", Arc::new(features) as ArrayRef), ("label", labels)]);
    let got = message(read(&path, CorpusOptions::default()));
    assert_eq!(got, "nan.parquet:2: `features[0]` is not a finite number");

    let path = folder.path().join("bytes.parquet");
    write_parquet(&path, vec![("text", Arc::new(BinaryArray::from(vec![b"x".as_slice()])) as ArrayRef)]);
    let got = message(read(&path, CorpusOptions::default()));
    assert_eq!(got, "bytes.parquet: column `text` has type Binary, which cannot be read");

    let broken = folder.write("broken.parquet", "PAR1 is not enough");
    assert!(message(read(&broken, CorpusOptions::default())).starts_with("broken.parquet: "));
}

fn features(examples: &[Example]) -> Vec<&Content> {
    examples.iter().map(|example| &example.content).collect()
}

fn class(values: &[f32], class: u32) -> Content {
    Content::Features { values: values.to_vec(), target: Target::Class(class) }
}

#[test]
fn csv_takes_all_numbers_as_features_and_the_last_column_as_the_label() {
    let folder = Folder::new();
    let csv = "id,x0,name,x1,y\n10,0.5,\"a, b\",1,3\n11,-1e2,c,0.25,0\n";
    let examples = read(&folder.write("a.csv", csv), CorpusOptions::default()).unwrap();
    assert_eq!(features(&examples), [&class(&[0.5, 1.0], 3), &class(&[-100.0, 0.25], 0)]);
    assert_eq!(examples[1].id, "11");
    assert_eq!(examples[0].metadata["name"], "a, b");
    assert_eq!(read(&folder.write("a.csv.gz", gzip(csv)), CorpusOptions::default()).unwrap(), examples);
}

#[test]
fn csv_labels_follow_the_option_and_the_task() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "y,a,b\n3,1,2\n4,5,6.5\n");
    let first = |options| read(&path, options).unwrap().remove(0).content;
    let label = || CorpusOptions { label: Some("y".into()), ..CorpusOptions::default() };
    assert_eq!(first(label()), class(&[1.0, 2.0], 3));
    let number = Content::Features { values: vec![1.0, 2.0], target: Target::Values(vec![3.0]) };
    assert_eq!(first(CorpusOptions { task: Some(Task::Regression), ..label() }), number);
    let inferred = Content::Features { values: vec![3.0, 1.0], target: Target::Values(vec![2.0]) };
    assert_eq!(first(CorpusOptions::default()), inferred, "6.5 is no class");
    let classes = CorpusOptions { task: Some(Task::Classification), ..CorpusOptions::default() };
    assert_eq!(message(read(&path, classes)), "a.csv:3: `b` should be a class (0, 1, 2 …), got 6.5");
    let missing = CorpusOptions { label: Some("z".into()), ..CorpusOptions::default() };
    assert_eq!(message(read(&path, missing)), "a.csv: no numeric column `z` for --label (numeric columns: y, a, b)");
}

#[test]
fn csv_without_a_header_and_csv_of_text_are_recognised() {
    let folder = Folder::new();
    let bare = read(&folder.write("bare.csv", "0,1,2\n3,4,5\n"), CorpusOptions::default()).unwrap();
    assert_eq!(features(&bare), [&class(&[0.0, 1.0], 2), &class(&[3.0, 4.0], 5)]);
    let path = folder.write("text.csv", "id,prompt,completion,year\nq,2 + 2 =,\" 4\",1999\n");
    let text = read(&path, CorpusOptions::default()).unwrap().remove(0);
    assert_eq!(text.text, "2 + 2 = 4");
    assert_eq!(text.metadata["year"], 1999);
    assert!(matches!(text.content, Content::Tokens { loss_start: 7, .. }));
}

#[test]
fn csv_problems_name_the_line() {
    let folder = Folder::new();
    let cases = [
        ("a,b\n1,2\n1,2,3\n", "a.csv:3: 3 fields, expected 2"),
        ("a,b\n1,2\n\"x\ny\",2\n1,2\n", "a.csv:3: `a` should be a number, got x\ny"),
        ("a,b\n1,2\nNaN,2\n", "a.csv:3: `a` is not a finite number"),
        ("a,b\n1,2\n,2\n", "a.csv:3: `a` should be a number, got "),
        ("a,b\nx,2\n", "a.csv: a feature and a label column are needed, numeric columns: b"),
    ];
    for (csv, expected) in cases {
        assert_eq!(message(read(&folder.write("a.csv", csv), CorpusOptions::default())), expected);
    }
}

#[test]
fn the_format_is_asked_for_where_the_name_does_not_say_it() {
    let folder = Folder::new();
    let path = folder.write("rows.data", ROWS);
    let got = message(read(&path, CorpusOptions::default()));
    assert_eq!(got, "rows.data: unknown data format; name it with --format jsonl|csv|text|parquet|idx");
    let format = Format::from_name("jsonl");
    assert_eq!(read(&path, CorpusOptions { format, ..CorpusOptions::default() }).unwrap().len(), 2);
}

#[test]
fn a_folder_is_its_data_files_in_the_order_of_their_names() {
    let folder = Folder::new();
    folder.write("b.jsonl", "{\"text\": \"bb\"}");
    folder.write("a.jsonl.gz", gzip("{\"text\": \"aa\"}"));
    for ignored in ["README.md", ".hidden.jsonl", "dataset_info.json"] {
        folder.write(ignored, "ignored");
    }
    let paths = [folder.path().to_path_buf()];
    let corpus = Corpus::open(&paths, Some(bytes_encoder()), CorpusOptions::default()).unwrap();
    assert_eq!(texts(&corpus.read_all().unwrap()), ["aa", "bb"]);
    assert_eq!(corpus.files().len(), 2);
    folder.write("LICENSE.txt", "text");
    let open = |options| Corpus::open(&paths, None, options);
    assert!(
        message(open(CorpusOptions::default())).ends_with("several formats (jsonl, text); choose one with --format")
    );
    let format = Some(Format::Jsonl);
    assert_eq!(open(CorpusOptions { format, ..CorpusOptions::default() }).unwrap().files().len(), 2);
    let empty = Folder::new();
    let got = message(Corpus::open(&[empty.path().to_path_buf()], None, CorpusOptions::default()));
    assert!(
        got.ends_with("no data file (.jsonl, .csv, .txt, .parquet, images-idx3-ubyte, also .gz and .zst)"),
        "{got}"
    );
}
