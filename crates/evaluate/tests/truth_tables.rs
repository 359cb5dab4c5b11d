//! Ground truth of other tools, as tables.
#![allow(clippy::unwrap_used)] // Tests fail by panicking.

use std::path::PathBuf;

use etymon_evaluate::Truth;

struct Files(tempfile::TempDir);

impl Files {
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn read(&self, values: &str, members: &str) -> Result<Truth, String> {
        let train = ["a", "b", "7"].map(str::to_owned);
        let values = self.put("values.csv", values);
        let truth = Truth::read_tables(&values, &self.put("members.csv", members), &train);
        truth.map_err(|e| e.to_string().replace(&self.0.path().display().to_string(), "AT"))
    }
}

const VALUES: &str = "subset,query,value\ns2,q,1.5\ns2,p,-3\ns1,q,2\ns1,p,1\ns1,p,2\n";
const MEMBERS: &str = "subset,train_id\ns1,7\ns1,a\ns2,b\n";

#[test]
fn measurements_are_means_over_retrainings_and_a_loss_has_its_sign_turned() {
    let files = Files(tempfile::tempdir().unwrap());
    let truth = files.read(VALUES, MEMBERS).unwrap();
    assert_eq!(truth.queries, ["q", "p"]);
    assert_eq!(truth.kept, [vec![1], vec![0, 2]]);
    assert_eq!(truth.values, [vec![1.5, -3.0], vec![2.0, 1.5]]);
    let mut turned = files.read(&VALUES.replace("value", "loss"), MEMBERS).unwrap();
    turned.values.iter_mut().flatten().for_each(|x| *x = -*x);
    assert_eq!(turned, truth);
}

#[test]
fn jsonl_tables_are_the_same() {
    let files = Files(tempfile::tempdir().unwrap());
    let values = files.put(
        "v.jsonl",
        "{\"subset\": 1, \"query\": \"q\", \"value\": 0.5}\n{\"subset\": 2, \"query\": \"q\", \"value\": 1}\n",
    );
    let members = "{\"subset\": 1, \"train_id\": 7}\n{\"subset\": 2, \"train_id\": \"a\"}\n";
    let truth = Truth::read_tables(&values, &files.put("m.jsonl", members), &["a", "7"].map(str::to_owned)).unwrap();
    assert_eq!((truth.kept, truth.values), (vec![vec![1], vec![0]], vec![vec![0.5], vec![1.0]]));
}

#[test]
fn every_fault_of_the_tables_is_named_with_its_line() {
    let files = Files(tempfile::tempdir().unwrap());
    for (values, members, expected) in [
        (VALUES.replace("1.5", "nan"), MEMBERS.to_owned(), "AT/values.csv:2: `value` is not a finite number"),
        (VALUES.replace("1.5", ""), MEMBERS.to_owned(), "AT/values.csv:2: `value` is empty, or not finite"),
        (VALUES.replace("value", "score"), MEMBERS.to_owned(), "AT/values.csv:2: there is no column `value`"),
        (VALUES.replace("s2,p,-3", "s3,p,-3"), MEMBERS.to_owned(), "AT/values.csv:3: no train example of subset `s3`"),
        (
            VALUES.replace("s2,p,-3\n", ""),
            MEMBERS.to_owned(),
            "AT/values.csv:0: subset `s2` has no measurement of query `p`",
        ),
        (VALUES.to_owned(), MEMBERS.replace("s1,a", "s1,x"), "AT/members.csv:3: `x` is no example of the train set"),
        (VALUES.to_owned(), MEMBERS.replace("s1,a", "s1,7"), "AT/members.csv:3: subset `s1` has `7` twice"),
        (VALUES.to_owned(), format!("{MEMBERS}s9,a\n"), "AT/values.csv:0: has no measurement of subset `s9`"),
        ("subset,query,value\ns1,q,1\n".to_owned(), "subset,train_id\ns1,a\n".to_owned(), "AT/values.csv:0: 1 subsets"),
        (VALUES.to_owned(), "subset,id\ns1,a\n".to_owned(), "AT/members.csv:2: there is no column `train_id`"),
    ] {
        let got = files.read(&values, &members).unwrap_err();
        assert!(got.starts_with(expected), "{got}, expected {expected}");
    }
}
