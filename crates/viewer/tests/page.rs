//! The page carries its report whole, and nothing in a report can break out of it.

use etymon_viewer::{Histogram, LayerShare, QueryReport, Report, Row, Summary, Token, ViewerError, to_html};
use serde_json::{Map, Value, json};

const HOSTILE: &str =
    "</script><script>alert(1)</script> <!-- \"double\" 'single' \\ & \u{2028}\u{2029}\u{0} é 日本 🦀\n";

fn metadata(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn row(rank: u32, score: f32) -> Row {
    Row {
        rank,
        train_id: format!("row {rank} {HOSTILE}"),
        score,
        one_more_copy: f64::from(score) / 7.0,
        text: HOSTILE.into(),
        tokens: vec![
            Token { text: "</script>".into(), score: Some(score / 3.0) },
            Token { text: HOSTILE.into(), score: Some(-1.0e-12) },
            Token { text: "\u{2028}".into(), score: None },
        ],
        layers: vec![score * 0.1, score * 0.9],
        metadata: metadata(json!({ HOSTILE: HOSTILE, "n": 3, "deep": { "list": [1, null, 2.5] } })),
    }
}

fn report() -> Report {
    let scores: Vec<f32> = (0..500).map(|i| ((i * 37 % 101) as f32 - 50.0).powi(3) / 7.0).collect();
    let query = |id: &str| {
        let (proponents, opponents) = (vec![row(1, 17857.143), row(2, 0.1)], vec![row(1, -3.3e-7)]);
        QueryReport {
            id: id.into(),
            prompt: HOSTILE.into(),
            completion: HOSTILE.into(),
            measurement: -1.0 / 3.0,
            metadata: metadata(json!({ "group": HOSTILE })),
            histogram: Histogram::from_scores(scores.iter().copied(), 31),
            summary: Summary::from_scores(scores.iter().copied()),
            layers: LayerShare::from_rows(&["h.0".into(), HOSTILE.into()], proponents.iter().chain(&opponents)),
            proponents,
            opponents,
        }
    };
    let bare = QueryReport {
        id: "features only".into(),
        prompt: String::new(),
        completion: String::new(),
        measurement: 0.0,
        metadata: Map::new(),
        histogram: Histogram::default(),
        summary: Summary::default(),
        proponents: vec![],
        opponents: vec![],
        layers: vec![],
    };
    Report {
        title: HOSTILE.into(),
        subtitle: HOSTILE.into(),
        facts: vec![(HOSTILE.into(), HOSTILE.into())],
        n_train: 500,
        queries: vec![query("q1"), query(HOSTILE), bare],
    }
}

/// What a browser sees of a data element: from its start tag to the first `</script`.
fn element<'a>(page: &'a str, id: &str) -> &'a str {
    let start = format!("<script type=\"application/json\" id=\"{id}\">");
    let rest = page.split_once(&start).map_or("", |(_, rest)| rest);
    rest.split_once("</script").map_or("", |(data, _)| data)
}

#[test]
fn the_data_in_the_page_parses_back_to_the_same_report() {
    let report = report();
    let page = to_html(&report).expect("a page");
    let mut head: Value = serde_json::from_str(element(&page, "report")).expect("JSON");
    for (i, listed) in head["queries"].as_array().expect("the list").iter().enumerate() {
        assert_eq!(listed["id"], report.queries[i].id.as_str());
        assert_eq!(listed["completion"], report.queries[i].completion.as_str());
    }
    let queries: Vec<Value> = (0..report.queries.len())
        .map(|i| serde_json::from_str(element(&page, &format!("query-{i}"))).expect("JSON"))
        .collect();
    head["queries"] = Value::Array(queries);
    assert_eq!(serde_json::from_value::<Report>(head).expect("a report"), report);
}

#[test]
fn no_data_can_end_its_element_or_start_another() {
    let report = report();
    let page = to_html(&report).expect("a page");
    let n_scripts = report.queries.len() + 2;
    assert_eq!(page.matches("<script").count(), n_scripts);
    assert_eq!(page.matches("</script").count(), n_scripts);
    assert!(!page.contains("<!--"));
    let (_, body) = page.split_once("</title>").expect("a title");
    assert!(!body.contains(['\u{2028}', '\u{2029}']));
    assert!(!page.contains("<script>alert"));
    for i in 0..report.queries.len() {
        assert!(!element(&page, &format!("query-{i}")).contains(['<', '>', '&']));
    }
}

#[test]
fn the_page_names_no_other_file_or_host() {
    let page = to_html(&report()).expect("a page");
    for word in ["http://", "https://", " src=", "url(", "@import"] {
        assert_eq!(page.matches(word).count(), usize::from(word == "http://"), "{word}"); // the SVG namespace
    }
}

#[test]
fn tokens_are_pairs_in_json() {
    let token = Token { text: " a".into(), score: Some(0.1) };
    assert_eq!(serde_json::to_string(&token).expect("JSON"), r#"[" a",0.1]"#);
    assert_eq!(serde_json::from_str::<Token>(r#"["x",null]"#).expect("a token").score, None);
}

#[test]
fn reports_that_do_not_hold_together_are_refused_with_the_place() {
    let mut twins = report();
    twins.queries[1].id = "q1".into();
    assert!(matches!(to_html(&twins), Err(ViewerError::DuplicateQuery { id }) if id == "q1"));

    let mut edges = report();
    edges.queries[0].histogram.edges.pop();
    assert!(matches!(to_html(&edges), Err(ViewerError::HistogramShape { edges: 31, counts: 31, .. })));

    let mut layers = report();
    layers.queries[0].opponents[0].layers.push(1.0);
    assert!(matches!(to_html(&layers), Err(ViewerError::LayerShape { expected: 2, got: 3, .. })));

    let mut nan = report();
    nan.queries[0].proponents[1].tokens[0].score = Some(f32::NAN);
    let message = to_html(&nan).expect_err("a refusal").to_string();
    assert!(message.contains("q1") && message.contains("row 2"), "{message}");
}
