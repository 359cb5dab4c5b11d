//! Run folders: resume, reuse, refuse.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use etymon_store::{
    Fingerprint, HashMethod, Manifest, Opened, Overwrite, RunFolder, RunSpec, RunStatus, StoreError, fingerprint,
};
use serde_json::{Value, json};

fn spec(config: Value) -> RunSpec {
    let data =
        Fingerprint { path: "data.jsonl".into(), bytes: 10, method: HashMethod::Sha256, sha256: "ab".to_owned() };
    RunSpec {
        kind: "factors".to_owned(),
        config,
        seeds: BTreeMap::from([("labels".to_owned(), 7)]),
        inputs: BTreeMap::from([("data".to_owned(), data)]),
    }
}

fn config() -> Value {
    json!({ "damping": 0.1f32, "layers": ["a", "b"], "curvature": { "method": "ekfac", "rank": null } })
}

fn open(path: &Path, spec: RunSpec) -> etymon_store::Result<Opened> {
    RunFolder::open_or_create(path, spec, Overwrite::Refuse)
}

fn create(path: &Path) -> RunFolder {
    match open(path, spec(config())).unwrap() {
        Opened::Created(run) => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_is_created_resumed_and_then_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out/F");
    let mut run = create(&path);
    assert_eq!(run.manifest().progress, Value::Null);
    run.update_progress(json!({ "shards": [0, 1], "loss": 1.0 / 3.0 })).unwrap();
    drop(run);

    let run = match open(&path, spec(config())).unwrap() {
        Opened::Resumed(run) => run,
        other => panic!("{other:?}"),
    };
    assert_eq!(run.manifest().progress, json!({ "shards": [0, 1], "loss": 1.0 / 3.0 }));
    assert!(matches!(
        RunFolder::open_complete(&path, "factors"),
        Err(StoreError::NotComplete { status: RunStatus::Running, .. })
    ));
    run.complete(BTreeMap::from([("fit".to_owned(), 1.5)])).unwrap();

    assert!(matches!(open(&path, spec(config())).unwrap(), Opened::AlreadyComplete(_)));
    let run = RunFolder::open_complete(&path, "factors").unwrap();
    assert_eq!(run.manifest().timings["fit"], 1.5);
    assert_eq!(run.manifest().spec, spec(config()));
}

#[test]
fn the_manifest_has_the_documented_keys() {
    let dir = tempfile::tempdir().unwrap();
    let run = create(dir.path());
    let manifest: Value = serde_json::from_slice(&fs::read(run.file("manifest.json")).unwrap()).unwrap();
    let keys: Vec<_> = manifest.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["format_version", "etymon_version", "status", "kind", "config", "seeds", "inputs", "progress", "timings"];
    assert_eq!(keys, expected);
    assert_eq!(manifest["status"], "running");
    assert_eq!(manifest["inputs"]["data"]["method"], "sha256");
}

#[test]
fn a_mismatch_lists_every_differing_key_with_both_values_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path());
    let mut other = spec(
        json!({ "damping": 0.2, "layers": ["a", "c", "d"], "curvature": { "method": "kfac", "rank": null }, "top": 5 }),
    );
    other.seeds.insert("labels".to_owned(), 8);
    other.inputs.get_mut("data").unwrap().sha256 = "cd".to_owned();
    let error = open(dir.path(), other).unwrap_err();
    let StoreError::Mismatch { differences, .. } = &error else { panic!("{error}") };
    let keys: Vec<_> = differences.iter().map(|d| d.key.as_str()).collect();
    let expected = [
        "config.damping",
        "config.layers.1",
        "config.layers.2",
        "config.curvature.method",
        "config.top",
        "seeds.labels",
        "inputs.data.sha256",
    ];
    assert_eq!(keys, expected);
    let message = error.to_string();
    for part in [
        "config.curvature.method: \"ekfac\" there, \"kfac\" now",
        "config.top: absent there, 5 now",
        "seeds.labels: 7 there, 8 now",
        "inputs.data.sha256: \"ab\" there, \"cd\" now",
        "--overwrite",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn an_input_that_was_moved_is_the_same_input() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path());
    let mut moved = spec(config());
    moved.inputs.get_mut("data").unwrap().path = "elsewhere/data.jsonl".into();
    assert!(matches!(open(dir.path(), moved).unwrap(), Opened::Resumed(_)));
}

#[test]
fn overwriting_empties_the_folder_first() {
    let dir = tempfile::tempdir().unwrap();
    let run = create(dir.path());
    fs::create_dir(run.file("checkpoint")).unwrap();
    fs::write(run.file("checkpoint/model.safetensors"), b"old").unwrap();
    fs::write(run.file("scores-00007.parquet"), b"old").unwrap();
    run.complete(BTreeMap::new()).unwrap();
    let opened = RunFolder::open_or_create(dir.path(), spec(json!({ "damping": 9 })), Overwrite::Replace).unwrap();
    let Opened::Created(run) = opened else { panic!("{opened:?}") };
    assert_eq!(run.manifest().status, RunStatus::Running);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn an_interrupted_overwrite_is_finished_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = create(dir.path());
    fs::write(run.file("rest"), b"old").unwrap();
    let text = fs::read_to_string(run.file("manifest.json")).unwrap();
    fs::write(run.file("manifest.json"), text.replace("running", "clearing")).unwrap();
    assert!(matches!(
        RunFolder::open_complete(dir.path(), "factors"),
        Err(StoreError::NotComplete { status: RunStatus::Clearing, .. })
    ));
    assert!(matches!(open(dir.path(), spec(json!({ "new": true }))).unwrap(), Opened::Created(_)));
    assert!(!run.file("rest").exists());
}

#[test]
fn a_folder_of_other_files_is_neither_filled_nor_emptied() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), b"precious").unwrap();
    for overwrite in [Overwrite::Refuse, Overwrite::Replace] {
        let error = RunFolder::open_or_create(dir.path(), spec(config()), overwrite).unwrap_err();
        assert!(matches!(error, StoreError::NotARunFolder { .. }), "{error}");
    }
    fs::write(dir.path().join("manifest.json"), br#"{"name": "a web app"}"#).unwrap();
    let error = RunFolder::open_or_create(dir.path(), spec(config()), Overwrite::Replace).unwrap_err();
    assert!(matches!(error, StoreError::NotARunFolder { .. }), "{error}");
    assert!(dir.path().join("thesis.tex").exists());
}

#[test]
fn a_run_of_another_kind_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path());
    let scores = RunSpec { kind: "scores".to_owned(), ..spec(config()) };
    let error = RunFolder::open_or_create(dir.path(), scores, Overwrite::Replace).unwrap_err();
    assert!(error.to_string().contains("holds factors, not scores"), "{error}");
    assert!(matches!(RunFolder::open_complete(dir.path(), "scores"), Err(StoreError::WrongKind { .. })));
}

#[test]
fn parts_left_by_a_crash_are_removed_on_resume() {
    let dir = tempfile::tempdir().unwrap();
    let run = create(dir.path());
    fs::create_dir(run.file("checkpoint")).unwrap();
    let parts = [run.file("scores-00000.parquet.part"), run.file("checkpoint/model.safetensors.part")];
    parts.iter().for_each(|part| fs::write(part, b"half").unwrap());
    fs::write(run.file("whole"), b"whole").unwrap();
    open(dir.path(), spec(config())).unwrap();
    assert!(parts.iter().all(|part| !part.exists()));
    assert!(run.file("whole").exists());
}

#[test]
fn a_crash_during_the_first_manifest_does_not_block_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("manifest.json.part"), b"{").unwrap();
    create(dir.path());
}

#[test]
fn a_manifest_of_a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(dir.path()).file("manifest.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"format_version\": 1", "\"format_version\": 99")).unwrap();
    let error = Manifest::read(&file).unwrap_err();
    assert!(matches!(error, StoreError::FormatVersion { found: 99, .. }), "{error}");
}

#[test]
fn a_fingerprint_depends_on_content_and_names_only() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for folder in [&a, &b] {
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join("x"), b"abc").unwrap();
        fs::write(folder.join("sub/y"), b"def").unwrap();
    }
    fs::write(b.join("x.part"), b"rest").unwrap();
    fs::write(b.join(".lock"), b"").unwrap();
    let (first, second) = (fingerprint(&a).unwrap(), fingerprint(&b).unwrap());
    assert_eq!((first.bytes, &first.sha256), (6, &second.sha256));
    fs::rename(b.join("sub/y"), b.join("sub/z")).unwrap();
    assert_ne!(first.sha256, fingerprint(&b).unwrap().sha256);
    let file = fingerprint(&a.join("x")).unwrap();
    assert_eq!(file.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn a_large_file_is_sampled_at_its_ends_and_between() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let size = (65u64 << 20) + 3;
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    let first = fingerprint(&path).unwrap();
    assert_eq!((first.method, first.bytes), (HashMethod::Sampled, size));
    for offset in [0, (1 << 20) + 5, size / 2, size - 1] {
        use std::io::{Seek, SeekFrom, Write};
        let mut file = fs::File::options().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(offset)).unwrap();
        // Longer than the gap between two chunks, where there is room for it.
        file.write_all(&vec![1; (1 << 20).min((size - offset) as usize)]).unwrap();
        assert_ne!(fingerprint(&path).unwrap().sha256, first.sha256, "a change at {offset}");
        fs::File::create(&path).unwrap().set_len(size).unwrap();
    }
    assert_eq!(fingerprint(&path).unwrap(), first);
}
