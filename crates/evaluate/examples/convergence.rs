//! How fast the solvers of (G + λI) x = v come to the exact solution, in products with G over the data:
//!
//! `cargo run --release -p etymon-evaluate --example convergence -- MODEL FACTORS DATA QUERIES LAYERS N_QUERIES MOST OUT.svg`
//!
//! MODEL, FACTORS (of `etymon fit`, with the same `--layers LAYERS`), DATA and QUERIES are those of `etymon score`; the first
//! N_QUERIES are solved, with at most MOST products each. All is computed in f64. The reference is a dense solve where the
//! weights are few enough for one; else conjugate gradients from EK-FAC on until ‖v − (G + λI) x‖ ≤ 1e-5 λ ‖x‖, which bounds
//! ‖x − x*‖ / ‖x‖ by 1e-5. Printed are tables for docs/convergence.md; OUT.svg gets the curves.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};

use etymon_curvature::inverse::{
    CgOptions, ConjugateGradients, Damped, Dense, EkfacInverse, GaussNewton, LinearOperator, Solver, Way,
};
use etymon_curvature::{Damping, Factors, Preconditioner, Spectrum};
use etymon_data::{Batch, Corpus, CorpusOptions, Example, Padding};
use etymon_evaluate::plot::{Series, log_panels};
use etymon_model::{Measurement, Model, Objective, load};
use etymon_tensor::{Backend, Cpu, Matrix};

type F64 = Cpu<f64>;
type Direction = Vec<Matrix<f64>>;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// λ over tr(G) / p.
const DAMPINGS: [f64; 4] = [0.1, 0.01, 1e-3, 1e-4];
/// Examples of a step of the stochastic series, and independent runs that are averaged: those of `etymon score`.
const STEP: usize = 64;
const REPEATS: usize = 2;
/// The ratio of the numbers of products at which methods are tried that are run anew for each.
const GRID: f64 = 1.5;
/// The bound on the reference's own error where it is no dense solve.
const CERTAIN: f64 = 1e-5;

struct Task {
    model: Model<F64>,
    batches: Vec<Batch>,
    factors: Factors,
    queries: Vec<Direction>,
    dense: Option<Dense>,
    /// Most products for one query.
    most: usize,
}

/// Products for one query, and the median over queries of ‖x − x*‖ / ‖x*‖.
type Curve = Vec<(f64, f64)>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, factors, data, queries, layers, n_queries, most, out] = &args[..] else {
        return Err("give MODEL FACTORS DATA QUERIES LAYERS N_QUERIES MOST OUT.svg".into());
    };
    let task = Task::open([model, factors, data, queries], layers, (n_queries.parse()?, most.parse()?))?;
    let mean = task.mean_eigenvalue()?;
    println!("{} weights, {} examples, tr(G)/p = {mean:.3e}", task.model.n_tapped(), task.g().n_examples());
    println!("| λ / (tr(G)/p) | method | error of EK-FAC alone | products to 0.1 | to 0.01 | least error | at |");
    println!("|---|---|---|---|---|---|---|");
    let mut panels = Vec::new();
    for relative in DAMPINGS {
        let curves = task.curves(relative * mean)?;
        let start = curves[1].1.first().map_or(f64::NAN, |point| point.1);
        for (name, curve) in &curves {
            let to = |error| curve.iter().find(|p| p.1 <= error).map_or("–".to_owned(), |p| format!("{:.0}", p.0));
            let least = curve.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0.0, f64::NAN));
            let figures = format!("{start:.2} | {} | {} | {:.1e} | {:.0}", to(0.1), to(0.01), least.1, least.0);
            println!("| {relative} | {name} | {figures} |");
        }
        let series = curves.into_iter().map(|(name, points)| Series { name: name.to_owned(), points }).collect();
        panels.push((format!("λ = {relative} tr(G)/p"), series));
    }
    let axes = ("products with G over the data", "relative error of x");
    std::fs::write(out, log_panels("Solvers of (G + λI) x = v", axes, &panels)?)?;
    Ok(())
}

impl Task {
    fn open([model, factors, data, queries]: [&str; 4], layers: &str, (n, most): (usize, usize)) -> Result<Self> {
        let mut model = load(F64::new(), Path::new(model))?;
        model.select_layers(Some(layers))?;
        let factors = Factors::open(Path::new(factors), model.layers())?;
        let read = |path: &str| Corpus::open(&[PathBuf::from(path)], None, CorpusOptions::default())?.read_all();
        let stack = |examples: &[Example]| Batch::stack(examples, Padding::None);
        let batches = read(data)?.chunks(STEP).map(stack).collect::<std::result::Result<_, _>>()?;
        let gradient = |query: &Example| {
            let mut v = model.zero_direction();
            let batch = stack(std::slice::from_ref(query))?;
            model.add_gradient(&batch, Objective::Measurement(Measurement::LogLikelihood), &mut v)?;
            Ok(v)
        };
        let queries = read(queries)?.iter().take(n).map(gradient).collect::<Result<_>>()?;
        let mut task = Self { model, batches, factors, queries, dense: None, most };
        if Dense::check(task.model.n_tapped()).is_ok() {
            task.dense = Some(Dense::new(task.model.backend(), &task.g(), &task.model.zero_direction())?);
        }
        Ok(task)
    }

    fn g(&self) -> GaussNewton<'_, F64> {
        GaussNewton::new(&self.model, &self.batches)
    }

    fn ekfac(&self, damping: Damping) -> Result<EkfacInverse<'_, F64>> {
        let (factors, spectrum) = (&self.factors, Spectrum::Corrected);
        let damped = Preconditioner::Kronecker { factors, spectrum, damping };
        let ekfac = EkfacInverse::new(self.model.backend(), damped, self.model.layers().len())?;
        ekfac.ok_or_else(|| "the factors are of no layer".into())
    }

    /// tr(G) / p, as EK-FAC's draws of labels estimate it.
    fn mean_eigenvalue(&self) -> Result<f64> {
        let means = self.ekfac(Damping::MeanEigenvalue(1.0))?.lambda();
        let sums = means.iter().zip(self.model.layers()).map(|(mean, s)| mean * (s.d_out * s.d_in) as f64);
        Ok(sums.sum::<f64>() / self.model.n_tapped() as f64)
    }

    fn views(&self) -> Vec<&[Matrix<f64>]> {
        self.queries.iter().map(Vec::as_slice).collect()
    }

    fn curves(&self, lambda: f64) -> Result<Vec<(&'static str, Curve)>> {
        let all = vec![lambda; self.model.layers().len()];
        let wanted = self.reference(&all)?;
        Ok(vec![
            ("cg", self.cg(&all, None, &wanted)?),
            ("ekfac-cg", self.cg(&all, Some(&self.ekfac(Damping::Absolute(lambda))?), &wanted)?),
            ("arnoldi", self.grid(&all, "arnoldi", &wanted)?),
            ("astra", self.grid(&all, "astra", &wanted)?),
            ("lissa", self.grid(&all, "lissa", &wanted)?),
        ])
    }

    fn reference(&self, lambda: &[f64]) -> Result<Vec<Direction>> {
        let backend = self.model.backend();
        if let Some(dense) = &self.dense {
            let inverse = dense.clone().inverse(lambda)?;
            return Ok(self
                .queries
                .iter()
                .map(|v| inverse.solve(backend, v))
                .collect::<std::result::Result<_, _>>()?);
        }
        let (g, ekfac) = (self.g(), self.ekfac(Damping::Absolute(lambda[0]))?);
        let damped = Damped { backend, inner: &g, lambda };
        let options = CgOptions { max_steps: 10_000, tolerance: 0.0 };
        let mut cg = ConjugateGradients::new(backend, &damped, &self.views(), Some(&ekfac), options)?;
        let bound = |(solution, v): (&etymon_curvature::inverse::Solution<_>, &Direction)| {
            solution.residual() * size(backend, v) / (lambda[0] * size(backend, &solution.x))
        };
        while cg.solutions().zip(&self.queries).any(|pair| bound(pair) > CERTAIN) && cg.step()? {}
        Ok(cg.finish().into_iter().map(|solution| solution.x).collect())
    }

    /// The curve of conjugate gradients, one point for each product.
    fn cg(&self, lambda: &[f64], ekfac: Option<&EkfacInverse<'_, F64>>, wanted: &[Direction]) -> Result<Curve> {
        let (backend, g) = (self.model.backend(), self.g());
        let damped = Damped { backend, inner: &g, lambda };
        let options = CgOptions { max_steps: self.most, tolerance: 1e-10 };
        let ekfac = ekfac.map(|p| p as &dyn LinearOperator<F64>);
        let mut cg = ConjugateGradients::new(backend, &damped, &self.views(), ekfac, options)?;
        let mut curve = Vec::new();
        loop {
            let products = cg.solutions().map(|s| s.products).fold(0.0, f64::max);
            let error = median(cg.solutions().zip(wanted).map(|(s, w)| error(backend, &s.x, w)));
            if products > 0.0 {
                curve.push((products, error));
            }
            if error < 1e-4 || !cg.step()? {
                return Ok(curve);
            }
        }
    }

    /// The curve of a method that is run anew for each number of steps.
    fn grid(&self, lambda: &[f64], method: &str, wanted: &[Direction]) -> Result<Curve> {
        let (backend, n) = (self.model.backend(), self.g().n_examples());
        let mut curve = Vec::new();
        let mut products = 5.0;
        while products <= self.most as f64 {
            let steps = (products * n as f64 / (STEP.min(n) * REPEATS) as f64) as usize;
            let way = match method {
                "arnoldi" => Way::Lanczos { steps: products as usize, rank: products as usize, seed: 0 },
                _ => Way::Neumann { steps, repeats: REPEATS, seed: 0 },
            };
            let ekfac = if method == "astra" { Some(self.ekfac(Damping::Absolute(lambda[0]))?) } else { None };
            let solver = Solver::new(self.g(), lambda.to_vec(), ekfac, way)?;
            let shared = solver.products();
            let found = solver.apply_all(&self.views())?;
            let own = solver.take_solved().first().map_or(0.0, |solved| solved.products);
            curve.push((shared + own, median(found.iter().zip(wanted).map(|(x, w)| error(backend, x, w)))));
            products = (GRID * products).round();
        }
        Ok(curve)
    }
}

fn size(backend: &F64, x: &Direction) -> f64 {
    x.iter().map(|x| backend.dot(x, x).unwrap_or(f64::NAN)).sum::<f64>().sqrt()
}

/// ‖x − x*‖ / ‖x*‖.
fn error(backend: &F64, x: &Direction, wanted: &Direction) -> f64 {
    let mut rest = x.clone();
    for (rest, wanted) in rest.iter_mut().zip(wanted) {
        if backend.axpy(-1.0, wanted, rest).is_err() {
            return f64::NAN;
        }
    }
    size(backend, &rest) / size(backend, wanted)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { 0.5 * (values[half - 1] + values[half]) }
}
