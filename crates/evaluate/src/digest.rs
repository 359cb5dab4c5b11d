//! Names of worlds by their content.

use etymon_data::{Content, Example, Target};
use etymon_tensor::Backend;
use etymon_train::Plan;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::world::{Finetuning, Probe, Start, World};

/// Changes whenever the same inputs would be trained or recorded differently.
const VERSION: &str = "etymon world 1";

/// Everything that all worlds of a retraining share, hashed.
#[derive(Clone, Debug)]
pub(crate) struct Base(Sha256);

impl Base {
    pub fn new<B: Backend>(
        start: &Start<B>,
        train: &[Example],
        plan: &Plan,
        then: Option<&Finetuning>,
        probes: &[Probe],
    ) -> Self {
        let mut hash = Sha256::new();
        text(&mut hash, VERSION);
        text(&mut hash, std::any::type_name::<B>());
        text(&mut hash, &start.model().json().to_string());
        match start {
            Start::New(_) => text(&mut hash, "new"),
            Start::At(model) => {
                for (spec, tensor) in model.specs().iter().zip(model.params().iter()) {
                    text(&mut hash, &spec.name);
                    model.backend().download::<f64>(tensor).iter().for_each(|x| hash.update(x.to_le_bytes()));
                }
            }
        }
        text(&mut hash, &plan_text(plan));
        examples(&mut hash, train);
        if let Some(then) = then {
            text(&mut hash, "then");
            text(&mut hash, &serde_json::to_string(&then.finetune).unwrap_or_default());
            // Worlds replace the seed, but by its distance.
            number(&mut hash, then.plan.seed.wrapping_sub(plan.seed));
            text(&mut hash, &plan_text(&then.plan));
            examples(&mut hash, &then.train);
        }
        for probe in probes {
            text(&mut hash, &format!("{} {:?}", probe.name, probe.observed));
            examples(&mut hash, &probe.examples);
        }
        Self(hash)
    }

    /// Hexadecimal.
    pub fn key(&self, world: &World) -> String {
        let mut hash = self.0.clone();
        number(&mut hash, world.seed);
        number(&mut hash, world.excluded().len() as u64);
        world.excluded().iter().for_each(|index| number(&mut hash, index.0));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The plan without what a world replaces (its seed) and what changes no result.
fn plan_text(plan: &Plan) -> String {
    let mut value = serde_json::to_value(plan).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        ["seed", "watch_every"].iter().for_each(|key| drop(fields.remove(*key)));
    }
    value.to_string()
}

fn examples(hash: &mut Sha256, examples: &[Example]) {
    number(hash, examples.len() as u64);
    for example in examples {
        number(hash, example.index.0);
        match &example.content {
            Content::Tokens { ids, loss_start } => {
                number(hash, 0);
                number(hash, *loss_start as u64);
                number(hash, ids.len() as u64);
                ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            }
            Content::Features { values, target } => {
                number(hash, 1);
                floats(hash, values);
                match target {
                    Target::Class(class) => number(hash, u64::from(*class)),
                    Target::Values(values) => floats(hash, values),
                }
            }
        }
    }
}

fn floats(hash: &mut Sha256, values: &[f32]) {
    number(hash, values.len() as u64);
    values.iter().for_each(|x| hash.update(x.to_bits().to_le_bytes()));
}

fn text(hash: &mut Sha256, text: &str) {
    number(hash, text.len() as u64);
    hash.update(text.as_bytes());
}

fn number(hash: &mut Sha256, number: u64) {
    hash.update(number.to_le_bytes());
}
