//! The same model with another output layer, as fine-tuning on another task starts.

use etymon_tensor::Backend;
use serde_json::{Value, json};

use crate::model::Arch;
use crate::{Model, ModelError, Result};

impl<B: Backend> Model<B> {
    /// Names of the parameters of the output layer: the vocabulary head (the embedding, where they are tied), or the last
    /// layer of a model of feature rows.
    pub fn head_params(&self) -> Vec<&str> {
        let head = match self.arch() {
            Arch::Decoder(decoder) => Some(&decoder.head),
            Arch::Net(net) => net.linears().last(),
        };
        let params = head.into_iter().flat_map(|head| std::iter::once(head.weight).chain(head.bias));
        params.map(|id| self.specs()[id.0].name.as_str()).collect()
    }

    /// The same model with an output layer that starts at random, from the stream `init` of `seed`: with `outputs` outputs in a
    /// model of feature rows, else as many as before. The vocabulary head of a language model is no longer tied to the
    /// embedding. Everything else is a copy.
    ///
    /// # Errors
    /// A model with adapters; outputs of a language model.
    pub fn with_new_head(&self, outputs: Option<usize>, seed: u64) -> Result<Self> {
        let config = |key: &str, problem: &str| ModelError::Config { key: key.to_owned(), problem: problem.to_owned() };
        if self.lora().is_some() {
            return Err(config("new_head", "a model with adapters keeps its head; merge the adapters first"));
        }
        let mut json = self.json().clone();
        match (self.arch(), outputs) {
            (Arch::Decoder(_), Some(_)) => {
                return Err(config("outputs", "a language model has as many outputs as words"));
            }
            (Arch::Decoder(_), None) => json["tie_word_embeddings"] = json!(false),
            (Arch::Net(_), None) => {}
            (Arch::Net(_), Some(outputs)) => set_outputs(&mut json, outputs),
        }
        let mut model = Self::new(self.backend().clone(), json, seed)?;
        let anew: Vec<String> = model.head_params().into_iter().map(str::to_owned).collect();
        let specs = model.specs().to_vec();
        for (spec, tensor) in specs.iter().zip(model.params_mut().iter_mut()).filter(|(s, _)| !anew.contains(&s.name)) {
            let mut own = self.specs().iter().zip(self.params().iter());
            if let Some((_, from)) = own.find(|(from, _)| from.name == spec.name && from.shape == spec.shape) {
                *tensor = from.clone();
            }
        }
        Ok(model)
    }
}

/// Another width of the last layer, in the config.json of an MLP or a convolutional network.
fn set_outputs(json: &mut Value, outputs: usize) {
    let last = |list: &mut Value, value: Value| {
        if let Some(last) = list.as_array_mut().and_then(|list| list.last_mut()) {
            *last = value;
        }
    };
    if let Some(sizes) = json.get_mut("sizes") {
        last(sizes, json!(outputs));
    } else if let Some(layers) = json.get_mut("layers") {
        last(layers, json!({ "linear": outputs }));
    }
}
