//! `cargo xtask check`: the gate. With Rust and a C compiler alone it works; what is not installed is replaced
//! (`cargo nextest` by `cargo test`) or named and left out (`cargo deny`).

mod bench;

use std::env;
use std::process::{Command, ExitCode};

use bench::BenchError;

const USAGE: &str = "\
cargo xtask check      the gate: fmt, clippy, docs, tests, doctests (what .ci/run runs)
cargo xtask heavy      the ignored tests, which need real models: see CONTRIBUTING.md
cargo xtask bench      etymon beside its peers on this machine: see BENCHMARKS.md";

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("check") => run(&check()),
        Some("heavy") => run(&[step("heavy tests", &["test", "--release", "--workspace", "--", "--ignored"])]),
        Some("bench") => bench(&env::args().skip(2).collect::<Vec<_>>()),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn bench(args: &[String]) -> ExitCode {
    match bench::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ BenchError::Option { .. }) => {
            eprintln!("error: {error}\n\n{}", bench::USAGE);
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Step {
    name: &'static str,
    args: Vec<String>,
    envs: Vec<(&'static str, &'static str)>,
}

fn step(name: &'static str, args: &[&str]) -> Step {
    Step { name, args: args.iter().map(ToString::to_string).collect(), envs: Vec::new() }
}

fn check() -> Vec<Step> {
    let mut steps = Vec::new();
    if has("fmt") {
        steps.push(step("format", &["fmt", "--all", "--check"]));
    }
    if has("clippy") {
        steps.push(step("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    }
    let mut docs = step("docs", &["doc", "--workspace", "--no-deps"]);
    docs.envs.push(("RUSTDOCFLAGS", "-D warnings"));
    steps.push(docs);
    if has("deny") {
        steps.push(step("licences and bans", &["deny", "check"]));
    }
    steps.push(step("doctests", &["test", "--workspace", "--doc"]));
    // Last, so that a run ends with the test runner's own summary.
    if has("nextest") {
        steps.push(step("tests", &["nextest", "run", "--workspace", "--no-fail-fast"]));
    } else {
        steps.push(step("tests", &["test", "--workspace", "--all-targets", "--no-fail-fast"]));
    }
    steps
}

fn has(subcommand: &str) -> bool {
    let found = Command::new("cargo").args([subcommand, "--version"]).output().is_ok_and(|out| out.status.success());
    if !found {
        eprintln!("xtask: cargo {subcommand} is not installed");
    }
    found
}

fn run(steps: &[Step]) -> ExitCode {
    for step in steps {
        eprintln!("xtask: {} (cargo {})", step.name, step.args.join(" "));
        let done = Command::new("cargo").args(&step.args).envs(step.envs.iter().copied()).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("xtask: {} failed", step.name);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
