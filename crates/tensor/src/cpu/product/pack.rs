//! Packing: 16 rows (or columns) by 32 steps of the inner dimension at a time, in the order in which a unit reads them.
#![allow(unsafe_code)]

use super::super::scalar::Scalar;
use super::unit::{DEPTH, PANEL, Side, Unit};
use super::view::View;

/// An operand seen from its panels: `majors` rows (left) or columns (right), each `depth` steps long.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    data: &'a [T],
    pub(super) majors: usize,
    pub(super) depth: usize,
    major_stride: usize,
    depth_stride: usize,
    /// Factor on each number, before any rounding.
    alpha: T,
    /// Whether numbers are rounded to bf16.
    rounds: bool,
}

/// The numbers of one packing step, as the panel sees them: at most 16 majors and 32 steps, one stride being 1.
#[derive(Clone, Copy)]
pub(super) struct Block<T> {
    pub(super) ptr: *const T,
    pub(super) major_stride: usize,
    pub(super) depth_stride: usize,
    pub(super) majors: usize,
    pub(super) steps: usize,
}

impl<'a, T: Scalar> Source<'a, T> {
    pub(super) fn new(view: View<'a, T>, side: Side, alpha: T, rounds: bool) -> Self {
        let (majors, depth, major_stride, depth_stride) = match side {
            Side::Left => (view.rows, view.cols, view.row_stride, view.col_stride),
            Side::Right => (view.cols, view.rows, view.col_stride, view.row_stride),
        };
        Self { data: view.data, majors, depth, major_stride, depth_stride, alpha, rounds }
    }

    /// Bytes that one panel of `steps` steps takes.
    pub(super) fn panel_bytes(unit: Unit, steps: usize) -> usize {
        steps.div_ceil(unit.granule()) * unit.granule_bytes::<T>()
    }

    /// Packs steps `from..from + steps` of panel `panel` to `out`, padded with zeros to 16 majors and whole granules.
    ///
    /// # Safety
    /// `out` must be valid for writes of `panel_bytes(unit, steps)`, and aligned to 64 bytes.
    pub(super) unsafe fn pack_panel(
        &self,
        unit: Unit,
        side: Side,
        panel: usize,
        from: usize,
        steps: usize,
        out: *mut u8,
    ) {
        let first = panel * PANEL;
        let majors = PANEL.min(self.majors - first);
        for start in (0..steps).step_by(DEPTH) {
            let len = DEPTH.min(steps - start);
            // SAFETY: blocks follow each other within the panel, by the contract of this function.
            let out = unsafe { out.add(start / unit.granule() * unit.granule_bytes::<T>()) };
            let origin = first * self.major_stride + (from + start) * self.depth_stride;
            let last = origin + (majors - 1) * self.major_stride + (len - 1) * self.depth_stride;
            assert!(last < self.data.len(), "a packed block lies outside of its operand");
            let block = Block {
                ptr: self.data[origin..].as_ptr(),
                major_stride: self.major_stride,
                depth_stride: self.depth_stride,
                majors,
                steps: len,
            };
            // SAFETY: the assertion covers every element of the block; out has room for the granules of its steps.
            unsafe {
                if self.rounds || self.alpha != T::ONE {
                    self.pack_changed(unit, side, block, out)
                } else {
                    pack_block(unit, side, block, out)
                }
            }
        }
    }

    /// Packs a block that is scaled or rounded.
    ///
    /// # Safety
    /// As [`pack_block`].
    unsafe fn pack_changed(&self, unit: Unit, side: Side, block: Block<T>, out: *mut u8) {
        let mut changed = [T::ZERO; PANEL * DEPTH];
        for i in 0..block.majors {
            for k in 0..block.steps {
                // SAFETY: by the contract of this function.
                let x = unsafe { *block.ptr.add(i * block.major_stride + k * block.depth_stride) } * self.alpha;
                changed[k * PANEL + i] = if self.rounds { round_to_bf16(x) } else { x };
            }
        }
        let block = Block { ptr: changed.as_ptr(), major_stride: 1, depth_stride: PANEL, ..block };
        // SAFETY: `changed` holds all majors and steps; the rest is the contract of this function.
        unsafe { pack_block(unit, side, block, out) };
    }
}

/// x rounded to the nearest bf16, ties to even.
fn round_to_bf16<T: Scalar>(x: T) -> T {
    let bits = (x.to_f64() as f32).to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    if x.to_f64().is_nan() { x } else { T::of_f64(f64::from(f32::from_bits(rounded))) }
}

/// Packs a block, with zeros for majors that do not exist.
///
/// # Safety
/// `block` must be valid for reads of its majors and steps, `out` for writes of the granules of its steps, aligned to 64.
unsafe fn pack_block<T: Scalar>(unit: Unit, side: Side, block: Block<T>, out: *mut u8) {
    let _ = side;
    // SAFETY: by the contract of this function; a unit other than the portable one was chosen for f32 and this machine.
    unsafe {
        match unit {
            Unit::Portable => pack_portable(block, out.cast()),
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 => super::avx512::pack_f32(block.of_f32(), out.cast()),
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512Bf16 => super::avx512::pack_pairs(block.of_f32(), out.cast()),
            #[cfg(target_arch = "x86_64")]
            Unit::AmxBf16 => super::amx::pack(block.of_f32(), side, out.cast()),
            #[cfg(target_arch = "x86_64")]
            Unit::AmxBf16x3 => super::amx::pack_split(block.of_f32(), side, out.cast()),
            #[cfg(not(target_arch = "x86_64"))]
            _ => pack_portable(block, out.cast()),
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl<T> Block<T> {
    fn of_f32(self) -> Block<f32> {
        Block {
            ptr: self.ptr.cast(),
            major_stride: self.major_stride,
            depth_stride: self.depth_stride,
            majors: self.majors,
            steps: self.steps,
        }
    }
}

/// # Safety
/// As [`pack_block`].
unsafe fn pack_portable<T: Scalar>(block: Block<T>, out: *mut T) {
    for k in 0..block.steps {
        for i in 0..PANEL {
            let at = i * block.major_stride + k * block.depth_stride;
            // SAFETY: in bounds by the contract of this function.
            unsafe { *out.add(k * PANEL + i) = if i < block.majors { *block.ptr.add(at) } else { T::ZERO } };
        }
    }
}
