//! A simulation as lines of text.

use super::chart::chart;
use super::{Line, Role, SimulatedQuery, Simulation};
use crate::terminal::cells::{Shade, excerpt, styled, text_of};
use crate::terminal::{number, signed};

/// Charts of the queries at the top of the list.
const CHARTS: usize = 3;

/// The final losses of the first `k` queries, and charts of the first three, as lines no wider than `width` columns (at
/// least 60) but for long ids. Control characters of the data are left out.
pub fn simulation_to_terminal(simulation: &Simulation, width: usize, k: usize) -> String {
    let width = width.max(60);
    let shown = &simulation.queries[..k.min(simulation.queries.len())];
    let mut out = table(shown);
    if shown.len() < simulation.queries.len() {
        out.push_str(&format!("… {} more\n", simulation.queries.len() - shown.len()));
    }
    for query in shown.iter().take(CHARTS) {
        let text = format!("{}  {}{}", query.id, query.prompt, query.completion);
        let head = excerpt(&styled(text.trim(), Shade::Plain), width, 2);
        out.push('\n');
        head.iter().for_each(|line| out.push_str(&format!("{}\n", text_of(line))));
        chart(&query.lines, width).iter().for_each(|line| out.push_str(&format!("{line}\n")));
    }
    out
}

fn table(queries: &[SimulatedQuery]) -> String {
    let last = |role: Role| move |q: &SimulatedQuery| q.line(role).and_then(Line::last).map(number);
    let change = |q: &SimulatedQuery| q.change.map(signed);
    let band = |q: &SimulatedQuery| q.change_band.map(|[low, high]| format!("{} to {}", signed(low), signed(high)));
    let trained = |q: &SimulatedQuery| q.trained_change.map(signed);
    let mut columns: Vec<Vec<String>> = vec![vec!["watched".to_owned()]];
    columns[0].extend(queries.iter().map(|q| q.id.chars().filter(|c| !c.is_control()).collect()));
    let mut push = |head: &str, cell: &dyn Fn(&SimulatedQuery) -> Option<String>| {
        let cells: Vec<Option<String>> = queries.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
            columns.push(std::iter::once(head.to_owned()).chain(cells).collect());
        }
    };
    push("recorded", &last(Role::Recorded));
    push("simulated", &last(Role::Baseline));
    push("edited", &last(Role::Edited));
    push("really", &last(Role::Trained));
    push("change", &change);
    push("90 % band", &band);
    push("real change", &trained);
    let widths: Vec<usize> = columns.iter().map(|c| c.iter().map(|x| x.chars().count()).max().unwrap_or(0)).collect();
    (0..=queries.len()).fold(String::new(), |mut out, row| {
        for (i, (column, width)) in columns.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - column[row].chars().count());
            out.push_str(&if i == 0 { format!("{}{pad}", column[row]) } else { format!("  {pad}{}", column[row]) });
        }
        out.push('\n');
        out
    })
}
