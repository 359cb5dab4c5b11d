//! Gauss-Newton products against finite differences of the outputs, in f64: ⟨w, G v⟩ = Σ_rows (J w)ᵀ H (J v).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use std::path::Path;

use etymon_data::{Batch, Content, Example, ExampleIndex, Padding, Target};
use etymon_model::{Model, load};
use etymon_tensor::{Backend, Cpu, Matrix, Shape};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type F64 = Cpu<f64>;
type Direction = Vec<Matrix<f64>>;

/// Those of `…_lora` have adapters, which are tapped.
const FAMILIES: [&str; 11] = [
    "gpt2",
    "gpt2_lora",
    "gpt2_untied",
    "llama",
    "llama_lora",
    "llama_tied_bf16",
    "mistral",
    "neox",
    "neox_lora",
    "neox_sequential",
    "qwen2",
];

fn direction(model: &Model<F64>, seed: u64) -> Direction {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut fill = |shape: Shape| {
        let numbers: Vec<f64> = (0..shape.len()).map(|_| rng.random::<f64>() - 0.5).collect();
        model.backend().upload(shape, &numbers).unwrap()
    };
    model.layers().iter().map(|s| fill(Shape::new(s.d_out, s.d_in))).collect()
}

/// θ + t · direction.
fn moved(model: &Model<F64>, t: f64, direction: &Direction) -> Model<F64> {
    let (mut out, backend) = (model.clone(), model.backend());
    for (layer, dw) in model.layers().iter().zip(direction) {
        let d_in = layer.d_in - usize::from(layer.bias);
        let parts = [("weight", 0, d_in), ("bias", d_in, 1)];
        for (kind, start, len) in &parts[..1 + usize::from(layer.bias)] {
            // A tied head has the embedding's name.
            let named = |s: &etymon_model::ParamSpec| s.name == format!("{}.{kind}", layer.name);
            let Some(i) = model.specs().iter().position(named) else { panic!("{} is no parameter", layer.name) };
            let part = backend.slice_cols(dw, *start, *len).unwrap();
            let part = backend.reshape(part, model.specs()[i].shape).unwrap();
            backend.axpy(t, &part, out.params_mut().iter_mut().nth(i).unwrap()).unwrap();
        }
    }
    out
}

/// The derivative of `outputs` at t = 0, by a fourth-order central difference.
fn derivative(step: f64, outputs: impl Fn(f64) -> Vec<f64>) -> Vec<f64> {
    let points =
        [(8.0, 1.0), (-8.0, -1.0), (-1.0, 2.0), (1.0, -2.0)].map(|(w, t)| (w / (12.0 * step), outputs(t * step)));
    (0..points[0].1.len()).map(|i| points.iter().map(|(w, x)| w * x[i]).sum()).collect()
}

/// Σ_rows a ᵀ (diag(p) − p pᵀ) b, p = softmax(logits), for rows of `classes`.
fn curved(logits: &[f64], a: &[f64], b: &[f64], classes: usize) -> f64 {
    let row = |((x, a), b): ((&[f64], &[f64]), &[f64])| {
        let top = x.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = x.iter().map(|x| (x - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mean = |of: &dyn Fn(usize) -> f64| (0..classes).map(|i| weights[i] / total * of(i)).sum::<f64>();
        mean(&|i| a[i] * b[i]) - mean(&|i| a[i]) * mean(&|i| b[i])
    };
    logits.chunks(classes).zip(a.chunks(classes)).zip(b.chunks(classes)).map(row).sum()
}

fn inner(a: &Direction, b: &Direction) -> f64 {
    a.iter().zip(b).map(|(a, b)| F64::new().dot(a, b).unwrap()).sum()
}

/// `scale` is √(⟨v, G v⟩ ⟨w, G w⟩): ⟨w, G v⟩ itself may cancel.
fn assert_agree(what: &str, got: f64, wanted: f64, scale: f64) {
    let error = (got - wanted).abs() / scale;
    println!("{what}: {got:.6}, relative error {error:.1e}");
    assert!(error < 1e-6, "{what}: {got} and {wanted}, relative error {error:e}");
}

fn example(index: u64, content: Content) -> Example {
    Example {
        index: ExampleIndex(index),
        id: index.to_string(),
        content,
        text: String::new(),
        metadata: Default::default(),
    }
}

#[test]
fn products_of_every_family_agree_with_finite_differences_of_logits() {
    for family in FAMILIES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family);
        let mut model: Model<F64> = load(F64::new(), &folder).unwrap();
        let classes = model.json()["vocab_size"].as_u64().unwrap() as usize;
        // Two sequences of different lengths; of the second one only the last tokens carry a loss term.
        let sequences = [(vec![3, 9, 27, 14, 42, 2], 1), (vec![5, 1, 30, 8, 8, 11, 60, 7, 4], 6)];
        let examples: Vec<Example> = sequences
            .iter()
            .enumerate()
            .map(|(i, (ids, start))| example(i as u64, Content::Tokens { ids: ids.clone(), loss_start: *start }))
            .collect();
        for pattern in [None, Some("1.*(down|c_fc|h_to_4h|o_proj|query_key)|c_attn.lora_B"), Some(".")] {
            if pattern == Some(".") && !family.contains("untied") {
                continue; // The head's weight is the embedding's, or not, with other names: once is enough.
            }
            model.select_layers(pattern).unwrap();
            let (v, w) = (direction(&model, 1), direction(&model, 2));
            let mut product = model.zero_direction();
            let batch = Batch::stack(&examples, Padding::None).unwrap();
            model.add_gauss_newton(&batch, &[&v], std::slice::from_mut(&mut product)).unwrap();
            let outputs = |direction: &Direction, t| -> Vec<f64> {
                let model = moved(&model, t, direction);
                let logits = |(ids, start): &(Vec<u32>, usize)| {
                    let all: Vec<f64> = model.logits(&ids[..ids.len() - 1]).unwrap();
                    all[(start - 1) * classes..].to_vec()
                };
                sequences.iter().flat_map(logits).collect()
            };
            let [jv, jw] = [&v, &w].map(|d| derivative(1e-3, |t| outputs(d, t)));
            let logits = outputs(&v, 0.0);
            let what = format!("{family}, {pattern:?}");
            let [vv, wv, ww] = [(&jv, &jv), (&jw, &jv), (&jw, &jw)].map(|(a, b)| curved(&logits, a, b, classes));
            assert_agree(&what, inner(&w, &product), wv, (vv * ww).sqrt());
            assert_agree(&what, inner(&v, &product), vv, vv);
        }
    }
}

/// An MLP and a convolutional network from 2 · 4 · 5 numbers to 4, smooth but for the pool.
fn row_models(task: &str) -> [Model<F64>; 2] {
    let mlp = serde_json::json!({"model_type": "mlp", "sizes": [40, 9, 6, 4], "activation": "tanh", "task": task});
    let layers = serde_json::json!([
        {"conv": {"channels": 3, "kernel": 3, "padding": 1}}, "tanh", {"max_pool": 2},
        {"conv": {"channels": 4, "kernel": 2}}, "gelu", {"average_pool": 1}, {"linear": 5}, "tanh", {"linear": 4},
    ]);
    let net = serde_json::json!({"model_type": "convnet", "input": [2, 4, 5], "layers": layers, "task": task});
    [mlp, net].map(|config| Model::new(F64::new(), config, 3).unwrap())
}

#[test]
fn products_of_models_of_rows_agree_with_finite_differences_for_classes_and_for_values() {
    for (task, mut model) in
        ["classification", "regression"].into_iter().flat_map(|task| row_models(task).map(|model| (task, model)))
    {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let features: Vec<f32> = (0..5 * 40).map(|_| rng.random::<f32>() - 0.5).collect();
        let target = |i: u32| match task {
            "regression" => Target::Values(vec![0.5; 4]),
            _ => Target::Class(i % 4),
        };
        let examples: Vec<Example> = (0..5)
            .map(|i| {
                let values = features[40 * i..40 * (i + 1)].to_vec();
                example(i as u64, Content::Features { values, target: target(i as u32) })
            })
            .collect();
        for pattern in [None, Some("layers.[03]")] {
            model.select_layers(pattern).unwrap();
            let (v, w) = (direction(&model, 1), direction(&model, 2));
            let mut product = model.zero_direction();
            model
                .add_gauss_newton(
                    &Batch::stack(&examples, Padding::None).unwrap(),
                    &[&v],
                    std::slice::from_mut(&mut product),
                )
                .unwrap();
            let outputs = |d: &Direction, t| -> Vec<f64> { moved(&model, t, d).outputs(5, &features).unwrap() };
            // Small steps: no maximum changes its place.
            let [jv, jw] = [&v, &w].map(|d| derivative(1e-5, |t| outputs(d, t)));
            let product_of = |a: &[f64], b: &[f64]| match task {
                "regression" => a.iter().zip(b).map(|(a, b)| a * b).sum(),
                _ => curved(&outputs(&v, 0.0), a, b, 4),
            };
            let scale = (product_of(&jv, &jv) * product_of(&jw, &jw)).sqrt();
            let what = format!("{}, {task}, {pattern:?}", model.json()["model_type"]);
            assert_agree(&what, inner(&w, &product), product_of(&jw, &jv), scale);
        }
    }
}

#[test]
fn several_directions_at_once_are_multiplied_as_each_alone() {
    let golden = |name: &str| load(F64::new(), &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name));
    let ids = [vec![3, 9, 27, 14, 42, 2], vec![5, 1, 30, 8, 8, 11, 60, 7, 4]];
    let tokens =
        |(i, ids): (usize, &Vec<u32>)| example(i as u64, Content::Tokens { ids: ids.clone(), loss_start: 1 + 3 * i });
    let tokens: Vec<Example> = ids.iter().enumerate().map(tokens).collect();
    let families = FAMILIES.map(|name| (name, golden(name).unwrap(), tokens.clone()));
    let row = |i: u32, target| example(u64::from(i), Content::Features { values: vec![0.1 * i as f32; 40], target });
    let classes: Vec<Example> = (0..5).map(|i| row(i, Target::Class(i % 4))).collect();
    let values: Vec<Example> = (0..5).map(|i| row(i, Target::Values(vec![0.5; 4]))).collect();
    let nets = [("classification", classes), ("regression", values)];
    let nets = nets.into_iter().flat_map(|(task, rows)| row_models(task).map(|model| (task, model, rows.clone())));
    for (name, model, examples) in families.into_iter().chain(nets) {
        let batch = Batch::stack(&examples, Padding::None).unwrap();
        let vs = [1, 2, 3].map(|seed| direction(&model, seed));
        let mut at_once = vec![model.zero_direction(); 3];
        model.add_gauss_newton(&batch, &[&vs[0], &vs[1], &vs[2]], &mut at_once).unwrap();
        for (v, product) in vs.iter().zip(&at_once) {
            let mut alone = [model.zero_direction()];
            model.add_gauss_newton(&batch, &[v], &mut alone).unwrap();
            assert!(inner(&alone[0], &alone[0]) > 0.0, "{name}: a product that is 0 shows nothing");
            assert_eq!(*product, alone[0], "{name}");
        }
    }
}

#[test]
fn a_direction_of_another_shape_is_refused() {
    let config = serde_json::json!({"model_type": "mlp", "sizes": [3, 2], "activation": "relu", "task": "regression"});
    let model = Model::new(F64::new(), config, 3).unwrap();
    let content = Content::Features { values: vec![0.0; 3], target: Target::Values(vec![0.0; 2]) };
    let batch = Batch::stack(&[example(0, content)], Padding::None).unwrap();
    let error = model.add_gauss_newton(&batch, &[&[]], &mut [model.zero_direction()]).unwrap_err().to_string();
    assert!(error.contains("one matrix [d_out, d_in] for each of the 1 tapped layers"), "{error}");
    let v = model.zero_direction();
    let error = model.add_gauss_newton(&batch, &[&v, &v], &mut [v.clone()]).unwrap_err().to_string();
    assert!(error.contains("2 directions are multiplied into 1 outs"), "{error}");
}
