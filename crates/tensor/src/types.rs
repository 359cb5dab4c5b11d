//! Shapes, segments and the choices that operations take.

/// `[rows, cols]` of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns; consecutive in memory.
    pub cols: usize,
}

impl Shape {
    /// A shape from rows and columns.
    pub const fn new(rows: usize, cols: usize) -> Self {
        Self { rows, cols }
    }

    /// Number of elements.
    pub const fn len(self) -> usize {
        self.rows * self.cols
    }

    /// Whether the matrix has no element.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}, {}]", self.rows, self.cols)
    }
}

/// The rows of one sequence in a stacked batch. Rows in no segment are padding: attention neither reads them nor gives
/// them anything but zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
}

impl Segment {
    /// The rows as a range.
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start..self.start + self.len
    }
}

/// How an operand enters a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transpose {
    /// As stored.
    No,
    /// Transposed (a view, never a copy).
    Yes,
}

/// Numbers in which operands enter a product. Sums are in f32 in each case, and so is everything else.
///
/// Relative Frobenius error of a product of random matrices against f64: below 1e-6 for `F32`, 2e-5 for `Bf16x3`, 1e-2 for
/// `Bf16` (more where terms cancel).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// Sums of two bf16, of whose products the three largest are taken: nearly f32, at the speed of matrix units. f32 where
    /// the machine has none.
    Bf16x3,
    /// bf16.
    Bf16,
}

impl Precision {
    /// The most accurate precision that is fastest on this machine among those near f32: bf16x3 where the processor has
    /// AMX, else f32.
    pub fn best() -> Self {
        if crate::cpu::has_matrix_units() { Self::Bf16x3 } else { Self::F32 }
    }

    /// Bytes of each number of a constant weight that products keep packed, per orientation; 0 where none are kept.
    pub fn kept_panel_bytes(self) -> usize {
        crate::cpu::kept_panel_bytes(self)
    }

    /// The word of the command line and of manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16x3 => "bf16x3",
            Self::Bf16 => "bf16",
        }
    }
}

/// What happens to the old value of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// The output is overwritten.
    Replace,
    /// The result is added to the output.
    Add,
}

/// Elementwise activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x Φ(x), Φ by the tanh approximation (GPT-2's `gelu_new`).
    GeluTanh,
    /// x Φ(x), exact.
    GeluErf,
    /// x σ(x).
    Silu,
    /// max(x, 0); the derivative at 0 is 0.
    Relu,
    /// tanh x.
    Tanh,
    /// x.
    Identity,
}

/// Which dimensions a rotary embedding pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryStyle {
    /// (i, i + n/2) within the rotated part: GPT-NeoX, Llama in Hugging Face order.
    Halves,
    /// (2i, 2i + 1): the original order, llama.cpp.
    Interleaved,
}

/// Shape and masking of one multi-head attention. Queries are `[rows, heads · head_dim]`, keys and values
/// `[rows, kv_heads · head_dim]`; head h reads kv head h / (heads / kv_heads).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Position t sees only positions up to t of its segment.
    pub causal: bool,
    /// Position t sees only the last `window` positions (itself included); needs `causal`.
    pub window: Option<usize>,
    /// Factor on the scores, most often 1/√head_dim.
    pub scale: f64,
}

/// The label of one row for softmax cross entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label {
    /// A given class.
    Class(u32),
    /// A class drawn from the model's own distribution by inversion; the number is uniform on [0, 1).
    Draw(f64),
}

/// The scalar that softmax cross entropy computes for each row, and differentiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossEntropy {
    /// −log p(label).
    Loss,
    /// +log p(label).
    LogLikelihood,
    /// log p(label) − log(1 − p(label)), the margin of TRAK (Park et al. 2023).
    Margin,
}

/// A number type that a backend reads from or writes to the host.
pub trait Host: crate::Pooled + Sync {
    /// Widens (exact for f32).
    fn to_f64(self) -> f64;
    /// Rounds to nearest.
    fn of_f64(x: f64) -> Self;
}

impl Host for f32 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn of_f64(x: f64) -> Self {
        x as f32
    }
}

impl Host for f64 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn of_f64(x: f64) -> Self {
        x
    }
}

/// Square windows over images `[height · width, channels]` (a row per pixel, rows of the image one after the other), as a
/// convolution or a pool has them. Positions go row by row, as many as have their whole window within the padded image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// Columns of an image.
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Pixels of a window in each direction.
    pub kernel: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Zeros around the image on each side.
    pub padding: usize,
}

impl Patches {
    /// Whether there is a position.
    pub fn fits(&self) -> bool {
        let least = self.height.min(self.width) + 2 * self.padding;
        self.kernel > 0 && self.stride > 0 && self.channels > 0 && self.kernel <= least
    }

    /// Positions in a column, and in a row.
    pub fn out(&self) -> [usize; 2] {
        let along = |len: usize| match (len + 2 * self.padding).checked_sub(self.kernel) {
            Some(rest) if self.stride > 0 => rest / self.stride + 1,
            _ => 0,
        };
        [along(self.height), along(self.width)]
    }

    /// Positions of an image.
    pub fn positions(&self) -> usize {
        self.out().iter().product()
    }

    /// Pixels of an image.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Numbers of a patch.
    pub fn columns(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// The pixels of a window with their offsets in it, both row by row; none where it lies in the padding.
    pub(crate) fn window(&self, position: usize) -> impl Iterator<Item = (usize, Option<usize>)> + use<> {
        let Self { height, width, kernel, stride, padding, .. } = *self;
        let across = self.out()[1].max(1);
        let (top, left) = (position / across * stride, position % across * stride);
        (0..kernel).flat_map(move |ky| {
            let y = (top + ky).checked_sub(padding).filter(|&y| y < height);
            (0..kernel).map(move |kx| {
                let x = (left + kx).checked_sub(padding).filter(|&x| x < width);
                (ky * kernel + kx, y.zip(x).map(|(y, x)| y * width + x))
            })
        })
    }
}
