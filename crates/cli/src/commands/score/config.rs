//! What determines the scores of a method, for the manifest and for resuming.

use std::collections::BTreeMap;
use std::path::PathBuf;

use etymon_attribution::Rank;
use etymon_data::Corpus;
use etymon_model::{Measurement, Model};
use etymon_store::{Fingerprint, RunSpec};
use serde_json::{Value, json};

use crate::args::{CurvatureArg, PerToken, ScoreArgs};
use crate::error::Result;
use crate::method::{ScoreMethod, Way};
use crate::open::{
    Work, data_fingerprints, model_fingerprints, path_fingerprints, tokenizer_fingerprint, with_reading,
};

/// The spec of one method's table, or of the folder of several methods.
pub struct Spec {
    inputs: BTreeMap<String, Fingerprint>,
    /// Of the factors, where a method takes them.
    factors: Option<Fingerprint>,
    common: Value,
    /// Of the other stage, where there are two.
    stage: Option<(Value, BTreeMap<String, Fingerprint>)>,
}

impl Spec {
    /// Fingerprints the inputs that methods share.
    pub fn new(args: &ScoreArgs, methods: &[ScoreMethod], model: &Model<Work>, corpus: &Corpus) -> Result<Self> {
        let mut inputs = model_fingerprints(&args.model)?;
        inputs.extend(tokenizer_fingerprint(&args.model)?);
        inputs.extend(data_fingerprints("data", corpus)?);
        inputs.extend(path_fingerprints("queries", args.queries.iter().map(PathBuf::as_path))?);
        let taken = args.factors.as_ref().filter(|_| methods.iter().any(|m| m.takes_factors()));
        let factors = taken.map(|folder| etymon_store::fingerprint(folder)).transpose()?;
        Ok(Self { inputs, factors, common: common(args, model), stage: None })
    }

    /// The same, of one of two stages: what determines how they are tied, and what was read of the other.
    pub fn with_stage(self, config: Value, inputs: BTreeMap<String, Fingerprint>) -> Self {
        Self { stage: Some((config, inputs)), ..self }
    }

    /// Of the folder that holds the tables of several methods; which ones is no setting of it.
    pub fn of_folder(&self) -> RunSpec {
        let (config, inputs) = (self.common.clone(), self.inputs.clone());
        RunSpec { kind: "scores-of-methods".to_owned(), config, seeds: BTreeMap::new(), inputs }
    }

    /// Of a method's table.
    pub fn of_method(&self, args: &ScoreArgs, method: ScoreMethod) -> Result<RunSpec> {
        let (mut config, mut inputs) = (self.common.clone(), self.inputs.clone());
        let own = [
            ("method", json!(method.name())),
            ("self_influence", json!(args.scores_selves(method))),
            ("damping", json!(method.takes_factors().then(|| args.damping.to_string()))),
            ("solve", method.solves().then(|| solve(args, method)).into()),
            ("own", own(args, method)),
        ];
        if let Some(fields) = config.as_object_mut() {
            fields.extend(own.map(|(key, value)| (key.to_owned(), value)));
        }
        if let Some(factors) = self.factors.as_ref().filter(|_| method.takes_factors()) {
            inputs.insert("factors".to_owned(), factors.clone());
        }
        if matches!(method.way(), Way::Checkpoints | Way::Projections) {
            for (i, checkpoint) in super::checkpoints::list(args)?.iter().enumerate() {
                let Some(folder) = &checkpoint.folder else { continue };
                inputs.insert(format!("checkpoints/{i:05}"), etymon_store::fingerprint(folder)?);
            }
        }
        if let Some(log) = args.other.log.as_ref().filter(|_| method.way() == Way::Log) {
            inputs.insert("log".to_owned(), etymon_store::fingerprint(log)?);
        }
        if let Some((stage, read)) = &self.stage {
            config["stage"] = stage.clone();
            inputs.extend(read.clone());
        }
        Ok(RunSpec { kind: "scores".to_owned(), config, seeds: BTreeMap::new(), inputs })
    }
}

/// What determines the scores of every method.
fn common(args: &ScoreArgs, model: &Model<Work>) -> Value {
    let own = [
        ("measurement", json!(Measurement::from(args.measurement).name())),
        ("rank", json!(args.rank)),
        ("dtype", json!(args.pass.dtype.precision().name())),
        ("layer_names", json!(model.layers().iter().map(|l| l.name.as_str()).collect::<Vec<_>>())),
        ("per_layer", json!(args.per_layer)),
        ("per_token", json!(args.per_token.map(|p: PerToken| format!("{p:?}").to_lowercase()))),
        ("top", json!(args.top)),
        ("filter", json!(args.filter)),
        ("n_train", json!(args.n_train)),
    ];
    with_reading(own, &args.data)
}

/// What determines how queries are solved.
fn solve(args: &ScoreArgs, method: ScoreMethod) -> Value {
    let s = &args.solve;
    let mut fields = json!({
        "rows": s.solve_rows, "steps": args.steps(method), "batch": s.solve_batch, "tolerance": s.tolerance, "seed": s.solve_seed,
    });
    if s.curvature == CurvatureArg::Hessian {
        fields["curvature"] = json!("hessian");
    }
    fields
}

/// What determines the scores of a method of its own kind.
fn own(args: &ScoreArgs, method: ScoreMethod) -> Value {
    match method {
        ScoreMethod::Trak => {
            json!({ "dim": args.other.trak_dim, "lambda": args.other.trak_lambda, "seed": args.solve.solve_seed })
        }
        ScoreMethod::Random => json!({ "seed": args.solve.solve_seed }),
        _ => Value::Null,
    }
}

pub fn rank(args: &ScoreArgs) -> Rank {
    args.rank.map_or(Rank::Full, Rank::Low)
}
