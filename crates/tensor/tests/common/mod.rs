//! Random matrices, comparisons and finite differences for the tests.
#![allow(dead_code)]

use etymon_tensor::{Backend, Cpu, Matrix, Scalar, Segment, Shape};

pub const F64: Cpu<f64> = Cpu::new();
pub const F32: Cpu<f32> = Cpu::new();

/// A small generator (SplitMix64): the tests need reproducible numbers, not good ones.
pub struct Gen(pub u64);

impl Gen {
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub fn matrix<T: Scalar>(&mut self, rows: usize, cols: usize) -> Matrix<T> {
        let data: Vec<f64> = (0..rows * cols).map(|_| self.normal()).collect();
        of(rows, cols, &data)
    }

    pub fn ids(&mut self, n: usize, limit: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(limit) as u32).collect()
    }
}

pub fn of<T: Scalar>(rows: usize, cols: usize, data: &[f64]) -> Matrix<T> {
    Cpu::<T>::new().upload(Shape::new(rows, cols), data).unwrap()
}

/// The same numbers in another precision.
pub fn cast<A: Scalar, B: Scalar>(x: &Matrix<A>) -> Matrix<B> {
    Cpu::<B>::new().upload(x.shape(), x.as_slice()).unwrap()
}

pub fn at<T: Scalar>(x: &Matrix<T>, i: usize, j: usize) -> f64 {
    x.as_slice()[i * x.cols() + j].to_f64()
}

pub fn dot<T: Scalar>(x: &Matrix<T>, y: &Matrix<T>) -> f64 {
    x.as_slice().iter().zip(y.as_slice()).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

/// A plain matrix from a function of row and column.
pub fn table(rows: usize, cols: usize, f: impl Fn(usize, usize) -> f64) -> Matrix<f64> {
    let data: Vec<f64> = (0..rows * cols).map(|i| f(i / cols, i % cols)).collect();
    of(rows, cols, &data)
}

pub fn segment(start: usize, len: usize) -> Segment {
    Segment { start, len }
}

/// `‖got − want‖ ≤ tolerance · ‖want‖`, and equal shapes.
pub fn assert_close<A: Scalar, B: Scalar>(got: &Matrix<A>, want: &Matrix<B>, tolerance: f64) {
    assert_eq!(got.shape(), want.shape());
    let pairs = || got.as_slice().iter().zip(want.as_slice()).map(|(a, b)| (a.to_f64(), b.to_f64()));
    let error = pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let norm = pairs().map(|(_, b)| b * b).sum::<f64>().sqrt();
    assert!(error <= tolerance * norm + 1e-300, "relative error {:.3e} > {tolerance:.1e}", error / norm);
}

pub fn assert_numbers_close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_close(&of::<f64>(1, got.len(), got), &of::<f64>(1, want.len(), want), tolerance);
}

/// Compares ⟨gradient, v⟩ with a fourth-order central difference of `value` along a few random directions v.
pub fn assert_derivative(what: &str, value: impl Fn(&Matrix<f64>) -> f64, x: &Matrix<f64>, gradient: &Matrix<f64>) {
    assert_eq!(x.shape(), gradient.shape(), "{what}");
    let mut random = Gen(0xD1FF);
    let step = 1e-4;
    for _ in 0..3 {
        let v = random.matrix::<f64>(x.rows(), x.cols());
        let along = |t: f64| {
            let mut moved = x.clone();
            F64.axpy(t, &v, &mut moved).unwrap();
            value(&moved)
        };
        let numeric = (8.0 * (along(step) - along(-step)) - (along(2.0 * step) - along(-2.0 * step))) / (12.0 * step);
        let analytic = dot(gradient, &v);
        // A direction almost orthogonal to the gradient is measured against the typical derivative instead.
        let scale = analytic.abs().max(0.1 * dot(gradient, gradient).sqrt()).max(1e-9);
        let error = (numeric - analytic).abs() / scale;
        assert!(error < 1e-6, "{what}: finite difference {numeric}, gradient {analytic}, relative error {error:.2e}");
    }
}

/// Runs `work` in a pool of `threads` threads.
pub fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}
