//! Queries made ready: −(G + λI)⁻¹ ∇f of each, per layer, at full or low rank.

use etymon_curvature::{LayerPreconditioner, Preconditioner};
use etymon_data::{Batch, BatchLimits, Batches, Example, Padding};
use etymon_model::{Consumer, LayerIo, LayerSpec, Measurement, Model, ModelError, Objective, Tap};
use etymon_tensor::{Folds, Shape, Transpose};

use crate::low_rank::{LowRank, truncated_svd};
use crate::{AttributionError, Result};

/// Seed of the random start of the singular value decompositions.
const SVD_SEED: u64 = 0;

/// How preconditioned query gradients are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// As they are: `[d_out, d_in]` per query and layer.
    Full,
    /// Truncated to this rank (Grosse et al. 2023 use 32).
    Low(usize),
}

/// The prepared queries of one layer.
#[derive(Clone, Debug)]
pub enum LayerQueries<B: Folds> {
    /// `[Q, d_out · d_in]`.
    Full(B::Tensor),
    /// Factors of rank r: `[Q · r, d_out]` and `[Q · r, d_in]`.
    Low {
        /// Left factors.
        u: B::Tensor,
        /// Right factors.
        v: B::Tensor,
        /// r.
        rank: usize,
    },
}

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
        let layers = specs.iter().map(|spec| empty(backend, spec, queries.len(), rank)).collect();
        let mut tap = QueryTap { backend, specs, queries, preconditioner, layers, first_query: 0 };
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

    /// Numbers held for all layers, to plan memory: Σ over layers of Q d_out d_in, or Q r (d_out + d_in).
    pub fn n_numbers(specs: &[LayerSpec], n_queries: usize, rank: Rank) -> usize {
        let layer = |s: &LayerSpec| match rank {
            Rank::Full => s.d_out * s.d_in,
            Rank::Low(r) => r.min(s.d_out).min(s.d_in) * (s.d_out + s.d_in),
        };
        n_queries * specs.iter().map(layer).sum::<usize>()
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

fn empty<B: Folds>(backend: &B, spec: &LayerSpec, n: usize, rank: Rank) -> LayerQueries<B> {
    match rank {
        Rank::Full => LayerQueries::Full(backend.zeros(Shape::new(n, spec.d_out * spec.d_in))),
        Rank::Low(r) => {
            let rank = r.min(spec.d_out).min(spec.d_in);
            let zeros = |d| backend.zeros(Shape::new(n * rank, d));
            LayerQueries::Low { u: zeros(spec.d_out), v: zeros(spec.d_in), rank }
        }
    }
}

struct QueryTap<'a, B: Folds> {
    backend: &'a B,
    specs: &'a [LayerSpec],
    queries: &'a [Example],
    preconditioner: Preconditioner<'a>,
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
            let dout = self.backend.slice_rows(dout, segment.start, segment.len)?;
            let mut m = self.backend.matmul(&dout, Transpose::Yes, &input, Transpose::No)?;
            if let Some(damped) = &damped {
                m = damped.divide(self.backend, &m)?;
            }
            self.backend.scale(-1.0, &mut m);
            self.require_finite(io.layer.0, self.first_query + io.first_example + i, &m)?;
            self.keep(io.layer.0, self.first_query + io.first_example + i, m, damped.as_ref())?;
        }
        Ok(())
    }
}

impl<B: Folds> QueryTap<'_, B> {
    fn require_finite(&self, layer: usize, query: usize, m: &B::Tensor) -> Result<()> {
        if self.backend.dot(m, m)?.is_finite() {
            return Ok(());
        }
        let what = format!("its preconditioned gradient at layer `{}`", self.specs[layer].name);
        Err(AttributionError::NotFinite { id: self.queries[query].id.clone(), what })
    }

    /// Keeps M `[d_out, d_in]`, given in the eigenbasis, as the prepared gradient of a query.
    fn keep(
        &mut self,
        layer: usize,
        query: usize,
        m: B::Tensor,
        damped: Option<&LayerPreconditioner<B>>,
    ) -> Result<()> {
        let backend = self.backend;
        match &mut self.layers[layer] {
            LayerQueries::Full(all) => {
                let p = match damped {
                    Some(damped) => damped.factors.rotate_back(backend, &m)?,
                    None => m,
                };
                let flat = Shape::new(1, backend.shape(&p).len());
                backend.write_rows(all, query, &backend.reshape(p, flat)?)?;
            }
            LayerQueries::Low { u, v, rank } => {
                // One seed for all layers: their numbers depend on the group of layers that the model taps.
                let Some(LowRank { u: mut left, v: mut right }) = truncated_svd(backend, &m, *rank, SVD_SEED)? else {
                    return Err(AttributionError::Svd { layer: self.specs[layer].name.clone() });
                };
                if let Some(damped) = damped {
                    left = backend.matmul(&left, Transpose::No, &damped.factors.q_s, Transpose::Yes)?;
                    right = backend.matmul(&right, Transpose::No, &damped.factors.q_a, Transpose::Yes)?;
                }
                backend.write_rows(u, query * *rank, &left)?;
                backend.write_rows(v, query * *rank, &right)?;
            }
        }
        Ok(())
    }
}
