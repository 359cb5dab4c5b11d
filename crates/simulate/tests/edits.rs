//! Edits of curricula, the expressions in them, and curricula as files.
#![allow(clippy::unwrap_used)]

use etymon_simulate::{Curriculum, Edit, Examples, Expression, SimulateError};
use serde_json::{Map, Value, json};

fn ids() -> Vec<String> {
    ["a", "b", "c", "d", "7"].map(str::to_owned).to_vec()
}

fn columns() -> Vec<Map<String, Value>> {
    let rows = [
        json!({"source": "web", "label": 3, "year": "1999", "clean": true}),
        json!({"source": "book", "label": 1, "year": "2004", "clean": false}),
        json!({"source": "web", "label": 1, "year": 2010}),
        json!({"source": "x \"y\"", "label": -2.5, "year": null}),
        json!({"label": 3}),
    ];
    rows.into_iter().map(|row| row.as_object().unwrap().clone()).collect()
}

/// The ids that an expression chooses.
fn chosen(text: &str) -> Result<Vec<String>, SimulateError> {
    let (ids, columns) = (ids(), columns());
    let which = text.parse::<Expression>()?.select(Examples { ids: &ids, columns: Some(&columns) })?;
    Ok(ids.into_iter().zip(which).filter(|(_, chosen)| *chosen).map(|(id, _)| id).collect())
}

#[test]
fn an_expression_chooses_examples_by_their_columns() {
    let cases: &[(&str, &[&str])] = &[
        ("source = \"web\"", &["a", "c"]),
        ("source == 'x \"y\"'", &["d"]),
        ("source != \"web\"", &["b", "d", "7"]),
        ("id in (\"b\", \"d\")", &["b", "d"]),
        ("id not in ('b', 7)", &["a", "c", "d"]),
        ("id = 7", &["7"]),
        ("label = 3", &["a", "7"]),
        ("label = 3.0", &["a", "7"]),
        ("label = \"3\"", &["a", "7"]),
        ("label < 1", &["d"]),
        ("label <= 1", &["b", "c", "d"]),
        ("label >= 1 and label < 3", &["b", "c"]),
        ("year > 2000", &["b", "c"]),
        ("not year > 2000", &["a", "d", "7"]),
        ("clean = true", &["a"]),
        ("clean != true", &["b", "c", "d", "7"]),
        ("source = 'web' or source = 'book' and label = 3", &["a", "c"]),
        ("(source = 'web' or source = 'book') and label = 3", &["a"]),
        ("NOT (source = 'web' OR label=1)", &["d", "7"]),
        ("not not source = 'web'", &["a", "c"]),
        ("label=-2.5", &["d"]),
    ];
    for (text, expected) in cases {
        assert_eq!(chosen(text).unwrap(), *expected, "{text}");
    }
}

#[test]
fn a_bad_expression_is_refused_with_the_column_of_its_error() {
    let cases = [
        ("source = web", 9, "quotes: \"web\""),
        ("source", 6, "expected =, !="),
        ("source = \"web", 9, "no closing \""),
        ("(label = 1", 10, "expected `)`"),
        ("label = 1 label", 10, "expected `and`, `or`"),
        ("label = 1 and", 13, "expected a column"),
        ("id in (\"a\" \"b\")", 11, "expected `,` or `)`"),
        ("id in \"a\"", 6, "expected `(`"),
        ("id < \"b\"", 3, "no order"),
        ("label < \"b\"", 8, "expected a number"),
        ("label = 1x", 8, "`1x` is no number"),
        ("label ~ 1", 6, "`~` belongs to no expression"),
        ("", 0, "expected a column"),
        ("label not 1", 10, "expected `in`"),
    ];
    for (text, column, problem) in cases {
        let error = text.parse::<Expression>().unwrap_err();
        assert!(matches!(error, SimulateError::Expression { column: found, .. } if found == column), "{text}: {error}");
        assert!(error.to_string().contains(problem), "{text}: {error}");
        let pointer = error.to_string().lines().last().unwrap().find('^');
        assert_eq!(pointer, Some(column + 2), "the pointer of {text}");
    }
}

#[test]
fn unknown_columns_and_ids_are_refused_and_the_known_columns_listed() {
    let text = chosen("sauce = \"web\"").unwrap_err().to_string();
    assert_eq!(text, "no train example has a column `sauce`; they have id, clean, label, source, year");
    assert!(matches!(chosen("label = 1 or id = \"zz\""), Err(SimulateError::NoSuchId { id, n: 5 }) if id == "zz"));
    let ids = ids();
    let only_ids = |text: &str| text.parse::<Expression>().unwrap().select(Examples { ids: &ids, columns: None });
    assert!(matches!(only_ids("label = 1"), Err(SimulateError::NoColumns { column }) if column == "label"));
    assert_eq!(only_ids("id = 'a'").unwrap(), [true, false, false, false, false]);
}

fn curriculum() -> Curriculum {
    Curriculum { batches: vec![vec![0, 1], vec![2, 3], vec![0, 2], vec![1]], learning_rates: vec![0.4, 0.3, 0.2, 0.1] }
}

fn edited(edit: &Edit) -> Curriculum {
    let (ids, columns) = (ids(), columns());
    edit.apply(&curriculum(), Examples { ids: &ids, columns: Some(&columns) }).unwrap()
}

fn which(text: &str) -> Expression {
    text.parse().unwrap()
}

#[test]
fn a_removal_shrinks_batches_and_keeps_steps_and_learning_rates() {
    let removed = edited(&Edit::Remove(which("source = 'web'")));
    assert_eq!(removed.batches, [vec![1], vec![3], vec![], vec![1]]);
    assert_eq!(removed.learning_rates, curriculum().learning_rates);
    let only = edited(&Edit::Only(which("source = 'web'")));
    assert_eq!(only.batches, [vec![0], vec![2], vec![0, 2], vec![]]);
    assert_eq!(only.learning_rates, curriculum().learning_rates);
}

#[test]
fn the_chosen_come_first_or_last_in_batches_of_the_sizes_there_were() {
    let first = edited(&Edit::First(which("source = 'web'")));
    assert_eq!(first.batches, [vec![0, 2], vec![0, 2], vec![1, 3], vec![1]]);
    let last = edited(&Edit::Last(which("source = 'web'")));
    assert_eq!(last.batches, [vec![1, 3], vec![1, 0], vec![2, 0], vec![2]]);
    assert_eq!((&first.learning_rates, &last.learning_rates), (&vec![0.4, 0.3, 0.2, 0.1], &vec![0.4, 0.3, 0.2, 0.1]));
}

#[test]
fn repeated_examples_occur_as_often_as_said_spread_over_a_longer_run_of_full_batches() {
    let repeated = edited(&Edit::Repeat(which("id = 'd'"), 4));
    assert_eq!(repeated.counts(5), [2, 2, 2, 4, 0]);
    assert_eq!(repeated.batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 2, 2]);
    // Its place was 3 of 7, or 12 of 28: the copies are at 19, 26 and 5 of 28.
    assert_eq!(repeated.batches.concat(), [0, 1, 3, 2, 3, 0, 3, 2, 1, 3]);
    assert_eq!(repeated.learning_rates, [0.4, 0.4, 0.3, 0.2, 0.1]);
}

#[test]
fn a_shuffle_is_a_function_of_its_seed_and_moves_occurrences_alone() {
    let (one, again, other) = (edited(&Edit::Shuffle(1)), edited(&Edit::Shuffle(1)), edited(&Edit::Shuffle(2)));
    assert_eq!(one, again);
    assert_ne!(one.batches, other.batches);
    assert_eq!(one.counts(5), curriculum().counts(5));
    assert_eq!(one.batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 1]);
    assert_eq!(one.learning_rates, curriculum().learning_rates);
}

#[test]
fn a_truncation_keeps_the_learning_rates_of_the_longer_run() {
    let short = edited(&Edit::Truncate(2));
    assert_eq!((short.batches.len(), short.learning_rates), (2, vec![0.4, 0.3]));
}

#[test]
fn edits_that_change_nothing_or_leave_nothing_are_refused() {
    let (ids, columns) = (ids(), columns());
    let refused = |edit: Edit| {
        let error = edit.apply(&curriculum(), Examples { ids: &ids, columns: Some(&columns) }).unwrap_err();
        assert!(matches!(error, SimulateError::Edit { .. }), "{error}");
        error.to_string()
    };
    assert!(refused(Edit::Remove(which("id = 7"))).contains("remove: the expression chooses no example"));
    assert!(refused(Edit::Remove(which("label < 9"))).contains("leaves no example"));
    assert!(refused(Edit::Truncate(5)).contains("must be 1 to 4"));
    assert!(refused(Edit::Truncate(0)).contains("must be 1 to 4"));
    assert!(refused(Edit::Repeat(which("id = 'a'"), 1)).contains("2 or more"));
}

#[test]
fn a_curriculum_file_is_read_as_it_was_written_and_bad_lines_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.jsonl");
    let with_empty = Curriculum { batches: vec![vec![4, 4], vec![], vec![0]], learning_rates: vec![0.1, 1e-300, 0.0] };
    with_empty.write(&path, &ids()).unwrap();
    assert_eq!(Curriculum::read(&path, &ids()).unwrap(), with_empty);
    let good = "{\"step\": 0, \"train_ids\": [\"a\"], \"learning_rate\": 0.1}\n";
    let cases = [
        ("{\"step\": 2, \"train_ids\": [], \"learning_rate\": 0.1}", ":2: step 2, expected 1"),
        ("{\"step\": 1, \"train_ids\": [\"q\"], \"learning_rate\": 0.1}", ":2: `q` is no train example"),
        ("{\"step\": 1, \"train_ids\": [], \"learning_rate\": -0.1}", ":2: the learning rate is -0.1"),
        ("{\"step\": 1, \"train_ids\": []}", "missing field `learning_rate`"),
        ("{\"step\": 1, \"train_ids\": [], \"learning_rate\": 1, \"lr\": 1}", "unknown field `lr`"),
        ("nonsense", ":2: expected"),
    ];
    for (line, problem) in cases {
        std::fs::write(&path, format!("{good}{line}\n")).unwrap();
        let text = Curriculum::read(&path, &ids()).unwrap_err().to_string();
        assert!(text.contains(problem), "{line}: {text}");
    }
    std::fs::write(&path, "").unwrap();
    assert!(Curriculum::read(&path, &ids()).unwrap_err().to_string().contains("no example to train on"));
}
