//! Methods that are no products with prepared queries: each reads the train set by itself.

use etymon_attribution::{
    FeatureQueries, FeatureSimilarity, NgramImportance, QueryValue, TracInIdeal, Trak, TrakScores, score_features,
    score_lexical, score_random,
};
use etymon_data::{Example, Lexical, LexicalFormula};
use etymon_model::Objective;
use etymon_store::{Manifest, RunFolder};
use etymon_train::evaluate;

use super::checkpoints::{self, Checkpoint};
use super::job::{Job, Scored};
use crate::error::{CliError, Result};
use crate::method::ScoreMethod;

/// Scores with one of these methods.
pub fn run(job: &Job<'_>, run: &mut RunFolder, method: ScoreMethod) -> Result<Scored> {
    let values = values(job)?;
    match method {
        ScoreMethod::FeatureDot => features(job, run, &values, FeatureSimilarity::Dot),
        ScoreMethod::FeatureCos => features(job, run, &values, FeatureSimilarity::Cosine),
        ScoreMethod::FeatureL2 => features(job, run, &values, FeatureSimilarity::L2),
        ScoreMethod::Bm25 => {
            let lexical = Lexical::count(LexicalFormula::Bm25, job.queries, job.examples_of_all())?;
            job.simple(run, &values, |rows, sink| Ok(score_lexical(&lexical, rows, sink)?))
        }
        ScoreMethod::Ngram => {
            let targets: Vec<&[Example]> = job.queries.chunks(1).collect();
            let ngrams = NgramImportance::fit(&targets, job.opened.encoder.as_ref(), job.examples_of_all())?;
            job.simple(run, &values, |rows, sink| Ok(ngrams.score(rows, sink)?))
        }
        ScoreMethod::Trak => {
            let scores = trak(job)?;
            // Scores are made at once for all rows: a table that was begun is begun again.
            run.update_progress(serde_json::Value::Null)?;
            job.simple(run, &values, |rows, sink| Ok(scores.emit(rows, sink)?))
        }
        ScoreMethod::TracinIdeal => {
            let log = read_log(job)?;
            job.simple(run, &values, |rows, sink| Ok(log.emit(rows, sink)?))
        }
        _ => {
            job.simple(run, &values, |rows, sink| Ok(score_random(job.args.solve.solve_seed, &job.ids(), rows, sink)?))
        }
    }
}

/// The measurements of the queries.
fn values(job: &Job<'_>) -> Result<Vec<QueryValue>> {
    let objective = Objective::Measurement(job.args.measurement.into());
    let measured = evaluate(&job.opened.model, job.queries, objective, job.limits())?;
    let value = |(query, measurement): (&Example, f64)| QueryValue { id: query.id.clone(), measurement };
    Ok(job.queries.iter().zip(measured).map(value).collect())
}

fn features(
    job: &Job<'_>,
    run: &mut RunFolder,
    values: &[QueryValue],
    similarity: FeatureSimilarity,
) -> Result<Scored> {
    let model = &job.opened.model;
    let queries = FeatureQueries::prepare(model, job.queries, similarity, job.limits())?;
    job.simple(run, values, |rows, sink| Ok(score_features(model, &queries, rows, job.limits(), sink)?))
}

/// TRAK over the checkpoints, or over the model alone. All rows are fitted, also where a filter keeps some.
fn trak(job: &Job<'_>) -> Result<TrakScores> {
    let other = &job.args.other;
    let options = Trak { dim: other.trak_dim, seed: job.args.solve.solve_seed, lambda: other.trak_lambda };
    let mut scores = TrakScores::new(options, job.queries.len())?;
    let mut models = checkpoints::list(job.args)?;
    if models.is_empty() {
        models.push(Checkpoint::opened());
    }
    let task = job.context.reporter.task("projections", job.counted.examples * models.len() as u64, 0, "rows");
    for checkpoint in models {
        let model = checkpoint.model(job.args, job.opened)?;
        let mut done = 0;
        scores.add(&model, job.queries, job.examples_of_all(), job.limits(), |n| {
            task.advance((n - done) as u64, 0);
            done = n;
        })?;
    }
    task.finish();
    Ok(scores)
}

/// The log of a training, whose run has the name in its settings, or that of the folder.
fn read_log(job: &Job<'_>) -> Result<TracInIdeal> {
    let Some(folder) = &job.args.other.log else {
        return Err(CliError::Usage { option: "--log", problem: "is missing".to_owned() });
    };
    let manifest = Manifest::read(&folder.join("manifest.json"))?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = manifest.spec.config["run"].as_str().map_or(name, str::to_owned);
    Ok(TracInIdeal::read(&folder.join("log"), &name, &job.ids())?)
}
