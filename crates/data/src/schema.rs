//! What a raw row means: the one schema of all formats, checked and tokenized.

use serde_json::{Map, Value};

use crate::encoder::Affixes;
use crate::rows::{Kind, RawRow, Table};
use crate::{Content, CorpusOptions, Encoder, Overlong, Packing, RowProblem, Target, Task};

/// What the rows are read with.
pub(crate) struct Context<'a> {
    pub encoder: Option<&'a Encoder>,
    pub options: &'a CorpusOptions,
}

/// A row that is ready, but for its place in the corpus. With packing it may have a single token.
pub(crate) struct Draft {
    pub id: Option<String>,
    pub content: Content,
    pub text: String,
    pub metadata: Map<String, Value>,
    pub truncated: bool,
}

/// Why a row is none.
pub(crate) enum Trouble {
    /// It can be skipped.
    Row(RowProblem),
    /// It has text in this column, and there is no tokenizer.
    NoTokenizer(&'static str),
}

impl<E: Into<RowProblem>> From<E> for Trouble {
    fn from(problem: E) -> Self {
        Self::Row(problem.into())
    }
}

type Checked<T> = Result<T, Trouble>;

/// Checks and tokenizes a row.
pub(crate) fn draft(raw: RawRow, context: &Context<'_>) -> Checked<Draft> {
    match raw {
        RawRow::Json(line) => from_object(serde_json::from_slice(&line).map_err(RowProblem::Json)?, context),
        RawRow::Object(object) => from_object(object, context),
        RawRow::Text(line) => {
            let text = String::from_utf8(line).map_err(|_| RowProblem::Utf8)?;
            let (content, truncated) = from_text(&text, context)?;
            Ok(Draft { id: None, content, text, metadata: Map::new(), truncated })
        }
        RawRow::Image { values, class } => {
            let content = Content::Features { values: finite_values(values)?, target: image_target(class, context) };
            Ok(Draft { id: None, content, text: String::new(), metadata: Map::new(), truncated: false })
        }
        RawRow::Record(table, record) => from_record(&table, &record, context),
    }
}

/// Numbers win over text (they are what a model reads), prompt and completion over text.
fn from_object(mut row: Map<String, Value>, context: &Context<'_>) -> Checked<Draft> {
    let id = take(&mut row, "id").map(|id| match id {
        Value::String(id) => Ok(id),
        Value::Number(id) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
        other => Err(wrong("id", "a string or an integer", &other)),
    });
    let id = id.transpose()?;
    let has = |column: &str| row.get(column).is_some_and(|value| !value.is_null());
    let (content, text, truncated);
    if has("input_ids") {
        (content, truncated) = from_ids(&mut row, context)?;
        text = reading_text(&mut row)?;
    } else if has("features") {
        (content, truncated) = (from_features(&mut row, context)?, false);
        text = reading_text(&mut row)?;
    } else if has("prompt") && has("completion") {
        let (prompt, completion) = (take_text(&mut row, "prompt")?, take_text(&mut row, "completion")?);
        (content, truncated) = from_completion(&prompt, &completion, context)?;
        text = prompt + &completion;
    } else if has("text") {
        text = take_text(&mut row, "text")?;
        (content, truncated) = from_text(&text, context)?;
    } else if has("prompt") {
        return Err(RowProblem::Alone { column: "prompt", needs: "`completion`" }.into());
    } else if has("completion") {
        return Err(RowProblem::Alone { column: "completion", needs: "`prompt`" }.into());
    } else {
        return Err(RowProblem::NoContent { columns: row.into_iter().map(|(column, _)| column).collect() }.into());
    }
    Ok(Draft { id, content, text, metadata: row, truncated })
}

fn take(row: &mut Map<String, Value>, column: &str) -> Option<Value> {
    row.shift_remove(column).filter(|value| !value.is_null())
}

fn take_text(row: &mut Map<String, Value>, column: &str) -> Result<String, RowProblem> {
    match take(row, column) {
        Some(Value::String(text)) => Ok(text),
        other => Err(wrong(column, "text", &other.unwrap_or_default())),
    }
}

/// The text of a row whose numbers are what the model reads.
fn reading_text(row: &mut Map<String, Value>) -> Result<String, RowProblem> {
    let mut text = |column| match row.get(column) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => take_text(row, column).map(Some),
    };
    let (whole, prompt, completion) = (text("text")?, text("prompt")?, text("completion")?);
    Ok(whole.unwrap_or_else(|| prompt.unwrap_or_default() + &completion.unwrap_or_default()))
}

fn wrong(column: impl Into<String>, expected: &'static str, got: &Value) -> RowProblem {
    wrong_text(column, expected, &got.to_string())
}

fn wrong_text(column: impl Into<String>, expected: &'static str, got: &str) -> RowProblem {
    let shortened = match got.char_indices().nth(40) {
        Some((end, _)) => format!("{} …", &got[..end]),
        None => got.to_owned(),
    };
    RowProblem::Type { column: column.into(), expected, got: shortened }
}

fn take_list(row: &mut Map<String, Value>, column: &str) -> Result<Vec<Value>, RowProblem> {
    match take(row, column) {
        Some(Value::Array(values)) => Ok(values),
        other => Err(wrong(column, "a list of numbers", &other.unwrap_or_default())),
    }
}

fn from_ids(row: &mut Map<String, Value>, context: &Context<'_>) -> Checked<(Content, bool)> {
    let id = |(i, value): (usize, &Value)| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong(format!("input_ids[{i}]"), "a token id", value))
    };
    let ids = take_list(row, "input_ids")?.iter().enumerate().map(id).collect::<Result<Vec<u32>, _>>()?;
    let start = take(row, "completion_start").map(|start| {
        let position = start.as_u64().and_then(|start| usize::try_from(start).ok());
        position.ok_or_else(|| wrong("completion_start", "a position in `input_ids`", &start))
    });
    limit(ids, start.transpose()?.unwrap_or(1), context)
}

fn from_text(text: &str, context: &Context<'_>) -> Checked<(Content, bool)> {
    let encoder = context.encoder.ok_or(Trouble::NoTokenizer("text"))?;
    let ids = encoder.ids(text, Affixes::Add).map_err(RowProblem::Encode)?;
    limit(ids, 1, context)
}

fn from_completion(prompt: &str, completion: &str, context: &Context<'_>) -> Checked<(Content, bool)> {
    let encoder = context.encoder.ok_or(Trouble::NoTokenizer("prompt"))?;
    let mut ids = encoder.ids(prompt, Affixes::Add).map_err(RowProblem::Encode)?;
    let start = ids.len().max(1);
    ids.extend(encoder.ids(completion, Affixes::Leave).map_err(RowProblem::Encode)?);
    limit(ids, start, context)
}

/// Applies `max_tokens`; says whether something was cut off. Packing cuts by itself.
fn limit(mut ids: Vec<u32>, loss_start: usize, context: &Context<'_>) -> Checked<(Content, bool)> {
    let (n_tokens, max_tokens) = (ids.len(), context.options.max_tokens);
    if context.options.packing != Packing::None {
        let empty = RowProblem::TooShort { n_tokens };
        return if ids.is_empty() { Err(empty.into()) } else { Ok((Content::Tokens { ids, loss_start }, false)) };
    }
    if n_tokens > max_tokens && context.options.overlong == Overlong::Fail {
        return Err(RowProblem::Overlong { n_tokens, max_tokens }.into());
    }
    ids.truncate(max_tokens);
    if ids.len() < 2 {
        return Err(RowProblem::TooShort { n_tokens }.into());
    }
    if loss_start == 0 || loss_start >= ids.len() {
        return Err(RowProblem::CompletionStart { start: loss_start, n_tokens: ids.len(), max_tokens }.into());
    }
    Ok((Content::Tokens { ids, loss_start }, n_tokens > max_tokens))
}

fn from_features(row: &mut Map<String, Value>, context: &Context<'_>) -> Result<Content, RowProblem> {
    let values = take_list(row, "features")?;
    let values = values.iter().enumerate().map(|(i, value)| finite(|| format!("features[{i}]"), value));
    let values = values.collect::<Result<Vec<f32>, _>>()?;
    let has = |column: &str| row.get(column).is_some_and(|value| !value.is_null());
    let task = context.options.task;
    let (column, default) = match &context.options.label {
        Some(label) => (label.as_str(), Task::Classification),
        None if has("target") && (task == Some(Task::Regression) || !has("label")) => ("target", Task::Regression),
        None => ("label", Task::Classification),
    };
    let Some(label) = take(row, column) else {
        return Err(RowProblem::Alone { column: "features", needs: "`label` or `target` (or the column of --label)" });
    };
    let target = match task.unwrap_or(default) {
        Task::Classification => Target::Class(class(column, label.as_f64(), || label.to_string())?),
        Task::Regression => Target::Values(match &label {
            Value::Array(values) => {
                let values = values.iter().enumerate().map(|(i, value)| finite(|| format!("{column}[{i}]"), value));
                values.collect::<Result<_, _>>()?
            }
            number => vec![finite(|| column.to_owned(), number)?],
        }),
    };
    Ok(Content::Features { values, target })
}

fn finite(column: impl Fn() -> String, value: &Value) -> Result<f32, RowProblem> {
    match value.as_f64() {
        Some(number) => finite_f32(column, number),
        // Parquet's NaN and infinity are null.
        None if value.is_null() => Err(RowProblem::NotFinite { column: column() }),
        None => Err(wrong(column(), "a number", value)),
    }
}

fn finite_f32(column: impl Fn() -> String, number: f64) -> Result<f32, RowProblem> {
    let rounded = number as f32;
    if rounded.is_finite() { Ok(rounded) } else { Err(RowProblem::NotFinite { column: column() }) }
}

/// Floats of an idx file may be anything.
fn finite_values(values: Vec<f32>) -> Result<Vec<f32>, RowProblem> {
    match values.iter().position(|x| !x.is_finite()) {
        Some(i) => Err(RowProblem::NotFinite { column: format!("pixel {i}") }),
        None => Ok(values),
    }
}

fn image_target(class: u32, context: &Context<'_>) -> Target {
    match context.options.task {
        Some(Task::Regression) => Target::Values(vec![class as f32]),
        _ => Target::Class(class),
    }
}

fn class(column: &str, label: Option<f64>, written: impl Fn() -> String) -> Result<u32, RowProblem> {
    match label {
        Some(label) if label >= 0.0 && label.fract() == 0.0 && label <= f64::from(u32::MAX) => Ok(label as u32),
        _ => Err(wrong_text(column, "a class (0, 1, 2 …)", &written())),
    }
}

fn from_record(table: &Table, record: &csv::ByteRecord, context: &Context<'_>) -> Checked<Draft> {
    if record.len() != table.columns.len() {
        return Err(RowProblem::FieldCount { expected: table.columns.len(), got: record.len() }.into());
    }
    let mut row = Map::new();
    let (mut values, mut target) = (Vec::with_capacity(record.len()), None);
    for ((name, kind), field) in table.columns.iter().zip(record) {
        let text = std::str::from_utf8(field).map_err(|_| RowProblem::Utf8)?;
        let number = || match text.trim().parse::<f64>() {
            Ok(number) => finite_f32(|| name.clone(), number),
            Err(_) => Err(wrong_text(name, "a number", text)),
        };
        match kind {
            Kind::Feature => values.push(number()?),
            Kind::Label => {
                target = Some(match table.task {
                    Task::Classification => Target::Class(class(name, text.trim().parse().ok(), || text.to_owned())?),
                    Task::Regression => Target::Values(vec![number()?]),
                });
            }
            Kind::Number => {
                let number = serde_json::from_str(text.trim()).unwrap_or_else(|_| Value::from(text));
                row.insert(name.clone(), number);
            }
            Kind::Id if text.is_empty() => {}
            Kind::Id | Kind::Text => {
                row.insert(name.clone(), Value::from(text));
            }
        }
    }
    match target {
        Some(target) if !table.text => {
            let id = take_text(&mut row, "id").ok();
            let content = Content::Features { values, target };
            Ok(Draft { id, content, text: String::new(), metadata: row, truncated: false })
        }
        _ => from_object(row, context),
    }
}
