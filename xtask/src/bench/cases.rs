//! What is run: models and layers, tools, precisions, sizes.

use std::fmt;

use super::options::Options;

/// A GPT-2 shape; `scripts/peers/models.py` makes it.
pub struct Shape {
    /// Name of its folder.
    pub name: &'static str,
    /// Blocks.
    pub blocks: usize,
    /// Width.
    pub d: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Positions of a row.
    pub length: usize,
}

const S: Shape = Shape { name: "S", blocks: 4, d: 256, vocab: 2048, length: 128 };
const M: Shape = Shape { name: "M", blocks: 12, d: 768, vocab: 8192, length: 256 };

/// A model, its tapped blocks and the number of rows.
pub struct Case {
    /// Name in the results.
    pub name: &'static str,
    /// Heading in the document.
    pub title: &'static str,
    /// The model.
    pub shape: Shape,
    /// The first so many blocks are tapped, each with its four linear layers.
    pub tapped: usize,
    /// Rows of the train set.
    pub rows: usize,
    /// Whether the peers run EK-FAC here, or their covariances only.
    pub whole: bool,
    /// Whether the gradient indices are run here.
    pub index: bool,
}

impl Case {
    /// All cases. Correction and queries of all 12 layers of M take the peers too long: they run on block 0, which still
    /// needs the whole backward; on M they make covariances and the index.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "S",
            title: "Model S, all 4 blocks tapped",
            shape: S,
            tapped: 4,
            rows: 512,
            whole: true,
            index: true,
        },
        Self { name: "M0", title: "Model M, block 0 tapped", shape: M, tapped: 1, rows: 32, whole: true, index: false },
        Self {
            name: "M",
            title: "Model M, all 12 blocks tapped",
            shape: M,
            tapped: 12,
            rows: 32,
            whole: false,
            index: true,
        },
    ];

    /// The case of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|case| case.name == name)
    }
}

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// This project.
    Etymon,
    /// kronfluence.
    Kronfluence,
    /// bergson.
    Bergson,
    /// dattri.
    Dattri,
}

impl Tool {
    /// All tools.
    pub const ALL: [Self; 4] = [Self::Etymon, Self::Kronfluence, Self::Bergson, Self::Dattri];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etymon => "etymon",
            Self::Kronfluence => "kronfluence",
            Self::Bergson => "bergson",
            Self::Dattri => "dattri",
        }
    }

    /// The tool of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// Whether it is one of the others.
    pub fn is_peer(self) -> bool {
        self != Self::Etymon
    }

    fn does(self, task: Task, case: &Case) -> bool {
        match (self, task) {
            (Self::Etymon, Task::Ekfac) => true,
            (Self::Etymon, _) => false,
            (_, Task::Ekfac) => case.whole,
            (Self::Kronfluence, Task::Covariance) => !case.whole,
            (Self::Bergson | Self::Dattri, Task::Index) => case.index,
            _ => false,
        }
    }
}

/// What a tool does in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Fit and score.
    Ekfac,
    /// Covariances only.
    Covariance,
    /// Build and ask a gradient index.
    Index,
}

impl Task {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ekfac => "ekfac",
            Self::Covariance => "covariance",
            Self::Index => "index",
        }
    }
}

/// Precision of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// float32.
    F32,
    /// Three bfloat16 products that make nearly a float32 one: etymon's, compared with the peers' float32.
    Bf16x3,
    /// bfloat16.
    Bf16,
}

impl Precision {
    /// All precisions.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16x3, Self::Bf16];

    /// The word for it, also after `--dtype`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16x3 => "bf16x3",
            Self::Bf16 => "bf16",
        }
    }

    /// The precision of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }
}

/// One process (two of etymon: `fit`, `score`), run once in every round.
pub struct Run {
    /// The tool.
    pub tool: Tool,
    /// What it does.
    pub task: Task,
    /// Its precision.
    pub precision: Precision,
    /// The model and layers.
    pub case: &'static Case,
    /// Rows of the train set.
    pub rows: usize,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tool, task, precision) = (self.tool.name(), self.task.name(), self.precision.name());
        write!(f, "{} {tool} {task} {precision}, {} rows", self.case.name, self.rows)
    }
}

/// The runs of a round, in their order: the tools alternate within a case and precision.
pub fn runs(options: &Options) -> Vec<Run> {
    let mut runs = Vec::new();
    for &case in &options.cases {
        for &precision in &options.precisions {
            for task in [Task::Ekfac, Task::Covariance, Task::Index] {
                for &tool in options.tools.iter().filter(|tool| tool.does(task, case)) {
                    if precision != Precision::Bf16x3 || !tool.is_peer() {
                        let rows = if options.smoke { case.rows.min(8) } else { case.rows };
                        runs.push(Run { tool, task, precision, case, rows });
                    }
                }
            }
        }
    }
    runs
}
