//! How fast the solvers of (G + λI) x = v come to the exact solution, in products with G over the data:
//!
//! `cargo run --release -p etymon-evaluate --example convergence --
//! MODEL FACTORS DATA QUERIES LAYERS N_QUERIES MOST OUT.svg [λ…] [METHOD…]`
//!
//! MODEL, FACTORS (of `etymon fit`, with the same `--layers LAYERS`), DATA and QUERIES are those of `etymon score`. The first
//! N_QUERIES are solved at once, with at most MOST products each, at every λ (in parts of tr(G)/p) and by every METHOD named, or all;
//! `…-next` are as many queries after them, by what was learnt of them; `…-alone` and the methods that are run anew for each number
//! of products are of the first three, each solved alone. All is computed in f64. The reference is a dense solve where the weights
//! are few enough for one; else conjugate gradients until ‖v − (G + λI) x‖ ≤ 1e-3 λ ‖x‖, which bounds ‖x − x*‖ / ‖x‖ by 1e-3. Two
//! errors are followed: of x, and of what is wanted of it, the scores xᵀ∇L(z_i) of all rows of DATA. Printed are tables for
//! docs/convergence.md; OUT.svg gets the curves.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;

use etymon_curvature::inverse::{
    CgOptions, ConjugateDirections, ConjugateGradients, Damped, Dense, EkfacInverse, GaussNewton, LinearOperator,
    Solution, Solver, Way,
};
use etymon_curvature::{Damping, Factors, Preconditioner, Spectrum};
use etymon_data::{Batch, Corpus, CorpusOptions, Encoder, Example, Padding};
use etymon_evaluate::plot::{Series, log_panels};
use etymon_model::{Measurement, Model, Objective, load, tokenizer_json};
use etymon_tensor::{Backend, Cpu, Matrix};

type F64 = Cpu<f64>;
type Direction = Vec<Matrix<f64>>;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// λ over tr(G) / p, where none is given.
const DAMPINGS: [f64; 4] = [0.1, 0.01, 1e-3, 1e-4];
/// The damping of the preconditioner of [`Solver`], over λ.
const OF_SOLVER: f64 = 100.0;
/// Beside these, `ekfac-cg-K` with any K, preconditioned by EK-FAC with a damping of K λ (`ekfac-cg` is that of [`Solver`]), and
/// `-alone` or `-next` after any of them; `astra-plain` is ASTRA without EK-FAC. Alone, conjugate gradients hold no direction but the last, as in the textbook.
const METHODS: [&str; 9] =
    ["cg-alone", "ekfac-cg-alone", "cg", "ekfac-cg", "ekfac-cg-next", "arnoldi", "astra", "astra-plain", "lissa"];
/// Queries that are solved alone.
const FEW: usize = 3;
/// Most conjugate directions that are held, and the residual that ends the solve of the queries before `-next`: those of `etymon score`.
const HELD: usize = 1000;
const TOLERANCE: f64 = 1e-3;
/// Examples of a step of the stochastic series, and independent runs of LiSSA that are averaged: those of `etymon score`.
const STEP: usize = 64;
const REPEATS: usize = 2;
/// The ratio of the numbers of products at which methods are tried that are run anew for each.
const GRID: f64 = 1.5;
/// The bound on the reference's own error where it is no dense solve.
const CERTAIN: f64 = 1e-3;

struct Task {
    model: Model<F64>,
    batches: Vec<Batch>,
    factors: Factors,
    /// Those that are solved, and those after them.
    queries: Vec<Direction>,
    next: Vec<Direction>,
    /// ∇L of each example.
    gradients: Vec<Direction>,
    dense: Option<Dense>,
    /// Most products for one query.
    most: usize,
}

/// An exact solution, and its scores of all examples.
struct Wanted {
    x: Direction,
    scores: Vec<f64>,
}

/// Medians over queries of ‖x − x*‖ / ‖x*‖, and of the same of the scores.
#[derive(Clone, Copy)]
struct Errors {
    x: f64,
    scores: f64,
}

/// Products for one query, and the errors then.
type Curve = Vec<(f64, Errors)>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, factors, data, queries, layers, n_queries, most, out, which @ ..] = &args[..] else {
        return Err("give MODEL FACTORS DATA QUERIES LAYERS N_QUERIES MOST OUT.svg [λ/(tr(G)/p)…] [METHOD…]".into());
    };
    let (dampings, methods) = wanted(which)?;
    let task = Task::open([model, factors, data, queries], layers, (n_queries.parse()?, most.parse()?))?;
    let mean = task.mean_eigenvalue()?;
    println!("{} weights, {} examples, tr(G)/p = {mean:.3e}", task.model.n_tapped(), task.g().n_examples());
    println!(
        "| λ / (tr(G)/p) | method | products to 0.1 of x | to 0.01 | to 0.1 of the scores | to 0.01 | least errors | at |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (mut of_x, mut of_scores) = (Vec::new(), Vec::new());
    for relative in dampings {
        let (alone, curves) = task.curves(relative * mean, &methods)?;
        println!("| {relative} | ekfac alone | | | | | {:.1e}, {:.1e} | 0 |", alone.x, alone.scores);
        curves.iter().for_each(|(name, curve)| println!("| {relative} | {name} | {} |", figures(curve)));
        let series = |of: fn(&Errors) -> f64| -> Vec<Series> {
            // The axis is logarithmic.
            let points =
                |curve: &Curve| curve.iter().filter(|(n, _)| *n > 0.0).map(|(n, errors)| (*n, of(errors))).collect();
            curves.iter().map(|(name, curve)| Series { name: (*name).to_owned(), points: points(curve) }).collect()
        };
        of_x.push((format!("x, λ = {relative} tr(G)/p"), series(|e| e.x)));
        of_scores.push((format!("scores, λ = {relative} tr(G)/p"), series(|e| e.scores)));
    }
    let panels: Vec<_> = of_x.into_iter().zip(of_scores).flat_map(|(x, scores)| [x, scores]).collect();
    let axes = ("products with G over the data", "relative error");
    std::fs::write(out, log_panels("Solvers of (G + λI) x = v", axes, &panels)?)?;
    Ok(())
}

/// The dampings and methods that are asked for.
fn wanted(which: &[String]) -> Result<(Vec<f64>, Vec<&str>)> {
    let (mut dampings, mut methods) = (Vec::new(), Vec::new());
    for name in which {
        match name.parse() {
            Ok(damping) => dampings.push(damping),
            Err(_) if METHODS.contains(&name.as_str()) || conjugate(name).is_some() => methods.push(name.as_str()),
            Err(_) => return Err(format!("{name} is neither a λ nor one of {}", METHODS.join(", ")).into()),
        }
    }
    let all = |methods: Vec<_>| if methods.is_empty() { METHODS.to_vec() } else { methods };
    Ok((if dampings.is_empty() { DAMPINGS.to_vec() } else { dampings }, all(methods)))
}

/// How conjugate gradients are run.
#[derive(Clone, Copy, PartialEq)]
enum Run {
    Together,
    Alone,
    Next,
}

/// The run of a method of conjugate gradients, and K of `ekfac-cg` and `ekfac-cg-K`.
fn conjugate(method: &str) -> Option<(Run, Option<f64>)> {
    let (name, run) = match (method.strip_suffix("-alone"), method.strip_suffix("-next")) {
        (Some(name), _) => (name, Run::Alone),
        (_, Some(name)) => (name, Run::Next),
        _ => (method, Run::Together),
    };
    match name {
        "cg" => Some((run, None)),
        "ekfac-cg" => Some((run, Some(OF_SOLVER))),
        _ => Some((run, Some(name.strip_prefix("ekfac-cg-")?.parse().ok()?))),
    }
}

/// The products that a method needs, and how far it comes.
fn figures(curve: &Curve) -> String {
    let to = |of: fn(&Errors) -> f64, least: f64| {
        curve.iter().find(|(_, e)| of(e) <= least).map_or("–".to_owned(), |(products, _)| format!("{products:.0}"))
    };
    let best = curve.iter().min_by(|a, b| a.1.x.total_cmp(&b.1.x));
    let best = best.map_or(String::new(), |(at, e)| format!("{:.1e}, {:.1e} | {at:.0}", e.x, e.scores));
    let [x, scores]: [fn(&Errors) -> f64; 2] = [|e| e.x, |e| e.scores];
    format!("{} | {} | {} | {} | {best}", to(x, 0.1), to(x, 0.01), to(scores, 0.1), to(scores, 0.01))
}

impl Task {
    fn open([model, factors, data, queries]: [&str; 4], layers: &str, (n, most): (usize, usize)) -> Result<Self> {
        let tokenizer = tokenizer_json(Path::new(model))?;
        let encoder = tokenizer.map(|json| Encoder::from_bytes(json.as_bytes())).transpose()?;
        let mut model = load(F64::new(), Path::new(model))?;
        model.select_layers(Some(layers))?;
        let factors = Factors::open(Path::new(factors), model.layers())?;
        let read = |path: &str| Corpus::open(&[path.into()], encoder.clone(), CorpusOptions::default())?.read_all();
        let stack = |examples: &[Example]| Batch::stack(examples, Padding::None);
        let examples = read(data)?;
        let batches = examples.chunks(STEP).map(stack).collect::<std::result::Result<_, _>>()?;
        let gradient = |example: &Example, of: Objective| {
            let mut v = model.zero_direction();
            model.add_gradient(&stack(std::slice::from_ref(example))?, of, &mut v)?;
            Ok(v)
        };
        let measured = Objective::Measurement(Measurement::LogLikelihood);
        let queries = read(queries)?;
        let part =
            |from: usize| queries.iter().skip(from).take(n).map(|q| gradient(q, measured)).collect::<Result<_>>();
        let (queries, next) = (part(0)?, part(n)?);
        let gradients = examples.iter().map(|z| gradient(z, Objective::TrainLoss)).collect::<Result<_>>()?;
        let mut task = Self { model, batches, factors, queries, next, gradients, dense: None, most };
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

    /// The errors of EK-FAC alone, and the curves of `methods`.
    fn curves<'m>(&self, lambda: f64, methods: &[&'m str]) -> Result<(Errors, Vec<(&'m str, Curve)>)> {
        let all = vec![lambda; self.model.layers().len()];
        let with_scores = |x: Direction| Wanted { scores: self.scores(&x), x };
        let queries: Vec<Direction> = self.queries.iter().chain(&self.next).cloned().collect();
        let wanted: Vec<Wanted> = self.reference(&all, &queries)?.into_iter().map(with_scores).collect();
        let ekfac = self.ekfac(Damping::Absolute(lambda))?;
        let alone = self.errors(&ekfac.apply_all(&views(&self.queries))?, &wanted);
        let curve = |&method: &&'m str| {
            let curve = match conjugate(method) {
                Some((run, k)) => {
                    let ekfac = k.map(|k| self.ekfac(Damping::Absolute(k * lambda))).transpose()?;
                    self.cg(&all, ekfac.as_ref(), run, &wanted)?
                }
                None => self.grid(&all, method, &wanted)?,
            };
            Ok((method, curve))
        };
        Ok((alone, methods.iter().map(curve).collect::<Result<_>>()?))
    }

    fn scores(&self, x: &Direction) -> Vec<f64> {
        self.gradients.iter().map(|g| dot(self.model.backend(), g, x)).collect()
    }

    fn errors(&self, xs: &[Direction], wanted: &[Wanted]) -> Errors {
        let backend = self.model.backend();
        let of_scores = |x: &Direction, wanted: &Wanted| {
            let scores = self.scores(x);
            let off: f64 = scores.iter().zip(&wanted.scores).map(|(a, b)| (a - b) * (a - b)).sum();
            (off / wanted.scores.iter().map(|b| b * b).sum::<f64>()).sqrt()
        };
        let pairs = || xs.iter().zip(wanted);
        Errors {
            x: median(pairs().map(|(x, w)| error(backend, x, &w.x))),
            scores: median(pairs().map(|(x, w)| of_scores(x, w))),
        }
    }

    fn reference(&self, lambda: &[f64], queries: &[Direction]) -> Result<Vec<Direction>> {
        let backend = self.model.backend();
        if let Some(dense) = &self.dense {
            let inverse = dense.clone().inverse(lambda)?;
            return Ok(queries.iter().map(|v| inverse.solve(backend, v)).collect::<std::result::Result<_, _>>()?);
        }
        let (g, ekfac) = (self.g(), self.ekfac(Damping::Absolute(OF_SOLVER * lambda[0]))?);
        let damped = Damped { backend, inner: &g, lambda };
        let options = CgOptions { max_steps: 10_000, tolerance: 0.0, held: HELD };
        let mut directions = ConjugateDirections::new(HELD);
        let mut cg =
            ConjugateGradients::new(backend, (&damped, &mut directions), &views(queries), Some(&ekfac), options)?;
        let bound = |(solution, v): (&Solution<_>, &Direction)| {
            solution.residual() * size(backend, v) / (lambda[0] * size(backend, &solution.x))
        };
        loop {
            let solutions = cg.solutions()?;
            let worst = solutions.iter().zip(queries).map(bound).fold(0.0, f64::max);
            eprint!("\rλ = {:.1e}: reference after {:.0} products within {worst:.1e} ", lambda[0], cg.products());
            if worst <= CERTAIN || !cg.step()? {
                eprintln!();
                return Ok(solutions.into_iter().map(|solution| solution.x).collect());
            }
        }
    }

    /// The curve of conjugate gradients, one point for each step.
    fn cg(&self, lambda: &[f64], ekfac: Option<&EkfacInverse<'_, F64>>, run: Run, wanted: &[Wanted]) -> Result<Curve> {
        let (backend, g) = (self.model.backend(), self.g());
        let damped = Damped { backend, inner: &g, lambda };
        let ekfac = ekfac.map(|p| p as &dyn LinearOperator<F64>);
        let options = |tolerance, held| CgOptions { max_steps: self.most, tolerance, held };
        let (queries, wanted) = match run {
            Run::Next => (&self.next[..], &wanted[self.queries.len()..]),
            Run::Alone => (&self.queries[..FEW.min(self.queries.len())], wanted),
            Run::Together => (&self.queries[..], wanted),
        };
        let (of_each, held) = if run == Run::Alone { (1, 0) } else { (queries.len().max(1), HELD) };
        let mut learnt: Vec<_> = queries.chunks(of_each).map(|_| ConjugateDirections::new(held)).collect();
        if let (Run::Next, Some(learnt)) = (run, learnt.first_mut()) {
            let vs = views(&self.queries);
            ConjugateGradients::new(backend, (&damped, learnt), &vs, ekfac, options(TOLERANCE, held))?.finish()?;
        }
        let mut searches = Vec::new();
        for (vs, directions) in queries.chunks(of_each).zip(&mut learnt) {
            let parts = (&damped as &dyn LinearOperator<F64>, directions);
            searches.push(ConjugateGradients::new(backend, parts, &views(vs), ekfac, options(1e-10, held))?);
        }
        let mut curve = Vec::new();
        loop {
            let products = searches.iter().map(ConjugateGradients::products).fold(0.0, f64::max);
            let mut xs = Vec::new();
            for search in &searches {
                xs.extend(search.solutions()?.into_iter().map(|solution| solution.x));
            }
            let errors = self.errors(&xs, wanted);
            curve.push((products, errors));
            let mut any = false;
            for search in &mut searches {
                any |= errors.x >= 1e-4 && search.step()?;
            }
            if !any {
                return Ok(curve);
            }
        }
    }

    /// The curve of a method that is run anew for each number of steps.
    fn grid(&self, lambda: &[f64], method: &str, wanted: &[Wanted]) -> Result<Curve> {
        let n = self.g().n_examples();
        let mut curve = Vec::new();
        let mut products = 5.0;
        while products <= self.most as f64 {
            let steps = |runs: usize| (products * n as f64 / (STEP.min(n) * runs) as f64) as usize;
            let way = match method {
                "arnoldi" => Way::Lanczos { steps: products as usize, rank: products as usize, seed: 0 },
                "lissa" => Way::Lissa { steps: steps(REPEATS), repeats: REPEATS, seed: 0 },
                _ => Way::Astra { steps: steps(1), tolerance: 1e-10, seed: 0 },
            };
            let ekfac = if method == "astra" { Some(self.ekfac(Damping::Absolute(lambda[0]))?) } else { None };
            let solver = Solver::new(self.g(), lambda.to_vec(), ekfac, way)?;
            let shared = solver.products();
            let found = solver.apply_all(&views(&self.queries[..FEW.min(self.queries.len())]))?;
            let own = solver.take_solved().first().map_or(0.0, |solved| solved.products);
            curve.push((shared + own, self.errors(&found, wanted)));
            products = (GRID * products).round();
        }
        Ok(curve)
    }
}

fn views(queries: &[Direction]) -> Vec<&[Matrix<f64>]> {
    queries.iter().map(Vec::as_slice).collect()
}

fn dot(backend: &F64, x: &Direction, y: &Direction) -> f64 {
    x.iter().zip(y).map(|(x, y)| backend.dot(x, y).unwrap_or(f64::NAN)).sum()
}

fn size(backend: &F64, x: &Direction) -> f64 {
    dot(backend, x, x).sqrt()
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
