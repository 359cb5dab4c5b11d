//! K-FAC and EK-FAC against the exact Gauss-Newton matrix of tiny MLPs, in f64.
//!
//! The exact block of a layer is G = (1/N) Σ_n Σ_k g_nk g_nkᵀ, where k runs over a basis of the output's curvature:
//! g_nk is the gradient of one train loss whose residual is that basis vector.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use etymon_curvature::{
    CorrectionTap, Corrections, CovarianceTap, Covariances, Damping, Factors, LayerFactors, Preconditioner, Spectrum,
    eigendecompose,
};
use etymon_data::{Batch, Content, Example, ExampleIndex, Padding, Target};
use etymon_model::{Consumer, LayerId, LayerIo, LayerSpec, Model, Objective, Tap};
use etymon_tensor::{Backend, Cpu, Folds, Shape};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

type F64 = Cpu<f64>;

fn row(index: u64, values: &[f32], target: Target) -> Example {
    Example {
        index: ExampleIndex(index),
        id: index.to_string(),
        content: Content::Features { values: values.to_vec(), target },
        text: String::new(),
        metadata: serde_json::Map::new(),
    }
}

fn features(n: usize, width: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| (0..width).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect()).collect()
}

fn mlp(sizes: &[usize], activation: &str, task: &str, seed: u64) -> Model<F64> {
    let json = json!({"model_type": "mlp", "sizes": sizes, "activation": activation, "task": task});
    Model::new(F64::new(), json, seed).unwrap()
}

/// Keeps the flattened gradient of every example and layer.
struct Gradients<'a> {
    backend: &'a F64,
    layers: Vec<Vec<Vec<f64>>>,
}

impl Tap<F64> for Gradients<'_> {
    fn layer(&mut self, io: LayerIo<'_, F64>) -> Result<(), etymon_model::ModelError> {
        let all = self.backend.example_gradients(io.dout, io.input, io.segments)?;
        let Shape { rows, cols } = self.backend.shape(&all);
        let data = self.backend.download::<f64>(&all);
        self.layers[io.layer.0].extend((0..rows).map(|i| data[i * cols..(i + 1) * cols].to_vec()));
        Ok(())
    }
}

fn gradients(model: &Model<F64>, examples: &[Example]) -> Vec<Vec<Vec<f64>>> {
    let mut tap = Gradients { backend: model.backend(), layers: vec![Vec::new(); model.layers().len()] };
    let batch = Batch::stack(examples, Padding::None).unwrap();
    model.run(&batch, Objective::TrainLoss, Consumer::Tap(&mut tap)).unwrap();
    tap.layers
}

fn second_moment(gradients: &[Vec<f64>], weights: &[f64], n: f64) -> Mat<f64> {
    let d = gradients[0].len();
    let mut g = Mat::zeros(d, d);
    for (x, w) in gradients.iter().zip(weights) {
        for i in 0..d {
            for j in 0..d {
                g[(i, j)] += w * x[i] * x[j] / n;
            }
        }
    }
    g
}

struct Fitted {
    factors: Factors,
    layers: Vec<LayerFactors<F64>>,
}

fn fit(model: &Model<F64>, examples: &[Example]) -> Fitted {
    let (backend, specs) = (model.backend(), model.layers());
    let batch = Batch::stack(examples, Padding::None).unwrap();
    let mut tap = CovarianceTap::new(backend, specs, Covariances::empty(specs)).unwrap();
    model.run(&batch, Objective::TrainLoss, Consumer::Tap(&mut tap)).unwrap();
    let mut sums = Covariances::empty(specs);
    sums.merge(&tap.finish()).unwrap();
    let bases = eigendecompose(sums, specs, |_| ()).unwrap();
    let layers = Factors::new(specs.to_vec(), bases.clone(), None).layers(backend).unwrap();
    let mut tap = CorrectionTap::new(backend, specs, &layers, Corrections::empty(specs)).unwrap();
    model.run(&batch, Objective::TrainLoss, Consumer::Tap(&mut tap)).unwrap();
    let mut corrections = Corrections::empty(specs);
    corrections.merge(&tap.finish()).unwrap();
    Fitted { factors: Factors::new(specs.to_vec(), bases, Some(corrections.means())), layers }
}

/// The matrix that the factors stand for: Σ_ij Λ_ij vec(q_S,i q_A,jᵀ) vec(…)ᵀ.
fn dense(fitted: &Fitted, backend: &F64, spec: &LayerSpec, layer: usize, spectrum: Spectrum) -> Mat<f64> {
    let values = fitted.factors.spectrum(LayerId(layer), spectrum).unwrap();
    let LayerFactors { q_a, q_s } = &fitted.layers[layer];
    let (q_a, q_s) = (backend.download::<f64>(q_a), backend.download::<f64>(q_s));
    let (d_in, d_out) = (spec.d_in, spec.d_out);
    let basis = Mat::from_fn(d_out * d_in, d_out * d_in, |r, c| {
        let ((p, q), (i, j)) = ((r / d_in, r % d_in), (c / d_in, c % d_in));
        q_s[p * d_out + i] * q_a[q * d_in + j]
    });
    let scaled = Mat::from_fn(d_out * d_in, d_out * d_in, |r, c| basis[(r, c)] * f64::from(values[c]));
    scaled * basis.transpose()
}

fn distance(x: &Mat<f64>, y: &Mat<f64>) -> f64 {
    (x - y).norm_l2() / y.norm_l2()
}

/// Each x with every residual √d e_k: the data's labels then have exactly the curvature of the squared error.
fn designed(model: &Model<F64>, xs: &[Vec<f32>], d_out: usize) -> Vec<Example> {
    let mut examples = Vec::new();
    for x in xs {
        let out: Vec<f64> = model.outputs(1, x).unwrap();
        for k in 0..d_out {
            let shift = (d_out as f64).sqrt();
            let target = (0..d_out).map(|i| (out[i] + if i == k { shift } else { 0.0 }) as f32).collect();
            examples.push(row(examples.len() as u64, x, Target::Values(target)));
        }
    }
    examples
}

#[test]
fn on_a_deep_linear_network_kfac_and_ekfac_equal_the_exact_blocks() {
    let model = mlp(&[5, 4, 6, 3], "identity", "regression", 3);
    let examples = designed(&model, &features(40, 5, 1), 3);
    let exact = gradients(&model, &examples);
    let fitted = fit(&model, &examples);
    let weights = vec![1.0; examples.len()];
    for (i, spec) in model.layers().iter().enumerate() {
        let g = second_moment(&exact[i], &weights, examples.len() as f64);
        for spectrum in [Spectrum::Kronecker, Spectrum::Corrected] {
            let error = distance(&dense(&fitted, model.backend(), spec, i, spectrum), &g);
            println!("{} {spectrum:?}: {error:.1e}", spec.name);
            // Targets and eigenvectors are stored in f32.
            assert!(error < 1e-5, "{} {spectrum:?}: {error:e}", spec.name);
        }
    }
}

#[test]
fn the_damped_inverse_equals_a_dense_solve_where_curvature_factorises() {
    let model = mlp(&[5, 4, 3], "identity", "regression", 5);
    let examples = designed(&model, &features(30, 5, 2), 3);
    let exact = gradients(&model, &examples);
    let fitted = fit(&model, &examples);
    let weights = vec![1.0; examples.len()];
    for spectrum in [Spectrum::Kronecker, Spectrum::Corrected] {
        let damping = Damping::MeanEigenvalue(0.1);
        let preconditioner = Preconditioner::Kronecker { factors: &fitted.factors, spectrum, damping };
        for (i, spec) in model.layers().iter().enumerate() {
            let d = spec.d_out * spec.d_in;
            let damped = preconditioner.layer(model.backend(), LayerId(i)).unwrap().unwrap();
            let mut g = second_moment(&exact[i], &weights, examples.len() as f64);
            (0..d).for_each(|k| g[(k, k)] += damped.lambda);
            let v = &exact[i][0];
            let solved = g.llt(Side::Lower).unwrap().solve(Mat::from_fn(d, 1, |r, _| v[r]));
            let ours = model.backend().upload(Shape::new(spec.d_out, spec.d_in), v).unwrap();
            let ours = model.backend().download::<f64>(&damped.apply(model.backend(), &ours).unwrap());
            let error = distance(&Mat::from_fn(d, 1, |r, _| ours[r]), &solved);
            println!("{} {spectrum:?}: {error:.1e}", spec.name);
            assert!(error < 1e-4, "{} {spectrum:?}: {error:e}", spec.name);
        }
    }
}

/// Every class as label of every x; weighted by its probability it makes the exact Gauss-Newton matrix.
fn all_labels(model: &Model<F64>, xs: &[Vec<f32>], classes: usize) -> (Vec<Example>, Vec<f64>) {
    let (mut examples, mut weights) = (Vec::new(), Vec::new());
    for x in xs {
        let logits: Vec<f64> = model.outputs(1, x).unwrap();
        let total: f64 = logits.iter().map(|z| z.exp()).sum();
        for (class, z) in logits.iter().enumerate().take(classes) {
            examples.push(row(examples.len() as u64, x, Target::Class(class as u32)));
            weights.push(z.exp() / total);
        }
    }
    (examples, weights)
}

/// Labels drawn so that their frequencies are the model's probabilities to 1/draws.
fn drawn_labels(model: &Model<F64>, xs: &[Vec<f32>], draws: usize) -> Vec<Example> {
    let mut examples = Vec::new();
    for x in xs {
        let logits: Vec<f64> = model.outputs(1, x).unwrap();
        let total: f64 = logits.iter().map(|z| z.exp()).sum();
        for k in 0..draws {
            let u = (k as f64 + 0.5) / draws as f64;
            let mut cumulative = 0.0;
            let class = logits.iter().position(|z| {
                cumulative += z.exp() / total;
                u < cumulative
            });
            let class = class.unwrap_or(logits.len() - 1) as u32;
            examples.push(row(examples.len() as u64, x, Target::Class(class)));
        }
    }
    examples
}

#[test]
fn ekfac_is_closer_to_the_exact_gauss_newton_matrix_than_kfac_on_every_classifier() {
    for (seed, activation) in [(1, "relu"), (2, "tanh"), (3, "gelu"), (4, "relu"), (5, "tanh")] {
        let model = mlp(&[6, 7, 5, 4], activation, "classification", seed);
        let xs = features(60, 6, seed + 100);
        let (labelled, weights) = all_labels(&model, &xs, 4);
        let exact = gradients(&model, &labelled);
        let fitted = fit(&model, &drawn_labels(&model, &xs, 400));
        let (mut kfac, mut ekfac) = (0.0, 0.0);
        for (i, spec) in model.layers().iter().enumerate() {
            let g = second_moment(&exact[i], &weights, xs.len() as f64);
            let error = |spectrum| distance(&dense(&fitted, model.backend(), spec, i, spectrum), &g);
            let (k, e) = (error(Spectrum::Kronecker), error(Spectrum::Corrected));
            println!("seed {seed} {activation} {}: K-FAC {k:.4}, EK-FAC {e:.4}", spec.name);
            assert!(e <= k * (1.0 + 1e-3), "seed {seed} {}: EK-FAC {e}, K-FAC {k}", spec.name);
            (kfac, ekfac) = (kfac + k, ekfac + e);
        }
        assert!(ekfac < 0.999 * kfac, "seed {seed}: EK-FAC {ekfac}, K-FAC {kfac}");
    }
}
