//! Packing and tiles by AVX-512: f32, and bf16 pairs where the processor has them.
#![allow(unsafe_code)]

use super::dots::Blocks;
use super::pack::Block;
use super::tile::{Mode, Tile};
use super::unit::PANEL;
use std::arch::x86_64::*;
use std::array::from_fn;

/// Whether f32 tiles run here.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// Whether bf16 tiles run here.
pub(super) fn has_bf16() -> bool {
    is_available() && is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw")
}

/// Transposes 16 × 16 double words.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transpose(r: &mut [__m512i; 16]) {
    let mut t = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for i in 0..4 {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for i in 0..4 {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for i in 0..8 {
        (r[i], r[8 + i]) = (_mm512_shuffle_i32x4(t[i], t[8 + i], 0x88), _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd));
    }
}

/// 16 consecutive numbers of a block: of line `line` (a major where steps are consecutive, else a step), from `from` on.
/// Zeros for what does not exist.
///
/// # Safety
/// `block` must be valid for reads of its majors and steps.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn numbers(block: &Block<f32>, line: usize, from: usize) -> __m512 {
    let (lines, len, stride) = if block.depth_stride == 1 {
        (block.majors, block.steps, block.major_stride)
    } else {
        (block.steps, block.majors, block.depth_stride)
    };
    let mask: __mmask16 = match len.saturating_sub(from) {
        _ if line >= lines => 0,
        n if n >= 16 => 0xFFFF,
        n => (1 << n) - 1,
    };
    // SAFETY: the mask leaves out what does not exist.
    unsafe { _mm512_maskz_loadu_ps(mask, block.ptr.wrapping_add(line * stride + from)) }
}

/// `[steps][16]` f32.
///
/// # Safety
/// `block` must be valid for reads of its majors and steps, `out` for writes of 64 bytes per step, aligned to 64.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pack_f32(block: Block<f32>, out: *mut f32) {
    // SAFETY: by the contract of this function.
    unsafe {
        if block.depth_stride != 1 {
            for k in 0..block.steps {
                _mm512_store_ps(out.add(16 * k), numbers(&block, k, 0));
            }
            return;
        }
        for half in (0..block.steps).step_by(16) {
            let mut r: [__m512i; 16] = from_fn(|i| _mm512_castps_si512(numbers(&block, i, half)));
            transpose(&mut r);
            for (i, r) in r.into_iter().enumerate().take(block.steps - half) {
                _mm512_store_si512(out.add(16 * (half + i)).cast(), r);
            }
        }
    }
}

/// bf16 of `hi` above bf16 of `lo`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
pub(super) fn round(lo: __m512, hi: __m512) -> __m512i {
    // SAFETY: both types are 64 bytes of any value.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(hi, lo)) }
}

/// 16 registers of 32 bf16 for a block: pairs of steps by major where `by_pairs`, else steps by major.
///
/// # Safety
/// `block` must be valid for reads of its majors and steps.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
pub(super) unsafe fn rounded(block: Block<f32>, by_pairs: bool) -> [__m512i; 16] {
    // SAFETY: by the contract of this function.
    unsafe {
        let mut r: [__m512i; 16];
        if block.depth_stride == 1 {
            r = from_fn(|i| round(numbers(&block, i, 0), numbers(&block, i, 16)));
        } else {
            let order = pair_order();
            r = from_fn(|i| {
                let both = round(numbers(&block, 2 * i, 0), numbers(&block, 2 * i + 1, 0));
                _mm512_permutexvar_epi16(order, both)
            });
        }
        if (block.depth_stride == 1) == by_pairs {
            transpose(&mut r);
        }
        r
    }
}

/// Takes two halves of 16 words to 16 pairs.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn pair_order() -> __m512i {
    let order: [u16; 32] = from_fn(|i| (i / 2 + 16 * (i % 2)) as u16);
    // SAFETY: both types are 64 bytes of any value.
    unsafe { std::mem::transmute::<[u16; 32], __m512i>(order) }
}

/// `[pairs of steps][16][2]` bf16.
///
/// # Safety
/// `block` must be valid for reads of its majors and steps, `out` for writes of 64 bytes per pair, aligned to 64.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack_pairs(block: Block<f32>, out: *mut u8) {
    // SAFETY: by the contract of this function.
    unsafe {
        for (i, r) in rounded(block, true).into_iter().enumerate().take(block.steps.div_ceil(2)) {
            _mm512_store_si512(out.add(64 * i).cast(), r);
        }
    }
}

/// Writes sums `[8][P]` to the rows and columns of a tile that exist.
///
/// # Safety
/// The output of the tile must be valid.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn write<const P: usize>(sums: [[__m512; P]; 8], tile: &Tile<f32>) {
    let is_whole = tile.cols == PANEL * P;
    let last = if is_whole { 0xFFFF } else { (1u16 << (tile.cols - PANEL * (P - 1))) - 1 };
    for (i, sums) in sums.iter().enumerate().take(tile.rows) {
        for p in 0..P {
            let mask = if p + 1 == P { last } else { 0xFFFF };
            // SAFETY: row and columns exist, by the bounds of the loop and the mask.
            unsafe {
                let at = i * tile.stride + PANEL * p;
                if tile.mode == Mode::AddWide {
                    add_wide(tile.out.cast::<f64>().add(at), sums[p], mask);
                    continue;
                }
                let at = tile.out.cast::<f32>().add(at);
                let bias = || _mm512_maskz_loadu_ps(mask, tile.bias.wrapping_add(PANEL * p));
                let sum = if tile.bias.is_null() { sums[p] } else { _mm512_add_ps(sums[p], bias()) };
                let old = || if is_whole { _mm512_loadu_ps(at) } else { _mm512_maskz_loadu_ps(mask, at) };
                let new = match tile.mode {
                    Mode::Add => _mm512_add_ps(old(), sum),
                    Mode::AddSquares => _mm512_fmadd_ps(sum, sum, old()),
                    Mode::Replace | Mode::AddWide => sum,
                };
                if is_whole { _mm512_storeu_ps(at, new) } else { _mm512_mask_storeu_ps(at, mask, new) }
            }
        }
    }
}

/// out += sum of the 16 numbers that the mask names.
///
/// # Safety
/// `out` must be valid for those.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn add_wide(out: *mut f64, sum: __m512, mask: __mmask16) {
    let halves = [_mm512_castps512_ps256(sum), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum), 1))];
    for (half, sum) in halves.into_iter().enumerate() {
        let (out, mask) = (out.wrapping_add(8 * half), (mask >> (8 * half)) as __mmask8);
        // SAFETY: by the contract of this function.
        unsafe {
            let new = _mm512_add_pd(_mm512_maskz_loadu_pd(mask, out), _mm512_cvtps_pd(sum));
            _mm512_mask_storeu_pd(out, mask, new);
        }
    }
}

/// # Safety
/// The operands of the tile must hold its granules (at least one), for `P` panels on the right; its output must be valid.
#[target_feature(enable = "avx512f")]
unsafe fn f32_panels<const P: usize>(tile: &Tile<f32>) {
    // SAFETY: by the contract of this function. (Else the sums exist in memory too, zeroed in case there is no step.)
    unsafe { std::hint::assert_unchecked(tile.granules > 0) };
    let mut sums = [[_mm512_setzero_ps(); P]; 8];
    let (a, b) = (tile.left.cast::<f32>(), tile.right.cast::<f32>());
    let between = tile.right_stride / size_of::<f32>();
    // SAFETY: by the contract of this function.
    unsafe {
        for k in 0..tile.granules {
            let right: [__m512; P] = from_fn(|p| _mm512_load_ps(b.add(p * between + k * PANEL)));
            for i in 0..8 {
                let left = _mm512_set1_ps(*a.add(k * PANEL + i));
                for p in 0..P {
                    sums[i][p] = _mm512_fmadd_ps(left, right[p], sums[i][p]);
                }
            }
        }
        write(sums, tile);
    }
}

/// # Safety
/// As [`f32_panels`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_panels<const P: usize>(tile: &Tile<f32>) {
    // SAFETY: by the contract of this function. (Else the sums exist in memory too, zeroed in case there is no step.)
    unsafe { std::hint::assert_unchecked(tile.granules > 0) };
    let mut sums = [[_mm512_setzero_ps(); P]; 8];
    let (a, b) = (tile.left.cast::<i32>(), tile.right.cast::<i32>());
    let between = tile.right_stride / size_of::<i32>();
    let pairs = |x: __m512i| -> __m512bh {
        // SAFETY: both types are 64 bytes of any value.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(x) }
    };
    // SAFETY: by the contract of this function.
    unsafe {
        for k in 0..tile.granules {
            let right: [__m512bh; P] = from_fn(|p| pairs(_mm512_load_si512(b.add(p * between + k * PANEL).cast())));
            for i in 0..8 {
                let left = pairs(_mm512_set1_epi32(*a.add(k * PANEL + i)));
                for p in 0..P {
                    sums[i][p] = _mm512_dpbf16_ps(sums[i][p], left, right[p]);
                }
            }
        }
        write(sums, tile);
    }
}

/// # Safety
/// The operands of the tile must be packed by [`pack_f32`] and hold its granules, at least one; its output must be valid.
pub(super) unsafe fn tile_f32(tile: &Tile<f32>) {
    // SAFETY: by the contract of this function.
    unsafe {
        match tile.cols.div_ceil(PANEL) {
            1 => f32_panels::<1>(tile),
            2 => f32_panels::<2>(tile),
            _ => f32_panels::<3>(tile),
        }
    }
}

/// # Safety
/// The operands of the tile must be packed by [`pack_pairs`] and hold its granules, at least one; its output must be valid.
pub(super) unsafe fn tile_bf16(tile: &Tile<f32>) {
    // SAFETY: by the contract of this function.
    unsafe {
        match tile.cols.div_ceil(PANEL) {
            1 => bf16_panels::<1>(tile),
            2 => bf16_panels::<2>(tile),
            _ => bf16_panels::<3>(tile),
        }
    }
}

/// Sums of `M` × `Q` inner products of blocks.
///
/// # Safety
/// Matrices `m..m + M` and `q..q + Q` must exist; `out` must be valid for their sums.
#[target_feature(enable = "avx512f")]
unsafe fn dots<const M: usize, const Q: usize>(
    (left, m): (&Blocks<'_, f32>, usize),
    (right, q): (&Blocks<'_, f32>, usize),
    out: *mut f32,
    stride: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); Q]; M];
    let tail: __mmask16 = (1u16 << (left.cols % 16)) - 1;
    for i in 0..left.rows {
        let x: [*const f32; M] = from_fn(|a| left.at(m + a, i));
        let y: [*const f32; Q] = from_fn(|b| right.at(q + b, i));
        for j in (0..left.cols).step_by(16) {
            let mask = if j + 16 <= left.cols { 0xFFFF } else { tail };
            // SAFETY: the mask leaves out what lies beyond the row.
            unsafe {
                let y: [__m512; Q] = from_fn(|b| _mm512_maskz_loadu_ps(mask, y[b].wrapping_add(j)));
                for a in 0..M {
                    let x = _mm512_maskz_loadu_ps(mask, x[a].wrapping_add(j));
                    for b in 0..Q {
                        sums[a][b] = _mm512_fmadd_ps(x, y[b], sums[a][b]);
                    }
                }
            }
        }
    }
    for a in 0..M {
        for b in 0..Q {
            // SAFETY: by the contract of this function.
            unsafe { *out.add((m + a) * stride + q + b) += _mm512_reduce_add_ps(sums[a][b]) };
        }
    }
}

/// out_{m, q} += Σ_ij left_{m, ij} right_{q, ij}; rows of out are `stride` apart.
///
/// # Safety
/// AVX-512 must be available, and `out` valid for `[left.count, right.count]`.
pub(super) unsafe fn add_dots(left: &Blocks<'_, f32>, right: &Blocks<'_, f32>, out: *mut f32, stride: usize) {
    const M: usize = 4;
    const Q: usize = 5;
    for q in (0..right.count).step_by(Q) {
        let rights = Q.min(right.count - q);
        for m in (0..left.count).step_by(M) {
            let lefts = M.min(left.count - m);
            // SAFETY: by the contract of this function and the bounds of the loops.
            unsafe {
                if lefts == M && rights == Q {
                    dots::<M, Q>((left, m), (right, q), out, stride);
                    continue;
                }
                for m in m..m + lefts {
                    match rights {
                        5 => dots::<1, 5>((left, m), (right, q), out, stride),
                        4 => dots::<1, 4>((left, m), (right, q), out, stride),
                        rights => (q..q + rights).for_each(|q| dots::<1, 1>((left, m), (right, q), out, stride)),
                    }
                }
            }
        }
    }
}
