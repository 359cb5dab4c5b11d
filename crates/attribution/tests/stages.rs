//! Influence through two stages against re-optimising both to convergence, in f64; its limits; and the ways to solve it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use common::limits;
use common::optimum::{F64, Problem, weights};
use etymon_attribution::{AttributionError, Parts, Queries, Rank, Role, StageQueries, Stages};
use etymon_curvature::Preconditioner;
use etymon_curvature::inverse::{CgOptions, Damped, Hessian, LinearOperator, conjugate_gradients};
use etymon_data::{Batch, Content, Example, ExampleIndex, Padding, Target};
use etymon_model::{Consumer, Measurement, Model, Objective};
use etymon_tensor::{Cpu, Matrix};
use serde_json::json;

/// λ of pre-training and of a layer that fine-tuning starts anew.
const LAMBDA: f64 = 0.03;
const HIDDEN: usize = 4;
const FEATURES: usize = 3;

fn rows(n: usize, classes: usize, salt: usize) -> Vec<Example> {
    let value = |i: usize, j: usize| {
        ((i * 37 + j * 101 + (i + salt) * i * 13 + i * j * 7 + salt * 29) % 97) as f32 / 40.0 - 1.2
    };
    let row = |i: usize| {
        let values: Vec<f32> = (0..FEATURES).map(|j| value(i, j)).collect();
        let class = if (values[0] + 0.7 * values[1] * values[2]) > 0.2 { i % 2 } else { (i + 1) % classes };
        let content = Content::Features { values, target: Target::Class(class as u32) };
        let (text, metadata) = (String::new(), serde_json::Map::new());
        Example { index: ExampleIndex(i as u64), id: i.to_string(), content, text, metadata }
    };
    (0..n).map(row).collect()
}

fn batches(rows: &[Example]) -> Vec<Batch> {
    rows.chunks(8).map(|part| Batch::stack(part, Padding::None).unwrap()).collect()
}

fn new_model(classes: usize, seed: u64) -> Model<F64> {
    let sizes = [FEATURES, HIDDEN, classes];
    let json = json!({"model_type": "mlp", "sizes": sizes, "activation": "tanh", "task": "classification"});
    Model::new(F64::new(), json, seed).unwrap()
}

/// Both stages: 24 rows of three classes, then 16 rows of two with a new head.
struct World {
    pretraining: Vec<Example>,
    finetuning: Vec<Example>,
    queries: Vec<Example>,
    role: Role,
    pretrained: Model<F64>,
    finetuned: Model<F64>,
}

impl World {
    fn new(role: Role) -> Self {
        let (pretraining, finetuning) = (rows(24, 3, 1), rows(16, 2, 5));
        let queries = rows(6, 2, 11);
        let pretrained = pretrain(&pretraining, None, &new_model(3, 3), true);
        let finetuned = finetune(&finetuning, None, &pretrained, &head(&pretrained), role, true);
        Self { pretraining, finetuning, queries, role, pretrained, finetuned }
    }

    fn stages(&self) -> Stages {
        let role = |layer| if layer == 0 { self.role } else { Role::Free };
        Stages::new(self.pretrained.layers(), self.finetuned.layers(), role).unwrap()
    }

    fn plain(&self) -> Queries<F64> {
        let f = Measurement::LogLikelihood;
        let plain = Preconditioner::Identity;
        Queries::prepare(&self.finetuned, &self.queries, f, plain, Rank::Full, limits(64)).unwrap()
    }

    fn transformed(&self, inverse: &dyn LinearOperator<F64>) -> StageQueries<F64> {
        let batches = batches(&self.finetuning);
        let hessian = Hessian::new(&self.finetuned, &batches).unwrap();
        let models = (self.pretrained.layers(), &self.finetuned);
        self.stages().transform(models, &self.plain(), inverse, &hessian, 2, || ()).unwrap()
    }

    /// λ of a new layer, and ρ.
    fn lambda(&self) -> Vec<f64> {
        let stages = self.stages();
        let damping: Vec<f64> = stages.held().map(|rho| if rho.is_some() { 0.0 } else { LAMBDA }).collect();
        stages.lambda(&damping)
    }

    /// By the dense Hessian of the trained layers.
    fn dense(&self) -> StageQueries<F64> {
        let (batches, trained) = (batches(&self.finetuning), self.stages().trained(&self.finetuned));
        let h = problem(&batches, None, &[], Vec::new()).hessian(&trained);
        let lambda = self.lambda();
        self.transformed(&|v: &[Matrix<f64>]| h.solve(trained.backend(), v, &lambda))
    }

    /// `[Q, N]` Scores of the pre-training examples.
    fn scores(&self, queries: &StageQueries<F64>) -> Vec<f64> {
        let batches = batches(&self.pretraining);
        let h = problem(&batches, None, &[], Vec::new()).hessian(&self.pretrained);
        let inverse = |v: &[Matrix<f64>]| h.solve(self.pretrained.backend(), v, &[LAMBDA; 2]);
        let ready = queries.pretraining.precondition(&self.pretrained, &inverse, (Rank::Full, 1), |_| ()).unwrap();
        common::score_all(&self.pretrained, &ready, &self.pretraining, limits(64), Parts::default()).total
    }
}

fn problem<'a>(
    batches: &'a [Batch],
    extra: Option<(&'a Batch, f64)>,
    lambda: &'a [f64],
    center: Vec<Matrix<f64>>,
) -> Problem<'a> {
    Problem { batches, extra, lambda, center }
}

fn pretrain(rows: &[Example], extra: Option<(&Batch, f64)>, start: &Model<F64>, far: bool) -> Model<F64> {
    let batches = batches(rows);
    problem(&batches, extra, &[LAMBDA; 2], start.zero_direction()).minimise(start.clone(), far)
}

/// The pre-trained first layer under a new head.
fn head(pretrained: &Model<F64>) -> Model<F64> {
    let mut model = new_model(2, 7);
    let shared: Vec<Matrix<f64>> = pretrained.params().iter().take(2).cloned().collect();
    model.params_mut().iter_mut().zip(shared).for_each(|(to, from)| *to = from);
    model
}

/// Fine-tunes `start`, tied to `pretrained` as the role of the first layer says.
fn finetune(
    rows: &[Example],
    extra: Option<(&Batch, f64)>,
    pretrained: &Model<F64>,
    start: &Model<F64>,
    role: Role,
    far: bool,
) -> Model<F64> {
    let batches = batches(rows);
    let model = if role == Role::Frozen { start.with_layers(1..2) } else { start.clone() };
    let mut center = model.zero_direction();
    let lambda = match role {
        Role::Near { rho } => {
            center[0] = weights(pretrained)[0].clone();
            vec![rho, LAMBDA]
        }
        Role::Frozen => vec![LAMBDA],
        Role::Free => vec![LAMBDA; 2],
    };
    let mut model = problem(&batches, extra, &lambda, center).minimise(model, far);
    model.select_layers(None).unwrap();
    model
}

fn values(model: &Model<F64>, queries: &[Example]) -> Vec<f64> {
    let batch = Batch::stack(queries, Padding::None).unwrap();
    model.run(&batch, Objective::Measurement(Measurement::LogLikelihood), Consumer::Values).unwrap().into_vec()
}

fn one(example: &Example) -> Batch {
    Batch::stack(std::slice::from_ref(example), Padding::None).unwrap()
}

/// df/dε of every query by re-optimisation of both stages, ε the weight of one more copy of a pre-training example.
fn re_pretrained(world: &World, m: usize) -> Vec<f64> {
    let (batch, epsilon) = (one(&world.pretraining[m]), 1e-4);
    let at = |epsilon: f64| {
        let pretrained = pretrain(&world.pretraining, Some((&batch, epsilon)), &world.pretrained, false);
        let mut start = world.finetuned.clone();
        if world.role == Role::Frozen {
            let shared: Vec<Matrix<f64>> = pretrained.params().iter().take(2).cloned().collect();
            start.params_mut().iter_mut().zip(shared).for_each(|(to, from)| *to = from);
        }
        values(&finetune(&world.finetuning, None, &pretrained, &start, world.role, false), &world.queries)
    };
    at(epsilon).iter().zip(at(-epsilon)).map(|(up, down)| (up - down) / (2.0 * epsilon)).collect()
}

const CASES: [Role; 3] = [Role::Frozen, Role::Near { rho: 0.05 }, Role::Near { rho: 1.0 }];

#[test]
fn influence_is_the_derivative_of_both_optimisations() {
    for role in CASES {
        let world = World::new(role);
        let scores = world.scores(&world.dense());
        let n = world.pretraining.len();
        let (mut found, mut wanted) = (Vec::new(), Vec::new());
        for m in [0, 3, 7, 12, 20] {
            found.extend((0..world.queries.len()).map(|q| scores[q * n + m]));
            wanted.extend(re_pretrained(&world, m));
        }
        let error = common::relative_error(&found, &wanted);
        println!("{role:?}: {error:.1e} of {:.1e}", wanted.iter().map(|x| x * x).sum::<f64>().sqrt());
        assert!(error < 2e-5, "{role:?}: {error:e}");
    }
}

#[test]
fn influence_of_fine_tuning_is_the_derivative_of_its_optimisation() {
    for role in CASES {
        let world = World::new(role);
        let (queries, trained) = (world.dense().finetuning, world.stages().trained(&world.finetuned));
        let scores = common::score_all(&trained, &queries, &world.finetuning, limits(64), Parts::default()).total;
        let (m, epsilon) = (5, 1e-4);
        let batch = one(&world.finetuning[m]);
        let at = |epsilon: f64| {
            let extra = Some((&batch, epsilon));
            let model = finetune(&world.finetuning, extra, &world.pretrained, &world.finetuned, role, false);
            values(&model, &world.queries)
        };
        let wanted: Vec<f64> = at(epsilon).iter().zip(at(-epsilon)).map(|(x, y)| (x - y) / (2.0 * epsilon)).collect();
        let n = world.finetuning.len();
        let found: Vec<f64> = (0..world.queries.len()).map(|q| scores[q * n + m]).collect();
        let error = common::relative_error(&found, &wanted);
        println!("{role:?}: {error:.1e}");
        assert!(error < 2e-5, "{role:?}: {error:e}");
    }
}

#[test]
fn a_firm_proximity_is_a_frozen_embedding_and_a_loose_one_forgets() {
    let frozen = World::new(Role::Frozen);
    let fixed = frozen.scores(&frozen.dense());
    // At the same models, so that the formulas alone differ.
    let near = |rho: f64| {
        let world = World { role: Role::Near { rho }, ..World::new(Role::Frozen) };
        world.scores(&world.dense())
    };
    let errors = [1e2, 1e4, 1e6].map(|rho| common::relative_error(&near(rho), &fixed));
    println!("firm: {errors:?}");
    assert!(errors[2] < 1e-5 && errors[1] < errors[0] && errors[2] < errors[1], "{errors:?}");
    let size = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let loose = World::new(Role::Near { rho: 1e-3 });
    let shares = [1e-3, 1e-5, 1e-7].map(|rho| {
        let world = World { role: Role::Near { rho }, ..World::new(Role::Near { rho: 1e-3 }) };
        let queries = world.transformed(&solver(&loose, rho));
        size(&world.scores(&queries)) / size(&fixed)
    });
    println!("loose: {shares:?}");
    assert!(shares[2] < 1e-3 && shares[1] < shares[0] && shares[2] < shares[1], "{shares:?}");
}

/// The inverse at the models of a world with another ρ; a λ on all trained layers keeps it definite.
fn solver(world: &World, rho: f64) -> impl LinearOperator<F64> + use<> {
    let (batches, trained) = (batches(&world.finetuning), world.stages().trained(&world.finetuned));
    let h = problem(&batches, None, &[], Vec::new()).hessian(&trained);
    move |v: &[Matrix<f64>]| h.solve(trained.backend(), v, &[rho + LAMBDA, LAMBDA])
}

#[test]
fn a_fine_tuning_of_weight_zero_is_a_score_of_one_stage() {
    // The same model twice: nothing is learned in fine-tuning, so that all of f comes from pre-training.
    let world = World::new(Role::Near { rho: 0.2 });
    let pretrained = &world.pretrained;
    let queries = rows(6, 3, 11);
    let f = Measurement::LogLikelihood;
    let plain = Queries::prepare(pretrained, &queries, f, Preconditioner::Identity, Rank::Full, limits(64)).unwrap();
    let specs = pretrained.layers();
    let stages = Stages::new(specs, specs, |_| Role::Near { rho: 0.2 }).unwrap();
    let lambda = stages.lambda(&[0.0; 2]);
    let none = |v: &[Matrix<f64>]| -> etymon_curvature::Result<_> {
        Ok(v.iter().map(|_| ()).zip(pretrained.zero_direction()).map(|(_, zero)| zero).collect())
    };
    let damped = Damped { backend: pretrained.backend(), inner: &none, lambda: &lambda };
    let options = CgOptions { max_steps: 5, tolerance: 1e-14, held: 1000 };
    let inverse =
        |v: &[Matrix<f64>]| Ok(conjugate_gradients(pretrained.backend(), &damped, &[v], None, options)?.remove(0).x);
    let through = stages.transform((specs, pretrained), &plain, &inverse, &none, 2, || ()).unwrap();
    let two = world.scores(&through);
    let one = world.scores(&StageQueries { pretraining: plain, finetuning: through.finetuning });
    let error = common::relative_error(&two, &one);
    assert!(error < 1e-12, "{error:e}");
}

#[test]
fn conjugate_gradients_in_f64_and_f32_find_what_the_dense_solve_finds() {
    for role in CASES {
        let world = World::new(role);
        let dense = world.scores(&world.dense());
        let (batches, trained) = (batches(&world.finetuning), world.stages().trained(&world.finetuned));
        let lambda = world.lambda();
        let hessian = Hessian::new(&trained, &batches).unwrap();
        let damped = Damped { backend: trained.backend(), inner: &hessian, lambda: &lambda };
        let options = CgOptions { max_steps: 100, tolerance: 1e-9, held: 1000 };
        let inverse =
            |v: &[Matrix<f64>]| Ok(conjugate_gradients(trained.backend(), &damped, &[v], None, options)?.remove(0).x);
        let error = common::relative_error(&world.scores(&world.transformed(&inverse)), &dense);

        let single: Model<Cpu<f32>> = world.finetuned.to_backend(Cpu::<f32>::new()).unwrap();
        let few = world.stages().trained(&single);
        let backend = single.backend();
        let hessian = Hessian::new(&few, &batches).unwrap();
        let damped = Damped { backend, inner: &hessian, lambda: &lambda };
        let options = CgOptions { max_steps: 30, tolerance: 1e-4, held: 1000 };
        let inverse = |v: &[Matrix<f32>]| Ok(conjugate_gradients(backend, &damped, &[v], None, options)?.remove(0).x);
        let f = Measurement::LogLikelihood;
        let plain = Queries::prepare(&single, &world.queries, f, Preconditioner::Identity, Rank::Full, limits(64));
        let models = (world.pretrained.layers(), &single);
        let whole = Hessian::new(&single, &batches).unwrap();
        let through = world.stages().transform(models, &plain.unwrap(), &inverse, &whole, 2, || ()).unwrap();
        let to = world.pretrained.backend();
        let wide = StageQueries {
            pretraining: through.pretraining.to_backend(backend, to, world.pretrained.layers()).unwrap(),
            finetuning: through.finetuning.to_backend(backend, to, few.layers()).unwrap(),
        };
        let coarse = common::relative_error(&world.scores(&wide), &dense);
        println!("{role:?}: f64 {error:.1e}, f32 {coarse:.1e}");
        assert!(error < 1e-6 && coarse < 2e-2, "{role:?}: {error:e} {coarse:e}");
    }
}

#[test]
fn stages_that_share_nothing_or_train_nothing_are_refused() {
    let (three, two) = (new_model(3, 0), new_model(2, 0));
    let (pre, fine) = (three.layers(), two.layers());
    let problem = |role: fn(usize) -> Role| Stages::new(pre, fine, role).unwrap_err();
    assert!(matches!(problem(|_| Role::Free), AttributionError::StageWithout { .. }));
    // The head has another shape in pre-training.
    assert!(matches!(problem(|_| Role::Frozen), AttributionError::Stage { .. }));
    assert!(matches!(problem(|_| Role::Near { rho: 0.0 }), AttributionError::Stage { .. }));
    assert!(Stages::new(pre, pre, |_| Role::Frozen).is_err());
}
