//! `etymon score --stages`: influence of pre-training and of fine-tuning on queries of the fine-tuned model.

mod open;
mod solve;
mod summary;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use etymon_attribution::{Queries, StageQueries};
use etymon_store::{Opened as Folder, RunFolder, RunSpec};
use serde_json::json;

use self::open::{Both, Stage};
pub use self::summary::{KIND as STAGES, read as read_summary};
use super::config::Spec;
use super::job::{Given, Job};
use super::load::{With, estimate};
use super::{CommandResult, Context, Outcome, Plan};
use crate::args::ScoreArgs;
use crate::commands::{aligned, print};
use crate::error::Result;
use crate::open::Work;

/// Folders of the tables.
pub const PRETRAINING: &str = "pretraining";
pub const FINETUNING: &str = "finetuning";

pub fn run(args: &ScoreArgs, context: Context) -> CommandResult {
    let both = Both::open(args, context)?;
    let plans = [&both.pretraining, &both.finetuning].map(|stage| plan(stage, &both));
    let [first, second] = plans;
    let (first, second) = (first?, second?);
    let specs = [spec(&both.pretraining, &both)?, spec(&both.finetuning, &both)?];
    let folder = RunFolder::open_or_create(&args.out.out, of_folder(&specs[0])?, args.out.overwrite())?;
    let solved = OnceCell::new();
    for (stage, plan, spec, which) in [
        (&both.pretraining, &first, &specs[0], Which::Pretraining),
        (&both.finetuning, &second, &specs[1], Which::Finetuning),
    ] {
        context.reporter.say(format!("score {}: {}", which.folder(), stage.inputs.counted.describe()));
        let given = Solved { both: &both, job: &stage_job(&both.finetuning, &second, context), solved: &solved, which };
        let job = Job { given: Some(&given), ..stage_job(stage, plan, context) };
        super::score(&job, spec, false)?;
    }
    let folder = match folder {
        Folder::Created(run) | Folder::Resumed(run) => run.complete(BTreeMap::new())?,
        Folder::AlreadyComplete(run) => run,
    };
    let summary = read_summary(folder.path())?;
    if !context.global.json {
        aligned(&summary.table()).iter().for_each(|line| print(line));
    }
    context.reporter.say(format!("scores of both stages in {}", folder.path().display()));
    Ok(Outcome::Done(json!({ "scores": folder.path(), "queries": summary.json() })))
}

fn plan(stage: &Stage, both: &Both) -> Result<Plan> {
    let (methods, inputs) = (vec![stage.method()], &stage.inputs);
    let (model, queries) = (&inputs.opened.model, &both.queries[..]);
    let (choice, phases) = estimate(&stage.args, &methods, model, &inputs.counted, queries, With::Groups)?;
    Ok(Plan { methods, choice, phases })
}

fn stage_job<'a>(stage: &'a Stage, plan: &'a Plan, context: Context) -> Job<'a> {
    stage.inputs.job(&stage.args, plan, context)
}

/// What determines the table of a stage: its own inputs, how it is tied to the other one, and what was read of that.
fn spec(stage: &Stage, both: &Both) -> Result<Spec> {
    let spec = Spec::new(&stage.args, &[stage.method()], &stage.inputs.opened.model, &stage.inputs.corpus)?;
    Ok(spec.with_stage(both.config(), both.other_inputs()?))
}

fn of_folder(spec: &Spec) -> Result<RunSpec> {
    Ok(RunSpec { kind: STAGES.to_owned(), ..spec.of_folder() })
}

/// A stage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Pretraining,
    Finetuning,
}

impl Which {
    fn folder(self) -> &'static str {
        match self {
            Self::Pretraining => PRETRAINING,
            Self::Finetuning => FINETUNING,
        }
    }
}

/// The queries for both stages, solved when one of the tables needs them.
struct Solved<'a> {
    both: &'a Both,
    /// Of fine-tuning.
    job: &'a Job<'a>,
    solved: &'a OnceCell<StageQueries<Work>>,
    which: Which,
}

impl Given for Solved<'_> {
    fn queries(&self) -> Result<(&Queries<Work>, bool)> {
        let solved = match self.solved.get() {
            Some(solved) => solved,
            None => {
                let solved = solve::queries(self.both, self.job)?;
                self.solved.get_or_init(|| solved)
            }
        };
        Ok(match self.which {
            Which::Pretraining => (&solved.pretraining, false),
            Which::Finetuning => (&solved.finetuning, true),
        })
    }
}
