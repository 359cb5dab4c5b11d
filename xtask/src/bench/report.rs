//! Writes the tables and the plot into the repository, or beside the results of a smoke run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::cases::Case;
use super::measurement::Results;
use super::options::Options;
use super::tables::{self, Notes};
use super::{BenchError, Folders, Result, plot};

const BEGIN: &str = "<!-- cargo xtask bench peers: begin -->";
const END: &str = "<!-- cargo xtask bench peers: end -->";

/// Writes `BENCHMARKS.md` and `docs/benchmarks.svg`; of a bench that was not of everything, copies in `target/peers`.
///
/// # Errors
/// The document has no place for the tables; files.
pub fn write(options: &Options, folders: &Folders, results: &Results) -> Result<()> {
    let source = folders.root.join("BENCHMARKS.md");
    let read = fs::read_to_string(&source).map_err(|error| BenchError::io(&source, error))?;
    let document = between(&read, &body(results))
        .ok_or_else(|| BenchError::Markers { path: source.clone(), begin: BEGIN.to_owned() })?;
    let folder = if results.complete || options.publish { &folders.root } else { &folders.work };
    let docs = folder.join("docs");
    fs::create_dir_all(&docs).map_err(|error| BenchError::io(&docs, error))?;
    save(&folder.join("BENCHMARKS.md"), &document)?;
    save(&docs.join("benchmarks.svg"), &plot::svg(results))
}

fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| BenchError::io(path, error))?;
    eprintln!("bench: wrote {}", path.display());
    Ok(())
}

/// `document` with `body` between the two lines.
fn between(document: &str, body: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{body}\n{END}{after}"))
}

fn body(results: &Results) -> String {
    let mut text = results.machine.join("  \n");
    let _ = writeln!(text, "  \n{}\n", versions(results));
    if !results.peak.is_empty() {
        let peaks: Vec<String> = results.peak.iter().map(|(name, rate)| format!("{name} {rate:.0} GFLOP/s")).collect();
        let _ = writeln!(text, "Best large product of `crates/tensor/benches/kernels.rs`: {}.\n", peaks.join(", "));
    }
    let mut notes = Notes::default();
    for case in Case::ALL {
        let (times, index) = (tables::times(results, case, &mut notes), tables::index(results, case, &mut notes));
        if times.is_empty() && index.is_empty() {
            continue;
        }
        let rows = results.runs.iter().find(|run| run.case == case.name).map_or(case.rows, |run| run.rows);
        let rounds = rounds(results, case);
        let _ = writeln!(
            text,
            "### {}\n\n{rounds}, {rows} rows of {} positions. {}\n",
            case.title,
            case.shape.length,
            settings(results, case)
        );
        let _ = writeln!(text, "{times}");
        if !index.is_empty() {
            let _ = writeln!(text, "Gradient index:\n\n{index}");
        }
    }
    let notes = notes.text();
    if !notes.is_empty() {
        let _ = writeln!(text, "{notes}");
    }
    let _ = writeln!(text, "### Counted operations\n\n{}", tables::ratios(results));
    text
}

/// How many runs a figure is the median of.
fn rounds(results: &Results, case: &Case) -> String {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for run in results.runs.iter().filter(|run| run.case == case.name) {
        *counts.entry((&run.tool, &run.task, &run.precision)).or_default() += 1;
    }
    match counts.values().min() {
        None | Some(1) => "One round".to_owned(),
        Some(n) => format!("{n} rounds"),
    }
}

fn versions(results: &Results) -> String {
    let all: BTreeMap<&str, &str> =
        results.runs.iter().flat_map(|run| &run.answer.versions).map(|(name, v)| (name.as_str(), v.as_str())).collect();
    let all: Vec<String> = all.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!("Packages: {}", all.join(", "))
}

/// The settings that the tools said, each once, with the tools and precisions that said them.
fn settings(results: &Results, case: &Case) -> String {
    let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for run in results.runs.iter().filter(|run| run.case == case.name && !run.answer.positions.is_empty()) {
        let who = format!("{} {}", run.tool, run.precision);
        let all = said.entry(&run.answer.settings).or_default();
        if !all.contains(&who) {
            all.push(who);
        }
    }
    let lines: Vec<String> = said.iter().map(|(what, who)| format!("{}: {what}", who.join(", "))).collect();
    lines.join("; ") + "."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_lines_is_replaced() {
        let document = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = between(&document, "new\n").unwrap_or_default();
        assert_eq!(once, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(between(&once, "new\n").as_deref(), Some(once.as_str()));
        assert_eq!(between("no lines", "new"), None);
    }
}
