//! Proximal responses against closed forms, the dense influence, finite differences and Adam, in f64.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use std::path::Path;

use etymon_curvature::inverse::{Dense, GaussNewton};
use etymon_data::{Batch, Content, Example, ExampleIndex, Padding, Target};
use etymon_evaluate::pbrf::{Minimiser, PbrfError, Proximal, Response, ResponseFolder, draw_indices, judge};
use etymon_model::{Consumer, Measurement, Model, Objective};
use etymon_tensor::{Backend, Cpu, Matrix, Shape};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

type Work = Cpu<f64>;

fn rows(n: usize, width: usize, seed: u64, target: impl Fn(usize, &[f32]) -> Target) -> Vec<Example> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let row = |i: usize| {
        let values: Vec<f32> = (0..width).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect();
        let target = target(i, &values);
        let content = Content::Features { values, target };
        let (index, metadata) = (ExampleIndex(i as u64), serde_json::Map::new());
        Example { index, id: format!("z{i}"), content, text: String::new(), metadata }
    };
    (0..n).map(row).collect()
}

fn regression(n: usize, seed: u64) -> Vec<Example> {
    rows(n, 3, seed, |i, x| Target::Values(vec![x[0] - 0.5 * x[1] + 0.3 * (i % 5) as f32]))
}

fn classes(n: usize, seed: u64) -> Vec<Example> {
    rows(n, 4, seed, |i, _| Target::Class((i % 3) as u32))
}

fn model(sizes: &[usize], task: &str) -> Model<Work> {
    with_activation("tanh", sizes, task)
}

fn with_activation(activation: &str, sizes: &[usize], task: &str) -> Model<Work> {
    Model::new(Work::new(), json!({"model_type": "mlp", "sizes": sizes, "activation": activation, "task": task}), 3)
        .unwrap()
}

const TIGHT: Minimiser = Minimiser::Lbfgs { tolerance: 1e-9, most: 2000 };

/// Gradient of an objective over some rows, one matrix `[d_out, d_in + 1]` per layer.
fn gradient(model: &Model<Work>, rows: &[Example], objective: Objective) -> Vec<Matrix<f64>> {
    let backend = model.backend();
    let mut grads = model.params().zeros_like(backend);
    let batch = Batch::stack(rows, Padding::None).unwrap();
    model.run(&batch, objective, Consumer::Gradients(&mut grads)).unwrap();
    joined(model, |id| grads.get(id).clone())
}

/// Weight and bias of each layer side by side.
fn joined(model: &Model<Work>, of: impl Fn(etymon_model::ParamId) -> Matrix<f64>) -> Vec<Matrix<f64>> {
    let layer = |(weight, bias): (etymon_model::ParamId, Option<etymon_model::ParamId>)| {
        let (weight, bias) = (of(weight), of(bias.unwrap()));
        let bias = model.backend().reshape(bias, Shape::new(weight.rows(), 1)).unwrap();
        model.backend().concat_cols(&[&weight, &bias]).unwrap()
    };
    model.layer_params().into_iter().map(layer).collect()
}

fn flat(x: &[Matrix<f64>]) -> Vec<f64> {
    x.iter().flat_map(|x| x.as_slice().to_vec()).collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn value(model: &Model<Work>, row: &Example, objective: Objective) -> f64 {
    let batch = Batch::stack(std::slice::from_ref(row), Padding::None).unwrap();
    model.run(&batch, objective, Consumer::Values).unwrap()[0]
}

fn displacement(base: &Model<Work>, moved: &Model<Work>) -> Vec<f64> {
    let of = |m: &Model<Work>| flat(&joined(m, |id| m.params().get(id).clone()));
    of(moved).iter().zip(of(base)).map(|(a, b)| a - b).collect()
}

/// ‖a − b‖ / ‖b‖.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    (dot(&difference, &difference) / dot(b, b)).sqrt()
}

#[test]
fn the_minimum_of_a_linear_regression_is_the_closed_form_and_its_slope_the_exact_influence() {
    let (base, train, lambda) = (model(&[3, 1], "regression"), regression(40, 1), 0.05);
    let design = Mat::from_fn(40, 4, |i, j| {
        let Content::Features { values, .. } = &train[i].content else { panic!() };
        if j < 3 { f64::from(values[j]) } else { 1.0 }
    });
    let g = design.transpose() * &design * faer::Scale(1.0 / 40.0);
    let proximal = Proximal::new(base.clone(), &train, 7, &[lambda]).unwrap();
    let query = &regression(1, 9)[0];
    for (m, epsilon) in [(0, 0.5), (3, -1.0 / 40.0), (11, 1.0 / 40.0), (11, 1e-6)] {
        let solution = proximal.minimise(&train[m], epsilon, TIGHT).unwrap();
        assert!(solution.converged, "{}", solution.residual);
        // (G + λI + ε x xᵀ) δ = −ε ∇L(z_m, θˢ).
        let matrix = Mat::from_fn(4, 4, |i, j| {
            g[(i, j)] + epsilon * design[(m, i)] * design[(m, j)] + if i == j { lambda } else { 0.0 }
        });
        let loss = flat(&gradient(&base, &train[m..=m], Objective::TrainLoss));
        let right = Mat::from_fn(4, 1, |i, _| -epsilon * loss[i]);
        let exact = matrix.llt(Side::Lower).unwrap().solve(&right);
        let delta = displacement(&base, &solution.model);
        let error = (0..4).map(|i| (delta[i] - exact[(i, 0)]).abs()).fold(0.0, f64::max);
        let size = (0..4).map(|i| exact[(i, 0)].abs()).fold(0.0, f64::max);
        assert!(error < 1e-7 * size, "{m}, {epsilon}: {error:e} of {size:e}");
        if epsilon == 1e-6 {
            let objective = Objective::Measurement(Measurement::LogLikelihood);
            let damped = Mat::from_fn(4, 4, |i, j| g[(i, j)] + if i == j { lambda } else { 0.0 });
            let solved = damped.llt(Side::Lower).unwrap().solve(Mat::from_fn(4, 1, |i, _| loss[i]));
            let of_query = flat(&gradient(&base, std::slice::from_ref(query), objective));
            let influence = -(0..4).map(|i| of_query[i] * solved[(i, 0)]).sum::<f64>();
            let change = value(&solution.model, query, objective) - value(&base, query, objective);
            assert!((change / (epsilon * influence) - 1.0).abs() < 1e-4, "{change:e}, {influence:e}");
        }
    }
}

#[test]
fn a_small_classifiers_response_tends_to_the_dense_gauss_newton_influence_with_a_damping_for_each_layer() {
    let (base, train, lambda) = (model(&[4, 5, 3], "classification"), classes(30, 2), [0.02, 0.05]);
    let batches = [Batch::stack(&train, Padding::None).unwrap()];
    let zero = base.zero_direction();
    let dense = Dense::new(base.backend(), &GaussNewton::new(&base, &batches), &zero).unwrap();
    let proximal = Proximal::new(base.clone(), &train, 8, &lambda).unwrap();
    let objective = Objective::Measurement(Measurement::Margin);
    for (m, query) in classes(6, 5).iter().enumerate() {
        let loss = gradient(&base, &train[m..=m], Objective::TrainLoss);
        let solved = flat(&dense.solve(base.backend(), &loss, &lambda).unwrap());
        let of_query = flat(&gradient(&base, std::slice::from_ref(query), objective));
        let influence = -dot(&of_query, &solved);
        let ratio = |epsilon: f64| {
            let moved = proximal.minimise(&train[m], epsilon, TIGHT).unwrap().model;
            (value(&moved, query, objective) - value(&base, query, objective)) / (epsilon * influence)
        };
        let (copy, small) = (ratio(1.0 / 30.0), ratio(1e-5));
        println!("{m}: {copy:.4} for a copy, {small:.6} for a part of one");
        assert!((small - 1.0).abs() < 0.01, "{m}: {small}");
        assert!((small - 1.0).abs() < (copy - 1.0).abs(), "{m}: {small} against {copy}");
    }
}

#[test]
fn the_gradient_of_the_divergence_agrees_with_finite_differences() {
    for (task, rows) in [("classification", classes(5, 1)), ("regression", regression(5, 1))] {
        let sizes = if task == "classification" { vec![4, 6, 3] } else { vec![3, 6, 1] };
        let (base, mut moved) = (model(&sizes, task), model(&sizes, task));
        let batch = Batch::stack(&rows, Padding::None).unwrap();
        let reference = base.reference(&batch).unwrap();
        let same = base.divergence(&batch, &reference, Consumer::Values).unwrap();
        assert!(same.iter().all(|&v| v.abs() < 1e-30), "{same:?}");
        moved.params_mut().iter_mut().for_each(|p| {
            let noise: Vec<f64> = p.as_slice().iter().enumerate().map(|(i, x)| x + 0.1 * (i as f64).sin()).collect();
            *p = Work::new().upload(Shape::new(p.rows(), p.cols()), &noise).unwrap();
        });
        let mut grads = moved.params().zeros_like(moved.backend());
        moved.divergence(&batch, &reference, Consumer::Gradients(&mut grads)).unwrap();
        for (k, gradient) in grads.iter().enumerate() {
            for (i, &wanted) in gradient.as_slice().iter().enumerate() {
                let at = |step: f64| {
                    let mut other = moved.clone();
                    let p = other.params_mut().get_mut(etymon_model::ParamId(k)).unwrap();
                    let mut numbers = p.as_slice().to_vec();
                    numbers[i] += step;
                    *p = Work::new().upload(Shape::new(p.rows(), p.cols()), &numbers).unwrap();
                    other.divergence(&batch, &reference, Consumer::Values).unwrap().iter().sum::<f64>()
                };
                let found = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((found - wanted).abs() < 1e-8 * (1.0 + wanted.abs()), "{task} {k} {i}: {found}, {wanted}");
            }
        }
    }
}

#[test]
fn adam_and_lbfgs_find_the_same_minimum() {
    let (base, train) = (model(&[4, 5, 3], "classification"), classes(30, 2));
    let proximal = Proximal::new(base.clone(), &train, 30, &[0.02, 0.05]).unwrap();
    let adam = Minimiser::Adam { rate: 1e-2, steps: 4000, tolerance: 1e-4 };
    for m in [0, 7] {
        let fast = proximal.minimise(&train[m], 1.0 / 30.0, TIGHT).unwrap();
        let plain = proximal.minimise(&train[m], 1.0 / 30.0, adam).unwrap();
        assert!(plain.converged, "{}", plain.residual);
        let (fast, plain) = (displacement(&base, &fast.model), displacement(&base, &plain.model));
        let error = apart(&plain, &fast);
        assert!(error < 1e-3, "{m}: {error:e}");
    }
}

#[test]
fn a_minimum_on_a_kink_is_given_up_early_and_is_where_adam_goes() {
    let (base, train) = (with_activation("relu", &[4, 16, 3], "classification"), classes(30, 2));
    let proximal = Proximal::new(base.clone(), &train, 30, &[0.002, 0.005]).unwrap();
    let by = Minimiser::Lbfgs { tolerance: 1e-3, most: 2000 };
    let mut kinks = 0;
    for (m, row) in train.iter().enumerate() {
        let fast = proximal.minimise(row, 0.01 / 30.0, by).unwrap();
        println!("{m}: {} gradients to {:.0e}", fast.evaluations, fast.residual);
        if fast.converged {
            continue;
        }
        kinks += 1;
        assert!(fast.evaluations < 400, "{m}: {}", fast.evaluations);
        let adam = Minimiser::Adam { rate: 1e-2, steps: 8000, tolerance: 1e-3 };
        let plain = proximal.minimise(row, 0.01 / 30.0, adam).unwrap();
        let (fast, plain) = (displacement(&base, &fast.model), displacement(&base, &plain.model));
        let error = apart(&fast, &plain);
        println!("{m}: on a kink, {error:.1e} from Adam");
        assert!(error < 0.05, "{m}: {error:e}");
    }
    assert!(kinks > 0);
}

#[test]
fn the_leading_curvature_changes_how_fast_the_minimum_is_found_and_not_which() {
    let (base, train, lambda) = (model(&[4, 5, 3], "classification"), classes(30, 2), [2e-4, 5e-4]);
    let plain = Proximal::new(base.clone(), &train, 7, &lambda).unwrap();
    let led = Proximal::new(base.clone(), &train, 7, &lambda).unwrap().with_leading(12).unwrap();
    let (mut slow, mut fast) = (0, 0);
    let by = Minimiser::Lbfgs { tolerance: 1e-7, most: 4000 };
    for (m, epsilon) in [(0, 1e-4), (7, 1.0 / 30.0), (12, -1e-3)] {
        let [a, b] = [&plain, &led].map(|p| p.minimise(&train[m], epsilon, by).unwrap());
        println!("{m}: {} gradients to {:.0e}, {} to {:.0e}", a.evaluations, a.residual, b.evaluations, b.residual);
        assert!(a.converged && b.converged);
        if m == 0 {
            (slow, fast) = (a.evaluations, b.evaluations);
        }
        let (a, b) = (displacement(&base, &a.model), displacement(&base, &b.model));
        let error = apart(&b, &a);
        assert!(error < 1e-5, "{m}: {error:e}");
    }
    assert!(2 * fast < slow, "{fast} against {slow}");
}

#[test]
fn layers_that_are_not_tapped_stay_where_they_are() {
    let (mut base, train) = (model(&[4, 5, 3], "classification"), classes(30, 2));
    base.select_layers(Some("layers.1")).unwrap();
    let proximal = Proximal::new(base.clone(), &train, 30, &[0.02]).unwrap();
    let moved = proximal.minimise(&train[0], 1.0, TIGHT).unwrap().model;
    let still: Vec<bool> =
        base.params().iter().zip(moved.params().iter()).map(|(a, b)| a.as_slice() == b.as_slice()).collect();
    assert_eq!(still, [true, true, false, false]);
}

#[test]
fn unfinished_minimisations_and_bad_numbers_are_told() {
    let (base, train) = (model(&[4, 5, 3], "classification"), classes(30, 2));
    let proximal = Proximal::new(base.clone(), &train, 30, &[0.02, 0.05]).unwrap();
    let few = Minimiser::Lbfgs { tolerance: 1e-9, most: 3 };
    let solution = proximal.minimise(&train[0], 0.1, few).unwrap();
    assert!(!solution.converged && solution.residual > 1e-9, "{}", solution.residual);
    assert!(matches!(proximal.minimise(&train[0], 0.0, few), Err(PbrfError::Number { name: "ε", .. })));
    let wrong = |lambda: &[f64]| Proximal::new(base.clone(), &train, 30, lambda).unwrap_err();
    assert!(matches!(wrong(&[0.1]), PbrfError::Damping { layers: 2, got: 1 }));
    assert!(matches!(wrong(&[0.1, 0.0]), PbrfError::Number { name: "λ", .. }));
    assert!(matches!(Proximal::new(base.clone(), &[], 30, &[0.1, 0.1]), Err(PbrfError::NoExamples)));
}

fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|f| (f.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(f).unwrap()))
        .collect()
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes_with_any_number_of_workers() {
    let (base, train, queries) = (model(&[4, 5, 3], "classification"), classes(30, 2), classes(3, 8));
    let proximal = Proximal::new(base, &train, 30, &[0.02, 0.05]).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let run = |name: &str, wanted: &[Example], workers: usize| -> Vec<Response> {
        let path = temp.path().join(name);
        let by = Minimiser::Lbfgs { tolerance: 1e-5, most: 500 };
        let folder = ResponseFolder { path, epsilon: 1.0 / 30.0, by, measurement: Measurement::LogLikelihood };
        folder.respond(&proximal, wanted, &queries, workers, &|_| ()).unwrap()
    };
    let whole = run("whole", &train[..8], 1);
    run("parts", &train[2..5], 2);
    let marked = temp.path().join("parts/0000003.json");
    let before = std::fs::metadata(&marked).unwrap().modified().unwrap();
    std::fs::write(temp.path().join("parts/0000006.json.part"), "{\"train").unwrap();
    assert_eq!(run("parts", &train[..8], 3), whole);
    assert_eq!(std::fs::metadata(&marked).unwrap().modified().unwrap(), before, "what is there is not computed again");
    assert_eq!(bytes(&temp.path().join("parts")), bytes(&temp.path().join("whole")));
    assert_eq!(whole[3].train_id, "z3");
    assert!(whole.iter().all(|r| r.converged && r.changes.len() == 3));
}

#[test]
fn correlations_know_order_and_size() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let scores: Vec<Vec<f64>> = (0..50).map(|_| (0..2).map(|_| rng.random::<f64>() - 0.5).collect()).collect();
    let epsilon = -0.01;
    let of = |f: fn(f64) -> f64| {
        let changes: Vec<Vec<f64>> = scores.iter().map(|s| s.iter().map(|s| f(epsilon * s)).collect()).collect();
        judge(&scores, &changes, epsilon, 1)
    };
    let linear = of(|x| 2.0 * x);
    for figure in [linear.pearson, linear.spearman, linear.pooled_pearson, linear.pooled_spearman] {
        assert!(figure.iter().all(|v| (v - 1.0).abs() < 1e-9), "{figure:?}");
    }
    assert!((linear.slope - 2.0).abs() < 1e-9);
    let cubic = of(|x| x * x * x);
    assert!(cubic.pearson[0] < 0.95 && (cubic.spearman[0] - 1.0).abs() < 1e-9);
    assert!(cubic.pearson[1] <= cubic.pearson[0] && cubic.pearson[0] <= cubic.pearson[2]);
    assert!((of(|x| -x).spearman[0] + 1.0).abs() < 1e-9);
    // By hand: ranks of 1 2 2 3 and 1 3 2 4 correlate with 4.5 / √(4.5 · 5).
    let column = |x: [f64; 4]| x.map(|x| vec![x]).to_vec();
    let tied = judge(&column([1.0, 2.0, 2.0, 3.0]), &column([1.0, 3.0, 2.0, 4.0]), 1.0, 1);
    assert!((tied.spearman[0] - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12, "{tied:?}");
}

#[test]
fn pairs_are_drawn_without_repetition_and_by_the_seed_alone() {
    let drawn = draw_indices(1000, 50, 3, 0);
    assert_eq!(drawn, draw_indices(1000, 50, 3, 0));
    assert!(drawn.len() == 50 && drawn.windows(2).all(|w| w[0] < w[1]) && drawn[49] < 1000);
    assert!(drawn != draw_indices(1000, 50, 4, 0) && drawn != draw_indices(1000, 50, 3, 1));
    assert_eq!(draw_indices(5, 50, 3, 0), [0, 1, 2, 3, 4]);
}
