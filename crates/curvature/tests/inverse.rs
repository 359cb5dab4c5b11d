//! Every iterative inverse against the dense solve in f64, and the dense matrix against sums over all labels.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

use etymon_curvature::inverse::{
    AstraOptions, CgOptions, Damped, DataInf, Dense, EkfacInverse, GaussNewton, LinearOperator, LissaOptions, Solver,
    Way, astra, conjugate_gradients, largest_eigenvalue, lissa,
};
use etymon_curvature::{
    CorrectionTap, Corrections, CovarianceTap, Covariances, CurvatureError, Damping, Factors, Preconditioner, Spectrum,
    Stuck, eigendecompose,
};
use etymon_data::{Batch, Content, Example, ExampleIndex, Padding, Target};
use etymon_model::{Consumer, LayerIo, Model, ModelError, Objective, Tap};
use etymon_tensor::{Backend, Cpu, Folds, Matrix, Precision, Scalar, Shape, Transpose};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const CLASSES: usize = 3;

fn model<T: Scalar>() -> Model<Cpu<T>> {
    let config = json!({"model_type": "mlp", "sizes": [4, 5, CLASSES], "activation": "tanh", "task": "classification"});
    Model::new(Cpu::<T>::new(), config, 3).unwrap()
}

fn row(index: u64, values: &[f32], class: u32) -> Example {
    Example {
        index: ExampleIndex(index),
        id: index.to_string(),
        content: Content::Features { values: values.to_vec(), target: Target::Class(class) },
        text: String::new(),
        metadata: serde_json::Map::new(),
    }
}

/// Inputs of very different size, for a curvature of very different eigenvalues.
fn inputs(n: usize) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let scales = [4.0, 1.0, 0.3, 0.1];
    (0..n).map(|_| scales.iter().map(|s| s * (2.0 * rng.random::<f32>() - 1.0)).collect()).collect()
}

fn batches(examples: &[Example], size: usize) -> Vec<Batch> {
    examples.chunks(size).map(|e| Batch::stack(e, Padding::None).unwrap()).collect()
}

fn examples(n: usize) -> Vec<Example> {
    inputs(n).iter().enumerate().map(|(i, x)| row(i as u64, x, (i % CLASSES) as u32)).collect()
}

/// Keeps flattened gradients, one matrix `[n, d_out · d_in]` per layer.
struct Gradients<T: Scalar>(Vec<Option<Matrix<T>>>);

impl<T: Scalar> Tap<Cpu<T>> for Gradients<T> {
    fn layer(&mut self, io: LayerIo<'_, Cpu<T>>) -> Result<(), ModelError> {
        self.0[io.layer.0] = Some(Cpu::<T>::new().example_gradients(io.dout, io.input, io.segments)?);
        Ok(())
    }
}

/// One query's gradient as a direction.
fn query<T: Scalar>(model: &Model<Cpu<T>>) -> Vec<Matrix<T>> {
    let mut tap = Gradients(vec![None; model.layers().len()]);
    let batch = Batch::stack(&[row(0, &[1.0, -0.5, 0.2, 0.1], 1)], Padding::None).unwrap();
    model.run(&batch, Objective::TrainLoss, Consumer::Tap(&mut tap)).unwrap();
    let shaped = |(x, s): (Option<Matrix<T>>, &etymon_model::LayerSpec)| {
        model.backend().reshape(x.unwrap(), Shape::new(s.d_out, s.d_in)).unwrap()
    };
    tap.0.into_iter().zip(model.layers()).map(shaped).collect()
}

fn relative<T: Scalar>(x: &[Matrix<T>], y: &[Matrix<f64>]) -> f64 {
    let numbers = |i: usize| x[i].as_slice().iter().zip(y[i].as_slice()).map(|(a, b)| (a.to_f64(), *b));
    let sum = |f: &dyn Fn((f64, f64)) -> f64| (0..x.len()).flat_map(numbers).map(f).sum::<f64>();
    (sum(&|(a, b)| (a - b) * (a - b)) / sum(&|(_, b)| b * b)).sqrt()
}

/// EK-FAC with every label of every input, weighted by drawing each as often as it is likely.
fn factors(model: &Model<Cpu<f64>>, examples: &[Example]) -> Factors {
    let (backend, specs) = (model.backend(), model.layers());
    let run = |tap: &mut dyn Tap<Cpu<f64>>| {
        for seed in 0..20 {
            let batch = Batch::stack(examples, Padding::None).unwrap();
            model.run(&batch, Objective::SampledLoss { seed }, Consumer::Tap(tap)).unwrap();
        }
    };
    let mut tap = CovarianceTap::new(backend, specs, Covariances::empty(specs)).unwrap();
    run(&mut tap);
    let bases = eigendecompose(tap.finish(), specs, |_| ()).unwrap();
    let layers = Factors::new(specs.to_vec(), bases.clone(), None).layers(backend).unwrap();
    let mut tap = CorrectionTap::new(backend, specs, &layers, Corrections::empty(specs)).unwrap();
    run(&mut tap);
    Factors::new(specs.to_vec(), bases, Some(tap.finish().means()))
}

#[test]
fn the_dense_matrix_is_the_mean_over_all_labels_by_their_probability() {
    let model = model::<f64>();
    let inputs = inputs(12);
    let labelled = batches(&examples(12), 5);
    let dense = Dense::new(model.backend(), &GaussNewton::new(&model, &labelled), &model.zero_direction()).unwrap();
    let p = dense.matrix().nrows();
    let mut exact = Mat::<f64>::zeros(p, p);
    for x in &inputs {
        let logits: Vec<f64> = model.outputs(1, x).unwrap();
        let total: f64 = logits.iter().map(|z| z.exp()).sum();
        for (class, z) in logits.iter().enumerate() {
            let mut tap = Gradients(vec![None; 2]);
            let batch = Batch::stack(&[row(0, x, class as u32)], Padding::None).unwrap();
            model.run(&batch, Objective::TrainLoss, Consumer::Tap(&mut tap)).unwrap();
            let g: Vec<f64> = tap.0.iter().flat_map(|x| x.as_ref().unwrap().as_slice().to_vec()).collect();
            let weight = z.exp() / total / inputs.len() as f64;
            exact += Mat::from_fn(p, p, |i, j| weight * g[i] * g[j]);
        }
    }
    let error = (dense.matrix() - &exact).norm_l2() / exact.norm_l2();
    println!("{p} weights: {error:.1e}");
    assert!(error < 1e-12, "{error:e}");
}

/// Every method at both precisions against the dense f64 solve: errors of (CG, CG from EK-FAC, ASTRA, Lanczos, LiSSA), and
/// the products that CG takes to a residual of 0.1 without and with EK-FAC.
fn errors<T: Scalar>(tolerance: f64) -> ([f64; 5], [f64; 2]) {
    let (exact, model) = (model::<f64>(), model::<T>());
    let (backend, parts) = (model.backend(), batches(&examples(60), 10));
    let fitted = factors(&exact, &examples(60));
    let ekfac = Preconditioner::Kronecker {
        factors: &fitted,
        spectrum: Spectrum::Corrected,
        damping: Damping::MeanEigenvalue(0.1),
    };
    let p = EkfacInverse::new(backend, ekfac, 2).unwrap().unwrap();
    let lambda = p.lambda();
    let dense = Dense::new(exact.backend(), &GaussNewton::new(&exact, &parts), &exact.zero_direction()).unwrap();
    let wanted = dense.solve(exact.backend(), &query(&exact), &lambda).unwrap();

    let (g, v) = (GaussNewton::new(&model, &parts), query(&model));
    let damped = Damped { backend, inner: &g, lambda: &lambda };
    let options = CgOptions { max_steps: 200, tolerance, held: 1000 };
    let cg = |p, options| conjugate_gradients(backend, &damped, &[&v], p, options).unwrap().remove(0);
    let (plain, from_ekfac) = (cg(None, options), cg(Some(&p), options));
    let rough = CgOptions { tolerance: 0.1, ..options };
    let products = [cg(None, rough).products, cg(Some(&p), rough).products];
    let steps = AstraOptions { steps: 3000, tolerance, step_size: 0.05, seed: 1 };
    let astra = astra(&g, &lambda, &[&v], Some(&p), steps).unwrap().remove(0);
    let steps = LissaOptions { steps: 20_000, step_size: 0.05, repeats: 4, seed: 1 };
    let lissa = lissa(&g, &lambda, &[&v], steps).unwrap().remove(0);
    let way = Way::Lanczos { steps: 43, rank: 43, seed: 5 };
    let krylov = Solver::new(GaussNewton::new(&model, &parts), lambda.clone(), None, way).unwrap().apply(&v).unwrap();
    let results = [
        relative(&plain.x, &wanted),
        relative(&from_ekfac.x, &wanted),
        relative(&astra.x, &wanted),
        relative(&krylov, &wanted),
        relative(&lissa.x, &wanted),
    ];
    (results, products)
}

#[test]
fn every_iteration_comes_to_the_dense_solution() {
    let (double, products) = errors::<f64>(1e-10);
    println!("f64: {double:?}, products of CG {products:?}");
    let (single, _) = errors::<f32>(1e-5);
    println!("f32: {single:?}");
    for (i, (method, tolerance)) in
        [("cg", 1e-8), ("ekfac-cg", 1e-8), ("astra", 1e-7), ("lanczos", 1e-6), ("lissa", 5e-2)].into_iter().enumerate()
    {
        assert!(double[i] < tolerance, "{method} in f64: {:e}", double[i]);
        assert!(single[i] < tolerance.max(1e-3), "{method} in f32: {:e}", single[i]);
    }
    assert!(products[1] < products[0], "a preconditioner saves products: {products:?}");
}

#[test]
fn the_products_are_those_of_a_symmetric_matrix() {
    let model = model::<f64>();
    let parts = batches(&examples(20), 20);
    let g = GaussNewton::new(&model, &parts);
    let v = query(&model);
    let w = g.apply(&v).unwrap();
    let backend = model.backend();
    let turned: Vec<_> = v
        .iter()
        .map(|x| {
            backend
                .matmul(x, Transpose::No, &backend.matmul(x, Transpose::Yes, x, Transpose::No).unwrap(), Transpose::No)
                .unwrap()
        })
        .collect();
    let dot =
        |a: &[Matrix<f64>], b: &[Matrix<f64>]| a.iter().zip(b).map(|(a, b)| backend.dot(a, b).unwrap()).sum::<f64>();
    let (left, right) = (dot(&turned, &w), dot(&g.apply(&turned).unwrap(), &v));
    assert!((left - right).abs() < 1e-12 * left.abs().max(1e-12), "{left} and {right}");
}

#[test]
fn datainf_is_the_mean_of_the_examples_own_inverses() {
    let model = model::<f64>();
    let all = examples(15);
    let parts = batches(&all, 4);
    let datainf = DataInf::new(&model, &parts, Objective::TrainLoss, Damping::MeanEigenvalue(0.1)).unwrap();
    let v = query(&model);
    let x = datainf.apply(&v).unwrap();
    let mut tap = Gradients(vec![None; 2]);
    model.run(&Batch::stack(&all, Padding::None).unwrap(), Objective::TrainLoss, Consumer::Tap(&mut tap)).unwrap();
    for (layer, gradients) in tap.0.into_iter().enumerate() {
        let (gradients, lambda) = (gradients.unwrap(), datainf.lambda()[layer]);
        let p = gradients.cols();
        let mean_square = gradients.as_slice().iter().map(|g| g * g).sum::<f64>() / (15 * p) as f64;
        assert!((lambda - 0.1 * mean_square).abs() < 1e-12 * lambda);
        let right = Mat::from_fn(p, 1, |i, _| v[layer].as_slice()[i]);
        let mut mean = Mat::<f64>::zeros(p, 1);
        for n in 0..15 {
            let g = &gradients.as_slice()[n * p..(n + 1) * p];
            let own = Mat::from_fn(p, p, |i, j| g[i] * g[j] + if i == j { lambda } else { 0.0 });
            mean += own.llt(Side::Lower).unwrap().solve(&right) / 15.0;
        }
        let ours = Mat::from_fn(p, 1, |i, _| x[layer].as_slice()[i]);
        let error = (&ours - &mean).norm_l2() / mean.norm_l2();
        println!("layer {layer}: {error:.1e}");
        assert!(error < 1e-9, "layer {layer}: {error:e}");
    }
}

#[test]
fn one_interface_has_every_way_and_chooses_its_own_steps() {
    let model = model::<f64>();
    let (backend, parts) = (model.backend(), batches(&examples(60), 10));
    let fitted = factors(&model, &examples(60));
    let damping = Damping::MeanEigenvalue(0.1);
    let ekfac = Preconditioner::Kronecker { factors: &fitted, spectrum: Spectrum::Corrected, damping };
    let p = || EkfacInverse::new(backend, ekfac, 2).unwrap().unwrap();
    let lambda = p().lambda();
    let solve = |p, way| Solver::new(GaussNewton::new(&model, &parts), lambda.clone(), p, way).unwrap();
    let v = query(&model);
    let wanted = solve(None, Way::Dense).apply(&v).unwrap();
    let astra = Way::Astra { steps: 4000, tolerance: 1e-8, seed: 1 };
    let lissa = Way::Lissa { steps: 4000, repeats: 4, seed: 1 };
    for (name, solver, tolerance) in [
        ("cg", solve(None, Way::Cg(CgOptions { max_steps: 100, tolerance: 1e-8, held: 1000 })), 1e-6),
        ("ekfac-cg", solve(Some(p()), Way::Cg(CgOptions { max_steps: 100, tolerance: 1e-8, held: 1000 })), 1e-6),
        ("astra", solve(Some(p()), astra), 1e-6),
        ("lissa", solve(None, lissa), 0.3),
        ("arnoldi", solve(None, Way::Lanczos { steps: 43, rank: 43, seed: 5 }), 1e-6),
    ] {
        let error = relative(&solver.apply(&v).unwrap(), &wanted);
        println!("{name}: {error:.1e} after {} products", solver.products());
        assert!(error < tolerance, "{name}: {error:e}");
        assert!(solver.products() > 1.0);
    }
}

#[test]
fn the_largest_eigenvalue_is_that_of_the_dense_matrix() {
    let model = model::<f64>();
    let (backend, parts) = (model.backend(), batches(&examples(30), 30));
    let (g, like) = (GaussNewton::new(&model, &parts), model.zero_direction());
    let dense = Dense::new(backend, &g, &like).unwrap();
    let wanted = dense.matrix().self_adjoint_eigenvalues(Side::Lower).unwrap().into_iter().fold(0.0, f64::max);
    let found = largest_eigenvalue(backend, &g, None, &like, 200, 7).unwrap();
    assert!((found - wanted).abs() < 1e-6 * wanted, "{found} and {wanted}");
}

/// λ of the two layers, and ‖v − (G + λI) x‖ / ‖v‖.
fn lacks<T: Scalar>(model: &Model<Cpu<T>>, parts: &[Batch], lambda: &[f64], x: &[Matrix<T>], v: &[Matrix<T>]) -> f64 {
    let (backend, g) = (model.backend(), GaussNewton::new(model, parts));
    let product = Damped { backend, inner: &g, lambda }.apply(x).unwrap();
    let wide = |x: &[Matrix<T>]| -> Vec<f64> { x.iter().flat_map(|x| backend.download::<f64>(x).into_vec()).collect() };
    let (v, product) = (wide(v), wide(&product));
    let square = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
    (square(&mut v.iter().zip(&product).map(|(v, p)| v - p)) / square(&mut v.iter().copied())).sqrt()
}

#[test]
fn every_iteration_says_how_far_it_came_and_tells_the_truth() {
    let model = model::<f32>();
    let (parts, v, lambda) = (batches(&examples(60), 10), query(&model), vec![0.01, 0.02]);
    for (name, way) in [
        ("cg", Way::Cg(CgOptions { max_steps: 3, tolerance: 1e-3, held: 1000 })),
        ("lissa", Way::Lissa { steps: 100, repeats: 2, seed: 1 }),
        ("astra", Way::Astra { steps: 100, tolerance: 1e-8, seed: 1 }),
        ("arnoldi", Way::Lanczos { steps: 5, rank: 5, seed: 5 }),
    ] {
        let solver = Solver::new(GaussNewton::new(&model, &parts), lambda.clone(), None, way).unwrap();
        let zeros = model.zero_direction();
        let found = solver.apply_all(&[&v, &zeros, &v]).unwrap();
        let solved = solver.take_solved();
        println!("{name}: {solved:?}");
        let wanted = lacks(&model, &parts, &lambda, &found[0], &v);
        assert!((solved[0].residual - wanted).abs() < 1e-4 * wanted, "{name}: {solved:?}, really {wanted:e}");
        assert!(wanted > 1e-3, "{name}: too few steps to converge: {wanted:e}");
        assert_eq!((solved[1].residual, solved[2]), (0.0, solved[0]), "{name}: nothing is solved at once, twins alike");
        assert!(found[1].iter().all(|x| x.as_slice().iter().all(|&x| x == 0.0)), "{name}");
        assert!(solver.take_solved().is_empty() && solver.products() >= 2.0 * solved[0].products, "{name}");
    }
}

/// The inverse by factors that were fitted in f64.
fn ekfac<'a>(model: &'a Model<Cpu<f32>>, fitted: &Factors) -> EkfacInverse<'a, Cpu<f32>> {
    let damping = Damping::MeanEigenvalue(0.1);
    let kronecker = Preconditioner::Kronecker { factors: fitted, spectrum: Spectrum::Corrected, damping };
    EkfacInverse::new(model.backend(), kronecker, 2).unwrap().unwrap()
}

/// A query and a second right-hand side.
fn two_right_sides(model: &Model<Cpu<f32>>, parts: &[Batch]) -> [Vec<Matrix<f32>>; 2] {
    let first = query(model);
    let mut second = GaussNewton::new(model, parts).apply(&first).unwrap();
    model.backend().axpy(0.3, &first[0], &mut second[0]).unwrap();
    [first, second]
}

#[test]
fn many_right_sides_at_once_are_solved_by_the_stochastic_series_and_by_arnoldi_as_each_alone() {
    let model = model::<f32>();
    let (parts, fitted) = (batches(&examples(60), 10), factors(&self::model(), &examples(60)));
    let (p, [first, second]) = (ekfac(&model, &fitted), two_right_sides(&model, &parts));
    let lambda = p.lambda();
    let astra = Way::Astra { steps: 50, tolerance: 0.1, seed: 1 };
    let lissa = Way::Lissa { steps: 50, repeats: 2, seed: 1 };
    let arnoldi = Way::Lanczos { steps: 10, rank: 10, seed: 5 };
    for (name, p, way) in [("astra", Some(p), astra), ("lissa", None, lissa), ("arnoldi", None, arnoldi)] {
        let solver = Solver::new(GaussNewton::new(&model, &parts), lambda.clone(), p, way).unwrap();
        let together = solver.apply_all(&[&first, &second]).unwrap();
        let solved = solver.take_solved();
        println!("{name}: {solved:?}");
        for (v, x) in [&first, &second].into_iter().zip(&together) {
            assert_eq!(&solver.apply(v).unwrap(), x, "{name}");
        }
        assert_eq!(solver.take_solved(), solved, "{name}: as many products, and as close");
    }
}

#[test]
fn conjugate_gradients_share_directions_between_right_sides_and_keep_them_for_the_next() {
    let model = model::<f32>();
    let (parts, fitted) = (batches(&examples(60), 10), factors(&self::model(), &examples(60)));
    let (p, [first, second]) = (ekfac(&model, &fitted), two_right_sides(&model, &parts));
    let lambda = p.lambda();
    for (name, p) in [("cg", None), ("ekfac-cg", Some(p))] {
        let solver = |held| {
            let way = Way::Cg(CgOptions { max_steps: 100, tolerance: 1e-3, held });
            Solver::new(GaussNewton::new(&model, &parts), lambda.clone(), p.clone(), way).unwrap()
        };
        let solve = |solver: &Solver<'_, Cpu<f32>>, vs: &[&[Matrix<f32>]]| {
            let xs = solver.apply_all(vs).unwrap();
            let solved = solver.take_solved();
            for ((x, v), solved) in xs.iter().zip(vs).zip(&solved) {
                let really = lacks(&model, &parts, &lambda, x, v);
                assert!(really < 1e-3 && (really - solved.residual).abs() < 1e-5, "{name}: {really:e} and {solved:?}");
            }
            solved.iter().map(|s| s.products).sum::<f64>()
        };
        let alone = solve(&solver(1000), &[&first]) + solve(&solver(1000), &[&second]);
        let shared = solver(1000);
        let together = solve(&shared, &[&first, &second]);
        let again = solve(&shared, &[&second, &first]);
        let serial = solver(1000);
        let (one, other) = (solve(&serial, &[&first]), solve(&serial, &[&second]));
        let newest = solve(&solver(0), &[&first, &second]);
        println!(
            "{name}: {alone} products alone, {together} together, {one} + {other} in turn, {newest} with the newest alone"
        );
        assert!(together < alone && one + other < alone, "{name}");
        assert_eq!(again, 0.0, "{name}: what was solved is known");
        assert!(newest >= together, "{name}: what is not held must be learnt anew");
    }
}

#[test]
fn conjugate_gradients_in_bf16_lose_no_digits_between_the_products() {
    let model = model::<f32>();
    let exact = GaussNewton::new(&model, &batches(&examples(60), 10)).apply(&query(&model)).unwrap();
    let weights: Vec<Matrix<f32>> = exact.iter().map(|x| Cpu::<f32>::new().multiply(x, x).unwrap()).collect();
    // A diagonal matrix, whose products are exact at any precision of the backend.
    let a = |v: &[Matrix<f32>]| {
        let scaled = v.iter().zip(&weights).map(|(v, w)| {
            let mut out = Cpu::<f32>::new().multiply(v, w)?;
            Cpu::<f32>::new().axpy(1e-3, v, &mut out)?;
            Ok(out)
        });
        scaled.collect::<etymon_curvature::Result<Vec<_>>>()
    };
    let options = CgOptions { max_steps: 60, tolerance: 1e-5, held: 1000 };
    let solve = |precision| {
        let backend = Cpu::<f32>::with_precision(precision);
        conjugate_gradients(&backend, &a, &[&query(&model), &exact], None, options).unwrap()
    };
    for (coarse, fine) in solve(Precision::Bf16).iter().zip(&solve(Precision::F32)) {
        assert_eq!((coarse.products, coarse.residual()), (fine.products, fine.residual()));
        assert!(fine.residual() < 1e-5, "{}", fine.residual());
    }
}

#[test]
fn a_right_side_that_converged_takes_no_more_products() {
    let model = model::<f32>();
    let (backend, parts) = (model.backend(), batches(&examples(60), 10));
    let (lambda, v) = (vec![0.01, 0.02], query(&model));
    let g = GaussNewton::new(&model, &parts);
    // Of this right-hand side the first direction is almost the solution.
    let damped = Damped { backend, inner: &g, lambda: &lambda };
    let mut leading = v.clone();
    for _ in 0..50 {
        leading = damped.apply(&leading).unwrap();
    }
    let options = CgOptions { max_steps: 100, tolerance: 1e-3, held: 1000 };
    let found = conjugate_gradients(backend, &damped, &[&leading, &v], None, options).unwrap();
    println!("{} and {} products", found[0].products, found[1].products);
    assert!(found[0].products < 3.0 && found[1].products > 5.0);
}

#[test]
fn what_cannot_be_solved_is_an_error_that_says_which_right_side_and_why() {
    let model = model::<f32>();
    let (backend, v) = (model.backend(), query(&model));
    let times = |factor: f64| {
        move |v: &[Matrix<f32>]| {
            let mut out = v.to_vec();
            out.iter_mut().for_each(|x| Cpu::<f32>::new().scale(factor, x));
            Ok(out)
        }
    };
    let options = CgOptions { max_steps: 10, tolerance: 1e-6, held: 1000 };
    let zeros = model.zero_direction();
    let stuck = |error: CurvatureError| {
        println!("{error}");
        let CurvatureError::Solve { right_side, problem, .. } = error else { panic!("{error}") };
        (right_side, problem)
    };
    let negative = conjugate_gradients(backend, &times(-2.0), &[&zeros, &v], None, options).unwrap_err();
    let (right_side, problem) = stuck(negative);
    let Stuck::NotPositive { value, .. } = problem else { panic!("{problem}") };
    assert!(right_side == 1 && (value + 2.0).abs() < 1e-5, "{right_side}: {problem}");
    let p = times(-1.0);
    let wrong_start = conjugate_gradients(backend, &times(1.0), &[&v], Some(&p), options).unwrap_err();
    assert!(matches!(stuck(wrong_start), (0, Stuck::NotPositive { what: "the preconditioner", .. })));
    let mut nan = v.clone();
    backend.scale(f64::NAN, &mut nan[0]);
    let overflow = conjugate_gradients(backend, &times(1.0), &[&v, &v, &nan], None, options).unwrap_err();
    assert_eq!(stuck(overflow), (2, Stuck::NotFinite));
    let parts = batches(&examples(60), 10);
    let g = GaussNewton::new(&model, &parts);
    let steep = LissaOptions { steps: 200, step_size: 1e3, repeats: 1, seed: 0 };
    let diverged = lissa(&g, &[0.1; 2], &[&v], steep).unwrap_err();
    assert_eq!(stuck(diverged), (0, Stuck::NotFinite));
    let steep = AstraOptions { steps: 2000, tolerance: 1e-3, step_size: 1e30, seed: 0 };
    let diverged = astra(&g, &[0.1; 2], &[&zeros, &v], None, steep).unwrap_err();
    assert_eq!(stuck(diverged), (1, Stuck::NotFinite));
    let flat = AstraOptions { step_size: 1e-3, ..steep };
    let no_number = astra(&g, &[0.1; 2], &[&v, &nan], None, flat).unwrap_err();
    assert_eq!(stuck(no_number), (1, Stuck::NotFinite));
}

#[test]
fn astra_halves_a_step_that_diverges_and_comes_to_the_solution() {
    let model = model::<f64>();
    let (parts, lambda, v) = (batches(&examples(60), 10), [0.1; 2], query(&model));
    let g = GaussNewton::new(&model, &parts);
    let largest = largest_eigenvalue(model.backend(), &g, None, &model.zero_direction(), 100, 7).unwrap() + lambda[0];
    let options = AstraOptions { steps: 2000, tolerance: 1e-6, step_size: 20.0 / largest, seed: 0 };
    let solution = astra(&g, &lambda, &[&v], None, options).unwrap().remove(0);
    println!("{:?}", solution.residuals);
    assert!(solution.residuals[0] > 0.1, "the first round diverges: {:?}", solution.residuals);
    assert!(lacks(&model, &parts, &lambda, &solution.x, &v) < 2e-6, "{:?}", solution.residuals);
}

#[test]
fn curvature_below_the_rounding_of_products_is_left_out_and_is_no_error() {
    let model = model::<f32>();
    let (backend, parts, lambda) = (model.backend(), batches(&examples(60), 10), [1e-12; 2]);
    let g = GaussNewton::new(&model, &parts);
    let damped = Damped { backend, inner: &g, lambda: &lambda };
    let gradient = |row: &Example| {
        let mut v = model.zero_direction();
        let batch = Batch::stack(std::slice::from_ref(row), Padding::None).unwrap();
        model.add_gradient(&batch, Objective::TrainLoss, &mut v).unwrap();
        v
    };
    let vs: Vec<_> = examples(60).iter().take(12).map(gradient).collect();
    let views: Vec<&[Matrix<f32>]> = vs.iter().map(Vec::as_slice).collect();
    let options = CgOptions { max_steps: 60, tolerance: 1e-6, held: 1000 };
    let found = conjugate_gradients(backend, &damped, &views, None, options).unwrap();
    let worst = found.iter().map(|s| s.residual()).fold(0.0, f64::max);
    println!("residuals up to {worst:e}");
    assert!(worst < 1e-3, "{worst:e}");
}
