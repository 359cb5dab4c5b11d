use serde_json::Value;

use crate::{QueryReport, Row};

pub(crate) mod cells;
use cells::{Cell, Shade, excerpt, shaded, styled, wrap};

/// Narrowest listing; a smaller width is taken as this one.
const MIN_WIDTH: usize = 24;
const TEXT_LINES: usize = 4;
const PROMPT_LINES: usize = 3;

/// Whether a terminal listing has ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Plain text.
    Never,
    /// ANSI codes of 256 colours: warm for positive influence, blue for negative.
    Always,
}

/// The `k` strongest proponents and opponents of a query, as lines no wider than `width` columns (at least 24).
///
/// A text longer than four lines is cut to the four around its strongest token. Control characters of the data are left
/// out, so that no training text can steer the terminal.
pub fn to_terminal(query: &QueryReport, width: usize, color: Color, k: usize) -> String {
    let mut page = Listing { width: width.max(MIN_WIDTH), color, out: String::new() };
    page.query(query);
    page.list("Proponents", &query.proponents, k);
    page.list("Opponents", &query.opponents, k);
    page.out
}

struct Listing {
    width: usize,
    color: Color,
    out: String,
}

impl Listing {
    fn query(&mut self, query: &QueryReport) {
        let mut title = styled(&query.id, Shade::Strong);
        title.extend(styled(&format!("  f = {}", number(query.measurement)), Shade::Plain));
        title.extend(styled(&metadata(query.metadata.iter()), Shade::Muted));
        self.wrapped(&title, 0);
        let prompt = wrap(&styled(&query.prompt, Shade::Muted), self.width - 2);
        if prompt.len() > PROMPT_LINES {
            self.line(&styled("…", Shade::Muted), 2);
        }
        for line in &prompt[prompt.len().saturating_sub(PROMPT_LINES)..] {
            self.line(line, 2);
        }
        if !query.completion.is_empty() {
            let mut completion = styled("→ ", Shade::Muted);
            completion.extend(styled(query.completion.trim_start(), Shade::Strong));
            self.wrapped(&completion, 2);
        }
        let s = &query.summary;
        let summary = format!(
            "scores: mean {}, std {}, min {}, max {}; the top 1 % hold {:.0} % of the positive influence",
            number(s.mean),
            number(s.std),
            signed(s.min),
            signed(s.max),
            100.0 * s.top_percent_share
        );
        self.wrapped(&styled(&summary, Shade::Muted), 0);
    }

    fn list(&mut self, name: &str, rows: &[Row], k: usize) {
        self.out.push('\n');
        let mut title = styled(name, Shade::Strong);
        if rows.is_empty() {
            title.extend(styled("  none", Shade::Muted));
        } else {
            title.extend(styled("  rank, score I, one more copy I/N, id", Shade::Muted));
        }
        self.wrapped(&title, 0);
        for row in rows.iter().take(k) {
            self.row(row);
        }
    }

    fn row(&mut self, row: &Row) {
        let score = f64::from(row.score);
        let shade = if score < 0.0 { Shade::Negative(2) } else { Shade::Positive(2) };
        let mut head = styled(&format!("{:>3}  ", row.rank), Shade::Muted);
        head.extend(styled(&format!("{:>10}", signed(score)), shade));
        head.extend(styled(&format!("  {:>10} nats", signed(row.one_more_copy)), Shade::Plain));
        head.extend(styled(&format!("  {}", row.train_id), Shade::Strong));
        head.extend(styled(&metadata(row.metadata.iter()), Shade::Muted));
        self.wrapped(&head, 0);
        let indent = 5;
        let text = if row.tokens.is_empty() { styled(&row.text, Shade::Plain) } else { shaded(&row.tokens) };
        for line in excerpt(&text, self.width - indent, TEXT_LINES) {
            self.line(&line, indent);
        }
    }

    /// Lines after the first are indented by two more columns.
    fn wrapped(&mut self, cells: &[Cell], indent: usize) {
        let mut lines = wrap(cells, self.width - indent - 2).into_iter();
        if let Some(first) = lines.next() {
            self.line(&first, indent);
        }
        lines.for_each(|line| self.line(&line, indent + 2));
    }

    fn line(&mut self, cells: &[Cell], indent: usize) {
        self.out.push_str(&" ".repeat(indent));
        let mut last = Shade::Plain;
        for cell in cells {
            if self.color == Color::Always && cell.shade != last {
                self.out.push_str(cell.shade.ansi());
                last = cell.shade;
            }
            self.out.push(cell.char);
        }
        if last != Shade::Plain {
            self.out.push_str(Shade::Plain.ansi());
        }
        self.out.push('\n');
    }
}

fn metadata<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    entries.fold(String::new(), |mut all, (key, value)| {
        let value = match value {
            Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        all.push_str(&format!("  {key}={value}"));
        all
    })
}

/// Four significant digits, with an exponent where the plain notation would be long.
pub(crate) fn number(x: f64) -> String {
    let magnitude = x.abs();
    match magnitude {
        0.0 => "0".to_owned(),
        1e-3..1e5 => {
            let decimals = (3 - magnitude.log10().floor() as i32).clamp(0, 6);
            format!("{x:.*}", decimals as usize)
        }
        _ => format!("{x:.3e}"),
    }
}

pub(crate) fn signed(x: f64) -> String {
    if x > 0.0 { format!("+{}", number(x)) } else { number(x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(12.3456), "12.35");
        assert_eq!(number(-0.001234), "-0.001234");
        assert_eq!(number(1.5e-7), "1.500e-7");
        assert_eq!(signed(54321.0), "+54321");
        assert_eq!(signed(-2.0e9), "-2.000e9");
    }
}
