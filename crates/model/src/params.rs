//! Named parameters: what a model stores, how it is stored in files, how it starts.

use etymon_tensor::{Backend, Shape};

/// Position of a parameter in [`Params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub usize);

/// How the numbers of a parameter lie in a file, against the model's own `[d_out, d_in]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// The same, as a matrix.
    Matrix,
    /// A vector of `cols` numbers.
    Vector,
    /// Transposed: Conv1D of GPT-2.
    Transposed,
    /// `[d_out, channels, kernel, kernel]` of a convolution, or the same as a matrix.
    Kernel {
        /// Channels of the input.
        channels: usize,
        /// Pixels of a window in each direction.
        kernel: usize,
    },
    /// Rows in the order (head, q|k|v, dim) of GPT-NeoX against (q|k|v, head, dim) here. `vector` for the bias.
    PerHead {
        /// Number of heads.
        heads: usize,
        /// A bias: `cols` are reordered.
        vector: bool,
    },
}

/// How a new parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform on (−k, k).
    Uniform(f64),
}

/// A parameter before it has a value.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Name in the files.
    pub name: String,
    /// Shape in the model; vectors are `[1, n]`.
    pub shape: Shape,
    /// Layout in the files.
    pub storage: Storage,
    /// Start value.
    pub init: Init,
    /// Whether weight decay applies (matrices yes; biases and norms no).
    pub decay: bool,
}

impl ParamSpec {
    /// Shape as the files have it.
    pub fn stored_shape(&self) -> Vec<usize> {
        let Shape { rows, cols } = self.shape;
        match self.storage {
            Storage::Matrix | Storage::PerHead { vector: false, .. } => vec![rows, cols],
            Storage::Vector | Storage::PerHead { vector: true, .. } => vec![cols],
            Storage::Transposed => vec![cols, rows],
            Storage::Kernel { channels, kernel } => vec![rows, channels, kernel, kernel],
        }
    }

    /// Numbers as stored → numbers of the model, row major.
    pub fn from_stored(&self, data: Vec<f32>) -> Vec<f32> {
        self.rearrange(data, |spec, row| spec.stored_row(row), self.shape.cols)
    }

    /// Numbers of the model → numbers as stored.
    pub fn to_stored(&self, data: Vec<f32>) -> Vec<f32> {
        self.rearrange(data, |spec, row| spec.model_row(row), self.shape.rows)
    }

    /// `row(i)` tells which row of the source becomes row i; `width` is the row width of a transposed result.
    fn rearrange(&self, data: Vec<f32>, row: impl Fn(&Self, usize) -> usize, width: usize) -> Vec<f32> {
        match self.storage {
            Storage::Matrix | Storage::Vector | Storage::Kernel { .. } => data,
            Storage::Transposed => {
                let height = data.len() / width.max(1);
                let mut out = Vec::with_capacity(data.len());
                for r in 0..height {
                    out.extend((0..width).map(|c| data[c * height + r]));
                }
                out
            }
            Storage::PerHead { vector, .. } => {
                let (rows, cols) = if vector { (self.shape.cols, 1) } else { (self.shape.rows, self.shape.cols) };
                let mut out = Vec::with_capacity(data.len());
                for r in 0..rows {
                    let from = row(self, r) * cols;
                    out.extend_from_slice(&data[from..from + cols]);
                }
                out
            }
        }
    }

    /// Row (q|k|v, head, dim) of the model → row (head, q|k|v, dim) of the file.
    fn stored_row(&self, row: usize) -> usize {
        let (heads, dim) = self.head_layout();
        let (part, head, i) = (row / (heads * dim), row / dim % heads, row % dim);
        (head * 3 + part) * dim + i
    }

    fn model_row(&self, row: usize) -> usize {
        let (heads, dim) = self.head_layout();
        let (head, part, i) = (row / (3 * dim), row / dim % 3, row % dim);
        (part * heads + head) * dim + i
    }

    fn head_layout(&self) -> (usize, usize) {
        let Storage::PerHead { heads, vector } = self.storage else { return (1, 1) };
        let rows = if vector { self.shape.cols } else { self.shape.rows };
        (heads, rows / (3 * heads))
    }
}

/// All parameters of a model, or their gradients, or an optimizer's moments: one matrix per [`ParamSpec`], from the first
/// one on that is trained.
#[derive(Clone, Debug)]
pub struct Params<B: Backend> {
    /// Parameters before this one have none here: they are frozen.
    first: ParamId,
    tensors: Vec<B::Tensor>,
}

impl<B: Backend> Params<B> {
    /// One matrix per parameter, in order.
    pub fn new(tensors: Vec<B::Tensor>) -> Self {
        Self { first: ParamId(0), tensors }
    }

    /// Zeros of the same shapes.
    pub fn zeros_like(&self, backend: &B) -> Self {
        self.zeros_from(self.first, backend)
    }

    /// Zeros of the shapes of the parameters from `first` on.
    pub(crate) fn zeros_from(&self, first: ParamId, backend: &B) -> Self {
        let tensors = self.tensors.iter().skip(first.0 - self.first.0);
        Self { first, tensors: tensors.map(|t| backend.zeros(backend.shape(t))).collect() }
    }

    /// One more.
    pub(crate) fn push(&mut self, tensor: B::Tensor) {
        self.tensors.push(tensor);
    }

    /// Drops those from the `n`th on.
    pub(crate) fn truncate(&mut self, n: usize) {
        self.tensors.truncate(n);
    }

    /// The first parameter that is here.
    pub fn first(&self) -> ParamId {
        self.first
    }

    /// One parameter of a set that has all, such as a model's own.
    pub fn get(&self, id: ParamId) -> &B::Tensor {
        &self.tensors[id.0]
    }

    /// One parameter, to change, if it is here.
    pub fn get_mut(&mut self, id: ParamId) -> Option<&mut B::Tensor> {
        self.tensors.get_mut(id.0.checked_sub(self.first.0)?)
    }

    /// Two different parameters, to change.
    pub(crate) fn pair_mut(&mut self, a: ParamId, b: ParamId) -> Option<(&mut B::Tensor, &mut B::Tensor)> {
        let [a, b] = [a.0.checked_sub(self.first.0)?, b.0.checked_sub(self.first.0)?];
        self.tensors.get_disjoint_mut([a, b]).ok().map(|[x, y]| (x, y))
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &B::Tensor> {
        self.tensors.iter()
    }

    /// In order, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut B::Tensor> {
        self.tensors.iter_mut()
    }

    /// Number of parameters (matrices, not scalars).
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}
