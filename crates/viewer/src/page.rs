use serde::Serialize;
use serde_json::{Map, Value};

use crate::{QueryReport, Report, ViewerError};

const BODY: &str = include_str!("../assets/body.html");
const STYLES: [&str; 4] = [
    include_str!("../assets/frame.css"),
    include_str!("../assets/reading.css"),
    include_str!("../assets/compare.css"),
    include_str!("../assets/simulation.css"),
];
const BASE: &str = include_str!("../assets/base.js");
const PASSAGE: &str = include_str!("../assets/passage.js");
const MAIN: &str = include_str!("../assets/main.js");
const REPORT: [&str; 6] = [
    BASE,
    PASSAGE,
    include_str!("../assets/charts.js"),
    include_str!("../assets/rows.js"),
    include_str!("../assets/query.js"),
    MAIN,
];
const COMPARISON: [&str; 4] = [BASE, PASSAGE, include_str!("../assets/compare.js"), MAIN];
const SIMULATION: [&str; 4] = [BASE, PASSAGE, include_str!("../assets/simulation.js"), MAIN];
/// No request of any kind leaves the page, whatever the data says.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// What a page shows; the frame is the same.
#[derive(Clone, Copy)]
pub(crate) enum Scripts {
    /// One score table.
    Report,
    /// Several, side by side.
    Comparison,
    /// Losses of simulated runs.
    Simulation,
}

/// What the page reads at once: the run, and of each query what the list shows.
#[derive(Serialize)]
struct Head<'a> {
    title: &'a str,
    subtitle: &'a str,
    facts: &'a [(String, String)],
    n_train: u64,
    queries: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    prompt: &'a str,
    completion: &'a str,
    measurement: f64,
    metadata: &'a Map<String, Value>,
}

impl<'a> From<&'a QueryReport> for Entry<'a> {
    fn from(q: &'a QueryReport) -> Self {
        Self {
            id: &q.id,
            prompt: &q.prompt,
            completion: &q.completion,
            measurement: q.measurement,
            metadata: &q.metadata,
        }
    }
}

/// The report as one HTML file that needs nothing else, neither network nor other files.
///
/// The data sits in `<script type="application/json">` elements: `report` (the run and the list of queries) and one
/// `query-I` per query, in order, holding that [`QueryReport`] whole. The page parses a query when it is selected.
///
/// # Errors
///
/// When two queries share an id, a shape does not match, or a number is not finite.
pub fn to_html(report: &Report) -> Result<String, ViewerError> {
    report.check()?;
    let head = Head {
        title: &report.title,
        subtitle: &report.subtitle,
        facts: &report.facts,
        n_train: report.n_train,
        queries: report.queries.iter().map(Entry::from).collect(),
    };
    let mut data = String::new();
    push_json(&mut data, "report", &head)?;
    for (index, query) in report.queries.iter().enumerate() {
        push_json(&mut data, &format!("query-{index}"), query)?;
    }
    Ok(html(Scripts::Report, &report.title, &data))
}

/// A page around `data`, its elements of JSON.
pub(crate) fn html(scripts: Scripts, title: &str, data: &str) -> String {
    let (kind, scripts) = match scripts {
        Scripts::Report => ("report", &REPORT[..]),
        Scripts::Comparison => ("comparison", &COMPARISON[..]),
        Scripts::Simulation => ("simulation", &SIMULATION[..]),
    };
    let mut page = format!("<!doctype html>\n<html lang=\"en\" class=\"{kind}\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str(&format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n"));
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n<title>");
    page.push_str(&escape_text(title));
    page.push_str("</title>\n<style>\n");
    STYLES.iter().for_each(|style| page.push_str(style));
    page.push_str("</style>\n</head>\n");
    page.push_str(BODY);
    page.push_str(data);
    page.push_str("<script>\n\"use strict\";\n(() => {\n");
    scripts.iter().for_each(|script| page.push_str(script));
    page.push_str("})();\n</script>\n</body>\n</html>\n");
    page
}

pub(crate) fn push_json(page: &mut String, id: &str, data: &impl Serialize) -> Result<(), ViewerError> {
    let json = serde_json::to_string(data)?;
    page.push_str(&format!("<script type=\"application/json\" id=\"{id}\">"));
    // In JSON these characters occur inside strings only, where the escape means the same. Without `<` no data can
    // end the script element or open a comment in it.
    for c in json.chars() {
        match c {
            '<' => page.push_str("\\u003c"),
            '>' => page.push_str("\\u003e"),
            '&' => page.push_str("\\u0026"),
            '\u{2028}' => page.push_str("\\u2028"),
            '\u{2029}' => page.push_str("\\u2029"),
            c => page.push(c),
        }
    }
    page.push_str("</script>\n");
    Ok(())
}

fn escape_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assets_cannot_end_the_elements_that_hold_them() {
        assert!(
            REPORT.iter().chain(&COMPARISON).chain(&SIMULATION).all(|s| !s.contains("</script") && !s.contains("<!--"))
        );
        assert!(STYLES.iter().all(|s| !s.contains("</style")));
    }

    #[test]
    fn the_assets_reach_for_nothing_outside_the_page_and_parse_no_data_as_html() {
        for asset in REPORT.iter().chain(&COMPARISON).chain(&SIMULATION).chain(&STYLES).chain([&BODY]) {
            for word in ["https:", "@import", "url(", "fetch(", "XMLHttp", "innerHTML", "outerHTML", "insertAdjacent"] {
                assert!(!asset.contains(word), "{word}");
            }
        }
    }

    #[test]
    fn a_title_is_text() {
        assert_eq!(escape_text("a < b & </title>"), "a &lt; b &amp; &lt;/title&gt;");
    }
}
