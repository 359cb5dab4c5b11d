//! Lines over steps in characters.

use super::{Line, Role};
use crate::terminal::number;

const HEIGHT: usize = 9;

/// The mark of a role; later ones are drawn over earlier ones.
const MARKS: [(Role, char); 4] =
    [(Role::Recorded, '∙'), (Role::Baseline, '○'), (Role::Trained, '×'), (Role::Edited, '●')];

/// The lines in `width` ≥ 30 columns: the scale of losses at the left, that of steps below, and what the marks are.
pub(super) fn chart(lines: &[Line], width: usize) -> Vec<String> {
    let losses = || lines.iter().flat_map(|line| line.losses.iter().copied());
    let (low, high) = losses().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let last = lines.iter().filter_map(|line| line.steps.last()).max().copied().unwrap_or(0);
    if losses().next().is_none() {
        return Vec::new();
    }
    let labels: Vec<String> = [high, f64::midpoint(low, high), low].iter().map(|&x| number(x)).collect();
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let columns = width.max(30) - margin - 2;
    let mut grid = vec![vec![' '; columns]; HEIGHT];
    for (role, mark) in MARKS {
        for line in lines.iter().filter(|line| line.role == role) {
            for column in 0..columns {
                let step = column as f64 * last as f64 / (columns - 1) as f64;
                if let Some(loss) = at(line, step) {
                    let part = if high > low { (high - loss) / (high - low) } else { 0.5 };
                    grid[(part * (HEIGHT - 1) as f64).round() as usize][column] = mark;
                }
            }
        }
    }
    let label = |row: usize| match row {
        0 => labels[0].as_str(),
        _ if row == HEIGHT / 2 => labels[1].as_str(),
        _ if row == HEIGHT - 1 => labels[2].as_str(),
        _ => "",
    };
    let mut out: Vec<String> = grid
        .iter()
        .enumerate()
        .map(|(row, cells)| format!("{:>margin$} ┤{}", label(row), cells.iter().collect::<String>().trim_end()))
        .collect();
    out.push(format!("{:margin$} └0{:─>width$} step {last}", "", "", width = columns.saturating_sub(8 + digits(last))));
    let named = MARKS.iter().filter(|(role, _)| lines.iter().any(|line| line.role == *role));
    let legend: Vec<String> = named.map(|(role, mark)| format!("{mark} {}", role.name())).collect();
    out.push(format!("{:margin$}  {}", "", legend.join("   ")));
    out
}

fn digits(n: u64) -> usize {
    n.to_string().len()
}

/// The loss at a step, on a straight line between its neighbours; none beyond the ends.
fn at(line: &Line, step: f64) -> Option<f64> {
    let after = line.steps.partition_point(|&s| (s as f64) < step);
    let (right, loss) = (*line.steps.get(after)? as f64, *line.losses.get(after)?);
    if right == step {
        return Some(loss);
    }
    let before = after.checked_sub(1)?;
    let (left, before) = (line.steps[before] as f64, line.losses[before]);
    Some(before + (loss - before) * (step - left) / (right - left))
}
