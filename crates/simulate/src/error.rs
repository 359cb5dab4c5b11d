//! Errors of the simulate crate.

use std::path::PathBuf;

use etymon_data::{DataError, Place};

/// What can be wrong with logs, simulators and curricula.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] etymon_store::StoreError),
    /// A table of another trainer could not be read, or has a bad row.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A log that has a table twice.
    #[error("{} and {}: a log has one table of steps and one of losses", first.display(), second.display())]
    TwoLogs {
        /// One file.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// A path without a training log.
    #[error("no training log in {}: neither steps and losses, nor a folder `log`, nor folders of runs", path.display())]
    NoLog {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Nothing was given to read.
    #[error("no run to read")]
    NoRuns,
    /// Two runs of the same name.
    #[error("run `{run}` is in {} and in {}", first.display(), second.display())]
    DuplicateRun {
        /// The run.
        run: String,
        /// The first log with it.
        first: PathBuf,
        /// The second one.
        second: PathBuf,
    },
    /// A run of which no loss was measured, or whose steps are not logged.
    #[error("{}: run `{run}` has no {what}", path.display())]
    Missing {
        /// The log.
        path: PathBuf,
        /// The run.
        run: String,
        /// "steps" or "losses".
        what: &'static str,
    },
    /// A step that is logged twice or whose predecessor is missing.
    #[error("{place}: run `{run}`: after step {after} comes step {step}; steps must rise by one, from 0")]
    StepOrder {
        /// The row of the log.
        place: Place,
        /// The run.
        run: String,
        /// The step before, −1 at the beginning.
        after: i64,
        /// The step that was found.
        step: u64,
    },
    /// A number that is not finite, or not logged.
    #[error("{place}: run `{run}`, step {step}: {what} is {value}")]
    NotFinite {
        /// The row of the log.
        place: Place,
        /// The run.
        run: String,
        /// The step.
        step: u64,
        /// Which number.
        what: String,
        /// Its value.
        value: f64,
    },
    /// A loss before the first step is missing: where a simulation starts.
    #[error("{}: run `{run}`: query `{query}` has no loss before step 0", path.display())]
    NoFirstLoss {
        /// The log.
        path: PathBuf,
        /// The run.
        run: String,
        /// The query.
        query: String,
    },
    /// A measurement that other queries have.
    #[error("{}: run `{run}`: query `{query}` has no loss at step {step}, others have", path.display())]
    MissingLoss {
        /// The log.
        path: PathBuf,
        /// The run.
        run: String,
        /// The query.
        query: String,
        /// The step.
        step: u64,
    },
    /// The same loss twice.
    #[error("{place}: run `{run}`: query `{query}` has two losses at step {step}")]
    DuplicateLoss {
        /// The row of the log.
        place: Place,
        /// The run.
        run: String,
        /// The query.
        query: String,
        /// The step.
        step: u64,
    },
    /// A loss after the end of the run.
    #[error("{place}: run `{run}` has {n_steps} steps, and a loss of query `{query}` at step {step}")]
    LossAfterEnd {
        /// The row of the log.
        place: Place,
        /// The run.
        run: String,
        /// The query.
        query: String,
        /// The step of the loss.
        step: u64,
        /// Steps of the run.
        n_steps: usize,
    },
    /// Runs that watched different queries.
    #[error("run `{run}` did not watch query `{query}`, run `{other}` did")]
    OtherQueries {
        /// The run without it.
        run: String,
        /// The query.
        query: String,
        /// A run with it.
        other: String,
    },
    /// A curriculum that is not well-formed.
    #[error("a curriculum of {batches} batches has {rates} learning rates")]
    CurriculumShape {
        /// Its batches.
        batches: usize,
        /// Its learning rates.
        rates: usize,
    },
    /// A position outside of the list of train ids.
    #[error("step {step} of a curriculum has train example {index}, of {n}")]
    NoSuchExample {
        /// The step.
        step: usize,
        /// The position.
        index: usize,
        /// Number of train examples.
        n: usize,
    },
    /// An expression that is none.
    #[error("{problem}\n  {text}\n  {:column$}^", "")]
    Expression {
        /// The expression.
        text: String,
        /// Where, in characters from 0.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// An expression with an id of no train example.
    #[error("`{id}` is none of the {n} train examples of the runs")]
    NoSuchId {
        /// The id.
        id: String,
        /// Number of train examples.
        n: usize,
    },
    /// An expression with a column where only ids are known.
    #[error("the runs know train examples by their ids alone, not their `{column}`")]
    NoColumns {
        /// The column.
        column: String,
    },
    /// An expression with a column that no train example has.
    #[error("no train example has a column `{column}`; they have {known}")]
    NoSuchColumn {
        /// The column.
        column: String,
        /// Those that there are.
        known: String,
    },
    /// An edit that cannot be made.
    #[error("{problem}")]
    Edit {
        /// Which, and why.
        problem: String,
    },
    /// A curriculum that cannot be read.
    #[error("{}:{line}: {problem}", path.display())]
    CurriculumLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 for the file as a whole.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// First losses for another number of queries, or not finite.
    #[error("{got} finite first losses for {expected} queries")]
    FirstLosses {
        /// Queries of the simulator.
        expected: usize,
        /// Finite first losses.
        got: usize,
    },
    /// Train examples that no fitted run had.
    #[error(
        "{n} train examples of the curriculum are in no run that the simulator was fitted on, the first is `{first}`"
    )]
    Unseen {
        /// How many.
        n: usize,
        /// The first.
        first: String,
    },
    /// Nothing to fit on.
    #[error("no run has losses at two steps: there is nothing to fit on")]
    NoIntervals,
    /// A kind that needs scores, without them.
    #[error("a {kind} simulator is made of scores")]
    NoScores {
        /// The kind.
        kind: &'static str,
    },
    /// Scores for other examples or queries.
    #[error("{got} scores for {n} train examples and {queries} queries")]
    ScoreShape {
        /// Scores.
        got: usize,
        /// Train examples.
        n: usize,
        /// Queries.
        queries: usize,
    },
    /// A score that is not finite.
    #[error("the score of train example `{id}` on query `{query}` is {score}")]
    Score {
        /// The train example.
        id: String,
        /// The query.
        query: String,
        /// Its score.
        score: f64,
    },
    /// Scores without a scale.
    #[error("all scores of the examples that the runs contain, times the learning rates, are 0: they have no scale")]
    NoScale,
    /// A λ that is none.
    #[error("lambda must be a positive number, is {lambda}")]
    Lambda {
        /// What was given.
        lambda: f64,
    },
    /// A system that cannot be solved.
    #[error("with lambda {lambda} the normal equations are not positive definite")]
    NotDefinite {
        /// λ.
        lambda: f64,
    },
    /// No λ gave finite losses.
    #[error("no lambda that was tried gives finite losses on the runs held out")]
    NoLambda,
    /// Generalised cross-validation of a long run.
    #[error("lambda of a single run is chosen by a matrix of rows x rows: {rows} rows are more than {most}")]
    TooManyRows {
        /// Its measured intervals.
        rows: usize,
        /// Most.
        most: usize,
    },
    /// A folder whose files do not belong together.
    #[error("{}: {problem}", path.display())]
    BrokenSimulator {
        /// The folder.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, SimulateError>;
