//! One tile of an output: a few rows of the left operand times a few columns of the right one.
#![allow(unsafe_code)]

use super::super::parallel::dispatch;
use super::super::scalar::Scalar;
use super::unit::{PANEL, Unit};

/// What becomes of the old value of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// out = a b.
    Replace,
    /// out += a b.
    Add,
    /// out += (a b)∘(a b); the inner dimension must then be summed in one go.
    AddSquares,
    /// out += a b, where out is f64.
    AddWide,
}

impl Mode {
    /// Bytes of an element of an output of products of `T`.
    pub(super) const fn out_size<T>(self) -> usize {
        if matches!(self, Self::AddWide) { size_of::<f64>() } else { size_of::<T>() }
    }
}

/// Where a tile reads and writes.
pub(super) struct Tile<T> {
    /// The first row in its packed panel.
    pub(super) left: *const u8,
    /// Bytes between panels on the left.
    pub(super) left_stride: usize,
    /// The first packed panel on the right.
    pub(super) right: *const u8,
    /// Bytes between panels on the right.
    pub(super) right_stride: usize,
    /// Granules of the inner dimension.
    pub(super) granules: usize,
    /// `T`, or f64 where [`Mode`] says so.
    pub(super) out: *mut u8,
    /// Elements between rows of the output.
    pub(super) stride: usize,
    /// Rows and columns to write: at most [`Unit::tile`].
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) mode: Mode,
    /// What is added to each row of the product, `cols` numbers; or null. Not with squares.
    pub(super) bias: *const T,
}

impl<T: Scalar> Tile<T> {
    /// Writes one sum.
    ///
    /// # Safety
    /// Row `i` and column `j` must be of the tile.
    #[inline(always)]
    pub(super) unsafe fn put(&self, i: usize, j: usize, sum: T) {
        let at = i * self.stride + j;
        // SAFETY: by the contract of this function; a bias has as many numbers as the tile has columns.
        unsafe {
            let sum = if self.bias.is_null() { sum } else { sum + *self.bias.add(j) };
            let out = self.out.cast::<T>().wrapping_add(at);
            match self.mode {
                Mode::Replace => *out = sum,
                Mode::Add => *out += sum,
                Mode::AddSquares => *out = sum.mul_add(sum, *out),
                Mode::AddWide => *self.out.cast::<f64>().add(at) += sum.to_f64(),
            }
        }
    }

    /// Computes the tile.
    ///
    /// # Safety
    /// The operands must be packed for `unit` and hold the granules of all panels that `rows` and `cols` reach; the output
    /// must be valid for exclusive access, and initialised unless it is replaced. A unit other than the portable one must
    /// have been chosen for `T` on this machine.
    pub(super) unsafe fn run(&self, unit: Unit) {
        if self.granules == 0 {
            let places = (0..self.rows).flat_map(|i| (0..self.cols).map(move |j| (i, j)));
            // SAFETY: row and column are of the tile.
            return places.for_each(|(i, j)| unsafe { self.put(i, j, T::ZERO) });
        }
        match unit {
            Unit::Portable => dispatch(Portable(self)),
            // SAFETY: by the contract of this function; `T` is f32.
            #[cfg(target_arch = "x86_64")]
            unit => unsafe {
                let tile = &*std::ptr::from_ref(self).cast::<Tile<f32>>();
                match unit {
                    Unit::Avx512Bf16 => super::avx512::tile_bf16(tile),
                    Unit::AmxBf16 | Unit::AmxBf16x3 => super::amx::tile(unit, tile),
                    _ => super::avx512::tile_f32(tile),
                }
            },
            #[cfg(not(target_arch = "x86_64"))]
            _ => dispatch(Portable(self)),
        }
    }
}

struct Portable<'a, T>(&'a Tile<T>);

impl<T: Scalar> pulp::NullaryFnOnce for Portable<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        const ROWS: usize = Unit::Portable.tile().0;
        let tile = self.0;
        let mut sums = [[T::ZERO; PANEL]; ROWS];
        let (a, b) = (tile.left.cast::<T>(), tile.right.cast::<T>());
        for k in 0..tile.granules {
            // SAFETY: the contract of `Tile::run` covers all granules of the panels.
            let (left, right) =
                unsafe { (&*a.add(k * PANEL).cast::<[T; ROWS]>(), &*b.add(k * PANEL).cast::<[T; PANEL]>()) };
            for i in 0..ROWS {
                for j in 0..PANEL {
                    sums[i][j] = left[i].mul_add(right[j], sums[i][j]);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate().take(tile.rows) {
            for (j, &sum) in sums.iter().enumerate().take(tile.cols) {
                // SAFETY: row and column exist, by the contract of `Tile::run`.
                unsafe { tile.put(i, j, sum) };
            }
        }
    }
}
