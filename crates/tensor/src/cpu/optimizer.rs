//! The updates of the optimizers: one pass over memory each.

use super::check;
use super::matrix::Matrix;
use super::parallel::dispatch;
use super::scalar::Scalar;
use crate::Result;
use rayon::prelude::*;

/// Elements per task.
const BLOCK: usize = 1 << 14;

/// One block of each operand of AdamW, and its constants.
struct AdamW<'a, T> {
    param: &'a mut [T],
    m: &'a mut [T],
    v: &'a mut [T],
    grad: &'a [T],
    keep: T,
    beta1: T,
    beta2: T,
    /// 1 − β₁.
    rest1: T,
    /// 1 − β₂.
    rest2: T,
    /// lr / (1 − β₁ᵗ).
    rate: T,
    /// 1 / √(1 − β₂ᵗ).
    correction: T,
    eps: T,
}

impl<T: Scalar> pulp::NullaryFnOnce for AdamW<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let moments = self.m.iter_mut().zip(self.v.iter_mut());
        for ((p, &g), (m, v)) in self.param.iter_mut().zip(self.grad).zip(moments) {
            *m = self.beta1.mul_add(*m, self.rest1 * g);
            *v = self.beta2.mul_add(*v, self.rest2 * (g * g));
            let denominator = v.sqrt().mul_add(self.correction, self.eps);
            *p = self.keep * *p - self.rate * (*m / denominator);
        }
    }
}

pub(crate) fn adamw_update<T: Scalar>(
    param: &mut Matrix<T>,
    grad: &Matrix<T>,
    m: &mut Matrix<T>,
    v: &mut Matrix<T>,
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    step: u64,
) -> Result<()> {
    check::same("adamw_update", "grad", grad, param)?;
    check::same("adamw_update", "m", m, param)?;
    check::same("adamw_update", "v", v, param)?;
    let power = |beta: f64| beta.powf(step as f64);
    let (keep, rate) = (T::of_f64(1.0 - lr * weight_decay), T::of_f64(lr / (1.0 - power(beta1))));
    let correction = T::of_f64(1.0 / (1.0 - power(beta2)).sqrt());
    let (rest1, rest2) = (T::of_f64(1.0 - beta1), T::of_f64(1.0 - beta2));
    let (beta1, beta2, eps) = (T::of_f64(beta1), T::of_f64(beta2), T::of_f64(eps));
    let moments = m.as_mut_slice().par_chunks_mut(BLOCK).zip(v.as_mut_slice().par_chunks_mut(BLOCK));
    let blocks = param.as_mut_slice().par_chunks_mut(BLOCK).zip(grad.as_slice().par_chunks(BLOCK)).zip(moments);
    blocks.for_each(|((param, grad), (m, v))| {
        dispatch(AdamW { param, m, v, grad, keep, beta1, beta2, rest1, rest2, rate, correction, eps });
    });
    Ok(())
}

/// One block of each operand of SGD, and its constants.
struct Sgd<'a, T> {
    param: &'a mut [T],
    velocity: &'a mut [T],
    grad: &'a [T],
    lr: T,
    momentum: T,
    weight_decay: T,
}

impl<T: Scalar> pulp::NullaryFnOnce for Sgd<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((p, v), &g) in self.param.iter_mut().zip(self.velocity.iter_mut()).zip(self.grad) {
            *v = self.momentum.mul_add(*v, self.weight_decay.mul_add(*p, g));
            *p = (-self.lr).mul_add(*v, *p);
        }
    }
}

pub(crate) fn sgd_update<T: Scalar>(
    param: &mut Matrix<T>,
    grad: &Matrix<T>,
    velocity: &mut Matrix<T>,
    lr: f64,
    momentum: f64,
    weight_decay: f64,
) -> Result<()> {
    check::same("sgd_update", "grad", grad, param)?;
    check::same("sgd_update", "velocity", velocity, param)?;
    let (lr, momentum, weight_decay) = (T::of_f64(lr), T::of_f64(momentum), T::of_f64(weight_decay));
    let blocks = param.as_mut_slice().par_chunks_mut(BLOCK).zip(velocity.as_mut_slice().par_chunks_mut(BLOCK));
    blocks.zip(grad.as_slice().par_chunks(BLOCK)).for_each(|((param, velocity), grad)| {
        dispatch(Sgd { param, velocity, grad, lr, momentum, weight_decay });
    });
    Ok(())
}
