//! Low-rank adapters: against PEFT (tests/golden/*_lora, made by scripts/golden_adapters.py), against finite differences in
//! f64, and against merged weights.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use std::path::{Path, PathBuf};

use etymon_data::{Batch, Content, Example, ExampleIndex, Padding, Target};
use etymon_model::{Consumer, LayerIo, Model, Objective, Tap, adapter_base, load, load_on, save};
use etymon_store::TensorFile;
use etymon_tensor::{Accumulate, Backend, Cpu, Scalar, Transpose};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

type F64 = Cpu<f64>;

const FAMILIES: [&str; 3] = ["gpt2", "neox", "llama"];
const IDS: [u32; 7] = [3, 9, 27, 14, 42, 2, 30];

fn golden(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family)
}

fn adapted(family: &str) -> PathBuf {
    golden(&format!("{family}_lora"))
}

fn mlp(task: &str) -> Model<F64> {
    let json = json!({"model_type": "mlp", "sizes": [7, 9, 6, 4], "activation": "tanh", "task": task});
    with_moved_b(Model::new(F64::new(), json, 3).unwrap().add_lora((2, 5.0), None, Path::new(""), 4).unwrap())
}

/// With random numbers in the adapters, whose B would be zero.
fn with_moved_b(mut model: Model<F64>) -> Model<F64> {
    let first = model.specs().len() - model.trained_specs().len();
    let (backend, mut rng) = (F64::new(), ChaCha8Rng::seed_from_u64(8));
    for tensor in model.params_mut().iter_mut().skip(first) {
        let shape = backend.shape(tensor);
        let numbers: Vec<f64> = (0..shape.len()).map(|_| rng.random::<f64>() - 0.5).collect();
        *tensor = backend.upload(shape, &numbers).unwrap();
    }
    model
}

fn example(index: u64, content: Content) -> Example {
    let (text, metadata) = (String::new(), serde_json::Map::new());
    Example { index: ExampleIndex(index), id: index.to_string(), content, text, metadata }
}

fn tokens() -> Batch {
    let of = |i, ids: &[u32], loss_start| example(i, Content::Tokens { ids: ids.to_vec(), loss_start });
    Batch::stack(&[of(0, &IDS, 1), of(1, &IDS[2..], 3)], Padding::None).unwrap()
}

fn features(task: &str) -> Batch {
    let row = |i: u64| {
        let values = (0..7).map(|k| ((3 * i + 5 * k) % 11) as f32 / 7.0 - 0.6).collect();
        let class = Target::Class(i as u32 % 4);
        let target = if task == "regression" { Target::Values(vec![0.3, -0.2, 0.9, 0.1]) } else { class };
        example(i, Content::Features { values, target })
    };
    Batch::stack(&[row(0), row(1), row(2)], Padding::None).unwrap()
}

/// Models with adapters of every kind, with a batch for each.
fn models() -> Vec<(String, Model<F64>, Batch)> {
    let decoders = FAMILIES.map(|family| (family.to_owned(), load(F64::new(), &adapted(family)).unwrap(), tokens()));
    let mlps = ["classification", "regression"].map(|task| (task.to_owned(), mlp(task), features(task)));
    decoders.into_iter().chain(mlps).collect()
}

fn logits<T: Scalar>(model: &Model<Cpu<T>>) -> Vec<f64> {
    model.logits(&IDS).unwrap()
}

fn largest_difference(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

fn loss(model: &Model<F64>, batch: &Batch) -> f64 {
    model.run(batch, Objective::TrainLoss, Consumer::Values).unwrap().iter().sum()
}

#[test]
fn logits_with_adapters_of_peft_agree_with_peft() {
    for family in FAMILIES {
        let expected = TensorFile::open(&adapted(family).join("expected.safetensors")).unwrap();
        let ids: Vec<u32> = expected.read_i64("input_ids").unwrap().into_iter().map(|id| id as u32).collect();
        let expected = expected.read_f64("logits").unwrap();
        let model = load(Cpu::<f32>::new(), &adapted(family)).unwrap();
        let of = |model: &Model<Cpu<f32>>| largest_difference(&model.logits(&ids).unwrap(), &expected);
        let (error, without) = (of(&model), of(&model.base().unwrap()));
        println!("{family}: {error:.1e} with the adapters, {without:.1e} without");
        assert!(error < 5e-5 && without > 1e-2, "{family}: {error:e}, {without:e}");
    }
}

#[test]
fn new_adapters_leave_the_outputs_exactly_as_they_are() {
    for family in FAMILIES {
        let base = load(Cpu::<f32>::new(), &golden(family)).unwrap();
        let model = base.clone().add_lora((4, 16.0), None, &golden(family), 1).unwrap();
        assert_eq!(logits(&model), logits(&base), "{family}");
        let first = model.specs().len() - model.trained_specs().len();
        for (spec, tensor) in model.trained_specs().iter().zip(model.params().iter().skip(first)) {
            let numbers: Vec<f64> = model.backend().download(tensor).into_vec();
            let bound = 1.0 / (spec.shape.cols as f64).sqrt();
            let most = numbers.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            let expected = if spec.name.ends_with("lora_A.weight") { 0.8 * bound..=bound } else { 0.0..=0.0 };
            assert!(expected.contains(&most), "{}: {most}", spec.name);
        }
    }
}

#[test]
fn merged_weights_compute_what_the_adapters_do() {
    for (what, model, batch) in models() {
        let merged = model.merged().unwrap();
        assert!(merged.lora().is_none() && merged.specs().len() + model.trained_specs().len() == model.specs().len());
        let values = |model: &Model<F64>| model.run(&batch, Objective::TrainLoss, Consumer::Values).unwrap().into_vec();
        let error = largest_difference(&values(&merged), &values(&model));
        let moved = largest_difference(&values(&merged), &values(&model.base().unwrap()));
        println!("{what}: merged {error:.1e}, base {moved:.1e}");
        assert!(error < 1e-12 && moved > 1e-3, "{what}: {error:e}, {moved:e}");
    }
}

/// Σ over the rows of Ds āᵀ, of each tapped layer.
struct Sums(Vec<<F64 as Backend>::Tensor>);

impl Tap<F64> for Sums {
    fn layer(&mut self, io: LayerIo<'_, F64>) -> etymon_model::Result<()> {
        let out = &mut self.0[io.layer.0];
        Ok(F64::new().matmul_into(1.0, io.dout, Transpose::Yes, io.input, Transpose::No, Accumulate::Add, out)?)
    }
}

#[test]
fn gradients_of_adapters_are_those_of_finite_differences_and_of_taps_and_the_base_has_none() {
    for (what, model, batch) in models() {
        let mut grads = model.zero_gradients();
        model.run(&batch, Objective::TrainLoss, Consumer::Gradients(&mut grads)).unwrap();
        assert_eq!(grads.len(), 2 * model.lora().unwrap().layers.len(), "{what}");
        let mut sums = Sums(model.zero_direction());
        model.run(&batch, Objective::TrainLoss, Consumer::Tap(&mut sums)).unwrap();
        let first = grads.first().0;
        for (i, (spec, grad)) in model.trained_specs().iter().zip(grads.iter()).enumerate() {
            let layer = model.layers().iter().position(|l| format!("{}.weight", l.name) == spec.name).unwrap();
            let exact: Vec<f64> = model.backend().download(grad).into_vec();
            let tapped: Vec<f64> = model.backend().download(&sums.0[layer]).into_vec();
            assert!(largest_difference(&exact, &tapped) < 1e-12, "{what} {}", spec.name);
            // A few entries of each.
            for at in (0..exact.len()).step_by(exact.len().div_ceil(5)) {
                let moved = |step: f64| {
                    let mut model = model.clone();
                    let tensor = model.params_mut().iter_mut().nth(first + i).unwrap();
                    let mut numbers: Vec<f64> = F64::new().download(tensor).into_vec();
                    numbers[at] += step;
                    *tensor = F64::new().upload(spec.shape, &numbers).unwrap();
                    loss(&model, &batch)
                };
                let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let error = (numeric - exact[at]).abs();
                assert!(error < 1e-7 * (1.0 + numeric.abs()), "{what} {} {at}: {numeric} {}", spec.name, exact[at]);
            }
        }
    }
}

#[test]
fn a_b_of_the_adapters_are_tapped_by_default_and_patterns_choose_among_them() {
    let mut model = load(F64::new(), &adapted("llama")).unwrap();
    let names = |model: &Model<F64>| model.layers().iter().map(|l| l.name.clone()).collect::<Vec<_>>();
    let layer = |i: usize| format!("model.layers.0.{}", ["self_attn.q_proj", "self_attn.v_proj"][i]);
    let expected =
        [(0, "lora_A"), (0, "lora_B"), (1, "lora_A"), (1, "lora_B")].map(|(i, p)| format!("{}.{p}", layer(i)));
    assert_eq!(names(&model)[..4], expected);
    // A of q and of v read the same input, each B its own.
    assert_eq!(model.layers()[..4].iter().map(|l| l.input.0).collect::<Vec<_>>(), [0, 1, 0, 3]);
    assert!(model.layers().iter().all(|l| !l.bias && l.d_in.min(l.d_out) == 3));
    model.select_layers(Some("v_proj.lora_A")).unwrap();
    assert!(names(&model).iter().all(|n| n.ends_with("v_proj.lora_A")) && names(&model).len() == 2);
    let merged = names(&model.merged().unwrap());
    assert_eq!(merged, names(&load(F64::new(), &golden("llama")).unwrap()));
}

#[test]
fn an_adapter_folder_is_read_as_it_was_written() {
    for (what, model, batch) in models() {
        let (base, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        save(&model.base().unwrap(), base.path(), None).unwrap();
        save(&model, folder.path(), None).unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 2, "{what}: the base is not written");
        let again = load_on(F64::new(), folder.path(), base.path()).unwrap();
        let error = (loss(&again, &batch) - loss(&model, &batch)).abs();
        assert!(error < 1e-5, "{what}: {error:e}, from f32 in the files");
        let copy = TempDir::new().unwrap();
        save(&again, copy.path(), None).unwrap();
        let bytes = |folder: &TempDir| std::fs::read(folder.path().join("adapter_model.safetensors")).unwrap();
        assert_eq!(bytes(&copy), bytes(&folder), "{what}");
        // The names that PEFT knows, and the base where it was found.
        let json: Value = etymon_store::read_json(&copy.path().join("adapter_config.json")).unwrap();
        assert_eq!(json["base_model_name_or_path"], json!(base.path().canonicalize().unwrap()));
        assert_eq!(adapter_base(copy.path()).unwrap().unwrap(), base.path().canonicalize().unwrap());
        assert_eq!(load(F64::new(), copy.path()).unwrap().lora(), again.lora());
    }
}

/// What is said about the adapter of `gpt2` when its configuration has another value.
fn refusal(key: &str, value: Value) -> String {
    let folder = TempDir::new().unwrap();
    let mut json: Value = etymon_store::read_json(&adapted("gpt2").join("adapter_config.json")).unwrap();
    json[key] = value;
    std::fs::write(folder.path().join("adapter_config.json"), json.to_string()).unwrap();
    let weights = "adapter_model.safetensors";
    std::fs::copy(adapted("gpt2").join(weights), folder.path().join(weights)).unwrap();
    load_on(F64::new(), folder.path(), &golden("gpt2")).unwrap_err().to_string()
}

#[test]
fn what_peft_knows_and_etymon_does_not_is_refused_by_file_and_key() {
    for (key, value) in [
        ("use_dora", json!(true)),
        ("use_rslora", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("bias", json!("all")),
        ("rank_pattern", json!({"c_attn": 2})),
        ("init_lora_weights", json!("pissa")),
        ("peft_type", json!("IA3")),
        ("some_feature_to_come", json!(1)),
        ("r", json!(0)),
        ("r", json!("3")),
        ("lora_alpha", json!(null)),
    ] {
        let text = refusal(key, value);
        assert!(text.contains(&format!("adapter_config.json: `{key}`: ")), "{text}");
    }
    let text = refusal("r", json!(4));
    assert!(text.contains("adapter_model.safetensors: tensor `base_model.model.transformer.h.0"), "{text}");
    assert!(text.contains("has shape"), "{text}");
}

#[test]
fn adapters_that_do_not_fit_their_base_are_refused() {
    let text = load_on(F64::new(), &adapted("gpt2"), &golden("llama")).unwrap_err().to_string();
    assert!(text.contains("is of a layer that the base model does not have"), "{text}");
    let text = load_on(F64::new(), &adapted("gpt2"), &adapted("llama")).unwrap_err().to_string();
    assert!(text.contains("no model here"), "{text}");
    let folder = TempDir::new().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(adapted("gpt2").join(file), folder.path().join(file)).unwrap();
    }
    let text = load(F64::new(), folder.path()).unwrap_err().to_string();
    assert!(text.contains("`base_model_name_or_path`: no model at `../gpt2`"), "{text}");
    let add = |family: &str, settings, targets| {
        let model = load(F64::new(), &golden(family)).unwrap();
        model.add_lora(settings, targets, Path::new(""), 0).map(|_| ()).unwrap_err().to_string()
    };
    assert!(add("gpt2", (0, 1.0), None).contains("`r`: must be at least 1"));
    assert!(add("gpt2", (2, f64::NAN), None).contains("`lora_alpha`"));
    assert!(add("gpt2", (2, 1.0), Some("q_proj")).contains("`q_proj` matches no layer"));
    assert!(add("gpt2", (2, 1.0), Some("lm_head")).contains("shares its weight with the embedding"));
    let model = load(F64::new(), &adapted("gpt2")).unwrap();
    let text = model.add_lora((1, 1.0), None, Path::new(""), 0).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("has adapters itself"), "{text}");
}
