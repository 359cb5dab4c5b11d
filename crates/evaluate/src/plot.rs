//! Plots as SVG.

use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

use crate::statistics::Interval;
use crate::{EvaluateError, Result};

const WIDTH: u32 = 860;
const COLORS: [RGBColor; 10] = [
    RGBColor(27, 108, 168),
    RGBColor(201, 119, 43),
    RGBColor(106, 154, 61),
    RGBColor(138, 107, 177),
    RGBColor(178, 58, 72),
    RGBColor(90, 90, 90),
    RGBColor(29, 155, 148),
    RGBColor(214, 122, 177),
    RGBColor(186, 150, 0),
    RGBColor(120, 72, 40),
];

/// Height of the line of names above the panels.
const LEGEND: u32 = 24;

/// A line of a plot, or a cloud of points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// (x, y).
    pub points: Vec<(f64, f64)>,
}

/// Whether points are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// By lines, in order.
    Lines,
    /// Not: a scatter plot.
    Points,
}

/// A horizontal bar per method with its interval.
///
/// # Errors
/// What the drawing library refuses.
pub fn bars(title: &str, axis: &str, bars: &[(String, Interval)]) -> Result<String> {
    let mut svg = String::new();
    {
        let height = 110 + 30 * bars.len() as u32;
        let root = canvas(&mut svg, height)?;
        let most = bars.iter().map(|(_, b)| b.high.max(b.value)).fold(0.0, f64::max);
        let least = bars.iter().map(|(_, b)| b.low.min(b.value)).fold(0.0, f64::min);
        let room = 0.05 * (most - least).max(1e-9);
        let n = bars.len() as f64;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(190)
            .build_cartesian_2d(least - if least < 0.0 { room } else { 0.0 }..most + room, n - 0.5..-0.5)
            .map_err(wrong)?;
        let label = |y: &f64| {
            let whole = (y - y.round()).abs() < 0.25 && y.round() >= 0.0;
            let bar = if whole { bars.get(y.round() as usize) } else { None };
            bar.map(|(name, _)| name.clone()).unwrap_or_default()
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(bars.len().max(2))
            .y_label_formatter(&label)
            .x_desc(axis)
            .draw()
            .map_err(wrong)?;
        for (i, (_, bar)) in bars.iter().enumerate() {
            let (y, color) = (i as f64, COLORS[i % COLORS.len()]);
            let body = Rectangle::new([(0.0, y - 0.32), (bar.value, y + 0.32)], color.mix(0.75).filled());
            chart.draw_series([body]).map_err(wrong)?;
            let whisker = PathElement::new(vec![(bar.low, y), (bar.high, y)], BLACK.stroke_width(2));
            chart.draw_series([whisker]).map_err(wrong)?;
        }
        root.present().map_err(wrong)?;
    }
    Ok(svg)
}

/// Series over a common x axis.
///
/// # Errors
/// What the drawing library refuses.
pub fn series(title: &str, x_axis: &str, y_axis: &str, all: &[Series], joined: Joined) -> Result<String> {
    let mut svg = String::new();
    {
        let root = canvas(&mut svg, 480)?;
        let xs = range(all.iter().flat_map(|s| s.points.iter().map(|p| p.0)));
        let ys = range(all.iter().flat_map(|s| s.points.iter().map(|p| p.1)));
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(xs, ys)
            .map_err(wrong)?;
        chart.configure_mesh().x_desc(x_axis).y_desc(y_axis).light_line_style(WHITE).draw().map_err(wrong)?;
        draw(&mut chart, all, joined, SeriesLabelPosition::MiddleRight)?;
        root.present().map_err(wrong)?;
    }
    Ok(svg)
}

/// Charts side by side, each with a title, lines and logarithmic axes of the same ranges. Points that are not positive are left out.
///
/// # Errors
/// What the drawing library refuses.
pub fn log_panels(title: &str, (x_axis, y_axis): (&str, &str), panels: &[(String, Vec<Series>)]) -> Result<String> {
    let mut svg = String::new();
    {
        let rows = panels.len().div_ceil(2).max(1);
        let root =
            canvas(&mut svg, 40 + LEGEND + 330 * rows as u32)?.titled(title, ("sans-serif", 16)).map_err(wrong)?;
        let (strip, root) = root.split_vertically(LEGEND);
        name_series(&strip, panels.first().map_or(&[], |(_, all)| all))?;
        let is_positive = |p: &&(f64, f64)| p.0 > 0.0 && p.1 > 0.0 && p.0.is_finite() && p.1.is_finite();
        let points = || panels.iter().flat_map(|(_, all)| all).flat_map(|s| s.points.iter().filter(is_positive));
        let [xs, ys] = [range(points().map(|p| p.0.log10())), range(points().map(|p| p.1.log10()))];
        let powers = |r: std::ops::Range<f64>| (10f64.powf(r.start)..10f64.powf(r.end)).log_scale();
        for (area, (name, all)) in root.split_evenly((rows, 2)).iter().zip(panels) {
            let mut chart = ChartBuilder::on(area)
                .caption(name, ("sans-serif", 14))
                .margin(8)
                .x_label_area_size(38)
                .y_label_area_size(58)
                .build_cartesian_2d(powers(xs.clone()), powers(ys.clone()))
                .map_err(wrong)?;
            let mut mesh = chart.configure_mesh();
            mesh.x_desc(x_axis).y_desc(y_axis).light_line_style(WHITE);
            mesh.x_label_formatter(&tick).y_label_formatter(&tick).draw().map_err(wrong)?;
            let kept = |s: &Series| Series {
                name: s.name.clone(),
                points: s.points.iter().filter(is_positive).copied().collect(),
            };
            let kept: Vec<_> = all.iter().map(kept).collect();
            draw_series(&mut chart, &kept, Joined::Lines)?;
        }
        root.present().map_err(wrong)?;
    }
    Ok(svg)
}

/// A number at a logarithmic axis, which comes from the drawing library with the error of a power.
fn tick(x: &f64) -> String {
    if (0.09..9e3).contains(x) { format!("{}", (x * 1e6).round() / 1e6) } else { format!("{x:.0e}") }
}

/// The names of the series of all panels, in one line above them: within a panel they would hide curves.
fn name_series(strip: &DrawingArea<SVGBackend<'_>, Shift>, all: &[Series]) -> Result<()> {
    let step = WIDTH as i32 / all.len().max(1) as i32;
    for (i, one) in all.iter().enumerate() {
        let (x, color) = (8 + step * i as i32, COLORS[i % COLORS.len()]);
        strip.draw(&Rectangle::new([(x, 6), (x + 12, 16)], color.filled())).map_err(wrong)?;
        strip.draw(&Text::new(one.name.clone(), (x + 17, 5), ("sans-serif", 12))).map_err(wrong)?;
    }
    Ok(())
}

/// Draws series, and a legend where no curve is expected.
fn draw<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    all: &[Series],
    joined: Joined,
    legend: SeriesLabelPosition,
) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    draw_series(chart, all, joined)?;
    let labels = &mut chart.configure_series_labels();
    labels.position(legend).background_style(WHITE.mix(0.8)).border_style(BLACK).draw().map_err(wrong)
}

fn draw_series<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    all: &[Series],
    joined: Joined,
) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (i, one) in all.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let points = one.points.iter().copied();
        let drawn = match joined {
            Joined::Lines => chart.draw_series(LineSeries::new(points, color.stroke_width(2))),
            Joined::Points => chart.draw_series(points.map(|at| Circle::new(at, 2, color.mix(0.4).filled()))),
        };
        let labelled = drawn.map_err(wrong)?.label(one.name.clone());
        labelled.legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
    }
    Ok(())
}

fn canvas(svg: &mut String, height: u32) -> Result<DrawingArea<SVGBackend<'_>, Shift>> {
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(wrong)?;
    Ok(root)
}

/// From the least to the largest, with some room.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (least, most) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if least > most {
        return 0.0..1.0;
    }
    let room = 0.05 * (most - least).max(1e-9 * most.abs()).max(1e-12);
    least - room..most + room
}

fn wrong(error: impl std::fmt::Display) -> EvaluateError {
    EvaluateError::Plot { problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::tick;

    #[test]
    fn ticks_are_powers_of_ten_whatever_their_rounding() {
        let near = [0.001, 0.1, 1.0, 100.0, 1e4].map(|x: f64| x * (1.0 - 1e-15));
        assert_eq!(near.map(|x| tick(&x)), ["1e-3", "0.1", "1", "100", "1e4"]);
    }
}
