//! A simulation as a page.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Role, SimulatedQuery, Simulation};
use crate::ViewerError;
use crate::page::{Scripts, html, push_json};

/// What the page reads at once.
#[derive(Serialize)]
struct Head<'a> {
    title: &'a str,
    subtitle: &'a str,
    facts: &'a [(String, String)],
    queries: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    prompt: &'a str,
    completion: &'a str,
    metadata: &'a Map<String, Value>,
    change: Option<f64>,
    change_band: Option<[f64; 2]>,
    trained_change: Option<f64>,
    /// The simulated loss at the end.
    last: Option<f64>,
}

impl<'a> From<&'a SimulatedQuery> for Entry<'a> {
    fn from(q: &'a SimulatedQuery) -> Self {
        let (change, change_band, trained_change) = (q.change, q.change_band, q.trained_change);
        let last = q.line(Role::Edited).or_else(|| q.line(Role::Baseline)).and_then(super::Line::last);
        let (id, prompt, completion, metadata) = (&q.id, &q.prompt, &q.completion, &q.metadata);
        Self { id, prompt, completion, metadata, change, change_band, trained_change, last }
    }
}

/// The simulation as one HTML file that needs nothing else, in the frame of [`to_html`](crate::to_html): per watched example
/// its losses on the way; where the edited run was really trained, simulated against real changes of all.
///
/// # Errors
/// When two queries share an id, a line has not as many losses as steps, or a number is not finite.
pub fn simulation_to_html(simulation: &Simulation) -> Result<String, ViewerError> {
    simulation.check()?;
    let head = Head {
        title: &simulation.title,
        subtitle: &simulation.subtitle,
        facts: &simulation.facts,
        queries: simulation.queries.iter().map(Entry::from).collect(),
    };
    let mut data = String::new();
    push_json(&mut data, "report", &head)?;
    for (index, query) in simulation.queries.iter().enumerate() {
        push_json(&mut data, &format!("query-{index}"), query)?;
    }
    Ok(html(Scripts::Simulation, &simulation.title, &data))
}
