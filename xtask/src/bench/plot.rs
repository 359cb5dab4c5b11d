//! The plot: bars of tokens per second, drawn by hand, so that xtask needs no plotting crate.

use std::fmt::Write;

use super::cases::{Case, Precision, Task, Tool};
use super::measurement::Results;
use super::tables::{self, PASSES, Row};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 230.0;
const BAR: f64 = 16.0;
const LONGEST: f64 = WIDTH - LEFT - 90.0;

struct Bar {
    label: String,
    color: &'static str,
    speed: f64,
}

/// An SVG with one panel per case, precision and pass.
pub fn svg(results: &Results) -> String {
    let (mut body, mut y) = (String::new(), 34.0);
    let _ = writeln!(body, r#"<text x="12" y="22" class="h">Tokens per second; longer is faster</text>"#);
    for case in Case::ALL {
        for (group, precisions) in tables::GROUPS {
            let panels = PASSES.map(|(phase, title)| (title, bars(results, case, precisions, phase)));
            if panels.iter().all(|(_, bars)| bars.is_empty()) {
                continue;
            }
            y += 22.0;
            let _ = writeln!(body, r#"<text x="12" y="{y}" class="h">{}, {group}</text>"#, case.title);
            for (title, bars) in panels.iter().filter(|(_, bars)| !bars.is_empty()) {
                y = panel(&mut body, y + 8.0, title, bars);
            }
        }
    }
    let height = y + 16.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <style>text {{ font: 12px sans-serif; fill: #222 }} .h {{ font-weight: bold; font-size: 13px }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn bars(results: &Results, case: &Case, precisions: &[Precision], phase: &str) -> Vec<Bar> {
    let mut bars = Vec::new();
    for tool in Tool::ALL {
        for &precision in precisions {
            let tasks = [Task::Ekfac, Task::Covariance];
            let row = tasks.into_iter().find_map(|task| Row::find(results, case, task, tool, precision));
            if let Some(speed) = row.and_then(|row| row.speed(phase)) {
                let label = tables::label(tool, precision).replace("**", "");
                bars.push(Bar { label, color: color(tool), speed });
            }
        }
    }
    bars
}

/// Draws the bars of a pass below `y`, and returns where they end.
fn panel(body: &mut String, mut y: f64, title: &str, bars: &[Bar]) -> f64 {
    let most = bars.iter().map(|bar| bar.speed).fold(1.0, f64::max);
    let _ = writeln!(body, r#"<text x="12" y="{}">{title}</text>"#, y + 12.0);
    for Bar { label, color, speed } in bars {
        let (length, text) = (LONGEST * speed / most, y + 12.0);
        let _ = writeln!(body, r#"<text x="{}" y="{text}" text-anchor="end">{label}</text>"#, LEFT - 8.0);
        let _ =
            writeln!(body, r#"<rect x="{LEFT}" y="{y}" width="{length:.1}" height="{}" fill="{color}"/>"#, BAR - 3.0);
        let _ =
            writeln!(body, r#"<text x="{:.1}" y="{text}">{}</text>"#, LEFT + length + 6.0, tables::number(*speed, 0));
        y += BAR;
    }
    y
}

fn color(tool: Tool) -> &'static str {
    match tool {
        Tool::Etymon => "#1b6ca8",
        Tool::Kronfluence => "#c9772b",
        Tool::Bergson => "#6a9a3d",
        Tool::Dattri => "#8a6bb1",
    }
}
