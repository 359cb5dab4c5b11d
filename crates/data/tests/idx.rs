//! idx files, as of MNIST: images with their labels beside them.
#![allow(clippy::unwrap_used)] // Tests fail by panicking.

mod common;

use common::{Folder, gzip, message};
use etymon_data::{Content, Corpus, CorpusOptions, Format, Target, Task, labels_of};

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

fn idx(element: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, element, shape.len() as u8];
    shape.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// Three images of 2 × 2 bytes.
fn images() -> Vec<u8> {
    idx(8, &[3, 2, 2], &[0, 51, 102, 255, 1, 2, 3, 4, 255, 255, 0, 0])
}

fn labels() -> Vec<u8> {
    idx(8, &[3], &[7, 0, 9])
}

fn read(path: std::path::PathBuf, options: CorpusOptions) -> Result<Vec<(Vec<f32>, Target)>, etymon_data::DataError> {
    let rows = Corpus::open(&[path], None, options)?.read_all()?;
    let row = |example: etymon_data::Example| match example.content {
        Content::Features { values, target } => Some((values, target)),
        Content::Tokens { .. } => None,
    };
    Ok(rows.into_iter().filter_map(row).collect())
}

#[test]
fn bytes_are_pixels_from_0_to_1_and_labels_are_read_from_the_file_beside() {
    let folder = Folder::new();
    folder.write(LABELS, labels());
    let rows = read(folder.write(IMAGES, images()), CorpusOptions::default()).unwrap();
    assert_eq!(rows[0], (vec![0.0, 0.2, 0.4, 1.0], Target::Class(7)));
    assert_eq!(rows.iter().map(|row| row.1.clone()).collect::<Vec<_>>(), [7, 0, 9].map(Target::Class));
    let options = CorpusOptions { task: Some(Task::Regression), ..CorpusOptions::default() };
    assert_eq!(read(folder.path().join(IMAGES), options).unwrap()[2].1, Target::Values(vec![9.0]));
}

#[test]
fn compressed_files_and_folders_of_them_are_the_same_rows() {
    let (plain, zipped) = (Folder::new(), Folder::new());
    plain.write(LABELS, labels());
    plain.write(IMAGES, images());
    zipped.write(&format!("{LABELS}.gz"), gzip(labels()));
    let path = zipped.write(&format!("{IMAGES}.gz"), gzip(images()));
    assert_eq!(labels_of(&path), Some(zipped.path().join(format!("{LABELS}.gz"))));
    let rows = read(path, CorpusOptions::default()).unwrap();
    assert_eq!(rows, read(plain.path().to_owned(), CorpusOptions::default()).unwrap());
    let corpus = Corpus::open(&[zipped.path().to_owned()], None, CorpusOptions::default()).unwrap();
    assert_eq!((corpus.files().len(), corpus.files()[0].format), (1, Format::Idx));
    let ids: Vec<String> = corpus.read_all().unwrap().into_iter().map(|example| example.id).collect();
    assert_eq!(ids, ["0", "1", "2"]);
}

#[test]
fn numbers_of_other_types_stay_as_they_are() {
    let folder = Folder::new();
    folder.write("x-labels.idx1", idx(12, &[2], &[0, 0, 0, 1, 0, 0, 1, 0]));
    let mut data = Vec::new();
    [1.5f32, -2.0, 0.0, 300.0].iter().for_each(|x| data.extend(x.to_be_bytes()));
    let path = folder.write("x-images.idx2", idx(13, &[2, 2], &data));
    let rows = read(path.clone(), CorpusOptions::default()).unwrap();
    assert_eq!(rows, [(vec![1.5, -2.0], Target::Class(1)), (vec![0.0, 300.0], Target::Class(256))]);
    data[4..8].copy_from_slice(&f32::NAN.to_be_bytes());
    folder.write("x-images.idx2", idx(13, &[2, 2], &data));
    assert_eq!(message(read(path, CorpusOptions::default())), "x-images.idx2:1: `pixel 1` is not a finite number");
}

#[test]
fn every_fault_of_the_files_is_named() {
    let cut = |bytes: Vec<u8>, n: usize| bytes[..n].to_vec();
    let more = |mut bytes: Vec<u8>| {
        bytes.push(1);
        bytes
    };
    for (images, labels, expected) in [
        (b"text".to_vec(), labels(), format!("{IMAGES}: not an idx file: it begins with [74, 65, 78, 74]")),
        (idx(10, &[1, 1, 1], &[0]), labels(), format!("{IMAGES}: not an idx file")),
        (cut(images(), 14), labels(), format!("{IMAGES}: ends within its header")),
        (Vec::new(), labels(), format!("{IMAGES}: ends within its header")),
        (cut(images(), 27), labels(), format!("{IMAGES}: ends within entry 3 of the 3")),
        (more(images()), labels(), format!("{IMAGES}: goes on after the 3 entries")),
        (
            idx(8, &[3, u32::MAX, u32::MAX], &[]),
            labels(),
            format!("{IMAGES}: has dimensions [3, 4294967295, 4294967295]"),
        ),
        (idx(8, &[3, 0, 2], &[]), labels(), format!("{IMAGES}: has dimensions [3, 0, 2]")),
        (images(), cut(labels(), 10), format!("{LABELS}: ends within entry 3 of the 3")),
        (images(), idx(8, &[2], &[1, 2]), format!("{LABELS}: 2 labels for 3 images")),
        (images(), idx(8, &[3, 1], &[1, 2, 3]), format!("{LABELS}: labels have one dimension, these have 2")),
        (images(), idx(9, &[3], &[1, 255, 3]), format!("{LABELS}: label 2 is -1; expected a class")),
    ] {
        let folder = Folder::new();
        folder.write(LABELS, labels);
        let got = message(read(folder.write(IMAGES, images), CorpusOptions::default()));
        assert!(got.starts_with(&expected), "{got}, expected {expected}");
    }
}

#[test]
fn images_without_labels_and_labels_alone_are_refused_with_the_name_that_is_needed() {
    let folder = Folder::new();
    let error = |path| read(path, CorpusOptions::default()).unwrap_err().to_string();
    let text = error(folder.write(IMAGES, images()));
    assert!(text.contains("there are no labels") && text.ends_with(LABELS), "{text}");
    let text = error(folder.write(LABELS, labels()));
    assert!(text.contains("name the file of images"), "{text}");
}
