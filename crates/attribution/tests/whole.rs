//! Queries by an inverse of all layers at once, on the trained digits MLP.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use common::{fit, limits, pearson, prepare, reference, relative_error, rows, score_all};
use etymon_attribution::{Parts, Queries, Rank};
use etymon_curvature::inverse::{CgOptions, Damped, EkfacInverse, GaussNewton, LinearOperator, conjugate_gradient};
use etymon_curvature::{Damping, Preconditioner, Spectrum};
use etymon_data::{Batch, BatchLimits, Batches, Example, Padding};
use etymon_model::{Model, Objective, load};
use etymon_tensor::{Cpu, Matrix};

type Work = Cpu<f32>;

fn scores(model: &Model<Work>, queries: &Queries<Work>, train: &[Example]) -> Vec<f64> {
    score_all(model, queries, train, limits(512), Parts::default()).total
}

#[test]
fn an_inverse_of_all_layers_scores_as_that_of_each_and_cg_goes_on_from_it() {
    let model: Model<Work> = load(Work::new(), &reference("digits")).unwrap();
    let (train, queries) = (rows("digits/train.csv"), rows("digits/query.csv"));
    let (train, queries) = (&train[..400], &queries[..4]);
    let drawn = Objective::SampledLoss { seed: 0 };
    let fitted = fit(&model, train, drawn, limits(512), 1, Padding::None);
    let ekfac = Preconditioner::Kronecker {
        factors: &fitted.factors,
        spectrum: Spectrum::Corrected,
        damping: Damping::MeanEigenvalue(0.1),
    };
    let layerwise = scores(&model, &prepare(&model, queries, ekfac, Rank::Full), train);

    let backend = model.backend();
    let inverse = EkfacInverse::new(backend, ekfac, model.layers().len()).unwrap().unwrap();
    let plain = prepare(&model, queries, Preconditioner::Identity, Rank::Full);
    let mut heard = Vec::new();
    let whole = plain.precondition(&model, &inverse, Rank::Full, |q| heard.push(q.id.clone())).unwrap();
    assert_eq!(heard, queries.iter().map(|q| q.id.clone()).collect::<Vec<_>>());
    let error = relative_error(&scores(&model, &whole, train), &layerwise);
    println!("all layers at once against each: {error:.1e}");
    assert!(error < 1e-5, "{error:e}");

    let limits = BatchLimits { max_rows: 100, max_examples: usize::MAX };
    let batches: Vec<Batch> = Batches::new(train.iter().cloned().map(Ok), limits)
        .map(|group| Batch::stack(&group.unwrap(), Padding::None).unwrap())
        .collect();
    let g = GaussNewton::new(&model, &batches);
    let lambda = inverse.lambda();
    let damped = Damped { backend, inner: &g, lambda: &lambda };
    let solve = |max_steps, preconditioner: Option<&dyn LinearOperator<Work>>| {
        let options = CgOptions { max_steps, tolerance: 1e-4 };
        let products = std::cell::Cell::new(0.0);
        let cg = |v: &[Matrix<f32>]| {
            let solution = conjugate_gradient(backend, &damped, v, preconditioner, options)?;
            products.set(products.get() + solution.products);
            Ok(solution.x)
        };
        let queries = plain.precondition(&model, &cg, Rank::Full, |_| {}).unwrap();
        (scores(&model, &queries, train), products.get() / 4.0)
    };
    let (exact, plain_products) = solve(2000, None);
    let (from_ekfac, products) = solve(2000, Some(&inverse));
    let error = relative_error(&from_ekfac, &exact);
    println!("CG to 1e-4: {plain_products} products, from EK-FAC {products}, scores differ by {error:.1e}");
    assert!(error < 1e-3, "{error:e}");
    assert!(products < plain_products, "{products} products from EK-FAC, {plain_products} without");
    println!("EK-FAC against CG: Pearson {:.4}", pearson(&layerwise, &exact));
}
