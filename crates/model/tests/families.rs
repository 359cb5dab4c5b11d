//! Every family against transformers on small random models (tests/golden, made by scripts/golden_models.py).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use std::path::{Path, PathBuf};

use etymon_data::{Batch, Content, Example, ExampleIndex, Padding};
use etymon_model::{Consumer, LayerGroups, LayerIo, LayerSpec, Model, Objective, Tap, load, save};
use etymon_store::TensorFile;
use etymon_tensor::{Backend, Cpu, Scalar};

const FAMILIES: [&str; 12] = [
    "gpt2",
    "gpt2_untied",
    "gpt2_f16",
    "neox",
    "neox_sequential",
    "llama",
    "llama_tied_bf16",
    "llama3_rope",
    "llama_sharded",
    "mistral",
    "qwen2",
    "smollm",
];

fn golden(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family)
}

fn open<T: Scalar>(family: &str) -> Model<Cpu<T>> {
    load(Cpu::<T>::new(), &golden(family)).unwrap()
}

fn expected(family: &str) -> TensorFile {
    TensorFile::open(&golden(family).join("expected.safetensors")).unwrap()
}

fn ids(file: &TensorFile, k: usize) -> Vec<u32> {
    file.read_i64(&format!("input_ids.{k}")).unwrap().into_iter().map(|id| id as u32).collect()
}

fn example(ids: Vec<u32>) -> Example {
    Example {
        index: ExampleIndex(0),
        id: "0".to_owned(),
        content: Content::Tokens { ids, loss_start: 1 },
        text: String::new(),
        metadata: serde_json::Map::new(),
    }
}

fn largest_difference(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

fn relative(x: &[f64], y: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut x.iter().zip(y).map(|(x, y)| x - y)) / norm(&mut y.iter().copied()).max(1e-30)
}

#[test]
fn logits_of_every_family_agree_with_transformers() {
    for family in FAMILIES {
        let (model, file) = (open::<f32>(family), expected(family));
        for k in 0..3 {
            let logits: Vec<f64> = model.logits(&ids(&file, k)).unwrap();
            let error = largest_difference(&logits, &file.read_f64(&format!("logits.{k}")).unwrap());
            println!("{family} {k}: {error:.1e}");
            assert!(error < 5e-5, "{family}, sequence {k}: {error:e}");
        }
    }
}

#[test]
fn parameter_gradients_of_every_family_agree_with_autograd() {
    for family in FAMILIES {
        let (model, file) = (open::<f64>(family), expected(family));
        let mut grads = model.params().zeros_like(model.backend());
        let batch = Batch::stack(&[example(ids(&file, 1))], Padding::None).unwrap();
        model.run(&batch, Objective::TrainLoss, Consumer::Gradients(&mut grads)).unwrap();
        let mut compared = 0;
        for (spec, grad) in model.specs().iter().zip(grads.iter()) {
            let name = format!("grad.1.{}", spec.name);
            if !file.contains(&name) {
                continue;
            }
            let ours = spec.to_stored(model.backend().download::<f32>(grad).into_vec());
            let ours: Vec<f64> = ours.into_iter().map(f64::from).collect();
            let error = relative(&ours, &file.read_f64(&name).unwrap());
            assert!(error < 2e-5, "{family} {name}: {error:e}");
            compared += 1;
        }
        println!("{family}: {compared} gradients");
        assert!(compared >= 5, "{family}: only {compared} gradients compared");
    }
}

#[test]
fn a_saved_model_is_the_same_model() {
    for family in FAMILIES {
        let model = open::<f32>(family);
        let folder = tempfile::tempdir().unwrap();
        save(&model, folder.path(), None).unwrap();
        let again: Model<Cpu<f32>> = load(Cpu::<f32>::new(), folder.path()).unwrap();
        let tokens = ids(&expected(family), 2);
        let (x, y): (Vec<f32>, Vec<f32>) = (model.logits(&tokens).unwrap(), again.logits(&tokens).unwrap());
        assert_eq!(x, y, "{family}");
    }
}

#[test]
fn layers_that_read_the_same_input_are_known() {
    let names = |model: &Model<Cpu<f32>>| -> Vec<(String, usize)> {
        model.layers().iter().map(|l| (l.name.clone(), l.input.0)).collect()
    };
    let mut model = open::<f32>("llama");
    let all = names(&model);
    assert_eq!(all[..7].iter().map(|(_, i)| *i).collect::<Vec<_>>(), [0, 0, 0, 3, 4, 4, 6]);
    model.select_layers(Some("k_proj|v_proj|up_proj")).unwrap();
    assert_eq!(names(&model)[..3].iter().map(|(_, i)| *i).collect::<Vec<_>>(), [0, 0, 2]);
}

/// Keeps ā and Ds of the layers that arrive.
#[derive(Default)]
struct Seen(Vec<(usize, Vec<f32>, Vec<f32>)>);

impl Tap<Cpu<f32>> for Seen {
    fn layer(&mut self, io: LayerIo<'_, Cpu<f32>>) -> etymon_model::Result<()> {
        let backend = Cpu::<f32>::new();
        let [input, dout] = [io.input, io.dout].map(|x| backend.download(x).into_vec());
        self.0.push((io.layer.0, input, dout));
        Ok(())
    }
}

#[test]
fn a_model_with_some_of_its_layers_taps_these_as_the_whole_does() {
    for family in FAMILIES {
        let (model, file) = (open::<f32>(family), expected(family));
        let batch = Batch::stack(&[example(ids(&file, 0))], Padding::None).unwrap();
        let seen = |model: &Model<Cpu<f32>>| {
            let mut seen = Seen::default();
            model.run(&batch, Objective::TrainLoss, Consumer::Tap(&mut seen)).unwrap();
            seen.0
        };
        let (all, specs) = (seen(&model), model.layers());
        let groups = LayerGroups::smallest(specs);
        assert!(groups.len() > 4, "{family}");
        let (mut first, mut apart) = (f64::NEG_INFINITY, Vec::new());
        for range in groups.iter() {
            let part = model.with_layers(range.clone());
            let named = |specs: &[LayerSpec], start: usize| -> Vec<_> {
                specs.iter().map(|s| (s.name.clone(), s.d_in, s.d_out, s.input.0 + start)).collect()
            };
            assert_eq!(named(part.layers(), range.start), named(&specs[range.clone()], 0), "{family}");
            let mut found: Vec<_> = seen(&part).into_iter().map(|(i, x, y)| (i + range.start, x, y)).collect();
            found.append(&mut apart);
            apart = found;
            first = first.max(part.pass_flops(100, 10));
        }
        assert_eq!(apart, all, "{family}");
        let last = model.with_layers(specs.len() - 1..specs.len()).pass_flops(100, 10);
        assert!(
            last < first && first == model.pass_flops(100, 10),
            "{family}: the backward pass ends at its lowest layer"
        );
    }
}

#[test]
fn bad_folders_and_bad_numbers_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = load(Cpu::<f32>::new(), folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json and model.safetensors"), "{error}");

    let copy = |file: &str| std::fs::copy(golden("gpt2").join(file), folder.path().join(file)).unwrap();
    copy("model.safetensors");
    let write = |text: &str| std::fs::write(folder.path().join("config.json"), text).unwrap();
    let refusal = || load(Cpu::<f32>::new(), folder.path()).unwrap_err().to_string();
    write(r#"{"model_type": "mamba"}"#);
    assert!(refusal().contains("unknown architecture `mamba`; known: gpt2"), "{}", refusal());
    write(r#"{"model_type": "gpt2", "n_embd": 24}"#);
    assert!(refusal().contains("`n_head`"), "{}", refusal());
    copy("config.json");
    let text = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    write(&text.replace("\"vocab_size\": 67", "\"vocab_size\": 68"));
    assert!(refusal().contains("`transformer.wte.weight` has shape [67, 24]"), "{}", refusal());
    write(&text);
    let mut bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let n = bytes.len();
    bytes[n - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
    assert!(refusal().contains("NaN"), "{}", refusal());
    std::fs::write(folder.path().join("model.safetensors"), &bytes[..n / 2]).unwrap();
    assert!(refusal().contains("truncated"), "{}", refusal());
}

#[test]
fn tokens_outside_of_vocabulary_or_context_are_refused_before_any_work() {
    let model = open::<f32>("gpt2");
    let refusal = |ids: Vec<u32>| model.check(&example(ids)).unwrap_err().to_string();
    assert!(refusal(vec![1, 2, 67]).contains("vocabulary of 67"));
    assert!(refusal(vec![1; 40]).contains("context of 32"));
}
