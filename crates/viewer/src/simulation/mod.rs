//! Simulated training runs: the losses of watched examples on the way, and what an edit changes.

mod chart;
mod page;
mod terminal;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::ViewerError;

pub use page::simulation_to_html;
pub use terminal::simulation_to_terminal;

/// A simulated run, or two of them: as it was, and edited.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// Heading of the page.
    pub title: String,
    /// Below it: the edits.
    pub subtitle: String,
    /// (name, value): simulator, steps, and the like.
    pub facts: Vec<(String, String)>,
    /// The watched examples, in the order they are listed.
    pub queries: Vec<SimulatedQuery>,
}

/// A watched example.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SimulatedQuery {
    /// Its id.
    pub id: String,
    /// Its text; empty where it is not known.
    pub prompt: String,
    /// The part of the text that is predicted; empty where it is not told apart.
    pub completion: String,
    /// Its other columns.
    pub metadata: Map<String, Value>,
    /// Its losses.
    pub lines: Vec<Line>,
    /// Final loss of the edited run less that of the unedited one, simulated, in nats.
    pub change: Option<f64>,
    /// The 90 % band of `change`.
    pub change_band: Option<[f64; 2]>,
    /// `change` as really trained.
    pub trained_change: Option<f64>,
}

/// Whose losses a line is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Simulated, as it was.
    Baseline,
    /// Simulated, edited.
    Edited,
    /// Recorded, as it was.
    Recorded,
    /// Really trained, edited.
    Trained,
}

/// Losses of one watched example in one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Whose.
    pub role: Role,
    /// `[n]` Steps before which they are, rising.
    pub steps: Vec<u64>,
    /// `[n]` Losses in nats.
    pub losses: Vec<f64>,
    /// `[n]` Lower and upper end of the 90 % band; empty without one.
    pub band: Vec<[f64; 2]>,
}

impl Line {
    /// At most `most` ≥ 2 of its points, evenly, the last among them: a page need not hold every step.
    #[must_use]
    pub fn thinned(mut self, most: usize) -> Self {
        let (n, most) = (self.steps.len(), most.max(2));
        if n > most {
            let kept: Vec<usize> = (0..most).map(|k| k * (n - 1) / (most - 1)).collect();
            let band = std::mem::take(&mut self.band);
            self.band = kept.iter().filter_map(|&i| band.get(i).copied()).collect();
            self.steps = kept.iter().map(|&i| self.steps[i]).collect();
            self.losses = kept.iter().map(|&i| self.losses[i]).collect();
        }
        self
    }

    /// The loss at the end.
    pub fn last(&self) -> Option<f64> {
        self.losses.last().copied()
    }
}

impl Role {
    /// As legends call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "simulated, as it was",
            Self::Edited => "simulated, edited",
            Self::Recorded => "recorded",
            Self::Trained => "really trained, edited",
        }
    }
}

impl SimulatedQuery {
    /// The line of a role.
    pub fn line(&self, role: Role) -> Option<&Line> {
        self.lines.iter().find(|line| line.role == role)
    }
}

impl Simulation {
    fn check(&self) -> Result<(), ViewerError> {
        let mut seen = std::collections::BTreeSet::new();
        for query in &self.queries {
            if !seen.insert(&query.id) {
                return Err(ViewerError::DuplicateQuery { id: query.id.clone() });
            }
            for line in &query.lines {
                let (steps, losses, band) = (line.steps.len(), line.losses.len(), line.band.len());
                if losses != steps || (band != steps && band != 0) {
                    return Err(ViewerError::LineShape { query: query.id.clone(), steps, losses, band });
                }
            }
            let lines = query.lines.iter().flat_map(|l| l.losses.iter().chain(l.band.iter().flatten()));
            let changes = query.change.iter().chain(query.change_band.iter().flatten()).chain(&query.trained_change);
            if !lines.chain(changes).all(|x| x.is_finite()) {
                return Err(ViewerError::NotFinite { query: query.id.clone(), place: "a loss".to_owned() });
            }
        }
        Ok(())
    }
}
