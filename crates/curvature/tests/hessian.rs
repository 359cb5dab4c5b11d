//! Products with the true Hessian against the Gauss-Newton matrix where both are one, and against second differences of the
//! loss where they are not, in f64; and the diagonal of the curvature against that of the dense matrix.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use std::path::Path;

use etymon_curvature::inverse::{
    CgOptions, Damped, Dense, DiagonalInverse, GaussNewton, Hessian, LinearOperator, conjugate_gradients,
};
use etymon_curvature::{CurvatureError, Damping, Stuck};
use etymon_data::{Batch, Content, Example, ExampleIndex, Padding, Target};
use etymon_model::{Consumer, Model, ModelError, Objective, load};
use etymon_tensor::{Backend, Cpu, Matrix};
use faer::Side;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

type F64 = Cpu<f64>;

const OUTPUTS: usize = 3;

fn mlp(sizes: &[usize], task: &str) -> Model<F64> {
    let config = json!({"model_type": "mlp", "sizes": sizes, "activation": "tanh", "task": task});
    Model::new(F64::new(), config, 3).unwrap()
}

fn example(i: usize, content: Content) -> Example {
    let (text, metadata) = (String::new(), serde_json::Map::new());
    Example { index: ExampleIndex(i as u64), id: i.to_string(), content, text, metadata }
}

fn rows(task: &str, size: usize) -> Vec<Batch> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut number = || 2.0 * rng.random::<f32>() - 1.0;
    let mut row = |i: usize| {
        let values = [4.0, 1.0, 0.3, 0.1].map(|s| s * number()).to_vec();
        let class = Target::Class((i % OUTPUTS) as u32);
        let target =
            if task == "regression" { Target::Values([(); OUTPUTS].map(|()| number()).to_vec()) } else { class };
        example(i, Content::Features { values, target })
    };
    let examples: Vec<Example> = (0..30).map(&mut row).collect();
    examples.chunks(size).map(|e| Batch::stack(e, Padding::None).unwrap()).collect()
}

fn tokens() -> Vec<Batch> {
    let of = |i, ids: &[u32]| example(i, Content::Tokens { ids: ids.to_vec(), loss_start: 1 });
    vec![Batch::stack(&[of(0, &[3, 9, 27, 14, 42, 2]), of(1, &[5, 1, 30, 8])], Padding::None).unwrap()]
}

fn direction(model: &Model<F64>, seed: u64) -> Vec<Matrix<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut fill = |x: &Matrix<f64>| {
        let numbers: Vec<f64> = (0..x.as_slice().len()).map(|_| rng.random::<f64>() - 0.5).collect();
        model.backend().upload(model.backend().shape(x), &numbers).unwrap()
    };
    model.zero_direction().iter().map(&mut fill).collect()
}

fn dot(x: &[Matrix<f64>], y: &[Matrix<f64>]) -> f64 {
    x.iter().zip(y).flat_map(|(x, y)| x.as_slice().iter().zip(y.as_slice())).map(|(x, y)| x * y).sum()
}

/// J, from values alone.
fn loss(model: &Model<F64>, batches: &[Batch]) -> f64 {
    let sum = |b: &Batch| model.run(b, Objective::TrainLoss, Consumer::Values).unwrap().iter().sum::<f64>();
    batches.iter().map(sum).sum::<f64>() / batches.iter().map(Batch::n_examples).sum::<usize>() as f64
}

/// vᵀ H v from three losses.
fn second_difference(model: &Model<F64>, batches: &[Batch], v: &[Matrix<f64>]) -> f64 {
    let at = |t: f64| loss(&model.moved(t, v).unwrap(), batches);
    let t = 1e-3;
    let fine = (at(t) + at(-t) - 2.0 * at(0.0)) / (t * t);
    let coarse = (at(2.0 * t) + at(-2.0 * t) - 2.0 * at(0.0)) / (4.0 * t * t);
    (4.0 * fine - coarse) / 3.0
}

/// ‖H − G‖ / ‖G‖, and H.
fn distance(model: &Model<F64>, batches: &[Batch]) -> (f64, Dense) {
    let like = model.zero_direction();
    let h = Dense::new(model.backend(), &Hessian::new(model, batches).unwrap(), &like).unwrap();
    let g = Dense::new(model.backend(), &GaussNewton::new(model, batches), &like).unwrap();
    ((h.matrix() - g.matrix()).norm_l2() / g.matrix().norm_l2(), h)
}

#[test]
fn the_hessian_of_a_linear_model_is_its_gauss_newton_matrix() {
    for task in ["regression", "classification"] {
        let (error, _) = distance(&mlp(&[4, OUTPUTS], task), &rows(task, 7));
        println!("{task}: {error:.1e}");
        assert!(error < 1e-8, "{task}: {error:e}");
    }
}

#[test]
fn the_hessian_is_symmetric_and_that_of_the_loss_in_every_kind_of_model() {
    let golden = |name: &str| {
        load(F64::new(), &Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden").join(name)).unwrap()
    };
    let task = "classification";
    let nets = [mlp(&[4, 5, OUTPUTS], task)].map(|model| ("mlp", model, rows(task, 7)));
    let decoders = ["gpt2", "neox", "llama", "gpt2_lora"].map(|name| (name, golden(name), tokens()));
    for (name, model, batches) in nets.into_iter().chain(decoders) {
        let h = Hessian::new(&model, &batches).unwrap();
        let (v, w) = (direction(&model, 1), direction(&model, 2));
        let (hv, hw) = (h.apply(&v).unwrap(), h.apply(&w).unwrap());
        let (left, right) = (dot(&w, &hv), dot(&hw, &v));
        let size = (dot(&hv, &hv) * dot(&w, &w)).sqrt();
        let (found, wanted) = (dot(&v, &hv), second_difference(&model, &batches, &v));
        println!("{name}: {left} and {right}; {found} and {wanted}");
        assert!((left - right).abs() < 1e-6 * size, "{name}: {left} and {right}");
        assert!((found - wanted).abs() < 1e-5 * wanted.abs(), "{name}: {found} and {wanted}");
    }
}

#[test]
fn the_hessian_of_a_net_is_not_its_gauss_newton_matrix_and_an_indefinite_one_is_said_to_be() {
    let task = "classification";
    let (model, batches) = (mlp(&[4, 5, OUTPUTS], task), rows(task, 7));
    let (difference, dense) = distance(&model, &batches);
    let values = dense.matrix().self_adjoint_eigenvalues(Side::Lower).unwrap();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    println!("difference {difference:.2}, least eigenvalue {least:.3}");
    assert!(difference > 1e-2 && least < -1e-3, "{difference} and {least}");
    let (backend, v) = (model.backend(), direction(&model, 1));
    let solve = |lambda: f64| dense.solve(backend, &v, &[lambda; 2]);
    assert!(matches!(solve(-0.5 * least), Err(CurvatureError::NotDefinite)));
    let (lambda, h) = ([-2.0 * least; 2], Hessian::new(&model, &batches).unwrap());
    let damped = Damped { backend, inner: &h, lambda: &lambda };
    let options = CgOptions { max_steps: 300, tolerance: 1e-7, held: 1000 };
    let mut x = conjugate_gradients(backend, &damped, &[&v], None, options).unwrap().remove(0).x;
    let wanted = solve(lambda[0]).unwrap();
    x.iter_mut().zip(&wanted).for_each(|(x, w)| backend.axpy(-1.0, w, x).unwrap());
    let error = (dot(&x, &x) / dot(&wanted, &wanted)).sqrt();
    assert!(error < 1e-5, "{error:e}");
    let undamped = conjugate_gradients(backend, &h, &[&wanted, &v], None, options).unwrap_err();
    println!("{undamped}");
    let Err(CurvatureError::Solve { problem: Stuck::NotPositive { value, .. }, .. }) = Err::<(), _>(undamped) else {
        panic!("an indefinite matrix is said to be");
    };
    assert!(value < 0.0 && value >= least - 1e-6, "{value} is between the least eigenvalue {least} and 0");
}

#[test]
fn a_head_that_is_tied_to_the_embedding_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/gpt2");
    let mut model = load(F64::new(), &folder).unwrap();
    model.select_layers(Some("lm_head")).unwrap();
    let refused = Hessian::new(&model, &tokens()).unwrap().apply(&model.zero_direction());
    assert!(matches!(refused, Err(CurvatureError::Model(ModelError::Tied { .. }))));
}

#[test]
fn the_diagonal_is_that_of_the_dense_matrix_in_the_mean_over_draws_and_divides() {
    for task in ["regression", "classification"] {
        let (model, batches) = (mlp(&[4, 5, OUTPUTS], task), rows(task, 7));
        let like = model.zero_direction();
        let dense = Dense::new(model.backend(), &GaussNewton::new(&model, &batches), &like).unwrap();
        let (draws, damping) = (600, Damping::MeanEigenvalue(0.1));
        let fit = |seed| DiagonalInverse::new(&model, &batches, Objective::SampledLoss { seed }, damping).unwrap();
        let mut mean = vec![0.0; dense.matrix().nrows()];
        for seed in 0..draws {
            let fitted = fit(seed);
            let numbers = fitted.diagonal().iter().flat_map(Matrix::as_slice);
            mean.iter_mut().zip(numbers).for_each(|(m, x)| *m += x / draws as f64);
        }
        let exact: Vec<f64> = (0..mean.len()).map(|i| dense.matrix()[(i, i)]).collect();
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let error = norm(&mut mean.iter().zip(&exact).map(|(m, e)| m - e)) / norm(&mut exact.iter().copied());
        println!("{task}: {error:.3}");
        assert!(error < 0.03, "{task}: {error}");
        let (one, v) = (fit(0), direction(&model, 1));
        for (i, x) in one.apply(&v).unwrap().iter().enumerate() {
            let (diagonal, lambda) = (one.diagonal()[i].as_slice(), one.lambda()[i]);
            let share = 0.1 * diagonal.iter().sum::<f64>() / diagonal.len() as f64;
            assert!((lambda - share).abs() < 1e-12 * share, "{lambda} and {share}");
            for ((x, v), d) in x.as_slice().iter().zip(v[i].as_slice()).zip(diagonal) {
                assert!((x * (d + lambda) - v).abs() < 1e-12, "{x}");
            }
        }
    }
}
