//! Safetensors files: what is written is read, by us and by the library.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use etymon_store::{Dtype, ShardedTensors, StoreError, TensorFile, TensorWriter, join_tensors};
use proptest::prelude::*;
use safetensors::SafeTensors;

type Declared<'a> = (&'a str, Dtype, &'a [usize]);

fn writer(path: &Path, tensors: &[Declared<'_>]) -> TensorWriter {
    TensorWriter::create(path, tensors, &BTreeMap::new()).unwrap()
}

fn write_one(path: &Path, name: &str, values: &[f32]) {
    let mut w = writer(path, &[(name, Dtype::F32, &[values.len()])]);
    w.write_f32(name, values).unwrap();
    w.finish().unwrap();
}

#[test]
fn every_type_round_trips_and_the_library_reads_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("a".to_owned(), "b".to_owned())]);
    let tensors: [Declared<'_>; 6] = [
        ("half", Dtype::F16, &[3]),
        ("single", Dtype::F32, &[2, 2]),
        ("brain", Dtype::BF16, &[1]),
        ("double", Dtype::F64, &[]),
        ("whole", Dtype::I64, &[2]),
        ("none", Dtype::F32, &[0, 5]),
    ];
    let mut w = TensorWriter::create(&path, &tensors, &metadata).unwrap();
    w.write_i64("whole", &[-1, i64::MAX]).unwrap();
    w.write_f32("half", &[1.0, -0.5, f32::INFINITY]).unwrap();
    w.write_f64("double", &[1.0 / 3.0]).unwrap();
    w.write_f32("single", &[1.0, 2.0, 3.0, 4.0]).unwrap();
    w.write_f64("brain", &[1.0 + 1.0 / 256.0 + 1e-5]).unwrap();
    w.finish().unwrap();

    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.metadata(), &metadata);
    assert_eq!(file.read_f32("half").unwrap(), [1.0, -0.5, f32::INFINITY]);
    assert_eq!(file.read_f64("single").unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(file.read_f64("double").unwrap(), [1.0 / 3.0]);
    assert_eq!(file.read_f32("double").unwrap(), [1.0 / 3.0]);
    assert_eq!(file.read_f32("brain").unwrap(), [1.0 + 1.0 / 128.0], "rounded to nearest");
    assert_eq!(file.read_i64("whole").unwrap(), [-1, i64::MAX]);
    assert!(file.read_f32("none").unwrap().is_empty());
    assert_eq!((file.shape("single").unwrap(), file.dtype("half").unwrap()), (&[2usize, 2][..], Dtype::F16));

    let bytes = fs::read(&path).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), 6);
    for name in file.names() {
        assert_eq!(theirs.tensor(name).unwrap().data(), file.bytes(name).unwrap(), "{name}");
        let width = file.dtype(name).unwrap().bitsize() / 8;
        assert_eq!(file.bytes(name).unwrap().as_ptr() as usize % width, 0, "{name} is aligned");
    }
}

#[test]
fn what_the_library_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let bytes: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &bytes).unwrap();
    safetensors::serialize_to_file([("w", view)], None, &path).unwrap();
    assert_eq!(TensorFile::open(&path).unwrap().read_f32("w").unwrap(), [1.5, -2.0]);
}

#[test]
fn a_tensor_in_pieces_is_the_same_file_as_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..40_000).map(|i| i as f32).collect();
    let mut files = Vec::new();
    for piece in [values.len(), 7001, 1] {
        let path = dir.path().join(format!("{piece}"));
        let mut w = writer(&path, &[("a", Dtype::F32, &[40_000]), ("b", Dtype::F16, &[200, 200])]);
        for chunk in values.chunks(piece) {
            w.write_f32("b", &vec![0.5; chunk.len()]).unwrap();
            w.write_f32("a", chunk).unwrap();
        }
        w.finish().unwrap();
        files.push(fs::read(&path).unwrap());
    }
    assert!(files[0] == files[1] && files[0] == files[2]);
}

#[test]
fn a_range_of_a_tensor_is_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    write_one(&path, "w", &[0.0, 1.0, 2.0, 3.0]);
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.read_f32_range("w", 1..3).unwrap(), [1.0, 2.0]);
    assert!(file.read_f32_range("w", 4..4).unwrap().is_empty());
    assert!(matches!(file.read_f32_range("w", 3..5), Err(StoreError::TensorRange { len: 4, .. })));
}

#[test]
fn a_writer_refuses_what_does_not_fit_its_declaration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let declared: [Declared<'_>; 2] = [("w", Dtype::F16, &[2]), ("ids", Dtype::I64, &[1])];
    let mut w = writer(&path, &declared);
    assert!(matches!(w.write_f32("v", &[1.0]), Err(StoreError::MissingTensor { .. })));
    assert!(matches!(w.write_f32("ids", &[1.0]), Err(StoreError::TensorType { wanted: "f32", .. })));
    assert!(matches!(w.write_f32("w", &[1.0; 3]), Err(StoreError::TensorLength { declared: 2, written: 3, .. })));
    assert!(matches!(w.write_f32("w", &[1.0, 1e6]), Err(StoreError::TensorOverflow { index: 1, .. })));
    let error = writer(&path, &declared).finish().unwrap_err();
    assert!(matches!(error, StoreError::TensorLength { written: 0, .. }), "{error}");
    let twice = TensorWriter::create(&path, &[declared[0], declared[0]], &BTreeMap::new()).unwrap_err();
    assert!(matches!(twice, StoreError::DuplicateTensor { .. }));
    let odd = TensorWriter::create(&path, &[("w", Dtype::BOOL, &[1])], &BTreeMap::new()).unwrap_err();
    assert!(matches!(odd, StoreError::TensorType { .. }));
    drop(w);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no file and no part");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_with_the_name_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    std::os::unix::fs::symlink("/dev/full", dir.path().join("x.safetensors.part")).unwrap();
    let mut w = writer(&path, &[("w", Dtype::F32, &[1 << 16])]);
    let error = w.write_f32("w", &[1.0; 1 << 16]).and_then(|()| w.finish()).unwrap_err();
    assert!(matches!(&error, StoreError::DiskFull { path: p } if *p == path), "{error}");
}

#[test]
fn a_folder_is_read_from_one_file_or_from_the_shards_of_its_index() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(ShardedTensors::open(dir.path()), Err(StoreError::NoTensors { .. })));
    write_one(&dir.path().join("one.safetensors"), "a", &[1.0]);
    write_one(&dir.path().join("two.safetensors"), "b", &[2.0, 3.0]);
    let index = r#"{"metadata": {"total_size": 12}, "weight_map": {"b": "two.safetensors", "a": "one.safetensors"}}"#;
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let sharded = ShardedTensors::open(dir.path()).unwrap();
    assert_eq!(sharded.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(sharded.read_f32("b").unwrap(), [2.0, 3.0]);
    assert_eq!(sharded.shape("a").unwrap(), [1]);
    assert_eq!(sharded.files().count(), 2);
    assert!(matches!(sharded.read_f32("c"), Err(StoreError::MissingTensor { .. })));

    write_one(&dir.path().join("model.safetensors"), "c", &[4.0]);
    let single = ShardedTensors::open(dir.path()).unwrap();
    assert_eq!(single.read_f64("c").unwrap(), [4.0]);
    assert!(!single.contains("a"));
}

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let mut w = writer(&path, &[("a", Dtype::F32, &[2]), ("b", Dtype::F16, &[1, 3])]);
    w.write_f32("a", &[1.0, 2.0]).unwrap();
    w.write_f32("b", &[1.0, 2.0, 3.0]).unwrap();
    w.finish().unwrap();
    fs::read(&path).unwrap()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_damaged_file_is_accepted_exactly_if_the_library_accepts_it(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut bytes = SOUND.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        fs::write(&path, &bytes).unwrap();
        let (ours, theirs) = (TensorFile::open(&path), SafeTensors::deserialize(&bytes));
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours.err(), theirs.err());
    }
}

#[test]
fn files_are_joined_to_the_file_that_one_writer_would_have_made() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let metadata = BTreeMap::from([("examples".to_owned(), "7".to_owned())]);
    let write = |path: &Path, names: &[&str]| {
        let named: Vec<_> = names.iter().map(|n| (format!("{n}.values"), format!("{n}.vectors"))).collect();
        let declared = named.iter().flat_map(|(values, vectors)| -> [Declared<'_>; 2] {
            [(vectors, Dtype::F32, &[2, 2]), (values, Dtype::F64, &[2])]
        });
        let mut w = TensorWriter::create(path, &declared.collect::<Vec<_>>(), &metadata).unwrap();
        for (i, (values, vectors)) in named.iter().enumerate() {
            let x = names[i].len() as f32;
            w.write_f32(vectors, &[x, 2.0 * x, -x, 0.5]).unwrap();
            w.write_f64(values, &[f64::from(x) / 3.0, 1e300]).unwrap();
        }
        w.finish().unwrap();
    };
    write(&at("whole"), &["a", "bb", "ccc"]);
    write(&at("first"), &["a", "bb"]);
    write(&at("second"), &["ccc"]);
    join_tensors(&[at("first"), at("second")], &at("joined")).unwrap();
    assert_eq!(fs::read(at("joined")).unwrap(), fs::read(at("whole")).unwrap());
    let twice = join_tensors(&[at("first"), at("first")], &at("twice"));
    assert!(matches!(twice, Err(StoreError::DuplicateTensor { .. })) && !at("twice").exists());
}

#[test]
fn a_tensor_of_another_type_or_size_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    write_one(&dir.path().join("from"), "x", &[1.0, 2.0]);
    let from = TensorFile::open(&dir.path().join("from")).unwrap();
    let mut w = writer(&dir.path().join("to"), &[("x", Dtype::F64, &[2])]);
    assert!(matches!(w.copy("x", &from), Err(StoreError::TensorType { .. })));
    let mut w = writer(&dir.path().join("to"), &[("x", Dtype::F32, &[1])]);
    assert!(matches!(w.copy("x", &from), Err(StoreError::TensorLength { .. })));
}
