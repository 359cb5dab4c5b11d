//! Collects the parameters of a model while its parts are laid out.

use etymon_tensor::Shape;

use crate::layers::{Linear, Role};
use crate::params::{Init, ParamId, ParamSpec, Storage};

#[derive(Default)]
pub(crate) struct Blueprint {
    pub specs: Vec<ParamSpec>,
}

impl Blueprint {
    pub fn matrix(&mut self, name: String, rows: usize, cols: usize, storage: Storage, init: Init) -> ParamId {
        self.push(ParamSpec { name, shape: Shape::new(rows, cols), storage, init, decay: true })
    }

    pub fn vector(&mut self, name: String, cols: usize, init: Init) -> ParamId {
        self.push(ParamSpec { name, shape: Shape::new(1, cols), storage: Storage::Vector, init, decay: false })
    }

    /// A body layer `name.weight` `[d_out, d_in]`, and `name.bias` if asked.
    pub fn linear(
        &mut self,
        name: String,
        d_in: usize,
        d_out: usize,
        bias: bool,
        storage: Storage,
        init: Init,
    ) -> Linear {
        let weight = self.matrix(format!("{name}.weight"), d_out, d_in, storage, init);
        let bias_init = if let Init::Uniform(_) = init { init } else { Init::Zeros };
        let bias = bias.then(|| self.vector(format!("{name}.bias"), d_out, bias_init));
        if let (Some(id), Storage::PerHead { heads, .. }) = (bias, storage) {
            self.specs[id.0].storage = Storage::PerHead { heads, vector: true };
        }
        Linear {
            name,
            weight,
            bias,
            d_in,
            d_out,
            role: Role::Body,
            input: weight,
            positions: 1,
            tap: None,
            adapter: None,
        }
    }

    fn push(&mut self, spec: ParamSpec) -> ParamId {
        self.specs.push(spec);
        ParamId(self.specs.len() - 1)
    }
}
