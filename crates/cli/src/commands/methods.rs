//! `etymon methods`.

use clap::ValueEnum;
use serde_json::json;

use super::{CommandResult, Context, Outcome, print};
use crate::method::ScoreMethod;

pub fn run(context: Context) -> CommandResult {
    let methods = ScoreMethod::value_variants();
    let what = |m: &ScoreMethod| m.to_possible_value().and_then(|v| v.get_help().map(ToString::to_string));
    if !context.global.json {
        let mut text = format!("{:<15} {:<68} {:<48} {}\n", "method", "score", "needs", "source");
        for m in methods {
            text += &format!("{:<15} {:<68} {:<48} {}\n", m.name(), what(m).unwrap_or_default(), m.needs(), m.paper());
        }
        text += "\netymon score --method NAME,NAME,… scores with several; etymon compare shows them side by side.\n\
                 etymon group adds up the influence of groups, with the correction of second order.";
        print(&text);
    }
    let row = |m: &ScoreMethod| json!({ "name": m.name(), "score": what(m), "needs": m.needs(), "source": m.paper() });
    Ok(Outcome::Done(json!({ "methods": methods.iter().map(row).collect::<Vec<_>>() })))
}
