//! What the scores of some methods will need, and how they stay within memory.

use etymon_attribution::trak_bytes;
use etymon_curvature::inverse::Dense;
use etymon_data::Example;
use etymon_model::{LayerGroups, Model};

use super::config::rank;
use super::solver::REPEATS;
use crate::args::{PerToken, ScoreArgs};
use crate::choice::{Choice, PLENTY, choose};
use crate::error::Result;
use crate::estimate::{DIRECTIONS_OF_ASTRA, Load, Phase, Scoring, Set, combine, held_directions, peak};
use crate::method::{ScoreMethod, Way};
use crate::open::{Counted, Work};

/// Bytes of the tables of `methods`: floats hardly compress.
pub fn disk_bytes(
    args: &ScoreArgs,
    methods: &[ScoreMethod],
    model: &Model<Work>,
    counted: &Counted,
    n_queries: usize,
) -> u64 {
    let layers = if args.per_layer { model.layers().len() as u64 } else { 0 };
    let tokens = if args.per_token == Some(PerToken::All) { counted.tokens } else { 0 };
    4 * (methods.len() * n_queries.max(1)) as u64 * (counted.examples * (1 + layers) + tokens)
}

/// What prepared queries are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Gradients of single examples, over layers in groups where memory is short.
    Examples,
    /// Gradients and curvature of groups of examples, which mix all layers.
    Groups,
}

/// What is scored, for the estimate.
fn scoring(
    args: &ScoreArgs,
    methods: &[ScoreMethod],
    model: &Model<Work>,
    counted: &Counted,
    queries: &[Example],
    with: With,
) -> Scoring {
    let factors = args.factors.is_some();
    let products = |m: ScoreMethod| matches!(m.way(), Way::Gradients | Way::Checkpoints) && !args.scores_selves(m);
    let mut bases: Vec<ScoreMethod> = methods.iter().copied().filter(|&m| products(m)).map(ScoreMethod::base).collect();
    bases.sort_unstable();
    bases.dedup();
    let set = |&method: &ScoreMethod| Set {
        factors: factors && method.takes_factors(),
        solved: (method.solves() || with == With::Groups).then(|| solved(args, method, model, counted, queries.len())),
        preconditioned: method.preconditions(),
        held: match method {
            ScoreMethod::Cg | ScoreMethod::EkfacCg => {
                held_directions(model.layers(), &args.pass).min(args.steps(method) * queries.len()) as u64
            }
            _ => 0,
        },
        more: if method == ScoreMethod::Astra { DIRECTIONS_OF_ASTRA } else { 0 },
    };
    Scoring {
        queries: queries.len() as u64,
        query_rows: queries.iter().map(|q| q.n_rows() as u64).sum(),
        rank: rank(args),
        factors: factors && methods.iter().any(|m| m.takes_factors()),
        sets: bases.iter().map(set).collect(),
        norms: methods.iter().filter(|&&m| args.scores_selves(m) || m.divided_by().is_some()).count() as u64,
        layers: if args.per_layer { model.layers().len() as u64 } else { 0 },
        tokens: args.per_token == Some(PerToken::All),
        disk: disk_bytes(args, methods, model, counted, queries.len()),
    }
}

/// Rows of the train set that products go over, for all queries.
fn solved(args: &ScoreArgs, method: ScoreMethod, model: &Model<Work>, counted: &Counted, n_queries: usize) -> u64 {
    let examples = counted.examples.min(args.solve.solve_rows as u64);
    let (steps, n_queries) = (args.steps(method) as u64, n_queries as u64);
    let parts = n_queries * steps * (args.solve.solve_batch as u64).min(examples);
    let seen = match method {
        ScoreMethod::Arnoldi => steps * examples,
        // A round of two passes or more ends with a product over all.
        ScoreMethod::Astra => parts + (parts / 2).max(n_queries * examples),
        ScoreMethod::Lissa => REPEATS as u64 * parts,
        ScoreMethod::Diagonal => examples,
        // A product for each column of the matrix.
        ScoreMethod::Dense => model.n_tapped() as u64 * examples,
        _ => n_queries * steps * examples,
    };
    seen * counted.rows.div_ceil(counted.examples.max(1))
}

/// Rows per batch and layers per pass, and what the scores of methods that share their passes need with them; refuses what
/// memory does not suffice for.
pub fn estimate(
    args: &ScoreArgs,
    methods: &[ScoreMethod],
    model: &Model<Work>,
    counted: &Counted,
    queries: &[Example],
    with: With,
) -> Result<(Choice, Vec<Phase>)> {
    if methods.contains(&ScoreMethod::Dense) {
        Dense::check(model.n_tapped())?;
    }
    if methods.iter().all(|m| matches!(m.way(), Way::Log | Way::Texts)) {
        let choice = Choice { batch_rows: PLENTY, groups: LayerGroups::one(model.layers()) };
        let disk = disk_bytes(args, methods, model, counted, queries.len());
        let phase = Phase { name: "scores", memory: 0, disk, rows: 0, model_flops: 0.0, fold_flops: 0.0 };
        return Ok((choice, vec![phase]));
    }
    let task = scoring(args, methods, model, counted, queries, with);
    let held = |batch_rows: usize| match methods.contains(&ScoreMethod::Trak) {
        true => {
            let (n, batch) = (counted.examples, counted.examples.min(batch_rows as u64));
            trak_bytes(n, queries.len() as u64, batch, args.other.trak_dim as u64, model.layers())
        }
        false => 0,
    };
    let group = |layers, batch_rows| {
        let load = Load { model: &model.with_layers(layers), counted, pass: &args.pass, batch_rows };
        let more = |phase: Phase| Phase { memory: phase.memory + held(batch_rows), ..phase };
        load.score(&task).into_iter().map(more).collect::<Vec<_>>()
    };
    let longest = queries.iter().map(|q| q.n_rows() as u64).fold(counted.longest, u64::max);
    // Each batch multiplies queries of low rank out anew, which costs as much as that many rows.
    let most = args.rank.map_or(PLENTY, |rank| (rank * queries.len()).next_power_of_two().max(PLENTY));
    // Inverses by products mix all layers, and projections and hidden states are of all: there is one group, or none fits.
    let all = 0..model.layers().len();
    let whole = with == With::Groups
        || methods.iter().any(|m| m.solves() || !matches!(m.way(), Way::Gradients | Way::Checkpoints));
    let layers_of = |layers| if whole { all.clone() } else { layers };
    let peak_of = |rows, layers| peak(&group(layers_of(layers), rows));
    let choice = choose(&args.pass, model.layers(), longest, most, peak_of)?;
    let phases = combine(choice.groups.iter().map(|layers| group(layers, choice.batch_rows)));
    Ok((choice, phases))
}
