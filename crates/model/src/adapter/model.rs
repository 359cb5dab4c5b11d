//! Models with adapters: adding, merging, and what of them is trained.

use std::path::Path;
use std::sync::Arc;

use etymon_tensor::{Accumulate, Backend, Cpu, Shape, Transpose};

use super::{Adapter, Lora};
use crate::blueprint::Blueprint;
use crate::layers::{Linear, select, tappable};
use crate::model::{Model, start};
use crate::params::{Init, ParamId, ParamSpec, Params, Storage};
use crate::{ModelError, Result};

impl<B: Backend> Model<B> {
    /// This model with new adapters of `rank` and `alpha` on the layers that the regular expression `targets` matches, by
    /// default on all linear layers of attention and MLP. A starts uniform on ±1/√d_in (PEFT: Kaiming-uniform with a = √5)
    /// from the stream `init` of `seed`, B with zeros: the outputs are those of the base. From now on the adapters are what
    /// is tapped and trained. `base` names the base model in the files.
    ///
    /// # Errors
    /// A rank of 0, a pattern that is none or matches nothing, a model that has adapters, a head that is tied.
    pub fn add_lora(
        mut self,
        (rank, alpha): (usize, f64),
        targets: Option<&str>,
        base: &Path,
        seed: u64,
    ) -> Result<Self> {
        let layers = select(targets, self.arch.linears_mut().collect())?.into_iter().map(|spec| spec.name).collect();
        let lora = Lora { rank, alpha, layers, base: base.to_owned() };
        self.with_adapters(lora, |index, spec| Ok(start(seed, index, spec)))
    }

    /// This model with adapters on the layers that `lora` names, and the numbers of each A and B.
    pub(crate) fn with_adapters(
        mut self,
        lora: Lora,
        mut numbers: impl FnMut(usize, &ParamSpec) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        lora.check()?;
        if self.lora.is_some() {
            let problem = "the base model has adapters itself; merge them first".to_owned();
            return Err(ModelError::Lora { key: "base_model_name_or_path", problem });
        }
        let n_base = self.specs.len();
        let mut plan = Blueprint { specs: std::mem::take(&mut self.specs) };
        for layer in self.arch.linears_mut().filter(|layer| lora.layers.contains(&layer.name)) {
            layer.adapter = Some(Box::new(Adapter::new(layer, &lora, &mut plan)?));
        }
        self.specs = plan.specs;
        let mut params = Arc::unwrap_or_clone(self.params);
        for (i, spec) in self.specs.iter().enumerate().skip(n_base) {
            params.push(self.backend.upload(spec.shape, &numbers(i, spec)?)?);
        }
        self.params = Arc::new(params);
        self.layers = select(None, tappable(self.arch.linears_mut()))?;
        self.lora = Some(lora);
        Ok(self)
    }

    /// The adapters, if it has any.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// The model without adapters that computes the same: W + (α/r) B A, added up in f64.
    ///
    /// # Errors
    /// None beyond what the backend meets.
    pub fn merged(&self) -> Result<Self> {
        self.without_adapters(|base, adapter, params| {
            let (exact, no) = (Cpu::<f64>::new(), Transpose::No);
            let wide = |layer: &Linear| {
                let numbers = self.backend.download::<f64>(self.params.get(layer.weight));
                exact.upload(Shape::new(layer.d_out, layer.d_in), &numbers)
            };
            let (mut sum, down, up) = (wide(base)?, wide(&adapter.down)?, wide(&adapter.up)?);
            exact.matmul_into(adapter.scale, &up, no, &down, no, Accumulate::Add, &mut sum)?;
            if let Some(weight) = params.get_mut(base.weight) {
                let shape = Shape::new(base.d_out, base.d_in);
                *weight = self.backend.upload(shape, &exact.download::<f64>(&sum))?;
            }
            Ok(())
        })
    }

    /// The base model.
    ///
    /// # Errors
    /// None beyond what the backend meets.
    pub fn base(&self) -> Result<Self> {
        self.without_adapters(|_, _, _| Ok(()))
    }

    /// Takes the adapters off; `taken` sees each with its layer and the parameters of the result.
    fn without_adapters(&self, taken: impl Fn(&Linear, &Adapter, &mut Params<B>) -> Result<()>) -> Result<Self> {
        let mut model = self.clone();
        let Some(_) = model.lora.take() else { return Ok(model) };
        let n_base = self.first_trained().0;
        for layer in model.arch.linears_mut() {
            if let Some(adapter) = layer.adapter.take() {
                taken(layer, &adapter, Arc::make_mut(&mut model.params))?;
            }
        }
        Arc::make_mut(&mut model.params).truncate(n_base);
        model.specs.truncate(n_base);
        model.layers = select(None, model.arch.linears_mut().collect())?;
        Ok(model)
    }

    fn first_trained(&self) -> ParamId {
        let n = self.specs.len();
        ParamId(n - self.lora.as_ref().map_or(n, |lora| 2 * lora.layers.len()))
    }

    /// The parameters that are trained: all of them, or those of the adapters.
    pub fn trained_specs(&self) -> &[ParamSpec] {
        &self.specs[self.first_trained().0..]
    }

    /// Zeros of the shapes of the [`trained_specs`](Self::trained_specs): a place for their gradients, or moments.
    pub fn zero_gradients(&self) -> Params<B> {
        self.params.zeros_from(self.first_trained(), &self.backend)
    }
}

impl Adapter {
    fn new(layer: &Linear, lora: &Lora, plan: &mut Blueprint) -> Result<Self> {
        if plan.specs[layer.weight.0].name != format!("{}.weight", layer.name) {
            let problem = format!("`{}` shares its weight with the embedding: it cannot have an adapter", layer.name);
            return Err(ModelError::Lora { key: "target_modules", problem });
        }
        // The rows of B are those of the layer; PEFT keeps A and B of Conv1D as it keeps those of linear layers.
        let storage = match plan.specs[layer.weight.0].storage {
            storage @ Storage::PerHead { .. } => storage,
            _ => Storage::Matrix,
        };
        let name = |part| format!("{}.{part}", layer.name);
        let uniform = Init::Uniform(1.0 / (layer.d_in as f64).sqrt());
        let down = plan.linear(name("lora_A"), layer.d_in, lora.rank, false, Storage::Matrix, uniform);
        let up = plan.linear(name("lora_B"), lora.rank, layer.d_out, false, storage, Init::Zeros);
        let at = |part: Linear| Linear { positions: layer.positions, ..part };
        Ok(Self { down: at(down.sharing_input_of(layer)), up: at(up), scale: lora.scale() })
    }
}
