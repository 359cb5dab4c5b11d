//! Simulated runs as results: a listing, a page, files.

use etymon_simulate::{Change, RollOut};
use etymon_store::{RunFolder, write_atomic};
use etymon_viewer::{Line, Role, SimulatedQuery, Simulation, simulation_to_html, simulation_to_terminal};
use serde_json::json;

use super::super::{Context, print};
use super::question::Question;
use super::verify::Trained;
use crate::args::CurriculumArgs;
use crate::error::Result;

/// Most points of a line on the page.
const POINTS: usize = 500;

/// Everything that was found out.
pub struct Answer<'a> {
    pub question: &'a Question,
    /// As it was; not of an edited run alone.
    pub baseline: Option<RollOut>,
    pub edited: Option<RollOut>,
    /// `[Q]` What the edit changes.
    pub changes: Option<Vec<Change>>,
    pub trained: Option<Trained>,
}

impl Answer<'_> {
    /// The lines of query `q`.
    fn lines(&self, q: usize) -> Vec<Line> {
        let n_queries = self.question.simulator.query_ids().len();
        let simulated = |role: Role, roll_out: &RollOut| {
            let of = |all: &[f64]| all.iter().skip(q).step_by(n_queries).copied().collect::<Vec<f64>>();
            let band =
                of(&roll_out.lower).into_iter().zip(of(&roll_out.upper)).map(|(low, high)| [low, high]).collect();
            let losses = of(&roll_out.losses);
            Line { role, steps: (0..losses.len() as u64).collect(), losses, band }
        };
        let mut lines = Vec::new();
        lines.extend(self.baseline.as_ref().map(|roll_out| simulated(Role::Baseline, roll_out)));
        lines.extend(self.edited.as_ref().map(|roll_out| simulated(Role::Edited, roll_out)));
        if let Some(run) = self.question.recorded.as_ref().filter(|_| self.baseline.is_some()) {
            let losses = run.losses.iter().skip(q).step_by(n_queries).copied().collect();
            lines.push(Line { role: Role::Recorded, steps: run.measured.clone(), losses, band: Vec::new() });
        }
        if let Some(trained) = &self.trained {
            let losses = trained.losses.iter().map(|losses| losses[q]).collect();
            lines.push(Line { role: Role::Trained, steps: trained.steps.clone(), losses, band: Vec::new() });
        }
        lines
    }

    /// `[Q]` Really trained final losses less recorded ones.
    pub fn trained_changes(&self) -> Option<Vec<f64>> {
        let after = self.trained.as_ref()?.losses.last()?;
        let run = self.question.recorded.as_ref()?;
        let before = &run.losses[run.losses.len() - after.len()..];
        Some(after.iter().zip(before).map(|(after, before)| after - before).collect())
    }

    /// Every watched example, the largest changes first.
    fn queries(&self) -> Vec<SimulatedQuery> {
        let trained = self.trained_changes();
        let ids = self.question.simulator.query_ids();
        let mut order: Vec<usize> = (0..ids.len()).collect();
        if let Some(changes) = &self.changes {
            order.sort_by(|&a, &b| changes[b].value.abs().total_cmp(&changes[a].value.abs()).then(a.cmp(&b)));
        }
        let query = |q: usize| {
            let row = self.question.watched.get(&ids[q]);
            SimulatedQuery {
                id: ids[q].clone(),
                prompt: row.map_or_else(String::new, |row| row.text.clone()),
                completion: String::new(),
                metadata: row.map_or_else(Default::default, |row| row.metadata.clone()),
                lines: self.lines(q),
                change: self.changes.as_ref().map(|changes| changes[q].value),
                change_band: self.changes.as_ref().and_then(|changes| changes[q].band),
                trained_change: trained.as_ref().map(|changes| changes[q]),
            }
        };
        order.into_iter().map(query).collect()
    }

    /// Writes the curriculum, all losses and the page into the folder, and shows the listing.
    pub fn show(&self, args: &CurriculumArgs, run: &RunFolder, title: &str, context: Context) -> Result<()> {
        let simulator = &self.question.simulator;
        self.question.edited.write(&run.file("curriculum.jsonl"), simulator.train_ids())?;
        let mut simulation = Simulation {
            title: title.to_owned(),
            subtitle: args.edits.words().join(", then "),
            facts: self.facts(),
            queries: self.queries(),
        };
        write_atomic(&run.file("trajectories.jsonl"), |to| {
            simulation.queries.iter().try_for_each(|query| {
                let line = json!({ "query_id": query.id, "lines": query.lines });
                writeln!(to, "{line}")
            })
        })?;
        if !context.global.json {
            let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
            print(simulation_to_terminal(&simulation, columns.unwrap_or(100), args.k).trim_end());
        }
        for query in &mut simulation.queries {
            query.lines = std::mem::take(&mut query.lines).into_iter().map(|line| line.thinned(POINTS)).collect();
        }
        let html = simulation_to_html(&simulation)?;
        write_atomic(&run.file("simulation.html"), |to| to.write_all(html.as_bytes()))?;
        context.reporter.say(format!("page in {}", run.file("simulation.html").display()));
        Ok(())
    }

    fn facts(&self) -> Vec<(String, String)> {
        let Question { simulator, recorded, baseline, edited, .. } = self.question;
        let mut facts = vec![("simulator", simulator.kind().name().to_owned())];
        facts.extend(recorded.as_ref().map(|run| ("run", run.name.clone())));
        let steps = match (&self.baseline, &self.edited) {
            (Some(_), Some(_)) => format!("{} → {}", baseline.n_steps(), edited.n_steps()),
            _ => edited.n_steps().to_string(),
        };
        let n_examples = edited.counts(simulator.train_ids().len()).into_iter().filter(|&n| n > 0).count();
        facts.push(("steps", steps));
        facts.push(("train examples", n_examples.to_string()));
        facts.push(("watched", simulator.query_ids().len().to_string()));
        facts.extend(self.trained.as_ref().map(|trained| ("really trained in", format!("{:.1} s", trained.seconds))));
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
