//! Minutes long, or in need of a real model: `cargo xtask heavy`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use std::process::Command;

use serde_json::Value;

fn etymon(args: &[&str]) -> (bool, Value) {
    let out = Command::new(env!("CARGO_BIN_EXE_etymon")).args(args).arg("--json").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    (out.status.success(), serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

#[test]
#[ignore = "takes minutes: the whole quickstart, twice"]
fn the_quickstart_finds_nine_of_ten_facts_and_is_deterministic() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let out = folder.path().join(name).display().to_string();
        let (passed, value) = etymon(&["quickstart", "--out", &out]);
        assert!(passed, "{value}");
        let hits = (value["fact_hits"].as_f64().unwrap(), value["fact_queries"].as_f64().unwrap());
        assert!(hits.0 >= 0.9 * hits.1, "{value}");
        std::fs::read(folder.path().join(name).join("scores/top.parquet")).unwrap()
    };
    assert!(run("first") == run("second"), "two runs gave different rankings");
}

#[test]
#[ignore = "takes minutes: the quickstart with every method"]
fn the_quickstart_shows_every_method_on_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("q").display().to_string();
    let (passed, value) = etymon(&["quickstart", "--compare", "--out", &out]);
    assert!(passed, "{value}");
    let page = std::fs::read_to_string(value["comparison"].as_str().unwrap()).unwrap();
    for method in ["ekfac", "kfac", "ekfac-cg", "lissa", "tracin-cp", "tracin-ideal", "trak", "feature-cos", "bm25"] {
        assert!(page.contains(&format!("\"name\":\"{method}\"")), "{method}");
    }
    let (_, compared) = etymon(&["compare", &format!("{out}/methods"), "-k", "5"]);
    assert_eq!(compared["queries"].as_array().unwrap().len(), 3);
    assert!(compared["queries"][0]["lists"].as_array().unwrap().iter().all(|list| list.as_array().unwrap().len() == 5));
}

#[test]
#[ignore = "needs SmolLM2: set ETYMON_SMOLLM2_GGUF to the .gguf file"]
fn smollm2_continues_a_prompt_and_passes_the_doctor() {
    let Ok(path) = std::env::var("ETYMON_SMOLLM2_GGUF") else { return };
    let (passed, value) =
        etymon(&["doctor", "--model", &path, "--prompt", "The capital of France is", "--check-tokens", "6"]);
    assert!(passed, "{value}");
    let checks = value["checks"].as_array().unwrap();
    let continued = checks.iter().find(|c| c["name"] == "continuation").unwrap();
    assert!(continued["detail"].as_str().unwrap().contains("[ Paris"), "{continued}");
}
