//! Methods that are no products with prepared queries: each reads the train set by itself.

use etymon_attribution::{
    FeatureQueries, FeatureSimilarity, NgramImportance, QueryValue, TracInIdeal, score_features, score_lexical,
    score_random,
};
use etymon_data::{Example, Lexical, LexicalFormula};
use etymon_model::Objective;
use etymon_store::{Manifest, RunFolder};
use etymon_train::evaluate;

use super::config::measurement;
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
    let objective = Objective::Measurement(measurement(job.args));
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
