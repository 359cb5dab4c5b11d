//! `--remove EXPR --repeat EXPR K …`: edits of a curriculum, in the order given.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use etymon_simulate::{Edit, Expression};

use crate::error::{CliError, Result};

/// Edits as they were written, first to last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditArgs(Vec<Written>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    flag: &'static Flag,
    values: Vec<String>,
}

/// An option that is an edit.
#[derive(Debug, PartialEq, Eq)]
struct Flag {
    name: &'static str,
    values: &'static [&'static str],
    help: &'static str,
}

const FLAGS: [Flag; 7] = [
    Flag {
        name: "remove",
        values: &["EXPR"],
        help: "Take examples out of their batches, which shrink; a batch with none left is a step that changes nothing",
    },
    Flag { name: "only", values: &["EXPR"], help: "Take all other examples out of their batches" },
    Flag {
        name: "repeat",
        values: &["EXPR", "K"],
        help: "Examples occur K times as often, their copies spread over a run that becomes longer; batches are cut anew",
    },
    Flag { name: "first", values: &["EXPR"], help: "Examples come before all others" },
    Flag { name: "last", values: &["EXPR"], help: "Examples come after all others" },
    Flag { name: "shuffle", values: &["SEED"], help: "Another order, at random" },
    Flag { name: "truncate", values: &["STEP"], help: "Only the first steps, this many" },
];

const HEADING: &str = "Edits, made in the order given";

impl EditArgs {
    /// Checked.
    ///
    /// # Errors
    /// Expressions and numbers that are none.
    pub fn edits(&self) -> Result<Vec<Edit>> {
        self.0.iter().map(Written::edit).collect()
    }

    /// As they were written: `remove source = "web"`.
    pub fn words(&self) -> Vec<String> {
        let words = |w: &Written| format!("{} {}", w.flag.name, w.values.join(" "));
        self.0.iter().map(words).collect()
    }
}

impl Written {
    fn edit(&self) -> Result<Edit> {
        let text = |i: usize| self.values.get(i).map_or("", String::as_str);
        let expression = || Ok::<Expression, CliError>(text(0).parse()?);
        Ok(match self.flag.name {
            "remove" => Edit::Remove(expression()?),
            "only" => Edit::Only(expression()?),
            "first" => Edit::First(expression()?),
            "last" => Edit::Last(expression()?),
            "repeat" => Edit::Repeat(expression()?, whole("--repeat", text(1))?),
            "shuffle" => Edit::Shuffle(whole("--shuffle", text(0))?),
            _ => Edit::Truncate(whole("--truncate", text(0))?),
        })
    }
}

fn whole<T: std::str::FromStr>(option: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|_| CliError::Usage { option, problem: format!("`{text}` is no whole number") })
}

impl Args for EditArgs {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, flag| {
            let option = Arg::new(flag.name).long(flag.name).value_names(flag.values).help(flag.help);
            command.arg(option.num_args(flag.values.len()).action(ArgAction::Append).help_heading(HEADING))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for EditArgs {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let mut found: Vec<(usize, Written)> = Vec::new();
        for flag in &FLAGS {
            let indices = matches.indices_of(flag.name).into_iter().flatten().step_by(flag.values.len());
            let given = matches.try_get_occurrences::<String>(flag.name);
            let given = given.map_err(|e| clap::Error::raw(ErrorKind::InvalidValue, e))?.into_iter().flatten();
            let written = given.map(|values| Written { flag, values: values.cloned().collect() });
            found.extend(indices.zip(written));
        }
        found.sort_by_key(|(index, _)| *index);
        Ok(Self(found.into_iter().map(|(_, written)| written).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
