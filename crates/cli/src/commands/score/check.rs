//! What is refused before any work.

use etymon_curvature::CurvatureError;
use etymon_data::Example;
use etymon_model::{Measurement, Model, ModelError, Task};

use crate::args::{CurvatureArg, MeasurementArg, ScoreArgs};
use crate::error::{CliError, Result};
use crate::method::{ScoreMethod, Way};
use crate::open::{Opened, Work, open_factors, read_queries};

/// Names of the tables' own columns.
const RESERVED: [&str; 5] = ["", "train_id", "layer", "position", "token"];

fn usage<T>(option: &'static str, problem: String) -> Result<T> {
    Err(CliError::Usage { option, problem })
}

/// The methods, each once.
pub fn methods(args: &ScoreArgs) -> Result<Vec<ScoreMethod>> {
    let mut methods: Vec<ScoreMethod> = Vec::new();
    for &method in &args.methods {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    for method in &methods {
        if args.self_influence && method.metric().is_none() {
            let problem = format!("self-influence needs ekfac, kfac or grad-dot; {} is for queries", method.name());
            return usage("--method", problem);
        }
        if args.solve.curvature == CurvatureArg::Hessian && !matches!(method, ScoreMethod::Cg | ScoreMethod::Dense) {
            return usage("--curvature", format!("hessian is for cg and dense, not for {}", method.name()));
        }
        if method.way() == Way::Checkpoints && args.other.checkpoints.is_empty() {
            let problem = format!("is missing; --method {} needs the checkpoints of the training", method.name());
            return usage("--checkpoints", problem);
        }
        if method.way() == Way::Projections && args.filter.is_some() {
            return usage("--filter", format!("{} scores all rows; leave it out", method.name()));
        }
        if method.way() == Way::Log && args.other.log.is_none() {
            let problem = format!("is missing; --method {} needs the folder of `etymon train`", method.name());
            return usage("--log", problem);
        }
        let has_parts = matches!(method.way(), Way::Gradients | Way::Checkpoints);
        if !has_parts && (args.per_layer || args.per_token.is_some()) {
            let option = if args.per_layer { "--per-layer" } else { "--per-token" };
            return usage(option, format!("{} has no parts; score it in a run of its own", method.name()));
        }
    }
    Ok(methods)
}

/// Whether any of the methods scores on queries.
pub fn need_queries(args: &ScoreArgs, methods: &[ScoreMethod]) -> bool {
    !args.self_influence && methods.iter().any(|&m| m != ScoreMethod::SelfInfluence)
}

/// Reads the queries.
pub fn queries(args: &ScoreArgs, methods: &[ScoreMethod], opened: &Opened) -> Result<Vec<Example>> {
    if !need_queries(args, methods) {
        return Ok(Vec::new());
    }
    if args.queries.is_empty() {
        let problem = "is missing; queries are rows with prompt and completion, or use --self-influence".to_owned();
        return usage("--queries", problem);
    }
    if args.per_token.is_some() && opened.model.config().vocab().is_none() {
        return usage("--per-token", "rows of features have no tokens".to_owned());
    }
    let of_tokens = methods.iter().find(|m| matches!(m, ScoreMethod::Bm25 | ScoreMethod::Ngram));
    if let Some(method) = of_tokens.filter(|_| opened.model.config().vocab().is_none()) {
        return usage("--method", format!("{} compares tokens; rows of features have none", method.name()));
    }
    let queries = read_queries(opened, &args.queries, &args.data.rows)?;
    names(&queries)?;
    if let Some(shape) = opened.model.config().rows()
        && shape.task == Task::Regression
        && args.measurement == MeasurementArg::Margin
    {
        let (measurement, task) = (Measurement::Margin.name(), shape.task.name());
        return Err(ModelError::Measurement { measurement, task }.into());
    }
    Ok(queries)
}

/// Refuses queries that are named as a column of the tables.
pub fn names(queries: &[Example]) -> Result<()> {
    match queries.iter().find(|q| RESERVED.contains(&q.id.as_str())) {
        Some(query) => Err(CliError::QueryId { id: query.id.clone() }),
        None => Ok(()),
    }
}

/// Taps the layers that the factors are of; refuses those of another model.
pub fn factors(args: &ScoreArgs, methods: &[ScoreMethod], model: &mut Model<Work>) -> Result<()> {
    let takes = methods.iter().any(|m| m.takes_factors());
    let Some(folder) = args.factors.as_ref().filter(|_| takes) else {
        let Some(method) = methods.iter().find(|m| m.needs_factors()) else { return Ok(()) };
        let problem = format!("is missing; --method {} needs the folder of `etymon fit`", method.name());
        return usage("--factors", problem);
    };
    let factors = open_factors(folder, &args.model, model)?;
    let corrected = methods.iter().any(|m| m.takes_factors() && m.base() != ScoreMethod::Kfac);
    if corrected && !factors.has_correction() {
        return Err(CurvatureError::NoCorrection.into());
    }
    Ok(())
}

/// N of `--filter tfidf:N`.
pub fn filter(args: &ScoreArgs) -> Result<Option<usize>> {
    let Some(text) = args.filter.as_deref() else { return Ok(None) };
    match text.strip_prefix("tfidf:").and_then(|n| n.parse().ok()).filter(|&n: &usize| n > 0) {
        Some(keep) => Ok(Some(keep)),
        None => usage("--filter", format!("`{text}`: expected tfidf:N with N > 0, such as tfidf:10000")),
    }
}
