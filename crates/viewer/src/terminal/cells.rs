//! Text as cells, one character with its shade each, so that wrapping need not know of escape codes.

use crate::Token;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shade {
    Plain,
    Muted,
    Strong,
    /// Strength 0 to 2.
    Positive(u8),
    /// Strength 0 to 2.
    Negative(u8),
}

impl Shade {
    pub(crate) fn ansi(self) -> &'static str {
        match self {
            Self::Plain => "\x1b[0m",
            Self::Muted => "\x1b[0;2m",
            Self::Strong => "\x1b[0;1m",
            Self::Positive(0) => "\x1b[0;38;5;180m",
            Self::Positive(1) => "\x1b[0;38;5;214m",
            Self::Positive(_) => "\x1b[0;1;38;5;208m",
            Self::Negative(0) => "\x1b[0;38;5;110m",
            Self::Negative(1) => "\x1b[0;38;5;75m",
            Self::Negative(_) => "\x1b[0;1;38;5;33m",
        }
    }

    fn of(score: f32, largest: f32) -> Self {
        let strength = match score.abs() / largest {
            x if x >= 0.6 => 2,
            x if x >= 0.3 => 1,
            x if x >= 0.1 => 0,
            _ => return Self::Plain,
        };
        if score < 0.0 { Self::Negative(strength) } else { Self::Positive(strength) }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) char: char,
    pub(crate) shade: Shade,
    /// |score| of the token the character belongs to.
    weight: f32,
}

impl Cell {
    /// Columns on the terminal: 0 for combining marks, 2 for East Asian wide characters and emoji.
    pub(crate) fn width(self) -> usize {
        match u32::from(self.char) {
            0x0300..=0x036f | 0x200b..=0x200d | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
            0x1100..=0x115f | 0x231a..=0x231b | 0x23e9..=0x23f3 | 0x25fd..=0x27bf | 0x2b1b..=0x2b55 => 2,
            0x2e80..=0xa4cf | 0xa960..=0xa97f | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe10..=0xfe6f => 2,
            0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x16fe0..=0x1b2ff | 0x1f000..=0x1faff | 0x20000..=0x3fffd => 2,
            _ => 1,
        }
    }
}

pub(crate) fn styled(text: &str, shade: Shade) -> Vec<Cell> {
    text.chars().filter_map(printable).map(|char| Cell { char, shade, weight: 0.0 }).collect()
}

/// Cells without their shades.
pub(crate) fn text_of(cells: &[Cell]) -> String {
    cells.iter().map(|cell| cell.char).collect()
}

/// The tokens, shaded by their scores against the largest of them.
pub(crate) fn shaded(tokens: &[Token]) -> Vec<Cell> {
    let largest = tokens.iter().filter_map(|t| t.score).fold(f32::MIN_POSITIVE, |m, s| m.max(s.abs()));
    let cells = tokens.iter().flat_map(|token| {
        let score = token.score.unwrap_or(0.0);
        let shade = Shade::of(score, largest);
        token.text.chars().filter_map(printable).map(move |char| Cell { char, shade, weight: score.abs() })
    });
    cells.collect()
}

/// White space becomes a blank; other control characters, bidirectional overrides and variation selectors disappear.
fn printable(c: char) -> Option<char> {
    match c {
        c if c.is_whitespace() => Some(' '),
        c if c.is_control() => None,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fe00}'..='\u{fe0f}' => None,
        c => Some(c),
    }
}

/// Lines of at most `width` columns, broken at blanks where there are any. Outer blanks of a line are left out; runs
/// of blanks inside it are kept, so that columns stay columns.
pub(crate) fn wrap(cells: &[Cell], width: usize) -> Vec<Vec<Cell>> {
    let mut lines = Vec::new();
    let mut line: Vec<Cell> = Vec::new();
    let (mut used, mut last_blank) = (0, None);
    for &cell in cells {
        if line.is_empty() && cell.char == ' ' && !lines.is_empty() {
            continue;
        }
        if used + cell.width() > width {
            // A blank that does not fit ends the line itself; a word goes on to the next one, unless it fills this one.
            let rest = match last_blank {
                _ if cell.char == ' ' => Vec::new(),
                Some(blank) => line.split_off(blank + 1),
                None => Vec::new(),
            };
            lines.push(trimmed(std::mem::replace(&mut line, rest)));
            used = line.iter().map(|c| c.width()).sum();
            last_blank = None;
            if cell.char == ' ' {
                continue;
            }
        }
        if cell.char == ' ' && line.iter().any(|c| c.char != ' ') {
            last_blank = Some(line.len());
        }
        used += cell.width();
        line.push(cell);
    }
    let line = trimmed(line);
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

fn trimmed(mut line: Vec<Cell>) -> Vec<Cell> {
    line.truncate(line.iter().rposition(|c| c.char != ' ').map_or(0, |last| last + 1));
    line
}

/// At most `limit` lines of at most `width` columns, around the heaviest cell; "…" marks what is left out.
pub(crate) fn excerpt(cells: &[Cell], width: usize, limit: usize) -> Vec<Vec<Cell>> {
    let mut packed: Vec<Cell> = cells.to_vec();
    packed.dedup_by(|next, kept| next.char == ' ' && kept.char == ' ');
    let first = packed.iter().position(|c| c.char != ' ').unwrap_or(packed.len());
    let lines = wrap(&packed[first..], width - 2);
    if lines.len() <= limit {
        return lines;
    }
    let weight = |line: &[Cell]| line.iter().fold(0.0_f32, |m, c| m.max(c.weight));
    let heaviest =
        (0..lines.len()).rev().max_by(|&a, &b| weight(&lines[a]).total_cmp(&weight(&lines[b]))).unwrap_or_default();
    let start = heaviest.saturating_sub(limit / 2 - 1).min(lines.len() - limit);
    let mut shown: Vec<Vec<Cell>> = lines[start..start + limit].to_vec();
    let mark = Cell { char: '…', shade: Shade::Muted, weight: 0.0 };
    if start > 0 {
        shown[0].insert(0, mark);
    }
    if start + limit < lines.len() {
        shown[limit - 1].push(mark);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, width: usize) -> Vec<String> {
        wrap(&styled(text, Shade::Plain), width).iter().map(|l| l.iter().map(|c| c.char).collect()).collect()
    }

    #[test]
    fn words_wrap_at_blanks_and_long_ones_are_cut() {
        assert_eq!(lines("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(lines("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(lines("  1   +2.5  id", 40), ["  1   +2.5  id"]);
        assert_eq!(lines("日本語のテキスト", 6), ["日本語", "のテキ", "スト"]);
        assert!(lines(" \n ", 9).is_empty());
    }

    #[test]
    fn an_excerpt_keeps_the_strongest_token() {
        let mut tokens: Vec<Token> = (0..200).map(|i| Token { text: format!(" word{i}"), score: Some(0.01) }).collect();
        tokens[150].score = Some(-3.0);
        let shown = excerpt(&shaded(&tokens), 40, 4);
        let text: String = shown.iter().flatten().map(|c| c.char).collect();
        assert_eq!(shown.len(), 4);
        assert!(text.contains("word150") && text.starts_with('…') && text.ends_with('…'), "{text}");
    }
}
