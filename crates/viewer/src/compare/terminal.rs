//! A comparison as lines of text.

use super::{ComparedRow, Comparison, QueryComparison};
use crate::terminal::cells::{Shade, excerpt, styled, text_of, wrap};
use crate::terminal::signed;

/// Narrowest column of texts.
const MIN_COLUMN: usize = 28;
/// Blanks between columns.
const GAP: usize = 3;
const TEXT_LINES: usize = 4;

/// The mean agreement of the tables, then per query the strongest texts of each side by side, as lines no wider than
/// `width` columns (at least 60). Control characters of the data are left out.
pub fn compare_to_terminal(comparison: &Comparison, width: usize) -> String {
    let width = width.max(60);
    let mut out = String::new();
    let names: Vec<String> = comparison.tables.iter().map(|t| plain(&t.name, 16)).collect();
    let overlap = format!("Overlap of the top {}", comparison.top);
    let mean = &comparison.mean;
    let several = if comparison.queries.len() == 1 { "" } else { ", mean over queries" };
    let parts = [("Spearman", &mean.spearman), ("Pearson", &mean.pearson), (overlap.as_str(), &mean.overlap)];
    for (title, matrix) in parts {
        out.push_str(&format!("{title}{several}\n"));
        out.push_str(&format!("  {:16}", ""));
        names.iter().for_each(|name| out.push_str(&format!("  {name:>10}")));
        out.push('\n');
        for (name, row) in names.iter().zip(matrix) {
            out.push_str(&format!("  {name:16}"));
            for (value, name) in row.iter().zip(&names) {
                let text = value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
                let width = name.chars().count().max(10);
                out.push_str(&format!("  {text:>width$}"));
            }
            out.push('\n');
        }
        out.push('\n');
    }
    comparison.queries.iter().for_each(|query| show(query, &names, width, &mut out));
    out
}

fn show(query: &QueryComparison, names: &[String], width: usize, out: &mut String) {
    let mut text = query.id.clone();
    if !query.prompt.is_empty() || !query.completion.is_empty() {
        text.push_str(&format!("  {} → {}", query.prompt.trim(), query.completion.trim()));
    }
    for line in excerpt(&styled(&text, Shade::Plain), width, TEXT_LINES) {
        out.push_str(&format!("{}\n", text_of(&line)));
    }
    let together = ((width + GAP) / (MIN_COLUMN + GAP)).clamp(1, names.len().max(1));
    for group in (0..names.len()).collect::<Vec<_>>().chunks(together) {
        let column = (width + GAP) / group.len() - GAP;
        let titles: Vec<Vec<String>> = group.iter().map(|&i| vec![names[i].clone()]).collect();
        side_by_side(&titles, column, out);
        let most = group.iter().map(|&i| query.lists[i].len()).max().unwrap_or(0);
        for rank in 0..most {
            let cell = |&i: &usize| query.lists[i].get(rank).map_or_else(Vec::new, |row| lines(row, rank, i, column));
            side_by_side(&group.iter().map(cell).collect::<Vec<_>>(), column, out);
        }
        out.push('\n');
    }
}

/// Rank, score, id and the ranks in the other tables; then the text.
fn lines(row: &ComparedRow, rank: usize, own: usize, width: usize) -> Vec<String> {
    let others: Vec<String> =
        row.ranks.iter().enumerate().filter(|&(i, _)| i != own).map(|(_, r)| format!("#{r}")).collect();
    let head = format!("{:>2} {} {} ({})", rank + 1, signed(f64::from(row.score)), row.train_id, others.join(" "));
    let mut lines: Vec<String> = wrap(&styled(&head, Shade::Plain), width).iter().map(|l| text_of(l)).collect();
    let text = excerpt(&styled(&row.text, Shade::Plain), width - 3, TEXT_LINES);
    lines.extend(text.iter().map(|line| format!("   {}", text_of(line))));
    lines
}

fn side_by_side(columns: &[Vec<String>], width: usize, out: &mut String) {
    for i in 0..columns.iter().map(Vec::len).max().unwrap_or(0) {
        let mut line = String::new();
        for (c, column) in columns.iter().enumerate() {
            let text = column.get(i).map_or("", String::as_str);
            line.push_str(text);
            if c + 1 < columns.len() {
                let used = styled(text, Shade::Plain).iter().map(|cell| cell.width()).sum::<usize>();
                line.push_str(&" ".repeat((width + GAP).saturating_sub(used)));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// Without control characters, and at most `most` characters.
fn plain(text: &str, most: usize) -> String {
    let cells = styled(text, Shade::Plain);
    if cells.len() <= most { text_of(&cells) } else { text_of(&cells[..most - 1]) + "…" }
}
