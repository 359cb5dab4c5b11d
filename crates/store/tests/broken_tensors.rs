//! One test per way a safetensors file can be broken: the error names the file and, where there is one, the tensor.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::fs;

use etymon_store::{ShardedTensors, StoreError, TensorFile};

/// A file of this header and this many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// Opens a file of these bytes and checks that the error names it.
fn open(bytes: &[u8]) -> StoreError {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    let error = TensorFile::open(&path).unwrap_err();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    error
}

const TWO: &str =
    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;

#[test]
fn a_missing_file_is_not_found() {
    let error = TensorFile::open("nowhere/model.safetensors".as_ref()).unwrap_err();
    assert_eq!(error.to_string(), "reading nowhere/model.safetensors: not found");
}

#[test]
fn an_empty_file_lacks_a_header() {
    assert!(matches!(open(b""), StoreError::HeaderTruncated { expected: 8, got: 0, .. }));
}

#[test]
fn a_file_that_ends_in_its_header_is_truncated() {
    let error = open(&file(TWO, 0)[..50]);
    assert!(matches!(error, StoreError::HeaderTruncated { got: 50, .. }), "{error}");
}

#[test]
fn a_git_lfs_pointer_is_no_safetensors_file() {
    let error = open(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
    assert!(error.to_string().contains("Git LFS"), "{error}");
}

#[test]
fn a_header_that_is_no_json_is_corrupt() {
    assert!(matches!(open(&file("{\"a\":", 0)), StoreError::HeaderJson { .. }));
    assert!(matches!(open(&file("[]", 0)), StoreError::HeaderJson { .. }));
}

#[test]
fn a_file_that_ends_in_its_data_names_the_first_tensor_cut() {
    let error = open(&file(TWO, 10));
    assert!(matches!(&error, StoreError::DataTruncated { tensor, .. } if tensor == "b"), "{error}");
    let error = open(&file(TWO, 3));
    assert!(matches!(&error, StoreError::DataTruncated { tensor, .. } if tensor == "a"), "{error}");
}

#[test]
fn a_file_that_goes_on_after_its_data_is_corrupt() {
    assert!(matches!(open(&file(TWO, 13)), StoreError::TrailingBytes { .. }));
}

#[test]
fn overlapping_tensors_are_named() {
    let error = open(&file(&TWO.replace("[8,12]", "[4,8]"), 8));
    assert!(
        matches!(&error, StoreError::TensorOffsets { tensor, begin: 4, expected: 8, .. } if tensor == "b"),
        "{error}"
    );
}

#[test]
fn a_hole_between_tensors_is_named() {
    let error = open(&file(&TWO.replace("[8,12]", "[12,16]"), 16));
    assert!(matches!(&error, StoreError::TensorOffsets { tensor, .. } if tensor == "b"), "{error}");
}

#[test]
fn a_tensor_that_ends_before_it_begins_is_named() {
    let error = open(&file(&TWO.replace("[8,12]", "[8,4]"), 12));
    assert!(matches!(&error, StoreError::TensorOffsets { tensor, .. } if tensor == "b"), "{error}");
}

#[test]
fn offsets_outside_of_the_file_are_named() {
    let header = TWO.replace("[1]", "[1000]").replace("[8,12]", "[8,4008]");
    let error = open(&file(&header, 12));
    assert!(matches!(&error, StoreError::DataTruncated { tensor, .. } if tensor == "b"), "{error}");
}

#[test]
fn a_shape_that_does_not_fit_the_bytes_is_named() {
    let error = open(&file(&TWO.replace("[2]", "[3]"), 12));
    assert!(matches!(&error, StoreError::TensorSize { tensor, bytes: 8, .. } if tensor == "a"), "{error}");
}

#[test]
fn a_shape_that_overflows_is_named() {
    let error = open(&file(&TWO.replace("[2]", "[9223372036854775807,4]"), 12));
    assert!(matches!(&error, StoreError::TensorSize { tensor, .. } if tensor == "a"), "{error}");
}

#[test]
fn an_unknown_dtype_is_named_with_its_tensor() {
    let error = open(&file(&TWO.replacen("F32", "F7", 1), 12));
    assert!(matches!(&error, StoreError::TensorEntry { tensor, .. } if tensor == "a"), "{error}");
    assert!(error.to_string().contains("F7"), "{error}");
}

#[test]
fn an_entry_without_offsets_is_named() {
    let error = open(&file(r#"{"a":{"dtype":"F32","shape":[2]}}"#, 8));
    assert!(error.to_string().contains("`a`") && error.to_string().contains("data_offsets"), "{error}");
}

#[test]
fn a_missing_tensor_and_a_tensor_of_another_type_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    fs::write(&path, file(&TWO.replacen("F32", "I32", 1), 12)).unwrap();
    let tensors = TensorFile::open(&path).unwrap();
    let error = tensors.read_f32("c").unwrap_err();
    assert_eq!(error.to_string(), format!("{} has no tensor `c`", path.display()));
    let error = tensors.read_f32("a").unwrap_err();
    assert!(error.to_string().contains("`a` is I32, which cannot be used as f32"), "{error}");
    assert!(matches!(tensors.read_i64("b"), Err(StoreError::TensorType { wanted: "i64", .. })));
}

#[test]
fn a_missing_shard_is_named_with_its_index_and_tensor() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one.safetensors"), file(TWO, 12)).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"a": "one.safetensors", "z": "two.safetensors"}}"#).unwrap();
    let error = ShardedTensors::open(dir.path()).unwrap_err();
    assert!(
        matches!(&error, StoreError::MissingShard { shard, tensor, .. } if shard.ends_with("two.safetensors") && tensor == "z"),
        "{error}"
    );
}

#[test]
fn a_tensor_that_its_shard_lacks_is_named_with_the_shard() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one.safetensors"), file(TWO, 12)).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"z": "one.safetensors"}}"#).unwrap();
    let error = ShardedTensors::open(dir.path()).unwrap().read_f32("z").unwrap_err();
    assert!(error.to_string().contains("one.safetensors has no tensor `z`"), "{error}");
}

#[test]
fn a_broken_index_is_named_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors.index.json"), "{\"weights\": {}}").unwrap();
    let error = ShardedTensors::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::Json { line: 1, .. }), "{error}");
    assert!(error.to_string().contains("weight_map"), "{error}");
}
