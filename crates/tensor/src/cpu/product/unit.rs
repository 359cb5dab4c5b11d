//! The units that multiply: which one a precision runs on, and how each wants its operands packed.
#![allow(unsafe_code)]

use super::super::scalar::Scalar;
use crate::Precision;
use std::any::TypeId;

/// Rows or columns of a panel.
pub(crate) const PANEL: usize = 16;
/// Steps of the inner dimension that are packed at a time.
pub(crate) const DEPTH: usize = 32;

/// A way to multiply a block of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Loops that the compiler turns into vector code for the machine; any number type.
    Portable,
    /// f32 by AVX-512.
    Avx512,
    /// bf16 operands with sums in f32, by AVX-512-BF16.
    Avx512Bf16,
    /// bf16 operands with sums in f32, by AMX tiles.
    AmxBf16,
    /// Operands as sums of two bf16, hi·hi + hi·lo + lo·hi in f32, by AMX tiles.
    AmxBf16x3,
}

/// Which side of a product an operand is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// a of a b: panels of rows.
    Left,
    /// b of a b: panels of columns.
    Right,
}

impl Unit {
    /// The unit that products of numbers `T` run on at a precision. Where the machine has no unit for bf16, operands are
    /// rounded on packing (see [`rounds`](Self::rounds)) and f32 units multiply them; bf16x3 is then f32, which is more
    /// accurate and no slower.
    pub(crate) fn of<T: Scalar>(precision: Precision) -> Self {
        if TypeId::of::<T>() != TypeId::of::<f32>() {
            return Self::Portable;
        }
        Self::for_f32(precision)
    }

    #[cfg(target_arch = "x86_64")]
    fn for_f32(precision: Precision) -> Self {
        match precision {
            Precision::Bf16 if super::amx::is_available() => Self::AmxBf16,
            Precision::Bf16x3 if super::amx::is_available() => Self::AmxBf16x3,
            Precision::Bf16 if super::avx512::has_bf16() => Self::Avx512Bf16,
            _ if super::avx512::is_available() => Self::Avx512,
            _ => Self::Portable,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn for_f32(_: Precision) -> Self {
        Self::Portable
    }

    /// Whether operands must be rounded to bf16 before they are packed for this unit.
    pub(crate) fn rounds(self, precision: Precision) -> bool {
        precision == Precision::Bf16 && matches!(self, Self::Portable | Self::Avx512)
    }

    /// Whether packed operands are smaller than f32, so that keeping those of constant weights pays.
    pub(crate) fn keeps_weights(self) -> bool {
        !matches!(self, Self::Portable | Self::Avx512)
    }

    /// Steps of the inner dimension that are packed as one: an inner dimension is padded to a multiple with zeros.
    pub(crate) const fn granule(self) -> usize {
        match self {
            Self::Portable | Self::Avx512 => 1,
            Self::Avx512Bf16 => 2,
            Self::AmxBf16 | Self::AmxBf16x3 => DEPTH,
        }
    }

    /// Bytes of a granule of one panel.
    pub(crate) const fn granule_bytes<T>(self) -> usize {
        match self {
            Self::Portable => PANEL * size_of::<T>(),
            Self::Avx512 | Self::Avx512Bf16 => 64,
            Self::AmxBf16 => 1024,
            Self::AmxBf16x3 => 2048,
        }
    }

    /// Whether left and right operands are packed the same way.
    pub(crate) const fn sides_alike(self) -> bool {
        !matches!(self, Self::AmxBf16 | Self::AmxBf16x3)
    }

    /// Rows and columns that the kernel computes at a time.
    pub(crate) const fn tile(self) -> (usize, usize) {
        match self {
            Self::Portable => (4, PANEL),
            Self::Avx512 | Self::Avx512Bf16 => (8, 3 * PANEL),
            Self::AmxBf16 | Self::AmxBf16x3 => (2 * PANEL, 2 * PANEL),
        }
    }

    /// Sets up what the unit needs of the thread, until the result is dropped. The unit must have been chosen for this
    /// machine.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn enter(self) -> Option<super::amx::Tiles> {
        // SAFETY: a unit of AMX is chosen where it is available only.
        (!self.sides_alike()).then(|| unsafe { super::amx::Tiles::set_up() })
    }

    /// Sets up what the unit needs of the thread: nothing here.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn enter(self) -> Option<()> {
        None
    }

    /// Granules between two visits to the output.
    pub(crate) const fn chunk(self) -> usize {
        match self {
            Self::Portable | Self::Avx512 => 384,
            Self::Avx512Bf16 => 512,
            Self::AmxBf16 => 16,
            Self::AmxBf16x3 => 8,
        }
    }
}
