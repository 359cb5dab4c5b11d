//! Simulated runs as a page and as a listing.
#![allow(clippy::unwrap_used)]

use etymon_viewer::{Line, Role, SimulatedQuery, Simulation, ViewerError, simulation_to_html, simulation_to_terminal};

const HOSTILE: &str = "</script><!-- \u{1b}[31m & \"x\"";

fn line(role: Role, losses: &[f64]) -> Line {
    Line { role, steps: (0..losses.len() as u64).collect(), losses: losses.to_vec(), band: Vec::new() }
}

fn simulation() -> Simulation {
    let lines = vec![line(Role::Baseline, &[4.0, 2.0, 1.0]), line(Role::Edited, &[4.0, 3.0, 3.5])];
    let query = SimulatedQuery {
        id: HOSTILE.to_owned(),
        prompt: HOSTILE.to_owned(),
        completion: String::new(),
        metadata: <_>::default(),
        lines,
        change: Some(2.5),
        change_band: Some([2.0, 3.0]),
        trained_change: None,
    };
    Simulation { title: HOSTILE.to_owned(), subtitle: "remove".to_owned(), facts: Vec::new(), queries: vec![query] }
}

#[test]
fn the_page_holds_every_line_and_no_data_can_leave_its_element() {
    let page = simulation_to_html(&simulation()).unwrap();
    assert!(page.contains("class=\"simulation\"") && page.contains("\"role\":\"edited\""));
    assert!(page.contains("[4.0,3.0,3.5]"));
    assert_eq!(page.matches("</script>").count(), 3, "two elements of data, one of code");
}

#[test]
fn the_listing_has_final_losses_changes_and_a_chart_and_no_control_characters() {
    let text = simulation_to_terminal(&simulation(), 70, 10);
    assert!(!text.contains('\u{1b}'));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("simulated  edited  change         90 % band"), "{text}");
    assert!(lines[1].ends_with("1.000   3.500  +2.500  +2.000 to +3.000"), "{text}");
    // The highest loss is the first, drawn at the top left; the lowest the last of the baseline, at the bottom right.
    let chart: Vec<&&str> = lines.iter().filter(|line| line.contains('┤')).collect();
    assert!(chart[0].contains("4.000 ┤●") && chart[8].starts_with("1.000 ┤") && chart[8].ends_with('○'), "{text}");
    assert!(chart.iter().all(|line| line.chars().count() <= 70));
    assert!(text.contains("○ simulated, as it was   ● simulated, edited"));
}

#[test]
fn a_line_is_thinned_evenly_and_keeps_its_ends_and_bands() {
    let mut long = line(Role::Edited, &(0..101).map(f64::from).collect::<Vec<_>>());
    long.band = long.losses.iter().map(|x| [x - 1.0, x + 1.0]).collect();
    let thin = long.clone().thinned(5);
    assert_eq!((thin.steps, thin.losses), (vec![0, 25, 50, 75, 100], vec![0.0, 25.0, 50.0, 75.0, 100.0]));
    assert_eq!(thin.band[4], [99.0, 101.0]);
    assert_eq!(long.clone().thinned(101), long);
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let with = |change: &dyn Fn(&mut Simulation)| {
        let mut simulation = simulation();
        change(&mut simulation);
        simulation_to_html(&simulation).unwrap_err()
    };
    let shape = with(&|s| s.queries[0].lines[0].band.push([0.0, 1.0]));
    assert!(matches!(shape, ViewerError::LineShape { steps: 3, losses: 3, band: 1, .. }), "{shape}");
    assert!(matches!(with(&|s| s.queries[0].lines[1].losses[0] = f64::NAN), ViewerError::NotFinite { .. }));
    assert!(matches!(with(&|s| s.queries.push(s.queries[0].clone())), ViewerError::DuplicateQuery { .. }));
}
