//! Several directions side by side.

use etymon_tensor::{Accumulate, Backend, Shape, Transpose};
use faer::Mat;

use crate::Result;

/// n directions: a matrix `[n, d_out · d_in]` for each layer, so that what is done to all of them is a product of matrices.
#[derive(Clone, Debug)]
pub(super) struct Stack<T>(Vec<T>);

impl<T: Clone> Stack<T> {
    /// Copies of `vs`, each a matrix `[d_out, d_in]` per layer.
    pub(super) fn of<B: Backend<Tensor = T>>(backend: &B, vs: &[&[T]]) -> Result<Self> {
        let layer = |i: usize| {
            let len = backend.shape(&vs[0][i]).len();
            let mut all = backend.zeros(Shape::new(vs.len(), len));
            for (row, v) in vs.iter().enumerate() {
                backend.write_rows(&mut all, row, &backend.reshape(v[i].clone(), Shape::new(1, len))?)?;
            }
            Ok(all)
        };
        Ok(Self((0..vs.first().map_or(0, |v| v.len())).map(layer).collect::<Result<_>>()?))
    }

    /// As many directions of zeros.
    pub(super) fn zeros<B: Backend<Tensor = T>>(&self, backend: &B) -> Self {
        Self(self.0.iter().map(|all| backend.zeros(backend.shape(all))).collect())
    }

    /// The directions one by one, with the shapes of `like`.
    pub(super) fn split<B: Backend<Tensor = T>>(&self, backend: &B, like: &[Shape]) -> Result<Vec<Vec<T>>> {
        let part = |all: &T, row, shape: &Shape| Ok(backend.reshape(backend.slice_rows(all, row, 1)?, *shape)?);
        let direction = |row| self.0.iter().zip(like).map(|(all, shape)| part(all, row, shape)).collect();
        (0..self.len(backend)).map(direction).collect()
    }

    /// n.
    pub(super) fn len<B: Backend<Tensor = T>>(&self, backend: &B) -> usize {
        self.0.first().map_or(0, |all| backend.shape(all).rows)
    }

    /// The directions at `rows`.
    pub(super) fn select<B: Backend<Tensor = T>>(&self, backend: &B, rows: &[usize]) -> Result<Self> {
        Ok(Self(self.0.iter().map(|all| backend.gather_rows(all, rows)).collect::<std::result::Result<_, _>>()?))
    }

    /// ⟨x_i, y_j⟩ of all x of self and y of `other`, `[n, m]`.
    pub(super) fn dots<B: Backend<Tensor = T>>(&self, backend: &B, other: &Self) -> Result<Mat<f64>> {
        let shape = Shape::new(self.len(backend), other.len(backend));
        let mut all = backend.zeros(shape);
        for (x, y) in self.0.iter().zip(&other.0) {
            backend.matmul_into(1.0, x, Transpose::No, y, Transpose::Yes, Accumulate::Add, &mut all)?;
        }
        let numbers = backend.download::<f64>(&all);
        Ok(Mat::from_fn(shape.rows, shape.cols, |i, j| numbers[i * shape.cols + j]))
    }

    /// ‖x_i‖ of each i, summed in f64.
    pub(super) fn sizes<B: Backend<Tensor = T>>(&self, backend: &B) -> Result<Vec<f64>> {
        let size = |row| {
            let mut square = 0.0;
            for all in &self.0 {
                let x = backend.slice_rows(all, row, 1)?;
                square += backend.dot(&x, &x)?;
            }
            Ok(square.sqrt())
        };
        (0..self.len(backend)).map(size).collect()
    }

    /// y_i += α Σ_j c_ji x_j for each y_i of self, with `c` `[m, n]` and the m directions x of `from`.
    pub(super) fn add<B: Backend<Tensor = T>>(
        &mut self,
        backend: &B,
        alpha: f64,
        c: &Mat<f64>,
        from: &Self,
    ) -> Result<()> {
        let c = upload(backend, c)?;
        for (y, x) in self.0.iter_mut().zip(&from.0) {
            backend.matmul_into(alpha, &c, Transpose::Yes, x, Transpose::No, Accumulate::Add, y)?;
        }
        Ok(())
    }

    /// Σ_j c_ji x_j for each column i of `c` `[n, m]`.
    pub(super) fn combine<B: Backend<Tensor = T>>(&self, backend: &B, c: &Mat<f64>) -> Result<Self> {
        let c = upload(backend, c)?;
        let layer = |x| backend.matmul(&c, Transpose::Yes, x, Transpose::No);
        Ok(Self(self.0.iter().map(layer).collect::<std::result::Result<_, _>>()?))
    }
}

fn upload<B: Backend>(backend: &B, c: &Mat<f64>) -> Result<B::Tensor> {
    let numbers: Vec<f64> = (0..c.nrows()).flat_map(|i| (0..c.ncols()).map(move |j| c[(i, j)])).collect();
    Ok(backend.upload(Shape::new(c.nrows(), c.ncols()), &numbers)?)
}
