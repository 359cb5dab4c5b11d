//! The divergence from a reference model against logits, finite differences and Gauss-Newton products, in f64.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use std::path::Path;

use etymon_data::{Batch, Content, Example, ExampleIndex, Padding};
use etymon_model::{Consumer, Model, Params, load};
use etymon_tensor::{Backend, Cpu};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type F64 = Cpu<f64>;

/// Of the second sequence only the last tokens carry a loss term.
fn sequences() -> [(Vec<u32>, usize); 2] {
    [(vec![3, 9, 27, 14, 42, 2], 1), (vec![5, 1, 30, 8, 8, 11, 60, 7, 4], 6)]
}

fn batch() -> Batch {
    let example = |(i, (ids, loss_start)): (usize, (Vec<u32>, usize))| Example {
        index: ExampleIndex(i as u64),
        id: i.to_string(),
        content: Content::Tokens { ids, loss_start },
        text: String::new(),
        metadata: Default::default(),
    };
    let examples: Vec<Example> = sequences().into_iter().enumerate().map(example).collect();
    Batch::stack(&examples, Padding::None).unwrap()
}

fn direction(model: &Model<F64>, seed: u64) -> Params<F64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut fill = |spec: &etymon_model::ParamSpec| {
        let numbers: Vec<f64> = (0..spec.shape.len()).map(|_| rng.random::<f64>() - 0.5).collect();
        model.backend().upload(spec.shape, &numbers).unwrap()
    };
    Params::new(model.specs().iter().map(&mut fill).collect())
}

/// θ + t · direction.
fn moved(model: &Model<F64>, t: f64, direction: &Params<F64>) -> Model<F64> {
    let mut out = model.clone();
    let pairs = out.params_mut().iter_mut().zip(direction.iter());
    pairs.for_each(|(p, d)| model.backend().axpy(t, d, p).unwrap());
    out
}

/// KL(p' ‖ p) summed over the rows of a sequence that carry a loss term, plainly.
fn plain(base: &Model<F64>, model: &Model<F64>, (ids, start): &(Vec<u32>, usize)) -> f64 {
    let classes = base.json()["vocab_size"].as_u64().unwrap() as usize;
    let log_p = |model: &Model<F64>| -> Vec<f64> {
        let logits: Vec<f64> = model.logits(&ids[..ids.len() - 1]).unwrap();
        let row = |x: &[f64]| {
            let total = x.iter().map(|x| x.exp()).sum::<f64>().ln();
            x.iter().map(|x| x - total).collect::<Vec<_>>()
        };
        logits.chunks(classes).skip(start - 1).flat_map(row).collect()
    };
    log_p(base).iter().zip(log_p(model)).map(|(q, p)| q.exp() * (q - p)).sum()
}

#[test]
fn divergences_of_every_family_agree_with_logits_finite_differences_and_gauss_newton_products() {
    for family in ["gpt2", "neox", "llama", "llama_tied_bf16", "qwen2"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family);
        let base: Model<F64> = load(F64::new(), &folder).unwrap();
        let (batch, reference) = (batch(), base.reference(&batch()).unwrap());
        let at = |model: &Model<F64>| model.divergence(&batch, &reference, Consumer::Values).unwrap().into_vec();
        assert!(at(&base).iter().all(|&d| d.abs() < 1e-28), "{family}: {:?}", at(&base));

        let model = moved(&base, 0.1, &direction(&base, 1));
        for (value, sequence) in at(&model).iter().zip(sequences()) {
            let wanted = plain(&base, &model, &sequence);
            assert!((value - wanted).abs() < 1e-10 * wanted, "{family}: {value} and {wanted}");
        }

        let mut gradient = model.params().zeros_like(model.backend());
        model.divergence(&batch, &reference, Consumer::Gradients(&mut gradient)).unwrap();
        let along = direction(&base, 2);
        let dots = gradient.iter().zip(along.iter()).map(|(g, d)| model.backend().dot(g, d).unwrap());
        let (wanted, step) = (dots.sum::<f64>(), 1e-5);
        let sum = |t: f64| at(&moved(&model, t, &along)).iter().sum::<f64>();
        let found = (sum(step) - sum(-step)) / (2.0 * step);
        println!("{family}: {found} and {wanted}");
        assert!((found - wanted).abs() < 1e-6 * (1.0 + wanted.abs()), "{family}: {found} and {wanted}");

        // D(θ + t v) = ½ t² vᵀ G v + O(t³), for a v of the tapped layers.
        let mut tapped = direction(&base, 3);
        let layers = base.layer_params();
        let moves = |i: usize| layers.iter().any(|(w, b)| w.0 == i || b.is_some_and(|b| b.0 == i));
        let still = tapped.iter_mut().enumerate().filter(|(i, _)| !moves(*i));
        still.for_each(|(_, p)| base.backend().scale(0.0, p));
        let joined = |(w, b): &(etymon_model::ParamId, Option<etymon_model::ParamId>)| {
            let weight = tapped.get(*w);
            let Some(bias) = b else { return weight.clone() };
            let column = etymon_tensor::Shape::new(weight.rows(), 1);
            let bias = base.backend().reshape(tapped.get(*bias).clone(), column).unwrap();
            base.backend().concat_cols(&[weight, &bias]).unwrap()
        };
        let v: Vec<_> = layers.iter().map(joined).collect();
        let mut product = base.zero_direction();
        base.add_gauss_newton(&batch, &[&v], std::slice::from_mut(&mut product)).unwrap();
        let curved: f64 = v.iter().zip(&product).map(|(v, p)| base.backend().dot(v, p).unwrap()).sum();
        let t = 1e-4;
        let twice: f64 = [t, -t].iter().map(|&t| at(&moved(&base, t, &tapped)).iter().sum::<f64>()).sum();
        assert!((twice / (t * t) / curved - 1.0).abs() < 1e-4, "{family}: {} and {curved}", twice / (t * t));
    }
}
