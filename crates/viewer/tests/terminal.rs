//! The terminal listing fits its width and lets no data steer the terminal.

use etymon_viewer::{Color, Histogram, QueryReport, Row, Summary, Token, to_terminal};
use serde_json::{Map, json};

fn row(rank: u32, score: f32, pieces: &[&str]) -> Row {
    let tokens: Vec<Token> = pieces
        .iter()
        .enumerate()
        .map(|(i, text)| Token { text: (*text).into(), score: Some(score * (i as f32 - 2.0)) })
        .collect();
    Row {
        rank,
        train_id: format!("train-{rank}"),
        score,
        one_more_copy: f64::from(score) / 1000.0,
        text: pieces.concat(),
        tokens,
        layers: vec![],
        metadata: json!({ "source": "wiki", "url": "example/a-very-long-value-without-any-blank/".repeat(5) })
            .as_object()
            .cloned()
            .unwrap_or_default(),
    }
}

fn query() -> QueryReport {
    let scores = [1.0_f32, -2.0, 1234.5];
    let hostile = [
        "\u{1b}[31mred\u{1b}[0m",
        " \u{202e}back",
        "\ttab\r\n",
        "日本語のとても長いテキスト",
        " 🦀🦀",
        "\u{7}\u{9b}2J",
    ];
    let long: Vec<&str> = ["influence ", "of ", "long ", "texts "].into_iter().cycle().take(300).collect();
    QueryReport {
        id: "capital\u{1b}]0;title\u{7}".into(),
        prompt: "The capital of France, as far as anybody knows, is ".repeat(20),
        completion: " Paris".into(),
        measurement: -1.25,
        metadata: Map::new(),
        histogram: Histogram::from_scores(scores, 10),
        summary: Summary::from_scores(scores),
        proponents: vec![row(1, 1234.5, &hostile), row(2, 0.5, &long), row(3, 1e-9, &["x"])],
        opponents: vec![Row { text: String::new(), tokens: vec![], ..row(1, -2.0, &[]) }],
        layers: vec![],
    }
}

/// Columns of a line: 2 for the wide characters used here.
fn columns(line: &str) -> usize {
    line.chars().map(|c| if ('\u{3000}'..='\u{9fff}').contains(&c) || c > '\u{1f000}' { 2 } else { 1 }).sum()
}

#[test]
fn every_line_fits_the_width() {
    for width in [24, 40, 79, 80, 132] {
        for line in to_terminal(&query(), width, Color::Never, 10).lines() {
            assert!(columns(line) <= width, "{} > {width}: {line}", columns(line));
        }
    }
}

#[test]
fn without_colour_there_is_no_control_character_but_the_line_end() {
    let listing = to_terminal(&query(), 80, Color::Never, 10);
    assert!(!listing.chars().any(|c| c.is_control() && c != '\n'), "{listing:?}");
    assert!(!listing.contains('\u{202e}'));
}

#[test]
fn colours_change_nothing_but_colours() {
    let colored = to_terminal(&query(), 60, Color::Always, 10);
    let mut plain = String::new();
    for (i, part) in colored.split("\u{1b}[").enumerate() {
        plain.push_str(if i == 0 { part } else { part.split_once('m').expect("the end of a code").1 });
    }
    assert_eq!(plain, to_terminal(&query(), 60, Color::Never, 10));
    let last_code = |line: &str| line.rsplit_once('\u{1b}').map(|(_, code)| code.starts_with("[0m"));
    assert!(colored.lines().all(|line| last_code(line) != Some(false)), "a colour runs on past the end of its line");
}

#[test]
fn at_most_k_rows_of_each_list_are_shown() {
    let listing = to_terminal(&query(), 80, Color::Never, 2);
    assert!(listing.contains("train-2") && !listing.contains("train-3"));
    assert!(listing.contains("+1234") && listing.contains("-2.000"));
}
