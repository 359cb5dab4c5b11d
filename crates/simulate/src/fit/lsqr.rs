//! LSQR (Paige and Saunders 1982): least squares with damping by products with X and Xᵀ.

use super::operator::Operator;

/// Where the iteration stops: the norm of the gradient, relative to its first one.
const TOLERANCE: f64 = 1e-12;
/// Most iterations, per unknown.
const MOST: usize = 20;

/// argmin ‖Xθ − y‖² + λ‖θ‖², by Golub-Kahan bidiagonalisation of X started at y and rotations that take the damping in.
pub(crate) fn lsqr(x: &Operator<'_>, y: &[f64], lambda: f64) -> Vec<f64> {
    let damp = lambda.sqrt();
    let mut u = y.to_vec();
    let mut beta = normalise(&mut u);
    let mut v = x.adjoint(&u);
    let mut alpha = normalise(&mut v);
    let mut theta = vec![0.0; v.len()];
    let first = alpha * beta;
    if first == 0.0 {
        return theta;
    }
    let mut w = v.clone();
    let (mut phi_bar, mut rho_bar) = (beta, alpha);
    for _ in 0..MOST * theta.len().max(y.len()) {
        step(&mut u, &x.apply(&v), alpha);
        beta = normalise(&mut u);
        step(&mut v, &x.adjoint(&u), beta);
        alpha = normalise(&mut v);

        let damped = rho_bar.hypot(damp);
        phi_bar *= rho_bar / damped;
        let rho = damped.hypot(beta);
        let (c, s) = (damped / rho, beta / rho);
        let along = s * alpha;
        let phi = c * phi_bar;
        rho_bar = -c * alpha;
        phi_bar *= s;
        for ((theta, w), v) in theta.iter_mut().zip(&mut w).zip(&v) {
            *theta += phi / rho * *w;
            *w = v - along / rho * *w;
        }
        // ‖Xᵀ(y − Xθ) − λθ‖.
        if phi_bar.abs() * alpha * c.abs() <= TOLERANCE * first {
            break;
        }
    }
    theta
}

/// `to` ← `product` − `factor` · `to`.
fn step(to: &mut [f64], product: &[f64], factor: f64) {
    to.iter_mut().zip(product).for_each(|(to, product)| *to = product - factor * *to);
}

/// Divides by the norm, and returns it; 0 stays.
fn normalise(x: &mut [f64]) -> f64 {
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm > 0.0 {
        x.iter_mut().for_each(|x| *x /= norm);
    }
    norm
}
