//! Queries by an inverse of all layers at once, on the trained digits MLP.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of tests are tests.

mod common;

use common::{fit, limits, prepare, reference, relative_error, rows, score_all};
use etymon_attribution::{Parts, Queries, Rank};
use etymon_curvature::inverse::{
    CgOptions, Damped, Dense, EkfacInverse, GaussNewton, LinearOperator, conjugate_gradients,
};
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
    let mut model: Model<Work> = load(Work::new(), &reference("digits")).unwrap();
    model.select_layers(Some("layers.2")).unwrap();
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
    let whole = plain.precondition(&model, &inverse, (Rank::Full, 3), |q| heard.push(q.id.clone())).unwrap();
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
    let dense = Dense::new(backend, &g, &model.zero_direction()).unwrap();
    let solved = |inverse: &dyn LinearOperator<Work>| {
        scores(&model, &plain.precondition(&model, inverse, (Rank::Full, 1), |_| {}).unwrap(), train)
    };
    let exact = solved(&|v: &[Matrix<f32>]| dense.solve(backend, v, &lambda));
    let before = relative_error(&layerwise, &exact);
    let error_after = |max_steps, preconditioner: Option<&dyn LinearOperator<Work>>| {
        let options = CgOptions { max_steps, tolerance: 1e-6, held: 1000 };
        let cg =
            |v: &[Matrix<f32>]| Ok(conjugate_gradients(backend, &damped, &[v], preconditioner, options)?.remove(0).x);
        relative_error(&solved(&cg), &exact)
    };
    println!("EK-FAC against the dense solve: {before:.1e}");
    let steps = [5, 10, 20, 40, 80, 160, 320];
    let plain_errors = steps.map(|n| error_after(n, None));
    let errors = steps.map(|n| error_after(n, Some(&inverse)));
    println!("after {steps:?} products, from 0: {plain_errors:.2?}\nfrom EK-FAC: {errors:.4?}");
    assert!(plain_errors[6] < 1e-3 && errors[6] < 1e-3, "{errors:?}, from 0 {plain_errors:?}");
    assert!(errors[1] < before, "{errors:?}, EK-FAC {before}");
}
