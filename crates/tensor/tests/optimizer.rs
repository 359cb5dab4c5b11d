//! The updates of the optimizers against plain loops in f64.
#![allow(clippy::unwrap_used)]

use etymon_tensor::{Backend, Cpu, Shape};

const SHAPE: Shape = Shape::new(7, 5000);

/// Deterministic numbers on (−1, 1).
fn numbers(seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..SHAPE.len()).map(|_| next()).collect()
}

/// The largest difference between `got` and `expected`.
fn distance(got: &[f64], expected: &[f64]) -> f64 {
    got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn adamw_after_three_steps<B: Backend>(backend: &B) -> Vec<f64> {
    let mut param = backend.upload(SHAPE, &numbers(1)).unwrap();
    let (mut m, mut v) = (backend.zeros(SHAPE), backend.zeros(SHAPE));
    for step in 1..=3 {
        let grad = backend.upload(SHAPE, &numbers(1 + step)).unwrap();
        backend.adamw_update(&mut param, &grad, &mut m, &mut v, 0.01, 0.9, 0.99, 1e-8, 0.1, step).unwrap();
    }
    backend.download(&param).into_vec()
}

fn adamw_ref() -> Vec<f64> {
    let mut param = numbers(1);
    let (mut m, mut v) = (vec![0.0; SHAPE.len()], vec![0.0; SHAPE.len()]);
    for step in 1..=3 {
        for (i, g) in numbers(1 + step as u64).into_iter().enumerate() {
            param[i] *= 1.0 - 0.01 * 0.1;
            m[i] = 0.9 * m[i] + (1.0 - 0.9) * g;
            v[i] = 0.99 * v[i] + (1.0 - 0.99) * g * g;
            let (m_hat, v_hat): (f64, f64) = (m[i] / (1.0 - 0.9f64.powi(step)), v[i] / (1.0 - 0.99f64.powi(step)));
            param[i] -= 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
        }
    }
    param
}

fn sgd_after_three_steps<B: Backend>(backend: &B) -> Vec<f64> {
    let mut param = backend.upload(SHAPE, &numbers(1)).unwrap();
    let mut velocity = backend.zeros(SHAPE);
    for step in 1..=3 {
        let grad = backend.upload(SHAPE, &numbers(1 + step)).unwrap();
        backend.sgd_update(&mut param, &grad, &mut velocity, 0.05, 0.9, 0.001).unwrap();
    }
    backend.download(&param).into_vec()
}

fn sgd_ref() -> Vec<f64> {
    let mut param = numbers(1);
    let mut velocity = vec![0.0; SHAPE.len()];
    for step in 1..=3 {
        for (i, g) in numbers(1 + step).into_iter().enumerate() {
            velocity[i] = 0.9 * velocity[i] + (g + 0.001 * param[i]);
            param[i] -= 0.05 * velocity[i];
        }
    }
    param
}

#[test]
fn adamw_follows_the_plain_loop() {
    assert!(distance(&adamw_after_three_steps(&Cpu::<f64>::new()), &adamw_ref()) < 1e-14);
    assert!(distance(&adamw_after_three_steps(&Cpu::<f32>::new()), &adamw_ref()) < 1e-6);
}

#[test]
fn sgd_follows_the_plain_loop() {
    assert!(distance(&sgd_after_three_steps(&Cpu::<f64>::new()), &sgd_ref()) < 1e-14);
    assert!(distance(&sgd_after_three_steps(&Cpu::<f32>::new()), &sgd_ref()) < 1e-6);
}

#[test]
fn updates_refuse_operands_of_another_shape() {
    let backend = Cpu::<f32>::new();
    let (mut a, mut b, mut c) = (backend.zeros(SHAPE), backend.zeros(SHAPE), backend.zeros(SHAPE));
    let wrong = backend.zeros(Shape::new(SHAPE.cols, SHAPE.rows));
    let error = backend.sgd_update(&mut a, &wrong, &mut b, 0.1, 0.9, 0.0).unwrap_err();
    assert!(error.to_string().contains("`grad`"), "{error}");
    let error = backend.adamw_update(&mut a, &wrong, &mut b, &mut c, 0.1, 0.9, 0.99, 1e-8, 0.0, 1).unwrap_err();
    assert!(error.to_string().contains("`grad`"), "{error}");
}
