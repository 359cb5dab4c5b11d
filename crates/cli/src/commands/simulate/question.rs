//! What is simulated: a simulator, where it starts, the curriculum as it was and edited.

use std::collections::BTreeMap;
use std::path::PathBuf;

use etymon_data::Example;
use etymon_simulate::{Curriculum, Examples, Recorded, Run, Simulator, find_logs};
use etymon_store::{Fingerprint, RunFolder, fingerprint};

use super::columns;
use crate::args::CurriculumArgs;
use crate::error::{CliError, Result};
use crate::open::path_fingerprints;

/// Checked; nothing is computed yet.
pub struct Question {
    pub simulator: Simulator,
    /// The recorded run, over the examples of the simulator and with its queries.
    pub recorded: Option<Run>,
    /// As it was: recorded, or read from a file.
    pub baseline: Curriculum,
    pub edited: Curriculum,
    /// Whether `edited` may differ from what was recorded.
    pub is_edited: bool,
    /// `[Q]` Losses before the first step.
    pub first: Vec<f64>,
    /// Watched examples by their ids, where they were given.
    pub watched: BTreeMap<String, Example>,
    pub inputs: BTreeMap<String, Fingerprint>,
}

impl Question {
    pub fn open(args: &CurriculumArgs) -> Result<Self> {
        RunFolder::open_complete(&args.simulator, "simulator")?;
        let simulator = Simulator::open(&args.simulator)?;
        let mut inputs = BTreeMap::from([("simulator".to_owned(), fingerprint(&args.simulator)?)]);
        let recorded = recorded(args, &simulator, &mut inputs)?;
        let file = args.curriculum.as_ref().map(|path| Curriculum::read(path, simulator.train_ids())).transpose()?;
        let roles = [("curriculum", args.curriculum.as_slice()), ("data", &args.data), ("watched", &args.watched)];
        for (role, paths) in roles {
            inputs.extend(path_fingerprints(role, paths.iter().map(PathBuf::as_path))?);
        }
        let edits = args.edits.edits()?;
        let columns = columns::of(simulator.train_ids(), &columns::read(&args.data, args)?)?;
        let examples = Examples { ids: simulator.train_ids(), columns: columns.as_deref() };
        let is_edited = file.is_some() || !edits.is_empty();
        let was = recorded.as_ref().map(|run| run.curriculum.clone());
        let start = file.or_else(|| was.clone()).unwrap_or_default();
        let edited = edits.iter().try_fold(start.clone(), |curriculum, edit| edit.apply(&curriculum, examples))?;
        let n_queries = simulator.query_ids().len();
        let first = recorded.as_ref().map_or(simulator.first_losses(), |run| run.first_losses(n_queries)).to_vec();
        let watched = columns::read(&args.watched, args)?;
        let baseline = was.unwrap_or(start);
        Ok(Self { simulator, recorded, baseline, edited, is_edited, first, watched, inputs })
    }
}

/// The recorded run, if one is named.
fn recorded(
    args: &CurriculumArgs,
    simulator: &Simulator,
    inputs: &mut BTreeMap<String, Fingerprint>,
) -> Result<Option<Run>> {
    if args.log.is_empty() {
        return Ok(None);
    }
    let logs = find_logs(&args.log)?;
    let log = chosen(&logs, args.from.as_deref()).to_vec();
    for (i, path) in log.iter().enumerate() {
        inputs.insert(format!("log/{i:05}"), fingerprint(path)?);
    }
    let recorded = Recorded::read(&log)?;
    let names = || recorded.runs.iter().take(20).map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let position = match &args.from {
        None => 0,
        Some(name) => recorded.runs.iter().position(|run| run.name == *name).ok_or_else(|| CliError::Usage {
            option: "--from",
            problem: format!("there is no run `{name}`; there are {}", names()),
        })?,
    };
    let place = |id: &String| {
        let problem = || format!("has no losses of `{id}`, which the simulator watches");
        let found = recorded.query_ids.iter().position(|known| known == id);
        found.ok_or_else(|| CliError::Usage { option: "--log", problem: problem() })
    };
    let queries = simulator.query_ids().iter().map(place).collect::<Result<Vec<usize>>>()?;
    let run = recorded.part(&[position]).queries(&queries).runs.pop();
    run.map(|run| Ok(Run { curriculum: simulator.adopt(&run.curriculum, &recorded.train_ids)?, ..run })).transpose()
}

/// Only the log that is needed, where folders tell: the first, or that of a run folder of this name.
fn chosen<'a>(logs: &'a [PathBuf], from: Option<&str>) -> &'a [PathBuf] {
    let named = |log: &PathBuf, name: &str| log.ancestors().take(2).any(|folder| folder.ends_with(name));
    let at = match from {
        None => Some(0),
        Some(name) => logs.iter().position(|log| named(log, name)),
    };
    at.and_then(|at| logs.get(at..=at)).unwrap_or(logs)
}
