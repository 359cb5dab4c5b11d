//! Queries made ready: −(G + λI)⁻¹ ∇f of each, per layer, at full or low rank.

use etymon_curvature::Preconditioner;
use etymon_curvature::inverse::LinearOperator;
use etymon_data::{Batch, BatchLimits, Batches, Example, Padding};
use etymon_model::{Consumer, LayerIo, LayerSpec, Measurement, Model, ModelError, Objective, Tap};
use etymon_tensor::{Folds, Shape, Transpose};

use crate::form::Form;
use crate::kept::{LayerQueries, require_finite};
use crate::{AttributionError, Rank, Result};

/// What is known of one query.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryValue {
    /// Its id.
    pub id: String,
    /// f(θ).
    pub measurement: f64,
}

/// A batch of queries, ready to be multiplied with gradients of train examples.
#[derive(Clone, Debug)]
pub struct Queries<B: Folds> {
    /// Ids and measurements, in order.
    pub values: Vec<QueryValue>,
    pub(crate) layers: Vec<LayerQueries<B>>,
}

impl<B: Folds> Queries<B> {
    /// Computes the gradient of each query's measurement and preconditions it.
    ///
    /// # Errors
    /// Queries that the model does not take (named), gradients that are not finite, and factors of other layers.
    pub fn prepare(
        model: &Model<B>,
        queries: &[Example],
        measurement: Measurement,
        preconditioner: Preconditioner<'_>,
        rank: Rank,
        limits: BatchLimits,
    ) -> Result<Self> {
        if queries.is_empty() {
            return Err(AttributionError::NoQueries);
        }
        for query in queries {
            model.check(query).map_err(|source| AttributionError::Query { id: query.id.clone(), source })?;
        }
        let (backend, specs) = (model.backend(), model.layers());
        let rows = match preconditioner {
            Preconditioner::Identity => queries.iter().map(Example::n_rows).max(),
            Preconditioner::Kronecker { .. } => None,
        };
        let forms: Vec<Form> = specs.iter().map(|spec| Form::of(spec, queries.len(), rank, rows)).collect();
        let empty = |(spec, form): (&LayerSpec, &Form)| form.empty(backend, spec, queries.len());
        let layers = specs.iter().zip(&forms).map(empty).collect();
        let mut tap = QueryTap { backend, specs, queries, preconditioner, forms, layers, first_query: 0 };
        let objective = Objective::Measurement(measurement);
        let mut measured = Vec::with_capacity(queries.len());
        for group in Batches::new(queries.iter().cloned().map(Ok), limits) {
            let batch = Batch::stack(&group?, Padding::None)?;
            measured.extend(model.run(&batch, objective, Consumer::Tap(&mut tap))?);
            tap.first_query += batch.n_examples();
        }
        let layers = tap.layers;
        let value = |(query, measurement): (&Example, f64)| QueryValue { id: query.id.clone(), measurement };
        let values: Vec<_> = queries.iter().zip(measured).map(value).collect();
        if let Some(bad) = values.iter().find(|v| !v.measurement.is_finite()) {
            return Err(AttributionError::NotFinite { id: bad.id.clone(), what: "its measurement".to_owned() });
        }
        Ok(Self { values, layers })
    }

    /// The same queries, whose gradients were not preconditioned, multiplied with an inverse that may mix layers, `at_once` of
    /// them at a time, which share the inverse's passes over its data; `done` hears of each.
    ///
    /// # Errors
    /// What the inverse meets (naming the query that it cannot solve), and results that are not finite.
    pub fn precondition(
        &self,
        model: &Model<B>,
        inverse: &dyn LinearOperator<B>,
        (rank, at_once): (Rank, usize),
        mut done: impl FnMut(&QueryValue),
    ) -> Result<Self> {
        let (backend, specs) = (model.backend(), model.layers());
        let mut layers = empty_layers(backend, specs, self.len(), rank);
        for start in (0..self.len()).step_by(at_once.max(1)) {
            let values = &self.values[start..(start + at_once.max(1)).min(self.len())];
            let directions = (start..start + values.len()).map(|query| self.gradients(backend, specs, query));
            let vs = directions.collect::<Result<Vec<_>>>()?;
            let views: Vec<&[B::Tensor]> = vs.iter().map(Vec::as_slice).collect();
            let solved = inverse.apply_all(&views).map_err(|source| AttributionError::unsolved(source, values))?;
            for ((query, value), x) in (start..).zip(values).zip(solved) {
                keep(backend, specs, &mut layers, (query, value), x)?;
                done(value);
            }
        }
        Ok(Self { values: self.values.clone(), layers })
    }

    /// Queries of these values, of which `gradients` are made one after the other: a matrix `[d_out, d_in]` per layer.
    pub(crate) fn collect(
        backend: &B,
        specs: &[LayerSpec],
        values: Vec<QueryValue>,
        rank: Rank,
        mut gradients: impl FnMut(usize) -> Result<Vec<B::Tensor>>,
    ) -> Result<Self> {
        let mut layers = empty_layers(backend, specs, values.len(), rank);
        for (query, value) in values.iter().enumerate() {
            keep(backend, specs, &mut layers, (query, value), gradients(query)?)?;
        }
        Ok(Self { values, layers })
    }

    /// The same queries on another backend, at full rank.
    ///
    /// # Errors
    /// What the backends meet.
    pub fn to_backend<C: Folds>(&self, from: &B, to: &C, specs: &[LayerSpec]) -> Result<Queries<C>> {
        Queries::collect(to, specs, self.values.clone(), Rank::Full, |query| {
            let moved = |m: B::Tensor| Ok(to.upload(from.shape(&m), &from.download::<f64>(&m))?);
            self.gradients(from, specs, query)?.into_iter().map(moved).collect()
        })
    }

    /// One of the queries alone.
    ///
    /// # Errors
    /// A position outside of the queries.
    pub fn only(&self, backend: &B, query: usize) -> Result<Self> {
        let part = |layer: &LayerQueries<B>| {
            Ok(match layer {
                LayerQueries::Full(all) => LayerQueries::Full(backend.slice_rows(all, query, 1)?),
                LayerQueries::Low { u, v, rank } => LayerQueries::Low {
                    u: backend.slice_rows(u, query * rank, *rank)?,
                    v: backend.slice_rows(v, query * rank, *rank)?,
                    rank: *rank,
                },
            })
        };
        let layers = self.layers.iter().map(part).collect::<Result<_>>()?;
        Ok(Self { values: vec![self.values[query].clone()], layers })
    }

    /// Number of queries.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers held for all layers, to plan memory: Σ over layers of Q d_out d_in, or Q r (d_out + d_in); `rows` are those
    /// of the longest query, where no curvature is applied.
    pub fn n_numbers(specs: &[LayerSpec], n_queries: usize, rank: Rank, rows: Option<usize>) -> usize {
        let layer = |s: &LayerSpec| match Form::of(s, n_queries, rank, rows) {
            Form::Full => s.d_out * s.d_in,
            Form::Truncated(r) | Form::Rows(r) => r * (s.d_out + s.d_in),
        };
        n_queries * specs.iter().map(layer).sum::<usize>()
    }

    /// The preconditioned gradient of one query, a matrix `[d_out, d_in]` per layer.
    ///
    /// # Errors
    /// What the backend meets.
    pub fn gradients(&self, backend: &B, specs: &[LayerSpec], query: usize) -> Result<Vec<B::Tensor>> {
        specs.iter().enumerate().map(|(layer, spec)| self.gradient(backend, spec, layer, query)).collect()
    }

    /// The preconditioned gradient of one query at one layer `[d_out, d_in]`.
    ///
    /// # Errors
    /// What the backend meets.
    pub fn gradient(&self, backend: &B, spec: &LayerSpec, layer: usize, query: usize) -> Result<B::Tensor> {
        Ok(match &self.layers[layer] {
            LayerQueries::Full(all) => {
                backend.reshape(backend.slice_rows(all, query, 1)?, Shape::new(spec.d_out, spec.d_in))?
            }
            LayerQueries::Low { u, v, rank } => {
                let u = backend.slice_rows(u, query * rank, *rank)?;
                let v = backend.slice_rows(v, query * rank, *rank)?;
                backend.matmul(&u, Transpose::Yes, &v, Transpose::No)?
            }
        })
    }
}

/// Room for the queries of each layer.
fn empty_layers<B: Folds>(backend: &B, specs: &[LayerSpec], n: usize, rank: Rank) -> Vec<LayerQueries<B>> {
    specs.iter().map(|spec| Form::of(spec, n, rank, None).empty(backend, spec, n)).collect()
}

/// Keeps the matrices `[d_out, d_in]` of a query, one per layer.
fn keep<B: Folds>(
    backend: &B,
    specs: &[LayerSpec],
    layers: &mut [LayerQueries<B>],
    (query, value): (usize, &QueryValue),
    matrices: Vec<B::Tensor>,
) -> Result<()> {
    for ((m, spec), kept) in matrices.into_iter().zip(specs).zip(layers) {
        require_finite(backend, &value.id, spec, &m)?;
        kept.keep(backend, spec, query, m, None)?;
    }
    Ok(())
}

struct QueryTap<'a, B: Folds> {
    backend: &'a B,
    specs: &'a [LayerSpec],
    queries: &'a [Example],
    preconditioner: Preconditioner<'a>,
    forms: Vec<Form>,
    layers: Vec<LayerQueries<B>>,
    first_query: usize,
}

impl<B: Folds> Tap<B> for QueryTap<'_, B> {
    fn layer(&mut self, io: LayerIo<'_, B>) -> std::result::Result<(), ModelError> {
        let damped = self.preconditioner.layer(self.backend, io.layer)?;
        let rotated;
        let (mut input, mut dout) = (io.input, io.dout);
        if let Some(damped) = &damped {
            rotated = damped.factors.rotate_rows(self.backend, input, dout)?;
            (input, dout) = (&rotated.0, &rotated.1);
        }
        for (i, segment) in io.segments.iter().enumerate() {
            let input = self.backend.slice_rows(input, segment.start, segment.len)?;
            let mut dout = self.backend.slice_rows(dout, segment.start, segment.len)?;
            let query = self.first_query + io.first_example + i;
            if let Form::Rows(_) = self.forms[io.layer.0] {
                self.backend.scale(-1.0, &mut dout);
                require_finite(self.backend, &self.queries[query].id, &self.specs[io.layer.0], &dout)?;
                self.layers[io.layer.0].keep_factors(self.backend, query, &dout, &input)?;
                continue;
            }
            let mut m = self.backend.matmul(&dout, Transpose::Yes, &input, Transpose::No)?;
            if let Some(damped) = &damped {
                m = damped.divide(self.backend, &m)?;
            }
            self.backend.scale(-1.0, &mut m);
            let spec = &self.specs[io.layer.0];
            require_finite(self.backend, &self.queries[query].id, spec, &m)?;
            self.layers[io.layer.0].keep(self.backend, spec, query, m, damped.as_ref())?;
        }
        Ok(())
    }
}
