//! Progress on standard error: bars on a terminal, a line per phase otherwise, nothing when asked.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use etymon_curvature::{FitObserver, Phase};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::args::Global;

const BAR: &str = "  {msg:<18} {bar:24} {pos}/{len} {unit}  {rate}  {left}";

/// Tells a person what goes on.
#[derive(Clone, Copy, Debug)]
pub struct Reporter {
    quiet: bool,
    verbose: bool,
    bars: bool,
}

impl Reporter {
    /// By the options, and whether standard error is a terminal.
    pub fn new(global: &Global) -> Self {
        let quiet = global.quiet || global.json;
        Self { quiet, verbose: global.verbose, bars: !quiet && std::io::stderr().is_terminal() }
    }

    /// A line.
    #[allow(clippy::print_stderr)]
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", text.as_ref());
        }
    }

    /// A line for those who want more.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.verbose {
            self.say(text);
        }
    }

    /// A bar over `total` of `unit`, `done` of them already.
    pub fn task(&self, name: &str, total: u64, done: u64, unit: &'static str) -> Task {
        let bar = if self.bars { ProgressBar::new(total) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let state = std::sync::Arc::new(std::sync::Mutex::new((0u64, 0u64)));
        let (seen, started) = (std::sync::Arc::clone(&state), Instant::now());
        let rate = move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let (rows, tokens) = *lock(&seen);
            let _ = out.write_str(&rates(rows, tokens, started.elapsed(), unit));
        };
        let left = |s: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{} left", HumanDuration(s.eta()));
        };
        bar.set_style(
            style
                .with_key("rate", rate)
                .with_key("left", left)
                .with_key("unit", move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = out.write_str(unit);
                })
                .progress_chars("━╸ "),
        );
        bar.set_message(name.to_owned());
        bar.set_position(done);
        bar.reset_eta();
        Task { reporter: *self, name: name.to_owned(), bar, unit, state, started, detail: String::new() }
    }
}

fn lock(state: &std::sync::Mutex<(u64, u64)>) -> std::sync::MutexGuard<'_, (u64, u64)> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn rates(rows: u64, tokens: u64, elapsed: Duration, unit: &str) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-3);
    let mut text = format!("{:.1} {unit}/s", rows as f64 / seconds);
    if tokens > 0 {
        text += &format!(", {:.0} tokens/s", tokens as f64 / seconds);
    }
    text
}

/// One bar.
pub struct Task {
    reporter: Reporter,
    name: String,
    bar: ProgressBar,
    unit: &'static str,
    state: std::sync::Arc<std::sync::Mutex<(u64, u64)>>,
    started: Instant,
    detail: String,
}

impl Task {
    /// More rows and tokens are done.
    pub fn advance(&self, rows: u64, tokens: u64) {
        {
            let mut state = lock(&self.state);
            state.0 += rows;
            state.1 += tokens;
        }
        self.bar.inc(rows);
    }

    /// A word behind the name, such as a loss.
    pub fn detail(&mut self, text: String) {
        self.bar.set_message(format!("{} {text}", self.name));
        self.detail = text;
    }

    /// Ends the bar with a line that stays.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        let (rows, tokens) = *lock(&self.state);
        let elapsed = self.started.elapsed();
        let detail = if self.detail.is_empty() { String::new() } else { format!("  {}", self.detail) };
        self.reporter.say(format!(
            "  {:<18} {rows} {} in {:.1} s  ({}){detail}",
            self.name,
            self.unit,
            elapsed.as_secs_f64(),
            rates(rows, tokens, elapsed, self.unit)
        ));
    }
}

/// Bars of a fit.
pub struct FitBars {
    reporter: Reporter,
    examples: u64,
    task: Option<Task>,
}

impl FitBars {
    /// For a fit on `examples` examples.
    pub fn new(reporter: Reporter, examples: u64) -> Self {
        Self { reporter, examples, task: None }
    }
}

impl FitObserver for FitBars {
    fn begin(&mut self, phase: Phase, layers: u64, done: u64) {
        let (total, unit) = match phase {
            Phase::Eigendecomposition => (layers, "layers"),
            Phase::Covariance | Phase::Correction => (self.examples, "rows"),
        };
        self.task = Some(self.reporter.task(phase.name(), total, done, unit));
    }

    fn advance(&mut self, examples: u64, tokens: u64) {
        if let Some(task) = &self.task {
            task.advance(examples, tokens);
        }
    }

    fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.finish();
        }
    }
}
