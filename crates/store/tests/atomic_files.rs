//! Atomic files, JSON and disk space.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use etymon_store::{
    AtomicFile, StoreError, copy_atomic, free_bytes, read_json, require_space, write_atomic, write_json_atomic,
};
use serde_json::{Value, json};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_whole_with_its_folder_and_without_a_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/report.html");
    write_atomic(&path, |w| w.write_all(b"whole")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(names(path.parent().unwrap()), ["report.html"]);
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    write_atomic(&path, |w| w.write_all(b"old")).unwrap();
    let error = write_atomic(&path, |w| {
        w.write_all(b"new")?;
        Err(io::Error::other("cable pulled"))
    });
    assert!(matches!(error, Err(StoreError::Io { action: "writing", .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["x"]);
}

#[test]
fn a_file_that_is_not_committed_never_appears() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = AtomicFile::create(&dir.path().join("x")).unwrap();
    file.write_all(b"half").unwrap();
    assert_eq!(names(dir.path()), ["x.part"]);
    drop(file);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_part_left_by_a_crash_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(dir.path().join("x.part"), b"a long rest of an earlier run").unwrap();
    write_atomic(&path, |w| w.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(dir.path()), ["x"]);
}

#[test]
fn a_copy_has_the_same_bytes_and_a_missing_source_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("tokenizer.json"), dir.path().join("out/tokenizer.json"));
    assert!(copy_atomic(&from, &to).unwrap_err().to_string().contains("tokenizer.json: not found"));
    fs::write(&from, b"{}").unwrap();
    copy_atomic(&from, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"{}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_with_the_file_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    std::os::unix::fs::symlink("/dev/full", dir.path().join("x.safetensors.part")).unwrap();
    let error = write_atomic(&path, |w| w.write_all(b"too much")).unwrap_err();
    assert!(matches!(&error, StoreError::DiskFull { .. }));
    assert_eq!(
        error.to_string(),
        format!("writing {}: no space left on device; free space or choose another output folder", path.display())
    );
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn a_folder_without_write_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::File::create(dir.path().join("probe")).is_ok() {
        return; // The superuser may write anywhere.
    }
    let error = write_atomic(&dir.path().join("x"), |w| w.write_all(b"x")).unwrap_err();
    assert!(matches!(&error, StoreError::PermissionDenied { action: "creating", .. }), "{error}");
}

#[test]
fn json_round_trips_with_every_bit_of_its_floats() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    let value = json!({ "third": 1.0 / 3.0, "small": f64::from(0.1f32), "tiny": 5e-324, "large": u64::MAX });
    write_json_atomic(&path, &value).unwrap();
    assert_eq!(read_json::<Value>(&path).unwrap(), value);
}

#[test]
fn broken_json_is_named_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, "{\n  \"a\": 1,\n  \"b\" 2\n}").unwrap();
    let error = read_json::<Value>(&path).unwrap_err();
    assert!(matches!(&error, StoreError::Json { line: 3, column: 7, .. }), "{error}");
    assert!(error.to_string().contains("config.json, line 3, column 7"), "{error}");
}

#[test]
fn space_is_found_for_a_byte_but_not_for_an_exabyte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/there/yet");
    assert!(free_bytes(&path).unwrap() > 0);
    require_space(&path, 1).unwrap();
    let error = require_space(&path, u64::MAX).unwrap_err();
    assert!(matches!(&error, StoreError::NotEnoughSpace { needed: u64::MAX, .. }));
    assert!(error.to_string().contains("GB"), "{error}");
}
