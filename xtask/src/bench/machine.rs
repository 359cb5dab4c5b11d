//! The machine, in words.

use std::fs;
use std::process::Command;

use super::etymon::Binary;
use super::options::Options;

/// Whether the processor has bfloat16 matrix units.
pub fn has_amx() -> bool {
    field("/proc/cpuinfo", "flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "amx_bf16"))
}

/// Processor, memory, versions: one line each.
pub fn describe(options: &Options, etymon: &Binary) -> Vec<String> {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let flags = field("/proc/cpuinfo", "flags").unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|f| f == flag);
    let units = [("avx2", "AVX2"), ("avx512f", "AVX-512"), ("avx512_bf16", "AVX-512 BF16"), ("amx_bf16", "AMX")];
    let units: Vec<&str> = units.iter().filter(|(flag, _)| has(flag)).map(|(_, name)| *name).collect();
    let memory = field("/proc/meminfo", "MemTotal").and_then(|kib| kib.split_whitespace().next()?.parse::<f64>().ok());
    let memory = memory.map_or_else(String::new, |kib| format!(", {:.0} GiB", kib / 1024.0 / 1024.0));
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let commit = said("git", &["describe", "--always", "--dirty"]).unwrap_or_else(|| "unknown".to_owned());
    // What HEAD is says nothing of a binary that was given.
    let source =
        if etymon.built_here { format!("built from {commit}") } else { "a binary given by --etymon".to_owned() };
    vec![
        format!(
            "Machine: {processor}, {cores} cores ({}){memory}; {} threads per tool",
            units.join(", "),
            options.threads
        ),
        format!("{}, {source}; {}", etymon.version, said("rustc", &["--version"]).unwrap_or_default()),
    ]
}

/// The value of the first line `name: value` of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
