//! The words of an expression.

use crate::{Result, SimulateError};

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A column, or a word such as `and`.
    Word(String),
    /// A text in quotes.
    Text(String),
    /// A number, and how it is written.
    Number(f64, String),
    /// =, ==, !=, <, <=, > or >=.
    Operator(&'static str),
    /// (.
    Open,
    /// ).
    Close,
    /// ,.
    Comma,
    /// Nothing more.
    End,
}

/// A token and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub token: Token,
    /// In characters, from 0.
    pub column: usize,
}

const OPERATORS: [&str; 7] = ["==", "!=", "<=", ">=", "=", "<", ">"];

/// Cuts a text; the last token is the end.
pub(super) fn tokens(text: &str) -> Result<Vec<Spot>> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        if c.is_whitespace() {
            at += 1;
            continue;
        }
        let wrong = |problem: String| SimulateError::Expression { text: text.to_owned(), column: at, problem };
        let (token, length) = token(&chars[at..]).map_err(wrong)?;
        found.push(Spot { token, column: at });
        at += length;
    }
    found.push(Spot { token: Token::End, column: chars.len() });
    Ok(found)
}

/// The token at the beginning, and its length.
fn token(rest: &[char]) -> std::result::Result<(Token, usize), String> {
    let first = rest.first().copied().unwrap_or(' ');
    let run = |belongs: fn(char) -> bool| rest.iter().take_while(|&&c| belongs(c)).collect::<String>();
    match first {
        '(' => Ok((Token::Open, 1)),
        ')' => Ok((Token::Close, 1)),
        ',' => Ok((Token::Comma, 1)),
        '"' | '\'' => {
            let inner: String = rest[1..].iter().take_while(|&&c| c != first).collect();
            let length = inner.chars().count() + 2;
            if length > rest.len() {
                Err(format!("the text has no closing {first}"))
            } else {
                Ok((Token::Text(inner), length))
            }
        }
        c if c.is_alphabetic() || c == '_' => {
            let word = run(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
            let length = word.chars().count();
            Ok((Token::Word(word), length))
        }
        c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => {
            let written = run(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
            let number = written.parse().map_err(|_| format!("`{written}` is no number"))?;
            let length = written.chars().count();
            Ok((Token::Number(number, written), length))
        }
        _ => {
            let is = |operator: &&&str| operator.chars().eq(rest.iter().copied().take(operator.len()));
            let operator = OPERATORS.iter().find(is).ok_or_else(|| format!("`{first}` belongs to no expression"))?;
            Ok((Token::Operator(operator), operator.len()))
        }
    }
}
