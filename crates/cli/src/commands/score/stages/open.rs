//! Both stages, opened and checked: models, data, and what ties them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etymon_attribution::{Role, Stages};
use etymon_data::{Batch, Example, Spread};
use etymon_model::{LayerSpec, Model};
use etymon_store::{Fingerprint, Manifest, fingerprint};
use etymon_train::Link;
use serde_json::{Value, json};

use super::super::{Inputs, check};
use super::solve::mean_lambda;
use super::{FINETUNING, PRETRAINING};
use crate::args::{DataArgs, ModelArgs, OnBadRow, RowArgs, ScoreArgs, StageArgs, StageCurvature};
use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::method::ScoreMethod;
use crate::open::{
    Opened, Work, count_examples, data_fingerprints, model_fingerprints, open_corpus, open_factors, open_model,
    read_queries, stacked,
};

/// Rows of a batch of fine-tuning data that the curvature is multiplied over.
const BATCH_ROWS: usize = 1024;

/// One stage: what a score of it alone would open.
pub struct Stage {
    pub args: ScoreArgs,
    pub inputs: Inputs,
}

/// Two stages and what ties them.
pub struct Both {
    pub pretraining: Stage,
    /// Its model taps the trained layers alone.
    pub finetuning: Stage,
    /// The fine-tuned model with all of its layers tapped.
    pub whole: Model<Work>,
    pub queries: Vec<Example>,
    pub stages: Stages,
    /// Fine-tuning data that products with the curvature go over.
    pub batches: Vec<Batch>,
    options: StageArgs,
    roles: Vec<Role>,
}

fn usage<T>(option: &'static str, problem: String) -> Result<T> {
    Err(CliError::Usage { option, problem })
}

impl Both {
    /// Opens and checks everything; nothing is written.
    pub fn open(args: &ScoreArgs, context: Context) -> Result<Self> {
        let (method, finetune_method) = methods(args)?;
        let [first, second] = args.stage.stages.as_slice() else {
            return usage("--stages", format!("{} paths; expected two, PRETRAIN,FINETUNE", args.stage.stages.len()));
        };
        let (first, second) = (TrainedModel::open(first)?, TrainedModel::open(second)?);
        second.require_from(&first)?;
        let link = second.manifest.as_ref().map(Link::of).transpose()?.flatten();
        let mut pretraining = ScoreArgs { stage: StageArgs::none(), ..args.clone() };
        pretraining.model.model = first.model;
        pretraining.out.out = args.out.out.join(PRETRAINING);
        let finetuning = finetuning_args(args, &second)?;

        let precision = args.pass.dtype.precision();
        let mut opened = open_model(&pretraining.model, precision)?;
        check::factors(&pretraining, &[method], &mut opened.model)?;
        let corpus = open_corpus(&opened, &pretraining.data)?;
        let mut whole = open_model(&finetuning.model, precision)?;
        tap(&finetuning, finetune_method, link.as_ref(), &mut whole.model)?;
        let own = open_corpus(&whole, &finetuning.data)?;
        let queries = read_queries(&whole, &args.queries, &finetuning.data.rows)?;
        if queries.is_empty() {
            return usage("--queries", "is missing; queries are rows of the fine-tuned model's task".to_owned());
        }
        check::names(&queries)?;
        let counted = count_examples(&opened.model, &corpus, args.data.max_rows)?;
        let inputs = Inputs { methods: vec![method], opened, corpus, queries: queries.clone(), counted };
        let pretraining = Stage { args: pretraining, inputs };

        let counted = count_examples(&whole.model, &own, None)?;
        let batches = spread(&own, counted.examples, args.solve.solve_rows)?;
        let roles =
            roles(args, (&finetuning, finetune_method), &whole.model, &batches, link.as_ref(), pretraining.layers())?;
        let stages = Stages::new(pretraining.layers(), whole.model.layers(), |layer| roles[layer])?;
        let opened = Opened { model: stages.trained(&whole.model), encoder: whole.encoder };
        let inputs = Inputs { methods: vec![finetune_method], opened, corpus: own, queries: queries.clone(), counted };
        let finetuning = Stage { args: finetuning, inputs };
        let options = args.stage.clone();
        let both = Self { pretraining, finetuning, whole: whole.model, queries, stages, batches, options, roles };
        both.say(context);
        Ok(both)
    }

    /// Tells what ties the layers.
    fn say(&self, context: Context) {
        for (spec, role) in self.whole.layers().iter().zip(&self.roles) {
            let what = match role {
                Role::Frozen => "frozen".to_owned(),
                Role::Near { rho } => format!("near pre-training, ρ {rho:.3e}"),
                Role::Free => "free of pre-training".to_owned(),
            };
            context.reporter.detail(format!("  {}: {what}", spec.name));
        }
        let count = |wanted: fn(&Role) -> bool| self.roles.iter().filter(|r| wanted(r)).count();
        let (frozen, near) = (count(|r| *r == Role::Frozen), count(|r| matches!(r, Role::Near { .. })));
        let free = self.roles.len() - frozen - near;
        context.reporter.say(format!("layers: {frozen} frozen, {near} near pre-training, {free} free of it"));
    }

    /// Whether layers that are held near pre-training are damped too.
    pub fn damps_all(&self) -> bool {
        self.options.finetune_damping.is_some()
    }

    /// The damping of the trained layers.
    pub fn free_damping(&self) -> etymon_curvature::Damping {
        self.options.finetune_damping.unwrap_or(self.pretraining.args.damping)
    }

    /// The curvature of the fine-tuning loss.
    pub fn curvature(&self) -> StageCurvature {
        self.options.finetune_curvature
    }

    /// What determines how the stages are tied, for manifests.
    pub fn config(&self) -> Value {
        let role = |role: &Role| match role {
            Role::Frozen => json!("frozen"),
            Role::Near { rho } => json!({ "rho": rho }),
            Role::Free => json!("free"),
        };
        json!({
            "roles": self.whole.layers().iter().zip(&self.roles).map(|(l, r)| (l.name.clone(), role(r)))
                .collect::<serde_json::Map<_, _>>(),
            "finetune_damping": self.options.finetune_damping.map(|damping| damping.to_string()),
            "finetune_curvature": self.curvature().name(),
            "solve_rows": self.pretraining.args.solve.solve_rows,
        })
    }

    /// Fingerprints of what belongs to fine-tuning.
    pub fn other_inputs(&self) -> Result<BTreeMap<String, Fingerprint>> {
        let fine = &self.finetuning;
        let model = model_fingerprints(&fine.args.model)?.into_iter();
        let mut inputs: BTreeMap<_, _> = model.map(|(name, print)| (format!("finetuned/{name}"), print)).collect();
        inputs.extend(data_fingerprints("finetuning-data", &fine.inputs.corpus)?);
        if let Some(folder) = &fine.args.factors {
            inputs.insert("finetuning-factors".to_owned(), fingerprint(folder)?);
        }
        Ok(inputs)
    }
}

impl Stage {
    /// The one method of its score.
    pub fn method(&self) -> ScoreMethod {
        self.inputs.methods[0]
    }

    /// The tapped layers.
    pub fn layers(&self) -> &[LayerSpec] {
        self.inputs.opened.model.layers()
    }
}

/// The method of pre-training, and that of fine-tuning.
fn methods(args: &ScoreArgs) -> Result<(ScoreMethod, ScoreMethod)> {
    use ScoreMethod::{Cg, Dense, Ekfac, EkfacCg, Kfac};
    let refuse =
        |option| usage(option, "two stages are scored by one of ekfac, kfac, ekfac-cg, cg and dense".to_owned());
    let [method] = check::methods(args)?[..] else { return refuse("--method") };
    let finetuning = args.stage.finetune_method.unwrap_or(method);
    for (option, method) in [("--method", method), ("--finetune-method", finetuning)] {
        if !matches!(method, Ekfac | Kfac | EkfacCg | Cg | Dense) {
            return refuse(option);
        }
    }
    if finetuning.needs_factors() && args.stage.finetune_factors.is_none() {
        let problem = format!("is missing; {} needs factors of the fine-tuned model", finetuning.name());
        return usage("--finetune-factors", problem);
    }
    Ok((method, finetuning))
}

/// A model, and the manifest of its training if there is one.
struct TrainedModel {
    model: PathBuf,
    manifest: Option<Manifest>,
}

impl TrainedModel {
    fn open(path: &Path) -> Result<Self> {
        let file = path.join("manifest.json");
        if !file.exists() {
            return Ok(Self { model: path.to_owned(), manifest: None });
        }
        let manifest = etymon_store::RunFolder::open_complete(path, "training")?.manifest().clone();
        Ok(Self { model: path.join("model"), manifest: Some(manifest) })
    }

    /// Refuses a fine-tuning of another model.
    fn require_from(&self, pretrained: &Self) -> Result<()> {
        let Some(from) = self.manifest.as_ref().and_then(|m| m.spec.inputs.get("model")) else { return Ok(()) };
        if fingerprint(&pretrained.model)?.sha256 == from.sha256 {
            return Ok(());
        }
        let (this, other) = (pretrained.model.display(), from.path.display());
        usage("--stages", format!("{this} is not what was fine-tuned: that was {other}, with other files"))
    }

    /// Files of the fine-tuning data, if they are as they were.
    fn data(&self) -> Result<Vec<PathBuf>> {
        let missing = || usage("--finetune-data", "is missing: name the fine-tuning data".to_owned());
        let Some(manifest) = &self.manifest else { return missing() };
        let is_data =
            |role: &str| role == "data" || role.strip_prefix("data-").is_some_and(|n| n.parse::<u64>().is_ok());
        let mut paths = Vec::new();
        for (_, print) in manifest.spec.inputs.iter().filter(|(role, _)| is_data(role)) {
            let same = print.path.exists() && fingerprint(&print.path)?.sha256 == print.sha256;
            if !same {
                let problem = format!("is needed: {} is not as it was in fine-tuning", print.path.display());
                return usage("--finetune-data", problem);
            }
            paths.push(print.path.clone());
        }
        if paths.is_empty() { missing() } else { Ok(paths) }
    }

    /// How the fine-tuning read its rows.
    fn rows(&self, given: &RowArgs) -> (RowArgs, bool) {
        let Some(config) = self.manifest.as_ref().map(|m| &m.spec.config) else { return (given.clone(), false) };
        let text = |key: &str| config[key].as_str().map(str::to_owned);
        let skip = config["skip_bad_rows"].as_bool().unwrap_or_default();
        let rows = RowArgs {
            format: text("format"),
            label: text("label"),
            max_tokens: config["max_tokens"].as_u64().map(|n| n as usize),
            on_bad_row: if skip { OnBadRow::Skip } else { OnBadRow::Fail },
        };
        (rows, config["packing"].as_bool().unwrap_or_default())
    }
}

/// The score of the fine-tuning data alone.
fn finetuning_args(args: &ScoreArgs, second: &TrainedModel) -> Result<ScoreArgs> {
    let (rows, pack) = second.rows(&args.data.rows);
    let data = if args.stage.finetune_data.is_empty() { second.data()? } else { args.stage.finetune_data.clone() };
    let mut out = args.out.clone();
    out.out = args.out.out.join(FINETUNING);
    Ok(ScoreArgs {
        model: ModelArgs { model: second.model.clone(), ..args.model.clone() },
        factors: args.stage.finetune_factors.clone(),
        data: DataArgs { data, rows, max_rows: None, pack },
        out,
        n_train: None,
        stage: StageArgs::none(),
        ..args.clone()
    })
}

/// Taps the layers of the fine-tuned model: those of its factors, or those of the pattern and what starts anew.
fn tap(args: &ScoreArgs, method: ScoreMethod, link: Option<&Link>, model: &mut Model<Work>) -> Result<()> {
    if let Some(folder) = args.factors.as_ref().filter(|_| method.takes_factors()) {
        open_factors(folder, &args.model, model)?;
        return Ok(());
    }
    let anew = link.into_iter().flat_map(|link| &link.tie.anew).filter_map(|name| name.strip_suffix(".weight"));
    let mut names: Vec<String> = model.layers().iter().map(|l| l.name.clone()).collect();
    for name in anew {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    let names: Vec<String> = names.iter().map(|name| name.replace('.', "\\.")).collect();
    model.select_layers(Some(&format!("^({})$", names.join("|"))))?;
    Ok(())
}

/// Fine-tuning examples for products, evenly spread.
fn spread(corpus: &etymon_data::Corpus, n: u64, most: usize) -> Result<Vec<Batch>> {
    let spread = Spread::new(most as u64, n);
    let examples = corpus.examples().filter(|e| e.as_ref().map_or(true, |e| spread.contains(e.index.0)));
    let limits = etymon_data::BatchLimits { max_rows: BATCH_ROWS, max_examples: usize::MAX };
    stacked(examples, limits)
}

/// What fine-tuning does with each layer: as its manifest says, or, where that says nothing, shared layers stay near.
fn roles(
    args: &ScoreArgs,
    (finetuning, method): (&ScoreArgs, ScoreMethod),
    model: &Model<Work>,
    batches: &[Batch],
    link: Option<&Link>,
    pretrained: &[LayerSpec],
) -> Result<Vec<Role>> {
    let asked = match args.stage.proximity {
        Some(etymon_curvature::Damping::Absolute(rho)) => Some(vec![rho; model.layers().len()]),
        Some(relative) => Some(mean_lambda((finetuning, method), model, batches, relative)?),
        None => None,
    };
    let near = |layer: usize, tied: Option<f64>| match (&asked, tied) {
        (Some(rho), _) => Ok(Role::Near { rho: rho[layer] }),
        (None, Some(rho)) => Ok(Role::Near { rho }),
        (None, None) => usage("--proximity", "is missing: the fine-tuning was not tied to pre-training".to_owned()),
    };
    let role = |(layer, spec): (usize, &LayerSpec)| {
        let shared = pretrained.iter().any(|p| p.is_same(spec));
        let name = format!("{}.weight", spec.name);
        match link.map(|link| (&link.tie, link.rho)) {
            Some((tie, _)) if tie.frozen.contains(&name) => Ok(Role::Frozen),
            Some((tie, rho)) if tie.near.contains(&name) => near(layer, Some(rho)),
            Some((tie, _)) if tie.anew.contains(&name) || !shared => Ok(Role::Free),
            Some(_) if asked.is_none() => Ok(Role::Free),
            None if !shared => Ok(Role::Free),
            _ => near(layer, None),
        }
    };
    model.layers().iter().enumerate().map(role).collect()
}
