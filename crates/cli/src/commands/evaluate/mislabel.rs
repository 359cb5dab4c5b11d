//! `etymon evaluate mislabel`: the whole job on data with wrong labels.

use std::path::Path;

use etymon_data::{BatchLimits, Content, Example, Target};
use etymon_evaluate::plot::bars;
use etymon_evaluate::statistics::bootstrap;
use etymon_evaluate::{Interval, auc, flips};
use etymon_model::Task;
use etymon_store::{ScoreTable, write_atomic};
use etymon_train::{Job, losses};
use serde_json::json;

use super::super::quickstart::step_of;
use super::super::{CommandResult, Context};
use super::ground::{open_job, trained_model};
use super::verdict::{Verdict, check_out, shown};
use crate::args::MislabelArgs;
use crate::error::{CliError, Result};

pub fn run(args: &MislabelArgs, context: Context) -> CommandResult {
    check_out(&args.out, "mislabel")?;
    let seed = context.global.seed.unwrap_or(0);
    let (job, loaded, _) = open_job(&args.config)?;
    let shape = loaded.model.config().rows().filter(|shape| shape.task == Task::Classification);
    let classes = shape.map_or(0, |shape| shape.outputs);
    if classes < 2 || !loaded.plan.excluded.is_empty() {
        let problem = "must be of a classifier of features with two classes or more, without `exclude`".to_owned();
        return Err(CliError::Usage { option: "--config", problem });
    }
    let mut train = loaded.train;
    let flipped = flips(&mut train, classes as u32, args.fraction, seed)?;
    let out = &args.out.out;
    let data = out.join("corrupted").join("train.jsonl");
    write_rows(&data, &train)?;
    let config = corrupted_config(&job, out, &data)?;
    let scores = steps(args, out, &config, &data, context)?;

    let wrong: Vec<bool> = (0..train.len()).map(|i| flipped.binary_search(&i).is_ok()).collect();
    let corrupted = Job::read(&config)?;
    let model = trained_model(&corrupted, None)?;
    let limits = BatchLimits { max_rows: loaded.plan.micro_batch_rows, max_examples: usize::MAX };
    let mut judged = vec![("loss".to_owned(), losses(&model, &train, limits)?)];
    for (name, folder) in scores {
        judged.push((name, self_influence(&folder)?));
    }
    let mut table = vec![["by", "AUC"].map(str::to_owned).to_vec()];
    let (mut methods, mut plotted) = (Vec::new(), Vec::<(String, Interval)>::new());
    for (name, values) in judged {
        let found = bootstrap(values.len(), seed, |rows| {
            let (values, wrong): (Vec<f64>, Vec<bool>) = rows.iter().map(|&r| (values[r], wrong[r])).unzip();
            auc(&values, &wrong)
        });
        table.push(vec![name.clone(), shown(found)]);
        methods.push(json!({ "method": name, "auc": found }));
        plotted.extend(found.map(|found| (name, found)));
    }
    let title = format!("{} of {} labels are wrong", flipped.len(), train.len());
    let svg = bars(&title, "AUC of finding them, with 95 % interval over rows", &plotted)?;
    let ids: Vec<&str> = flipped.iter().map(|&i| train[i].id.as_str()).collect();
    let settings = json!({
        "config": job.config, "fraction": args.fraction, "seed": seed, "n_train": train.len(), "flipped": ids,
    });
    Verdict { figure: "mislabel", settings, methods, table, svg }.finish(out, context)
}

fn write_rows(path: &Path, rows: &[Example]) -> Result<()> {
    Ok(write_atomic(path, |to| {
        for row in rows {
            if let Content::Features { values, target: Target::Class(class) } = &row.content {
                serde_json::to_writer(&mut *to, &json!({ "id": row.id, "features": values, "label": class }))?;
                to.write_all(b"\n")?;
            }
        }
        Ok(())
    })?)
}

/// The same training on the corrupted data, as a file.
fn corrupted_config(job: &Job, out: &Path, data: &Path) -> Result<std::path::PathBuf> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut config = job.config.clone();
    (config.out, config.data, config.watch) = (absolute(&out.join("run")), vec![absolute(data)], Vec::new());
    (config.format, config.label, config.run) = (None, None, None);
    config.model = config.model.as_deref().map(absolute);
    let text = toml::to_string(&config).map_err(|e| CliError::Usage { option: "--config", problem: e.to_string() })?;
    let path = out.join("train.toml");
    write_atomic(&path, |to| to.write_all(text.as_bytes()))?;
    Ok(path)
}

/// Trains, fits and scores, by the commands that a person would type; the score folders.
fn steps(
    args: &MislabelArgs,
    out: &Path,
    config: &Path,
    data: &Path,
    context: Context,
) -> Result<Vec<(String, std::path::PathBuf)>> {
    let text = |path: &Path| path.display().to_string();
    let (model, factors, data) = (text(&out.join("run/model")), text(&out.join("factors")), text(data));
    let seed = context.global.seed.unwrap_or(0).to_string();
    let mut all = vec![
        ["train", &text(config)].map(str::to_owned).to_vec(),
        ["fit", "--model", &model, "--data", &data, "--out", &factors, "--seed", &seed].map(str::to_owned).to_vec(),
    ];
    let mut scores = Vec::new();
    for method in ["ekfac", "kfac"] {
        let folder = out.join("scores").join(method);
        let step = ["score", "--self-influence", "--method", method, "--model", &model, "--factors", &factors];
        let rest = ["--data", &data, "--out", &text(&folder)].map(str::to_owned);
        all.push(step.iter().map(|word| (*word).to_owned()).chain(rest).collect());
        scores.push((format!("self-influence, {method}"), folder));
    }
    for mut step in all {
        if args.out.overwrite {
            step.push("--overwrite".to_owned());
        }
        step_of(&step.iter().map(String::as_str).collect::<Vec<_>>(), context)?;
    }
    Ok(scores)
}

fn self_influence(folder: &Path) -> Result<Vec<f64>> {
    let table = ScoreTable::open(folder)?;
    let query = table.queries().first().cloned().unwrap_or_default();
    Ok(table.column(&query)?.into_iter().map(f64::from).collect())
}
