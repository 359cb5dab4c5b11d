//! Packing and tiles by AMX: bf16, and bf16x3 (a = hi + lo; a b ≈ hi hi + hi lo + lo hi).
//!
//! The compiler's intrinsics for AMX are not stable, the instructions in inline assembly are. A packed panel is a row of
//! 1 KiB tiles, one per 32 steps: `[16][32 steps]` on the left, `[16 pairs of steps][16][2]` on the right; for bf16x3 the
//! tile of the hi parts is followed by that of the lo parts.
#![allow(unsafe_code)]

use super::avx512::{has_bf16, numbers, pair_order, round, rounded, transpose};
use super::pack::Block;
use super::tile::{Mode, Tile};
use super::unit::{PANEL, Side, Unit};
use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Whether AMX tiles of bf16 run here. Linux gives a process the tile registers when it asks for them.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && has_bf16() && ask_for_tiles())
}

fn has_instructions() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
}

#[cfg(target_os = "linux")]
fn ask_for_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: this call only changes which registers the kernel saves for the process.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn ask_for_tiles() -> bool {
    false
}

/// The tile registers of this thread, set up for tiles of 16 rows of 64 bytes until it is dropped.
pub(super) struct Tiles(());

impl Tiles {
    /// # Safety
    /// AMX must be available.
    pub(super) unsafe fn set_up() -> Self {
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.row_bytes[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: by the contract of this function.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: `set_up` ran, so AMX is available.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// # Safety
/// `block` must be valid for reads of its majors and steps, `out` for writes of 1 KiB aligned to 64.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack(block: Block<f32>, side: Side, out: *mut u8) {
    // SAFETY: by the contract of this function.
    unsafe {
        for (i, r) in rounded(block, side == Side::Right).into_iter().enumerate() {
            _mm512_store_si512(out.add(64 * i).cast(), r);
        }
    }
}

/// The tile of the hi parts, then that of the lo parts.
///
/// # Safety
/// `block` must be valid for reads of its majors and steps, `out` for writes of 2 KiB aligned to 64.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack_split(block: Block<f32>, side: Side, out: *mut u8) {
    let mut high = [_mm512_setzero_si512(); 16];
    let mut low = high;
    let by_depth = block.depth_stride == 1;
    // SAFETY: by the contract of this function.
    unsafe {
        for i in 0..16 {
            let (x, y) = if by_depth {
                (numbers(&block, i, 0), numbers(&block, i, 16))
            } else {
                (numbers(&block, 2 * i, 0), numbers(&block, 2 * i + 1, 0))
            };
            let h = round(x, y);
            let l = round(_mm512_sub_ps(x, widen(_mm512_castsi512_si256(h))), _mm512_sub_ps(y, widen(upper(h))));
            let order = pair_order();
            let arrange = |r| if by_depth { r } else { _mm512_permutexvar_epi16(order, r) };
            (high[i], low[i]) = (arrange(h), arrange(l));
        }
        if by_depth == (side == Side::Right) {
            transpose(&mut high);
            transpose(&mut low);
        }
        for i in 0..16 {
            _mm512_store_si512(out.add(64 * i).cast(), high[i]);
            _mm512_store_si512(out.add(1024 + 64 * i).cast(), low[i]);
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn upper(x: __m512i) -> __m256i {
    _mm512_extracti64x4_epi64(x, 1)
}

/// 16 bf16 as f32.
#[target_feature(enable = "avx512f")]
#[inline]
fn widen(x: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))
}

/// A tile of 32 × 32.
///
/// # Safety
/// The operands must be packed for `unit` and hold the granules; the output must be valid; the tile registers must be set
/// up. Where there is only one panel on a side, it may be read twice.
pub(super) unsafe fn tile(unit: Unit, tile: &Tile<f32>) {
    let second = |stride, size| if size > PANEL { stride } else { 0 };
    let operands = Operands {
        left: [tile.left, tile.left.wrapping_add(second(tile.left_stride, tile.rows))],
        right: [tile.right, tile.right.wrapping_add(second(tile.right_stride, tile.cols))],
        granules: tile.granules,
        split: unit == Unit::AmxBf16x3,
    };
    let is_whole = tile.rows == 2 * PANEL && tile.cols == 2 * PANEL;
    // SAFETY: by the contract of this function.
    unsafe {
        if is_whole && tile.bias.is_null() && matches!(tile.mode, Mode::Replace | Mode::Add) {
            operands.multiply(tile.out.cast(), tile.stride, tile.mode == Mode::Add);
            return;
        }
        let mut sums = [[0.0f32; 2 * PANEL]; 2 * PANEL];
        operands.multiply(sums.as_mut_ptr().cast(), 2 * PANEL, false);
        for (i, row) in sums.iter().enumerate().take(tile.rows) {
            for (j, &sum) in row.iter().enumerate().take(tile.cols) {
                tile.put(i, j, sum);
            }
        }
    }
}

/// Two panels on each side.
struct Operands {
    left: [*const u8; 2],
    right: [*const u8; 2],
    granules: usize,
    split: bool,
}

impl Operands {
    /// out `[32, 32]` (+)= left right.
    ///
    /// # Safety
    /// The panels must hold the granules, `out` must be valid with rows `stride` apart, and tile registers set up.
    unsafe fn multiply(&self, out: *mut f32, stride: usize, accumulate: bool) {
        let (lower, bytes) = (out.wrapping_add(PANEL * stride), stride * size_of::<f32>());
        // SAFETY: by the contract of this function. The sums stay in tmm0–tmm3 between the blocks of assembly: the
        // compiler never uses tile registers.
        unsafe {
            if accumulate {
                asm!(
                    "tileloadd tmm0, [{c} + {s}]",
                    "tileloadd tmm1, [{c} + {s} + 64]",
                    "tileloadd tmm2, [{d} + {s}]",
                    "tileloadd tmm3, [{d} + {s} + 64]",
                    c = in(reg) out, d = in(reg) lower, s = in(reg) bytes, options(nostack)
                );
            } else {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack));
            }
            if self.granules > 0 {
                if self.split { self.sum_split() } else { self.sum() }
            }
            asm!(
                "tilestored [{c} + {s}], tmm0",
                "tilestored [{c} + {s} + 64], tmm1",
                "tilestored [{d} + {s}], tmm2",
                "tilestored [{d} + {s} + 64], tmm3",
                c = in(reg) out, d = in(reg) lower, s = in(reg) bytes, options(nostack)
            );
        }
    }

    /// # Safety
    /// As [`multiply`](Self::multiply), with at least one granule.
    unsafe fn sum(&self) {
        // SAFETY: by the contract of this function.
        unsafe {
            asm!(
                "2:",
                "tileloadd tmm4, [{a0} + {s}]",
                "tileloadd tmm6, [{b0} + {s}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {s}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {s}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 1024",
                "add {a1}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {k}",
                "jnz 2b",
                a0 = inout(reg) self.left[0] => _,
                a1 = inout(reg) self.left[1] => _,
                b0 = inout(reg) self.right[0] => _,
                b1 = inout(reg) self.right[1] => _,
                k = inout(reg) self.granules => _,
                s = in(reg) 64usize,
                options(nostack)
            );
        }
    }

    /// hi hi + hi lo + lo hi.
    ///
    /// # Safety
    /// As [`sum`](Self::sum).
    unsafe fn sum_split(&self) {
        // SAFETY: by the contract of this function.
        unsafe {
            asm!(
                "2:",
                "tileloadd tmm4, [{a0} + {s}]",
                "tileloadd tmm6, [{b0} + {s}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {s}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {s}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm6, [{b0} + {s} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{b1} + {s} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm4, [{a0} + {s} + 1024]",
                "tileloadd tmm6, [{b0} + {s}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {s}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {s} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 2048",
                "add {a1}, 2048",
                "add {b0}, 2048",
                "add {b1}, 2048",
                "dec {k}",
                "jnz 2b",
                a0 = inout(reg) self.left[0] => _,
                a1 = inout(reg) self.left[1] => _,
                b0 = inout(reg) self.right[0] => _,
                b1 = inout(reg) self.right[1] => _,
                k = inout(reg) self.granules => _,
                s = in(reg) 64usize,
                options(nostack)
            );
        }
    }
}
