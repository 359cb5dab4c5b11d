//! Runs a program and watches its memory.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{BenchError, Result};

/// How often the resident set of a running program is read.
const WATCH: Duration = Duration::from_millis(20);

/// A program that ended well.
pub struct Finished {
    /// What it printed.
    pub stdout: String,
    /// Seconds from its start to its end.
    pub wall: f64,
    /// Its largest resident set, KiB; 0 where the system does not tell.
    pub peak_kib: u64,
}

impl Finished {
    /// The last line as JSON.
    ///
    /// # Errors
    /// It is none, or not a `T`.
    pub fn json<T: serde::de::DeserializeOwned>(&self, program: &str) -> Result<T> {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).map_err(|error| {
            let problem = format!("{error} in its last line `{}`", line.chars().take(200).collect::<String>());
            BenchError::Answer { program: program.to_owned(), problem }
        })
    }
}

/// Runs `command` to its end; what it says goes to files in `work` that the next one overwrites.
///
/// # Errors
/// It cannot be started, or fails.
pub fn run(program: &str, command: &mut Command, work: &Path) -> Result<Finished> {
    let (out, err) = (work.join("stdout.txt"), work.join("stderr.txt"));
    let create = |path: &Path| File::create(path).map_err(|source| BenchError::io(path, source));
    command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&err)?);
    let started = Instant::now();
    let start = |source| BenchError::Start { program: program.to_owned(), source };
    let mut child = command.spawn().map_err(start)?;
    let mut peak_kib = 0;
    let status = loop {
        // The high-water mark only grows: the last reading before the end is the largest.
        peak_kib = resident_peak(child.id()).unwrap_or(peak_kib);
        match child.try_wait().map_err(start)? {
            Some(status) => break status,
            None => sleep(WATCH),
        }
    };
    let wall = started.elapsed().as_secs_f64();
    let read = |path: &Path| fs::read_to_string(path).map_err(|source| BenchError::io(path, source));
    check(program, status, &read(&err)?)?;
    Ok(Finished { stdout: read(&out)?, wall, peak_kib })
}

fn check(program: &str, status: ExitStatus, said: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = said.lines().collect();
    let said = lines[lines.len().saturating_sub(15)..].join("\n");
    Err(BenchError::Failed { program: program.to_owned(), status: status.to_string(), said })
}

/// `VmHWM` of a running process (Linux); nothing once it has ended.
fn resident_peak(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
