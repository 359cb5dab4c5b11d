//! Group influence against really solving for the optimum without the group: logistic regression in f64.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use common::limits;
use etymon_attribution::{GroupInfluence, Queries, Rank, group_influence};
use etymon_curvature::Preconditioner;
use etymon_curvature::inverse::{Dense, GaussNewton};
use etymon_data::{Batch, Content, Example, ExampleIndex, Padding, Target};
use etymon_model::{Consumer, Measurement, Model, Objective};
use etymon_tensor::{Backend, Cpu, Shape};
use serde_json::json;

type Work = Cpu<f64>;
type Direction = Vec<<Work as Backend>::Tensor>;

const N: usize = 60;
const LAMBDA: f64 = 0.02;

fn example(i: usize, values: Vec<f32>, class: u32) -> Example {
    Example {
        index: ExampleIndex(i as u64),
        id: i.to_string(),
        content: Content::Features { values, target: Target::Class(class) },
        text: String::new(),
        metadata: serde_json::Map::new(),
    }
}

/// Three overlapping classes in four dimensions; the last 12 rows are almost the same.
fn rows() -> Vec<Example> {
    let value = |i: usize, j: usize| ((i * 37 + j * 101 + i * i * 13 + i * j * 7) % 97) as f32 / 48.0 - 1.0;
    let row = |i: usize| {
        let same = i >= N - 12;
        let x = |j: usize| if same { value(5, j) + 0.01 * value(i, j) } else { value(i, j) };
        let class = if same { 0 } else { (i % 3) as u32 };
        let shift = |j: usize| if !same && j == class as usize { 0.7 } else { 0.0 };
        example(i, (0..4).map(|j| x(j) + shift(j)).collect(), class)
    };
    (0..N).map(row).collect()
}

/// The optimum of (1/N) Σ_i L_i + (λ/2)‖θ‖² over the rows given, by Newton's method: Gauss-Newton is exact here.
fn optimum(rows: &[Example]) -> Model<Work> {
    let config = json!({"model_type": "mlp", "sizes": [4, 3], "activation": "tanh", "task": "classification"});
    let mut model = Model::new(Work::new(), config, 0).unwrap();
    let backend = Work::new();
    let (w, b) = (model.params().iter().next().unwrap().clone(), model.params().iter().nth(1).unwrap().clone());
    assert_eq!((backend.shape(&w), backend.shape(&b)), (Shape::new(3, 4), Shape::new(1, 3)));
    let batch = Batch::stack(rows, Padding::None).unwrap();
    for _ in 0..30 {
        let mut sums = model.params().zeros_like(&backend);
        model.run(&batch, Objective::TrainLoss, Consumer::Gradients(&mut sums)).unwrap();
        let gradient: Vec<Vec<f64>> = sums
            .iter()
            .zip(model.params().iter())
            .map(|(g, p)| {
                let (g, p) = (backend.download::<f64>(g), backend.download::<f64>(p));
                g.iter().zip(p.iter()).map(|(g, p)| g / N as f64 + LAMBDA * p).collect()
            })
            .collect();
        let joined: Vec<f64> = (0..3)
            .flat_map(|o| (0..5).map(move |i| (o, i)))
            .map(|(o, i)| if i < 4 { gradient[0][o * 4 + i] } else { gradient[1][o] })
            .collect();
        let part = rows.len() as f64 / N as f64;
        let dense = dense(&model, &batch, part);
        let v = vec![backend.upload(Shape::new(3, 5), &joined).unwrap()];
        let step = backend.download::<f64>(&dense.solve(&backend, &v, &[LAMBDA]).unwrap()[0]);
        for (index, tensor) in model.params_mut().iter_mut().enumerate() {
            let delta: Vec<f64> = match index {
                0 => (0..12).map(|at| step[at / 4 * 5 + at % 4]).collect(),
                _ => (0..3).map(|o| step[o * 5 + 4]).collect(),
            };
            backend.axpy(-1.0, &backend.upload(backend.shape(tensor), &delta).unwrap(), tensor).unwrap();
        }
    }
    model
}

/// `part` · G of a batch.
fn dense(model: &Model<Work>, batch: &Batch, part: f64) -> Dense {
    let batches = [batch.clone()];
    let g = GaussNewton::new(model, &batches);
    let scaled = |v: &[<Work as Backend>::Tensor]| -> etymon_curvature::Result<Direction> {
        let mut out = etymon_curvature::inverse::LinearOperator::apply(&g, v)?;
        out.iter_mut().for_each(|x| model.backend().scale(part, x));
        Ok(out)
    };
    Dense::new(model.backend(), &scaled, &model.zero_direction()).unwrap()
}

fn values(model: &Model<Work>, queries: &[Example]) -> Vec<f64> {
    let objective = Objective::Measurement(Measurement::LogLikelihood);
    let batch = Batch::stack(queries, Padding::None).unwrap();
    model.run(&batch, objective, Consumer::Values).unwrap().into_vec()
}

/// Errors of first and second order over all queries, relative to the real change.
fn errors(group: &[usize]) -> (f64, f64) {
    let (all, queries) = (rows(), rows()[..20].to_vec());
    let model = optimum(&all);
    let g = dense(&model, &Batch::stack(&all, Padding::None).unwrap(), 1.0);
    let inverse = |v: &[<Work as Backend>::Tensor]| g.solve(model.backend(), v, &[LAMBDA]);
    let of = Queries::prepare(
        &model,
        &queries,
        Measurement::LogLikelihood,
        Preconditioner::Identity,
        Rank::Full,
        limits(64),
    );
    let prepared = of.unwrap().precondition(&model, &inverse, (Rank::Full, 1), |_| ()).unwrap();
    let members: Vec<Example> = group.iter().map(|&i| all[i].clone()).collect();
    let batches: Vec<Batch> = members.chunks(7).map(|part| Batch::stack(part, Padding::None).unwrap()).collect();
    let estimates: Vec<GroupInfluence> = group_influence(&model, &prepared, &batches, &inverse, N).unwrap();
    let rest: Vec<Example> = (0..N).filter(|i| !group.contains(i)).map(|i| all[i].clone()).collect();
    let (before, after) = (values(&model, &queries), values(&optimum(&rest), &queries));
    let (mut first, mut second, mut size) = (0.0, 0.0, 0.0);
    for ((estimate, before), after) in estimates.iter().zip(before).zip(after) {
        let change = after - before;
        first += (change + estimate.first / N as f64).powi(2);
        second += (change + estimate.second / N as f64).powi(2);
        size += change * change;
    }
    ((first / size).sqrt(), (second / size).sqrt())
}

#[test]
fn second_order_is_closer_to_leaving_the_group_out_than_first_order() {
    let near_duplicates: Vec<usize> = (N - 12..N).collect();
    let third: Vec<usize> = (0..N).step_by(3).collect();
    let mixed: Vec<usize> = (0..N).filter(|i| i % 5 < 2).collect();
    for (name, group) in [("near duplicates", near_duplicates), ("a class", third), ("a mixed 40 %", mixed)] {
        let (first, second) = errors(&group);
        println!("{name}: relative error {first:.3} first, {second:.3} second order");
        assert!(second < first, "{name}: {second} is not below {first}");
    }
}

#[test]
fn both_orders_meet_for_one_example() {
    let (first, second) = errors(&[4]);
    println!("one example: relative error {first:.4} first, {second:.4} second order");
    assert!(second < first && first < 0.2, "{first} {second}");
}
