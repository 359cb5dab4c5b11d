//! Score tables side by side: statistics against scipy and by definition, and a page and a listing that hold the data safe.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use etymon_viewer::{
    Agreement, ComparedRow, Comparison, QueryComparison, TableName, compare_columns, compare_to_html,
    compare_to_terminal, pearson, spearman,
};

const HOSTILE: &str = "</script><!-- \u{1b}[31m \u{202e} & \"x\" 日本\n";

#[test]
fn correlations_are_those_of_scipy() {
    // scipy.stats.pearsonr and spearmanr of these lists; x has ties.
    let x = [1.0, 2.0, 2.0, 3.5, -4.0, 10.0, 2.0, 0.5];
    let y = [2.0, 1.0, 4.0, 4.0, -1.0, 100.0, 3.0, -2.0];
    assert!((pearson(&x, &y).unwrap() - 0.843_837_492_530_166_5).abs() < 1e-14);
    assert!((spearman(&x, &y).unwrap() - 0.883_585_248_612_868_8).abs() < 1e-14);
}

#[test]
fn a_correlation_that_is_not_defined_is_none() {
    for f in [pearson, spearman] {
        assert_eq!(f(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None, "constant");
        assert_eq!(f(&[1.0], &[1.0]), None, "too few");
        assert_eq!(f(&[], &[]), None);
        assert_eq!(f(&[1.0, 2.0], &[1.0, 2.0, 3.0]), None, "of other lengths");
        assert_eq!(f(&[1.0, f64::NAN, 3.0], &[1.0, 2.0, 3.0]), None, "not a number");
        assert_eq!(f(&[0.0, -0.0], &[1.0, 2.0]), None, "zeros are equal");
    }
}

#[test]
fn scale_and_size_do_not_matter() {
    let x = [1e300, 3e300, 2e300, -1e300];
    let y = [-1e-300, -3e-300, -2e-300, 1e-300];
    assert!((pearson(&x, &y).unwrap() + 1.0).abs() < 1e-14);
    assert!((spearman(&x, &y).unwrap() + 1.0).abs() < 1e-14);
    let cubes: Vec<f64> = x.iter().map(|v| (v / 1e300).powi(3)).collect();
    assert!((spearman(&x, &cubes).unwrap() - 1.0).abs() < 1e-14);
    assert!(pearson(&x, &cubes).unwrap() < 0.99);
}

#[test]
fn columns_are_ranked_by_score_then_position_and_overlap_counts_shared_rows() {
    let columns = vec![vec![3.0, 9.0, 9.0, -1.0, 5.0], vec![1.0, 0.0, 7.0, 8.0, 2.0], vec![0.0; 5]];
    let (agreement, lists) = compare_columns(&columns, 2, 3);
    let rows = |i: usize| lists[i].iter().map(|r| r.row).collect::<Vec<_>>();
    assert_eq!(rows(0), [1, 2, 4]);
    assert_eq!(rows(1), [3, 2, 4]);
    assert_eq!(rows(2), [0, 1, 2]);
    assert_eq!(lists[0][0].ranks, [1, 5, 2]);
    assert_eq!(lists[1][0].ranks, [5, 1, 4]);
    assert_eq!((agreement.overlap[0][1], agreement.overlap[1][0]), (Some(0.5), Some(0.5)));
    assert_eq!(agreement.overlap[2][0], Some(0.5));
    assert_eq!((agreement.spearman[0][2], agreement.pearson[2][1]), (None, None));
    assert_eq!(agreement.spearman[0][0].map(|x| (x * 1e12).round()), Some(1e12));
    let other = compare_columns(&[columns[0].clone(), columns[0].clone(), columns[1].clone()], 2, 0).0;
    let mean = Agreement::mean(&[&agreement, &other], 3);
    assert_eq!(mean.overlap[0][1], Some(0.75));
    assert_eq!(mean.spearman[0][2], other.spearman[0][2], "where one is not defined, the mean is of the others");
}

fn comparison(n_tables: usize) -> Comparison {
    let columns: Vec<Vec<f32>> =
        (0..n_tables).map(|m| (0..50).map(|i| ((i * (7 + 2 * m) + m) % 53) as f32 - 20.0).collect()).collect();
    let (agreement, lists) = compare_columns(&columns, 10, 5);
    let row = |r: &etymon_viewer::RankedRow| ComparedRow {
        row: r.row,
        train_id: format!("t{}{HOSTILE}", r.row),
        score: r.score,
        ranks: r.ranks.clone(),
        text: format!("text {} {HOSTILE}", r.row).repeat(9),
    };
    let query = |id: &str| QueryComparison {
        id: id.to_owned(),
        prompt: HOSTILE.to_owned(),
        completion: "done".to_owned(),
        metadata: serde_json::Map::new(),
        agreement: agreement.clone(),
        lists: lists.iter().map(|list| list.iter().map(row).collect()).collect(),
    };
    let table = |m| TableName { name: format!("m{m}{HOSTILE}"), detail: HOSTILE.to_owned() };
    Comparison {
        title: HOSTILE.to_owned(),
        tables: (0..n_tables).map(table).collect(),
        n_train: 50,
        top: 10,
        mean: Agreement::mean(&[&agreement], n_tables),
        queries: vec![query("q1"), query("q2")],
    }
}

#[test]
fn the_listing_fits_its_width_and_no_data_steers_the_terminal() {
    for (n_tables, width) in [(2, 60), (3, 100), (5, 120)] {
        let text = compare_to_terminal(&comparison(n_tables), width);
        assert!(!text.contains(['\u{1b}', '\u{202e}']));
        let matrices = text.lines().take(3 * (n_tables + 3)).count();
        for line in text.lines().skip(matrices) {
            // 日 and 本 take two columns each.
            let wide = line.chars().filter(|c| "日本".contains(*c)).count();
            assert!(line.chars().count() + wide <= width, "{line}");
        }
        assert!(text.contains("Overlap of the top 10, mean over queries"), "{text}");
    }
}

#[test]
fn the_page_holds_all_data_and_none_can_end_an_element() {
    let page = compare_to_html(&comparison(3)).unwrap();
    assert_eq!(page.matches("</script").count(), 4, "the head, two queries, the code");
    assert_eq!(page.matches("<!--").count(), 0);
    let start = page.find("id=\"query-1\">").unwrap() + "id=\"query-1\">".len();
    let json: serde_json::Value = serde_json::from_str(page[start..].split("</script").next().unwrap()).unwrap();
    assert_eq!(json["id"], "q2");
    assert_eq!(json["prompt"], HOSTILE);
    assert_eq!(json["lists"][2].as_array().unwrap().len(), 5);
    let mut twice = comparison(2);
    twice.queries[1].id = "q1".to_owned();
    assert!(compare_to_html(&twice).is_err());
}
