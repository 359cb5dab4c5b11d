//! What a person sees: report structs in, a page or a terminal listing out.
//!
//! [`to_html`] turns a [`Report`] into one self-contained HTML file (styles, code and data inside, no network, no
//! external font). [`to_terminal`] prints the same top lists of one query. A [`Comparison`] of several score tables has
//! both as well ([`compare_to_html`], [`compare_to_terminal`]), and a [`Simulation`] of training runs
//! ([`simulation_to_html`], [`simulation_to_terminal`]). All are pure functions: this crate reads and
//! writes no file, and knows nothing of models or score tables.
//!
//! ```
//! use etymon_viewer::{Histogram, QueryReport, Report, Summary, to_html};
//!
//! let scores = [0.1_f32, -0.3, 12.0];
//! let query = QueryReport {
//!     id: "q1".into(),
//!     prompt: "The capital of France is".into(),
//!     completion: " Paris".into(),
//!     measurement: -0.4,
//!     metadata: Default::default(),
//!     histogram: Histogram::from_scores(scores, 40),
//!     summary: Summary::from_scores(scores),
//!     proponents: vec![],
//!     opponents: vec![],
//!     layers: vec![],
//! };
//! let report = Report {
//!     title: "Capitals".into(),
//!     subtitle: "EK-FAC".into(),
//!     facts: vec![("train examples".into(), "3".into())],
//!     n_train: 3,
//!     queries: vec![query],
//! };
//! let page = to_html(&report)?;
//! assert!(page.starts_with("<!doctype html>"));
//! # Ok::<(), etymon_viewer::ViewerError>(())
//! ```

mod compare;
mod correlation;
mod error;
mod page;
mod report;
mod simulation;
mod statistics;
mod terminal;

pub use compare::{
    Agreement, ComparedRow, Comparison, QueryComparison, RankedRow, TableName, compare_columns, compare_to_html,
    compare_to_terminal,
};
pub use correlation::{pearson, spearman};
pub use error::ViewerError;
pub use page::to_html;
pub use report::{LayerShare, QueryReport, Report, Row, Token};
pub use simulation::{Line, Role, SimulatedQuery, Simulation, simulation_to_html, simulation_to_terminal};
pub use statistics::{Histogram, Summary};
pub use terminal::{Color, to_terminal};
