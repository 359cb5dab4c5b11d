//! Convolutional networks against PyTorch (tests/reference/convnet, made by scripts/golden_convnet.py).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use std::path::{Path, PathBuf};

use etymon_data::{Batch, Corpus, CorpusOptions, Example, Padding};
use etymon_model::{Consumer, LayerIo, Model, Objective, Tap, load, save};
use etymon_store::TensorFile;
use etymon_tensor::{Backend, Cpu, Scalar};
use serde_json::{Value, json};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/convnet")
}

fn open<T: Scalar>(folder: &Path) -> Model<Cpu<T>> {
    load(Cpu::<T>::new(), folder).unwrap()
}

fn rows(file: &str) -> Vec<Example> {
    Corpus::open(&[golden().join(file)], None, CorpusOptions::default()).unwrap().read_all().unwrap()
}

fn expected(name: &str) -> Vec<f64> {
    TensorFile::open(&golden().join("expected.safetensors")).unwrap().read_f64(name).unwrap()
}

fn values(examples: &[Example]) -> Vec<f32> {
    let of = |e: &Example| match &e.content {
        etymon_data::Content::Features { values, .. } => values.clone(),
        _ => panic!("no features"),
    };
    examples.iter().flat_map(of).collect()
}

fn relative(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut x.iter().zip(y).map(|(x, y)| x - y)) / norm(&mut y.iter().copied())
}

#[test]
fn outputs_and_parameter_gradients_agree_with_pytorch() {
    let (model, single) = (open::<f64>(&golden()), open::<f32>(&golden()));
    let queries = values(&rows("query.csv"));
    let error = relative(&model.outputs::<f64>(5, &queries).unwrap(), &expected("outputs"));
    let in_f32 = relative(&single.outputs::<f64>(5, &queries).unwrap(), &expected("outputs"));
    println!("outputs: {error:.1e}, f32 {in_f32:.1e}");
    assert!(error < 1e-6 && in_f32 < 1e-5);

    let mut grads = model.params().zeros_like(model.backend());
    let batch = Batch::stack(&rows("train.csv"), Padding::None).unwrap();
    model.run(&batch, Objective::TrainLoss, Consumer::Gradients(&mut grads)).unwrap();
    for (spec, grad) in model.specs().iter().zip(grads.iter()) {
        let error = relative(&model.backend().download::<f64>(grad), &expected(&format!("grad.{}", spec.name)));
        println!("{}: {error:.1e}", spec.name);
        assert!(error < 1e-6, "{}: {error:e}", spec.name);
    }
}

#[test]
fn a_saved_convnet_is_the_same_and_has_the_shapes_of_pytorch() {
    let (model, folder) = (open::<f32>(&golden()), tempfile::tempdir().unwrap());
    save(&model, folder.path(), None).unwrap();
    let queries = values(&rows("query.csv"));
    let outputs = |model: &Model<Cpu<f32>>| model.outputs::<f32>(5, &queries).unwrap();
    assert_eq!(outputs(&open::<f32>(folder.path())), outputs(&model));
    let file = TensorFile::open(&folder.path().join("model.safetensors")).unwrap();
    assert_eq!(file.shape("layers.3.weight").unwrap(), [6, 5, 2, 2]);
    assert_eq!(file.shape("layers.7.weight").unwrap(), [7, 6]);
}

/// ā and Ds of the layers that arrive.
struct Seen<'a>(&'a Cpu<f64>, Vec<(usize, Vec<f64>, Vec<f64>)>);

impl Tap<Cpu<f64>> for Seen<'_> {
    fn layer(&mut self, io: LayerIo<'_, Cpu<f64>>) -> etymon_model::Result<()> {
        let [input, dout] = [io.input, io.dout].map(|x| self.0.download(x).into_vec());
        self.1.push((io.layer.0, input, dout));
        Ok(())
    }
}

#[test]
fn some_layers_of_a_convnet_are_tapped_as_all_are() {
    let model = open::<f64>(&golden());
    let batch = Batch::stack(&rows("query.csv"), Padding::None).unwrap();
    let seen = |model: &Model<Cpu<f64>>| {
        let mut seen = Seen(model.backend(), Vec::new());
        model.run(&batch, Objective::TrainLoss, Consumer::Tap(&mut seen)).unwrap();
        seen.1
    };
    let all = seen(&model);
    assert_eq!(all.len(), 4);
    for (id, input, dout) in all {
        assert_eq!(seen(&model.with_layers(id..id + 1)), [(0, input, dout)]);
    }
}

#[test]
fn layers_that_do_not_fit_are_refused_by_their_place() {
    let config = |layers: Value| json!({"model_type": "convnet", "input": [1, 6, 6], "layers": layers});
    let refusal = |json: Value| Model::new(Cpu::<f32>::new(), json, 0).unwrap_err().to_string();
    assert!(Model::new(Cpu::<f32>::new(), config(json!([{"max_pool": 2}, {"linear": 3}])), 0).is_ok());
    for (layers, place, problem) in [
        (json!([{"conv": {"channels": 2, "kernel": 7}}, {"linear": 3}]), "layers[0]", "does not fit an image of 6 x 6"),
        (json!([{"conv": {"channels": 2, "size": 3}}, {"linear": 3}]), "layers[0]", "unknown field `size`"),
        (json!([{"max_pool": 2}, "softplus", {"linear": 3}]), "layers[1]", "unknown layer `softplus`"),
        (json!(["flatten", {"max_pool": 2}, {"linear": 3}]), "layers[1]", "needs an image"),
        (json!([{"linear": 0}]), "layers[0]", "positive width"),
        (json!([{"max_pool": 0}, {"linear": 3}]), "layers[0]", "does not fit"),
        (json!(["relu"]), "layers", "last layer must be linear"),
    ] {
        let error = refusal(config(layers));
        assert!(error.contains(place) && error.contains(problem), "{error}");
    }
    let mut json = config(json!([{"linear": 3}]));
    json["depth"] = json!(3);
    assert!(refusal(json).contains("unknown field `depth`"));
}
