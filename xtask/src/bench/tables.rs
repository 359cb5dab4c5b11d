//! The tables of the document.

use std::fmt::Write;

use super::cases::{Case, Precision, Task, Tool};
use super::counts;
use super::measurement::{Measurement, Results, median};

/// Passes over tokens: name in the answers, heading.
pub const PASSES: [(&str, &str); 3] =
    [("covariance", "covariances"), ("correction", "correction"), ("scores", "20 queries")];

/// The medians of one tool, task and precision in a case.
pub struct Row<'a> {
    /// All its runs.
    pub runs: Vec<&'a Measurement>,
}

impl<'a> Row<'a> {
    /// The row, when there is a run.
    pub fn find(results: &'a Results, case: &Case, task: Task, tool: Tool, precision: Precision) -> Option<Self> {
        let runs = results.of(case.name, task.name(), tool.name(), precision.name());
        (!runs.is_empty()).then_some(Self { runs })
    }

    /// Median positions per second of a phase.
    pub fn speed(&self, phase: &str) -> Option<f64> {
        median(self.runs.iter().filter_map(|run| run.speed(phase)).collect())
    }

    fn seconds(&self, phase: &str) -> Option<f64> {
        median(self.runs.iter().filter_map(|run| run.answer.seconds.get(phase).copied()).collect())
    }

    fn wall(&self) -> Option<f64> {
        median(self.runs.iter().map(|run| run.wall).filter(|&wall| wall > 0.0).collect())
    }

    fn memory_gib(&self) -> Option<f64> {
        let most = self.runs.iter().map(|run| run.peak_kib).max().filter(|&kib| kib > 0)?;
        Some(most as f64 / 1024.0 / 1024.0)
    }
}

/// Footnotes: each reason once.
#[derive(Default)]
pub struct Notes(Vec<String>);

impl Notes {
    fn mark(&mut self, reason: &str) -> String {
        let known = self.0.iter().position(|known| known == reason);
        let i = known.unwrap_or_else(|| {
            self.0.push(reason.to_owned());
            self.0.len() - 1
        });
        format!("({})", i + 1)
    }

    /// The list of them.
    pub fn text(&self) -> String {
        self.0.iter().enumerate().fold(String::new(), |mut text, (i, note)| {
            let _ = writeln!(text, "({}) {note}", i + 1);
            text
        })
    }

    fn cell(&mut self, row: &Row<'_>, phase: &str, value: Option<f64>, digits: usize) -> String {
        let reason = row.runs.iter().find_map(|run| run.answer.missing.get(phase));
        let note = row.runs.iter().find_map(|run| run.answer.notes.get(phase));
        match (value, note, reason) {
            (Some(value), Some(note), _) => format!("{} {}", number(value, digits), self.mark(note)),
            (Some(value), None, _) => number(value, digits),
            (None, _, Some(reason)) => format!("– {}", self.mark(reason)),
            (None, _, None) => "–".to_owned(),
        }
    }
}

/// A number with spaces between thousands.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let first = whole.len() % 3;
    let mut grouped = whole[..first].to_owned();
    for start in (first..whole.len()).step_by(3) {
        if !grouped.is_empty() {
            grouped.push(' ');
        }
        grouped.push_str(&whole[start..start + 3]);
    }
    grouped + rest
}

/// Precisions whose rows stand together: etymon's bf16x3 is compared with the peers' float32.
pub fn label(tool: Tool, precision: Precision) -> String {
    match (tool, precision) {
        (Tool::Etymon, Precision::Bf16x3) => "**etymon**, bf16x3".to_owned(),
        (Tool::Etymon, _) => "**etymon**".to_owned(),
        _ => tool.name().to_owned(),
    }
}

/// The rows of a comparison: float32 with bf16x3, or bfloat16.
pub const GROUPS: [(&str, &[Precision]); 2] =
    [("float32", &[Precision::F32, Precision::Bf16x3]), ("bfloat16", &[Precision::Bf16])];

/// Times of EK-FAC in a case, or nothing when it was not run.
pub fn times(results: &Results, case: &Case, notes: &mut Notes) -> String {
    let mut text = String::from(
        "| precision | tool | covariances, tokens/s | eigendecomposition, s | correction, tokens/s | 20 queries, tokens/s | \
         fit and score, s | peak memory, GiB |\n|---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    let head = text.len();
    for (group, precisions) in GROUPS {
        for tool in Tool::ALL {
            for &precision in precisions {
                for task in [Task::Ekfac, Task::Covariance] {
                    let Some(row) = Row::find(results, case, task, tool, precision) else { continue };
                    let mut cells = PASSES.map(|(phase, _)| notes.cell(&row, phase, row.speed(phase), 0)).to_vec();
                    let eigen = "eigendecomposition";
                    cells.insert(1, notes.cell(&row, eigen, row.seconds(eigen), 1));
                    let all = PASSES.iter().all(|(phase, _)| row.speed(phase).is_some());
                    cells.push(row.wall().filter(|_| all).map_or("–".to_owned(), |wall| number(wall, 1)));
                    let ran = row.speed(PASSES[0].0).is_some();
                    cells.push(row.memory_gib().filter(|_| ran).map_or("–".to_owned(), |gib| number(gib, 2)));
                    let _ = writeln!(text, "| {group} | {} | {} |", label(tool, precision), cells.join(" | "));
                }
            }
        }
    }
    if text.len() > head { text } else { String::new() }
}

/// The gradient indices in a case.
pub fn index(results: &Results, case: &Case, notes: &mut Notes) -> String {
    let mut text = String::from(
        "| precision | tool | building, tokens/s | asking 20 queries, s | peak memory, GiB |\n|---|---|---:|---:|---:|\n",
    );
    let head = text.len();
    for (group, precisions) in GROUPS {
        for tool in Tool::ALL {
            let rows = precisions.iter().filter_map(|&p| Some((p, Row::find(results, case, Task::Index, tool, p)?)));
            for (precision, row) in rows {
                let build = notes.cell(&row, "index_build", row.speed("index_build"), 0);
                let ask = notes.cell(&row, "index_ask", row.seconds("index_ask"), 1);
                let memory = row.memory_gib().map_or("–".to_owned(), |gib| number(gib, 2));
                let _ = writeln!(text, "| {group} | {} | {build} | {ask} | {memory} |", label(tool, precision));
            }
        }
    }
    if text.len() > head { text } else { String::new() }
}

/// etymon beside each peer: ratio of speeds, ratio of counted operations, fraction of the measured peak.
pub fn ratios(results: &Results) -> String {
    let mut text = String::from(
        "| case | precision | pass | etymon, GFLOP/s | of the peak | counted, MFLOP/token | kronfluence: times slower | \
         counted operations | bergson: times slower | counted operations |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for case in Case::ALL {
        for (_, precisions) in GROUPS {
            for &precision in precisions {
                let Some(ours) = Row::find(results, case, Task::Ekfac, Tool::Etymon, precision) else { continue };
                for (phase, title) in PASSES {
                    let Some(speed) = ours.speed(phase) else { continue };
                    let count = of_pass(case, Tool::Etymon, phase);
                    let rate = speed * count * 1e-9;
                    let peak = results.peak.get(precision.name());
                    let peak = peak.map_or("–".to_owned(), |peak| format!("{:.0} %", 100.0 * rate / peak));
                    let peers = [Tool::Kronfluence, Tool::Bergson]
                        .map(|tool| beside(results, case, tool, precision, phase, speed));
                    let name = precision.name();
                    let (rate, mega, peers) = (number(rate, 0), number(count * 1e-6, 1), peers.join(" | "));
                    let _ = writeln!(text, "| {} | {name} | {title} | {rate} | {peak} | {mega} | {peers} |", case.name);
                }
            }
        }
    }
    text
}

/// `times slower | counted operations` of a peer, both relative to etymon.
fn beside(results: &Results, case: &Case, tool: Tool, precision: Precision, phase: &str, ours: f64) -> String {
    let theirs = if precision == Precision::Bf16 { Precision::Bf16 } else { Precision::F32 };
    let row = [Task::Ekfac, Task::Covariance].into_iter().find_map(|task| Row::find(results, case, task, tool, theirs));
    match row.and_then(|row| row.speed(phase)) {
        Some(speed) => {
            let counted = of_pass(case, tool, phase) / of_pass(case, Tool::Etymon, phase);
            format!("{:.2} × | {counted:.2} ×", ours / speed)
        }
        None => "– | –".to_owned(),
    }
}

fn of_pass(case: &Case, tool: Tool, phase: &str) -> f64 {
    let counted = counts::count(case, tool);
    match phase {
        "covariance" => counted.covariance,
        "correction" => counted.correction,
        _ => counted.scores,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        assert_eq!(super::number(1_234_567.0, 0), "1 234 567");
        assert_eq!(super::number(999.5, 1), "999.5");
        assert_eq!(super::number(12.345, 2), "12.35");
    }
}
