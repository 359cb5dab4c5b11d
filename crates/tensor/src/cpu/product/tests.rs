//! Every unit against the plain loop, on random shapes. AMX is emulated where the machine has none.

use super::drive::{self, Left, Part};
use super::pack::Source;
use super::panels::Panels;
use super::tile::Mode;
use super::unit::{Side, Unit};
use super::{Threads, View, ViewMut, block_of_run};
use crate::{Precision, Segment};
use proptest::prelude::*;

/// The units that can run here, with the largest relative error of a product in the Frobenius norm.
fn units() -> Vec<(Unit, f64)> {
    let mut units = vec![(Unit::Portable, 1e-6)];
    #[cfg(target_arch = "x86_64")]
    {
        if super::avx512::is_available() {
            units.push((Unit::Avx512, 1e-6));
        }
        if super::avx512::has_bf16() {
            units.push((Unit::Avx512Bf16, 1e-2));
            #[cfg(target_os = "linux")]
            if !super::amx::is_available() {
                super::amx_emulation::install();
            }
            if super::amx::is_available() || cfg!(target_os = "linux") {
                units.extend([(Unit::AmxBf16, 1e-2), (Unit::AmxBf16x3, 2e-5)]);
            }
        }
    }
    units
}

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next() * next()).collect()
}

/// `[rows, cols]` as a view, stored row major or as the transpose of a row-major matrix.
fn stored(data: &[f32], rows: usize, cols: usize, transposed: bool) -> View<'_, f32> {
    if transposed { View::new(data, cols, rows, rows).t() } else { View::new(data, rows, cols, cols) }
}

fn element(view: &View<'_, f32>, i: usize, j: usize) -> f64 {
    f64::from(view.data[i * view.row_stride + j * view.col_stride])
}

fn plain(a: &View<'_, f32>, b: &View<'_, f32>, steps: std::ops::Range<usize>) -> Vec<f64> {
    let dot = |i, j| steps.clone().map(|k| element(a, i, k) * element(b, k, j)).sum();
    (0..a.rows).flat_map(|i| (0..b.cols).map(move |j| (i, j))).map(|(i, j)| dot(i, j)).collect()
}

fn error(got: &[f32], wanted: &[f64]) -> f64 {
    let square = |x: f64| x * x;
    let off: f64 = got.iter().zip(wanted).map(|(&g, &w)| square(f64::from(g) - w)).sum();
    (off / wanted.iter().map(|&w| square(w)).sum::<f64>().max(f64::MIN_POSITIVE)).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_unit_agrees_with_the_plain_loop(
        (m, n, k) in (1usize..70, 1usize..120, 0usize..200),
        (ta, tb, pool) in any::<(bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let (a, b) = (numbers(seed, m * k), numbers(!seed, k * n));
        let (a, b) = (stored(&a, m, k, ta), stored(&b, k, n, tb));
        let wanted = plain(&a, &b, 0..k);
        let threads = if pool { Threads::Pool } else { Threads::One };
        for (unit, limit) in units() {
            let whole = [Segment { start: 0, len: k }];
            let right = Panels::pack_for(unit, Source::new(b, Side::Right, 1.0, false), threads, Side::Right, &whole);
            let left = Left::Source(Source::new(a, Side::Left, 1.0, false));
            let mut out = vec![7.0; m * n];
            for (mode, times) in [(Mode::Replace, 1.0), (Mode::Add, 2.0)] {
                // SAFETY: the output has the shape of the product.
                unsafe { drive::multiply(threads, &left, &right, mode, None, Part::Whole, (&ViewMut::new(&mut out, m, n, n)).into()) };
                let wanted: Vec<f64> = wanted.iter().map(|w| times * w).collect();
                let off = error(&out, &wanted);
                prop_assert!(off < limit, "{unit:?} {mode:?} {m}x{k}x{n}: {off:e}");
            }
        }
    }

    #[test]
    fn every_unit_sums_squares_of_products_run_by_run(
        (m, n) in (1usize..70, 1usize..70),
        lens in prop::collection::vec(1usize..50, 1..5),
        seed in any::<u64>(),
    ) {
        let k: usize = lens.iter().sum();
        let (a, b) = (numbers(seed, m * k), numbers(!seed, k * n));
        let (a, b) = (stored(&a, m, k, true), stored(&b, k, n, false));
        let segments: Vec<Segment> = lens
            .iter()
            .scan(0, |at, &len| {
                *at += len;
                Some(Segment { start: *at - len, len })
            })
            .collect();
        let mut wanted = vec![0.0; m * n];
        for segment in &segments {
            wanted.iter_mut().zip(plain(&a, &b, segment.range())).for_each(|(w, x)| *w += x * x);
        }
        for (unit, limit) in units() {
            let pack = |view, side| Panels::pack_for(unit, Source::new(view, side, 1.0, false), Threads::One, side, &segments);
            let (left, right) = (pack(a, Side::Left), pack(b, Side::Right));
            let mut out = vec![0.0; m * n];
            for run in 0..segments.len() {
                let out = ViewMut::new(&mut out, m, n, n);
                block_of_run(&left, &right, run, 0..m, 0..n, Mode::AddSquares, &out);
            }
            let off = error(&out, &wanted);
            prop_assert!(off < 2.0 * limit, "{unit:?} {m}x{lens:?}x{n}: {off:e}");
        }
    }
}

#[test]
fn operands_rounded_for_a_machine_without_bf16_give_what_bf16_units_give() {
    let (m, n, k) = (33, 50, 70);
    let (a, b) = (numbers(1, m * k), numbers(2, k * n));
    let round = |x: &[f32]| -> Vec<f32> {
        x.iter().map(|x| f32::from_bits((x.to_bits() + 0x7FFF + (x.to_bits() >> 16 & 1)) & 0xFFFF_0000)).collect()
    };
    let (ra, rb) = (round(&a), round(&b));
    let wanted = plain(&stored(&ra, m, k, false), &stored(&rb, k, n, false), 0..k);
    for (unit, _) in units() {
        let rounds = unit.rounds(Precision::Bf16);
        if unit == Unit::AmxBf16x3 {
            continue;
        }
        let (a, b) = (stored(&a, m, k, false), stored(&b, k, n, false));
        let whole = [Segment { start: 0, len: k }];
        let source = Source::new(b, Side::Right, 1.0, rounds);
        let right = Panels::pack_for(unit, source, Threads::One, Side::Right, &whole);
        let left = Left::Source(Source::new(a, Side::Left, 1.0, rounds));
        let mut out = vec![0.0; m * n];
        let view = ViewMut::new(&mut out, m, n, n);
        // SAFETY: the output has the shape of the product.
        unsafe { drive::multiply(Threads::One, &left, &right, Mode::Replace, None, Part::Whole, (&view).into()) };
        let off = error(&out, &wanted);
        assert!(off < 1e-6, "{unit:?}: {off:e}");
    }
}

#[test]
fn nothing_above_the_tiles_of_the_diagonal_is_touched_by_a_triangle() {
    let (rows, d) = (40, 230);
    let x = numbers(3, rows * d);
    let view = stored(&x, rows, d, false);
    let wanted = plain(&view.t(), &view, 0..rows);
    for (unit, limit) in units() {
        let whole = [Segment { start: 0, len: rows }];
        let right =
            Panels::pack_for(unit, Source::new(view, Side::Right, 1.0, false), Threads::Pool, Side::Right, &whole);
        let left = Left::Source(Source::new(view.t(), Side::Left, 1.0, false));
        let mut out = vec![0.0f64; d * d];
        // SAFETY: the output has the shape of the product, in f64.
        unsafe {
            let out = ViewMut::new(&mut out, d, d, d);
            drive::multiply(Threads::Pool, &left, &right, Mode::AddWide, None, Part::LowerTriangle, (&out).into());
        }
        let lower = |i: &usize| i % d <= i / d;
        let (got, want): (Vec<f32>, Vec<f64>) = (0..d * d).filter(lower).map(|i| (out[i] as f32, wanted[i])).unzip();
        assert!(error(&got, &want) < limit, "{unit:?}");
        let above = (0..d).map(|i| out[i * d + d - 1]).take(d - 64).all(|x| x == 0.0);
        assert!(above, "{unit:?} computed what is not wanted");
    }
}
