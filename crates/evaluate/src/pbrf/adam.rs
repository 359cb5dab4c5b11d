//! Adam on a proximal objective: the plain reference.

use etymon_tensor::Backend;

use super::minimise::{Stop, norm, ratio};
use super::objective::{Point, Proximal};
use super::{Result, vectors};

/// `steps` steps from δ = 0. The objective is divided by `unit` = |ε|, so that Adam's own ε = 1e-8 is small against it.
pub(super) fn run<B: Backend>(
    of: &Proximal<B>,
    at: &mut impl FnMut(&[B::Tensor]) -> Result<Point<B>>,
    unit: f64,
    rate: f64,
    steps: u64,
) -> Result<Stop<B>> {
    let backend = of.base().backend();
    let mut delta = of.start();
    let (mut m, mut v) = (vectors::zeros_like(backend, &delta), vectors::zeros_like(backend, &delta));
    let (_, mut gradient) = at(&delta)?;
    let first = norm(of, &gradient)?;
    for step in 1..=steps {
        vectors::scale(backend, 1.0 / unit, &mut gradient);
        let part = (step - 1) as f64 / steps as f64;
        let rate = rate * 0.5 * (1.0 + (std::f64::consts::PI * part).cos());
        for (((delta, gradient), m), v) in delta.iter_mut().zip(&gradient).zip(&mut m).zip(&mut v) {
            backend.adamw_update(delta, gradient, m, v, rate, 0.9, 0.999, 1e-8, 0.0, step)?;
        }
        gradient = at(&delta)?.1;
    }
    Ok(Stop { residual: ratio(norm(of, &gradient)?, first), delta, evaluations: steps + 1 })
}
