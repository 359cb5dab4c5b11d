//! Is it true? Ground truth by real retraining and by optimisation, and the figures that judge attribution methods by it.

mod pbrf;

pub use pbrf::{
    Agreement, Change, Minimiser, PbrfError, Proximal, Response, ResponseFolder, Solution, draw_indices, judge,
};
