//! Which train examples an edit is about: comparisons of their columns.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{Result, SimulateError};

/// The train examples that expressions are about.
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    /// `[n]` Their ids.
    pub ids: &'a [String],
    /// `[n]` Their other columns, if they are known.
    pub columns: Option<&'a [Map<String, Value>]>,
}

/// A condition on the columns of a train example: `source = "web" and not (label != 3 or id in ("a", "b"))`.
///
/// - Comparisons: `=` (or `==`), `!=`, `<`, `<=`, `>`, `>=`, `in (…)`, `not in (…)`; joined by `not`, `and`, `or`, which bind
///   in this order, and parentheses.
/// - Values: texts in `"` or `'`, numbers, `true`, `false`. A text is compared with the text of the column, a number with its
///   number, also where the column holds a number as text. `<` and its like compare numbers.
/// - Where an example lacks the column, `=`, `<` and `in` are false, `!=` and `not in` are true.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// The column has one of the values.
    In(String, Vec<Literal>),
    /// The column is a number that compares in one of these ways.
    Order(String, Bound, f64),
    /// Not this one.
    Not(Box<Expression>),
    /// Both.
    And(Box<Expression>, Box<Expression>),
    /// One of them, or both.
    Or(Box<Expression>, Box<Expression>),
}

/// How a number compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// <.
    Below,
    /// ≤.
    AtMost,
    /// >.
    Above,
    /// ≥.
    AtLeast,
}

/// A value in an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// In quotes.
    Text(String),
    /// As written.
    Number(f64, String),
    /// `true` or `false`.
    Truth(bool),
}

impl Expression {
    /// `[n]` Whether each example fulfils the condition.
    ///
    /// # Errors
    /// A column that no example has, an id that is none, a column where only ids are known.
    pub fn select(&self, examples: Examples<'_>) -> Result<Vec<bool>> {
        self.check(examples)?;
        let columns = |i: usize| examples.columns.and_then(|all| all.get(i));
        Ok(examples.ids.iter().enumerate().map(|(i, id)| self.holds(id, columns(i))).collect())
    }

    fn holds(&self, id: &str, columns: Option<&Map<String, Value>>) -> bool {
        match self {
            Self::In(column, values) if column == "id" => values.iter().any(|value| value.written() == id),
            Self::In(column, values) => {
                let found = columns.and_then(|c| c.get(column)).filter(|value| !value.is_null());
                found.is_some_and(|found| values.iter().any(|value| value.is(found)))
            }
            Self::Order(column, bound, limit) => {
                let found = columns.and_then(|c| c.get(column)).and_then(number);
                found.is_some_and(|found| match bound {
                    Bound::Below => found < *limit,
                    Bound::AtMost => found <= *limit,
                    Bound::Above => found > *limit,
                    Bound::AtLeast => found >= *limit,
                })
            }
            Self::Not(inner) => !inner.holds(id, columns),
            Self::And(a, b) => a.holds(id, columns) && b.holds(id, columns),
            Self::Or(a, b) => a.holds(id, columns) || b.holds(id, columns),
        }
    }

    fn check(&self, examples: Examples<'_>) -> Result<()> {
        match self {
            Self::In(column, values) if column == "id" => values.iter().try_for_each(|value| {
                let id = value.written();
                if examples.ids.iter().any(|known| known == id) {
                    return Ok(());
                }
                Err(SimulateError::NoSuchId { id: id.to_owned(), n: examples.ids.len() })
            }),
            Self::In(column, _) | Self::Order(column, ..) => {
                let Some(rows) = examples.columns else {
                    return Err(SimulateError::NoColumns { column: column.clone() });
                };
                if rows.iter().any(|row| row.contains_key(column)) {
                    return Ok(());
                }
                let known: BTreeSet<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
                let known = std::iter::once("id").chain(known).collect::<Vec<_>>().join(", ");
                Err(SimulateError::NoSuchColumn { column: column.clone(), known })
            }
            Self::Not(inner) => inner.check(examples),
            Self::And(a, b) | Self::Or(a, b) => a.check(examples).and_then(|()| b.check(examples)),
        }
    }
}

impl Literal {
    /// As it was written, without quotes.
    fn written(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(_, text) => text,
            Self::Truth(true) => "true",
            Self::Truth(false) => "false",
        }
    }

    fn is(&self, found: &Value) -> bool {
        match self {
            Self::Text(text) => found.as_str().map_or_else(|| found.to_string(), str::to_owned).eq(text),
            Self::Number(expected, _) => number(found) == Some(*expected),
            Self::Truth(truth) => found.as_bool() == Some(*truth),
        }
    }
}

/// The number of a value, also of one that is written as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}
