//! The last hidden state against transformers (through the vocabulary head, which is linear) and a plain loop.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

use std::path::{Path, PathBuf};

use etymon_data::{Batch, Content, Example, ExampleIndex, Padding, Target};
use etymon_model::{Model, load};
use etymon_store::TensorFile;
use etymon_tensor::{Backend, Cpu};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn example(content: Content) -> Example {
    let (index, metadata) = (ExampleIndex(0), serde_json::Map::new());
    Example { index, id: "0".to_owned(), content, text: String::new(), metadata }
}

/// A parameter by its name, row major.
fn parameter(model: &Model<Cpu<f64>>, name: &str) -> Option<Vec<f64>> {
    let at = model.specs().iter().position(|spec| spec.name == name)?;
    model.params().iter().nth(at).map(|p| model.backend().download::<f64>(p).into_vec())
}

/// W x for W `[n, d]`.
fn product(w: &[f64], x: &[f64]) -> Vec<f64> {
    w.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

#[test]
fn the_head_makes_of_features_the_mean_logits_of_transformers() {
    let heads = ["lm_head.weight", "embed_out.weight", "model.embed_tokens.weight", "transformer.wte.weight"];
    for family in ["gpt2", "gpt2_untied", "neox", "llama", "llama_tied_bf16", "qwen2"] {
        let folder = root().join("tests/golden").join(family);
        let model: Model<Cpu<f64>> = load(Cpu::<f64>::new(), &folder).unwrap();
        let head = heads.iter().find_map(|name| parameter(&model, name)).unwrap();
        let file = TensorFile::open(&folder.join("expected.safetensors")).unwrap();
        // Three sequences of different lengths in one batch, predicted from different tokens on.
        let starts = [1, 6, 20];
        let sequence = |k: usize| -> Vec<u32> {
            file.read_i64(&format!("input_ids.{k}")).unwrap().into_iter().map(|id| id as u32).collect()
        };
        let examples = [0, 1, 2].map(|k| example(Content::Tokens { ids: sequence(k), loss_start: starts[k] }));
        let features = model.features(&Batch::stack(&examples, Padding::To(30)).unwrap()).unwrap();
        let d = features.len() / 3;
        for (k, feature) in features.chunks_exact(d).enumerate() {
            let logits = file.read_f64(&format!("logits.{k}")).unwrap();
            let n = sequence(k).len();
            let vocab = logits.len() / n;
            // Row t scores token t + 1; the last token is no input.
            let rows = starts[k] - 1..n - 1;
            let ours = product(&head, feature);
            for (c, ours) in ours.iter().enumerate() {
                let mean = rows.clone().map(|t| logits[t * vocab + c]).sum::<f64>() / rows.len() as f64;
                assert!((ours - mean).abs() < 5e-5, "{family}, sequence {k}, token {c}: {ours} {mean}");
            }
        }
    }
}

#[test]
fn features_of_an_mlp_are_the_input_of_its_last_layer() {
    let model: Model<Cpu<f64>> = load(Cpu::<f64>::new(), &root().join("../../tests/reference/digits")).unwrap();
    let values: Vec<f32> = (0..64).map(|i| (i * 7 % 16) as f32 / 16.0).collect();
    let mut h: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    for layer in ["layers.0", "layers.1"] {
        let bias = parameter(&model, &format!("{layer}.bias")).unwrap();
        let weight = parameter(&model, &format!("{layer}.weight")).unwrap();
        h = product(&weight, &h).iter().zip(bias).map(|(x, b)| (x + b).max(0.0)).collect();
    }
    let row = example(Content::Features { values, target: Target::Class(3) });
    let features = model.features(&Batch::stack(&[row], Padding::None).unwrap()).unwrap();
    assert_eq!(features.len(), 64);
    assert!(h.iter().any(|&x| x > 0.1));
    features.iter().zip(&h).for_each(|(x, y)| assert!((x - y).abs() < 1e-12, "{x} {y}"));
}

#[test]
fn a_batch_of_the_wrong_kind_is_refused() {
    let model: Model<Cpu<f64>> = load(Cpu::<f64>::new(), &root().join("tests/golden/gpt2")).unwrap();
    let row = example(Content::Features { values: vec![1.0], target: Target::Class(0) });
    assert!(model.features(&Batch::stack(&[row], Padding::None).unwrap()).is_err());
}
